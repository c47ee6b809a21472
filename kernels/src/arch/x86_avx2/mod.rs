//! AVX2 with FMA and F16C.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use crate::simd::Simd;

/// Proof that AVX2, FMA and F16C are present, and what [`Bytes`] multiplies bytes with.
#[derive(Clone, Copy, Debug)]
pub struct Level<B>(PhantomData<B>);

/// AVX2 alone.
pub type Avx2 = Level<Pairs>;

impl<B: Bytes> Level<B> {
    /// The token.
    ///
    /// # Safety
    /// The processor must have AVX2, FMA, F16C and what `B` asks for.
    #[inline(always)]
    pub const unsafe fn new_unchecked() -> Self {
        Self(PhantomData)
    }
}

/// How a level with AVX2 multiplies bytes.
pub trait Bytes: Copy + Send + Sync + 'static {
    /// [`Simd::INT8_MR`] and [`Simd::INT8_NV`].
    const TILE: [usize; 2];

    /// [`Simd::dot_bytes`].
    ///
    /// # Safety
    /// The processor must have AVX2 and what the implementor asks for.
    unsafe fn dot_bytes<const BITS: usize>(a: __m256, b: __m256, sum: __m256) -> __m256;
}

/// By sums of pairs of products; it asks for AVX2 only.
#[derive(Clone, Copy, Debug)]
pub struct Pairs;

impl Bytes for Pairs {
    // 4 sums of each kind, 1 column, 1 broadcast, a constant and what the exact product takes of
    // the 16 registers.
    const TILE: [usize; 2] = [4, 1];

    #[inline(always)]
    unsafe fn dot_bytes<const BITS: usize>(a: __m256, b: __m256, sum: __m256) -> __m256 {
        // SAFETY: the caller's contract.
        unsafe { dot_bytes::<BITS>(a, b, sum) }
    }
}

/// All-ones in the first `n` lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn first_lanes(n: usize) -> __m256i {
    let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lane)
}

/// Sum of eight lanes: halves, then quarters, then pairs.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::arch) fn sum(v: __m256) -> f32 {
    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
}

/// Greatest of eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::arch) fn max_lane(v: __m256) -> f32 {
    let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
}

/// The bits of a bfloat16 in the low half of each lane, rounded to nearest even.
#[inline]
#[target_feature(enable = "avx2")]
fn bf16_bits(v: __m256) -> __m256i {
    let bits = _mm256_castps_si256(v);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let even = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
    let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
    _mm256_srli_epi32::<16>(_mm256_blendv_epi8(even, quiet, nan))
}

/// Transposes 8 vectors of 8 lanes: pairs of rows, then fours, then the halves of vectors.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose_8(rows: &[__m256; 8]) -> [__m256; 8] {
    let mut fours = *rows;
    for g in (0..8).step_by(4) {
        let low = |a, b| _mm256_castps_pd(_mm256_unpacklo_ps(rows[g + a], rows[g + b]));
        let high = |a, b| _mm256_castps_pd(_mm256_unpackhi_ps(rows[g + a], rows[g + b]));
        let (a, b, c, d) = (low(0, 1), low(2, 3), high(0, 1), high(2, 3));
        fours[g] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
        fours[g + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
        fours[g + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(c, d));
        fours[g + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(c, d));
    }
    let mut out = *rows;
    for c in 0..4 {
        out[c] = _mm256_permute2f128_ps::<0x20>(fours[c], fours[c + 4]);
        out[c + 4] = _mm256_permute2f128_ps::<0x31>(fours[c], fours[c + 4]);
    }
    out
}

/// [`Simd::dot_bytes`]. The instruction that adds pairs of byte products saturates at 16 bits, which
/// two products of 7 bits cannot reach; with 8 bits the bytes are widened first.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_bytes<const BITS: usize>(a: __m256, b: __m256, sum: __m256) -> __m256 {
    let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
    let dot = if BITS <= 7 {
        _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1))
    } else {
        let even = _mm256_and_si256(a, _mm256_set1_epi16(0xff));
        let even = _mm256_madd_epi16(even, _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(b)));
        let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(a), _mm256_srai_epi16::<8>(b));
        _mm256_add_epi32(even, odd)
    };
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), dot))
}

/// [`Simd::sum_each`]: pairs of lanes of all four, then fours, then the halves of vectors.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_each(v: [__m256; 4]) -> [f32; 4] {
    let pairs = |a, b| _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let (low, high) = (_mm256_castps_pd(pairs(v[0], v[1])), _mm256_castps_pd(pairs(v[2], v[3])));
    let fours = _mm256_add_ps(
        _mm256_castpd_ps(_mm256_unpacklo_pd(low, high)),
        _mm256_castpd_ps(_mm256_unpackhi_pd(low, high)),
    );
    let sums = _mm_add_ps(_mm256_castps256_ps128(fours), _mm256_extractf128_ps::<1>(fours));
    let mut out = [0.0; 4];
    // SAFETY: four f32.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), sums) };
    out
}

