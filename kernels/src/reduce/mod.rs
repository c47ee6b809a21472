//! Sums, means and maxima along any axes of a contiguous tensor, and the global norm.
//!
//! Neighbouring axes of the same kind are merged, so that every reduction is one of two loops:
//! the innermost axis is reduced (a row becomes a number) or kept (rows are added up). Sums run in
//! blocks of [`BLOCK`] that are added up in turn, so the error grows with `BLOCK + n / BLOCK`
//! rather than n, and the order depends on the shape alone.

use std::ops::Range;

use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// Terms that are summed before they join a total.
const BLOCK: usize = 64;
/// Columns that are summed at a time where the innermost axis is kept.
const COLUMNS: usize = 64;
/// f32 ahead of its place from where a pass asks for more: nothing else moves, so they may be more than
/// where passes write. At 64 MiB, 51 instead of 48 GB/s of a norm with 4096 for 512 (Zen 5).
const AHEAD: usize = 4096;
/// Most axes.
const MAX_RANK: usize = 8;

/// Which reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// The sum.
    Sum,
    /// The sum divided by the number of terms.
    Mean,
    /// The greatest term; NaN terms are passed over.
    Max,
}

/// How far a sum of n terms may be from exact, relative to `sum |x|`.
#[must_use]
pub fn tolerance(terms: usize) -> f32 {
    (BLOCK + terms.div_ceil(BLOCK)) as f32 * f32::EPSILON
}

/// A reduction of a shape along axes, with neighbouring axes merged.
#[derive(Clone, Copy, Debug)]
pub struct Reduction {
    /// Size, input stride, and whether it is reduced, outermost first.
    axes: [(usize, usize, bool); MAX_RANK],
    rank: usize,
    /// Terms of each output.
    terms: usize,
    /// Outputs.
    outputs: usize,
}

impl Reduction {
    /// The reduction of a contiguous tensor of `shape` along `axes`.
    #[must_use]
    pub fn new(shape: &[usize], axes: &[usize]) -> Self {
        let mut this = Self { axes: [(1, 1, false); MAX_RANK], rank: 0, terms: 1, outputs: 1 };
        let mut merged = [(1usize, false); MAX_RANK];
        for (i, &size) in shape.iter().enumerate().filter(|(_, s)| **s != 1) {
            let reduced = axes.contains(&i);
            if reduced {
                this.terms *= size;
            } else {
                this.outputs *= size;
            }
            if this.rank > 0 && merged[this.rank - 1].1 == reduced {
                merged[this.rank - 1].0 *= size;
            } else {
                merged[this.rank] = (size, reduced);
                this.rank += 1;
            }
        }
        let mut stride = 1;
        for i in (0..this.rank).rev() {
            this.axes[i] = (merged[i].0, stride, merged[i].1);
            stride *= merged[i].0;
        }
        this
    }

    /// Number of outputs.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Terms of each output.
    #[must_use]
    pub fn terms(&self) -> usize {
        self.terms
    }

    /// Computes the outputs of `range` into `out`, which holds just those.
    ///
    /// # Panics
    /// Where `x` has not the shape's elements or `out` not the range's.
    pub fn run(&self, isa: Isa, kind: Reduce, x: &[f32], range: Range<usize>, out: &mut [f32]) {
        assert_eq!(x.len(), self.terms * self.outputs);
        assert!(range.end <= self.outputs && out.len() == range.len());
        isa.run(Run { reduction: self, kind, x, first: range.start, out });
    }

    /// Offset in the input of position `index` among the kept (or the reduced) axes of `axes`.
    fn offset(axes: &[(usize, usize, bool)], mut index: usize, reduced: bool) -> usize {
        let mut offset = 0;
        for &(size, stride, _) in axes.iter().rev().filter(|a| a.2 == reduced) {
            offset += index % size * stride;
            index /= size;
        }
        offset
    }
}

