//! AVX-512 F, BW, DQ, VL.

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::mem::transmute;

use super::x86_avx2;
use crate::simd::Simd;

/// Proof that AVX-512 F, BW, DQ and VL are present, with everything of [`x86_avx2`].
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// The token.
    ///
    /// # Safety
    /// The processor must have AVX-512 F, BW, DQ and VL.
    #[inline(always)]
    pub const unsafe fn new_unchecked() -> Self {
        Self(())
    }
}

/// A level whose f32 operations are those of AVX-512.
///
/// # Safety
/// A value of the type must prove that everything [`Avx512`] proves is present.
pub unsafe trait Avx512Family: Copy + Send + Sync + 'static {
    /// [`Simd::GEMM_MR`] and [`Simd::GEMM_NV`]: 24 accumulators, 3 columns and 1 broadcast of the 32
    /// registers. Ice Lake, 512 cubed and 256 x 576 x 1536: 121 and 106 GFLOP/s with 14 by 2, whose
    /// loads are 16 for 28 products in the place of 11 for 24, and 138 and 95 with these, then 149 and
    /// 124 with [`Avx512Family::GEMM_AHEAD`]. All chips without bfloat16 products are Intel's.
    const GEMM_TILE: [usize; 2] = [8, 3];
    /// [`Simd::GEMM_AHEAD`]. Ice Lake, 1024 cubed: 98 to 124 GFLOP/s; 4 to 24 are alike.
    const GEMM_AHEAD: usize = 8;
    /// [`Simd::HAS_DOT_BF16`].
    const HAS_DOT_BF16: bool = false;

    /// [`Simd::pair_bf16`].
    #[inline(always)]
    fn pair_bf16(self, even: __m512, odd: __m512) -> __m512 {
        // SAFETY: the token exists only where its instructions do.
        unsafe {
            let high = _mm512_slli_epi32::<16>(bf16_bits(odd));
            _mm512_castsi512_ps(_mm512_or_si512(bf16_bits(even), high))
        }
    }

    /// The 32 f32 of two vectors as pairs of neighbours, for [`Simd::transpose_pairs`].
    #[inline(always)]
    fn neighbours_bf16(self, first: __m512, second: __m512) -> __m512 {
        // SAFETY: the token exists only where its instructions do; vectors of one size.
        unsafe {
            let even = transmute::<[i32; 16], __m512i>(std::array::from_fn(|i| 2 * i as i32));
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            let lanes = |of| _mm512_permutex2var_ps(first, of, second);
            self.pair_bf16(lanes(even), lanes(odd))
        }
    }

    /// [`Simd::dot_bf16`].
    #[inline(always)]
    fn dot_bf16(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: the token exists only where its instructions do.
        unsafe {
            let low = |v| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(v)));
            let upper = _mm512_castsi512_ps(_mm512_set1_epi32(0xffff_0000_u32 as i32));
            let high = |v| _mm512_and_ps(v, upper);
            _mm512_fmadd_ps(high(a), high(b), _mm512_fmadd_ps(low(a), low(b), sum))
        }
    }

    /// [`Simd::dot_bytes`].
    #[inline(always)]
    fn dot_bytes<const BITS: usize>(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: the token exists only where its instructions do.
        unsafe { dot_bytes::<BITS>(a, b, sum) }
    }
}

// SAFETY: its own proof.
unsafe impl Avx512Family for Avx512 {}

