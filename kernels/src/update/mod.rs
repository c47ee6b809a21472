//! Optimizer steps, each one pass over memory; the gradient is multiplied by `scale` (clipping,
//! averaging) on the way. Definitions are PyTorch's; the tests hold the reference in f64.

use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// Bound on the relative difference of two levels after one step: a handful of roundings.
pub const TOLERANCE: f32 = 4e-6;

/// Hyperparameters of [`sgd`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f32,
    /// Momentum; with 0 the buffer is not touched.
    pub momentum: f32,
    /// Whether the step looks ahead along the momentum (Nesterov).
    pub nesterov: bool,
    /// L2 penalty.
    pub weight_decay: f32,
    /// Multiplier of the gradient.
    pub scale: f32,
}

/// Hyperparameters of [`adam`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Weight decay.
    pub weight_decay: f32,
    /// Whether decay is decoupled from the gradient (AdamW).
    pub decoupled: bool,
    /// Number of this step, from 1, for bias correction.
    pub step: f32,
    /// Multiplier of the gradient.
    pub scale: f32,
}

/// `g = scale * grad + decay * p; m = momentum * m + g; p -= lr * (m, or g + momentum * m)`.
/// `momentum` is empty where [`Sgd::momentum`] is 0. A buffer of zeros at the first step gives
/// PyTorch's first step, `m = g`.
///
/// # Panics
/// Where lengths differ.
pub fn sgd(isa: Isa, hyper: Sgd, p: &mut [f32], grad: &[f32], momentum: &mut [f32]) {
    assert_eq!(p.len(), grad.len());
    assert_eq!(momentum.len(), if hyper.momentum == 0.0 { 0 } else { p.len() });
    isa.run(SgdStep { hyper, p, grad, momentum });
}

/// `m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr m' / (sqrt(v') + eps)`, with `m'` and
/// `v'` corrected for their zero start (Kingma and Ba 2015), and decay before (Loshchilov and
/// Hutter 2019) or inside the gradient.
///
/// # Panics
/// Where lengths differ.
pub fn adam(isa: Isa, hyper: Adam, p: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32]) {
    assert!([grad.len(), m.len(), v.len()] == [p.len(); 3]);
    isa.run(AdamStep { hyper, p, grad, m, v });
}

/// `total = keep * total + x`.
///
/// # Panics
/// Where lengths differ.
pub fn accumulate(isa: Isa, keep: f32, total: &mut [f32], x: &[f32]) {
    assert_eq!(total.len(), x.len());
    isa.run(Accumulate { keep, total, x });
}

/// Calls `f` with each vector's position and lanes.
#[inline(always)]
fn each<S: Simd>(n: usize, mut f: impl FnMut(usize, usize)) {
    for at in (0..n).step_by(S::LANES) {
        f(at, (n - at).min(S::LANES));
    }
}

/// Up to a vector of `x` from `at`.
#[inline(always)]
fn get<S: Simd>(s: S, x: &[f32], at: usize, n: usize) -> S::F {
    debug_assert!(at + n <= x.len());
    // SAFETY: `each` stays inside the length that the entry points checked.
    unsafe {
        let p = x.as_ptr().add(at);
        if n == S::LANES { s.load(p) } else { s.load_n(p, n) }
    }
}

/// Writes up to a vector of `x` from `at`.
#[inline(always)]
fn put<S: Simd>(s: S, x: &mut [f32], at: usize, n: usize, v: S::F) {
    debug_assert!(at + n <= x.len());
    // SAFETY: as for `get`.
    unsafe {
        let p = x.as_mut_ptr().add(at);
        if n == S::LANES { s.store(p, v) } else { s.store_n(p, v, n) }
    }
}

struct SgdStep<'a> {
    hyper: Sgd,
    p: &'a mut [f32],
    grad: &'a [f32],
    momentum: &'a mut [f32],
}

impl Kernel for SgdStep<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { hyper: h, p, grad, momentum } = self;
        let (scale, decay) = (s.splat(h.scale), s.splat(h.weight_decay));
        let (lr, mu) = (s.splat(-h.lr), s.splat(h.momentum));
        each::<S>(grad.len(), |at, n| {
            let x = get(s, p, at, n);
            let mut g = s.fma(x, decay, s.mul(get(s, grad, at, n), scale));
            if h.momentum != 0.0 {
                let m = s.fma(get(s, momentum, at, n), mu, g);
                put(s, momentum, at, n, m);
                g = if h.nesterov { s.fma(m, mu, g) } else { m };
            }
            put(s, p, at, n, s.fma(g, lr, x));
        });
    }
}

