//! Counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random
//! numbers: as easy as 1, 2, 3", 2011).
//!
//! A number is a pure function of a seed and a position, so any part of a sequence can be made by
//! anyone, in any order, on any device. Words, uniform numbers and dropout are of exact operations,
//! so every machine gives the same bits. Normal numbers take `ln` and `cos` in f64 from the
//! platform's mathematical library: the same bits on every level of one machine, while libraries
//! that differ in the last f64 bit may now and then round to a neighbouring f32.

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
    pub fn normals(&self, at: u64, out: &mut [f32]) {
        for (i, value) in out.iter_mut().enumerate() {
            *value = self.normal(at + i as u64);
        }
    }

    /// Standard normal number `at` of the sequence; words `2 at` and `2 at + 1` make it.
    #[must_use]
    pub fn normal(&self, at: u64) -> f32 {
        let block = self.block(at / 2);
        let half = (at % 2) as usize * 2;
        // (0, 1]: the logarithm is finite.
        let radius = 1.0 - f64::from(unit(block[half]));
        let angle = std::f64::consts::TAU * f64::from(unit(block[half + 1]));
        ((-2.0 * radius.ln()).sqrt() * angle.cos()) as f32
    }

    /// A whole number below `bound` (not 0), by multiplication; the bias is below `bound / 2^32`.
    #[must_use]
    pub const fn below(&self, at: u64, bound: u32) -> u32 {
        ((self.word(at) as u64 * bound as u64) >> 32) as u32
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
        let a = counter[0] as u64 * 0xd251_1f53;
        let b = counter[2] as u64 * 0xcd9e_8d57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
        round += 1;
    }
    counter
}

/// `y = x / keep` where the sequence's number is below `keep`, else 0, for elements `first..` of a
/// tensor: the backward pass makes the same mask again from the same sequence.
///
/// # Panics
/// Where the slices differ in length.
pub fn dropout(random: Philox, keep: f32, first: u64, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    let scale = if keep > 0.0 { 1.0 / keep } else { 0.0 };
    let mut at = 0;
    while at < x.len() {
        let position = first + at as u64;
        let block = random.block(position / 4);
        let skip = (position % 4) as usize;
        for word in &block[skip..] {
            if at == x.len() {
                break;
            }
            y[at] = if unit(*word) < keep { x[at] * scale } else { 0.0 };
            at += 1;
        }
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
        random.normals(3, &mut x);
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
        let var = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.01 && (var - 1.0).abs() < 0.02, "{mean} {var}");
        assert_ne!(random.word(5), Philox::new(7, 2).word(5));
        assert!((0..1000).all(|i| random.below(i, 10) < 10));
    }

    #[test]
    fn dropout_in_parts_is_dropout_whole() {
        let random = Philox::new(1, 2);
        let x = vec![1.0f32; 1003];
        let mut whole = vec![0.0; 1003];
        dropout(random, 0.75, 0, &x, &mut whole);
        let mut parts = vec![0.0; 1003];
        let (a, b) = parts.split_at_mut(333);
        dropout(random, 0.75, 0, &x[..333], a);
        dropout(random, 0.75, 333, &x[333..], b);
        assert_eq!(whole, parts);
        let kept = whole.iter().filter(|&&v| v > 0.0).count();
        assert!((700..800).contains(&kept) && whole.iter().all(|&v| v == 0.0 || v == 1.0 / 0.75));
    }
}
