//! The elements of large magnitude.

use super::AHEAD;
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// What [`collect`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collected {
    /// How many elements there are: their places are written only if all fit.
    pub count: usize,
    /// Whether every element looked at is finite.
    pub finite: bool,
}

/// Writes, in order, the place and the value of each element whose magnitude is at least `least`.
///
/// With less room than there are such elements, only the count is right.
///
/// # Panics
/// Where there is not as much room for values as for places.
pub fn collect(
    isa: Isa,
    least: f32,
    x: &[f32],
    places: &mut [u32],
    values: &mut [f32],
) -> Collected {
    assert_eq!(places.len(), values.len());
    isa.run(Collect { least, x, sum: &mut [], places, values })
}

/// `sum += x`, and [`collect`] of the sum, in one pass.
///
/// # Panics
/// As [`collect`], and where `x` and `sum` differ in length.
pub fn add_and_collect(
    isa: Isa,
    least: f32,
    x: &[f32],
    sum: &mut [f32],
    places: &mut [u32],
    values: &mut [f32],
) -> Collected {
    assert_eq!(places.len(), values.len());
    assert_eq!(x.len(), sum.len());
    isa.run(Collect { least, x, sum, places, values })
}

/// The arguments of both.
struct Collect<'a> {
    least: f32,
    x: &'a [f32],
    /// Empty where `x` itself is looked at.
    sum: &'a mut [f32],
    places: &'a mut [u32],
    values: &'a mut [f32],
}

/// Vectors that are looked at together.
const TOGETHER: usize = 4;

impl Kernel for Collect<'_> {
    type Out = Collected;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Collected {
        if self.sum.is_empty() { self.groups::<S, false>(s) } else { self.groups::<S, true>(s) }
    }
}

impl Collect<'_> {
    #[inline(always)]
    fn groups<S: Simd, const ADD: bool>(self, s: S) -> Collected {
        let Self { least, x, sum, places, values } = self;
        let limit = s.splat(least);
        let (mut count, mut wrong) = (0, s.zero());
        let group = TOGETHER * S::LANES;
        for at in (0..x.len()).step_by(group) {
            let mut hits = 0u64;
            for part in 0..TOGETHER {
                let start = at + part * S::LANES;
                let n = x.len().saturating_sub(start).min(S::LANES);
                let (from, to) =
                    (x.as_ptr().wrapping_add(start), sum.as_mut_ptr().wrapping_add(start));
                s.prefetch(from.wrapping_add(AHEAD));
                // SAFETY: `n` elements from `start` on, of `sum` too where it is added to.
                let v = unsafe {
                    let mut v = load(s, from, n);
                    if ADD {
                        s.prefetch(to.wrapping_add(AHEAD));
                        v = s.add(load(s, to, n), v);
                        if n == S::LANES { s.store(to, v) } else { s.store_n(to, v, n) }
                    }
                    v
                };
                wrong = s.fma(v, s.zero(), wrong);
                let mut bits = s.bits(s.le(limit, s.abs(v)));
                if n < S::LANES {
                    bits &= (1 << n) - 1;
                }
                hits |= u64::from(bits) << (part * S::LANES);
            }
            if hits == 0 {
                continue;
            }
            let seen = if ADD { &*sum } else { x };
            let after = count + hits.count_ones() as usize;
            if let (Some(places), Some(values)) =
                (places.get_mut(count..after), values.get_mut(count..after))
            {
                for (place, value) in places.iter_mut().zip(values) {
                    let i = at + hits.trailing_zeros() as usize;
                    // Callers give no more elements than u32 counts.
                    (*place, *value) = (i as u32, seen[i]);
                    hits &= hits - 1;
                }
            }
            count = after;
        }
        Collected { count, finite: s.sum(wrong) == 0.0 }
    }
}

/// The first `n` elements from `p` on, at most a vector.
///
/// # Safety
/// They must be valid for reading.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, p: *const f32, n: usize) -> S::F {
    // SAFETY: the caller's contract.
    unsafe { if n == S::LANES { s.load(p) } else { s.load_n(p, n) } }
}
