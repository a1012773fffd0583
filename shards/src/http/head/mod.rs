//! Request heads: from bytes to method, target, headers and framing, or to a refusal.
//!
//! httparse reads the grammar; this module adds what it leaves open. Lines end in CR LF and nothing else, a body has
//! one framing or none, names touch their colon, the target is a path or an absolute URL. A head that two parsers
//! could read in two ways is refused, and every refusal closes the connection: behind doubtful bytes there is no
//! next request (smuggling table: `tests/http_smuggling.rs`).
//!
//! Scanning is incremental: bytes seen once are not looked at again until the head is complete, so a peer that sends
//! byte by byte costs no more than one that sends at once. All verdicts depend on the bytes alone, not on how they
//! were split over reads.

mod rules;

use std::mem::MaybeUninit;
use std::ops::Range;

use memchr::memchr;
pub(super) use rules::is_token_byte;
use rules::{Fields, Target};

use super::limits::{HEAD_BYTES_MAX, REQUEST_HEADERS_MAX, REQUEST_LINE_BYTES_MAX, URI_BYTES_MAX};
use super::method::Method;

/// Outcome of looking at the front of the input.
#[derive(Debug)]
pub enum Parse {
    /// More bytes are needed.
    Partial,
    /// A whole head, which takes the first `length` bytes.
    Complete {
        /// Where everything is.
        index: HeadIndex,
        /// Bytes of the head with its empty line.
        length: usize,
    },
    /// The bytes are refused; the connection is to be closed.
    Reject(Reject),
}

/// Why a request is refused before it reaches a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// Not a request, or one that is open to interpretation. The text says which rule was broken.
    Malformed(&'static str),
    /// The target is longer than [`URI_BYTES_MAX`].
    UriTooLong,
    /// The head is longer than [`HEAD_BYTES_MAX`] or has more than [`REQUEST_HEADERS_MAX`] fields.
    HeadTooLarge,
    /// An HTTP/2 connection preface. Its sender understands no HTTP/1.1 answer, so it gets none (HTTP-10).
    Http2,
    /// The head or the body came too slowly.
    TooSlow,
}

impl Reject {
    /// The status to answer with before closing, if any (HTTP-51).
    pub fn status(self) -> Option<u16> {
        match self {
            Reject::Malformed(_) => Some(400),
            Reject::UriTooLong => Some(414),
            Reject::HeadTooLarge => Some(431),
            Reject::Http2 => None,
            Reject::TooSlow => Some(408),
        }
    }
}

/// The protocol version of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunks, closes unless asked to stay.
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the end of a request body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// This many bytes, more than zero.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// How far the search for the end of a head has come. Belongs to one head; start the next with a fresh one.
#[derive(Debug, Default)]
pub struct Progress {
    scanned: usize,
    line_start: usize,
    lines: usize,
    /// Bytes of an empty line before the request line, which is tolerated once.
    skipped: usize,
}

type Span = Range<u32>;

/// Positions within the bytes of a head.
#[derive(Debug, Clone)]
pub struct HeadIndex {
    method_name: Span,
    method: Option<Method>,
    path: Span,
    query: Option<Span>,
    headers: Vec<(Span, Span)>,
    version: Version,
    body: BodyLength,
    keep_alive: bool,
    expects_continue: bool,
}

/// A request head: its bytes and where everything is.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'b> {
    bytes: &'b [u8],
    index: &'b HeadIndex,
}

/// A request head that owns its bytes, for requests that outlive the turn.
#[derive(Debug, Clone)]
pub struct Request {
    bytes: Box<[u8]>,
    index: HeadIndex,
}

/// Looks for a complete request head at the front of `input`. Call again with the same bytes and more.
pub fn parse(input: &[u8], progress: &mut Progress) -> Parse {
    match find_end(input, progress) {
        Ok(None) => Parse::Partial,
        Ok(Some(length)) => match index(&input[..length], progress.skipped) {
            Ok(index) => Parse::Complete { index, length },
            Err(reject) => Parse::Reject(reject),
        },
        Err(reject) => Parse::Reject(reject),
    }
}

/// Finds the empty line that ends a head, line by line; refuses bare line feeds and excess length on the way.
fn find_end(input: &[u8], progress: &mut Progress) -> Result<Option<usize>, Reject> {
    loop {
        // A TLS hello or other noise has no line end to wait for.
        if let Some(&first) = input.get(progress.skipped)
            && !is_token_byte(first)
            && first != b'\r'
        {
            return Err(Reject::Malformed("method"));
        }
        let newline = memchr(b'\n', &input[progress.scanned..]).map(|offset| progress.scanned + offset);
        // The bound holds for the position of the line end, known or not, so that the verdict is the same either way.
        let reached = newline.unwrap_or(input.len());
        if progress.lines == 0 && reached - progress.skipped >= REQUEST_LINE_BYTES_MAX {
            return Err(Reject::UriTooLong);
        }
        if reached >= HEAD_BYTES_MAX {
            return Err(Reject::HeadTooLarge);
        }
        let Some(newline) = newline else {
            progress.scanned = input.len();
            return Ok(None);
        };
        if newline == progress.line_start || input[newline - 1] != b'\r' {
            return Err(Reject::Malformed("bare line feed"));
        }
        let is_empty = newline - 1 == progress.line_start;
        progress.scanned = newline + 1;
        progress.line_start = newline + 1;
        match (is_empty, progress.lines) {
            (true, 0) if progress.skipped == 0 => progress.skipped = newline + 1,
            (true, 0) => return Err(Reject::Malformed("empty request line")),
            (true, _) => return Ok(Some(newline + 1)),
            (false, _) => progress.lines += 1,
        }
    }
}

