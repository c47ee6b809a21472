//! Stochastic gradient descent.

use super::state::{Block, EMPTY};
use super::{BLOCK, Rounding, Sgd, State, get, put};
use crate::AHEAD;
use crate::isa::Kernel;
use crate::simd::Simd;

/// The step of slices of one length; `momentum` is empty where there is none.
#[inline(always)]
fn step<S: Simd>(s: S, h: Sgd, p: &mut [f32], grad: &[f32], momentum: &mut [f32]) {
    let (scale, decay) = (s.splat(h.scale), s.splat(h.weight_decay));
    let (lr, mu) = (s.splat(-h.lr), s.splat(h.momentum));
    for at in (0..p.len()).step_by(S::LANES) {
        let n = (p.len() - at).min(S::LANES);
        for ahead in [&*p, grad, &*momentum] {
            s.prefetch(ahead.as_ptr().wrapping_add(at + AHEAD));
        }
        let x = get(s, p, at, n);
        let mut g = s.add(s.mul(x, decay), s.mul(get(s, grad, at, n), scale));
        if h.momentum != 0.0 {
            let m = s.add(s.mul(get(s, momentum, at, n), mu), g);
            put(s, momentum, at, n, m);
            g = if h.nesterov { s.add(s.mul(m, mu), g) } else { m };
        }
        put(s, p, at, n, s.add(s.mul(g, lr), x));
    }
}

/// The step with a momentum of f32, or none.
pub(super) struct Step<'a> {
    pub(super) hyper: Sgd,
    pub(super) p: &'a mut [f32],
    pub(super) grad: &'a [f32],
    pub(super) momentum: &'a mut [f32],
}

impl Kernel for Step<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        step(s, self.hyper, self.p, self.grad, self.momentum);
    }
}

/// The step with a momentum that is rounded, block by block.
pub(super) struct Rounded<'a> {
    pub(super) hyper: Sgd,
    pub(super) rounding: Rounding,
    pub(super) p: &'a mut [f32],
    pub(super) grad: &'a [f32],
    pub(super) momentum: State<'a>,
}

impl Kernel for Rounded<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let words = self.rounding.random.vectors(s);
        let (mut m, mut random): (Block, Block) = (EMPTY, EMPTY);
        let blocks = self.p.chunks_mut(BLOCK).zip(self.grad.chunks(BLOCK)).enumerate();
        for (block, (p, grad)) in blocks {
            let n = p.len();
            self.momentum.widen::<S, true>(s, block, &mut m);
            step(s, self.hyper, p, grad, &mut m.0[..n]);
            words.fill(self.rounding.first + (block * BLOCK) as u64, &mut random.0);
            self.momentum.narrow::<S, true>(s, block, &m, &random);
        }
    }
}
