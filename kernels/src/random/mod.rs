//! Counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random
//! numbers: as easy as 1, 2, 3", 2011).
//!
//! A number is a pure function of a seed and a position, so any part of a sequence can be made by
//! anyone, in any order, on any device. All are of operations that IEEE 754 gives one result for, so
//! every machine gives the same bits.

mod normal;

pub use normal::add_normals;
use normal::normal;

use crate::isa::{Isa, Kernel};
use crate::simd::{MAX_LANES, Simd};

/// A sequence of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
    stream: [u32; 2],
}

impl Philox {
    /// The sequence number `stream` of `seed`.
    #[must_use]
    pub const fn new(seed: u64, stream: u64) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            stream: [stream as u32, (stream >> 32) as u32],
        }
    }

    /// Block `index` of the sequence: four words.
    #[inline]
    #[must_use]
    pub const fn block(&self, index: u64) -> [u32; 4] {
        let [s0, s1] = self.stream;
        philox([index as u32, (index >> 32) as u32, s0, s1], self.key)
    }

    /// Word `at` of the sequence.
    #[must_use]
    pub const fn word(&self, at: u64) -> u32 {
        self.block(at / 4)[(at % 4) as usize]
    }

    /// Number `at` of the sequence as uniform in [0, 1), a multiple of 2^-24.
    #[must_use]
    pub fn uniform(&self, at: u64) -> f32 {
        unit(self.word(at))
    }

    /// Writes standard normal numbers from position `at` on (Box and Muller 1958).
    pub fn normals(&self, isa: Isa, at: u64, out: &mut [f32]) {
        const ZEROS: [f32; 1024] = [0.0; 1024];
        let mut first = at;
        for out in out.chunks_mut(ZEROS.len()) {
            add_normals(isa, *self, 1.0, first, &ZEROS[..out.len()], out);
            first += out.len() as u64;
        }
    }

    /// Standard normal number `at` of the sequence; words `2 at` and `2 at + 1` make it.
    #[must_use]
    pub fn normal(&self, at: u64) -> f32 {
        let block = self.block(at / 2);
        let half = (at % 2) as usize * 2;
        normal(block[half], block[half + 1])
    }

    /// A whole number below `bound` (not 0), by multiplication; the bias is below `bound / 2^32`.
    #[must_use]
    pub const fn below(&self, at: u64, bound: u32) -> u32 {
        ((self.word(at) as u64 * bound as u64) >> 32) as u32
    }
}

impl Philox {
    /// The sequence as vectors of words.
    #[inline(always)]
    pub(crate) fn vectors<S: Simd>(self, s: S) -> Vectors<S> {
        Vectors(Blocks::new(s, self))
    }
}

/// The words of a sequence by the vector.
pub(crate) struct Vectors<S: Simd>(Blocks<S>);

impl<S: Simd> Vectors<S> {
    /// The words from number `at` on, as the bits of `out`, whose length divides `at` and is a
    /// power of two not below 128.
    #[inline(always)]
    pub(crate) fn fill(&self, at: u64, out: &mut [f32]) {
        debug_assert!(out.len().is_power_of_two() && out.len() >= 8 * MAX_LANES);
        debug_assert!(at.is_multiple_of(out.len() as u64));
        if S::LANES == MAX_LANES { self.groups::<4>(at, out) } else { self.groups::<1>(at, out) }
    }

    /// [`Vectors::fill`] by `N` pairs of vectors at a time.
    #[inline(always)]
    fn groups<const N: usize>(&self, at: u64, out: &mut [f32]) {
        let mut index = at / 4;
        for group in out.chunks_exact_mut(N * 2 * S::LANES) {
            let words = self.0.words::<N>(index);
            for (part, to) in group.chunks_exact_mut(S::LANES).enumerate() {
                // SAFETY: a part is a vector.
                unsafe { self.0.s.store(to.as_mut_ptr(), words[part / 2][part % 2]) };
            }
            index += (N * Blocks::<S>::COUNT) as u64;
        }
    }
}

/// A word as uniform in [0, 1).
#[inline]
#[must_use]
pub const fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Ten rounds over a counter.
#[inline]
const fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let mut round = 0;
    while round < 10 {
        let a = counter[0] as u64 * MULTIPLIERS[0] as u64;
        let b = counter[2] as u64 * MULTIPLIERS[1] as u64;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = next_key(key);
        round += 1;
    }
    counter
}

/// What each half of a block's product is multiplied by in a round.
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];

/// The key of the next round.
#[inline]
const fn next_key(key: [u32; 2]) -> [u32; 2] {
    [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)]
}

/// [`unit`] of the word in each lane: the same numbers, for both forms are exact.
#[inline(always)]
fn units<S: Simd>(s: S, words: S::F) -> S::F {
    // The upper 24 bits less 2^31, which makes them an i32 that an f32 holds.
    let upper = s.and(words, s.splat(f32::from_bits(0xffff_ff00)));
    let signed = s.convert_i32(s.xor(upper, s.splat(-0.0)));
    s.fma(signed, s.splat(1.0 / 4_294_967_296.0), s.splat(0.5))
}

