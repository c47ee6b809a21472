//! Root-mean-square normalisation (Zhang and Sennrich 2019) and its gradient.

use super::softmax::check;
use super::{ask, get, put};
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// `rstd = 1 / sqrt(mean(x^2) + eps)`, `y = x * rstd * weight`.
///
/// # Panics
/// Where the slices are not the same rows of `weight.len()`, with one `rstd` a row.
pub fn rms_norm(isa: Isa, eps: f32, x: &[f32], weight: &[f32], y: &mut [f32], rstd: &mut [f32]) {
    check(weight.len(), &[x.len(), y.len()]);
    assert_eq!(rstd.len(), x.len() / weight.len());
    isa.run(Forward { eps, x, weight, y, rstd });
}

/// Arguments of [`add_rms_norm`]; `sum`, `y` and the inputs `x`, `h` have rows of `weight.len()`.
#[allow(missing_docs, reason = "named as in the formula")]
pub struct AddRmsNorm<'a> {
    pub eps: f32,
    pub x: &'a [f32],
    pub h: &'a [f32],
    pub weight: &'a [f32],
    pub sum: &'a mut [f32],
    pub y: &'a mut [f32],
    pub rstd: &'a mut [f32],
}

/// `sum = x + h` and its norm `y = sum * rstd * weight`, `rstd = 1 / sqrt(mean(sum^2) + eps)`: the
/// sum is read back from L1, not from memory. The same bits as the addition and [`rms_norm`].
///
/// # Panics
/// As [`rms_norm`].
pub fn add_rms_norm(isa: Isa, args: AddRmsNorm<'_>) {
    let cols = args.weight.len();
    check(cols, &[args.x.len(), args.h.len(), args.sum.len(), args.y.len()]);
    assert_eq!(args.rstd.len(), args.x.len() / cols);
    isa.run(args);
}

/// `dx = rstd * (g - x * rstd^2 * mean(g * x))` with `g = dy * weight`.
///
/// # Panics
/// As [`rms_norm`].
pub fn rms_norm_grad(
    isa: Isa,
    x: &[f32],
    weight: &[f32],
    rstd: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) {
    check(weight.len(), &[x.len(), dy.len(), dx.len()]);
    assert_eq!(rstd.len(), x.len() / weight.len());
    isa.run(Backward { x, weight, rstd, dy, dx });
}

struct Forward<'a> {
    eps: f32,
    x: &'a [f32],
    weight: &'a [f32],
    y: &'a mut [f32],
    rstd: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { eps, x, weight, y, rstd } = self;
        let cols = weight.len();
        for ((x, y), rstd) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)).zip(rstd) {
            let squares = sum!(s: S, cols, |at, n, sum| {
                let v = get(s, x, at, n);
                s.add(sum, s.mul(v, v))
            });
            *rstd = 1.0 / (squares / cols as f32 + eps).sqrt();
            let scale = s.splat(*rstd);
            each!(S, cols, |at, n| {
                ask(s, x, at);
                let v = s.mul(s.mul(get(s, x, at, n), scale), get(s, weight, at, n));
                put(s, y, at, n, v);
            });
        }
    }
}

impl Kernel for AddRmsNorm<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { eps, x, h, weight, sum, y, rstd } = self;
        let cols = weight.len();
        let inputs = x.chunks_exact(cols).zip(h.chunks_exact(cols));
        let outputs = sum.chunks_exact_mut(cols).zip(y.chunks_exact_mut(cols)).zip(rstd);
        for ((x, h), ((sum, y), rstd)) in inputs.zip(outputs) {
            let squares = sum!(s: S, cols, |at, n, squares| {
                let v = s.add(get(s, x, at, n), get(s, h, at, n));
                put(s, sum, at, n, v);
                s.add(squares, s.mul(v, v))
            });
            *rstd = 1.0 / (squares / cols as f32 + eps).sqrt();
            let scale = s.splat(*rstd);
            each!(S, cols, |at, n| {
                ask(s, x, at);
                ask(s, h, at);
                let v = s.mul(s.mul(get(s, sum, at, n), scale), get(s, weight, at, n));
                put(s, y, at, n, v);
            });
        }
    }
}

struct Backward<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    rstd: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, weight, rstd, dy, dx } = self;
        let cols = weight.len();
        let rows = x.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(rstd);
        for (((x, dy), &rstd), dx) in rows.zip(dx.chunks_exact_mut(cols)) {
            let dot = sum!(s: S, cols, |at, n, sum| {
                let g = s.mul(get(s, dy, at, n), get(s, weight, at, n));
                s.add(sum, s.mul(g, get(s, x, at, n)))
            });
            let pull = s.splat(-dot / cols as f32 * rstd * rstd * rstd);
            let scale = s.splat(rstd);
            each!(S, cols, |at, n| {
                let g = s.mul(get(s, dy, at, n), get(s, weight, at, n));
                put(s, dx, at, n, s.fma(get(s, x, at, n), pull, s.mul(g, scale)));
            });
        }
    }
}
