//! The allocator's say in how much memory the process holds.

/// Gives pages that the calling thread's heap keeps for reuse back to the system.
pub fn trim() {
    // SAFETY: callable at any time, from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