struct AdamStep<'a> {
    hyper: Adam,
    p: &'a mut [f32],
    grad: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Kernel for AdamStep<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { hyper: h, p, grad, m, v } = self;
        // Once a step, in f64: 1 - beta^t loses its digits in f32.
        let correct = |beta: f32| 1.0 - f64::from(beta).powf(f64::from(h.step));
        let lr = s.splat((-f64::from(h.lr) / correct(h.beta1)) as f32);
        let root = s.splat((1.0 / correct(h.beta2).sqrt()) as f32);
        let shrink = s.splat(if h.decoupled { 1.0 - h.lr * h.weight_decay } else { 1.0 });
        let penalty = s.splat(if h.decoupled { 0.0 } else { h.weight_decay });
        let (b1, b2) = (s.splat(h.beta1), s.splat(h.beta2));
        let (a1, a2) = (s.splat(1.0 - h.beta1), s.splat(1.0 - h.beta2));
        let (scale, eps) = (s.splat(h.scale), s.splat(h.eps));
        each::<S>(grad.len(), |at, n| {
            let x = get(s, p, at, n);
            let g = s.fma(x, penalty, s.mul(get(s, grad, at, n), scale));
            let first = s.fma(get(s, m, at, n), b1, s.mul(g, a1));
            let second = s.fma(get(s, v, at, n), b2, s.mul(s.mul(g, g), a2));
            put(s, m, at, n, first);
            put(s, v, at, n, second);
            let step = s.div(first, s.fma(s.sqrt(second), root, eps));
            put(s, p, at, n, s.fma(step, lr, s.mul(x, shrink)));
        });
    }
}

struct Accumulate<'a> {
    keep: f32,
    total: &'a mut [f32],
    x: &'a [f32],
}

impl Kernel for Accumulate<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { keep, total, x } = self;
        let factor = s.splat(keep);
        each::<S>(x.len(), |at, n| {
            let add = get(s, x, at, n);
            // 0 means a fresh start, whatever the total holds (it may be NaN).
            let sum = if keep == 0.0 { add } else { s.fma(get(s, total, at, n), factor, add) };
            put(s, total, at, n, sum);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: usize = 37;

    fn noise(seed: usize) -> Vec<f32> {
        (0..N).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 200.0 - 2.5).collect()
    }

    fn close(got: &[f32], want: &[f64]) {
        for (a, b) in got.iter().zip(want) {
            let bound = f64::from(TOLERANCE) * b.abs().max(1.0);
            assert!((f64::from(*a) - b).abs() <= bound, "{a} is not {b}");
        }
    }

    #[test]
    fn sgd_is_pytorchs() {
        for isa in Isa::available() {
            for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
                let (lr, weight_decay, scale) = (0.1, 0.01, 0.5);
                let h = Sgd { lr, momentum, nesterov, weight_decay, scale };
                let (mut p, g) = (noise(1), noise(2));
                let mut buffer = if momentum == 0.0 { vec![] } else { vec![0.0; N] };
                let mut want: Vec<f64> = p.iter().map(|&v| f64::from(v)).collect();
                let mut moment = vec![0f64; N];
                for _ in 0..3 {
                    sgd(isa, h, &mut p, &g, &mut buffer);
                    for i in 0..N {
                        let grad = 0.5 * f64::from(g[i]) + f64::from(0.01f32) * want[i];
                        moment[i] = f64::from(momentum) * moment[i] + grad;
                        let ahead = grad + f64::from(momentum) * moment[i];
                        want[i] -= f64::from(0.1f32) * if nesterov { ahead } else { moment[i] };
                    }
                }
                close(&p, &want);
            }
        }
    }

    #[test]
    fn adam_is_pytorchs() {
        for isa in Isa::available() {
            for decoupled in [false, true] {
                let (mut p, g) = (noise(1), noise(2));
                let (mut m, mut v) = (vec![0.0; N], vec![0.0; N]);
                let mut want: Vec<f64> = p.iter().map(|&x| f64::from(x)).collect();
                let (mut m64, mut v64) = (vec![0f64; N], vec![0f64; N]);
                for t in 1..=3 {
                    let h = Adam {
                        lr: 0.01,
                        beta1: 0.9,
                        beta2: 0.999,
                        eps: 1e-8,
                        weight_decay: 0.1,
                        decoupled,
                        step: t as f32,
                        scale: 2.0,
                    };
                    adam(isa, h, &mut p, &g, &mut m, &mut v);
                    let (b1, b2) = (f64::from(0.9f32), f64::from(0.999f32));
                    for i in 0..N {
                        let mut grad = 2.0 * f64::from(g[i]);
                        if decoupled {
                            want[i] *= 1.0 - 0.01 * 0.1;
                        } else {
                            grad += 0.1 * want[i];
                        }
                        m64[i] = b1 * m64[i] + (1.0 - b1) * grad;
                        v64[i] = b2 * v64[i] + (1.0 - b2) * grad * grad;
                        let m_hat = m64[i] / (1.0 - b1.powi(t));
                        let v_hat = v64[i] / (1.0 - b2.powi(t));
                        want[i] -= 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
                    }
                }
                close(&p, &want);
            }
        }
    }

    #[test]
    fn accumulation_starts_afresh() {
        for isa in Isa::available() {
            let x = noise(3);
            let mut total = vec![f32::NAN; N];
            accumulate(isa, 0.0, &mut total, &x);
            assert_eq!(total, x);
            accumulate(isa, 1.0, &mut total, &x);
            assert!(total.iter().zip(&x).all(|(t, v)| *t == 2.0 * v));
        }
    }
}