/// Parses a complete head that starts at `start`.
fn index(head: &[u8], start: usize) -> Result<HeadIndex, Reject> {
    let mut headers = [const { MaybeUninit::uninit() }; REQUEST_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(&head[start..], &mut headers) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Reject::Malformed("head")),
        Err(httparse::Error::TooManyHeaders) => return Err(Reject::HeadTooLarge),
        Err(httparse::Error::Version) if head[start..].starts_with(b"PRI * HTTP/2.0\r\n") => return Err(Reject::Http2),
        Err(error) => return Err(Reject::Malformed(grammar_rule(error))),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Reject::Malformed("request line"));
    };
    if target.len() > URI_BYTES_MAX {
        return Err(Reject::UriTooLong);
    }
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let fields = Fields::read(request.headers, version)?;
    let target = Target::parse(method, target, fields.host)?;

    let span = |part: &[u8]| {
        let from = (part.as_ptr() as usize - head.as_ptr() as usize) as u32;
        from..from + part.len() as u32
    };
    Ok(HeadIndex {
        method_name: span(method.as_bytes()),
        method: Method::from_wire(method),
        path: target.path.map_or(0..0, |path| span(path.as_bytes())),
        query: target.query.map(|query| span(query.as_bytes())),
        headers: request.headers.iter().map(|field| (span(field.name.as_bytes()), span(field.value))).collect(),
        version,
        body: fields.body,
        keep_alive: fields.keep_alive,
        expects_continue: fields.expects_continue && fields.body != BodyLength::None,
    })
}

fn grammar_rule(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "header name",
        httparse::Error::HeaderValue => "header value",
        httparse::Error::NewLine => "line end",
        httparse::Error::Version => "version",
        _ => "request line",
    }
}

// === impl RequestHead ===

impl<'b> RequestHead<'b> {
    /// Joins a head's bytes with the positions found in them.
    pub fn new(bytes: &'b [u8], index: &'b HeadIndex) -> RequestHead<'b> {
        RequestHead { bytes, index }
    }

    /// Copies the head, so that it can outlive the input buffer.
    pub fn to_request(self) -> Request {
        Request { bytes: self.bytes.into(), index: self.index.clone() }
    }

    fn part(self, span: &Span) -> &'b [u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    /// The method as sent.
    pub fn method_name(self) -> &'b str {
        std::str::from_utf8(self.part(&self.index.method_name)).expect("a method is ASCII")
    }

    /// The method, if it is one that routes can have.
    pub fn method(self) -> Option<Method> {
        self.index.method
    }

    /// The path as sent: still percent-encoded, without the query. `*` for `OPTIONS *`.
    pub fn path(self) -> &'b [u8] {
        if self.index.path.is_empty() { b"/" } else { self.part(&self.index.path) }
    }

    /// The query as sent, without its `?`; `None` if there is no `?`.
    pub fn query(self) -> Option<&'b [u8]> {
        self.index.query.as_ref().map(|span| self.part(span))
    }

    /// The protocol version.
    pub fn version(self) -> Version {
        self.index.version
    }

    /// How the body ends.
    pub fn body(self) -> BodyLength {
        self.index.body
    }

    /// Whether the client wants the connection to stay open.
    pub fn keep_alive(self) -> bool {
        self.index.keep_alive
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    pub fn expects_continue(self) -> bool {
        self.index.expects_continue
    }

    /// Number of header fields.
    pub fn header_count(self) -> usize {
        self.index.headers.len()
    }

    /// The header fields in order: name as sent, value without surrounding white space.
    pub fn headers(self) -> impl DoubleEndedIterator<Item = (&'b [u8], &'b [u8])> + Clone {
        self.index.headers.iter().map(move |(name, value)| (self.part(name), self.part(value)))
    }

    /// The value of the last field named `name` (lower case).
    pub fn header(self, name: &str) -> Option<&'b [u8]> {
        self.headers().rev().find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }
}

impl Request {
    /// Copies the bytes of a head.
    pub fn new(bytes: &[u8], index: HeadIndex) -> Request {
        Request { bytes: bytes.into(), index }
    }

    /// The head, borrowed.
    pub fn head(&self) -> RequestHead<'_> {
        RequestHead { bytes: &self.bytes, index: &self.index }
    }
}

#[cfg(test)]
mod tests;
