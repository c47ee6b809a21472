//! B stored [n, k] in blocks that have [`Codes`]: four columns at a time, the codes decoded in
//! registers and the scale of each block, or part of one, applied to its sums.
//!
//! ```text
//! c = sum over blocks of  d sum (q - center) a  +  m sum a
//! ```
//!
//! so that beside a minimum, `|d (q - center)| + |m|` is what the error is relative to. The sum of
//! an element adds the groups in order of k in each lane, then the lanes by a fixed tree: it
//! depends on its row and its column alone.

use crate::isa::Kernel;
use crate::quant::{Codes, CodesVisitor};
use crate::simd::{MAX_LANES, Simd};

use super::super::{Gemm, PackA, Run};
use super::put;

/// Elements of a block.
const BLOCK: usize = 32;
/// Bytes ahead of four columns at which B is asked for, every line in the order of memory, whatever
/// the order of the loads. From L3, with int8 sums on a Zen 5 thread, 219 GFLOP/s of Q4_0 and 206 of
/// Q4_1; 193 and 162 without. A line ahead of each column's loads left out every fifth of Q4_1: 172.
const AHEAD: usize = 6 << 10;

/// How a column's blocks fill vectors: `LANES / 4` successive blocks are a group, four lanes each,
/// which in a vector of codes hold 0 to 15 or 16 to 31. The last group ends with the last block;
/// the blocks that it has in common with the one before count as zeros in A.
///
/// Where parts of a block lie in pairs, one in the low nibbles and one in the high, a group is the
/// first of `LANES / 4` pairs, and the next one their second.
#[derive(Clone, Copy)]
pub(in super::super) struct Groups {
    /// Blocks of a column.
    pub blocks: usize,
    /// Blocks of a group.
    fours: usize,
    /// Whether they are of pairs.
    paired: bool,
}

impl Groups {
    pub(in super::super) fn of(gemm: &Gemm, lanes: usize) -> Self {
        let paired = gemm.b_format.block_elems() > BLOCK;
        Self { blocks: gemm.k / BLOCK, fours: lanes / 4, paired }
    }

    /// Block `i` of the group that would begin with block `first` if they came in order.
    pub(in super::super) fn block(self, first: usize, i: usize) -> usize {
        let (group, pairs) = (first / self.fours, first / self.fours / 2 * 2 * self.fours);
        if self.paired { pairs + 2 * i + group % 2 } else { first + i }
    }

    /// f32 of a packed row of A, with so many vectors for a group.
    pub(in super::super) fn row_len(self, vectors: usize) -> usize {
        self.blocks.div_ceil(self.fours) * vectors * self.fours * 4
    }

    /// Blocks before the first new one of a group that has `new`.
    pub(in super::super) fn skipped(self, new: usize) -> usize {
        if self.blocks < self.fours { 0 } else { self.fours - new }
    }
}

/// How codes are multiplied with rows of A.
pub(in super::super) trait Multiplier {
    /// Vectors of a group of a packed row of A; the last holds each block's sum in four lanes, where
    /// blocks of B have minimums.
    const VECTORS: usize;

    /// What the products of a row with the blocks of four columns are to be multiplied with, where
    /// the columns' scales are `scales`.
    ///
    /// # Safety
    /// `x` must be valid for the vectors of a group.
    unsafe fn scales<S: Simd>(s: S, x: *const f32, scales: S::F) -> S::F;

    /// Each lane's products of codes, in bytes as they are stored, with `R` rows: codes 0 to 15 of
    /// each block are in the first vector, the others in the second.
    ///
    /// # Safety
    /// As above, of each row.
    unsafe fn dots<S: Simd, C: Codes, const R: usize>(
        s: S,
        codes: [S::F; 2],
        x: [*const f32; R],
    ) -> [S::F; R];
}

