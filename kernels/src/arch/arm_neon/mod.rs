//! Armv8-A Advanced SIMD.
//!
//! The inner loops of the register tiles, counted in the assembly (rustc 1.95) and again by
//! `tests/inner_loops.py`. No register is spilled in them; around the int8 one, a sum goes to the
//! stack and back once in 8 turns.
//!
//! | tile | multiply-adds in a turn | loads | instructions |
//! |---|---|---|---|
//! | f32, 8 rows by 3 vectors, 1 step | 24 `fmla` of 4 | 7 | 36 |
//! | int8, 4 rows by 2 vectors, 1 step of 4 | 16 `smull` of 8, and 16 to add them up | 5 | 47 |

use std::arch::aarch64::*;

use crate::simd::{Lane, Panels, Simd, tile_step};

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

/// [`Simd::dot_bytes`] of signed bytes. Sums of two products fit 16 bits where -128 meets 127 at
/// most; where it meets itself they are widened, which takes six instructions instead of four.
#[inline]
#[target_feature(enable = "neon")]
fn dot_bytes<const BITS: usize>(a: float32x4_t, b: float32x4_t, sum: float32x4_t) -> float32x4_t {
    let (a, b) = (vreinterpretq_s8_f32(a), vreinterpretq_s8_f32(b));
    let (low, high) = (vmull_s8(vget_low_s8(a), vget_low_s8(b)), vmull_high_s8(a, b));
    let sum = vreinterpretq_s32_f32(sum);
    vreinterpretq_f32_s32(if BITS <= 8 {
        vpadalq_s16(sum, vpaddq_s16(low, high))
    } else {
        vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)))
    })
}

/// A level whose operations are those of Advanced SIMD but for a few that it has faster.
///
/// # Safety
/// A value of the type must prove that everything [`Neon`] proves is present.
pub unsafe trait NeonFamily: Copy + Send + Sync + 'static {
    /// [`Simd::GEMM_MR`]: with three vectors, 24 accumulators, 3 columns and 2 rows of the 32
    /// registers.
    const GEMM_MR: usize = 8;
    /// [`Simd::GEMM_NV`].
    const GEMM_NV: usize = 3;
    /// [`Simd::INT8_MR`].
    const INT8_MR: usize;
    /// [`Simd::HAS_DOT_BF16`].
    const HAS_DOT_BF16: bool = false;
    /// [`Simd::STEP_ROWS`].
    const STEP_ROWS: usize = 1;
    /// [`Simd::HAS_PANELS`].
    const HAS_PANELS: bool = false;

    /// [`Simd::dot_bytes`].
    #[inline(always)]
    fn dot_bytes<const BITS: usize>(
        self,
        a: float32x4_t,
        b: float32x4_t,
        sum: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: the token exists only where its instructions do.
        unsafe { dot_bytes::<BITS>(a, b, sum) }
    }

    /// The bits of [`Simd::store_bf16`].
    #[inline(always)]
    fn bf16_bits(self, v: float32x4_t) -> uint16x4_t {
        // SAFETY: the token exists only where its instructions do.
        unsafe { bf16_bits(v) }
    }

    /// [`Simd::step_bytes`].
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn step_bytes<const R: usize, const NV: usize>(
        self,
        a: *const f32,
        b: *const f32,
        sums: &mut [[float32x4_t; NV]; R],
    ) {
        tile_step!(self, a, b, sums, |x, column, sum| self.dot_bytes::<8>(column, x, sum));
    }

    /// [`Simd::step_bf16`].
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn step_bf16<const R: usize, const NV: usize>(
        self,
        a: *const f32,
        b: *const f32,
        sums: &mut [[float32x4_t; NV]; R],
    ) {
        tile_step!(self, a, b, sums, |x, column, sum| self.dot_bf16(x, column, sum));
    }

    /// [`Simd::multiply_panels`].
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn multiply_panels(self, _: Lane, _: &Panels) {
        unreachable!("a level without panels")
    }
}

