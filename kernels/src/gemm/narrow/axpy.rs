//! B stored [k, n]: rows of B, scaled, added to the rows of C.

use super::super::Run;
use super::{CHUNK, four_rows};
use crate::gemm::tile;
use crate::simd::Simd;

/// Computes the columns of a task.
///
/// # Safety
/// As for [`super::Gemm::run`].
#[inline(always)]
pub(super) unsafe fn columns<S: Simd>(s: S, run: &Run<'_>) {
    let (m, n, k) = (run.gemm.m, run.gemm.n, run.gemm.k);
    let (_, [column, columns]) = run.rectangle();
    // SAFETY: columns of the task, rows of A and of B.
    unsafe {
        start(s, run, [column, columns]);
        let mut p = 0;
        while p < k {
            let steps = if k - p < 4 { 1 } else { 4 };
            for from in (column..column + columns).step_by(CHUNK) {
                let len = (column + columns - from).min(CHUNK);
                let b = four_rows(run, [p, steps], [from, len]);
                for r in 0..m {
                    let (x, c) = (run.shared.add(r * k + p), run.c.add(r * n + from));
                    if steps == 4 {
                        add(s, x, b, len, c);
                    } else {
                        add(s, x, [b[0]], len, c);
                    }
                }
            }
            p += steps;
        }
    }
}

/// Writes what the sums start from.
///
/// # Safety
/// The columns must be the task's own.
#[inline(always)]
unsafe fn start<S: Simd>(s: S, run: &Run<'_>, [column, columns]: [usize; 2]) {
    let (m, n, bias) = (run.gemm.m, run.gemm.n, run.epilogue.bias);
    for r in 0..m {
        for at in (column..column + columns).step_by(S::LANES) {
            let len = (column + columns - at).min(S::LANES);
            // SAFETY: the caller's contract.
            unsafe {
                let first =
                    if bias.is_null() { s.zero() } else { tile::load(s, bias.add(at), len) };
                tile::put(s, run.c.add(r * n + at), first, len, run.epilogue.accumulate);
            }
        }
    }
}

/// Adds `len` elements of `P` rows of B, each times one of `x`, to `c`.
///
/// # Safety
/// `x` must be valid for `P` f32, the rows and `c` for `len`.
#[inline(always)]
unsafe fn add<S: Simd, const P: usize>(
    s: S,
    x: *const f32,
    b: [*const f32; P],
    len: usize,
    c: *mut f32,
) {
    let mut by = [s.zero(); P];
    for p in 0..P {
        // SAFETY: the caller's contract.
        by[p] = s.splat(unsafe { *x.add(p) });
    }
    let whole = len / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        // SAFETY: `LANES` elements from `at`.
        unsafe {
            let mut sum = s.load(c.add(at));
            for p in 0..P {
                sum = s.fma(by[p], s.load(b[p].add(at)), sum);
            }
            s.store(c.add(at), sum);
        }
    }
    if whole < len {
        // SAFETY: the elements from `whole` on.
        unsafe {
            let n = len - whole;
            let mut sum = s.load_n(c.add(whole), n);
            for p in 0..P {
                sum = s.fma(by[p], s.load_n(b[p].add(whole), n), sum);
            }
            s.store_n(c.add(whole), sum, n);
        }
    }
}
