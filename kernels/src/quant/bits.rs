//! What the block formats share: scales, code extraction, packing.

use half::f16;

use crate::simd::Simd;

/// Lanes of the widest level.
const MAX_LANES: usize = 16;

/// A half-precision scale.
#[inline(always)]
pub(super) fn half(bits: [u8; 2]) -> f32 {
    f16::from_le_bytes(bits).to_f32()
}

/// `x` rounded to half precision, as stored and as read back.
#[inline(always)]
pub(super) fn to_half(x: f32) -> ([u8; 2], f32) {
    let rounded = f16::from_f32(x);
    (rounded.to_le_bytes(), rounded.to_f32())
}

/// A half-precision scale in all lanes.
#[inline(always)]
pub(super) fn splat_half<S: Simd>(s: S, bits: [u8; 2]) -> S::F {
    const { assert!(S::LANES <= MAX_LANES) }
    // Becomes a broadcast and a conversion in registers; the scalar conversion of `half` asks
    // for F16C at run time on each call.
    let lanes = [u16::from_le_bytes(bits); MAX_LANES];
    // SAFETY: the array has at least `LANES` elements.
    unsafe { s.load_f16(lanes.as_ptr()) }
}

/// Code `i` of 32 four-bit codes: the first 16 in the low nibbles, the rest in the high.
#[inline(always)]
pub(super) fn nibble(packed: &[u8; 16], i: usize) -> u8 {
    if i < 16 { packed[i] & 15 } else { packed[i - 16] >> 4 }
}

/// All 32 four-bit codes, as bytes in order.
#[inline(always)]
pub(super) fn unpack_nibbles(packed: &[u8; 16]) -> [u8; 32] {
    let mut codes = [0; 32];
    for i in 0..16 {
        codes[i] = packed[i] & 15;
        codes[i + 16] = packed[i] >> 4;
    }
    codes
}

/// Packs the low four bits of 32 codes so that [`nibble`] finds them.
#[inline(always)]
pub(super) fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| codes[i] & 15 | codes[i + 16] << 4)
}

/// Bit 4 of each of 32 codes, code `i`'s in bit `i`.
#[inline(always)]
pub(super) fn pack_fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    std::array::from_fn(|byte| (0..8).fold(0, |bits, i| bits | (codes[byte * 8 + i] >> 4 & 1) << i))
}

/// Code `i` of 32 five-bit codes.
#[inline(always)]
pub(super) fn five_bits(fifth: [u8; 4], packed: &[u8; 16], i: usize) -> u8 {
    nibble(packed, i) | (fifth[i / 8] >> (i % 8) & 1) << 4
}

/// All 32 five-bit codes, as bytes.
#[inline(always)]
pub(super) fn unpack_five_bits(fifth: [u8; 4], packed: &[u8; 16]) -> [u8; 32] {
    // Eight codes at a time in a u64: one by one it took nine times as long.
    let mut codes = [0; 32];
    let (low, high) = codes.split_at_mut(16);
    for half in 0..2 {
        let mut nibbles = [0; 8];
        nibbles.copy_from_slice(&packed[half * 8..][..8]);
        let nibbles = u64::from_le_bytes(nibbles);
        let low_codes = (nibbles & (EACH * 15)) | spread_bits(fifth[half]);
        let high_codes = ((nibbles >> 4) & (EACH * 15)) | spread_bits(fifth[half + 2]);
        low[half * 8..][..8].copy_from_slice(&low_codes.to_le_bytes());
        high[half * 8..][..8].copy_from_slice(&high_codes.to_le_bytes());
    }
    codes
}

/// 1 in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;

/// Bit `i` as bit 4 of byte `i`.
#[inline(always)]
fn spread_bits(bits: u8) -> u64 {
    let own_bit = (u64::from(bits) * EACH) & 0x8040_2010_0804_0201;
    // Carries into bit 7 of a byte exactly where its bit was set.
    ((own_bit + EACH * 0x7f) >> 3) & (EACH * 16)
}

/// The nearest integer, ties to even, for |x| below 2^22; a library call less than
/// [`f32::round_ties_even`] on baselines without the instruction.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    (x + SHIFT) - SHIFT
}

/// To which whole numbers are added for their bits to be the lowest of the sum.
const SHIFT: f32 = 12_582_912.0;

