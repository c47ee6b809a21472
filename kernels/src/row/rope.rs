//! Rotary position embedding (Su et al. 2021).

use super::{get, put};
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `(i, i + d/2)`.
    Half,
    /// `(2i, 2i + 1)`.
    Interleaved,
}

/// Operands of [`rope`].
pub struct Rope<'a> {
    /// See [`Layout`].
    pub layout: Layout,
    /// Whether to turn back: the gradient of turning forth.
    pub inverse: bool,
    /// Heads of one position follow each other; each is `dim` long.
    pub heads: usize,
    /// Length of a head. Elements past twice the table's width stay as they are.
    pub dim: usize,
    /// Positions, heads, elements: `[positions, heads, dim]`.
    pub x: &'a [f32],
    /// Cosines `[positions, half]`.
    pub cos: &'a [f32],
    /// Sines `[positions, half]`.
    pub sin: &'a [f32],
    /// The turned heads.
    pub y: &'a mut [f32],
}

/// Turns pair `i` of each head by the angle of its position: `(a cos - b sin, b cos + a sin)`.
///
/// # Panics
/// Where lengths do not match or the tables are wider than half a head.
pub fn rope(isa: Isa, operands: Rope<'_>) {
    let Rope { heads, dim, x, cos, sin, y, .. } = &operands;
    let positions = x.len() / (heads * dim).max(1);
    assert!(x.len() == y.len() && x.len() == positions * heads * dim && cos.len() == sin.len());
    assert!(positions == 0 || (cos.len() % positions == 0 && cos.len() / positions * 2 <= *dim));
    isa.run(operands);
}

impl Kernel for Rope<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { layout, inverse, heads, dim, x, cos, sin, y } = self;
        let positions = x.len() / (heads * dim).max(1);
        let half = cos.len() / positions.max(1);
        let flip = if inverse { -1.0 } else { 1.0 };
        for row in 0..positions * heads {
            let table = row / heads * half..(row / heads + 1) * half;
            let (c, n) = (&cos[table.clone()], &sin[table]);
            let (x, y) = (&x[row * dim..][..dim], &mut y[row * dim..][..dim]);
            match layout {
                Layout::Half => turn_halves(s, flip, x, c, n, y),
                Layout::Interleaved => turn_pairs(flip, x, c, n, y),
            }
            y[2 * half..].copy_from_slice(&x[2 * half..]);
        }
    }
}

#[inline(always)]
fn turn_halves<S: Simd>(s: S, flip: f32, x: &[f32], cos: &[f32], sin: &[f32], y: &mut [f32]) {
    let half = cos.len();
    let (a, b) = x[..2 * half].split_at(half);
    let (ya, yb) = y[..2 * half].split_at_mut(half);
    each!(S, half, |at, n| {
        let (c, t) = (get(s, cos, at, n), s.mul(get(s, sin, at, n), s.splat(flip)));
        let (a, b) = (get(s, a, at, n), get(s, b, at, n));
        put(s, ya, at, n, s.sub(s.mul(a, c), s.mul(b, t)));
        put(s, yb, at, n, s.fma(a, t, s.mul(b, c)));
    });
}

/// The compiler turns this loop into de-interleaving shuffles on every level.
#[inline(always)]
fn turn_pairs(flip: f32, x: &[f32], cos: &[f32], sin: &[f32], y: &mut [f32]) {
    let pairs = x.chunks_exact(2).zip(y.chunks_exact_mut(2)).zip(cos.iter().zip(sin));
    for ((x, y), (&c, &t)) in pairs {
        let t = t * flip;
        (y[0], y[1]) = (x[0] * c - x[1] * t, x[0] * t + x[1] * c);
    }
}
