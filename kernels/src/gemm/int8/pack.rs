//! Packing: rows of A rounded to int8, and the codes of B laid out in lanes of four.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use crate::quant::{Codes, Q8_0};
use crate::simd::Simd;

use super::super::pack::{Slab, Source, side_by_side, transposed};
use super::super::tile::load;
use super::round::{self, BLOCK, MAX_BLOCKS};
use super::{DEPTH, center, column_len};

/// Elements of a row that are rounded before they are laid out.
const CHUNK: usize = BLOCK * MAX_BLOCKS;
/// Most rows of a panel of A.
const MAX_ROWS: usize = 8;
/// Most columns of a micro-panel of B.
const MAX_COLUMNS: usize = 32;

/// Packs rows of A: `[k / 4][MR]` lanes of four codes, `[k / 32][MR]` scales, as many starts; k
/// rounded up to whole blocks with zeros.
///
/// # Safety
/// `src` must be valid for `rows` rows of `k` f32, `rows` from 1 to MR; `dst` for MR packed rows.
#[inline(always)]
pub(super) unsafe fn rows_of_a<S: Simd, C: Codes>(
    s: S,
    src: *const f32,
    k: usize,
    rows: usize,
    dst: *mut f32,
) {
    const { assert!(S::INT8_MR <= MAX_ROWS) }
    let mr = S::INT8_MR;
    let mut space = MaybeUninit::<[f32; MAX_ROWS * CHUNK / 4]>::uninit();
    let codes = space.as_mut_ptr().cast::<f32>();
    let row_blocks = k.div_ceil(BLOCK);
    for from in (0..k).step_by(CHUNK) {
        let there = (k - from).min(CHUNK);
        let blocks = there.div_ceil(BLOCK);
        // SAFETY: the chunk of existing rows; the panel has a place for each of its blocks.
        unsafe {
            let scales = dst.add((row_blocks * BLOCK / 4 + from / BLOCK) * mr);
            for r in 0..rows {
                let mut x = src.add(r * k + from);
                let mut whole = MaybeUninit::<[f32; CHUNK]>::uninit();
                if there < blocks * BLOCK {
                    let whole = whole.as_mut_ptr().cast();
                    x.copy_to_nonoverlapping(whole, there);
                    fill_blocks(whole, there);
                    x = whole;
                }
                let bytes = codes.add(r * CHUNK / 4).cast();
                round::row(s, x, blocks, bytes, scales.add(r), mr);
            }
            for b in 0..blocks {
                for r in rows..mr {
                    *scales.add(b * mr + r) = 0.0;
                }
            }
            let panel = dst.add(from / 4 * mr);
            transposed::<S, false>(s, codes, CHUNK / 4, rows, mr, blocks * BLOCK / 4, panel);
            starts::<S, C>(s, panel, blocks, scales, scales.add(row_blocks * mr));
            side_by_side(s, panel, mr, blocks * BLOCK / 4);
        }
    }
}

/// Writes zeros after `there` f32, up to whole blocks.
///
/// # Safety
/// `x` must be valid for the whole blocks.
#[inline(always)]
unsafe fn fill_blocks(x: *mut f32, there: usize) {
    // SAFETY: the caller's contract.
    unsafe { x.add(there).write_bytes(0, there.next_multiple_of(BLOCK) - there) };
}

/// What the sums of each row and block start from: `-center sum p` as an i32, or `s sum p`.
///
/// # Safety
/// `panel` must hold the packed codes of `blocks` blocks, `scales` their scales; `starts` must be
/// valid for as many.
#[inline(always)]
unsafe fn starts<S: Simd, C: Codes>(
    s: S,
    panel: *const f32,
    blocks: usize,
    scales: *const f32,
    starts: *mut f32,
) {
    let mr = S::INT8_MR;
    let weight = if C::HAS_MIN { 1 } else { const { center::<S, C>() } };
    let weights = s.splat(f32::from_bits(u32::from_le_bytes([weight; 4])));
    // -x is the complement of x - 1.
    let ones = s.splat(f32::from_bits(u32::MAX));
    for b in 0..blocks {
        for first in (0..mr).step_by(S::LANES) {
            let n = (mr - first).min(S::LANES);
            let mut sum = if C::HAS_MIN { s.zero() } else { ones };
            // SAFETY: `n` rows of the panel.
            unsafe {
                for step in b * BLOCK / 4..(b + 1) * BLOCK / 4 {
                    sum = s.dot_bytes::<8>(weights, load(s, panel.add(step * mr + first), n), sum);
                }
                let at = b * mr + first;
                let start = if C::HAS_MIN {
                    s.mul(s.convert_i32(sum), load(s, scales.add(at), n))
                } else {
                    s.xor(sum, ones)
                };
                if n == S::LANES {
                    s.store(starts.add(at), start);
                } else {
                    s.store_n(starts.add(at), start, n);
                }
            }
        }
    }
}