// SAFETY: its own proof.
unsafe impl NeonFamily for Neon {
    // 8 sums of each kind, 2 columns and what the exact product takes of the 32 registers.
    const INT8_MR: usize = 4;
}

/// Eight f32 as four pairs of neighbours.
///
/// # Safety
/// `p` must be valid for reading eight f32.
#[inline(always)]
unsafe fn load_pairs<T: NeonFamily>(s: T, p: *const f32) -> float32x4_t {
    // SAFETY: the caller's contract.
    unsafe {
        let (low, high) = (s.bf16_bits(vld1q_f32(p)), s.bf16_bits(vld1q_f32(p.add(LANES))));
        vreinterpretq_f32_u16(vcombine_u16(low, high))
    }
}

impl<T: NeonFamily> Simd for T {
    type F = float32x4_t;
    type M = uint32x4_t;
    const LANES: usize = LANES;
    const GEMM_MR: usize = T::GEMM_MR;
    const GEMM_NV: usize = T::GEMM_NV;
    const INT8_MR: usize = T::INT8_MR;
    const INT8_NV: usize = 2;
    const HAS_DOT_BF16: bool = T::HAS_DOT_BF16;
    const SIGNED_BYTES: bool = true;
    const STEP_ROWS: usize = T::STEP_ROWS;
    const HAS_PANELS: bool = T::HAS_PANELS;

    #[inline(always)]
    fn dot_bytes<const BITS: usize>(
        self,
        a: float32x4_t,
        b: float32x4_t,
        sum: float32x4_t,
    ) -> float32x4_t {
        NeonFamily::dot_bytes::<BITS>(self, a, b, sum)
    }
    #[inline(always)]
    unsafe fn step_bytes<const BITS: usize, const R: usize, const NV: usize>(
        self,
        a: *const f32,
        b: *const f32,
        sums: &mut [[float32x4_t; NV]; R],
    ) {
        // SAFETY: the caller's contract.
        unsafe { NeonFamily::step_bytes(self, a, b, sums) };
    }
    #[inline(always)]
    unsafe fn step_bf16<const R: usize, const NV: usize>(
        self,
        a: *const f32,
        b: *const f32,
        sums: &mut [[float32x4_t; NV]; R],
    ) {
        // SAFETY: the caller's contract.
        unsafe { NeonFamily::step_bf16(self, a, b, sums) };
    }
    #[inline(always)]
    unsafe fn multiply_panels(self, lane: Lane, panels: &Panels) {
        // SAFETY: the caller's contract.
        unsafe { NeonFamily::multiply_panels(self, lane, panels) };
    }
    #[inline(always)]
    fn turn_sums<const R: usize, const NV: usize>(self, sums: &mut [[float32x4_t; NV]; R]) {
        if T::STEP_ROWS == 1 {
            return;
        }
        // Two rows of four columns or two blocks of 2 x 2: one has the halves of the other.
        for r in (0..R).step_by(2) {
            for v in 0..NV {
                // SAFETY: the token exists only where its instructions do.
                unsafe {
                    let two = [r, r + 1].map(|r| vreinterpretq_f64_f32(sums[r][v]));
                    sums[r][v] = vreinterpretq_f32_f64(vzip1q_f64(two[0], two[1]));
                    sums[r + 1][v] = vreinterpretq_f32_f64(vzip2q_f64(two[0], two[1]));
                }
            }
        }
    }