/// The first `n < 16` lanes.
#[inline(always)]
fn first_lanes(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

/// The bits of a bfloat16 in the low half of each lane, rounded to nearest even.
#[inline]
#[target_feature(enable = "avx512f")]
fn bf16_bits(v: __m512) -> __m512i {
    let bits = _mm512_castps_si512(v);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let even = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
    let bits = _mm512_mask_or_epi32(even, nan, bits, _mm512_set1_epi32(0x40_0000));
    _mm512_srli_epi32::<16>(bits)
}

/// [`Simd::dot_bytes`] without VNNI, as AVX2 has it: the instruction that adds pairs of byte
/// products saturates with 8 bits, not with 7.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn dot_bytes<const BITS: usize>(a: __m512, b: __m512, sum: __m512) -> __m512 {
    let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
    let dot = if BITS <= 7 {
        _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), _mm512_set1_epi16(1))
    } else {
        let even = _mm512_and_si512(a, _mm512_set1_epi16(0xff));
        let even = _mm512_madd_epi16(even, _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(b)));
        let odd = _mm512_madd_epi16(_mm512_srli_epi16::<8>(a), _mm512_srai_epi16::<8>(b));
        _mm512_add_epi32(even, odd)
    };
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(sum), dot))
}

/// Transposes 16 vectors of 16 lanes: pairs of rows, then fours, then the quarters of vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_16(rows: &[__m512; 16]) -> [__m512; 16] {
    let mut fours = *rows;
    for g in (0..16).step_by(4) {
        let low = |a, b| _mm512_castps_pd(_mm512_unpacklo_ps(rows[g + a], rows[g + b]));
        let high = |a, b| _mm512_castps_pd(_mm512_unpackhi_ps(rows[g + a], rows[g + b]));
        let (a, b, c, d) = (low(0, 1), low(2, 3), high(0, 1), high(2, 3));
        fours[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        fours[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        fours[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
        fours[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
    }
    let mut out = *rows;
    for c in 0..4 {
        let (a, b) = (fours[c], fours[c + 4]);
        let (d, e) = (fours[c + 8], fours[c + 12]);
        let even = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(d, e));
        let odd = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(d, e));
        out[c] = _mm512_shuffle_f32x4::<0x88>(even.0, even.1);
        out[c + 4] = _mm512_shuffle_f32x4::<0x88>(odd.0, odd.1);
        out[c + 8] = _mm512_shuffle_f32x4::<0xdd>(even.0, even.1);
        out[c + 12] = _mm512_shuffle_f32x4::<0xdd>(odd.0, odd.1);
    }
    out
}

/// The words at `AT`, `COUNT` of them, in each of four successive `T`; each goes to `SPREAD` words.
struct FourPlaces<T, const AT: usize, const COUNT: usize, const SPREAD: usize>(PhantomData<T>);

impl<T, const AT: usize, const COUNT: usize, const SPREAD: usize> FourPlaces<T, AT, COUNT, SPREAD> {
    const STEP: usize = size_of::<T>() / 2;
    /// Words up to the last one's end.
    const END: usize = 3 * Self::STEP + AT + COUNT;
    /// Where the two vectors begin that hold all: at the same words for what lies early in a `T`,
    /// so that several of these share their loads.
    const FIRST: usize = Self::END.saturating_sub(64);
    const SECOND: usize =
        if Self::FIRST + 64 <= 4 * Self::STEP { Self::FIRST + 32 } else { 4 * Self::STEP - 32 };
    const WORDS: [u16; 32] = {
        let mut words = [0; 32];
        let mut i = 0;
        while i < 4 * COUNT * SPREAD {
            let word = i / (COUNT * SPREAD) * Self::STEP + AT + i / SPREAD % COUNT;
            // What is never loaded from long `T` may still be named.
            let second = word >= Self::FIRST + 32;
            let from = if second { Self::SECOND.wrapping_sub(32) } else { Self::FIRST };
            words[i] = word.wrapping_sub(from) as u16;
            i += 1;
        }
        words
    };

    /// The places in [`FourPlaces::load`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn words() -> __m512i {
        // SAFETY: 32 words.
        unsafe { _mm512_loadu_epi16(Self::WORDS.as_ptr().cast()) }
    }

    /// What the first `n` hold from word `first` on, zero for the others.
    ///
    /// # Safety
    /// The first `n` must be readable.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn vector(p: *const T, n: usize, first: usize) -> __m512i {
        let there = (n * Self::STEP).saturating_sub(first);
        let mask = if there < 32 { (1 << there) - 1 } else { u32::MAX };
        // SAFETY: the caller's contract; what the mask leaves out is not read.
        unsafe { _mm512_maskz_loadu_epi16(mask, p.cast::<i16>().wrapping_add(first)) }
    }

    /// The words of the first `n`, zero in place of the others; `n` from 1 to 4.
    ///
    /// # Safety
    /// The first `n` must be readable.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn load(p: *const T, n: usize) -> __m512i {
        const { assert!(size_of::<T>().is_multiple_of(2)) }
        assert!(4 * Self::STEP >= 32 && Self::END <= 68);
        // SAFETY: the caller's contract.
        unsafe {
            let first = Self::vector(p, n, Self::FIRST);
            if Self::END <= 32 {
                return _mm512_permutexvar_epi16(Self::words(), first);
            }
            let second = Self::vector(p, n, Self::SECOND);
            _mm512_permutex2var_epi16(first, Self::words(), second)
        }
    }
}

