//! The elements of largest magnitude.
//!
//! A sample tells two magnitudes that the least of them hardly ever lies beyond. One pass over the
//! vector counts what reaches the upper and takes out what lies between: few elements, among which the
//! exact bound is found. Where the sample misleads, the interval is halved until the bound lies in it
//! and what it holds fits: the result never depends on it.

use tenon_kernels::Isa;
use tenon_kernels::exchange::survey;

use super::room;
use crate::error::{Error, Result};

/// Elements looked at for a first guess: each is a wait for memory.
const SAMPLE: usize = 1 << 14;

/// The bits of infinity: beyond every finite magnitude.
const INFINITY: u32 = 0x7f80_0000;

/// A magnitude as an integer of the same order.
fn key(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// What tells the elements of largest magnitude from the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// The least magnitude of them; infinity where there are none.
    pub least: f32,
    /// Where more are of that magnitude than are wanted, how many are: the first.
    equal: Option<usize>,
}

impl Bound {
    /// That of the `k` elements of `x + more` of largest magnitude; of equal ones the first. `more`
    /// may be empty.
    ///
    /// # Errors
    /// [`Error::Usage`] for an element that is not finite, fewer than `k` elements, or more than u32
    /// counts. [`Error::OutOfMemory`].
    pub fn new(isa: Isa, x: &[f32], more: &[f32], k: usize) -> Result<Self> {
        let n = x.len();
        if k > n || u32::try_from(n).is_err() {
            let why = "send all of it, or parts of at most 2^32 - 1 elements";
            return Err(Error::Usage(format!("{k} of {n} elements cannot be sent: {why}")));
        }
        let ([mut from, mut to], likely) = sampled(x, more, k)?;
        let mut values = room(n.min(2 * likely + 4096))?;
        // `k` or more reach `low`; fewer reach `high`, unless none are wanted.
        let (mut low, mut high) = (0, INFINITY);
        loop {
            let found = survey(isa, [from, to].map(f32::from_bits), x, more, &mut values);
            if !found.finite {
                return Err(not_finite());
            }
            if k == 0 {
                return Ok(Self { least: f32::INFINITY, equal: None });
            }
            if found.above >= k {
                low = to;
            } else if found.above + found.between < k {
                high = from;
            } else {
                (low, high) = (from, to);
                let wanted = k - found.above;
                if high - low == 1 {
                    let equal = (found.between > wanted).then_some(wanted);
                    return Ok(Self { least: f32::from_bits(low), equal });
                }
                if let Some(between) = values.get_mut(..found.between) {
                    return Ok(Self::among(between, wanted));
                }
            }
            (from, to) = (low + (high - low) / 2, high);
        }
    }

    /// That of the `k` of largest magnitude of at least as many, `k` not 0.
    fn among(values: &mut [f32], k: usize) -> Self {
        let order = |a: &f32, b: &f32| key(*b).cmp(&key(*a));
        let least = *values.select_nth_unstable_by(k - 1, order).1;
        let count = |which: fn(u32, u32) -> bool| {
            values.iter().filter(|&&value| which(key(value), key(least))).count()
        };
        let (above, equal) = (count(|key, least| key > least), count(|key, least| key == least));
        let equal = (above + equal > k).then_some(k - above);
        Self { least: least.abs(), equal }
    }

    /// Of the elements that reach the bound, in their order, moves those that are wanted to the front;
    /// gives how many they are. What comes in several parts is counted on.
    pub fn cut(&mut self, places: &mut [u32], values: &mut [f32]) -> usize {
        let Some(left) = &mut self.equal else { return values.len() };
        let mut kept = 0;
        for i in 0..values.len() {
            let is_equal = values[i].abs() == self.least;
            (places[kept], values[kept]) = (places[i], values[i]);
            kept += usize::from(!is_equal || *left > 0);
            *left -= usize::from(is_equal && *left > 0);
        }
        kept
    }
}

/// An update that must not be sent.
pub(super) fn not_finite() -> Error {
    let mend = "training has diverged: lower the learning rate, or clip gradients";
    Error::Usage(format!("an element is not finite ({mend})"))
}

/// Two magnitudes that the `k`-th of `x + more` lies between, if a sample tells right, and how many
/// elements do.
fn sampled(x: &[f32], more: &[f32], k: usize) -> Result<([u32; 2], usize)> {
    let n = x.len();
    let size = n.min(SAMPLE);
    if k == 0 || size == 0 {
        return Ok(([INFINITY; 2], 0));
    }
    let stride = n / size;
    // One of each stretch, at no regular distance: rows of a matrix repeat.
    let at = |i: usize| {
        let hash = (i as u32).wrapping_mul(0x9e37_79b1);
        i * stride + ((u64::from(hash) * stride as u64) >> 32) as usize
    };
    let mut keys: Vec<u32> = room(size)?;
    for (i, to) in keys.iter_mut().enumerate() {
        *to = key(more.get(at(i)).map_or(x[at(i)], |more| more + x[at(i)]));
    }
    // Three times its deviation on either side, and a little.
    let rank = size as f64 * k as f64 / n as f64;
    let away = 3.0 * rank.sqrt() + 3.0;
    let (first, last) = ((rank - away).max(0.0) as usize, ((rank + away) as usize).min(size - 1));
    let order = |a: &u32, b: &u32| b.cmp(a);
    let from = *keys.select_nth_unstable_by(last, order).1;
    let to = match first {
        0 => INFINITY,
        _ => *keys[..last].select_nth_unstable_by(first, order).1,
    };
    let likely = ((last - first) as f64 / size as f64 * n as f64) as usize;
    // What is not finite is told by the pass.
    let from = from.min(INFINITY - 1);
    Ok(([from, to.clamp(from + 1, INFINITY)], likely))
}