    #[inline(always)]
    fn spread<const C: usize>(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: the token exists only where its instructions do.
        unsafe {
            match C {
                0 => vdupq_laneq_f32::<0>(a),
                1 => vdupq_laneq_f32::<1>(a),
                2 => vdupq_laneq_f32::<2>(a),
                _ => vdupq_laneq_f32::<3>(a),
            }
        }
    }
    #[inline(always)]
    fn shift_left<const BITS: u32>(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: the token exists only where its instructions do.
        unsafe {
            let by = vdupq_n_s32(BITS as i32);
            vreinterpretq_f32_u32(vshlq_u32(vreinterpretq_u32_f32(a), by))
        }
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: the token exists only where its instructions do.
        unsafe {
            let by = vdupq_n_s32(-(BITS as i32));
            vreinterpretq_f32_u32(vshlq_u32(vreinterpretq_u32_f32(a), by))
        }
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
        unsafe fn store_bf16(self, p: *mut u16, v: float32x4_t) {
            vst1_u16(p, NeonFamily::bf16_bits(self, v));
        }
        fn pair_bf16(self, even: float32x4_t, odd: float32x4_t) -> float32x4_t {
            let (even, odd) = (NeonFamily::bf16_bits(self, even), NeonFamily::bf16_bits(self, odd));
            let pairs = vcombine_u16(vzip1_u16(even, odd), vzip2_u16(even, odd));
            vreinterpretq_f32_u16(pairs)
        }

        fn even(self, a: float32x4_t, b: float32x4_t) -> float32x4_t { vuzp1q_f32(a, b) }
        fn lookup(self, table: &[f32; 16], a: float32x4_t) -> float32x4_t {
            // Entry i is bytes 4 i to 4 i + 3.
            let at = vandq_u32(vreinterpretq_u32_f32(a), vdupq_n_u32(15));
            let at = vmlaq_n_u32(vdupq_n_u32(0x0302_0100), at, 0x0404_0404);
            let bytes = vqtbl4q_u8(vld1q_u8_x4(table.as_ptr().cast()), vreinterpretq_u8_u32(at));
            vreinterpretq_f32_u8(bytes)
        }
        fn add_i32(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            let (a, b) = (vreinterpretq_s32_f32(a), vreinterpretq_s32_f32(b));
            vreinterpretq_f32_s32(vaddq_s32(a, b))
        }
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

        unsafe fn transpose_pairs(
            self, src: *const f32, src_stride: usize, dst: *mut f32, dst_stride: usize, n: usize
        ) {
            let row = |i: usize| src.add(i.min(n - 1) * src_stride);
            let [a, b] = [load_pairs(self, row(0)), load_pairs(self, row(1))];
            let columns = transpose_4(a, b, load_pairs(self, row(2)), load_pairs(self, row(3)));
            for (i, column) in columns.into_iter().enumerate() {
                let to = dst.add(i * dst_stride);
                if n == LANES { self.store(to, column) } else { self.store_n(to, column, n) }
            }
        }

        fn convert_i32(self, a: float32x4_t) -> float32x4_t {
            vcvtq_f32_s32(vreinterpretq_s32_f32(a))
        }
        fn round_i32(self, a: float32x4_t) -> float32x4_t {
            vreinterpretq_f32_s32(vcvtnq_s32_f32(a))
        }
        fn bits(self, m: uint32x4_t) -> u32 {
            let lane: [u32; 4] = [1, 2, 4, 8];
            vaddvq_u32(vandq_u32(m, vld1q_u32(lane.as_ptr())))
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

        fn high_nibbles(self, a: float32x4_t) -> float32x4_t {
            vreinterpretq_f32_u8(vshrq_n_u8::<4>(vreinterpretq_u8_f32(a)))
        }
        fn widen_nibble(self, a: float32x4_t, byte: usize, center: float32x4_t) -> float32x4_t {
            let down = vdupq_n_s32(-(8 * byte as i32));
            let code = vandq_u32(vshlq_u32(vreinterpretq_u32_f32(a), down), vdupq_n_u32(15));
            vsubq_f32(vcvtq_f32_u32(code), center)
        }
        fn widen_byte(self, a: float32x4_t, byte: usize) -> float32x4_t {
            let top = vshlq_s32(vreinterpretq_s32_f32(a), vdupq_n_s32(24 - 8 * byte as i32));
            vcvtq_f32_s32(vshrq_n_s32::<24>(top))
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
