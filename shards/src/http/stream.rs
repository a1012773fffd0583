//! The head of a streamed response, while its handler still shapes it over the `response` channel (HTTP-56).

use super::headers::HeaderList;
use super::json::Raw;
use super::response::ResponseHead;

/// Status and headers set so far. The first binary frame, or the end of the channel, commits them.
#[derive(Debug, Clone)]
pub struct StreamHead {
    status: u16,
    headers: HeaderList,
}

impl Default for StreamHead {
    fn default() -> StreamHead {
        StreamHead { status: 200, headers: HeaderList::default() }
    }
}

impl StreamHead {
    /// Takes a text frame that came before the first binary one. What is no command is ignored.
    pub fn handle_text(&mut self, frame: &[u8]) {
        let (mut command, mut status, mut headers) = (None, None, None);
        let parsed = Raw::parse_members(frame, |name, value| match name.string().as_deref() {
            Some("type") => command = value.string(),
            Some("status_code") => status = value.integer(),
            Some("headers") => headers = Some(value),
            _ => {}
        });
        match (parsed, command.as_deref()) {
            (Some(true), Some("set_status")) => {
                if let Some(status @ 100..=599) = status {
                    self.status = status as u16;
                }
            }
            (Some(true), Some("set_headers")) => {
                if let Some(headers) = headers {
                    headers.each_member(|name, value| {
                        if let (Some(name), Some(value)) = (name.string(), value.string()) {
                            self.headers.set(&name, value.as_bytes());
                        }
                    });
                }
            }
            _ => {}
        }
    }

    /// The head to send. An interim status cannot end a response, so it becomes a 500 as it does in an envelope.
    pub fn into_head(self) -> ResponseHead {
        let status = if self.status < 200 { 500 } else { self.status };
        ResponseHead { status, headers: self.headers, defaults_to_json: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        // HTTP-56; cases 42, 43
        let mut stream = StreamHead::default();
        for frame in [
            r#"{"type":"set_status","status_code":201}"#,
            r#"{"type":"set_status","status_code":600}"#,
            r#"{"type":"set_status","status_code":99}"#,
            r#"{"type":"set_status","status_code":"404"}"#,
            r#"{"type":"set_status"}"#,
            r#"{"type":"set_headers","headers":{"X-A":"1","X-N":5,"Content-Length":"9"}}"#,
            r#"{"type":"set_headers","headers":{"x-a":"2","bad name":"x","x-b":"a\r\nb: c"}}"#,
            r#"{"type":"set_headers","headers":["x-c: 1"]}"#,
            r#"{"type":"other","status_code":500}"#,
            r#"{"type":"set_status","status_code":500"#,
            "[]",
            "hello",
        ] {
            stream.handle_text(frame.as_bytes());
        }
        let head = stream.into_head();
        assert_eq!(head.status, 201);
        assert_eq!(head.headers.fields().collect::<Vec<_>>(), [(&b"x-a"[..], &b"2"[..])]);
        assert_eq!(head.headers.refused(), 2);

        let mut interim = StreamHead::default();
        interim.handle_text(br#"{"type":"set_status","status_code":101}"#);
        assert_eq!(interim.into_head().status, 500);
    }
}
