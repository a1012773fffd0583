//! What a worker says of itself: the payload of `engine::workers::register` (ENG-31).

use crate::wire::json;
use serde::Deserialize;

/// Text members of an announcement are cut here (ENG-32).
const TEXT_CHARS_MAX: usize = 280;

/// A worker's description of itself. Unknown members are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Announcement {
    /// `node`, `python`, ...
    pub runtime: Option<String>,
    /// Version of its SDK.
    pub version: Option<String>,
    /// Name, by default `<hostname>:<pid>`.
    pub name: Option<String>,
    /// Text for people.
    pub description: Option<String>,
    /// Operating system.
    pub os: Option<String>,
    /// Process id.
    pub pid: Option<u32>,
    /// Sandbox it runs in.
    pub isolation: Option<String>,
    /// Namespace it wants to live in.
    pub namespace: Option<String>,
    /// Protocol features it can do.
    pub features: Option<Vec<String>>,
}

impl Announcement {
    /// Reads and cleans an announcement. `null` counts as `{}` (ENG-4).
    pub fn parse(data: &[u8]) -> Result<Announcement, String> {
        if data == b"null" {
            return Ok(Announcement::default());
        }
        let mut announcement: Announcement = json::decode(data)?;
        for text in [&mut announcement.name, &mut announcement.description] {
            *text = text.take().and_then(|text| clean(&text));
        }
        Ok(announcement)
    }

    /// Whether the worker said it can do this.
    pub fn has_feature(&self, feature: &str) -> bool {
        self.features.iter().flatten().any(|known| known == feature)
    }

    /// Whether the worker stops when told that its name is taken; older ones would reconnect for ever (PROTO-45).
    pub fn honours_rejection(&self) -> bool {
        let mut parts = self.version.as_deref().unwrap_or("").split('.').map(str::parse::<u32>);
        let recent = match (parts.next(), parts.next()) {
            (Some(Ok(0)), Some(Ok(minor))) => minor >= 23,
            (Some(Ok(_)), Some(Ok(_))) => true,
            _ => false,
        };
        recent || self.features.is_some()
    }

    /// Error text for a namespace that is only white space (ENG-34).
    pub fn blank_namespace_message(&self) -> String {
        format!(
            "namespace is empty: worker '{}' declared \"{}\". Give it a name, or omit the field to register in 'default'.",
            self.name.as_deref().unwrap_or(""),
            self.namespace.as_deref().unwrap_or("")
        )
    }

    /// Keeps what an earlier announcement said where this one says nothing (ENG-31).
    pub fn keep_from(&mut self, earlier: Announcement) {
        self.name = self.name.take().or(earlier.name);
        self.description = self.description.take().or(earlier.description);
        self.os = self.os.take().or(earlier.os);
        self.pid = self.pid.or(earlier.pid);
        self.isolation = self.isolation.take().or(earlier.isolation);
    }
}

/// Removes what could deceive a reader of a terminal or a table (ENG-32). `None` if nothing is left.
fn clean(text: &str) -> Option<String> {
    let deceiving = |c: char| {
        c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    let kept: String = text.chars().filter(|c| !deceiving(*c)).take(TEXT_CHARS_MAX).collect();
    let trimmed = kept.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // ENG-32
    #[test]
    fn texts_are_cleaned() {
        assert_eq!(clean("does\u{7} things").as_deref(), Some("does things"));
        assert_eq!(clean(" \u{202E} "), None);
        assert_eq!(clean(&"x".repeat(300)).map(|text| text.len()), Some(280));
    }

    // ENG-4, ENG-31
    #[test]
    fn reads_what_sdks_send() {
        let data = br#"{"runtime":"python","version":"0.25.0","name":"w","pid":7,"isolation":null,"namespace":null,
            "telemetry":{"language":"en"},"features":["large-messages.v1"],"_caller_worker_id":"x"}"#;
        let announcement = Announcement::parse(data).unwrap();
        assert_eq!(announcement.pid, Some(7));
        assert!(announcement.has_feature("large-messages.v1"));
        assert_eq!(Announcement::parse(b"null"), Ok(Announcement::default()));
        assert!(Announcement::parse(b"\"x\"").is_err());
        assert!(Announcement::parse(br#"{"pid":"x"}"#).is_err());
    }

    // PROTO-45
    #[test]
    fn who_honours_a_rejection() {
        let of = |version: &str| Announcement { version: Some(version.into()), ..Default::default() };
        assert!(!of("0.11.6").honours_rejection());
        assert!(!of("0.22.1").honours_rejection());
        assert!(of("0.23.0-rc.4").honours_rejection());
        assert!(of("1.0.0").honours_rejection());
    }
}
