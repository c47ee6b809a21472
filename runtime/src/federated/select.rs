//! The elements of largest magnitude.
//!
//! A sample tells a magnitude that hardly more than enough elements reach; one pass over the vector
//! finds those, and counts by parts of their bits find the exact bound among them. Where the sample
//! misleads, the bound is halved in until enough are found and fit: the result never depends on it.

use tenon_kernels::Isa;
use tenon_kernels::exchange::collect;

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

/// The places of the `k` elements of largest magnitude, ascending; of equal ones the first.
///
/// # Errors
/// [`Error::Usage`] for an element that is not finite, fewer than `k` elements, or more than u32
/// counts.
pub fn largest(isa: Isa, x: &[f32], k: usize) -> Result<Vec<u32>> {
    if k > x.len() || u32::try_from(x.len()).is_err() {
        let why = "send all of it, or parts of at most 2^32 - 1 elements";
        return Err(Error::Usage(format!("{k} of {} elements cannot be sent: {why}", x.len())));
    }
    // As many reach `low` as are wanted, or more; fewer reach `high`.
    let (mut low, mut high) = (0, INFINITY);
    let mut places = room(x.len().min(k + k / 2 + 4096))?;
    let mut guess = sampled(x, k).clamp(1, INFINITY - 1);
    loop {
        let found = collect(isa, f32::from_bits(guess), 0, x, &mut places);
        if !found.finite {
            return Err(not_finite());
        }
        if (k..=places.len()).contains(&found.count) {
            places.truncate(found.count);
            break;
        }
        if found.count < k {
            high = guess;
        } else {
            low = guess;
        }
        if high - low <= 1 {
            let above = collect(isa, f32::from_bits(high), 0, x, &mut places).count;
            places.truncate(above);
            let equal = (0..x.len() as u32).filter(|&i| key(x[i as usize]) == low);
            places.extend(equal.take(k - above));
            places.sort_unstable();
            return Ok(places);
        }
        guess = low + (high - low) / 2;
    }
    let of = |&place: &u32| key(x[place as usize]);
    let (bound, mut equal) = bound(|| places.iter().map(of), k);
    places.retain(|place| {
        let key = of(place);
        let is_first = key == bound && equal > 0;
        equal -= usize::from(is_first);
        key > bound || is_first
    });
    Ok(places)
}

/// An update that must not be sent.
pub(super) fn not_finite() -> Error {
    let mend = "training has diverged: lower the learning rate, or clip gradients";
    Error::Usage(format!("an element is not finite ({mend})"))
}

/// A magnitude that somewhat more than `k` elements reach, if a sample tells right.
fn sampled(x: &[f32], k: usize) -> u32 {
    let size = x.len().min(SAMPLE);
    if k == 0 || size == 0 {
        return INFINITY;
    }
    let stride = x.len() / size;
    // One of each stretch, at no regular distance: rows of a matrix repeat.
    let at = |i: usize| {
        let hash = (i as u32).wrapping_mul(0x9e37_79b1);
        i * stride + ((u64::from(hash) * stride as u64) >> 32) as usize
    };
    let rank = (size as f64 * k as f64 / x.len() as f64).ceil();
    let wanted = (rank + 3.0 * rank.sqrt() + 3.0) as usize;
    bound(|| (0..size).map(|i| key(x[at(i)])), wanted.min(size)).0
}

/// The `k`-th largest of some keys, and how many equal to it are among the first `k`; `k` from 1 to
/// as many as there are. Counts by the highest bits, then by the next of those that share them.
fn bound<I: Iterator<Item = u32>>(keys: impl Fn() -> I, k: usize) -> (u32, usize) {
    const BITS: u32 = 11;
    let (mut prefix, mut wanted) = (0, k);
    for level in (0..3).rev() {
        let shift = level * BITS;
        let mut counts = [0usize; 1 << BITS];
        for key in keys().filter(|key| u64::from(*key) >> (shift + BITS) == u64::from(prefix)) {
            counts[(key >> shift) as usize % (1 << BITS)] += 1;
        }
        let mut digit = counts.len() - 1;
        while digit > 0 && counts[digit] < wanted {
            wanted -= counts[digit];
            digit -= 1;
        }
        prefix = prefix << BITS | digit as u32;
    }
    (prefix, wanted)
}