/// Computes the columns of a task.
///
/// # Safety
/// As for [`Gemm::run`](super::super::Gemm::run).
#[inline(always)]
pub(in super::super) unsafe fn columns<S: Simd, M: Multiplier>(s: S, run: &Run<'_>) {
    struct Of<'a, S, M>(S, &'a Run<'a>, std::marker::PhantomData<M>);
    impl<S: Simd, M: Multiplier> CodesVisitor for Of<'_, S, M> {
        type Out = ();
        #[inline(always)]
        fn visit<C: Codes>(self) {
            let Self(s, run, _) = self;
            let (_, [column, columns]) = run.rectangle();
            let pairs = run.gemm.m / 2;
            for j in (column..column + columns).step_by(4) {
                let there = (column + columns - j).min(4);
                // SAFETY: rows and columns that exist.
                unsafe {
                    for pair in 0..pairs {
                        tile::<S, M, C, 2>(s, run, 2 * pair, [j, there]);
                    }
                    if run.gemm.m % 2 == 1 {
                        tile::<S, M, C, 1>(s, run, 2 * pairs, [j, there]);
                    }
                }
            }
        }
    }
    run.gemm.b_format.visit_codes(Of(s, run, std::marker::PhantomData::<M>));
}

/// `R` rows of up to four columns of C.
///
/// # Safety
/// As for [`columns`]; the rows and columns must exist.
#[inline(always)]
unsafe fn tile<S: Simd, M: Multiplier, C: Codes, const R: usize>(
    s: S,
    run: &Run<'_>,
    row: usize,
    [column, columns]: [usize; 2],
) {
    let groups = Groups::of(run.gemm, S::LANES);
    let (blocks, fours) = (groups.blocks / C::PARTS, S::LANES / 4);
    // Blocks that are multiplied at once.
    let step = if C::PARTS == 1 { fours } else { 1 };
    let mut x = [run.shared; R];
    for r in 0..R {
        x[r] = run.shared.wrapping_add((row + r) * groups.row_len(M::VECTORS));
    }
    let mut b = [run.b.cast::<C>().wrapping_add(column * blocks); 4];
    for c in 1..4 {
        // A column that does not exist is computed as another one.
        b[c] = b[c - 1].wrapping_add(if c < columns { blocks } else { 0 });
    }
    let mut sums = Sums { each: [[s.zero(); 4]; R], mins: [s.zero(); R] };
    // SAFETY: the blocks of existing columns; rows are packed in whole groups.
    unsafe {
        if (1..step).contains(&blocks) {
            // Too few to end with the last one.
            group::<S, M, C, R>(s, x, b, blocks, &mut sums);
        } else {
            let mut ahead = b[0].cast::<u8>().wrapping_add(AHEAD);
            let mut at = 0;
            while at < blocks {
                for line in 0..(4 * step * C::BYTES).div_ceil(64) {
                    s.prefetch(ahead.wrapping_add(64 * line).cast());
                }
                ahead = ahead.wrapping_add(4 * step * C::BYTES);
                let first = at.min(blocks - step);
                let b = [0, 1, 2, 3].map(|c: usize| b[c].wrapping_add(first));
                if C::PARTS == 1 {
                    group::<S, M, C, R>(s, x, b, fours, &mut sums);
                } else {
                    parts::<S, M, C, R>(s, x, b, &mut sums);
                }
                for r in 0..R {
                    x[r] = x[r].wrapping_add(M::VECTORS * 4 * C::PARTS * step);
                }
                at += step;
            }
        }
        for r in 0..R {
            let mut each = s.sum_each(sums.each[r]);
            if C::HAS_MIN {
                let mins = s.sum_fours(sums.mins[r]);
                for c in 0..4 {
                    each[c] += mins[c];
                }
            }
            put(run, row + r, [column, columns], each);
        }
    }
}

/// Sums of `R` rows with four columns in lanes: those of codes, and those of minimums, of which lanes
/// `c`, `c + 4` … are of column `c`.
struct Sums<S: Simd, const R: usize> {
    each: [[S::F; 4]; R],
    mins: [S::F; R],
}

impl<S: Simd, const R: usize> Sums<S, R> {
    /// Takes in a group's minimums.
    ///
    /// # Safety
    /// `x` must be valid for the vectors of a group.
    #[inline(always)]
    unsafe fn add_mins<M: Multiplier>(&mut self, s: S, x: [*const f32; R], mins: S::F) {
        for r in 0..R {
            // SAFETY: the caller's contract.
            let sum = unsafe { s.load(x[r].add((M::VECTORS - 1) * S::LANES)) };
            self.mins[r] = s.fma(mins, sum, self.mins[r]);
        }
    }

