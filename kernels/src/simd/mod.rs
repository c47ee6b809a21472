//! The vector abstraction that every kernel body is written over.

mod lanes;
pub mod math;
mod panels;
#[cfg(test)]
mod tests;
mod tile;

use lanes::{from_lanes, lanes};
pub use panels::{Lane, Panels};
pub(crate) use tile::{MAX_WIDTH, tile_step};

/// Lanes of the widest level.
pub const MAX_LANES: usize = 16;

/// A token that proves an instruction set is present, with the vector operations it offers.
///
/// `F` is a vector of [`Simd::LANES`] f32. Every method is `#[inline(always)]` and compiles to one or
/// a few instructions; a body over `S: Simd` therefore serves all levels. Reductions across lanes
/// use a fixed tree, so the same level gives the same bits.
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of `LANES` f32.
    type F: Copy;
    /// One truth value per lane.
    type M: Copy;
    /// f32 lanes in a vector.
    const LANES: usize;
    /// Rows of the f32 register tile of gemm.
    const GEMM_MR: usize;
    /// Vectors across the f32 register tile of gemm (its columns are `GEMM_NV * LANES`).
    const GEMM_NV: usize;
    /// Steps ahead at which gemm's register tile asks for B, 0 where that is not worth it.
    const GEMM_AHEAD: usize = 0;
    /// Most depth of a slab of gemm's B, of f32 and of bfloat16. Deeper ones mean fewer passes over C;
    /// shallower ones leave room in the caches and round less, for sums are cut where slabs are.
    const GEMM_DEPTH: [usize; 2] = [640, 640];
    /// Rows of gemm's int8 register tile, which holds sums as i32 within a block and f32 beyond it.
    const INT8_MR: usize;
    /// Vectors across the int8 register tile of gemm.
    const INT8_NV: usize;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// Reads `LANES` f32.
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES` f32; it need not be aligned beyond f32.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// Asks for the cache line at `p`, which may be any address, where the level has a way to.
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        let _ = p;
    }
    /// Reads the first `n < LANES` f32, zero in the other lanes.
    ///
    /// # Safety
    /// `p` must be valid for reading `n` f32.
    unsafe fn load_n(self, p: *const f32, n: usize) -> Self::F;
    /// Writes `LANES` f32.
    ///
    /// # Safety
    /// `p` must be valid for writing `LANES` f32.
    unsafe fn store(self, p: *mut f32, v: Self::F);
    /// Writes the first `n < LANES` lanes.
    ///
    /// # Safety
    /// `p` must be valid for writing `n` f32.
    unsafe fn store_n(self, p: *mut f32, v: Self::F, n: usize);
    /// Writes the lanes that `bits` names, the first lane's lowest, side by side; what it leaves
    /// behind them, up to `LANES`, is of no use.
    ///
    /// # Safety
    /// As [`Simd::store`].
    #[inline(always)]
    unsafe fn store_chosen(self, p: *mut f32, v: Self::F, bits: u32) {
        // SAFETY: no more lanes are named than there are.
        unsafe { lanes::store_chosen(p, lanes(self, v), bits) }
    }
    /// Widens `LANES` IEEE half floats (as bits).
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES` u16.
    unsafe fn load_f16(self, p: *const u16) -> Self::F;
    /// Widens `LANES` bfloat16 (as bits).
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES` u16.
    unsafe fn load_bf16(self, p: *const u16) -> Self::F;
    /// Widens `LANES` signed bytes to f32.
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES` i8.
    unsafe fn load_i8(self, p: *const i8) -> Self::F;
    /// Widens `LANES` unsigned bytes to f32.
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES` u8.
    unsafe fn load_u8(self, p: *const u8) -> Self::F;
    /// Widens the low nibbles of `LANES` bytes to f32 in 0..=15.
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES` u8.
    unsafe fn load_low_nibbles(self, p: *const u8) -> Self::F;
    /// Widens the high nibbles of `LANES` bytes to f32 in 0..=15.
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES` u8.
    unsafe fn load_high_nibbles(self, p: *const u8) -> Self::F;
    /// Writes `LANES` IEEE half floats (as bits), rounded to nearest even.
    ///
    /// # Safety
    /// `p` must be valid for writing `LANES` u16.
    unsafe fn store_f16(self, p: *mut u16, v: Self::F);
    /// Writes `LANES` bfloat16 (as bits), rounded to nearest even; NaN stays NaN.
    ///
    /// # Safety
    /// `p` must be valid for writing `LANES` u16.
    unsafe fn store_bf16(self, p: *mut u16, v: Self::F);

    /// Reads `n` rows (1 to `LANES`) of `LANES` f32, `src_stride` apart, and writes the block's
    /// transpose: `LANES` rows of `n`, `dst_stride` apart.
    ///
    /// # Safety
    /// The rows must be valid for reading and writing, and source and destination disjoint.
    #[inline(always)]
    unsafe fn transpose(
        self,
        src: *const f32,
        src_stride: usize,
        dst: *mut f32,
        dst_stride: usize,
        n: usize,
    ) {
        for row in 0..n {
            for col in 0..Self::LANES {
                // SAFETY: the caller's contract.
                unsafe { *dst.add(col * dst_stride + row) = *src.add(row * src_stride + col) };
            }
        }
    }

    /// Whether [`Simd::lookup`] is a few instructions.
    const HAS_LOOKUP: bool = true;
    /// Whether products of bfloat16 are instructions, so that pairing operands pays.
    const HAS_DOT_BF16: bool = false;
    /// Whether bytes of 8 bits are multiplied as signed ones by [`Simd::dot_bytes`].
    const SIGNED_BYTES: bool = false;
    /// Rows of packed panels that a step of bytes or of bfloat16 takes: 1, or 2 that
    /// lie side by side, lane by lane.
    const STEP_ROWS: usize = 1;
    /// Whether gemm multiplies by [`Simd::multiply_panels`] instead of a step at a time.
    const HAS_PANELS: bool = false;

    /// Multiplies whole panels, in a unit or in registers that have no types here.
    ///
    /// # Safety
    /// [`Simd::HAS_PANELS`] must hold, the panels be packed, and C and the bias be valid for the
    /// rows and columns.
    #[inline(always)]
    unsafe fn multiply_panels(self, _: Lane, _: &Panels) {
        unreachable!("a level without panels")
    }

    /// Rounds to bfloat16 (to nearest even; subnormals may become zero) and pairs: each lane holds
    /// `even` in its lower half and `odd` in its upper.
    #[inline(always)]
    fn pair_bf16(self, even: Self::F, odd: Self::F) -> Self::F {
        let (mut low, mut high) = ([0u16; MAX_LANES], [0u16; MAX_LANES]);
        // SAFETY: no level has more lanes.
        unsafe {
            self.store_bf16(low.as_mut_ptr(), even);
            self.store_bf16(high.as_mut_ptr(), odd);
        }
        let pair = |i| f32::from_bits(u32::from(high[i]) << 16 | u32::from(low[i]));
        // SAFETY: as above.
        unsafe { self.load(std::array::from_fn::<f32, MAX_LANES, _>(pair).as_ptr()) }
    }

    /// Rounds `2 LANES` f32 of each of `n <= LANES` rows to bfloat16 and writes them as the columns
    /// of [`Simd::transpose`], a lane being two neighbours of a row, the first in its lower half.
    ///
    /// # Safety
    /// As for [`Simd::transpose`], with rows of `2 LANES`.
    #[inline(always)]
    unsafe fn transpose_pairs(
        self,
        src: *const f32,
        src_stride: usize,
        dst: *mut f32,
        dst_stride: usize,
        n: usize,
    ) {
        let bits = |x| u32::from(half::bf16::from_f32(x).to_bits());
        for row in 0..n {
            for col in 0..Self::LANES {
                // SAFETY: the caller's contract.
                unsafe {
                    let two = src.add(row * src_stride + 2 * col);
                    let pair = f32::from_bits(bits(*two.add(1)) << 16 | bits(*two));
                    *dst.add(col * dst_stride + row) = pair;
                }
            }
        }
    }

    /// `sum` with the products of the two bfloat16 in each lane of `a` and `b` added, the lower
    /// first.
    #[inline(always)]
    fn dot_bf16(self, a: Self::F, b: Self::F, sum: Self::F) -> Self::F {
        let halves = |v| {
            let mut lower = [0f32; MAX_LANES];
            // SAFETY: no level has more lanes.
            unsafe { self.store(lower.as_mut_ptr(), v) };
            lower = lower.map(|x| f32::from_bits(x.to_bits() << 16));
            // SAFETY: as above.
            let lower = unsafe { self.load(lower.as_ptr()) };
            (lower, self.and(v, self.splat(f32::from_bits(0xffff_0000))))
        };
        let ((a0, a1), (b0, b1)) = (halves(a), halves(b));
        self.fma(a1, b1, self.fma(a0, b0, sum))
    }

    /// `sum` with the products of the four bytes in each lane of `a` and `b` added, as an i32 that
    /// wraps around: `b` from -127 to 127; `a` below `2^BITS` (7 or 8) and not negative, but with
    /// 8 bits signed where [`Simd::SIGNED_BYTES`]. With 9 bits `b` may be -128 too. Exact; fewer bits
    /// are faster where a level would saturate or wrap around with more.
    #[inline(always)]
    fn dot_bytes<const BITS: usize>(self, a: Self::F, b: Self::F, sum: Self::F) -> Self::F {
        let ((a, b), mut sum) = ((lanes(self, a), lanes(self, b)), lanes(self, sum));
        for i in 0..Self::LANES {
            let (a, b) = (a[i].to_bits().to_le_bytes(), b[i].to_bits().to_le_bytes());
            let mut dot = sum[i].to_bits().cast_signed();
            for (a, b) in a.into_iter().zip(b) {
                dot = dot.wrapping_add(i32::from(a) * i32::from(b.cast_signed()));
            }
            sum[i] = f32::from_bits(dot.cast_unsigned());
        }
        from_lanes(self, sum)
    }

    /// A step of a register tile of bytes: to each sum what [`Simd::dot_bytes`] adds, the bytes of
    /// columns in the place of its `a` and those of rows in that of its `b`.
    ///
    /// # Safety
    /// `a` must be valid for a lane of each of the `R` rows, `b` for `NV` vectors of columns; with
    /// two [`Simd::STEP_ROWS`] for twice as much, `R` even, and the sums are in the order that
    /// [`Simd::turn_sums`] makes.
    #[inline(always)]
    unsafe fn step_bytes<const BITS: usize, const R: usize, const NV: usize>(
        self,
        a: *const f32,
        b: *const f32,
        sums: &mut [[Self::F; NV]; R],
    ) {
        tile_step!(self, a, b, sums, |x, column, sum| self.dot_bytes::<BITS>(column, x, sum));
    }

    /// A step of a register tile of bfloat16 pairs: to each sum what [`Simd::dot_bf16`] adds.
    ///
    /// # Safety
    /// As for [`Simd::step_bytes`].
    #[inline(always)]
    unsafe fn step_bf16<const R: usize, const NV: usize>(
        self,
        a: *const f32,
        b: *const f32,
        sums: &mut [[Self::F; NV]; R],
    ) {
        tile_step!(self, a, b, sums, |x, column, sum| self.dot_bf16(x, column, sum));
    }

    /// A step of a register tile of f32: to each sum the product of its row and its column.
    ///
    /// # Safety
    /// `a` must be valid for a lane of each of the `R` rows, `b` for `NV` vectors of columns.
    #[inline(always)]
    unsafe fn step_f32<const R: usize, const NV: usize>(
        self,
        a: *const f32,
        b: *const f32,
        sums: &mut [[Self::F; NV]; R],
    ) {
        tile_step!(self, a, b, sums, |x, column, sum| self.fma(x, column, sum));
    }

    /// Turns sums in rows and columns into the order in which a level with two
    /// [`Simd::STEP_ROWS`] adds to them, and back: it is its own inverse.
    #[inline(always)]
    fn turn_sums<const R: usize, const NV: usize>(self, _sums: &mut [[Self::F; NV]; R]) {}

    /// The i32 in each lane as f32, rounded to nearest even.
    #[inline(always)]
    fn convert_i32(self, a: Self::F) -> Self::F {
        let floats = lanes(self, a).map(|x| x.to_bits().cast_signed() as f32);
        from_lanes(self, floats)
    }

    /// The nearest integer, ties to even, of each lane, for |a| below 2^31: the other way round.
    #[inline(always)]
    fn round_i32(self, a: Self::F) -> Self::F {
        // 1.5 * 2^52: an integer added to it stands in the lowest bits.
        let bits = |x: f32| (f64::from(x) + 6_755_399_441_055_744.0).to_bits();
        let whole = lanes(self, a).map(|x| f32::from_bits(bits(x) as u32));
        from_lanes(self, whole)
    }

    /// One bit a lane, that of the first lane lowest.
    #[inline(always)]
    fn bits(self, m: Self::M) -> u32 {
        let ones = lanes(self, self.select(m, self.splat(1.0), self.zero()));
        (0..Self::LANES).fold(0, |bits, i| bits | u32::from(ones[i] != 0.0) << i)
    }

    /// The entry of `table` that the lowest four bits of each lane name.
    #[inline(always)]
    fn lookup(self, table: &[f32; 16], a: Self::F) -> Self::F {
        let entries = lanes(self, a).map(|x| table[x.to_bits() as usize % 16]);
        from_lanes(self, entries)
    }

    /// The sum of the integers in each lane, wrapping around.
    #[inline(always)]
    fn add_i32(self, a: Self::F, b: Self::F) -> Self::F {
        let (mut sum, b) = (lanes(self, a), lanes(self, b));
        for (a, b) in sum.iter_mut().zip(b) {
            *a = f32::from_bits(a.to_bits().wrapping_add(b.to_bits()));
        }
        from_lanes(self, sum)
    }

    /// The bits of each lane moved up by `BITS`.
    #[inline(always)]
    fn shift_left<const BITS: u32>(self, a: Self::F) -> Self::F {
        let shifted = lanes(self, a).map(|x| f32::from_bits(x.to_bits() << BITS));
        from_lanes(self, shifted)
    }

    /// The bits of each lane moved down by `BITS`, with zeros above.
    #[inline(always)]
    fn shift_right<const BITS: u32>(self, a: Self::F) -> Self::F {
        let shifted = lanes(self, a).map(|x| f32::from_bits(x.to_bits() >> BITS));
        from_lanes(self, shifted)
    }

    /// The 64-bit products of the u32 in the even lanes; each takes an even lane, for its lower
    /// half, and the odd lane after it.
    #[inline(always)]
    fn mul_wide_u32(self, a: Self::F, b: Self::F) -> Self::F {
        let (mut product, b) = (lanes(self, a), lanes(self, b));
        for (a, b) in product.chunks_exact_mut(2).zip(b.chunks_exact(2)) {
            let wide = u64::from(a[0].to_bits()) * u64::from(b[0].to_bits());
            (a[0], a[1]) = (f32::from_bits(wide as u32), f32::from_bits((wide >> 32) as u32));
        }
        from_lanes(self, product)
    }

    /// The odd lanes in the place of the even ones before them; what the odd ones hold is
    /// unspecified.
    #[inline(always)]
    fn odd_to_even(self, a: Self::F) -> Self::F {
        let mut a = lanes(self, a);
        for pair in a.chunks_exact_mut(2) {
            pair[0] = pair[1];
        }
        from_lanes(self, a)
    }

    /// The even lanes of `a`, then those of `b`.
    #[inline(always)]
    fn even(self, a: Self::F, b: Self::F) -> Self::F {
        let (a, b, mut out) = (lanes(self, a), lanes(self, b), [0.0; MAX_LANES]);
        for i in 0..Self::LANES / 2 {
            (out[i], out[Self::LANES / 2 + i]) = (a[2 * i], b[2 * i]);
        }
        from_lanes(self, out)
    }

    /// Lane `2 i` of the four vectors becomes, in their order, one group of four lanes: groups of
    /// even `i` follow each other in the first result, those of odd `i` in the second.
    #[inline(always)]
    fn zip_even(self, vectors: [Self::F; 4]) -> [Self::F; 2] {
        let vectors = vectors.map(|v| lanes(self, v));
        let mut out = [[0.0; MAX_LANES]; 2];
        for i in 0..Self::LANES / 2 {
            for (word, v) in vectors.iter().enumerate() {
                out[i % 2][i / 2 * 4 + word] = v[2 * i];
            }
        }
        out.map(|v| from_lanes(self, v))
    }

    /// Writes `LANES` signed bytes: the nearest integers, ties to even, of lanes in -128..=127;
    /// unspecified bytes for others and for NaN.
    ///
    /// # Safety
    /// `p` must be valid for writing `LANES` i8.
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: Self::F) {
        let whole = lanes(self, self.round(v));
        for (i, x) in whole.into_iter().enumerate().take(Self::LANES) {
            // SAFETY: the caller's contract.
            unsafe { *p.add(i) = x as i8 };
        }
    }

    /// The lanes of four vectors rounded as [`Simd::store_i8`] does, byte `i` of each lane from
    /// `v[i]`: what [`Simd::dot_bytes`] takes.
    #[inline(always)]
    fn pack_i8(self, v: [Self::F; 4]) -> Self::F {
        let v = v.map(|v| lanes(self, self.round(v)));
        let bytes = |i: usize| u32::from_le_bytes(v.map(|v| (v[i] as i8).cast_unsigned()));
        let packed: [f32; MAX_LANES] = std::array::from_fn(|i| f32::from_bits(bytes(i)));
        from_lanes(self, packed)
    }

    /// Four lanes from each of the first `n` (1 to all) of `LANES / 4` successive `T`, from its
    /// 16-bit word `AT` on; the other lanes are zero.
    ///
    /// # Safety
    /// `p` must be valid for reading `n` of them, and the four lanes lie inside a `T`.
    #[inline(always)]
    unsafe fn load_fours<T, const AT: usize>(self, p: *const T, n: usize) -> Self::F {
        let mut lanes = [0f32; MAX_LANES];
        for i in 0..n.min(Self::LANES / 4) {
            // SAFETY: the caller's contract; no level has more lanes.
            unsafe {
                let from = p.add(i).cast::<u8>().add(2 * AT);
                from.copy_to(lanes.as_mut_ptr().add(4 * i).cast(), 16);
            }
        }
        from_lanes(self, lanes)
    }

    /// The first `COUNT` (1 or 2) words, half floats, of each of the first `n` (1 to all) of `LANES / 4`
    /// successive `T` at four places: lane `4 i + c` is of `T` number `i` at `p[c]`, or else zero.
    ///
    /// # Safety
    /// As for [`Simd::load_fours`], at each place.
    #[inline(always)]
    unsafe fn load_f16_of_four<T, const COUNT: usize>(
        self,
        p: [*const T; 4],
        n: usize,
    ) -> [Self::F; COUNT] {
        let mut lanes = [[0u16; MAX_LANES]; COUNT];
        for word in 0..COUNT {
            for i in 0..4 * n.min(Self::LANES / 4) {
                let half = p[i % 4].wrapping_add(i / 4).cast::<u16>().wrapping_add(word);
                // SAFETY: the caller's contract.
                lanes[word][i] = unsafe { half.read_unaligned() };
            }
        }
        // SAFETY: no level has more lanes.
        lanes.map(|lanes| unsafe { self.load_f16(lanes.as_ptr()) })
    }

    /// Lane `C` of each four lanes in all four of them.
    #[inline(always)]
    fn spread<const C: usize>(self, a: Self::F) -> Self::F {
        let mut lanes = lanes(self, a);
        for four in lanes.chunks_exact_mut(4) {
            four.fill(four[C]);
        }
        from_lanes(self, lanes)
    }

    /// Lanes `c`, `c + 4`, `c + 8` … added up for each `c`, by a fixed tree.
    #[inline(always)]
    fn sum_fours(self, a: Self::F) -> [f32; 4] {
        let lanes = lanes(self, a);
        let mut sums = [0.0; 4];
        for i in 0..Self::LANES / 4 {
            for c in 0..4 {
                sums[c] += lanes[4 * i + c];
            }
        }
        sums
    }

    /// The low four bits of each byte.
    #[inline(always)]
    fn low_nibbles(self, a: Self::F) -> Self::F {
        self.and(a, self.splat(f32::from_bits(0x0f0f_0f0f)))
    }

    /// The high four bits of each byte.
    #[inline(always)]
    fn high_nibbles(self, a: Self::F) -> Self::F {
        let mut bytes = lanes(self, a);
        for x in &mut bytes {
            *x = f32::from_bits(x.to_bits() >> 4 & 0x0f0f_0f0f);
        }
        from_lanes(self, bytes)
    }

    /// Byte `byte` (0 to 3) of each lane, which is below 16, as f32 less `center`.
    #[inline(always)]
    fn widen_nibble(self, a: Self::F, byte: usize, center: Self::F) -> Self::F {
        let mut wide = lanes(self, a);
        for x in &mut wide {
            *x = f32::from((x.to_bits() >> (8 * byte)) as u8);
        }
        self.sub(from_lanes(self, wide), center)
    }

    /// The signed byte `byte` (0 to 3) of each lane as f32.
    #[inline(always)]
    fn widen_byte(self, a: Self::F, byte: usize) -> Self::F {
        let mut wide = lanes(self, a);
        for x in &mut wide {
            *x = f32::from((x.to_bits() >> (8 * byte)) as i8);
        }
        from_lanes(self, wide)
    }

    /// The sum of all lanes of each vector, each by the same fixed tree.
    #[inline(always)]
    fn sum_each(self, v: [Self::F; 4]) -> [f32; 4] {
        [self.sum(v[0]), self.sum(v[1]), self.sum(v[2]), self.sum(v[3])]
    }

    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`, correctly rounded.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`; one rounding where the level has FMA, two on a level without.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Square root, correctly rounded.
    fn sqrt(self, a: Self::F) -> Self::F;
    /// The lesser; `b` where either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// The greater; `b` where either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The nearest integer, ties to even; unspecified for |a| >= 2^22.
    fn round(self, a: Self::F) -> Self::F;
    /// Bitwise and.
    fn and(self, a: Self::F, b: Self::F) -> Self::F;
    /// Bitwise or.
    fn or(self, a: Self::F, b: Self::F) -> Self::F;
    /// Bitwise exclusive or.
    fn xor(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b` per lane; false for NaN.
    fn lt(self, a: Self::F, b: Self::F) -> Self::M;
    /// `a <= b` per lane; false for NaN.
    fn le(self, a: Self::F, b: Self::F) -> Self::M;
    /// `a == b` per lane; false for NaN.
    fn eq(self, a: Self::F, b: Self::F) -> Self::M;
    /// `a` where the mask holds, else `b`.
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F;
    /// `2^n` for integer-valued `n` in -126..=127, and 0 for -127.
    fn exp2i(self, n: Self::F) -> Self::F;
    /// Splits a positive normal `a` into `m * 2^e` with `m` in [0.5, 1), as `(m, e)`.
    fn frexp(self, a: Self::F) -> (Self::F, Self::F);
    /// Splits `a` into `m * 2^e` with `m` in [0.75, 1.5), as `(m, e)`; `e` is infinite where the
    /// logarithm of `a` is. NaN is in one of them where `a` is negative or NaN, and `m` finite else.
    #[inline(always)]
    fn log_parts(self, a: Self::F) -> (Self::F, Self::F) {
        math::log_parts(self, a)
    }
    /// Sum of all lanes by a fixed tree.
    fn sum(self, a: Self::F) -> f32;
    /// Greatest lane; unspecified where a lane is NaN.
    fn max_lane(self, a: Self::F) -> f32;

    /// `a * 2^n`, rounded once, for normal or zero `a` and integer-valued `n` in -252..=254.
    #[inline(always)]
    fn ldexp(self, a: Self::F, n: Self::F) -> Self::F {
        // Two factors, because 2^n alone leaves the range of f32 where the product need not.
        let half = self.round(self.mul(n, self.splat(0.5)));
        let a = self.mul(a, self.exp2i(half));
        self.mul(a, self.exp2i(self.sub(n, half)))
    }

    /// `a * 2^n` for integer-valued `n <= 127` and `a` in [0.5, 2]; what is subnormal may become 0.
    #[inline(always)]
    fn ldexp_down(self, a: Self::F, n: Self::F) -> Self::F {
        self.mul(a, self.exp2i(self.max(n, self.splat(-127.0))))
    }

    /// Zero.
    #[inline(always)]
    fn zero(self) -> Self::F {
        self.splat(0.0)
    }
    /// `-a`.
    #[inline(always)]
    fn neg(self, a: Self::F) -> Self::F {
        self.xor(a, self.splat(-0.0))
    }
    /// `|a|`.
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        self.and(a, self.splat(f32::from_bits(0x7fff_ffff)))
    }
}
