//! Optimizer steps, each one pass over memory; the gradient is multiplied by `scale` (clipping,
//! averaging) on the way. Definitions are PyTorch's; the tests hold the reference in f64.
//!
//! The arithmetic has no fused multiplication and addition, which the portable level lacks: every
//! level gives the same bits. Where a state is rounded ([`State`]), a difference in the last bit
//! would now and then become one of a whole code.
//!
//! An element of AdamW takes 0.5 ns of one Zen 5 thread with states of f32 (52 to 60 GB/s, each
//! operand counted once a way: 1.3 to 1.5 times the triad of the same minutes, 0.95 to 1.1 times
//! torch's fused step), 0.8 ns with bf16 and 1.0 ns with int8, where the random numbers bound it.

mod adam;
mod sgd;
mod state;
#[cfg(test)]
mod tests;

pub use state::{BLOCK, State, StateFormat};

use crate::isa::{Isa, Kernel};
use crate::random::Philox;
use crate::simd::Simd;

/// Bound on the relative difference of two backends after one step: a handful of roundings.
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

/// What the rounding of states is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct Rounding {
    /// The sequence of this tensor and step; word `i` is element `i`'s.
    pub random: Philox,
    /// Number in the tensor of the first element given, a multiple of [`BLOCK`].
    pub first: u64,
}

/// `g = scale * grad + decay * p; m = momentum * m + g; p -= lr * (m, or g + momentum * m)`.
/// `momentum` is empty where [`Sgd::momentum`] is 0. A buffer of zeros at the first step gives
/// PyTorch's first step, `m = g`.
///
/// # Panics
/// Where lengths differ.
pub fn sgd(
    isa: Isa,
    hyper: Sgd,
    rounding: Rounding,
    p: &mut [f32],
    grad: &[f32],
    momentum: State<'_>,
) {
    assert_eq!(p.len(), grad.len());
    momentum.check(if hyper.momentum == 0.0 { 0 } else { p.len() });
    match momentum {
        State::F32(momentum) => isa.run(sgd::Step { hyper, p, grad, momentum }),
        momentum => isa.run(sgd::Rounded { hyper, rounding, p, grad, momentum }),
    }
}

/// `m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr m' / (sqrt(v') + eps)`, with `m'` and
/// `v'` corrected for their zero start (Kingma and Ba 2015), and decay before (Loshchilov and
/// Hutter 2019) or inside the gradient. `p` moves by the moments before they are rounded.
///
/// # Panics
/// Where lengths differ.
pub fn adam(
    isa: Isa,
    hyper: Adam,
    rounding: Rounding,
    p: &mut [f32],
    grad: &[f32],
    m: State<'_>,
    v: State<'_>,
) {
    assert_eq!(p.len(), grad.len());
    m.check(p.len());
    v.check(p.len());
    match (m, v) {
        (State::F32(m), State::F32(v)) => isa.run(adam::Step { hyper, p, grad, m, v }),
        (m, v) => isa.run(adam::Rounded { hyper, rounding, p, grad, m, v }),
    }
}

/// `total = keep * total + x`.
///
/// # Panics
/// Where lengths differ.
pub fn accumulate(isa: Isa, keep: f32, total: &mut [f32], x: &[f32]) {
    assert_eq!(total.len(), x.len());
    isa.run(Accumulate { keep, total, x });
}

/// Up to a vector of `x` from `at`.
#[inline(always)]
fn get<S: Simd>(s: S, x: &[f32], at: usize, n: usize) -> S::F {
    debug_assert!(at + n <= x.len());
    // SAFETY: callers stay inside the length that the entry points checked.
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
        for at in (0..x.len()).step_by(S::LANES) {
            let n = (x.len() - at).min(S::LANES);
            let add = get(s, x, at, n);
            // 0 means a fresh start, whatever the total holds (it may be NaN).
            let sum = if keep == 0.0 { add } else { s.fma(get(s, total, at, n), factor, add) };
            put(s, total, at, n, sum);
        }
    }
}