struct Run<'a> {
    reduction: &'a Reduction,
    kind: Reduce,
    x: &'a [f32],
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let r = self.reduction;
        if r.terms == 0 || self.out.is_empty() {
            self.out.fill(if self.kind == Reduce::Max { f32::NEG_INFINITY } else { 0.0 });
            return;
        }
        let axes = &r.axes[..r.rank];
        let scale = if self.kind == Reduce::Mean { 1.0 / r.terms as f32 } else { 1.0 };
        let max = self.kind == Reduce::Max;
        match axes.last() {
            Some(&(width, _, false)) => {
                let outer = &axes[..axes.len() - 1];
                let mut at = 0;
                while at < self.out.len() {
                    let (row, column) = ((self.first + at) / width, (self.first + at) % width);
                    let n = (width - column).min(self.out.len() - at).min(COLUMNS);
                    let base = Reduction::offset(outer, row, false) + column;
                    columns(s, max, self.x, base, outer, r.terms, &mut self.out[at..at + n]);
                    at += n;
                }
            }
            Some(&(width, _, true)) => {
                let outer = &axes[..axes.len() - 1];
                for (i, out) in self.out.iter_mut().enumerate() {
                    let base = Reduction::offset(outer, self.first + i, false);
                    let mut total = if max { f32::NEG_INFINITY } else { 0.0 };
                    for row in 0..r.terms / width {
                        let from = base + Reduction::offset(outer, row, true);
                        let part = line(s, max, &self.x[from..from + width]);
                        total = if max { total.max(part) } else { total + part };
                    }
                    *out = total;
                }
            }
            None => self.out[0] = self.x[0],
        }
        if scale != 1.0 {
            self.out.iter_mut().for_each(|v| *v *= scale);
        }
    }
}

/// Reduces one contiguous row to a number.
#[inline(always)]
fn line<S: Simd>(s: S, max: bool, x: &[f32]) -> f32 {
    if max {
        let mut best = s.splat(f32::NEG_INFINITY);
        each_vector(s, x, f32::NEG_INFINITY, |v| best = s.max(v, best));
        s.max_lane(best)
    } else {
        // Blocks of vectors join the total one after another; f64 makes that join exact enough
        // for any length.
        let mut total = 0f64;
        for block in x.chunks(BLOCK * S::LANES) {
            total += f64::from(sum(s, block, |v, sum| s.add(sum, v)));
        }
        total as f32
    }
}

/// The sum over the vectors of a block, which `add` adds to one of four sums in turn: a single one
/// waits for each addition: 139 instead of 237 GB/s of a norm in cache (Zen 5).
#[inline(always)]
fn sum<S: Simd>(s: S, block: &[f32], add: impl Fn(S::F, S::F) -> S::F) -> f32 {
    let mut sums = [s.zero(); 4];
    each_vector(s, block, 0.0, |v| {
        let [a, b, c, d] = sums;
        sums = [b, c, d, add(v, a)];
    });
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// Calls `f` with each vector of `x`, the last one filled up with `pad`.
#[inline(always)]
fn each_vector<S: Simd>(s: S, x: &[f32], pad: f32, mut f: impl FnMut(S::F)) {
    let whole = x.len() / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        s.prefetch(x.as_ptr().wrapping_add(at + AHEAD));
        // SAFETY: inside the slice.
        f(unsafe { s.load(x.as_ptr().add(at)) });
    }
    if whole < x.len() {
        let mut rest = [pad; 16];
        rest[..x.len() - whole].copy_from_slice(&x[whole..]);
        // SAFETY: 16 is at least the lanes of any level.
        f(unsafe { s.load(rest.as_ptr()) });
    }
}

/// Adds up (or takes the maximum of) `terms` rows of up to [`COLUMNS`] columns.
#[inline(always)]
fn columns<S: Simd>(
    s: S,
    max: bool,
    x: &[f32],
    base: usize,
    outer: &[(usize, usize, bool)],
    terms: usize,
    out: &mut [f32],
) {
    let start = if max { f32::NEG_INFINITY } else { 0.0 };
    let mut totals = [start; COLUMNS];
    let n = out.len();
    for block in (0..terms).step_by(BLOCK) {
        let mut part = [start; COLUMNS];
        for term in block..(block + BLOCK).min(terms) {
            let from = base + Reduction::offset(outer, term, true);
            join(s, max, &x[from..from + n], &mut part);
        }
        join(s, max, &part[..n], &mut totals);
    }
    out.copy_from_slice(&totals[..n]);
}

