//! Kernels over rows: `[rows, cols]`, each row by itself.
//!
//! One file a function, forward and backward. All read a row once or twice while it is in L1. The
//! results differ from exact ones by at most [`TOLERANCE`] relative to the row's largest
//! magnitude.

pub mod cross_entropy;
pub mod layer_norm;
pub mod rms_norm;
pub mod rope;
pub mod softmax;

use crate::simd::Simd;

/// Bound on the error of every kernel here, relative to the largest magnitude of the row's result.
pub const TOLERANCE: f32 = 2e-6;

/// Calls `f` with the position and length of each vector of a row of `n`; the last may be short.
#[inline(always)]
fn each<S: Simd>(n: usize, mut f: impl FnMut(usize, usize)) {
    let whole = n / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        f(at, S::LANES);
    }
    if whole < n {
        f(whole, n - whole);
    }
}

/// The first `n` lanes at `at`, zero beyond.
#[inline(always)]
fn get<S: Simd>(s: S, x: &[f32], at: usize, n: usize) -> S::F {
    debug_assert!(at + n <= x.len());
    // SAFETY: `at + n` is inside the row, by `each` and the checks of row lengths at entry.
    unsafe {
        let p = x.as_ptr().add(at);
        if n == S::LANES { s.load(p) } else { s.load_n(p, n) }
    }
}

/// Writes the first `n` lanes at `at`.
#[inline(always)]
fn put<S: Simd>(s: S, x: &mut [f32], at: usize, n: usize, v: S::F) {
    debug_assert!(at + n <= x.len());
    // SAFETY: as for `get`.
    unsafe {
        let p = x.as_mut_ptr().add(at);
        if n == S::LANES { s.store(p, v) } else { s.store_n(p, v, n) }
    }
}

/// The sum of `f` over the vectors of a row, where `f` gives zero beyond the end.
#[inline(always)]
fn sum<S: Simd>(s: S, n: usize, mut f: impl FnMut(usize, usize) -> S::F) -> f32 {
    // Four sums hide the latency of the addition.
    let mut sums = [s.zero(); 4];
    let mut turn = 0;
    each::<S>(n, |at, lanes| {
        sums[turn % 4] = s.add(sums[turn % 4], f(at, lanes));
        turn += 1;
    });
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// The greatest element of a row.
#[inline(always)]
fn greatest<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut best = s.splat(f32::NEG_INFINITY);
    let whole = x.len() / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        best = s.max(get(s, x, at, S::LANES), best);
    }
    x[whole..].iter().fold(s.max_lane(best), |m, &v| m.max(v))
}

#[cfg(test)]
mod tests;