/// For two vectors that each begin with four `T` of so many words: the first words of all `T`, in
/// turn those of both vectors, at the front of each quarter's half; then the second words.
const fn words_of_two(step: usize) -> [u16; 32] {
    let mut words = [0; 32];
    let mut i = 0;
    while i < 32 {
        words[i] = ((i % 16 / 8 * 2 + i % 4 / 2) * step + i / 16 + i % 2 * 32) as u16;
        i += 1;
    }
    words
}

/// [`Simd::load_f16_of_four`] of `T` whose first words lie in one vector: one permutation serves two
/// places and both words. With one for each place and word, Q4_1 by int8 sums is 17 % slower on a
/// Zen 5 thread, Q4_0 7 %.
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn f16_of_short<T, const COUNT: usize>(p: [*const T; 4], n: usize) -> [__m512; COUNT] {
    let words = const { &words_of_two(size_of::<T>() / 2) };
    // SAFETY: 32 words; the caller's contract.
    unsafe {
        let words = _mm512_loadu_epi16(words.as_ptr().cast());
        let two = |c: usize| {
            let at = |c: usize| FourPlaces::<T, 0, COUNT, 1>::vector(p[c], n, 0);
            _mm512_permutex2var_epi16(at(c), words, at(c + 1))
        };
        let halves = _mm512_unpacklo_ps(_mm512_castsi512_ps(two(0)), _mm512_castsi512_ps(two(2)));
        let halves = _mm512_castps_si512(halves);
        let mut wide = [_mm512_cvtph_ps(_mm512_castsi512_si256(halves)); COUNT];
        if COUNT == 2 {
            wide[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(halves));
        }
        wide
    }
}

/// [`Simd::load_f16_of_four`] of longer `T`: a word is taken to four lanes, of which one stays.
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn f16_of_long<T, const AT: usize>(p: [*const T; 4], n: usize) -> __m512 {
    let mut halves = _mm512_setzero_si512();
    for c in 0..4 {
        // SAFETY: the caller's contract.
        let of_place = unsafe { FourPlaces::<T, AT, 1, 4>::load(p[c], n) };
        halves = _mm512_mask_mov_epi16(halves, 0x1111 << c, of_place);
    }
    _mm512_cvtph_ps(_mm512_castsi512_si256(halves))
}

/// [`Simd::sum_each`]: pairs of lanes of all four, then fours, then the quarters of vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn sum_each(v: [__m512; 4]) -> [f32; 4] {
    let pairs = |a, b| _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let (low, high) = (_mm512_castps_pd(pairs(v[0], v[1])), _mm512_castps_pd(pairs(v[2], v[3])));
    sum_fours(_mm512_add_ps(
        _mm512_castpd_ps(_mm512_unpacklo_pd(low, high)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(low, high)),
    ))
}

/// [`Simd::sum_fours`]: the halves of the vector, then its quarters.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn sum_fours(v: __m512) -> [f32; 4] {
    let half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
    let sums = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
    let mut out = [0.0; 4];
    // SAFETY: four f32.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), sums) };
    out
}

