//! All chance of a run comes from its seed: ids, and the order in which maps are gone through. What the operating system is asked for
//! is answered here, on the thread of a run; other threads get what no run depends on.

use std::cell::Cell;

use fastrand::Rng;

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// From now on, on this thread.
pub(crate) fn seed(seed: u64) {
    SEED.set(seed);
}

fn fill(bytes: &mut [u8]) {
    let mut rng = Rng::with_seed(SEED.get());
    rng.fill(bytes);
    SEED.set(rng.u64(..));
}

/// What libraries take for the system's own.
///
/// # Safety
/// `buffer` points to `length` bytes that may be written, or `length` is 0.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "it stands for a function of the C library, which has this shape")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    if length > 0 {
        // SAFETY: as the caller promises.
        fill(unsafe { std::slice::from_raw_parts_mut(buffer, length) });
    }
    length.try_into().unwrap_or(isize::MAX)
}
