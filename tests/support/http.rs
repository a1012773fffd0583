//! An HTTP/1.1 client that sends any bytes and reads responses as they are framed.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::{Engine, PATIENCE};

/// One connection to the HTTP listener.
#[derive(Debug)]
pub struct HttpClient {
    reader: BufReader<TcpStream>,
}

/// A response as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    pub status: u16,
    /// Names as sent.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Sizes of the chunks, if it came in chunks.
    pub chunks: Vec<usize>,
}

impl HttpClient {
    pub fn connect(engine: &Engine) -> Self {
        let port = engine.http_port().expect("the engine serves HTTP");
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the engine accepts connections");
        stream.set_nodelay(true).expect("a connected socket takes options");
        stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        Self { reader: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.reader.get_mut().write_all(bytes.as_ref()).expect("the connection is open");
        self
    }

    /// Sends what the engine may no longer want to read.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.reader.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    pub fn get(&mut self, target: &str) -> HttpResponse {
        self.send(format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n")).response()
    }

    pub fn post(&mut self, target: &str, content_type: &str, body: &[u8]) -> HttpResponse {
        let length = body.len();
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: h\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
        );
        self.send(head).send(body).response()
    }

    /// Reads one response with a body.
    pub fn response(&mut self) -> HttpResponse {
        self.try_response(true).expect("the engine closed the connection instead of answering")
    }

    /// Reads one response to a `HEAD` request.
    pub fn head_response(&mut self) -> HttpResponse {
        self.try_response(false).expect("the engine closed the connection instead of answering")
    }

    /// The same; `None` if the connection ends before or within it.
    pub fn try_response(&mut self, with_body: bool) -> Option<HttpResponse> {
        let mut response = self.response_head()?;
        let has_body = with_body && !matches!(response.status, 204 | 304);
        if has_body && response.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk()? {
                response.chunks.push(chunk.len());
                response.body.extend_from_slice(&chunk);
            }
        } else if has_body {
            let length = response.header("content-length").map_or(0, |length| length.parse().expect("a number"));
            response.body.resize(length, 0);
            self.reader.read_exact(&mut response.body).ok()?;
        }
        Some(response)
    }

    /// Reads a head alone.
    pub fn response_head(&mut self) -> Option<HttpResponse> {
        let line = self.line()?;
        let status = line.strip_prefix("HTTP/1.").unwrap_or_else(|| panic!("no status line: {line:?}"));
        let status = status[2..5].parse().expect("a status is a number");
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(HttpResponse { status, headers, body: Vec::new(), chunks: Vec::new() });
            }
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}"));
            headers.push((name.to_owned(), value.to_owned()));
        }
    }

    /// The next chunk; inner `None` = the last one; outer `None` = the connection ended.
    pub fn chunk(&mut self) -> Option<Option<Vec<u8>>> {
        let size = self.line()?;
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("no chunk size: {size:?}"));
        let mut chunk = vec![0; size];
        self.reader.read_exact(&mut chunk).ok()?;
        assert_eq!(self.line()?, "", "a chunk ends with a line end");
        Some((size > 0).then_some(chunk))
    }

    /// Whether the engine closes the connection without sending anything more.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == ErrorKind::ConnectionReset && rest.is_empty(),
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        if self.reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        assert!(line.ends_with(b"\r\n"), "lines end in CR LF: {line:?}");
        line.truncate(line.len() - 2);
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}

impl HttpResponse {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    /// `code` of an error body.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}
