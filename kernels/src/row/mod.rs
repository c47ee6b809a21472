//! Kernels over rows: `[rows, cols]`, each row by itself.
//!
//! One file a function, forward and backward. All read a row once or twice while it is in L1. The
//! results differ from exact ones by at most [`TOLERANCE`] relative to the row's largest
//! magnitude.

use crate::simd::Simd;

/// Bound on the error of every kernel here, relative to the largest magnitude of the row's result.
pub const TOLERANCE: f32 = 2e-6;

/// Runs a body for the position and length of each vector of a row; the last may be short.
///
/// A macro, as [`sum`] is, because a closure is compiled without the level's instructions unless
/// the compiler happens to inline it: around `exp` it did not, and softmax ran at 0.4 GB/s on AVX2.
macro_rules! each {
    ($simd:ty, $len:expr, |$at:ident, $n:ident| $body:expr) => {{
        let (len, lanes) = ($len, <$simd>::LANES);
        let whole = len / lanes * lanes;
        let mut $at = 0;
        while $at < whole {
            let $n = lanes;
            $body;
            $at += lanes;
        }
        if whole < len {
            let $n = len - whole;
            $body;
        }
    }};
}

/// A sum over the vectors of a row, to which each adds; beyond the end it must add zero. A multiply-add
/// waits longer than an addition: where little else is computed, in cache a norm lost 2 to 13 % by it.
macro_rules! sum {
    ($s:ident: $simd:ty, $len:expr, |$at:ident, $n:ident, $sum:ident| $next:expr) => {{
        let (len, lanes) = ($len, <$simd>::LANES);
        // Four sums hide the latency of the addition.
        let mut sums = [$s.zero(); 4];
        let mut first = 0;
        while first + 4 * lanes <= len {
            for (turn, sum) in sums.iter_mut().enumerate() {
                let ($at, $n, $sum) = (first + turn * lanes, lanes, *sum);
                *sum = $next;
            }
            first += 4 * lanes;
        }
        while first < len {
            let ($at, $n, $sum) = (first, lanes.min(len - first), sums[0]);
            sums[0] = $next;
            first += lanes;
        }
        $s.sum($s.add($s.add(sums[0], sums[1]), $s.add(sums[2], sums[3])))
    }};
}

pub mod cross_entropy;
pub mod layer_norm;
pub mod rms_norm;
pub mod rope;
pub mod softmax;

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

/// Asks for what lies at `at` in the row after `x`, so that the first pass over it waits less for
/// memory. At 64 MiB this alone took RMS norm from 25 to 29 GB/s (Zen 5, one thread, others at
/// work); `rms_norm_grad` lost by it in L2 and does without.
#[inline(always)]
fn ask<S: Simd>(s: S, x: &[f32], at: usize) {
    s.prefetch(x.as_ptr().wrapping_add(x.len() + at));
}

/// The greatest element of a row.
#[inline(always)]
fn greatest<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut best = [s.splat(f32::NEG_INFINITY); 4];
    let whole = x.len() / S::LANES * S::LANES;
    let mut at = 0;
    // Four maxima hide the latency of the instruction.
    while at + 4 * S::LANES <= whole {
        for (i, best) in best.iter_mut().enumerate() {
            *best = s.max(get(s, x, at + i * S::LANES, S::LANES), *best);
        }
        at += 4 * S::LANES;
    }
    while at < whole {
        best[0] = s.max(get(s, x, at, S::LANES), best[0]);
        at += S::LANES;
    }
    let best = s.max(s.max(best[0], best[1]), s.max(best[2], best[3]));
    x[whole..].iter().fold(s.max_lane(best), |m, &v| m.max(v))
}

#[cfg(test)]
mod tests;
