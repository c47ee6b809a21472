//! Armv8-A Advanced SIMD.

use std::arch::aarch64::*;

use crate::simd::Simd;

/// Proof that Advanced SIMD is present.
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

impl Neon {
    /// The token.
    ///
    /// # Safety
    /// The processor must have Advanced SIMD.
    #[inline(always)]
    pub const unsafe fn new_unchecked() -> Self {
        Self(())
    }
}

const LANES: usize = 4;

/// Four bytes from anywhere, in the low half of a vector.
///
/// # Safety
/// `p` must be valid for reading four bytes.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load_bytes(p: *const u8) -> uint8x8_t {
    // SAFETY: the caller's contract.
    vcreate_u8(u64::from(unsafe { p.cast::<u32>().read_unaligned() }))
}

/// The first four bytes as floats.
#[inline]
#[target_feature(enable = "neon")]
fn widen_u8(bytes: uint8x8_t) -> float32x4_t {
    vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))))
}

/// A bfloat16 for each lane, rounded to nearest even.
#[inline]
#[target_feature(enable = "neon")]
fn bf16_bits(v: float32x4_t) -> uint16x4_t {
    let bits = vreinterpretq_u32_f32(v);
    let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
    let even = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    let quiet = vorrq_u32(bits, vdupq_n_u32(0x40_0000));
    vshrn_n_u32::<16>(vbslq_u32(vceqq_f32(v, v), even, quiet))
}

/// Transposes four vectors: pairs of rows, then the halves of vectors.
#[inline]
#[target_feature(enable = "neon")]
fn transpose_4(a: float32x4_t, b: float32x4_t, c: float32x4_t, d: float32x4_t) -> [float32x4_t; 4] {
    let pairs = |x, y| vreinterpretq_f64_f32(vtrn1q_f32(x, y));
    let others = |x, y| vreinterpretq_f64_f32(vtrn2q_f32(x, y));
    let (even, odd) = ((pairs(a, b), pairs(c, d)), (others(a, b), others(c, d)));
    [
        vreinterpretq_f32_f64(vtrn1q_f64(even.0, even.1)),
        vreinterpretq_f32_f64(vtrn1q_f64(odd.0, odd.1)),
        vreinterpretq_f32_f64(vtrn2q_f64(even.0, even.1)),
        vreinterpretq_f32_f64(vtrn2q_f64(odd.0, odd.1)),
    ]
}

/// [`Simd::dot_u8i8`]. Every product fits 16 bits; sums of two do not, so pairs are widened.
#[inline]
#[target_feature(enable = "neon")]
fn dot_u8i8<const BITS: usize>(a: float32x4_t, b: float32x4_t, sum: float32x4_t) -> float32x4_t {
    let b = vreinterpretq_s8_f32(b);
    let (low, high) = if BITS <= 7 {
        let a = vreinterpretq_s8_f32(a);
        (vmull_s8(vget_low_s8(a), vget_low_s8(b)), vmull_high_s8(a, b))
    } else {
        let a = vreinterpretq_u8_f32(a);
        let low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(a)));
        let high = vreinterpretq_s16_u16(vmovl_high_u8(a));
        (vmulq_s16(low, vmovl_s8(vget_low_s8(b))), vmulq_s16(high, vmovl_high_s8(b)))
    };
    let fours = vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
    vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(sum), fours))
}

impl Simd for Neon {
    type F = float32x4_t;
    type M = uint32x4_t;
    const LANES: usize = LANES;
    // 24 accumulators, 3 columns and 2 quads of broadcasts of the 32 registers.
    const GEMM_MR: usize = 8;
    const GEMM_NV: usize = 3;
    // 8 sums of each kind, 2 columns and what the exact product takes of the 32 registers.
    const INT8_MR: usize = 4;
    const INT8_NV: usize = 2;

    #[inline(always)]
    fn dot_u8i8<const BITS: usize>(
        self,
        a: float32x4_t,
        b: float32x4_t,
        sum: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: the token exists only where its instructions do.
        unsafe { dot_u8i8::<BITS>(a, b, sum) }
    }

