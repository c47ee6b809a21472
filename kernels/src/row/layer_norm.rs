//! Layer normalisation (Ba, Kiros and Hinton 2016) and its gradient.

use super::softmax::check;
use super::{ask, get, put};
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// Operands of [`layer_norm`].
pub struct LayerNorm<'a> {
    /// Added to the variance.
    pub eps: f32,
    /// Length of a row.
    pub cols: usize,
    /// Rows.
    pub x: &'a [f32],
    /// `cols` factors, or none.
    pub weight: Option<&'a [f32]>,
    /// `cols` summands, or none.
    pub bias: Option<&'a [f32]>,
    /// Normalised rows.
    pub y: &'a mut [f32],
    /// Mean of each row.
    pub mean: &'a mut [f32],
    /// `1 / sqrt(variance + eps)` of each row.
    pub rstd: &'a mut [f32],
}

/// `y = (x - mean) * rstd * weight + bias`, with the variance of the whole row.
///
/// # Panics
/// Where lengths do not match.
pub fn layer_norm(isa: Isa, operands: LayerNorm<'_>) {
    let LayerNorm { cols, x, weight, bias, y, mean, rstd, .. } = &operands;
    check(*cols, &[x.len(), y.len()]);
    assert!([mean.len(), rstd.len()] == [x.len() / cols; 2]);
    assert!(weight.is_none_or(|w| w.len() == *cols) && bias.is_none_or(|b| b.len() == *cols));
    isa.run(operands);
}

/// Operands of [`layer_norm_grad`].
pub struct LayerNormGrad<'a> {
    /// Length of a row.
    pub cols: usize,
    /// Rows, as the forward pass saw them.
    pub x: &'a [f32],
    /// `cols` factors, or none.
    pub weight: Option<&'a [f32]>,
    /// Mean of each row.
    pub mean: &'a [f32],
    /// `1 / sqrt(variance + eps)` of each row.
    pub rstd: &'a [f32],
    /// Cotangent of `y`.
    pub dy: &'a [f32],
    /// Gradient of `x`.
    pub dx: &'a mut [f32],
}

/// `dx = rstd * (g - mean(g) - xhat * mean(g * xhat))` with `g = dy * weight`.
///
/// # Panics
/// Where lengths do not match.
pub fn layer_norm_grad(isa: Isa, operands: LayerNormGrad<'_>) {
    let LayerNormGrad { cols, x, weight, mean, rstd, dy, dx } = &operands;
    check(*cols, &[x.len(), dy.len(), dx.len()]);
    assert!([mean.len(), rstd.len()] == [x.len() / cols; 2]);
    assert!(weight.is_none_or(|w| w.len() == *cols));
    isa.run(operands);
}

/// `n` values of an optional row, or `default`.
#[inline(always)]
fn or<S: Simd>(s: S, row: Option<&[f32]>, at: usize, n: usize, default: f32) -> S::F {
    match row {
        Some(row) => get(s, row, at, n),
        None => s.splat(default),
    }
}

/// `dy * weight`.
#[inline(always)]
fn weighted<S: Simd>(s: S, dy: &[f32], weight: Option<&[f32]>, at: usize, n: usize) -> S::F {
    s.mul(get(s, dy, at, n), or(s, weight, at, n, 1.0))
}

impl Kernel for LayerNorm<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { eps, cols, x, weight, bias, y, mean, rstd } = self;
        let rows = x.chunks_exact(cols).zip(y.chunks_exact_mut(cols));
        for ((x, y), (mean, rstd)) in rows.zip(mean.iter_mut().zip(rstd)) {
            *mean = sum!(s: S, cols, |at, n, sum| s.add(sum, get(s, x, at, n))) / cols as f32;
            let m = s.splat(*mean);
            let squares = sum!(s: S, cols, |at, n, sum| {
                ask(s, x, at);
                let mut d = s.sub(get(s, x, at, n), m);
                if n < S::LANES {
                    // Lanes beyond the row hold the mean, which must count as zero.
                    put(s, y, at, n, d);
                    d = get(s, y, at, n);
                }
                s.add(sum, s.mul(d, d))
            });
            *rstd = 1.0 / (squares / cols as f32 + eps).sqrt();
            let scale = s.splat(*rstd);
            each!(S, cols, |at, n| {
                let hat = s.mul(s.sub(get(s, x, at, n), m), scale);
                let v = s.fma(hat, or(s, weight, at, n, 1.0), or(s, bias, at, n, 0.0));
                put(s, y, at, n, v);
            });
        }
    }
}

impl Kernel for LayerNormGrad<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { cols, x, weight, mean, rstd, dy, dx } = self;
        let rows = x.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(mean.iter().zip(rstd));
        for (((x, dy), (&mean, &rstd)), dx) in rows.zip(dx.chunks_exact_mut(cols)) {
            let (m, scale) = (s.splat(mean), s.splat(rstd));
            let mut total = s.zero();
            // The first factor is zero beyond a short end, so the product is too.
            let dot = sum!(s: S, cols, |at, n, sum| {
                let g = weighted(s, dy, weight, at, n);
                total = s.add(total, g);
                ask(s, x, at);
                s.add(sum, s.mul(g, s.mul(s.sub(get(s, x, at, n), m), scale)))
            });
            let total = s.sum(total);
            let (total, dot) = (s.splat(total / cols as f32), s.splat(dot / cols as f32));
            each!(S, cols, |at, n| {
                let hat = s.mul(s.sub(get(s, x, at, n), m), scale);
                ask(s, dy, at);
                let pulled = s.sub(weighted(s, dy, weight, at, n), total);
                let pulled = s.sub(pulled, s.mul(hat, dot));
                put(s, dx, at, n, s.mul(pulled, scale));
                ask(s, dx, at);
            });
        }
    }
}
