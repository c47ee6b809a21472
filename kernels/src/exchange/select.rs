//! The elements of large magnitude.

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

/// Writes, in order, `first` plus the place of each element whose magnitude is at least `least`.
///
/// With less room than there are such elements, only the count is right.
pub fn collect(isa: Isa, least: f32, first: u32, x: &[f32], places: &mut [u32]) -> Collected {
    isa.run(Collect { least, first, x, places })
}

/// The arguments of [`collect`].
struct Collect<'a> {
    least: f32,
    first: u32,
    x: &'a [f32],
    places: &'a mut [u32],
}

/// Vectors that are looked at together.
const TOGETHER: usize = 4;

impl Kernel for Collect<'_> {
    type Out = Collected;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Collected {
        let Self { least, first, x, places } = self;
        let limit = s.splat(least);
        let (mut count, mut wrong) = (0, s.zero());
        let group = TOGETHER * S::LANES;
        for at in (0..x.len()).step_by(group) {
            let mut hits = 0u64;
            for part in 0..TOGETHER {
                let start = at + part * S::LANES;
                let n = x.len().saturating_sub(start).min(S::LANES);
                // SAFETY: `n` elements from `start` on.
                let v = unsafe {
                    let p = x.as_ptr().wrapping_add(start);
                    if n == S::LANES { s.load(p) } else { s.load_n(p, n) }
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
            let after = count + hits.count_ones() as usize;
            if let Some(places) = places.get_mut(count..after) {
                for place in places {
                    // Callers give no more elements than u32 counts.
                    *place = first + at as u32 + hits.trailing_zeros();
                    hits &= hits - 1;
                }
            }
            count = after;
        }
        Collected { count, finite: s.sum(wrong) == 0.0 }
    }
}
