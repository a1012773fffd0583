//! Every bound of the HTTP modules, and the asserts that relate them.

/// Header fields of one request; one more is answered 431 (HTTP-51, HTTP-69).
pub const REQUEST_HEADERS_MAX: usize = 100;

/// Bytes of a request target; one more is answered 414 (HTTP-51, HTTP-69).
pub const URI_BYTES_MAX: usize = 65_534;

/// Bytes of a request line. Beyond the longest target: a method, two spaces, the version and the line end.
pub const REQUEST_LINE_BYTES_MAX: usize = URI_BYTES_MAX + 64;

/// Bytes of a whole request head; more is answered 431 (HTTP-69).
pub const HEAD_BYTES_MAX: usize = 256 << 10;

/// Bytes that chunk extensions of one body may take together. Nobody needs them, so they may not cost much.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 4 << 10;

/// Bytes that the discarded trailer section of one body may take.
pub const TRAILER_BYTES_MAX: usize = 16 << 10;

/// Hexadecimal digits of a chunk size; 16 are exactly a `u64`.
pub const CHUNK_SIZE_DIGITS_MAX: u32 = 16;

/// Undelivered input of one connection at which its socket is no longer read.
pub const INPUT_BYTES_HIGH: usize = 64 << 10;

/// Bytes of an unread request body that are thrown away to keep the connection; more closes it (HTTP-70).
pub const DRAIN_BYTES_MAX: u64 = 1 << 20;

/// Response bytes from which a body is queued as it is instead of being copied behind the head.
pub const COPY_BYTES_MAX: usize = 16 << 10;

/// Segments of a registered path; more is refused. Bounds the recursion of a lookup.
pub const PATTERN_SEGMENTS_MAX: usize = 128;

/// Nesting of a JSON value. Workers parse recursively, so a deeper body would take one of them down.
pub const JSON_DEPTH_MAX: u32 = 128;

const _: () = assert!(REQUEST_LINE_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(HEAD_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(JSON_DEPTH_MAX <= u128::BITS);