/// A position in the sequence, as counters of `LANES / 2` blocks in the even lanes.
///
/// A word has two lanes because the rounds need the whole product: with both in one vector a round
/// is two multiplications, two shifts and two three-way exclusive ors.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<S: Simd> {
    s: S,
    random: Philox,
    /// The key of each round.
    keys: [[u32; 2]; 10],
    /// What to add to the first block's number for the block of each lane.
    order: S::F,
}

impl<S: Simd> Blocks<S> {
    /// Blocks in two vectors.
    pub(crate) const COUNT: usize = S::LANES / 2;

    /// The blocks of a sequence.
    #[inline(always)]
    pub(crate) fn new(s: S, random: Philox) -> Self {
        let mut order = [0.0; MAX_LANES];
        for i in 0..Self::COUNT {
            // Where `zip_even` takes the blocks from that it puts in order.
            let block = i % 2 * (S::LANES / 4) + i / 2;
            order[2 * i] = f32::from_bits(block as u32);
        }
        let mut keys = [random.key; 10];
        for round in 1..keys.len() {
            keys[round] = next_key(keys[round - 1]);
        }
        // SAFETY: no level has more lanes.
        Self { s, random, keys, order: unsafe { s.load(order.as_ptr()) } }
    }

    /// The words of `N * COUNT` blocks from `index` on; their numbers must differ in the lower 32 bits
    /// only.
    #[inline(always)]
    pub(crate) fn words<const N: usize>(&self, index: u64) -> [[S::F; 2]; N] {
        let (s, keys) = (self.s, &self.keys);
        let mut counters = [[s.zero(); 4]; N];
        for i in 0..N {
            counters[i] = self.after_two(index + (i * Self::COUNT) as u64);
        }
        self.round(&mut counters, keys[2]);
        self.round(&mut counters, keys[3]);
        self.round(&mut counters, keys[4]);
        self.round(&mut counters, keys[5]);
        self.round(&mut counters, keys[6]);
        self.round(&mut counters, keys[7]);
        self.round(&mut counters, keys[8]);
        self.round(&mut counters, keys[9]);
        let mut words = [[s.zero(); 2]; N];
        for i in 0..N {
            words[i] = s.zip_even(counters[i]);
        }
        words
    }

    /// The blocks of a vector from `index` on after two rounds, in which half of the products are the
    /// same for all of them.
    #[inline(always)]
    fn after_two(&self, index: u64) -> [S::F; 4] {
        let s = self.s;
        let word = |bits: u32| s.splat(f32::from_bits(bits));
        let wide = |a: u32, b: u32| u64::from(a) * u64::from(b);
        let ([s0, s1], [m0, m1]) = (self.random.stream, MULTIPLIERS);
        let [k0, k1] = self.keys[0];
        let a = s.mul_wide_u32(s.add_i32(word(index as u32), self.order), word(m0));
        let b = wide(s0, m1);
        let c0 = (b >> 32) as u32 ^ (index >> 32) as u32 ^ k0;
        let c2 = s.xor(s.odd_to_even(a), word(s1 ^ k1));
        let [k0, k1] = self.keys[1];
        let (c1, c3) = (b as u32, a);
        let a = wide(c0, m0);
        let b = s.mul_wide_u32(c2, word(m1));
        [
            s.xor(s.odd_to_even(b), word(c1 ^ k0)),
            b,
            s.xor(c3, word((a >> 32) as u32 ^ k1)),
            word(a as u32),
        ]
    }

    /// A round. Called eight times rather than in a loop, which the compiler keeps as one.
    #[inline(always)]
    fn round<const N: usize>(&self, counters: &mut [[S::F; 4]; N], key: [u32; 2]) {
        let s = self.s;
        let word = |bits: u32| s.splat(f32::from_bits(bits));
        for i in 0..N {
            let [c0, c1, c2, c3] = counters[i];
            let a = s.mul_wide_u32(c0, word(MULTIPLIERS[0]));
            let b = s.mul_wide_u32(c2, word(MULTIPLIERS[1]));
            counters[i] = [
                s.xor(s.xor(s.odd_to_even(b), c1), word(key[0])),
                b,
                s.xor(s.xor(s.odd_to_even(a), c3), word(key[1])),
                a,
            ];
        }
    }
}

/// `y = x / keep` where the sequence's number is below `keep`, else 0, for elements `first..` of a
/// tensor: the backward pass makes the same mask again from the same sequence.
///
/// # Panics
/// Where the slices differ in length.
pub fn dropout(isa: Isa, random: Philox, keep: f32, first: u64, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    let scale = if keep > 0.0 { 1.0 / keep } else { 0.0 };
    isa.run(Dropout { random, keep, scale, first, x, y });
}

