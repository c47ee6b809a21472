//! The product of rows rounded to int8 with a weight of byte or nibble codes:
//! [`Precision::Int8`](super::Precision::Int8).
//!
//! Along k, each row of A is cut in blocks of 32 with one scale `s = max|a| / 127` and codes
//! `p = round(a / s)`; a block of B is `d (q - center) + m`. The 32 products of a block are summed
//! exactly as integers and the blocks in f32, in order of k:
//!
//! ```text
//! c = sum over blocks of  s d (sum p q - center sum p)  +  m (s sum p)
//! ```
//!
//! A is packed once, as panels of [`Simd::INT8_MR`] rows of codes, then scales, then what the sums
//! start from (`-center sum p`; with a minimum, `s sum p`). B's codes are unpacked a slab at a
//! time into micro-panels of unsigned bytes, with scales and minimums behind them.
//!
//! Of each product, the codes of A are off by at most half a step, so that
//!
//! ```text
//! |c - exact| <= sum over blocks of  max|a| / 254 * sum |b|
//!                + (k / 16 + 4) 2^-24 sum over blocks of sum s |p| (|d (q - center)| + |m|)
//! ```
//!
//! and against [`reference`](super::reference()), which rounds A the same way, only the second line
//! counts. A block of A with a NaN or an infinity makes its row of C NaN; one whose magnitudes all
//! lie below 2^-100 counts as zeros.

mod pack;
#[cfg(test)]
mod tests;
mod tile;

use crate::isa::Kernel;
use crate::quant::{Codes, CodesVisitor};
use crate::simd::Simd;

use super::{Gemm, PAD, PackA, ROWS, Run, TileSize};
use tile::Tile;

use pack::BLOCK;

/// Depth of a slab of B: with its scales, a micro-panel of 32 columns then takes 30 KiB of L1.
const DEPTH: usize = 768;

/// f32 of a packed row of A: codes, scales and starts.
pub(super) fn row_len(k: usize) -> usize {
    k / 4 + 2 * (k / BLOCK)
}

/// f32 of a packed column of B.
fn column_len(depth: usize) -> usize {
    row_len(depth)
}

/// [`Gemm::scratch_len`].
pub(super) fn scratch_len(gemm: &Gemm) -> usize {
    let depth = gemm.k.min(DEPTH);
    let panels = gemm.columns().next_multiple_of(gemm.tile.columns) * column_len(depth);
    panels + gemm.tile.columns * depth / 4 + PAD
}

/// The size of the register tile of a level.
pub(super) struct RegisterTile;

impl Kernel for RegisterTile {
    type Out = TileSize;

    fn run<S: Simd>(self, _: S) -> TileSize {
        TileSize { rows: S::INT8_MR, columns: S::INT8_NV * S::LANES }
    }
}

/// Packs rows of A.
pub(super) struct Quantize<'a>(pub(super) PackA<'a>);

impl Kernel for Quantize<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        struct Of<'a, S>(S, PackA<'a>);
        impl<S: Simd> CodesVisitor for Of<'_, S> {
            type Out = ();
            #[inline(always)]
            fn visit<C: Codes>(self) {
                let Self(s, part) = self;
                let k = part.gemm.k;
                for at in (part.first..part.first + part.rows).step_by(S::INT8_MR) {
                    let rows = (part.gemm.m - at).min(S::INT8_MR);
                    // SAFETY: rows `at..at + rows` of A exist; the panel is this task's own.
                    unsafe {
                        let panel = part.shared.add(at * row_len(k));
                        pack::rows_of_a::<S, C>(s, part.a.add(at * k), k, rows, panel);
                    }
                }
            }
        }
        self.0.gemm.b_format.visit_codes(Of(s, self.0));
    }
}

/// Computes a rectangle of C.
pub(super) struct Multiply<'a>(pub(super) Run<'a>);

impl Kernel for Multiply<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        struct Of<'a, S>(S, Run<'a>);
        impl<S: Simd> CodesVisitor for Of<'_, S> {
            type Out = ();
            #[inline(always)]
            fn visit<C: Codes>(self) {
                // SAFETY: the contract of `Gemm::run`.
                unsafe { rectangle::<S, C>(self.0, &self.1) };
            }
        }
        self.0.gemm.b_format.visit_codes(Of(s, self.0));
    }
}

/// # Safety
/// As for [`Gemm::run`].
#[inline(always)]
unsafe fn rectangle<S: Simd, C: Codes>(s: S, run: &Run<'_>) {
    let g = run.gemm;
    let width = S::INT8_NV * S::LANES;
    let ([row, rows], [column, columns]) = run.rectangle();
    let weight = run.b.cast::<C>();
    let row_blocks = g.k / BLOCK;
    let panels = columns.next_multiple_of(width) * column_len(g.k.min(DEPTH));
    let mut depth = 0;
    // One turn even where k is 0: C is then the bias.
    while depth < g.k.max(1) {
        let slab = (g.k - depth).min(DEPTH);
        let blocks = slab / BLOCK;
        for j in (0..columns).step_by(width) {
            let there = (columns - j).min(width);
            let from = weight.wrapping_add((column + j) * row_blocks + depth / BLOCK);
            // SAFETY: the slab of the columns that exist; the scratch is this task's own.
            unsafe {
                let panel = run.scratch.add(j * column_len(slab));
                let codes = run.scratch.add(panels).cast();
                pack::columns_of_b(s, from, row_blocks, there, blocks, panel, codes);
            }
        }
        let step = ROWS / S::INT8_MR * S::INT8_MR;
        for first in (row..row + rows).step_by(step) {
            let last = (row + rows).min(first + step);
            for j in (0..columns).step_by(width) {
                for i in (first..last).step_by(S::INT8_MR) {
                    let tile = Tile {
                        blocks,
                        first: depth / BLOCK,
                        a: run.shared.wrapping_add(i * row_len(g.k)),
                        a_blocks: row_blocks,
                        b: run.scratch.wrapping_add(j * column_len(slab)),
                        to: run.target(depth, i, [column + j, columns - j]),
                    };
                    // SAFETY: the panels are packed and the tile of C is this task's own.
                    unsafe { tile.run::<S, C>(s) };
                }
            }
        }
        depth += slab.max(1);
    }
}
