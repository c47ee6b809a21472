//! A vector as an array.

use super::{MAX_LANES, Simd};

/// The lanes of a vector, zero beyond `LANES`.
#[inline(always)]
pub(super) fn lanes<S: Simd>(s: S, v: S::F) -> [f32; MAX_LANES] {
    let mut out = [0.0; MAX_LANES];
    // SAFETY: no level has more lanes.
    unsafe { s.store(out.as_mut_ptr(), v) };
    out
}

/// The vector of an array's first `LANES` elements.
#[inline(always)]
pub(super) fn from_lanes<S: Simd>(s: S, lanes: [f32; MAX_LANES]) -> S::F {
    // SAFETY: no level has more lanes.
    unsafe { s.load(lanes.as_ptr()) }
}

/// [`Simd::store_chosen`] of an array.
///
/// # Safety
/// `p` must be valid for writing as many f32 as `bits` has ones, of the lowest [`MAX_LANES`].
#[inline(always)]
pub(super) unsafe fn store_chosen(mut p: *mut f32, lanes: [f32; MAX_LANES], mut bits: u32) {
    while bits != 0 {
        // SAFETY: the caller's contract.
        unsafe {
            p.write(lanes[bits.trailing_zeros() as usize % MAX_LANES]);
            p = p.add(1);
        }
        bits &= bits - 1;
    }
}