/// Adds `x` to `to` (or takes the maximum).
#[inline(always)]
fn join<S: Simd>(s: S, max: bool, x: &[f32], to: &mut [f32; COLUMNS]) {
    let whole = x.len() / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        // SAFETY: inside both.
        unsafe {
            let (v, t) = (s.load(x.as_ptr().add(at)), s.load(to.as_ptr().add(at)));
            s.store(to.as_mut_ptr().add(at), if max { s.max(v, t) } else { s.add(t, v) });
        }
    }
    for at in whole..x.len() {
        to[at] = if max { to[at].max(x[at]) } else { to[at] + x[at] };
    }
}

/// The sum of squares of `x` in f64: parts of a global norm, joined by the caller in order.
#[must_use]
pub fn sum_of_squares(isa: Isa, x: &[f32]) -> f64 {
    struct Squares<'a>(&'a [f32]);
    impl Kernel for Squares<'_> {
        type Out = f64;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> f64 {
            let mut total = 0f64;
            for block in self.0.chunks(BLOCK * S::LANES) {
                total += f64::from(sum(s, block, |v, sum| s.fma(v, v, sum)));
            }
            total
        }
    }
    isa.run(Squares(x))
}

/// The reference of [`Reduction::run`] for output `index`, in f64.
#[must_use]
pub fn reference(r: &Reduction, kind: Reduce, x: &[f32], index: usize) -> f64 {
    let axes = &r.axes[..r.rank];
    let terms = (0..r.terms).map(|t| {
        let at = Reduction::offset(axes, index, false) + Reduction::offset(axes, t, true);
        f64::from(x[at])
    });
    match kind {
        Reduce::Sum => terms.sum(),
        Reduce::Mean => terms.sum::<f64>() / r.terms as f64,
        Reduce::Max => terms.fold(f64::NEG_INFINITY, f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_agrees_with_the_reference() {
        let shapes: &[(&[usize], &[usize])] = &[
            (&[7], &[0]),
            (&[3, 5], &[]),
            (&[3, 129], &[1]),
            (&[300, 67], &[0]),
            (&[2, 3, 4, 5], &[0, 2]),
            (&[2, 3, 4, 5], &[1, 3]),
            (&[4, 1, 33], &[0, 1]),
            (&[100_003], &[0]),
            (&[], &[]),
        ];
        for isa in Isa::available() {
            for &(shape, axes) in shapes {
                let len = shape.iter().product();
                let x: Vec<f32> = (0..len).map(|i: usize| (i * 37 % 101) as f32 - 50.3).collect();
                let r = Reduction::new(shape, axes);
                for kind in [Reduce::Sum, Reduce::Mean, Reduce::Max] {
                    let mut out = vec![0.0; r.outputs()];
                    let cut = r.outputs() / 3;
                    let (a, b) = out.split_at_mut(cut);
                    r.run(isa, kind, &x, 0..cut, a);
                    r.run(isa, kind, &x, cut..r.outputs(), b);
                    for (i, &y) in out.iter().enumerate() {
                        let want = reference(&r, kind, &x, i);
                        let n = if kind == Reduce::Mean { 1 } else { r.terms() };
                        let bound = f64::from(tolerance(r.terms())) * 51.0 * n as f64;
                        assert!(
                            (f64::from(y) - want).abs() <= bound,
                            "{shape:?} {axes:?} {kind:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn squares() {
        let x: Vec<f32> = (0..5000).map(|i| (i % 13) as f32 * 0.1).collect();
        let want: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        for isa in Isa::available() {
            assert!((sum_of_squares(isa, &x) / want - 1.0).abs() < 1e-6);
        }
    }
}
