//! The protocol between the monoceros front and one of its Python workers.
//!
//! One `AF_UNIX` stream socketpair per worker carries length-prefixed, multiplexed frames in both directions; files and
//! large bodies travel as file descriptors beside them. There is no HTTP text on this link, so nothing can be smuggled
//! between the front and a worker.
//!
//! # Layout
//! - [`frame`]: the 12-byte header and the kinds of frames
//! - [`message`]: payloads of the frames that have a structure (heads, files, greetings)
//! - [`codec`]: the bounds-checked reader and the writer that `message` is made of
//! - [`inbound`], [`outbound`]: buffers that cut a byte stream into frames and batch frames into few writes
//! - [`page`]: the memory shared with a worker: which request it holds, which it has entered, since when
//! - [`zygote`]: the messages on the control socket of the process that forks workers
//! - [`sys`]: the system calls (the only `unsafe` of this crate)
//!
//! No tokio and no Python: both sides, the mock worker of the tests and the fuzzers use exactly this code.

pub mod codec;
pub mod frame;
pub mod inbound;
pub mod message;
pub mod outbound;
pub mod page;
pub mod sys;
pub mod zygote;

/// Version of frames, page and control messages together. Both sides must have the same one: they are always built
/// from the same source, so a difference means a mixed installation and is refused in the greeting.
pub const VERSION: u32 = 4;

/// Largest payload of one frame, in bytes. A frame that announces more is a protocol error, not an allocation.
pub const FRAME_PAYLOAD_MAX: usize = 1 << 20;

/// Senders cut bodies into frames of at most this many bytes, so that one stream cannot hold the link for long.
pub const DATA_CHUNK_MAX: usize = 64 << 10;

/// Largest request body carried inside the request frame, in bytes; longer ones are handed over as a file.
pub const BODY_INLINE_MAX: usize = 256 << 10;

/// Largest encoded head (request line, addresses and all header fields), in bytes. The front's own header limit is
/// lower; this one bounds what a decoder accepts.
pub const HEAD_MAX: usize = 128 << 10;

/// Most header fields in one head.
pub const HEADERS_MAX: usize = 1024;

/// Bytes of response body a worker may send on one stream before the front grants more.
pub const RESPONSE_WINDOW: u32 = 1 << 20;

/// Bytes of streamed request body or WebSocket messages the front may send on one stream before the worker has
/// consumed them.
pub const REQUEST_WINDOW: u32 = 256 << 10;

/// Most file descriptors in one message (the kernel's own limit is 253). On a link a message carries one at most.
pub const DESCRIPTORS_PER_MESSAGE: usize = 16;

/// Bytes a receiver asks for in one read.
pub const READ_CHUNK: usize = 256 << 10;

/// Most requests handed to one worker at a time, entered or not: the number of cells in its page.
pub const CELLS_MAX: usize = 4096;
