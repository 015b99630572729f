//! An allocator that counts what the media threads allocate. A counter, no profiler: the figure it serves is zero.
#![expect(unsafe_code, reason = "implementing the allocator trait is unsafe")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The system's allocator, counted. Install with `#[global_allocator]`.
pub struct Counting;

static MEDIA_THREADS: AtomicU64 = AtomicU64::new(0);
static OTHER_THREADS: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Unknown,
    Media,
    Other,
}

thread_local! {
    static KIND: Cell<Kind> = const { Cell::new(Kind::Unknown) };
}

/// Allocations so far: in threads whose name says that they carry media (`shard…`), and in all others.
pub fn counted() -> (u64, u64) {
    (MEDIA_THREADS.load(Relaxed), OTHER_THREADS.load(Relaxed))
}

fn count() {
    // A thread that is being taken down has no kind any more.
    let kind = KIND.try_with(|kind| {
        if kind.get() == Kind::Unknown {
            kind.set(kind_of_this_thread());
        }
        kind.get()
    });
    let counter = if kind == Ok(Kind::Media) { &MEDIA_THREADS } else { &OTHER_THREADS };
    counter.fetch_add(1, Relaxed);
}

/// By the kernel's name of the thread: asking the standard library for it may allocate. A thread that has no name of its own
/// yet stays unknown and is asked again.
fn kind_of_this_thread() -> Kind {
    let mut name = [0_u8; 16];
    // SAFETY: the kernel writes at most 16 bytes, zero included.
    let result = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    match name {
        _ if result != 0 => Kind::Other,
        _ if name.starts_with(b"shard") => Kind::Media,
        _ if name.starts_with(b"tokio") => Kind::Other,
        _ => Kind::Unknown,
    }
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}