impl<T: Avx512Family> Simd for T {
    type F = __m512;
    type M = __mmask16;
    const LANES: usize = 16;
    const GEMM_MR: usize = T::GEMM_TILE[0];
    const GEMM_NV: usize = T::GEMM_TILE[1];
    const GEMM_AHEAD: usize = T::GEMM_AHEAD;
    // One slab for 1024 and, in bfloat16, 1536: 3 % faster than slabs of 512, 4 in bfloat16, on Zen 5,
    // though a micro-panel of B comes from L2. Twice the noise in SmolLM2's loss kept f32 from 1536.
    const GEMM_DEPTH: [usize; 2] = [1024, 1536];
    // 14 sums of each kind, 2 columns and 1 broadcast of the 32 registers.
    const INT8_MR: usize = 7;
    const INT8_NV: usize = 2;
    const HAS_DOT_BF16: bool = T::HAS_DOT_BF16;

    #[inline(always)]
    fn pair_bf16(self, even: __m512, odd: __m512) -> __m512 {
        Avx512Family::pair_bf16(self, even, odd)
    }
    #[inline(always)]
    fn dot_bf16(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        Avx512Family::dot_bf16(self, a, b, sum)
    }
    #[inline(always)]
    fn dot_bytes<const BITS: usize>(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        Avx512Family::dot_bytes::<BITS>(self, a, b, sum)
    }
    #[inline(always)]
    fn bits(self, m: __mmask16) -> u32 {
        m.into()
    }
    #[inline(always)]
    fn shift_left<const BITS: u32>(self, a: __m512) -> __m512 {
        // SAFETY: the token exists only where its instructions do.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<BITS>(_mm512_castps_si512(a))) }
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self, a: __m512) -> __m512 {
        // SAFETY: the token exists only where its instructions do.
        unsafe { _mm512_castsi512_ps(_mm512_srli_epi32::<BITS>(_mm512_castps_si512(a))) }
    }

    #[inline(always)]
    unsafe fn load_fours<B, const AT: usize>(self, p: *const B, n: usize) -> __m512 {
        // SAFETY: the token exists only where its instructions do; the caller's contract.
        unsafe { _mm512_castsi512_ps(FourPlaces::<B, AT, 8, 1>::load(p, n)) }
    }
    #[inline(always)]
    unsafe fn load_f16_of_four<B, const COUNT: usize>(
        self,
        p: [*const B; 4],
        n: usize,
    ) -> [__m512; COUNT] {
        const { assert!(COUNT == 1 || COUNT == 2) }
        // SAFETY: as above.
        unsafe {
            if FourPlaces::<B, 0, COUNT, 1>::END <= 32 {
                return f16_of_short(p, n);
            }
            let mut halves = [f16_of_long::<B, 0>(p, n); COUNT];
            if COUNT == 2 {
                halves[1] = f16_of_long::<B, 1>(p, n);
            }
            halves
        }
    }
    #[inline(always)]
    fn spread<const C: usize>(self, a: __m512) -> __m512 {
        // SAFETY: the token exists only where its instructions do.
        unsafe {
            match C {
                0 => _mm512_permute_ps::<0x00>(a),
                1 => _mm512_permute_ps::<0x55>(a),
                2 => _mm512_permute_ps::<0xaa>(a),
                _ => _mm512_permute_ps::<0xff>(a),
            }
        }
    }

