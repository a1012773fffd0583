//! The receive buffers of one shard: lent to the kernel, which fills them in turn, one per completed receive.
//!
//! A connection owns none of them. A buffer is given back as soon as its bytes have been handled.

use io_uring::Submitter;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// Buffer group of the ring.
pub(super) const GROUP: u16 = 0;
/// Buffers per shard, a power of two.
const COUNT: u16 = 256;
/// Bytes per buffer.
const BYTES: usize = 16 << 10;
const PAGE: usize = 4096;

/// One entry of the kernel's buffer ring (`struct io_uring_buf`).
#[repr(C)]
struct Entry {
    address: u64,
    length: u32,
    id: u16,
    reserved: u16,
}

const _: () = assert!(size_of::<Entry>() == 16);
/// Offset of the ring's tail: the reserved field of the first entry (`struct io_uring_buf_ring`).
const TAIL_OFFSET: usize = 14;

/// Buffers lent to the kernel.
pub(super) struct Buffers {
    entries: *mut Entry,
    bytes: *mut u8,
    tail: u16,
}

impl Buffers {
    fn entries_layout() -> Layout {
        Layout::from_size_align(usize::from(COUNT) * size_of::<Entry>(), PAGE).expect("constant layout")
    }

    fn bytes_layout() -> Layout {
        Layout::from_size_align(usize::from(COUNT) * BYTES, PAGE).expect("constant layout")
    }

    /// Allocates the buffers and registers them with the shard's ring.
    pub(super) fn new(submitter: &Submitter<'_>) -> io::Result<Buffers> {
        // SAFETY: both layouts have a size; a null pointer is handled.
        let (entries, bytes) =
            unsafe { (alloc_zeroed(Self::entries_layout()).cast::<Entry>(), alloc_zeroed(Self::bytes_layout())) };
        if entries.is_null() || bytes.is_null() {
            handle_alloc_error(Self::bytes_layout());
        }
        let mut buffers = Buffers { entries, bytes, tail: 0 };
        // SAFETY: the ring of entries is page-aligned, zeroed, and freed only after the io_uring is gone, see `Pump`.
        unsafe { submitter.register_buf_ring_with_flags(entries as u64, COUNT, GROUP, 0) }?;
        for id in 0..COUNT {
            buffers.put(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The bytes of a completed receive. The buffer is ours until it is given back.
    pub(super) fn get(&mut self, id: u16, length: usize) -> &mut [u8] {
        assert!(id < COUNT && length <= BYTES, "the kernel named buffer {id} with {length} bytes");
        // SAFETY: inside the allocation by the check above; the kernel does not touch a buffer it has handed out,
        // and `&mut self` keeps a second slice from being made.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.add(usize::from(id) * BYTES), length) }
    }

    /// Lends a buffer to the kernel again, after the next `publish`.
    pub(super) fn put(&mut self, id: u16) {
        let index = usize::from(self.tail & (COUNT - 1));
        // SAFETY: `index` is inside the ring. The kernel reads entries only before the published tail. The fields
        // are written one by one because the first entry's reserved field is the tail.
        unsafe {
            let entry = self.entries.add(index);
            (&raw mut (*entry).address).write(self.bytes.add(usize::from(id) * BYTES) as u64);
            (&raw mut (*entry).length).write(BYTES as u32);
            (&raw mut (*entry).id).write(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Gives the pages behind the buffers back to the system; they come back empty when a receive needs them.
    pub(super) fn release_pages(&mut self) {
        let bytes = usize::from(COUNT) * BYTES;
        // SAFETY: the range is our own allocation, page-aligned, and holds nothing: every buffer is with the kernel,
        // which writes it before anybody reads it. A failure costs only memory.
        let _ = unsafe { libc::madvise(self.bytes.cast(), bytes, libc::MADV_DONTNEED) };
    }

    /// Makes the buffers put back visible to the kernel.
    pub(super) fn publish(&mut self) {
        // SAFETY: the tail lies inside the first entry, aligned to two bytes, and is only ever accessed atomically
        // on our side. Release: the kernel sees the entries before the tail.
        unsafe {
            let tail = self.entries.cast::<u8>().add(TAIL_OFFSET).cast::<u16>();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated with these layouts; the io_uring that used them is dropped first, see `Pump`.
        unsafe {
            dealloc(self.entries.cast(), Self::entries_layout());
            dealloc(self.bytes, Self::bytes_layout());
        }
    }
}
