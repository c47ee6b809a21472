//! Products of few columns with an A stored [k, m], such as the gradient of LoRA's way up, computed as
//! their transpose: its rows are few, and its vectors run along the rows of A, read where they lie.
//! GFLOP/s of a Zen 5 thread at m 576, k 256, in turn with packed panels: 204 to 61 with 8 columns,
//! 180 to 121 with 16; AVX2 89 to 42 and 92 to 78, portable 41 to 18 and 42 to 28.

use std::mem::MaybeUninit;

use super::pack::{Ahead, Rows, straight};
use super::tile::{Strided, Target, Tile, load, put};
use super::{Gemm, PAD, Run};
use crate::isa::Kernel;
use crate::simd::{MAX_LANES, MAX_WIDTH, Simd};

/// Most columns: a vector of AVX-512, or two tiles of a level with 4 rows each.
pub(super) const MOST: usize = 16;
/// Most rows of a register tile.
const ROWS: usize = 14;

/// [`Gemm::scratch_len`]: panels of B, a strip of C's transpose, and a panel of A for the last strip.
pub(super) fn scratch_len(gemm: &Gemm) -> usize {
    gemm.k * (gemm.n + ROWS + MAX_WIDTH) + gemm.n * MAX_WIDTH + PAD
}

/// Computes rows of C.
pub(super) struct Multiply<'a>(pub(super) Run<'a>);

impl Kernel for Multiply<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        const {
            let fits = S::GEMM_MR <= ROWS && S::GEMM_NV * S::LANES <= MAX_WIDTH;
            assert!(fits || S::HAS_PANELS);
        }
        if S::HAS_PANELS {
            unreachable!("its register tiles are elsewhere");
        }
        let run = &self.0;
        let &Gemm { m, n, k, .. } = run.gemm;
        let width = S::GEMM_NV * S::LANES;
        let ([row, rows], _) = run.rectangle();
        let a = run.shared.wrapping_add(row);
        let strip = run.scratch.wrapping_add(k * n.next_multiple_of(S::GEMM_MR));
        let last = strip.wrapping_add(n * width);
        let b = Rows { src: run.b.cast(), stride: n, columns: n, depth: k };
        // SAFETY: all of B and rows of op(A) that exist; the scratch has room for its parts.
        unsafe {
            straight::<S, false>(s, b, S::GEMM_MR, run.scratch, S::GEMM_MR * k);
            for at in (0..rows).step_by(width) {
                let (src, there) = (a.wrapping_add(at), (rows - at).min(width));
                let (mut from, mut stride) = (src, m);
                if there < width {
                    let rest = Rows { src, stride, columns: there, depth: k };
                    straight::<S, false>(s, rest, width, last, 0);
                    (from, stride) = (last, width);
                }
                products(s, run, from, stride, strip);
                turn(s, run, [row + at, there], strip);
            }
        }
    }
}

/// A strip of C's transpose: `n` rows of a micro-panel's width.
///
/// # Safety
/// B must be packed, `from` have `k` rows of that width, `strip` room.
#[inline(always)]
unsafe fn products<S: Simd>(s: S, run: &Run<'_>, from: *const f32, stride: usize, strip: *mut f32) {
    let &Gemm { n, k, .. } = run.gemm;
    let width = S::GEMM_NV * S::LANES;
    for first in (0..n).step_by(S::GEMM_MR) {
        let mut depth = 0;
        while depth < k.max(1) {
            let slab = (k - depth).min(run.gemm.cut.slab);
            let tile = Tile {
                depth: slab,
                a: run.scratch.wrapping_add(first * k + depth * S::GEMM_MR),
                next: std::ptr::null(),
                b: from,
                to: Target {
                    c: strip.wrapping_add(first * width),
                    c_step: width,
                    rows: (n - first).min(S::GEMM_MR),
                    columns: width,
                    accumulate: depth > 0,
                    bias: std::ptr::null(),
                },
            };
            let row = from.wrapping_add(depth * stride);
            // SAFETY: the caller's contract.
            unsafe { tile.whole(s, Strided { row, stride }, &mut Ahead::default()) };
            depth += slab.max(1);
        }
    }
}

/// Writes a strip's `there` columns as rows of C.
///
/// # Safety
/// The rows must be the task's own.
#[inline(always)]
unsafe fn turn<S: Simd>(s: S, run: &Run<'_>, [row, there]: [usize; 2], strip: *const f32) {
    let (n, width) = (run.gemm.n, S::GEMM_NV * S::LANES);
    let mut block = [const { MaybeUninit::<f32>::uninit() }; MAX_LANES * MAX_LANES];
    let block = block.as_mut_ptr().cast::<f32>();
    for first in (0..n).step_by(S::LANES) {
        let columns = (n - first).min(S::LANES);
        // SAFETY: the caller's contract.
        unsafe {
            let bias = run.epilogue.bias;
            let bias = if bias.is_null() { s.zero() } else { load(s, bias.add(first), columns) };
            for at in (0..there).step_by(S::LANES) {
                let from = strip.add(first * width + at);
                s.transpose(from, width, block, S::LANES, columns);
                for i in 0..(there - at).min(S::LANES) {
                    let sums = s.add(load(s, block.add(i * S::LANES), columns), bias);
                    let c = run.c.add((row + at + i) * n + first);
                    put(s, c, sums, columns, run.epilogue.accumulate);
                }
            }
        }
    }
}
