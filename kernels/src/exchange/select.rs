//! The elements of large magnitude.

use crate::isa::{Isa, Kernel};
use crate::simd::{MAX_LANES, Simd};

/// Elements ahead of their place from where memory is asked for: two streams that are only read take
/// 4.7 ms for 64 MiB each so, 5.0 at half of it and 6.8 where nothing asks.
const AHEAD: usize = 1024;

/// What [`survey`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// Elements of a magnitude of at least the upper bound.
    pub above: usize,
    /// Elements between the bounds: their values are written only if all fit.
    pub between: usize,
    /// Whether every element is finite.
    pub finite: bool,
}

/// Counts the elements of `x + more` whose magnitude is at least `high`, and writes, in order, those
/// whose magnitude is below that and at least `low`. `more` may be empty.
///
/// With less room than there are such elements, only the counts are right.
///
/// # Panics
/// Where `more` is of another length.
pub fn survey(
    isa: Isa,
    [low, high]: [f32; 2],
    x: &[f32],
    more: &[f32],
    values: &mut [f32],
) -> Surveyed {
    assert!(more.is_empty() || more.len() == x.len());
    isa.run(Survey { low, high, x, more, values })
}

/// Writes, in order, the place and the value of each element whose magnitude is at least `least`;
/// gives how many there are.
///
/// With less room than there are such elements, only the count is right.
///
/// # Panics
/// Where there is not as much room for values as for places.
pub fn collect(isa: Isa, least: f32, x: &[f32], places: &mut [u32], values: &mut [f32]) -> usize {
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
) -> usize {
    assert_eq!(places.len(), values.len());
    assert_eq!(x.len(), sum.len());
    isa.run(Collect { least, x, sum, places, values })
}

/// A body for every vector of `len` elements, of which it gets the place and how many it has: all lanes
/// but in the last.
macro_rules! each_vector {
    ($S:ty, $len:expr, |$at:ident, $n:ident| $body:block) => {{
        let len = $len;
        let whole = len - len % <$S>::LANES;
        for $at in (0..whole).step_by(<$S>::LANES) {
            let $n = <$S>::LANES;
            $body
        }
        let ($at, $n) = (whole, len - whole);
        if $n > 0 $body
    }};
}

/// The arguments of [`survey`].
struct Survey<'a> {
    low: f32,
    high: f32,
    x: &'a [f32],
    more: &'a [f32],
    values: &'a mut [f32],
}

impl Kernel for Survey<'_> {
    type Out = Surveyed;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Surveyed {
        if self.more.is_empty() { self.vectors::<S, false>(s) } else { self.vectors::<S, true>(s) }
    }
}

impl Survey<'_> {
    #[inline(always)]
    fn vectors<S: Simd, const ADD: bool>(self, s: S) -> Surveyed {
        let Self { low, high, x, more, values } = self;
        let (low, high) = (s.splat(low), s.splat(high));
        let (mut above, mut between, mut wrong) = (0, 0, s.zero());
        each_vector!(S, x.len(), |at, n| {
            let mut v = get(s, x, at, n);
            if ADD {
                v = s.add(get(s, more, at, n), v);
            }
            // 0, or NaN.
            wrong = s.or(wrong, s.sub(v, v));
            let size = s.abs(v);
            let beyond = first(n, s.bits(s.le(high, size)));
            let found = first(n, s.bits(s.le(low, size))) & !beyond;
            above += beyond.count_ones() as usize;
            if found != 0 {
                put(s, values, between, v, found);
                between += found.count_ones() as usize;
            }
        });
        Surveyed { above, between, finite: s.sum(wrong) == 0.0 }
    }
}

/// The arguments of [`collect`] and [`add_and_collect`].
struct Collect<'a> {
    least: f32,
    x: &'a [f32],
    /// Empty where `x` itself is looked at.
    sum: &'a mut [f32],
    places: &'a mut [u32],
    values: &'a mut [f32],
}

impl Kernel for Collect<'_> {
    type Out = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        if self.sum.is_empty() { self.vectors::<S, false>(s) } else { self.vectors::<S, true>(s) }
    }
}

impl Collect<'_> {
    #[inline(always)]
    fn vectors<S: Simd, const ADD: bool>(self, s: S) -> usize {
        const COUNTED: [u32; MAX_LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let Self { least, x, sum, places, values } = self;
        // SAFETY: u32 and f32 are alike to memory.
        let places =
            unsafe { std::slice::from_raw_parts_mut(places.as_mut_ptr().cast(), places.len()) };
        // SAFETY: no level has more lanes.
        let (counted, limit) = (unsafe { s.load(COUNTED.as_ptr().cast()) }, s.splat(least));
        let mut count = 0;
        each_vector!(S, x.len(), |at, n| {
            let mut v = get(s, x, at, n);
            if ADD {
                v = s.add(get(s, sum, at, n), v);
                // SAFETY: it is as long as `x`, which has `n` elements from there on.
                unsafe {
                    let to = sum.as_mut_ptr().add(at);
                    if n == S::LANES { s.store(to, v) } else { s.store_n(to, v, n) }
                }
            }
            let hits = first(n, s.bits(s.le(limit, s.abs(v))));
            put(s, values, count, v, hits);
            // Callers give no more elements than u32 counts.
            let at = s.splat(f32::from_bits(at as u32));
            put(s, places, count, s.add_i32(at, counted), hits);
            count += hits.count_ones() as usize;
        });
        count
    }
}

/// The `n` elements from `at` on, at most a vector, with what comes later asked for.
#[inline(always)]
fn get<S: Simd>(s: S, x: &[f32], at: usize, n: usize) -> S::F {
    debug_assert!(at + n <= x.len() && n <= S::LANES);
    let p = x.as_ptr().wrapping_add(at);
    s.prefetch(p.wrapping_add(AHEAD));
    // SAFETY: as above: all operands are of one length.
    unsafe { if n == S::LANES { s.load(p) } else { s.load_n(p, n) } }
}

/// Those of the first `n` lanes.
#[inline(always)]
fn first(n: usize, bits: u32) -> u32 {
    bits & ((1 << n) - 1)
}

/// Writes the lanes that `bits` names from `at` on, as far as there is room; a vector is written where
/// one fits.
#[inline(always)]
fn put<S: Simd>(s: S, to: &mut [f32], at: usize, v: S::F, bits: u32) {
    let to = to.get_mut(at..).unwrap_or_default();
    if to.len() >= S::LANES {
        // SAFETY: there is room for a vector.
        unsafe { s.store_chosen(to.as_mut_ptr(), v, bits) };
    } else if !to.is_empty() && bits != 0 {
        let mut chosen = [0.0; MAX_LANES];
        // SAFETY: no level has more lanes.
        unsafe { s.store_chosen(chosen.as_mut_ptr(), v, bits) };
        let n = to.len().min(bits.count_ones() as usize);
        to[..n].copy_from_slice(&chosen[..n]);
    }
}