/// Elements ahead of the current ones that are asked for. The rounds are so many instructions that
/// the processor hardly looks beyond them by itself: 27 instead of 11 GB/s of dropout at 64 MiB.
const AHEAD: usize = 1024;

struct Dropout<'a> {
    random: Philox,
    keep: f32,
    scale: f32,
    first: u64,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Dropout<'_> {
    /// One element at a time.
    fn plain(&mut self, range: std::ops::Range<usize>) {
        for at in range {
            let kept = self.random.uniform(self.first + at as u64) < self.keep;
            self.y[at] = if kept { self.x[at] * self.scale } else { 0.0 };
        }
    }
}

impl Kernel for Dropout<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Vectors of counters that take their rounds together, for a round waits for the one before:
        // in cache two on AVX2 are 1.16 times as fast as one; on AVX-512 38 GB/s with four and 43 with
        // six, which leave no register for the keys: those are read.
        if S::LANES == MAX_LANES { self.groups::<S, 6>(s) } else { self.groups::<S, 2>(s) }
    }
}

impl Dropout<'_> {
    /// All elements, by `TOGETHER` pairs of vectors at a time.
    #[inline(always)]
    fn groups<S: Simd, const TOGETHER: usize>(mut self, s: S) {
        let blocks = Blocks::new(s, self.random);
        let (keep, scale) = (s.splat(self.keep), s.splat(self.scale));
        let group = TOGETHER * 2 * S::LANES;
        let mut at = ((4 - self.first % 4) % 4) as usize;
        at = at.min(self.x.len());
        self.plain(0..at);
        while at + group <= self.x.len() {
            let index = (self.first + at as u64) / 4;
            if (index as u32).checked_add((TOGETHER * Blocks::<S>::COUNT) as u32).is_none() {
                self.plain(at..at + group);
            } else {
                let words = blocks.words::<TOGETHER>(index);
                for part in 0..2 * TOGETHER {
                    let (i, words) = (at + part * S::LANES, words[part / 2][part % 2]);
                    s.prefetch(self.x.as_ptr().wrapping_add(i + AHEAD));
                    s.prefetch(self.y.as_ptr().wrapping_add(i + AHEAD));
                    // SAFETY: both slices hold `group` elements from `at` on.
                    unsafe {
                        let kept = s.mul(s.load(self.x.as_ptr().add(i)), scale);
                        let kept = s.select(s.lt(units(s, words), keep), kept, s.zero());
                        s.store(self.y.as_mut_ptr().add(i), kept);
                    }
                }
            }
            at += group;
        }
        self.plain(at..self.x.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors publish with their Random123 library.
    #[test]
    fn known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn moments() {
        let random = Philox::new(7, 1);
        let n = 100_000;
        let mut x = vec![0.0; n];
        random.normals(Isa::PORTABLE, 3, &mut x);
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
        let var = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.01 && (var - 1.0).abs() < 0.02, "{mean} {var}");
        assert_ne!(random.word(5), Philox::new(7, 2).word(5));
        assert!((0..1000).all(|i| random.below(i, 10) < 10));
    }

    #[test]
    fn dropout_takes_the_numbers_of_the_sequence_on_every_level() {
        let random = Philox::new(0xfedc_ba98_7654_3210, 5);
        let x: Vec<f32> = (0..1003).map(|i| i as f32 - 500.0).collect();
        let mut y = vec![f32::NAN; x.len()];
        // The third start lets the lower half of the counter wrap around.
        for first in [0, 3, (1 << 34) - 500, u64::MAX >> 2] {
            for keep in [0.0, 0.3, 0.75, 1.0] {
                for isa in Isa::available() {
                    dropout(isa, random, keep, first, &x, &mut y);
                    for (i, (&x, &y)) in x.iter().zip(&y).enumerate() {
                        let kept = random.uniform(first + i as u64) < keep;
                        let want = if kept { x * (1.0 / keep) } else { 0.0 };
                        assert_eq!(y.to_bits(), want.to_bits(), "{i} of {first} {}", isa.name());
                    }
                }
            }
        }
    }

    #[test]
    fn dropout_in_parts_is_dropout_whole() {
        let random = Philox::new(1, 2);
        let x = vec![1.0f32; 1003];
        for isa in Isa::available() {
            let mut whole = vec![0.0; 1003];
            dropout(isa, random, 0.75, 0, &x, &mut whole);
            let mut parts = vec![0.0; 1003];
            let (a, b) = parts.split_at_mut(333);
            dropout(isa, random, 0.75, 0, &x[..333], a);
            dropout(isa, random, 0.75, 333, &x[333..], b);
            assert_eq!(whole, parts);
            let kept = whole.iter().filter(|&&v| v > 0.0).count();
            assert!((700..800).contains(&kept));
            assert!(whole.iter().all(|&v| v == 0.0 || v == 1.0 / 0.75));
        }
    }
}
