//! Products of bytes: [`Precision::Int8`](super::Precision::Int8).
//!
//! Along k, each row of A is cut in blocks of 32 (the last one may be shorter) with one scale
//! `s = max|a| / 127` and codes `p = round(a / s)`; a block of a column of B is
//! `d (q - center) + m`. The products of a block are summed exactly as integers and the blocks in
//! f32, in order of k:
//!
//! ```text
//! c = sum over blocks of  s d (sum p q - center sum p)  +  m (s sum p)
//! ```
//!
//! Where B's own blocks run along k and have [`Codes`](crate::quant::Codes), as in the forward
//! product of a Q4_0, Q4_1, Q8_0 or Q4_K weight, those are multiplied as they are. Otherwise, and so
//! for the gradient through the same stored weight, whose scales then vary along k, B is decoded and
//! rounded like A, each column in blocks of 32, while a slab is packed.
//!
//! GFLOP/s of one Zen 5 thread at m 256 with a Q4_1 weight, in a minute when f32 products reached
//! 228: 530 NT and 532 NN at n 576, k 1536; 608 NT and 608 NN at n 1536, k 576.
//!
//! A is packed once, as panels of [`Simd::INT8_MR`] rows of codes, then scales, then what the sums
//! start from (`-center sum p`; with a minimum, `s sum p`). B's codes are unpacked a slab at a
//! time into micro-panels of bytes, with scales and minimums behind them. A level that multiplies
//! signed bytes has those of 8 bits less 128, which makes their center 0.
//!
//! Codes are off by at most half a step, so that
//!
//! ```text
//! |c - exact| <= sum over blocks of  max|a| / 254 * sum |b|
//!                + sum over blocks of  max|b| / 254 * sum s |p|          where B is rounded
//!                + (k / 16 + 4) 2^-24 sum over blocks of sum s |p| (|d (q - center)| + |m|)
//! ```
//!
//! and against [`reference`](super::reference()), which rounds the same way, only the last line
//! counts. A block with a NaN or an infinity makes its row or column of C NaN; one whose magnitudes
//! all lie below 2^-100 counts as zeros.

pub(super) mod narrow;
mod pack;
mod round;
#[cfg(test)]
mod tests;
mod tile;

use std::marker::PhantomData;

use crate::isa::Kernel;
use crate::quant::{Codes, CodesVisitor, Format};
use crate::simd::Simd;

use super::pack::{Slab, Source, side_by_side};
use super::{Gemm, PAD, PackA, Run, TileSize};
use pack::{Columns, Rounded, Stored};
use round::BLOCK;
use tile::Tile;

/// Depth of a slab of B: with its scales, a micro-panel of 32 columns then takes 30 KiB of L1.
const DEPTH: usize = 768;

/// f32 of a packed row of A: codes, scales and starts.
pub(super) fn row_len(k: usize) -> usize {
    k.div_ceil(BLOCK) * (BLOCK / 4 + 2)
}

/// f32 of a packed column of B: codes, scales and minimums.
fn column_len(depth: usize) -> usize {
    row_len(depth)
}

/// [`Gemm::scratch_len`].
pub(super) fn scratch_len(gemm: &Gemm) -> usize {
    let (depth, width) = (gemm.k.min(DEPTH), gemm.tile.columns);
    let panels = gemm.cut.columns.next_multiple_of(width) * column_len(depth);
    panels + pack::space_len(width, depth, gemm.b_format.block_elems()) + PAD
}

/// Whether B's blocks run along k and have codes, which are then multiplied as they are.
pub(super) const fn keeps_codes(b_format: Format, trans_b: bool) -> bool {
    trans_b && b_format.has_codes()
}

/// The packed code of 0: codes of 8 bits are packed less 128 where the level multiplies signed
/// bytes.
const fn center<S: Simd, C: Codes>() -> u8 {
    if S::SIGNED_BYTES && C::BITS == 8 { C::CENTER - 128 } else { C::CENTER }
}

/// The size of the register tile of a level.
pub(super) struct RegisterTile;

impl Kernel for RegisterTile {
    type Out = TileSize;
    const BYTES: bool = true;

    fn run<S: Simd>(self, _: S) -> TileSize {
        TileSize {
            rows: S::INT8_MR,
            columns: S::INT8_NV * S::LANES,
            lanes: S::LANES,
            depth: [DEPTH; 2],
            bf16: 2,
            panels: S::HAS_PANELS,
        }
    }
}

/// Packs rows of A.
pub(super) struct Quantize<'a>(pub(super) PackA<'a>);

impl Kernel for Quantize<'_> {
    type Out = ();
    const BYTES: bool = true;

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
        let &Gemm { b_format, trans_b, .. } = self.0.gemm;
        let codes = if keeps_codes(b_format, trans_b) { b_format } else { Format::Q8_0 };
        codes.visit_codes(Of(s, self.0));
    }
}

/// Computes a rectangle of C.
pub(super) struct Multiply<'a>(pub(super) Run<'a>);

impl Kernel for Multiply<'_> {
    type Out = ();
    const BYTES: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        struct Of<'a, S>(S, Run<'a>, Source);
        impl<S: Simd> CodesVisitor for Of<'_, S> {
            type Out = ();
            #[inline(always)]
            fn visit<C: Codes>(self) {
                let Self(s, run, source) = self;
                // SAFETY: the contract of `Gemm::run`.
                unsafe { rectangle(s, &run, Stored::<C>(source, PhantomData)) };
            }
        }
        let run = self.0;
        let (format, source) = (run.gemm.b_format, run.source());
        if keeps_codes(format, source.trans) {
            format.visit_codes(Of(s, run, source));
        } else {
            // SAFETY: the contract of `Gemm::run`.
            unsafe { rectangle(s, &run, Rounded(source)) };
        }
    }
}

/// # Safety
/// As for [`Gemm::run`].
#[inline(always)]
unsafe fn rectangle<S: Simd, B: Columns>(s: S, run: &Run<'_>, b: B) {
    let g = run.gemm;
    let width = S::INT8_NV * S::LANES;
    let ([row, rows], [column, columns]) = run.rectangle();
    let panels = columns.next_multiple_of(width) * column_len(g.k.min(DEPTH));
    let mut depth = 0;
    // One turn even where k is 0: C is then the bias.
    while depth < g.k.max(1) {
        let slab = (g.k - depth).min(DEPTH);
        // SAFETY: the slab of the columns that exist; the scratch is this task's own.
        unsafe {
            let part = Slab { from: depth, depth: slab, column, columns };
            b.pack(s, part, run.scratch, run.scratch.add(panels));
            for j in (0..columns).step_by(width) {
                let codes = run.scratch.add(j * column_len(slab));
                side_by_side(s, codes, width, slab.div_ceil(BLOCK) * BLOCK / 4);
            }
        }
        let step = g.cut.block_rows;
        for first in (row..row + rows).step_by(step) {
            let last = (row + rows).min(first + step);
            for j in (0..columns).step_by(width) {
                for i in (first..last).step_by(S::INT8_MR) {
                    let tile = Tile {
                        blocks: slab.div_ceil(BLOCK),
                        first: depth / BLOCK,
                        a: run.shared.wrapping_add(i * row_len(g.k)),
                        a_blocks: g.k.div_ceil(BLOCK),
                        b: run.scratch.wrapping_add(j * column_len(slab)),
                        to: run.target(depth, i, [column + j, columns - j]),
                    };
                    // SAFETY: the panels are packed and the tile of C is this task's own.
                    unsafe { tile.run::<S, B::Codes>(s) };
                }
            }
        }
        depth += slab.max(1);
    }
}