/// How the columns of B become codes.
pub(super) trait Columns: Copy {
    /// The blocks that the tile multiplies.
    type Codes: Codes;

    /// Packs a slab of B as micro-panels: `[depth / 4][width]` lanes of four codes,
    /// `[depth / 32][width]` scales, as many minimums where the blocks have them; depth rounded up
    /// to whole blocks. What lies in columns that do not exist is unspecified.
    ///
    /// # Safety
    /// The slab must lie inside B and start at whole blocks, `dst` be valid for its micro-panels,
    /// `space` for [`space_len`].
    unsafe fn pack<S: Simd>(self, s: S, slab: Slab, dst: *mut f32, space: *mut f32);
}

/// f32 of space that packing uses: a micro-panel's codes as they are stored, or decoded rows.
pub(super) fn space_len(width: usize, depth: usize, block: usize) -> usize {
    (width * depth.next_multiple_of(BLOCK) / 4).max(decoded_width(width, block) * BLOCK)
}

/// Columns that are decoded at once where rows run along n: whole micro-panels and whole blocks.
fn decoded_width(width: usize, block: usize) -> usize {
    block.next_multiple_of(width)
}

/// The codes of B's own blocks, which run along k.
#[derive(Clone, Copy)]
pub(super) struct Stored<C>(pub(super) Source, pub(super) PhantomData<C>);

impl<C: Codes> Columns for Stored<C> {
    type Codes = C;

    #[inline(always)]
    unsafe fn pack<S: Simd>(self, s: S, slab: Slab, dst: *mut f32, space: *mut f32) {
        let (width, row_blocks) = (S::INT8_NV * S::LANES, self.0.k / C::ELEMS);
        let first = self.0.data.cast::<C>().wrapping_add(slab.from / C::ELEMS);
        for j in (0..slab.columns).step_by(width) {
            let there = (slab.columns - j).min(width);
            // SAFETY: the caller's contract.
            unsafe {
                let src = first.add((slab.column + j) * row_blocks);
                let to = dst.add(j * column_len(slab.depth));
                stored_columns(s, src, row_blocks, there, slab.depth / C::ELEMS, to, space.cast());
            }
        }
    }
}

/// One micro-panel of [`Stored`].
///
/// # Safety
/// `src` must be valid for `blocks` blocks of each column, columns `row_blocks` apart; `dst` for a
/// micro-panel, `codes` for its codes.
#[inline(always)]
unsafe fn stored_columns<S: Simd, C: Codes>(
    s: S,
    src: *const C,
    row_blocks: usize,
    columns: usize,
    blocks: usize,
    dst: *mut f32,
    codes: *mut [u8; BLOCK],
) {
    let width = S::INT8_NV * S::LANES;
    const { assert!(S::INT8_NV * S::LANES <= MAX_COLUMNS) }
    // As halves first: one conversion then serves a vector of columns.
    let mut scales = [[0u16; MAX_COLUMNS]; DEPTH / BLOCK];
    let mut mins = [[0u16; MAX_COLUMNS]; DEPTH / BLOCK];
    let mut steps = [[[0u8; MAX_COLUMNS]; 2]; DEPTH / BLOCK];
    let depth = blocks * C::ELEMS;
    // SAFETY: the caller's contract.
    unsafe {
        for r in 0..columns {
            for b in 0..blocks {
                let block = &*src.add(r * row_blocks + b);
                for part in 0..C::PARTS {
                    let at = b * C::PARTS + part;
                    codes.add(r * depth / BLOCK + at).write(block.codes(part));
                    if C::PARTS > 1 {
                        [steps[at][0][r], steps[at][1][r]] = block.steps(part);
                    }
                }
                scales[b][r] = block.scale();
                if C::HAS_MIN {
                    mins[b][r] = block.min();
                }
            }
        }
        transposed::<S, false>(s, codes.cast(), depth / 4, columns, width, depth / 4, dst);
        if S::SIGNED_BYTES && C::BITS == 8 {
            round::flip_signs(s, dst, depth / 4 * width);
        }
        let (to, next) = (dst.add(depth / 4 * width), depth / BLOCK * width);
        for b in 0..depth / BLOCK {
            for at in (0..width).step_by(S::LANES) {
                let of_block = |halves: &[[u16; MAX_COLUMNS]], steps: &[u8; MAX_COLUMNS]| {
                    let whole = s.load_f16(halves[b / C::PARTS].as_ptr().add(at));
                    if C::PARTS == 1 {
                        return whole;
                    }
                    s.mul(whole, s.load_u8(steps.as_ptr().add(at)))
                };
                s.store(to.add(b * width + at), of_block(&scales, &steps[b][0]));
                if C::HAS_MIN {
                    s.store(to.add(next + b * width + at), of_block(&mins, &steps[b][1]));
                }
            }
        }
    }
}

