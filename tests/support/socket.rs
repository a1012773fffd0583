//! Bytes on a TCP connection: for requests and frames that no well-behaved client sends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::{Ending, PATIENCE};

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// A connection before, during or after the upgrade. What was read but not used waits in `buffer`.
#[derive(Debug)]
pub struct RawSocket {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

/// One WebSocket frame, as on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// An HTTP answer, header names in lower case.
#[derive(Debug)]
pub struct HttpAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl HttpAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The request line and headers of a correct upgrade; tests take it apart.
pub fn upgrade_request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

impl RawSocket {
    pub fn tcp(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the engine accepts connections");
        stream.set_nodelay(true).expect("a connected socket takes options");
        stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        Self { stream, buffer: Vec::new() }
    }

    /// Connects and upgrades `path`; the greeting, if any, is still to be read.
    pub fn open(port: u16, path: &str) -> Self {
        let mut socket = Self::tcp(port);
        socket.write(upgrade_request(path).as_bytes());
        let answer = socket.read_http();
        assert_eq!(answer.status, 101, "upgrade of {path}: {answer:?}");
        socket
    }

    /// Connects as a worker and takes the greeting.
    pub fn worker(port: u16) -> Self {
        let mut socket = Self::open(port, "/");
        let greeting = socket.read_frame().expect("PROTO-40: the greeting");
        assert_eq!(greeting.opcode, TEXT);
        socket
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the connection is open");
    }

    /// Writes although the engine may already have closed; returns whether all of it went out.
    pub fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// One correct frame, masked as clients must.
    pub fn write_frame(&mut self, opcode: u8, payload: &[u8]) {
        self.write(&frame_bytes(true, opcode, payload));
    }

    pub fn write_text(&mut self, text: &str) {
        self.write_frame(TEXT, text.as_bytes());
    }

    /// Ends our half of the connection.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    pub fn read_http(&mut self) -> HttpAnswer {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            assert!(self.fill(), "connection ended inside an HTTP head: {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).expect("HTTP heads are text");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = HttpAnswer { status, headers, body: String::new() };
        let length: usize = answer.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        while self.buffer.len() < length {
            assert!(self.fill(), "connection ended inside an HTTP body");
        }
        answer.body = String::from_utf8(self.buffer.drain(..length).collect()).expect("error bodies are text");
        answer
    }

    /// The next frame, or `None` when the engine ended TCP.
    pub fn read_frame(&mut self) -> Option<Frame> {
        self.fill_to(2)?;
        let (first, second) = (self.buffer[0], self.buffer[1]);
        assert_eq!(first & 0x70, 0, "PROTO-4: no extension, so no reserved bit");
        assert_eq!(second & 0x80, 0, "RFC 6455: a server does not mask");
        let (head, length) = match second & 0x7F {
            126 => {
                self.fill_to(4)?;
                (4, usize::from(u16::from_be_bytes([self.buffer[2], self.buffer[3]])))
            }
            127 => {
                self.fill_to(10)?;
                let bytes: [u8; 8] = self.buffer[2..10].try_into().expect("eight bytes");
                (10, usize::try_from(u64::from_be_bytes(bytes)).expect("fits"))
            }
            short => (2, usize::from(short)),
        };
        self.fill_to(head + length)?;
        let payload = self.buffer.drain(..head + length).skip(head).collect();
        Some(Frame { fin: first & 0x80 != 0, opcode: first & 0x0F, payload })
    }

    /// Reads on until the engine ends the connection, and says how.
    pub fn ending(&mut self) -> Ending {
        let mut ending = Ending::Dropped;
        while let Some(frame) = self.read_frame() {
            if frame.opcode == CLOSE {
                let code = frame.payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                ending = Ending::Close(code);
            }
        }
        ending
    }

    /// Whether the engine still holds the connection after `wait` without sending anything.
    pub fn is_open_and_silent(&mut self, wait: Duration) -> bool {
        self.stream.set_read_timeout(Some(wait)).expect("the timeout is not zero");
        let mut byte = [0];
        let open = matches!(self.stream.peek(&mut byte), Err(error) if would_block(error.kind()));
        self.stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        open
    }

    /// A second handle for a reading thread; it takes along what is already read.
    pub fn split(&mut self) -> Self {
        let stream = self.stream.try_clone().expect("a descriptor can be copied");
        Self { stream, buffer: std::mem::take(&mut self.buffer) }
    }

    /// Like `read_frame`, without a deadline: for a thread that only reads.
    pub fn read_frame_patiently(&mut self) -> Option<Frame> {
        self.stream.set_read_timeout(None).ok()?;
        self.read_frame()
    }

    fn fill_to(&mut self, length: usize) -> Option<()> {
        while self.buffer.len() < length {
            if !self.fill() {
                return None;
            }
        }
        Some(())
    }

    /// Reads some bytes; `false` when the connection ended.
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 64 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                true
            }
            Err(error) if would_block(error.kind()) => panic!("nothing from the engine within {PATIENCE:?}"),
            Err(_) => false,
        }
    }
}

fn would_block(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A masked frame. The mask is fixed: what it hides does not matter here.
pub fn frame_bytes(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut bytes = frame_head(u8::from(fin) << 7 | opcode, payload.len() as u64, true);
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The first bytes of a frame with any declared length, up to where the mask would be.
pub fn frame_head(first: u8, length: u64, masked: bool) -> Vec<u8> {
    let mask_bit = u8::from(masked) << 7;
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(mask_bit | length as u8),
        126..=0xFFFF => {
            bytes.push(mask_bit | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
