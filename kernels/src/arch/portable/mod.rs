//! The baseline of the target, through `wide`: SSE2 on x86-64, NEON on aarch64.

use half::f16;
use wide::{f32x8, u32x8};

use crate::simd::Simd;

/// The token of the baseline; every machine has it.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

const LANES: usize = 8;

/// 1.5 * 2^23: adding it leaves a float's integer part in the low mantissa bits.
const ROUNDER: f32 = 12_582_912.0;

/// Reads eight `T` from anywhere and makes a float of each.
///
/// # Safety
/// `p` must be valid for reading eight `T`.
#[inline(always)]
unsafe fn widen<T: Copy>(p: *const T, to_f32: impl Fn(T) -> f32) -> f32x8 {
    // SAFETY: the caller's contract; arrays have the alignment of their elements.
    let values = unsafe { p.cast::<[T; LANES]>().read() };
    f32x8::new(values.map(to_f32))
}

impl Simd for Portable {
    type F = f32x8;
    type M = f32x8;
    const LANES: usize = LANES;
    const HAS_LOOKUP: bool = false;
    const GEMM_MR: usize = 4;
    const GEMM_NV: usize = 1;
    const INT8_MR: usize = 4;
    const INT8_NV: usize = 1;

    #[inline(always)]
    fn splat(self, x: f32) -> f32x8 {
        f32x8::splat(x)
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> f32x8 {
        // SAFETY: the caller's contract.
        unsafe { widen(p, |x| x) }
    }
    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> f32x8 {
        let mut lanes = [0.0; LANES];
        // SAFETY: the caller vouches for `n` elements, fewer than the array has.
        unsafe { p.copy_to_nonoverlapping(lanes.as_mut_ptr(), n) };
        f32x8::new(lanes)
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: f32x8) {
        // SAFETY: the caller's contract; arrays have the alignment of their elements.
        unsafe { p.cast::<[f32; LANES]>().write(v.to_array()) }
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, v: f32x8, n: usize) {
        // SAFETY: the caller vouches for `n` elements, fewer than the array has.
        unsafe { v.as_array().as_ptr().copy_to_nonoverlapping(p, n) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> f32x8 {
        // SAFETY: the caller's contract.
        let bits = unsafe { p.cast::<[u16; LANES]>().read() };
        let bits = u32x8::new(bits.map(u32::from));
        let sign = (bits & u32x8::splat(0x8000)) << 16;
        let rest = f32x8::from_bits((bits & u32x8::splat(0x7fff)) << 13);
        // The exponents differ by 112; the product also normalises subnormal halves. What was
        // infinite or NaN lands at 2^16 and above and gets f32's all-ones exponent.
        let finite = rest * f32x8::splat(f32::from_bits((127 + 112) << 23));
        let special = f32x8::splat(65536.0).simd_le(finite) & f32x8::splat(f32::INFINITY);
        finite | special | f32x8::from_bits(sign)
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> f32x8 {
        // SAFETY: the caller's contract.
        unsafe { widen(p, |bits| f32::from_bits(u32::from(bits) << 16)) }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> f32x8 {
        // SAFETY: the caller's contract.
        unsafe { widen(p, f32::from) }
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> f32x8 {
        // SAFETY: the caller's contract.
        unsafe { widen(p, f32::from) }
    }
    #[inline(always)]
    unsafe fn load_low_nibbles(self, p: *const u8) -> f32x8 {
        // SAFETY: the caller's contract.
        unsafe { widen(p, |byte| f32::from(byte & 15)) }
    }
    #[inline(always)]
    unsafe fn load_high_nibbles(self, p: *const u8) -> f32x8 {
        // SAFETY: the caller's contract.
        unsafe { widen(p, |byte| f32::from(byte >> 4)) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, v: f32x8) {
        let halves = v.to_array().map(|x| f16::from_f32_const(x).to_bits());
        // SAFETY: the caller's contract; arrays have the alignment of their elements.
        unsafe { p.cast::<[u16; LANES]>().write(halves) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: f32x8) {
        let halves = v.to_array().map(|x| {
            let bits = x.to_bits();
            let even = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
            (if x.is_nan() { bits | 0x40_0000 } else { even } >> 16) as u16
        });
        // SAFETY: the caller's contract; arrays have the alignment of their elements.
        unsafe { p.cast::<[u16; LANES]>().write(halves) }
    }

    #[inline(always)]
    fn add(self, a: f32x8, b: f32x8) -> f32x8 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32x8, b: f32x8) -> f32x8 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32x8, b: f32x8) -> f32x8 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32x8, b: f32x8) -> f32x8 {
        a / b
    }
    #[inline(always)]
    fn fma(self, a: f32x8, b: f32x8, c: f32x8) -> f32x8 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn sqrt(self, a: f32x8) -> f32x8 {
        a.sqrt()
    }
    #[inline(always)]
    fn min(self, a: f32x8, b: f32x8) -> f32x8 {
        self.select(a.simd_lt(b), a, b)
    }
    #[inline(always)]
    fn max(self, a: f32x8, b: f32x8) -> f32x8 {
        self.select(b.simd_lt(a), a, b)
    }
    #[inline(always)]
    fn round(self, a: f32x8) -> f32x8 {
        let rounder = f32x8::splat(ROUNDER);
        (a + rounder) - rounder
    }
    #[inline(always)]
    fn and(self, a: f32x8, b: f32x8) -> f32x8 {
        a & b
    }
    #[inline(always)]
    fn or(self, a: f32x8, b: f32x8) -> f32x8 {
        a | b
    }
    #[inline(always)]
    fn xor(self, a: f32x8, b: f32x8) -> f32x8 {
        a ^ b
    }
    #[inline(always)]
    fn lt(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_lt(b)
    }
    #[inline(always)]
    fn le(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_le(b)
    }
    #[inline(always)]
    fn eq(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_eq(b)
    }
    #[inline(always)]
    fn select(self, m: f32x8, a: f32x8, b: f32x8) -> f32x8 {
        m.bitselect(a, b)
    }
    #[inline(always)]
    fn exp2i(self, n: f32x8) -> f32x8 {
        f32x8::from_bits((n + f32x8::splat(ROUNDER + 127.0)).to_bits() << 23)
    }
    #[inline(always)]
    fn frexp(self, a: f32x8) -> (f32x8, f32x8) {
        let bits = a.to_bits();
        let mantissa = bits & u32x8::splat(0x007f_ffff) | u32x8::splat(0x3f00_0000);
        // Small integers become floats by taking the low bits of 2^23's mantissa.
        let two_23 = f32x8::splat(8_388_608.0);
        let exponent = f32x8::from_bits(bits >> 23) | two_23;
        (f32x8::from_bits(mantissa), exponent - two_23 - f32x8::splat(126.0))
    }
    #[inline(always)]
    fn sum(self, a: f32x8) -> f32 {
        let v = a.to_array();
        ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    }
    #[inline(always)]
    fn max_lane(self, a: f32x8) -> f32 {
        a.to_array().into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}