/// Codes of what B's elements decode to, rounded as the rows of A are.
#[derive(Clone, Copy)]
pub(super) struct Rounded(pub(super) Source);

impl Columns for Rounded {
    /// Signed codes under one scale, as the tile sees them.
    type Codes = Q8_0;

    #[inline(always)]
    unsafe fn pack<S: Simd>(self, s: S, slab: Slab, dst: *mut f32, space: *mut f32) {
        // SAFETY: the contract of `Columns::pack`.
        unsafe {
            if self.0.trans {
                rounded_rows(s, self.0, slab, dst, space);
            } else {
                rounded_columns(s, self.0, slab, dst, space);
            }
        }
    }
}

/// [`Rounded`] where rows run along k: each is a column's own, rounded like a row of A.
///
/// # Safety
/// As for [`Columns::pack`].
#[inline(always)]
unsafe fn rounded_rows<S: Simd>(s: S, source: Source, slab: Slab, dst: *mut f32, space: *mut f32) {
    let width = S::INT8_NV * S::LANES;
    let depth = slab.depth.next_multiple_of(BLOCK);
    let mut decoded = MaybeUninit::<[f32; CHUNK]>::uninit();
    let decoded = decoded.as_mut_ptr().cast::<f32>();
    for j in (0..slab.columns).step_by(width) {
        let there = (slab.columns - j).min(width);
        // SAFETY: the caller's contract.
        unsafe {
            let to = dst.add(j * column_len(depth));
            let scales = to.add(depth / 4 * width);
            for r in 0..there {
                let row = slab.column + j + r;
                for from in (0..slab.depth).step_by(CHUNK) {
                    let n = (slab.depth - from).min(CHUNK);
                    source.decode([row, 1], [slab.from + from, n], decoded, n);
                    fill_blocks(decoded, n);
                    let codes = space.add((r * depth + from) / 4).cast();
                    let scales = scales.add(from / BLOCK * width + r);
                    round::row(s, decoded, n.div_ceil(BLOCK), codes, scales, width);
                }
            }
            transposed::<S, false>(s, space, depth / 4, there, width, depth / 4, to);
            if !S::SIGNED_BYTES {
                round::flip_signs(s, to, depth / 4 * width);
            }
        }
    }
}

/// [`Rounded`] where rows run along n: 32 of them are decoded, then rounded column by column.
///
/// # Safety
/// As for [`Columns::pack`].
#[inline(always)]
unsafe fn rounded_columns<S: Simd>(
    s: S,
    source: Source,
    slab: Slab,
    dst: *mut f32,
    rows: *mut f32,
) {
    let width = S::INT8_NV * S::LANES;
    let depth = slab.depth.next_multiple_of(BLOCK);
    // So few columns at a time that 32 rows stay in L1.
    let some = decoded_width(width, source.format.block_elems());
    for p in (0..slab.depth).step_by(BLOCK) {
        let there = (slab.depth - p).min(BLOCK);
        for first in (0..slab.columns).step_by(some) {
            let columns = (slab.columns - first).min(some);
            // No prefetcher follows from row to row. SmolLM2's weights come from memory: 2 % of a step.
            source.ask(s, [slab.from + p + BLOCK, BLOCK], [slab.column + first, columns]);
            // SAFETY: the caller's contract; tasks start at whole blocks.
            unsafe {
                source.decode([slab.from + p, there], [slab.column + first, columns], rows, some);
                rows.add(there * some).write_bytes(0, (BLOCK - there) * some);
                for j in (0..columns).step_by(S::LANES) {
                    let panel = dst.add((first + j) / width * width * column_len(depth));
                    let (panel, scales) = (panel.add(j % width), depth / 4 * width);
                    round::columns(
                        s,
                        rows.add(j),
                        some,
                        panel.add(p / 4 * width),
                        width,
                        panel.add(scales + p / BLOCK * width),
                    );
                }
            }
        }
    }
}
