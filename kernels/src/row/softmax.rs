//! Softmax and log-softmax along rows, and their gradients.

use super::{ask, get, greatest, put};
use crate::isa::{Isa, Kernel};
use crate::simd::{Simd, math};

/// `y = exp(x - max) / sum`; a row of -inf alone gives NaN, as the quotient is undefined.
///
/// # Panics
/// Where the slices differ in length or are no whole rows of `cols`.
pub fn softmax(isa: Isa, cols: usize, x: &[f32], y: &mut [f32]) {
    check(cols, &[x.len(), y.len()]);
    isa.run(Softmax { cols, x, y });
}

/// `y = x - max - ln(sum exp(x - max))`.
///
/// # Panics
/// As [`softmax`].
pub fn log_softmax(isa: Isa, cols: usize, x: &[f32], y: &mut [f32]) {
    check(cols, &[x.len(), y.len()]);
    isa.run(LogSoftmax { cols, x, y });
}

/// `dx = y * (dy - sum(y * dy))`.
///
/// # Panics
/// As [`softmax`].
pub fn softmax_grad(isa: Isa, cols: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    check(cols, &[y.len(), dy.len(), dx.len()]);
    isa.run(SoftmaxGrad { cols, y, dy, dx });
}

/// `dx = dy - exp(y) * sum(dy)`.
///
/// # Panics
/// As [`softmax`].
pub fn log_softmax_grad(isa: Isa, cols: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    check(cols, &[y.len(), dy.len(), dx.len()]);
    isa.run(LogSoftmaxGrad { cols, y, dy, dx });
}

/// Refuses slices that are not the same whole number of rows.
pub(super) fn check(cols: usize, lens: &[usize]) {
    assert!(cols > 0 && lens.iter().all(|&l| l == lens[0] && l % cols == 0), "{lens:?} by {cols}");
}

struct Softmax<'a> {
    cols: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, y) in self.x.chunks_exact(self.cols).zip(self.y.chunks_exact_mut(self.cols)) {
            let max = s.splat(greatest(s, x));
            let total = sum!(s: S, self.cols, |at, n| {
                let p = math::exp_weight(s, s.sub(get(s, x, at, n), max));
                put(s, y, at, n, p);
                ask(s, x, at);
                // Lanes beyond the row hold exp(0 - max), which is not part of the sum.
                if n == S::LANES { p } else { get(s, y, at, n) }
            });
            let scale = s.splat(1.0 / total);
            each!(S, self.cols, |at, n| {
                let v = s.mul(get(s, y, at, n), scale);
                put(s, y, at, n, v);
                ask(s, y, at);
            });
        }
    }
}

struct LogSoftmax<'a> {
    cols: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for LogSoftmax<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, y) in self.x.chunks_exact(self.cols).zip(self.y.chunks_exact_mut(self.cols)) {
            let max = greatest(s, x);
            // Subtracted in two steps: max and ln(sum) may differ by orders of magnitude.
            let log = sum_of_exp(s, x, max).ln();
            each!(S, self.cols, |at, n| {
                let v = s.sub(s.sub(get(s, x, at, n), s.splat(max)), s.splat(log));
                put(s, y, at, n, v);
                ask(s, y, at);
            });
        }
    }
}

/// `sum exp(x - max)`.
#[inline(always)]
pub(super) fn sum_of_exp<S: Simd>(s: S, x: &[f32], max: f32) -> f32 {
    let top = s.splat(max);
    let whole = x.len() / S::LANES * S::LANES;
    let body = sum!(s: S, whole, |at, n| {
        // Two parts of a row ahead: 28 instead of 25 GB/s of cross-entropy at 64 MiB.
        s.prefetch(x.as_ptr().wrapping_add(2 * x.len() + at));
        math::exp_weight(s, s.sub(get(s, x, at, n), top))
    });
    if whole == x.len() {
        return body;
    }
    // Lanes beyond the end would count as exp(0 - max): they are set to -inf instead.
    let mut rest = [f32::NEG_INFINITY; 16];
    rest[..x.len() - whole].copy_from_slice(&x[whole..]);
    body + s.sum(math::exp_weight(s, s.sub(get(s, &rest, 0, S::LANES), top)))
}

struct SoftmaxGrad<'a> {
    cols: usize,
    y: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for SoftmaxGrad<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.y.chunks_exact(self.cols).zip(self.dy.chunks_exact(self.cols));
        for ((y, dy), dx) in rows.zip(self.dx.chunks_exact_mut(self.cols)) {
            let dot = sum!(s: S, self.cols, |at, n| s.mul(get(s, y, at, n), get(s, dy, at, n)));
            let dot = s.splat(dot);
            each!(S, self.cols, |at, n| {
                ask(s, y, at);
                ask(s, dy, at);
                let v = s.mul(get(s, y, at, n), s.sub(get(s, dy, at, n), dot));
                put(s, dx, at, n, v);
            });
        }
    }
}

struct LogSoftmaxGrad<'a> {
    cols: usize,
    y: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for LogSoftmaxGrad<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.y.chunks_exact(self.cols).zip(self.dy.chunks_exact(self.cols));
        for ((y, dy), dx) in rows.zip(self.dx.chunks_exact_mut(self.cols)) {
            let total = s.splat(sum!(s: S, self.cols, |at, n| get(s, dy, at, n)));
            each!(S, self.cols, |at, n| {
                let p = math::exp(s, get(s, y, at, n));
                put(s, dx, at, n, s.sub(get(s, dy, at, n), s.mul(p, total)));
            });
        }
    }
}
