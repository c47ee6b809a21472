//! Rounding f32 to int8 in blocks of 32: `s = max|x| / 127`, codes `round(x / s)`.

use crate::simd::{MAX_LANES, Simd};

/// Elements under one scale.
pub(super) const BLOCK: usize = 32;
/// Most blocks that [`row`] takes: a scale for each lane.
pub(super) const MAX_BLOCKS: usize = MAX_LANES;
/// Magnitudes below it count as zero: their inverse would overflow.
const TINY: f32 = f32::from_bits((127 - 100) << 23);

/// Scales of blocks, and what their elements are multiplied with. `odd` is NaN where a block has a
/// NaN or an infinity, and so is then its scale.
#[inline(always)]
fn scales<S: Simd>(s: S, largest: S::F, odd: S::F) -> (S::F, S::F) {
    let top = s.splat(127.0);
    let inverse = s.select(s.lt(largest, s.splat(TINY)), s.zero(), s.div(top, largest));
    (s.add(s.div(largest, top), odd), inverse)
}

/// The scales of up to `LANES` blocks of a row, as [`scales`] gives them.
///
/// # Safety
/// `x` must be valid for reading `blocks` blocks.
#[inline(always)]
unsafe fn row_scales<S: Simd>(s: S, x: *const f32, blocks: usize) -> (S::F, S::F) {
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
    scales(s, largest, odd)
}

/// Rounds up to [`MAX_BLOCKS`] blocks of a row to `codes` and writes their scales `step` f32
/// apart.
///
/// # Safety
/// `x` and `codes` must be valid for the blocks, `scales` for a scale of each.
#[inline(always)]
pub(super) unsafe fn row<S: Simd>(
    s: S,
    x: *const f32,
    blocks: usize,
    codes: *mut i8,
    scales: *mut f32,
    step: usize,
) {
    let (mut scale, mut inverse) = ([0f32; MAX_BLOCKS], [0f32; MAX_BLOCKS]);
    // SAFETY: the caller's contract; the arrays hold a lane for each block.
    unsafe {
        for at in (0..blocks).step_by(S::LANES) {
            let both = row_scales(s, x.add(at * BLOCK), (blocks - at).min(S::LANES));
            s.store(scale.as_mut_ptr().add(at), both.0);
            s.store(inverse.as_mut_ptr().add(at), both.1);
        }
        for b in 0..blocks {
            *scales.add(b * step) = scale[b];
            let by = s.splat(inverse[b]);
            for at in (b * BLOCK..(b + 1) * BLOCK).step_by(S::LANES) {
                s.store_i8(codes.add(at), s.mul(s.load(x.add(at)), by));
            }
        }
    }
}

/// Bytes less 128, or more by it: from unsigned codes to signed ones and back.
#[inline(always)]
fn flip_sign<S: Simd>(s: S, codes: S::F) -> S::F {
    s.xor(codes, s.splat(f32::from_bits(0x8080_8080)))
}

/// [`flip_sign`] of `len` lanes, whole vectors.
///
/// # Safety
/// `codes` must be valid for them.
#[inline(always)]
pub(super) unsafe fn flip_signs<S: Simd>(s: S, codes: *mut f32, len: usize) {
    for at in (0..len).step_by(S::LANES) {
        // SAFETY: the caller's contract.
        unsafe { s.store(codes.add(at), flip_sign(s, s.load(codes.add(at)))) };
    }
}

/// Rounds a block of each of `LANES` columns of `x`, whose rows are `stride` apart, to lanes of
/// four codes as the tile reads those of 8 bits, `codes_step` apart, and one vector of scales.
///
/// # Safety
/// `x` must be valid for [`BLOCK`] rows of a vector, `codes` for a vector in each of
/// `BLOCK / 4` rows, `scales` for one.
#[inline(always)]
pub(super) unsafe fn columns<S: Simd>(
    s: S,
    x: *const f32,
    stride: usize,
    codes: *mut f32,
    codes_step: usize,
    scales: *mut f32,
) {
    let (mut largest, mut odd) = (s.zero(), s.zero());
    // SAFETY: the caller's contract.
    unsafe {
        for p in 0..BLOCK {
            let v = s.load(x.add(p * stride));
            largest = s.max(largest, s.abs(v));
            odd = s.fma(v, s.zero(), odd);
        }
        let (scale, inverse) = self::scales(s, largest, odd);
        s.store(scales, scale);
        for q in 0..BLOCK / 4 {
            let mut four = [s.zero(); 4];
            for i in 0..4 {
                four[i] = s.mul(s.load(x.add((4 * q + i) * stride)), inverse);
            }
            let signed = s.pack_i8(four);
            let codes = codes.add(q * codes_step);
            s.store(codes, if S::SIGNED_BYTES { signed } else { flip_sign(s, signed) });
        }
    }
}