impl<B: Bytes> Simd for Level<B> {
    type F = __m256;
    type M = __m256;
    const LANES: usize = 8;
    // 12 accumulators, 2 columns and 1 broadcast of the 16 registers.
    const GEMM_MR: usize = 6;
    const GEMM_NV: usize = 2;
    const INT8_MR: usize = B::TILE[0];
    const INT8_NV: usize = B::TILE[1];

    #[inline(always)]
    fn dot_bytes<const BITS: usize>(self, a: __m256, b: __m256, sum: __m256) -> __m256 {
        // SAFETY: the token exists only where its instructions do.
        unsafe { B::dot_bytes::<BITS>(a, b, sum) }
    }
    #[inline(always)]
    fn shift_left<const BITS: u32>(self, a: __m256) -> __m256 {
        // SAFETY: the token exists only where its instructions do.
        unsafe {
            let by = _mm_cvtsi32_si128(BITS as i32);
            _mm256_castsi256_ps(_mm256_sll_epi32(_mm256_castps_si256(a), by))
        }
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self, a: __m256) -> __m256 {
        // SAFETY: the token exists only where its instructions do.
        unsafe {
            let by = _mm_cvtsi32_si128(BITS as i32);
            _mm256_castsi256_ps(_mm256_srl_epi32(_mm256_castps_si256(a), by))
        }
    }

    #[inline(always)]
    unsafe fn load_fours<T, const AT: usize>(self, p: *const T, n: usize) -> __m256 {
        // SAFETY: the token exists only where its instructions do; the caller's contract.
        unsafe {
            let four = |i| _mm_loadu_si128(p.add(i).cast::<u16>().add(AT).cast());
            let low = _mm256_zextsi128_si256(four(0));
            let both = if n < 2 { low } else { _mm256_inserti128_si256::<1>(low, four(1)) };
            _mm256_castsi256_ps(both)
        }
    }
    #[inline(always)]
    fn spread<const C: usize>(self, a: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe {
            match C {
                0 => _mm256_permute_ps::<0x00>(a),
                1 => _mm256_permute_ps::<0x55>(a),
                2 => _mm256_permute_ps::<0xaa>(a),
                _ => _mm256_permute_ps::<0xff>(a),
            }
        }
    }

