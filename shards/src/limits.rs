//! Every bound of the shard runtime, and the relations between them that the code relies on.

/// Most data shards in one engine. Wake masks are 64 bits wide.
pub const SHARDS_MAX: usize = 64;
/// Longest request head of an upgrade, in bytes (PROTO-7, T3).
pub const HANDSHAKE_BYTES_MAX: usize = 16 << 10;
/// Most headers in an upgrade request.
pub const HANDSHAKE_HEADERS_MAX: usize = 100;
/// Largest payload of one incoming frame (PROTO-11).
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// Largest reassembled incoming message (PROTO-11).
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Most fragments of one incoming message. 64 MiB in the smallest pieces a sane peer makes is far below.
pub const MESSAGE_FRAGMENTS_MAX: u32 = 1 << 17;
/// What a Python worker without `large-messages.v1` can take in one message (PROTO-12).
pub const PYTHON_LEGACY_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Outgoing messages above this are fragmented (PROTO-12).
pub const FRAGMENT_ABOVE_BYTES: usize = 16 << 20;
/// Size of the pieces they are cut into.
pub const FRAGMENT_BYTES: usize = 1 << 20;
/// JSON nesting accepted in a message (PROTO-24 asks for at least 512).
pub const JSON_DEPTH_MAX: usize = 1024;
/// Payload of a WebSocket control frame (RFC 6455, 5.5).
pub const CONTROL_FRAME_BYTES_MAX: usize = 125;
/// Control frames a peer may send in a row without any data frame before it is treated as a flood (T4).
pub const CONTROL_FRAMES_IN_A_ROW_MAX: u32 = 10_000;
/// Registrations one connection may park while its namespace is unknown.
pub const PARKED_MESSAGES_MAX: usize = 262_144;
/// Bytes of frames a connection may have waiting behind a gate (reattach, authentication).
pub const GATED_BYTES_MAX: usize = 1 << 20;
/// Bytes that may wait in one shard for another before requests are refused.
pub const MESH_BYTES_MAX: usize = 64 << 20;
/// Batches in flight from one shard to another.
pub const RING_SLOTS: usize = 64;
/// How long the calls of a lost connection wait for it to reattach, in milliseconds (PROTO-48).
pub const REATTACH_HANDOVER_MS: u64 = 10_000;
/// Bytes of results kept for one lost connection meanwhile.
pub const HANDOVER_BYTES_MAX: usize = 8 << 20;
/// How long a closing connection may take to read what is left, in milliseconds.
pub const CLOSE_LINGER_MS: u64 = 1_000;
/// Messages a channel holds for its reader if its creator does not say (PROTO-111).
pub const CHANNEL_BUFFER_DEFAULT: u32 = 64;
/// The most its creator can ask for.
pub const CHANNEL_BUFFER_MAX: u32 = 1024;
/// Bytes a channel holds for its reader before its writer is no longer read. One message always fits.
pub const CHANNEL_BYTES_MAX: usize = 4 << 20;
/// Bytes of a channel writer's input that wait for the reader before its socket is left unread.
pub const CHANNEL_HELD_BYTES: usize = 64 << 10;
/// Bytes that may wait for a channel's socket: the channel's own, and answers to pings.
pub const CHANNEL_OUTBOX_BYTES_MAX: usize = CHANNEL_BYTES_MAX + MESSAGE_BYTES_MAX + (4 << 20);
/// A channel of which an end has not come after this long is removed, in milliseconds (PROTO-116).
pub const CHANNEL_EXPIRY_MS: u64 = 300_000;
/// How often that is looked at.
pub const CHANNEL_SWEEP_MS: u64 = 60_000;
/// How long the reader of a channel that has ended may take over what the kernel still holds, in milliseconds.
pub const CHANNEL_LINGER_MS: u64 = 300_000;
/// A channel's reader may stand still this many times longer than a worker: that is back-pressure at work.
pub const CHANNEL_STALL_FACTOR: u64 = 10;
/// Channels of one shard that may wait for an end.
pub const CHANNELS_INCOMPLETE_MAX: usize = 1 << 16;
/// Bytes of telemetry that may wait in one batch for the sink. One message always fits.
pub const TELEMETRY_BATCH_BYTES_MAX: usize = 8 << 20;
/// Largest buffer kept for reuse, in bytes.
pub const SPARE_BUFFER_BYTES_MAX: usize = 1 << 20;
/// Bytes of buffers kept for reuse per shard.
pub const SPARE_BYTES_MAX: usize = 4 << 20;

const _: () = assert!(FRAME_BYTES_MAX <= MESSAGE_BYTES_MAX);
const _: () = assert!(FRAGMENT_BYTES <= PYTHON_LEGACY_MESSAGE_BYTES_MAX);
const _: () = assert!(CHANNEL_SWEEP_MS < CHANNEL_EXPIRY_MS);
const _: () = assert!(JSON_DEPTH_MAX.is_multiple_of(64));
const _: () = assert!(RING_SLOTS.is_power_of_two());
