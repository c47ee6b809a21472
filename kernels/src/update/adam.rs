//! Adam and AdamW.

use super::state::{Block, EMPTY};
use super::{Adam, BLOCK, Rounding, State, get, put};
use crate::AHEAD;
use crate::isa::Kernel;
use crate::simd::Simd;

/// The hyperparameters as vectors.
struct Rule<S: Simd> {
    lr: S::F,
    root: S::F,
    shrink: S::F,
    penalty: S::F,
    beta1: S::F,
    beta2: S::F,
    rest1: S::F,
    rest2: S::F,
    scale: S::F,
    eps: S::F,
}

impl<S: Simd> Rule<S> {
    #[inline(always)]
    fn new(s: S, h: Adam) -> Self {
        // Once a step, in f64: 1 - beta^t loses its digits in f32.
        let correct = |beta: f32| 1.0 - f64::from(beta).powf(f64::from(h.step));
        Self {
            lr: s.splat((-f64::from(h.lr) / correct(h.beta1)) as f32),
            root: s.splat((1.0 / correct(h.beta2).sqrt()) as f32),
            shrink: s.splat(if h.decoupled { 1.0 - h.lr * h.weight_decay } else { 1.0 }),
            penalty: s.splat(if h.decoupled { 0.0 } else { h.weight_decay }),
            beta1: s.splat(h.beta1),
            beta2: s.splat(h.beta2),
            rest1: s.splat(1.0 - h.beta1),
            rest2: s.splat(1.0 - h.beta2),
            scale: s.splat(h.scale),
            eps: s.splat(h.eps),
        }
    }

    /// The step of slices of one length.
    #[inline(always)]
    fn step(&self, s: S, p: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32]) {
        for at in (0..p.len()).step_by(S::LANES) {
            let n = (p.len() - at).min(S::LANES);
            for ahead in [&*p, grad, &*m, &*v] {
                s.prefetch(ahead.as_ptr().wrapping_add(at + AHEAD));
            }
            let x = get(s, p, at, n);
            let g = s.add(s.mul(x, self.penalty), s.mul(get(s, grad, at, n), self.scale));
            let first = s.add(s.mul(get(s, m, at, n), self.beta1), s.mul(g, self.rest1));
            let square = s.mul(s.mul(g, g), self.rest2);
            let second = s.add(s.mul(get(s, v, at, n), self.beta2), square);
            put(s, m, at, n, first);
            put(s, v, at, n, second);
            let step = s.div(first, s.add(s.mul(s.sqrt(second), self.root), self.eps));
            put(s, p, at, n, s.add(s.mul(step, self.lr), s.mul(x, self.shrink)));
        }
    }
}

/// The step with states of f32.
pub(super) struct Step<'a> {
    pub(super) hyper: Adam,
    pub(super) p: &'a mut [f32],
    pub(super) grad: &'a [f32],
    pub(super) m: &'a mut [f32],
    pub(super) v: &'a mut [f32],
}

impl Kernel for Step<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        Rule::new(s, self.hyper).step(s, self.p, self.grad, self.m, self.v);
    }
}

/// The step with states that are rounded: the same one on a block at a time, whose states are
/// widened before and narrowed after, all in the first cache.
pub(super) struct Rounded<'a> {
    pub(super) hyper: Adam,
    pub(super) rounding: Rounding,
    pub(super) p: &'a mut [f32],
    pub(super) grad: &'a [f32],
    pub(super) m: State<'a>,
    pub(super) v: State<'a>,
}

impl Kernel for Rounded<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let rule = Rule::new(s, self.hyper);
        let words = self.rounding.random.vectors(s);
        let (mut m, mut v, mut random): (Block, Block, Block) = (EMPTY, EMPTY, EMPTY);
        let blocks = self.p.chunks_mut(BLOCK).zip(self.grad.chunks(BLOCK)).enumerate();
        for (block, (p, grad)) in blocks {
            let n = p.len();
            self.m.widen::<S, true>(s, block, &mut m);
            self.v.widen::<S, false>(s, block, &mut v);
            rule.step(s, p, grad, &mut m.0[..n], &mut v.0[..n]);
            words.fill(self.rounding.first + (block * BLOCK) as u64, &mut random.0);
            self.m.narrow::<S, true>(s, block, &m, &random);
            self.v.narrow::<S, false>(s, block, &v, &random);
        }
    }
}