/// `dst[i] = (code[i] - center) * scale` for the 32 codes of `packed`.
///
/// # Safety
/// `dst` must be valid for writing 32 f32.
#[inline(always)]
pub(super) unsafe fn scale_nibbles<S: Simd>(
    s: S,
    packed: &[u8; 16],
    center: f32,
    scale: S::F,
    dst: *mut f32,
) {
    let center = s.splat(center);
    for i in (0..16).step_by(S::LANES) {
        // SAFETY: `LANES` divides 16; the caller's contract.
        unsafe {
            let low = s.sub(s.load_low_nibbles(packed.as_ptr().add(i)), center);
            let high = s.sub(s.load_high_nibbles(packed.as_ptr().add(i)), center);
            s.store(dst.add(i), s.mul(low, scale));
            s.store(dst.add(i + 16), s.mul(high, scale));
        }
    }
}

/// `dst[i] = code[i] * scale + offset` for `codes`, whose number 16 divides.
///
/// # Safety
/// `dst` must be valid for writing as many f32.
#[inline(always)]
pub(super) unsafe fn affine_bytes<S: Simd>(
    s: S,
    codes: &[u8],
    scale: S::F,
    offset: S::F,
    dst: *mut f32,
) {
    for i in (0..codes.len()).step_by(S::LANES) {
        // SAFETY: `LANES` divides 16 and so the number of codes; the caller's contract.
        unsafe {
            let code = s.load_u8(codes.as_ptr().add(i));
            s.store(dst.add(i), s.fma(code, scale, offset));
        }
    }
}

/// `dst[i] = code[i] * scale` for signed `codes`, whose number 16 divides.
///
/// # Safety
/// `dst` must be valid for writing as many f32.
#[inline(always)]
pub(super) unsafe fn scale_bytes<S: Simd>(s: S, codes: &[i8], scale: S::F, dst: *mut f32) {
    for i in (0..codes.len()).step_by(S::LANES) {
        // SAFETY: `LANES` divides 16 and so the number of codes; the caller's contract.
        unsafe { s.store(dst.add(i), s.mul(s.load_i8(codes.as_ptr().add(i)), scale)) };
    }
}

/// `1 / x`, 0 for 0.
#[inline(always)]
pub(super) fn reciprocal(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// Elements that are compared side by side. One after another they wait for each other, and nothing
/// becomes vectors: encoding Q8_0 went at 1.5 instead of 9.7 GB/s.
const SIDE: usize = 16;

/// `pick` of all elements, whose number 16 divides, and `start`.
#[inline(always)]
fn reduce(x: &[f32], start: f32, pick: impl Fn(f32, f32) -> f32) -> f32 {
    let mut best = [start; SIDE];
    for part in x.chunks_exact(SIDE) {
        for i in 0..SIDE {
            best[i] = pick(part[i], best[i]);
        }
    }
    let mut width = SIDE;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            best[i] = pick(best[i + width], best[i]);
        }
    }
    best[0]
}

/// The element of largest magnitude, the first of several.
#[inline(always)]
pub(super) fn extreme(x: &[f32]) -> f32 {
    let most = reduce(x, 0.0, |v, best| if v.abs() > best { v.abs() } else { best });
    x.iter().copied().find(|v| v.abs() == most && most > 0.0).unwrap_or(0.0)
}

/// Least and greatest element.
#[inline(always)]
pub(super) fn range(x: &[f32]) -> (f32, f32) {
    let least = reduce(x, f32::INFINITY, |v, best| if v < best { v } else { best });
    let most = reduce(x, f32::NEG_INFINITY, |v, best| if v > best { v } else { best });
    (least, most)
}

/// Codes `trunc((x - base) * inverse + bias)`, at most `top`.
#[inline(always)]
pub(super) fn codes(x: &[f32], base: f32, inverse: f32, bias: f32, top: u8) -> [u8; 32] {
    let mut codes = [0; 32];
    for i in 0..32 {
        let code = (x[i] - base) * inverse + bias;
        let code = if code > 0.0 { code } else { 0.0 };
        let code = if code < f32::from(top) { code } else { f32::from(top) };
        let near = round(code);
        codes[i] = byte(if near > code { near - 1.0 } else { near });
    }
    codes
}

/// A whole number of -128 to 255 as a byte. Conversions that saturate, as Rust's do, stay one element
/// at a time.
#[inline(always)]
pub(super) fn byte(x: f32) -> u8 {
    (x + SHIFT).to_bits() as u8
}
