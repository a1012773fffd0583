//! The effective configuration as JSON, secrets masked.

use serde::Serialize;
use serde_json::Value;

use super::workers::Shown;
use super::{Config, Top, Worker};

/// What stands for a secret.
const MASK: &str = "***";

/// Parts of key names whose values are secrets.
const SECRET_WORDS: [&str; 8] =
    ["password", "passwd", "secret", "token", "api_key", "apikey", "credential", "authorization"];

#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    top: &'a Top,
    workers: Vec<Shown<'a>>,
}

/// The configuration as pretty JSON.
pub fn show(config: &Config, show_secrets: bool) -> String {
    let view = View { top: &config.top, workers: config.workers.iter().map(Worker::shown).collect() };
    let mut value = serde_json::to_value(view).expect("settings are plain values with text keys");
    if !show_secrets {
        mask(&mut value);
    }
    serde_json::to_string_pretty(&value).expect("a JSON value can be written as JSON")
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let key = key.to_ascii_lowercase();
                let secret = SECRET_WORDS.iter().any(|word| key.contains(word));
                match value {
                    Value::String(text) if secret && !text.is_empty() => MASK.clone_into(text),
                    _ => mask(value),
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(mask),
        Value::String(text) => mask_url_password(text),
        _ => {}
    }
}

/// `redis://user:secret@host` → `redis://user:***@host`.
fn mask_url_password(text: &mut String) {
    let Some(start) = text.find("://").map(|at| at + 3) else { return };
    let authority_end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
    let Some(at) = text[start..authority_end].rfind('@').map(|at| start + at) else { return };
    if let Some(colon) = text[start..at].find(':').map(|colon| start + colon) {
        text.replace_range(colon + 1..at, MASK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cli_61_secrets_are_masked() {
        let mut value = json!({
            "redis_url": "redis://u:pw@h:6379/0", "plain": "redis://h:6379", "at": "http://h/a:b@c",
            "sdk_api_key": "k", "nested": [{"Password": "p", "port": 1}],
        });
        mask(&mut value);
        assert_eq!(
            value,
            json!({
                "redis_url": "redis://u:***@h:6379/0", "plain": "redis://h:6379", "at": "http://h/a:b@c",
                "sdk_api_key": "***", "nested": [{"Password": "***", "port": 1}],
            })
        );
    }
}
