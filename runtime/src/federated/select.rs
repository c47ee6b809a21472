//! The elements of largest magnitude.
//!
//! A sample tells a magnitude that hardly more than enough elements reach; one pass over the vector,
//! which may be a sum that the pass makes, finds those, and counts by parts of their bits find the exact bound among them. Where the sample
//! misleads, the bound is halved in until enough are found and fit: the result never depends on it.

use tenon_kernels::Isa;
use tenon_kernels::exchange::{Collected, add_and_collect, collect};

use super::room;
use crate::error::{Error, Result};

/// Elements looked at for a first guess.
const SAMPLE: usize = 1 << 15;

/// The bits of infinity: beyond every finite magnitude.
const INFINITY: u32 = 0x7f80_0000;

/// A magnitude as an integer of the same order.
fn key(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// Elements that were chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Largest {
    /// Where they are, ascending.
    pub places: Vec<u32>,
    /// What stands there.
    pub values: Vec<f32>,
}

/// The `k` elements of largest magnitude; of equal ones the first.
///
/// # Errors
/// [`Error::Usage`] for an element that is not finite, fewer than `k` elements, or more than u32
/// counts. [`Error::OutOfMemory`].
pub fn largest(isa: Isa, x: &[f32], k: usize) -> Result<Largest> {
    let mut search = Search::new(x.len(), k, |i| x[i])?;
    let Search { guess, places, values, .. } = &mut search;
    let found = collect(isa, f32::from_bits(*guess), x, places, values);
    search.end(isa, x, found)
}

/// `sum += x`, and [`largest`] of the sum, mostly in one pass.
///
/// # Errors
/// As there; `sum` is as it was only where there are too few elements, or too many.
pub fn add_and_choose(isa: Isa, x: &[f32], sum: &mut [f32], k: usize) -> Result<Largest> {
    let mut search = Search::new(sum.len(), k, |i| sum[i] + x[i])?;
    let Search { guess, places, values, .. } = &mut search;
    let found = add_and_collect(isa, f32::from_bits(*guess), x, sum, places, values);
    search.end(isa, sum, found)
}

/// A search for elements: the magnitude that is tried, and room for those that reach it.
struct Search {
    k: usize,
    guess: u32,
    places: Vec<u32>,
    values: Vec<f32>,
}

impl Search {
    /// A search among the `n` elements that `at` gives.
    fn new(n: usize, k: usize, at: impl Fn(usize) -> f32) -> Result<Self> {
        if k > n || u32::try_from(n).is_err() {
            let why = "send all of it, or parts of at most 2^32 - 1 elements";
            return Err(Error::Usage(format!("{k} of {n} elements cannot be sent: {why}")));
        }
        let (guess, likely) = sampled(n, k, at)?;
        // As many as it says, and as many again above what is wanted.
        let most = n.min(k + 2 * likely.saturating_sub(k) + 4096);
        Ok(Self { k, guess, places: room(most)?, values: room(most)? })
    }

    /// The elements, after a first pass over `x` has found some.
    fn end(self, isa: Isa, x: &[f32], mut found: Collected) -> Result<Largest> {
        let Self { k, mut guess, mut places, mut values } = self;
        // As many reach `low` as are wanted, or more; fewer reach `high`.
        let (mut low, mut high) = (0, INFINITY);
        loop {
            if !found.finite {
                return Err(not_finite());
            }
            if (k..=places.len()).contains(&found.count) {
                break;
            }
            if found.count < k {
                high = guess;
            } else {
                low = guess;
            }
            if high - low <= 1 {
                let above = collect(isa, f32::from_bits(high), x, &mut places, &mut values).count;
                places.truncate(above);
                let equal = (0..x.len() as u32).filter(|&i| key(x[i as usize]) == low);
                places.extend(equal.take(k - above));
                places.sort_unstable();
                values.clear();
                values.extend(places.iter().map(|&place| x[place as usize]));
                return Ok(Largest { places, values });
            }
            guess = low + (high - low) / 2;
            found = collect(isa, f32::from_bits(guess), x, &mut places, &mut values);
        }
        let (bound, mut equal) = bound(&values[..found.count], k);
        let mut kept = 0;
        for i in 0..found.count {
            let key = key(values[i]);
            let is_first = key == bound && equal > 0;
            equal -= usize::from(is_first);
            (places[kept], values[kept]) = (places[i], values[i]);
            kept += usize::from(key > bound || is_first);
        }
        places.truncate(kept);
        values.truncate(kept);
        Ok(Largest { places, values })
    }
}

/// An update that must not be sent.
pub(super) fn not_finite() -> Error {
    let mend = "training has diverged: lower the learning rate, or clip gradients";
    Error::Usage(format!("an element is not finite ({mend})"))
}

/// A magnitude that somewhat more than `k` of `n` elements reach, if a sample tells right, and how many
/// those are.
fn sampled(n: usize, k: usize, x: impl Fn(usize) -> f32) -> Result<(u32, usize)> {
    let size = n.min(SAMPLE);
    if k == 0 || size == 0 {
        return Ok((INFINITY - 1, 0));
    }
    let stride = n / size;
    // One of each stretch, at no regular distance: rows of a matrix repeat.
    let at = |i: usize| {
        let hash = (i as u32).wrapping_mul(0x9e37_79b1);
        i * stride + ((u64::from(hash) * stride as u64) >> 32) as usize
    };
    let mut keys = room(size)?;
    keys.iter_mut().enumerate().for_each(|(i, to)| *to = key(x(at(i))));
    let wanted = beyond(size as f64 * k as f64 / n as f64).min(size);
    let guess = *keys.select_nth_unstable(size - wanted).1;
    let likely = (wanted as f64 / size as f64 * n as f64) as usize;
    Ok((guess.clamp(1, INFINITY - 1), likely))
}

/// A rank in a sample that is hardly ever below the one that is expected.
fn beyond(rank: f64) -> usize {
    (rank + 3.0 * rank.sqrt() + 3.0).ceil() as usize
}

/// The `k`-th largest magnitude of at least as many values, and how many equal to it are among the
/// first `k`. Where hardly more than `k` are there it is one of the smallest, and those alone are
/// ordered.
fn bound(values: &[f32], k: usize) -> (u32, usize) {
    let too_many = values.len() - k;
    let mut sample: Vec<u32> =
        values.iter().step_by(values.len() / 1024 + 1).map(|&x| key(x)).collect();
    let Some(last) = sample.len().checked_sub(1) else { return (INFINITY, 0) };
    let rank = beyond(too_many as f64 / values.len() as f64 * sample.len() as f64);
    let cut = *sample.select_nth_unstable(rank.min(last)).1;
    // Without a branch, which nothing could foresee.
    let (mut smallest, mut count) = (vec![0; values.len()], 0);
    for &x in values {
        smallest[count] = key(x);
        count += usize::from(key(x) <= cut);
    }
    smallest.truncate(count);
    if smallest.len() <= too_many {
        smallest = values.iter().map(|&x| key(x)).collect();
    }
    if smallest.len() <= too_many {
        return (INFINITY, 0); // None is wanted.
    }
    let bound = *smallest.select_nth_unstable(too_many).1;
    let below = smallest.iter().filter(|&&key| key <= bound).count();
    (bound, k - (values.len() - below))
}
