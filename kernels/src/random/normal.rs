//! Normal numbers, added to what is there.

use super::{Philox, unit};
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;
use crate::simd::math::LOG;

/// Coefficients of `sin(pi/2 d) / d` and of `cos(pi/2 d)` in `d^2`, for |d| <= 1/2: Taylor's.
const SIN: [f32; 5] = [1.570_796_4, -0.645_964_1, 0.079_692_63, -0.004_681_754, 0.000_160_441_18];
const COS: [f32; 6] =
    [1.0, -1.233_700_6, 0.253_669_5, -0.020_863_48, 0.000_919_260_3, -0.000_025_202_043];

/// By Horner, each product rounded: contracted ones would give other bits on other machines.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, c: &[f32; N]) -> f32 {
    let mut sum = c[N - 1];
    for i in (0..N - 1).rev() {
        sum = sum * x + c[i];
    }
    sum
}

/// The standard normal number that two words make: `sqrt(-2 ln(1 - u)) cos(2 pi v)` of their numbers
/// in [0, 1) (Box and Muller, 1958), with an error of at most 6e-7.
#[inline(always)]
pub(super) fn normal(radius: u32, angle: u32) -> f32 {
    // In [sqrt(1/2), sqrt(2)) times a power of two; all of it exact.
    const ROOT: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    let bits = (1.0 - unit(radius)).to_bits().wrapping_sub(ROOT);
    let exponent = (bits.cast_signed() >> 23) as f32;
    let f = f32::from_bits((bits & 0x7f_ffff) + ROOT) - 1.0;
    let f2 = f * f;
    let tail = f2 * f * polynomial(f, &LOG) - 0.5 * f2;
    let log = exponent * std::f32::consts::LN_2 + (f + tail);
    // The nearest quarter of a turn, and what is left of one.
    let turns = 4.0 * unit(angle);
    let quarter = (turns + 0.5) as i32;
    let d = turns - quarter as f32;
    let d2 = d * d;
    let wave = if quarter & 1 == 0 { polynomial(d2, &COS) } else { d * polynomial(d2, &SIN) };
    // Minus in the second and the third quarter.
    let sign = ((quarter + 1) & 2) << 30;
    f32::from_bits(((-2.0 * log).sqrt() * wave).to_bits() ^ sign.cast_unsigned())
}

/// Writes `x` plus `scale` times the normal numbers from position `first` on.
///
/// # Panics
/// Where the slices differ in length.
pub fn add_normals(isa: Isa, random: Philox, scale: f32, first: u64, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    isa.run(AddNormals { random, scale, first, x, y });
}

/// Numbers that are made together.
const GROUP: usize = 64;

struct AddNormals<'a> {
    random: Philox,
    scale: f32,
    first: u64,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl AddNormals<'_> {
    /// One element at a time.
    fn plain(&mut self, range: std::ops::Range<usize>) {
        for at in range {
            self.y[at] = self.x[at] + self.scale * self.random.normal(self.first + at as u64);
        }
    }
}

impl Kernel for AddNormals<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let vectors = self.random.vectors(s);
        let group = GROUP as u64;
        let mut at = ((group - self.first % group) % group) as usize;
        at = at.min(self.x.len());
        self.plain(0..at);
        while at + GROUP <= self.x.len() {
            let mut words = [0.0; 2 * GROUP];
            vectors.fill(2 * (self.first + at as u64), &mut words);
            // Loops over arrays become vectors, whatever the level has.
            let mut numbers = [0.0; GROUP];
            for i in 0..GROUP {
                numbers[i] = normal(words[2 * i].to_bits(), words[2 * i + 1].to_bits());
            }
            for i in 0..GROUP {
                self.y[at + i] = self.x[at + i] + self.scale * numbers[i];
            }
            at += GROUP;
        }
        self.plain(at..self.x.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same of the words' numbers in f64.
    fn reference(radius: u32, angle: u32) -> f64 {
        let radius = 1.0 - f64::from(unit(radius));
        let angle = std::f64::consts::TAU * f64::from(unit(angle));
        (-2.0 * radius.ln()).sqrt() * angle.cos()
    }

    #[test]
    fn numbers_are_near_those_of_exact_functions() {
        let random = Philox::new(3, 4);
        let mut words: Vec<[u32; 2]> =
            (0..200_000).map(|at| [random.word(2 * at), random.word(2 * at + 1)]).collect();
        let ends =
            [0, 1 << 8, 2 << 8, 1 << 29, (1 << 29) - 256, 1 << 30, 1 << 31, 3 << 30, u32::MAX];
        words.extend(ends.iter().flat_map(|&r| ends.iter().map(move |&a| [r, a])));
        let mut worst = 0.0f64;
        for [radius, angle] in words {
            let (got, want) = (f64::from(normal(radius, angle)), reference(radius, angle));
            worst = worst.max((got - want).abs());
        }
        assert!(worst < 6e-7, "{worst}");
    }

    #[test]
    fn every_level_adds_the_numbers_of_the_sequence() {
        let random = Philox::new(0xfedc_ba98_7654_3210, 5);
        let x: Vec<f32> = (0..1003).map(|i| i as f32 - 500.0).collect();
        let mut y = vec![f32::NAN; x.len()];
        // The third start lets the lower half of the counter wrap around.
        for first in [0, 3, (1 << 33) - 500, u64::MAX >> 2] {
            for isa in Isa::available() {
                add_normals(isa, random, 0.5, first, &x, &mut y);
                for (i, (&x, &y)) in x.iter().zip(&y).enumerate() {
                    let want = x + 0.5 * random.normal(first + i as u64);
                    assert_eq!(y.to_bits(), want.to_bits(), "{i} of {first} {}", isa.name());
                }
            }
        }
    }
}
