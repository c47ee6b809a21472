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

/// The scales of up to `LANES` blocks of a row, as [`scales`] gives them, but that a NaN or an infinity
/// is in those of all: whatever is summed over the row is NaN then.
///
/// # Safety
/// `x` must be valid for reading `blocks` blocks.
#[inline(always)]
unsafe fn row_scales<S: Simd>(s: S, x: *const f32, blocks: usize) -> (S::F, S::F) {
    let (mut most, mut odd) = ([s.zero(); MAX_LANES], [s.zero(); 2]);
    for b in 0..blocks {
        for (i, at) in (b * BLOCK..(b + 1) * BLOCK).step_by(S::LANES).enumerate() {
            // SAFETY: the caller's contract.
            let v = unsafe { s.load(x.add(at)) };
            most[b] = s.max(most[b], s.abs(v));
            // 0 times infinity or NaN is NaN, which a maximum may drop but a sum keeps.
            odd[i % 2] = s.fma(v, s.zero(), odd[i % 2]);
        }
    }
    // Half as many vectors each time, of half as many lanes a block; in the end, a lane a block. By a
    // transpose through memory it took twice as long.
    let pairs = |v| s.max(v, s.odd_to_even(v));
    let mut n = S::LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            most[i] = s.even(pairs(most[2 * i]), pairs(most[2 * i + 1]));
        }
    }
    scales(s, most[0], s.splat(s.sum(s.add(odd[0], odd[1]))))
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
