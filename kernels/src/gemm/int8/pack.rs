//! Packing: rows of A rounded to int8, and the codes of B laid out in lanes of four.

use std::mem::MaybeUninit;

use crate::quant::Codes;
use crate::simd::{MAX_LANES, Simd};

use super::super::pack::transposed;
use super::super::tile::load;
use super::{DEPTH, column_len};

/// Elements under one scale.
pub(super) const BLOCK: usize = 32;
/// Elements of a row that are rounded before they are laid out: a scale for each lane.
const CHUNK: usize = BLOCK * MAX_LANES;
/// Most rows of a panel of A.
const MAX_ROWS: usize = 8;
/// Most columns of a micro-panel of B.
const MAX_COLUMNS: usize = 32;
/// Magnitudes below it count as zero: their inverse would overflow.
const TINY: f32 = f32::from_bits((127 - 100) << 23);

/// Scales of up to `LANES` blocks, and what their elements are multiplied with. The scale of a
/// block with a NaN or an infinity is NaN.
///
/// # Safety
/// `x` must be valid for reading `blocks` blocks.
#[inline(always)]
unsafe fn scales<S: Simd>(s: S, x: *const f32, blocks: usize) -> (S::F, S::F) {
    // The largest magnitudes lane by lane, then across lanes by a transpose for all blocks at
    // once.
    let (mut lanes, mut turned) = ([0f32; MAX_LANES * MAX_LANES], [0f32; MAX_LANES * MAX_LANES]);
    let (mut largest, mut odd) = (s.zero(), s.zero());
    // SAFETY: the caller's contract; the arrays hold `LANES` vectors of any level.
    unsafe {
        for b in 0..blocks {
            // 0 times infinity or NaN is NaN, which a maximum may drop but a sum keeps.
            let (mut most, mut odd) = (s.zero(), s.zero());
            for at in (b * BLOCK..(b + 1) * BLOCK).step_by(S::LANES) {
                let v = s.load(x.add(at));
                most = s.max(most, s.abs(v));
                odd = s.fma(v, s.zero(), odd);
            }
            s.store(lanes.as_mut_ptr().add(b * S::LANES), s.add(most, odd));
        }
        s.transpose(lanes.as_ptr(), S::LANES, turned.as_mut_ptr(), S::LANES, S::LANES);
        for i in 0..S::LANES {
            let v = s.load(turned.as_ptr().add(i * S::LANES));
            largest = s.max(largest, v);
            odd = s.fma(v, s.zero(), odd);
        }
    }
    let top = s.splat(127.0);
    let inverse = s.select(s.lt(largest, s.splat(TINY)), s.zero(), s.div(top, largest));
    (s.add(s.div(largest, top), odd), inverse)
}

/// Packs rows of A: `[k / 4][MR]` lanes of four codes, `[k / 32][MR]` scales, as many starts.
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
    for from in (0..k).step_by(CHUNK) {
        let blocks = (k - from).min(CHUNK) / BLOCK;
        // SAFETY: the chunk of existing rows; the panel has a place for each of its blocks.
        unsafe {
            let scales = dst.add(k / 4 * mr + from / BLOCK * mr);
            for r in 0..rows {
                let x = src.add(r * k + from);
                let bytes = codes.add(r * CHUNK / 4).cast::<i8>();
                round_row(s, x, blocks, bytes, scales.add(r));
            }
            for b in 0..blocks {
                for r in rows..mr {
                    *scales.add(b * mr + r) = 0.0;
                }
            }
            let panel = dst.add(from / 4 * mr);
            transposed(s, codes, CHUNK / 4, rows, mr, blocks * BLOCK / 4, panel);
            starts::<S, C>(s, panel, blocks, scales, scales.add(k / BLOCK * mr));
        }
    }
}

/// Rounds up to [`MAX_LANES`] blocks of a row to `codes` and writes a scale every MR f32.
///
/// # Safety
/// `x` and `codes` must be valid for the blocks, `scales` for a scale of each.
#[inline(always)]
unsafe fn round_row<S: Simd>(s: S, x: *const f32, blocks: usize, codes: *mut i8, scales: *mut f32) {
    let (mut scale, mut inverse) = ([0f32; MAX_LANES], [0f32; MAX_LANES]);
    // SAFETY: the caller's contract; the arrays hold a lane for each block.
    unsafe {
        for at in (0..blocks).step_by(S::LANES) {
            let both = self::scales(s, x.add(at * BLOCK), (blocks - at).min(S::LANES));
            s.store(scale.as_mut_ptr().add(at), both.0);
            s.store(inverse.as_mut_ptr().add(at), both.1);
        }
        for b in 0..blocks {
            *scales.add(b * S::INT8_MR) = scale[b];
            let by = s.splat(inverse[b]);
            for at in (b * BLOCK..(b + 1) * BLOCK).step_by(S::LANES) {
                s.store_i8(codes.add(at), s.mul(s.load(x.add(at)), by));
            }
        }
    }
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
    let weight = if C::HAS_MIN { 1 } else { C::CENTER };
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
                    sum = s.dot_u8i8::<8>(weights, load(s, panel.add(step * mr + first), n), sum);
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

/// Unpacks a micro-panel of B: `[depth / 4][width]` lanes of four codes, `[depth / 32][width]`
/// scales, as many minimums where the format has them; zero past the `columns` that exist.
///
/// # Safety
/// `src` must be valid for `blocks` blocks of each column, columns `row_blocks` apart; `dst` for a
/// micro-panel, `codes` for its codes.
#[inline(always)]
pub(super) unsafe fn columns_of_b<S: Simd, C: Codes>(
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
    let depth = blocks * BLOCK;
    // SAFETY: the caller's contract.
    unsafe {
        for r in 0..columns {
            for b in 0..blocks {
                let block = &*src.add(r * row_blocks + b);
                codes.add(r * blocks + b).write(block.codes());
                scales[b][r] = block.scale();
                if C::HAS_MIN {
                    mins[b][r] = block.min();
                }
            }
        }
        transposed(s, codes.cast(), depth / 4, columns, width, depth / 4, dst);
        let (to, step) = (dst.add(depth / 4 * width), blocks * width);
        for b in 0..blocks {
            for at in (0..width).step_by(S::LANES) {
                s.store(to.add(b * width + at), s.load_f16(scales[b].as_ptr().add(at)));
                if C::HAS_MIN {
                    s.store(to.add(step + b * width + at), s.load_f16(mins[b].as_ptr().add(at)));
                }
            }
        }
        debug_assert!(depth / 4 + 2 * blocks == column_len(depth));
    }
}