    token_methods! {
        fn splat(self, x: f32) -> __m256 { _mm256_set1_ps(x) }
        unsafe fn load(self, p: *const f32) -> __m256 { _mm256_loadu_ps(p) }
        fn prefetch(self, p: *const f32) { _mm_prefetch::<_MM_HINT_T0>(p.cast()); }
        unsafe fn load_n(self, p: *const f32, n: usize) -> __m256 {
            _mm256_maskload_ps(p, first_lanes(n))
        }
        unsafe fn store(self, p: *mut f32, v: __m256) { _mm256_storeu_ps(p, v); }
        unsafe fn store_n(self, p: *mut f32, v: __m256, n: usize) {
            _mm256_maskstore_ps(p, first_lanes(n), v);
        }
        unsafe fn load_f16(self, p: *const u16) -> __m256 {
            _mm256_cvtph_ps(_mm_loadu_si128(p.cast()))
        }
        unsafe fn load_bf16(self, p: *const u16) -> __m256 {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
        unsafe fn load_i8(self, p: *const i8) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())))
        }
        unsafe fn load_u8(self, p: *const u8) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())))
        }
        unsafe fn load_low_nibbles(self, p: *const u8) -> __m256 {
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
            _mm256_cvtepi32_ps(_mm256_and_si256(bytes, _mm256_set1_epi32(15)))
        }
        unsafe fn load_high_nibbles(self, p: *const u8) -> __m256 {
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
            _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(bytes))
        }
        unsafe fn store_f16(self, p: *mut u16, v: __m256) {
            _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v));
        }
        unsafe fn store_bf16(self, p: *mut u16, v: __m256) {
            let bits = bf16_bits(v);
            let low = _mm256_castsi256_si128(bits);
            let high = _mm256_extracti128_si256::<1>(bits);
            _mm_storeu_si128(p.cast(), _mm_packus_epi32(low, high));
        }

        unsafe fn transpose(
            self, src: *const f32, src_stride: usize, dst: *mut f32, dst_stride: usize, n: usize
        ) {
            let mut rows = [_mm256_setzero_ps(); 8];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = _mm256_loadu_ps(src.add(i.min(n - 1) * src_stride));
            }
            let lanes = first_lanes(n);
            for (i, column) in transpose_8(&rows).into_iter().enumerate() {
                _mm256_maskstore_ps(dst.add(i * dst_stride), lanes, column);
            }
        }

        fn convert_i32(self, a: __m256) -> __m256 { _mm256_cvtepi32_ps(_mm256_castps_si256(a)) }
        fn round_i32(self, a: __m256) -> __m256 { _mm256_castsi256_ps(_mm256_cvtps_epi32(a)) }
        fn bits(self, m: __m256) -> u32 { _mm256_movemask_ps(m).cast_unsigned() }
        fn lookup(self, table: &[f32; 16], a: __m256) -> __m256 {
            let at = _mm256_castps_si256(a);
            let half = |first| {
                _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr().add(first)), at)
            };
            // The fourth bit chooses the half.
            let second = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(at));
            _mm256_blendv_ps(half(0), half(8), second)
        }
        fn add_i32(self, a: __m256, b: __m256) -> __m256 {
            let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
            _mm256_castsi256_ps(_mm256_add_epi32(a, b))
        }
        fn mul_wide_u32(self, a: __m256, b: __m256) -> __m256 {
            let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
            _mm256_castsi256_ps(_mm256_mul_epu32(a, b))
        }
        fn odd_to_even(self, a: __m256) -> __m256 {
            _mm256_castsi256_ps(_mm256_srli_epi64::<32>(_mm256_castps_si256(a)))
        }
        fn even(self, a: __m256, b: __m256) -> __m256 {
            let halves = _mm256_castps_pd(_mm256_shuffle_ps::<0x88>(a, b));
            _mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(halves))
        }
        fn zip_even(self, v: [__m256; 4]) -> [__m256; 2] {
            let pair = |a, b| _mm256_castps_pd(_mm256_blend_ps::<0xaa>(a, _mm256_moveldup_ps(b)));
            let (low, high) = (pair(v[0], v[1]), pair(v[2], v[3]));
            let even = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
            [even, _mm256_castpd_ps(_mm256_unpackhi_pd(low, high))]
        }
        unsafe fn store_i8(self, p: *mut i8, v: __m256) {
            let whole = _mm256_cvtps_epi32(v);
            let high = _mm256_extracti128_si256::<1>(whole);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(whole), high);
            _mm_storel_epi64(p.cast(), _mm_packs_epi16(words, words));
        }
        fn pack_i8(self, v: [__m256; 4]) -> __m256 {
            let low = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1]));
            let high = _mm256_packs_epi32(_mm256_cvtps_epi32(v[2]), _mm256_cvtps_epi32(v[3]));
            // Each 16 bytes now hold four of each vector in turn: put them lane by lane.
            let turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let bytes = _mm256_packs_epi16(low, high);
            _mm256_castsi256_ps(_mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(turn)))
        }

        fn high_nibbles(self, a: __m256) -> __m256 {
            let words = _mm256_srli_epi16::<4>(_mm256_castps_si256(a));
            _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi8(15)))
        }
        fn widen_nibble(self, a: __m256, byte: usize, center: __m256) -> __m256 {
            let shift = _mm256_set1_epi32(8 * byte as i32);
            let code = _mm256_srlv_epi32(_mm256_castps_si256(a), shift);
            let code = _mm256_and_si256(code, _mm256_set1_epi32(15));
            _mm256_sub_ps(_mm256_cvtepi32_ps(code), center)
        }
        fn widen_byte(self, a: __m256, byte: usize) -> __m256 {
            let shift = _mm256_set1_epi32(24 - 8 * byte as i32);
            let top = _mm256_sllv_epi32(_mm256_castps_si256(a), shift);
            _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(top))
        }
        fn sum_each(self, v: [__m256; 4]) -> [f32; 4] { sum_each(v) }

        fn add(self, a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        fn sub(self, a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        fn mul(self, a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn div(self, a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        fn sqrt(self, a: __m256) -> __m256 { _mm256_sqrt_ps(a) }
        fn min(self, a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        fn max(self, a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        fn round(self, a: __m256) -> __m256 {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        fn and(self, a: __m256, b: __m256) -> __m256 { _mm256_and_ps(a, b) }
        fn or(self, a: __m256, b: __m256) -> __m256 { _mm256_or_ps(a, b) }
        fn xor(self, a: __m256, b: __m256) -> __m256 { _mm256_xor_ps(a, b) }
        fn lt(self, a: __m256, b: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_LT_OQ>(a, b) }
        fn le(self, a: __m256, b: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_LE_OQ>(a, b) }
        fn eq(self, a: __m256, b: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b) }
        fn select(self, m: __m256, a: __m256, b: __m256) -> __m256 { _mm256_blendv_ps(b, a, m) }
        fn exp2i(self, n: __m256) -> __m256 {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
        fn frexp(self, a: __m256) -> (__m256, __m256) {
            let bits = _mm256_castps_si256(a);
            let mantissa = _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff));
            let mantissa = _mm256_or_si256(mantissa, _mm256_set1_epi32(0x3f00_0000));
            let exponent = _mm256_sub_epi32(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(126));
            (_mm256_castsi256_ps(mantissa), _mm256_cvtepi32_ps(exponent))
        }
        fn sum(self, a: __m256) -> f32 { sum(a) }
        fn max_lane(self, a: __m256) -> f32 { max_lane(a) }
    }
}
