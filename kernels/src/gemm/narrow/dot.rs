//! B stored [n, k]: columns of C as dot products, four at a time.

use super::super::Run;
use super::{CHUNK, ROWS, four_rows, put};
use crate::simd::Simd;

/// Computes the columns of a task.
///
/// # Safety
/// As for [`super::Gemm::run`].
#[inline(always)]
pub(super) unsafe fn columns<S: Simd>(s: S, run: &Run<'_>) {
    let (m, k) = (run.gemm.m, run.gemm.k);
    let (_, [column, columns]) = run.rectangle();
    for j in (column..column + columns).step_by(4) {
        let there = (column + columns - j).min(4);
        let mut sums = [[s.zero(); 4]; ROWS];
        for from in (0..k).step_by(CHUNK) {
            let len = (k - from).min(CHUNK);
            let x = run.shared.wrapping_add(from);
            // SAFETY: columns that exist, and the rows of A.
            unsafe {
                let b = four_rows(run, [j, there], [from, len]);
                for r in (0..m - m % 2).step_by(2) {
                    let x = [x.add(r * k), x.add((r + 1) * k)];
                    [sums[r], sums[r + 1]] = dots(s, x, b, len, [sums[r], sums[r + 1]]);
                }
                if m % 2 == 1 {
                    [sums[m - 1]] = dots(s, [x.add((m - 1) * k)], b, len, [sums[m - 1]]);
                }
            }
        }
        for r in 0..m {
            // SAFETY: columns of the task.
            unsafe { put(run, r, [j, there], s.sum_each(sums[r])) };
        }
    }
}

/// Adds the products of `len` elements lane by lane.
///
/// # Safety
/// All rows must have `len` elements.
#[inline(always)]
unsafe fn dots<S: Simd, const R: usize>(
    s: S,
    x: [*const f32; R],
    b: [*const f32; 4],
    len: usize,
    mut sums: [[S::F; 4]; R],
) -> [[S::F; 4]; R] {
    let whole = len / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        // SAFETY: `LANES` elements from `at`.
        unsafe {
            for c in 0..4 {
                let b = s.load(b[c].add(at));
                for r in 0..R {
                    sums[r][c] = s.fma(b, s.load(x[r].add(at)), sums[r][c]);
                }
            }
        }
    }
    if whole < len {
        for c in 0..4 {
            // SAFETY: the elements from `whole` on.
            unsafe {
                let b = s.load_n(b[c].add(whole), len - whole);
                for r in 0..R {
                    sums[r][c] = s.fma(b, s.load_n(x[r].add(whole), len - whole), sums[r][c]);
                }
            }
        }
    }
    sums
}
