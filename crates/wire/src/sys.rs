//! System calls of the link: `sendmsg`/`recvmsg` with descriptors, memory files, shared mappings, the clock.
#![expect(unsafe_code, reason = "mapping shared memory and receiving into spare capacity cannot be said in safe Rust")]

use crate::DESCRIPTORS_PER_MESSAGE;
use bytes::BytesMut;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::AtomicU64;

/// Receives into the spare capacity of `buffer`; received descriptors are close-on-exec. One for which this process
/// had no number left is `None`: a message carries at most one, so it is certain which.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut BytesMut,
    descriptors: &mut VecDeque<Option<OwnedFd>>,
) -> io::Result<usize> {
    let length = buffer.len();
    let spare = buffer.spare_capacity_mut();
    if spare.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no room to receive into"));
    }
    // SAFETY: the slice covers exactly the spare capacity, is only written to (by the kernel), and lives for this call.
    let slice = unsafe { std::slice::from_raw_parts_mut(spare.as_mut_ptr().cast::<u8>(), spare.len()) };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(slice)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights.map(Some));
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        descriptors.push_back(None);
    }
    // SAFETY: the kernel has initialised this many bytes of the spare capacity.
    unsafe { buffer.set_len(length + received.bytes) };
    Ok(received.bytes)
}

/// Sends once; never raises `SIGPIPE`.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    send_flagged(socket, bytes, descriptors, SendFlags::NOSIGNAL)
}

/// Sends once and never blocks, also on a blocking socket.
pub fn send_now(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    send_flagged(socket, bytes, descriptors, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

fn send_flagged(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<usize> {
    if descriptors.is_empty() {
        return Ok(rustix::net::send(socket, bytes, flags)?);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_MESSAGE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?)
}

/// Receives one message of a `SOCK_SEQPACKET` socket; `None` is the end. A message that does not fit is an error.
pub fn receive_packet(socket: BorrowedFd<'_>, limit: usize) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; limit];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(Errno::MSGSIZE.into());
    }
    bytes.truncate(received.bytes);
    Ok((received.bytes > 0).then_some((bytes, descriptors)))
}

/// Makes a close-on-exec memory file of a fixed size: it can neither shrink nor grow, so no access through a mapping
/// can fault.
pub fn memory_file(name: &str, length: u64) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, length)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// Length of a file, in bytes.
pub fn file_length(file: BorrowedFd<'_>) -> io::Result<u64> {
    u64::try_from(rustix::fs::fstat(file)?.st_size).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock both sides of a page share.
pub fn monotonic_now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A pair of connected, close-on-exec stream sockets.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(rustix::net::SocketType::STREAM)
}

/// A pair of connected, close-on-exec sockets that keep message boundaries.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(rustix::net::SocketType::SEQPACKET)
}

fn pair(kind: rustix::net::SocketType) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(rustix::net::AddressFamily::UNIX, kind, rustix::net::SocketFlags::CLOEXEC, None)?)
}

/// Makes a descriptor non-blocking, or blocking again.
pub fn set_nonblocking(descriptor: impl AsFd, nonblocking: bool) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(descriptor, nonblocking)?)
}

/// Memory mapped from a file and shared with another process, seen only as atomics.
#[derive(Debug)]
pub struct Mapping {
    start: *mut AtomicU64,
    words: usize,
}

// SAFETY: the memory is only ever reached through atomics, and stays mapped until drop.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes (a multiple of eight) of a sealed memory file.
    pub fn shared(file: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        if length == 0 || !length.is_multiple_of(8) || file_length(file)? < length as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a whole number of words of the file"));
        }
        // A file that could shrink would turn every access into a SIGBUS.
        if !rustix::fs::fcntl_get_seals(file)?.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the memory file is not sealed"));
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address the kernel chooses aliases nothing of ours; the file covers it and is
        // sealed against shrinking.
        let start = unsafe { rustix::mm::mmap(ptr::null_mut(), length, protection, MapFlags::SHARED, file, 0)? };
        Ok(Self { start: start.cast(), words: length / 8 })
    }

    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: `start` is page-aligned and maps `words` words until drop; `AtomicU64` allows concurrent writers.
        unsafe { std::slice::from_raw_parts(self.start, self.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `shared` mapped; no borrow of `words` outlives self.
        let _ = unsafe { rustix::mm::munmap(self.start.cast(), self.words * 8) };
    }
}