    token_methods! {
        fn splat(self, x: f32) -> float32x4_t { vdupq_n_f32(x) }
        unsafe fn load(self, p: *const f32) -> float32x4_t { vld1q_f32(p) }
        unsafe fn load_n(self, p: *const f32, n: usize) -> float32x4_t {
            let mut lanes = [0.0; LANES];
            p.copy_to_nonoverlapping(lanes.as_mut_ptr(), n);
            vld1q_f32(lanes.as_ptr())
        }
        unsafe fn store(self, p: *mut f32, v: float32x4_t) { vst1q_f32(p, v); }
        unsafe fn store_n(self, p: *mut f32, v: float32x4_t, n: usize) {
            let mut lanes = [0.0; LANES];
            vst1q_f32(lanes.as_mut_ptr(), v);
            lanes.as_ptr().copy_to_nonoverlapping(p, n);
        }
        unsafe fn load_f16(self, p: *const u16) -> float32x4_t {
            vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))
        }
        unsafe fn load_bf16(self, p: *const u16) -> float32x4_t {
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p)))
        }
        unsafe fn load_i8(self, p: *const i8) -> float32x4_t {
            let bytes = vreinterpret_s8_u8(load_bytes(p.cast()));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
        }
        unsafe fn load_u8(self, p: *const u8) -> float32x4_t { widen_u8(load_bytes(p)) }
        unsafe fn load_low_nibbles(self, p: *const u8) -> float32x4_t {
            widen_u8(vand_u8(load_bytes(p), vdup_n_u8(15)))
        }
        unsafe fn load_high_nibbles(self, p: *const u8) -> float32x4_t {
            widen_u8(vshr_n_u8::<4>(load_bytes(p)))
        }
        unsafe fn store_f16(self, p: *mut u16, v: float32x4_t) {
            vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
        }
        unsafe fn store_bf16(self, p: *mut u16, v: float32x4_t) { vst1_u16(p, bf16_bits(v)); }

        unsafe fn transpose(
            self, src: *const f32, src_stride: usize, dst: *mut f32, dst_stride: usize, n: usize
        ) {
            let row = |i: usize| vld1q_f32(src.add(i.min(n - 1) * src_stride));
            let columns = transpose_4(row(0), row(1), row(2), row(3));
            for (i, column) in columns.into_iter().enumerate() {
                let to = dst.add(i * dst_stride);
                if n == LANES { self.store(to, column) } else { self.store_n(to, column, n) }
            }
        }

        fn convert_i32(self, a: float32x4_t) -> float32x4_t {
            vcvtq_f32_s32(vreinterpretq_s32_f32(a))
        }
        unsafe fn store_i8(self, p: *mut i8, v: float32x4_t) {
            let words = vqmovn_s32(vcvtnq_s32_f32(v));
            let bytes = vreinterpret_u32_s8(vqmovn_s16(vcombine_s16(words, words)));
            p.cast::<u32>().write_unaligned(vget_lane_u32::<0>(bytes));
        }
        fn pack_i8(self, v: [float32x4_t; 4]) -> float32x4_t {
            let low = vsliq_n_s32::<8>(vcvtnq_s32_f32(v[0]), vcvtnq_s32_f32(v[1]));
            let high = vsliq_n_s32::<8>(vcvtnq_s32_f32(v[2]), vcvtnq_s32_f32(v[3]));
            vreinterpretq_f32_s32(vsliq_n_s32::<16>(low, high))
        }

        fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t { vaddq_f32(a, b) }
        fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t { vsubq_f32(a, b) }
        fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t { vmulq_f32(a, b) }
        fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t { vdivq_f32(a, b) }
        fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            vfmaq_f32(c, a, b)
        }
        fn sqrt(self, a: float32x4_t) -> float32x4_t { vsqrtq_f32(a) }
        fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vbslq_f32(vcltq_f32(a, b), a, b)
        }
        fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vbslq_f32(vcgtq_f32(a, b), a, b)
        }
        fn round(self, a: float32x4_t) -> float32x4_t { vrndnq_f32(a) }
        fn and(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)))
        }
        fn or(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)))
        }
        fn xor(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)))
        }
        fn lt(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t { vcltq_f32(a, b) }
        fn le(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t { vcleq_f32(a, b) }
        fn eq(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t { vceqq_f32(a, b) }
        fn select(self, m: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vbslq_f32(m, a, b)
        }
        fn exp2i(self, n: float32x4_t) -> float32x4_t {
            let biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        }
        fn frexp(self, a: float32x4_t) -> (float32x4_t, float32x4_t) {
            let bits = vreinterpretq_s32_f32(a);
            let mantissa = vandq_s32(bits, vdupq_n_s32(0x007f_ffff));
            let mantissa = vorrq_s32(mantissa, vdupq_n_s32(0x3f00_0000));
            let exponent = vsubq_s32(vshrq_n_s32::<23>(bits), vdupq_n_s32(126));
            (vreinterpretq_f32_s32(mantissa), vcvtq_f32_s32(exponent))
        }
        fn sum(self, a: float32x4_t) -> f32 {
            let pair = vadd_f32(vget_low_f32(a), vget_high_f32(a));
            vget_lane_f32::<0>(pair) + vget_lane_f32::<1>(pair)
        }
        fn max_lane(self, a: float32x4_t) -> f32 { vmaxvq_f32(a) }
    }
}
