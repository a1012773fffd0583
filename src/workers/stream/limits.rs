//! Bounds of the stream worker.

/// Bytes that may wait for one socket; one frame more always fits. Beyond, it is synchronised anew when it has read
/// what is there.
pub const SOCKET_BYTES_MAX: usize = 4 << 20;
/// Frames that may wait for one socket.
pub const SOCKET_FRAMES_MAX: u32 = 16_384;
/// A socket that takes nothing for this long while events are left out is closed, in milliseconds.
pub const SOCKET_LAG_MS_MAX: u64 = 30_000;
/// Longest message of a client that is looked at, in bytes; longer ones are ignored like anything else unknown.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a client's messages that may wait behind a join; beyond, the socket is not read.
pub const CLIENT_INBOX_BYTES_MAX: usize = 256 << 10;
/// Longest time an upgrade request may take, in milliseconds.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;
/// A ping is sent after this long without a word, in milliseconds (STREAM-DB-10).
pub const PING_AFTER_MS: u64 = 20_000;
/// A socket is given up after this long without a word, in milliseconds.
pub const SILENCE_MS_MAX: u64 = 60_000;
/// How often sockets are looked at, in milliseconds.
pub const SWEEP_MS: u64 = 1_000;
/// How long after a change of the settings subscriptions ask for the state, in milliseconds: until then every shard
/// has changed.
pub const RESUME_MS: u64 = 250;
/// How long a socket may take to close, in milliseconds.
pub const CLOSING_MS_MAX: u64 = 5_000;
/// Events under way from one shard to another; beyond, the other is told what it missed.
pub const LINK_EVENTS_MAX: usize = 16_384;
/// Bytes of such events.
pub const LINK_BYTES_MAX: usize = 64 << 20;
/// A shard says that it has dealt with events after this many.
pub const LINK_REPORT_EVENTS: u32 = 64;
/// And after this many bytes.
pub const LINK_REPORT_BYTES: usize = 1 << 20;

const _: () = assert!((LINK_REPORT_EVENTS as usize) < LINK_EVENTS_MAX / 2);
const _: () = assert!(LINK_REPORT_BYTES < LINK_BYTES_MAX / 2);
const _: () = assert!(PING_AFTER_MS < SILENCE_MS_MAX);
