//! Masks of secure aggregation: words that two clients make from one seed, of which one adds and
//! the other takes away.

use std::ops::Range;

use crate::isa::{Isa, Kernel};
use crate::random::{Blocks, Philox};
use crate::simd::{MAX_LANES, Simd};

/// A mask: word `i` of its sequence for element `i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    /// The sequence.
    pub random: Philox,
    /// Whether it is taken away instead of added.
    pub negative: bool,
}

impl Mask {
    /// The mask on one element: the reference of [`add_masks`].
    #[must_use]
    pub fn apply(&self, at: u64, word: u32) -> u32 {
        let mask = self.random.word(at);
        if self.negative { word.wrapping_sub(mask) } else { word.wrapping_add(mask) }
    }
}

/// Adds all `masks`, modulo 2^32, to elements `first..` of a vector.
pub fn add_masks(isa: Isa, masks: &[Mask], first: u64, words: &mut [u32]) {
    isa.run(Masks { masks, first, words });
}

/// The arguments of [`add_masks`].
struct Masks<'a> {
    masks: &'a [Mask],
    first: u64,
    words: &'a mut [u32],
}

impl Masks<'_> {
    /// One element at a time.
    fn plain(&mut self, range: Range<usize>) {
        for at in range {
            for mask in self.masks {
                self.words[at] = mask.apply(self.first + at as u64, self.words[at]);
            }
        }
    }

    /// Groups of `2 * N` vectors, as far as there are whole ones.
    #[inline(always)]
    fn groups<S: Simd, const N: usize>(mut self, s: S) {
        let group = N * 2 * S::LANES;
        let mut at = ((4 - self.first % 4) % 4) as usize;
        at = at.min(self.words.len());
        self.plain(0..at);
        while at + group <= self.words.len() {
            let index = (self.first + at as u64) / 4;
            if (index as u32).checked_add((N * Blocks::<S>::COUNT) as u32).is_none() {
                self.plain(at..at + group);
            } else {
                let to = self.words[at..at + group].as_mut_ptr().cast::<f32>();
                for part in 0..2 * N {
                    s.prefetch(to.wrapping_add(part * S::LANES + super::AHEAD));
                }
                for mask in self.masks {
                    let words = Blocks::new(s, mask.random).words::<N>(index);
                    // `y - m` is `!(!y + m)`.
                    let turn = f32::from_bits(if mask.negative { u32::MAX } else { 0 });
                    let turn = s.splat(turn);
                    for part in 0..2 * N {
                        // SAFETY: the group's vectors.
                        unsafe {
                            let to = to.add(part * S::LANES);
                            let sum = s.add_i32(s.xor(s.load(to), turn), words[part / 2][part % 2]);
                            s.store(to, s.xor(sum, turn));
                        }
                    }
                }
            }
            at += group;
        }
        self.plain(at..self.words.len());
    }
}

impl Kernel for Masks<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if S::LANES == MAX_LANES { self.groups::<S, 4>(s) } else { self.groups::<S, 2>(s) }
    }
}