    token_methods! {
        fn splat(self, x: f32) -> __m512 { _mm512_set1_ps(x) }
        unsafe fn load(self, p: *const f32) -> __m512 { _mm512_loadu_ps(p) }
        fn prefetch(self, p: *const f32) { _mm_prefetch::<_MM_HINT_T0>(p.cast()); }
        unsafe fn load_n(self, p: *const f32, n: usize) -> __m512 {
            _mm512_maskz_loadu_ps(first_lanes(n), p)
        }
        unsafe fn store(self, p: *mut f32, v: __m512) { _mm512_storeu_ps(p, v); }
        unsafe fn store_n(self, p: *mut f32, v: __m512, n: usize) {
            _mm512_mask_storeu_ps(p, first_lanes(n), v);
        }
        unsafe fn store_chosen(self, p: *mut f32, v: __m512, bits: u32) {
            _mm512_storeu_ps(p, _mm512_maskz_compress_ps(bits as u16, v));
        }
        unsafe fn load_f16(self, p: *const u16) -> __m512 {
            _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))
        }
        unsafe fn load_bf16(self, p: *const u16) -> __m512 {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
        unsafe fn load_i8(self, p: *const i8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())))
        }
        unsafe fn load_u8(self, p: *const u8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())))
        }
        unsafe fn load_low_nibbles(self, p: *const u8) -> __m512 {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            _mm512_cvtepi32_ps(_mm512_and_si512(bytes, _mm512_set1_epi32(15)))
        }
        unsafe fn load_high_nibbles(self, p: *const u8) -> __m512 {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(bytes))
        }
        unsafe fn store_f16(self, p: *mut u16, v: __m512) {
            _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v));
        }
        unsafe fn store_bf16(self, p: *mut u16, v: __m512) {
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(bf16_bits(v)));
        }

        unsafe fn transpose(
            self, src: *const f32, src_stride: usize, dst: *mut f32, dst_stride: usize, n: usize
        ) {
            let mut rows = [_mm512_setzero_ps(); 16];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(src.add(i.min(n - 1) * src_stride));
            }
            let lanes = first_lanes(n);
            for (i, column) in transpose_16(&rows).into_iter().enumerate() {
                _mm512_mask_storeu_ps(dst.add(i * dst_stride), lanes, column);
            }
        }

        unsafe fn transpose_pairs(
            self, src: *const f32, src_stride: usize, dst: *mut f32, dst_stride: usize, n: usize
        ) {
            let mut rows = [_mm512_setzero_ps(); 16];
            for (i, row) in rows.iter_mut().enumerate() {
                let at = src.add(i.min(n - 1) * src_stride);
                *row = self.neighbours_bf16(_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(16)));
            }
            let lanes = first_lanes(n);
            for (i, column) in transpose_16(&rows).into_iter().enumerate() {
                _mm512_mask_storeu_ps(dst.add(i * dst_stride), lanes, column);
            }
        }

        fn convert_i32(self, a: __m512) -> __m512 { _mm512_cvtepi32_ps(_mm512_castps_si512(a)) }
        fn round_i32(self, a: __m512) -> __m512 { _mm512_castsi512_ps(_mm512_cvtps_epi32(a)) }
        fn lookup(self, table: &[f32; 16], a: __m512) -> __m512 {
            _mm512_permutexvar_ps(_mm512_castps_si512(a), _mm512_loadu_ps(table.as_ptr()))
        }
        fn add_i32(self, a: __m512, b: __m512) -> __m512 {
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            _mm512_castsi512_ps(_mm512_add_epi32(a, b))
        }
        fn mul_wide_u32(self, a: __m512, b: __m512) -> __m512 {
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            _mm512_castsi512_ps(_mm512_mul_epu32(a, b))
        }
        fn odd_to_even(self, a: __m512) -> __m512 {
            _mm512_castsi512_ps(_mm512_srli_epi64::<32>(_mm512_castps_si512(a)))
        }
        fn even(self, a: __m512, b: __m512) -> __m512 {
            let lanes =
                _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            _mm512_permutex2var_ps(a, lanes, b)
        }
        fn zip_even(self, v: [__m512; 4]) -> [__m512; 2] {
            let pair = |a, b| _mm512_castps_pd(_mm512_mask_moveldup_ps(a, 0xaaaa, b));
            let (low, high) = (pair(v[0], v[1]), pair(v[2], v[3]));
            let even = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            [even, _mm512_castpd_ps(_mm512_unpackhi_pd(low, high))]
        }
        unsafe fn store_i8(self, p: *mut i8, v: __m512) {
            _mm_storeu_si128(p.cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
        }
        fn pack_i8(self, v: [__m512; 4]) -> __m512 {
            let low = _mm512_packs_epi32(_mm512_cvtps_epi32(v[0]), _mm512_cvtps_epi32(v[1]));
            let high = _mm512_packs_epi32(_mm512_cvtps_epi32(v[2]), _mm512_cvtps_epi32(v[3]));
            // Each 16 bytes now hold four of each vector in turn: put them lane by lane.
            let turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let bytes = _mm512_packs_epi16(low, high);
            _mm512_castsi512_ps(_mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(turn)))
        }

        fn high_nibbles(self, a: __m512) -> __m512 {
            let words = _mm512_srli_epi16::<4>(_mm512_castps_si512(a));
            _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi8(15)))
        }
        fn widen_nibble(self, a: __m512, byte: usize, center: __m512) -> __m512 {
            // A lookup takes the low four bits of each lane.
            let codes = _mm512_setr_ps(
                0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
            );
            let shift = _mm512_set1_epi32(8 * byte as i32);
            let at = _mm512_srlv_epi32(_mm512_castps_si512(a), shift);
            _mm512_permutexvar_ps(at, _mm512_sub_ps(codes, center))
        }
        fn widen_byte(self, a: __m512, byte: usize) -> __m512 {
            let shift = _mm512_set1_epi32(24 - 8 * byte as i32);
            let top = _mm512_sllv_epi32(_mm512_castps_si512(a), shift);
            _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(top))
        }
        fn sum_each(self, v: [__m512; 4]) -> [f32; 4] { sum_each(v) }
        fn sum_fours(self, a: __m512) -> [f32; 4] { sum_fours(a) }

        fn add(self, a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(self, a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(self, a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(self, a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn sqrt(self, a: __m512) -> __m512 { _mm512_sqrt_ps(a) }
        fn min(self, a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn max(self, a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn round(self, a: __m512) -> __m512 {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        fn and(self, a: __m512, b: __m512) -> __m512 { _mm512_and_ps(a, b) }
        fn or(self, a: __m512, b: __m512) -> __m512 { _mm512_or_ps(a, b) }
        fn xor(self, a: __m512, b: __m512) -> __m512 { _mm512_xor_ps(a, b) }
        fn lt(self, a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
        fn le(self, a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b) }
        fn eq(self, a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b) }
        fn select(self, m: __mmask16, a: __m512, b: __m512) -> __m512 {
            _mm512_mask_blend_ps(m, b, a)
        }
        fn exp2i(self, n: __m512) -> __m512 {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
        fn ldexp(self, a: __m512, n: __m512) -> __m512 { _mm512_scalef_ps(a, n) }
        fn ldexp_down(self, a: __m512, n: __m512) -> __m512 { _mm512_scalef_ps(a, n) }
        fn frexp(self, a: __m512) -> (__m512, __m512) {
            let mantissa = _mm512_getmant_ps::<_MM_MANT_NORM_P5_1, _MM_MANT_SIGN_ZERO>(a);
            (mantissa, _mm512_add_ps(_mm512_getexp_ps(a), _mm512_set1_ps(1.0)))
        }
        fn log_parts(self, a: __m512) -> (__m512, __m512) {
            let m = _mm512_getmant_ps::<_MM_MANT_NORM_P75_1P5, _MM_MANT_SIGN_NAN>(a);
            let (e, one) = (_mm512_getexp_ps(a), _mm512_set1_ps(1.0));
            // The whole exponent goes with a number in 1..2.
            (m, _mm512_mask_add_ps(e, self.lt(m, one), e, one))
        }
        fn sum(self, a: __m512) -> f32 {
            let high = _mm512_extractf32x8_ps::<1>(a);
            x86_avx2::sum(_mm256_add_ps(_mm512_castps512_ps256(a), high))
        }
        fn max_lane(self, a: __m512) -> f32 {
            let high = _mm512_extractf32x8_ps::<1>(a);
            x86_avx2::max_lane(_mm256_max_ps(_mm512_castps512_ps256(a), high))
        }
    }
}