    /// Takes in the codes of column `c` of a group, whose products are multiplied with lanes `c`,
    /// `c + 4` … of `by`.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn add<M: Multiplier, C: Codes>(
        &mut self,
        s: S,
        c: usize,
        codes: [S::F; 2],
        x: [*const f32; R],
        by: [S::F; R],
    ) {
        // SAFETY: the caller's contract.
        let dots = unsafe { M::dots::<S, C, R>(s, codes, x) };
        for r in 0..R {
            let by = match c {
                0 => s.spread::<0>(by[r]),
                1 => s.spread::<1>(by[r]),
                2 => s.spread::<2>(by[r]),
                _ => s.spread::<3>(by[r]),
            };
            self.each[r][c] = s.fma(dots[r], by, self.each[r][c]);
        }
    }

    /// The same of pairs of parts from number `pair` on, of a block of column `c`.
    ///
    /// # Safety
    /// As above, of both groups; the block must have the pairs.
    #[inline(always)]
    unsafe fn add_pairs<M: Multiplier, C: Codes>(
        &mut self,
        s: S,
        c: usize,
        block: *const C,
        pair: usize,
        x: [[*const f32; R]; 2],
        by: [[S::F; R]; 2],
    ) {
        // SAFETY: the caller's contract; the block ends with its pairs, each of 32 bytes.
        unsafe {
            let codes = block.add(1).cast::<[u8; BLOCK]>().sub(C::PARTS / 2 - pair);
            let first = s.load_fours::<_, 0>(codes, S::LANES / 4);
            let second = s.load_fours::<_, 8>(codes, S::LANES / 4);
            let low = [s.low_nibbles(first), s.low_nibbles(second)];
            let high = [s.high_nibbles(first), s.high_nibbles(second)];
            self.add::<M, C>(s, c, low, x[0], by[0]);
            self.add::<M, C>(s, c, high, x[1], by[1]);
        }
    }
}

/// Adds the products of `n` blocks of four columns, and of their minimums.
///
/// # Safety
/// Each column must have the blocks, each row a packed group.
#[inline(always)]
unsafe fn group<S: Simd, M: Multiplier, C: Codes, const R: usize>(
    s: S,
    x: [*const f32; R],
    b: [*const C; 4],
    n: usize,
    sums: &mut Sums<S, R>,
) {
    const { assert!(C::NIBBLES || !C::HAS_MIN) }
    // SAFETY: the caller's contract; the words are those of the codes' blocks.
    unsafe {
        // Four columns' at once: one conversion serves them all. With Q4_1 and int8 sums, 227
        // GFLOP/s instead of 186 on a Zen 5 thread.
        let [scales, mins] = if C::HAS_MIN {
            s.load_f16_of_four::<C, 2>(b, n)
        } else {
            [s.load_f16_of_four::<C, 1>(b, n)[0], s.zero()]
        };
        let mut by = [scales; R];
        for r in 0..R {
            by[r] = M::scales(s, x[r], scales);
        }
        if C::HAS_MIN {
            sums.add_mins::<M>(s, x, mins);
        }
        for c in 0..4 {
            let b = b[c];
            let first =
                if C::HAS_MIN { s.load_fours::<C, 2>(b, n) } else { s.load_fours::<C, 1>(b, n) };
            let codes = if C::NIBBLES {
                [s.low_nibbles(first), s.high_nibbles(first)]
            } else {
                [first, s.load_fours::<C, 9>(b, n)]
            };
            sums.add::<M, C>(s, c, codes, x, by);
        }
    }
}

