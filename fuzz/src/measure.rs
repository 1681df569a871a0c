//! Time and memory of every input, and the bounds on both.
//!
//! The allocator counts what is alive; an input's share is the most that was alive during
//! it less what was alive before. At the end a line says how near the bounds it came.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::BODY_LIMIT;

/// Bytes that one input may take at most.
const MEMORY: usize = 256 << 20;
/// Time that one input may take at most.
const TIME: Duration = Duration::from_secs(1);
/// One input in so many has a part of itself repeated.
const REPEATED: u32 = 1024;

struct Counting;

static ALIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

static INPUTS: AtomicU64 = AtomicU64::new(0);
static LARGE: AtomicU64 = AtomicU64::new(0);
static SLOWEST: AtomicU64 = AtomicU64::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grew(by: usize) {
    let alive = ALIVE.fetch_add(by, Relaxed) + by;
    if alive > PEAK.load(Relaxed) {
        PEAK.fetch_max(alive, Relaxed);
    }
}

// SAFETY: everything is the system allocator's; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grew(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // As if both were there while the old is copied.
        grew(size);
        ALIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Processor time of this thread: another program's load is no input's fault.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a value of this frame.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Runs a target on an input.
///
/// # Panics
/// The input took more time or memory than it may.
pub fn within_bounds(input: &[u8], target: impl FnOnce(&[u8])) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::sync::LazyLock::force(&crate::ROWS);
        std::sync::LazyLock::force(&crate::OBJECTS);
        // SAFETY: `report` is a function without state of its own.
        unsafe { libc::atexit(report) };
    });
    let repeated;
    let input = match repeat(input) {
        Some(large) => {
            LARGE.fetch_add(1, Relaxed);
            repeated = large;
            &repeated[..]
        }
        None => input,
    };
    let before = ALIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let (began, wall) = (thread_time(), Instant::now());
    target(input);
    let (took, memory) = (thread_time() - began, PEAK.load(Relaxed).saturating_sub(before));
    INPUTS.fetch_add(1, Relaxed);
    SLOWEST.fetch_max(took.as_micros() as u64, Relaxed);
    MOST.fetch_max(memory, Relaxed);
    assert!(took < TIME, "{took:?} ({:?} by the clock) for {} bytes", wall.elapsed(), input.len());
    assert!(memory < MEMORY, "{memory} bytes of memory for {} bytes", input.len());
}

/// A part of the input many times over: the same for the same input.
fn repeat(input: &[u8]) -> Option<Vec<u8>> {
    let hash =
        input.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    if !hash.is_multiple_of(REPEATED) || input.len() < 4 {
        return None;
    }
    let mut random = crate::Random::new(hash);
    let from = random.below(input.len());
    let to = from + 1 + random.below((input.len() - from).min(64));
    let to = to.min(input.len());
    let part = &input[from..to];
    // Any size up to the limit, small ones as likely as large ones.
    let size = BODY_LIMIT >> random.below(8);
    let mut large = input[..from].to_vec();
    while large.len() + part.len() + (input.len() - to) <= size {
        large.extend_from_slice(part);
    }
    large.extend_from_slice(&input[to..]);
    Some(large)
}

extern "C" fn report() {
    eprintln!(
        "MEASURED {} inputs, {} of them large; slowest {} ms, most memory {} MB",
        INPUTS.load(Relaxed),
        LARGE.load(Relaxed),
        SLOWEST.load(Relaxed).div_ceil(1000),
        MOST.load(Relaxed).div_ceil(1 << 20),
    );
}
