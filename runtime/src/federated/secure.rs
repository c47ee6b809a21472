//! Sums that show no client's part (Bonawitz et al., "Practical secure aggregation for
//! privacy-preserving machine learning", 2017): fixed point modulo 2^32, and masks that pairs of
//! clients make from a seed they share, of which one adds and the other takes away.
//!
//! The generator is made for statistics: masks are as secret as their 64-bit seeds, and no cipher.

use tenon_kernels::exchange::{Mask, Stream, add_masks};

use super::{PART, Workers, each, sums};
use crate::error::{Error, Result};

/// How numbers become integers whose sum over all clients does not overflow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedPoint {
    /// The largest magnitude, to which larger ones are cut.
    pub clip: f32,
    /// The most vectors that are summed.
    pub clients: u32,
}

/// 2^-96: 2^31 units of a smaller scale are more than f32 holds.
const LEAST_SCALE: f32 = f32::from_bits((127 - 96) << 23);

impl FixedPoint {
    /// Units in 1: the largest power of two with `clients * clip * scale < 2^31`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a clip or a number of clients that leaves no units.
    pub fn scale(&self) -> Result<f32> {
        let most = f64::from(i32::MAX) / (f64::from(self.clients) * f64::from(self.clip));
        let scale = most.log2().floor().exp2() as f32;
        // What is cut has a unit at least, the scale an inverse, and any sum is a number of f32.
        let is_usable = self.clients > 0 && self.clip > 0.0 && scale >= LEAST_SCALE;
        if is_usable && scale <= 1.0 / f32::MIN_POSITIVE && self.clip * scale >= 1.0 {
            return Ok(scale);
        }
        let Self { clip, clients } = self;
        let mend = "give a positive clip and the number of clients, together at most 1e38";
        Err(Error::Usage(format!("no fixed point for {clients} clients of {clip}: {mend}")))
    }
}

/// `words[i] = weight * x[i]`, cut to the clip, in units of 1 / scale, rounded to the nearest; NaN
/// becomes 0.
///
/// # Errors
/// As [`FixedPoint::scale`] and [`sums::stream`].
pub fn encode(
    workers: &dyn Workers,
    fixed: FixedPoint,
    weight: f32,
    x: &[f32],
    words: &mut [u32],
) -> Result<()> {
    let scale = fixed.scale()?;
    let limit = (fixed.clip * scale).floor();
    sums::stream(workers, Stream::ToFixed { factor: weight * scale, limit }, words, x)
}

/// `x[i] = factor * words[i] / scale`.
///
/// # Errors
/// As [`encode`].
pub fn decode(
    workers: &dyn Workers,
    fixed: FixedPoint,
    factor: f32,
    words: &[u32],
    x: &mut [f32],
) -> Result<()> {
    let factor = factor / fixed.scale()?;
    sums::stream(workers, Stream::FromFixed { factor }, x, words)
}

/// Adds masks to a vector, element `i` having word `i` of each.
pub fn mask(workers: &dyn Workers, masks: &[Mask], words: &mut [u32]) {
    let parts = words.chunks_mut(PART).enumerate();
    each(workers, parts, |(i, words)| {
        add_masks(workers.isa(), masks, (i * PART) as u64, words);
    });
}

/// `sum += words`, modulo 2^32.
///
/// # Errors
/// As [`sums::stream`].
pub fn accumulate(workers: &dyn Workers, words: &[u32], sum: &mut [u32]) -> Result<()> {
    sums::stream(workers, Stream::AddWords, sum, words)
}