/// Adds the products of a block of more than one part of four columns.
///
/// # Safety
/// Each column must have the block, each row the packed groups.
#[inline(always)]
unsafe fn parts<S: Simd, M: Multiplier, C: Codes, const R: usize>(
    s: S,
    x: [*const f32; R],
    b: [*const C; 4],
    sums: &mut Sums<S, R>,
) {
    let (fours, group) = (S::LANES / 4, M::VECTORS * S::LANES);
    // SAFETY: the caller's contract.
    unsafe {
        // As whole words: halves one by one are two instructions each.
        let (mut scales, mut mins) = (0u64, 0u64);
        for c in 0..4 {
            scales |= u64::from((*b[c]).scale()) << (16 * c);
            mins |= u64::from((*b[c]).min()) << (16 * c);
        }
        let each = [scales, mins].map(|halves| [halves.to_le(); MAX_LANES / 4]);
        let [scale, min] = each.map(|halves| s.load_f16(halves.as_ptr().cast()));
        for pair in (0..C::PARTS / 2).step_by(fours) {
            let steps = C::steps_of_four(s, b, pair);
            let (mut x, mut by) = ([x; 2], [[scale; R]; 2]);
            for odd in 0..2 {
                let scales = s.mul(scale, steps[odd][0]);
                for r in 0..R {
                    x[odd][r] = x[odd][r].wrapping_add((2 * pair / fours + odd) * group);
                    by[odd][r] = M::scales(s, x[odd][r], scales);
                }
                sums.add_mins::<M>(s, x[odd], s.mul(min, steps[odd][1]));
            }
            // Not a loop: that stays one, with the sums in memory.
            sums.add_pairs::<M, C>(s, 0, b[0], pair, x, by);
            sums.add_pairs::<M, C>(s, 1, b[1], pair, x, by);
            sums.add_pairs::<M, C>(s, 2, b[2], pair, x, by);
            sums.add_pairs::<M, C>(s, 3, b[3], pair, x, by);
        }
    }
}

/// Vectors of a group of a packed row of A: those that the bytes of a lane of
/// codes are multiplied with, for the low codes, then for the high, then their sums.
pub(super) const VECTORS: usize = 9;

/// Packs the rows of A for products in f32.
pub(in super::super) struct Arrange<'a>(pub(in super::super) PackA<'a>);

impl Kernel for Arrange<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PackA { gemm, first, rows, a, shared } = self.0;
        let groups = Groups::of(gemm, S::LANES);
        let fours = S::LANES / 4;
        for r in first..first + rows {
            for at in (0..groups.blocks).step_by(fours) {
                let here = (groups.blocks - at).min(fours);
                // SAFETY: blocks of row `r`; each group has its place.
                unsafe {
                    let x = a.add(r * gemm.k);
                    let dst = shared.add(r * groups.row_len(VECTORS) + at * 4 * VECTORS);
                    dst.write_bytes(0, VECTORS * S::LANES);
                    for i in 0..here * BLOCK {
                        let lane = 4 * (i / BLOCK + groups.skipped(here)) + i % 16 / 4;
                        let x = x.add(groups.block(at, i / BLOCK) * BLOCK + i % BLOCK);
                        *dst.add((i % BLOCK / 16 * 4 + i % 4) * S::LANES + lane) = *x;
                    }
                    let mut sum = s.zero();
                    for v in 0..VECTORS - 1 {
                        sum = s.add(sum, s.load(dst.add(v * S::LANES)));
                    }
                    let sums = dst.add((VECTORS - 1) * S::LANES);
                    s.store(sums, sum);
                    for four in 0..fours {
                        let four = &mut *sums.cast::<[f32; 4]>().add(four);
                        *four = [(four[0] + four[1]) + (four[2] + four[3]); 4];
                    }
                }
            }
        }
    }
}

/// Multiplies codes with f32.
pub(super) struct Floats;

impl Multiplier for Floats {
    const VECTORS: usize = VECTORS;

    #[inline(always)]
    unsafe fn scales<S: Simd>(_: S, _: *const f32, scales: S::F) -> S::F {
        scales
    }

    #[inline(always)]
    unsafe fn dots<S: Simd, C: Codes, const R: usize>(
        s: S,
        codes: [S::F; 2],
        x: [*const f32; R],
    ) -> [S::F; R] {
        let center = s.splat(f32::from(C::CENTER));
        let mut sums = [s.zero(); R];
        for v in 0..VECTORS - 1 {
            let code = if C::NIBBLES {
                s.widen_nibble(codes[v / 4], v % 4, center)
            } else {
                s.widen_byte(codes[v / 4], v % 4)
            };
            for r in 0..R {
                // SAFETY: the vectors of a group.
                let x = unsafe { s.load(x[r].add(v * S::LANES)) };
                sums[r] = s.fma(code, x, sums[r]);
            }
        }
        sums
    }
}
