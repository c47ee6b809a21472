//! Products of few columns, such as LoRA's way down to its rank: A is read once, where it lies, and
//! never packed. Each element of C is a dot product with its sums in lanes.
//!
//! In f32 alone: bfloat16 and int8 round what they multiply, and packing is when they do. GFLOP/s of
//! a Zen 5 thread at m 256, k 576, in turn with packed panels:
//!
//! | n | 4 | 8 | 16 | 32 | 64 |
//! |---|---|---|---|---|---|
//! | NT | 217 to 27 | 217 to 54 | 219 to 116 | 209 to 166 | 210 to 183 |
//! | NN | | 132 to 56 | 189 to 116 | | |
//!
//! With AVX2, NT, 115 to 43 at 8, 108 to 96 at 32, but 112 to 119 at 64; portable 34 to 31 at 8.
//! An A stored [k, m] goes by [`turned`].

use super::narrow::put;
use super::pack::transposed;
use super::{Gemm, PAD, Precision, Run, turned};
use crate::isa::Kernel;
use crate::quant::Format;
use crate::simd::Simd;

/// Columns of a register tile.
const TILE: usize = 4;
/// Rows of a task at least.
const ROWS: usize = 36;

/// Whether a product takes this path. Where B has to be turned, more columns are not worth it: 132
/// to 169 at 32 with k 1536.
pub(super) fn takes(gemm: &Gemm) -> bool {
    let &Gemm { n, trans_a, trans_b, b_format, precision, narrow, tile, .. } = gemm;
    let most = match (trans_a, trans_b) {
        (false, false) => tile.lanes,
        (false, true) => 4 * tile.lanes,
        (true, false) if !tile.panels => turned::MOST,
        (true, _) => 0,
    };
    n <= most && !narrow && b_format == Format::F32 && precision == Precision::F32
}

/// [`Gemm::scratch_len`]: B, where it has to be turned or packed.
pub(super) fn scratch_len(gemm: &Gemm) -> usize {
    match (gemm.trans_a, gemm.trans_b) {
        (true, _) => turned::scratch_len(gemm),
        (_, true) => 0,
        (_, false) => gemm.n * gemm.k + PAD,
    }
}

/// Rows of a task: few tasks where each turns or packs B.
pub(super) fn rows(gemm: &Gemm) -> usize {
    let tasks = if gemm.trans_b { 16 } else { 4 };
    // Whole strips of either path on any level.
    (gemm.m / tasks).max(ROWS).next_multiple_of(if gemm.trans_a { 96 } else { 6 })
}

/// [`Gemm::run`].
pub(super) fn run(part: Run<'_>) {
    let isa = part.gemm.isa;
    if part.gemm.trans_a { isa.run(turned::Multiply(part)) } else { isa.run(Multiply(part)) }
}

/// Computes rows of C; the packed A is A as it is stored.
struct Multiply<'a>(Run<'a>);

impl Kernel for Multiply<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let run = &self.0;
        let &Gemm { n, k, trans_b, .. } = run.gemm;
        let mut b = run.b.cast::<f32>();
        if !trans_b && k > 0 {
            // SAFETY: all of B; the scratch has room for it.
            unsafe { transposed::<S, false>(s, b, n, k, k, n, run.scratch) };
            b = run.scratch;
        }
        // As many sums as registers hold beside their operands.
        // SAFETY: the contract of `Gemm::run`; B has `n` rows of `k`.
        unsafe {
            if S::GEMM_MR >= 8 {
                rectangle::<S, 6>(s, run, b);
            } else {
                rectangle::<S, 2>(s, run, b);
            }
        }
    }
}

/// # Safety
/// As for [`Gemm::run`], with B stored [n, k].
#[inline(always)]
unsafe fn rectangle<S: Simd, const R: usize>(s: S, run: &Run<'_>, b: *const f32) {
    let k = run.gemm.k;
    let ([row, rows], [_, columns]) = run.rectangle();
    for i in (row..row + rows).step_by(R) {
        let there = (row + rows - i).min(R);
        for j in (0..columns).step_by(TILE) {
            let some = (columns - j).min(TILE);
            // The last ones stand for those that do not exist.
            let a = starts::<R>(run.shared.wrapping_add(i * k), k, there);
            let b = starts::<TILE>(b.wrapping_add(j * k), k, some);
            // SAFETY: rows and columns of the task.
            unsafe {
                let sums = dots(s, a, b, k);
                for r in 0..there {
                    put(run, i + r, [j, some], s.sum_each(sums[r]));
                }
            }
        }
    }
}

/// Where rows of `k` begin, of which `there` exist.
#[inline(always)]
fn starts<const N: usize>(first: *const f32, k: usize, there: usize) -> [*const f32; N] {
    let mut starts = [first; N];
    for (i, start) in starts.iter_mut().enumerate() {
        *start = first.wrapping_add(i.min(there - 1) * k);
    }
    starts
}

/// Dot products of rows of A with columns of B, in lanes.
///
/// # Safety
/// All must have `k` elements.
#[inline(always)]
unsafe fn dots<S: Simd, const R: usize>(
    s: S,
    a: [*const f32; R],
    b: [*const f32; TILE],
    k: usize,
) -> [[S::F; TILE]; R] {
    let mut sums = [[s.zero(); TILE]; R];
    let whole = k / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        // SAFETY: `LANES` elements from `at`.
        unsafe {
            let mut right = [s.zero(); TILE];
            for c in 0..TILE {
                right[c] = s.load(b[c].add(at));
            }
            for r in 0..R {
                let left = s.load(a[r].add(at));
                for c in 0..TILE {
                    sums[r][c] = s.fma(left, right[c], sums[r][c]);
                }
            }
        }
    }
    if whole < k {
        for r in 0..R {
            for c in 0..TILE {
                // SAFETY: the elements from `whole` on.
                unsafe {
                    let left = s.load_n(a[r].add(whole), k - whole);
                    let right = s.load_n(b[c].add(whole), k - whole);
                    sums[r][c] = s.fma(left, right, sums[r][c]);
                }
            }
        }
    }
    sums
}
