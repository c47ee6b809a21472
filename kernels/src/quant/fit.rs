//! Scales for a group of codes by least squares.
//!
//! Codes and scales are each the best for the other in turn (Lloyd, "Least squares quantization in
//! PCM", 1982) until the squared error falls no more. Several starts, because the best range is a
//! little inside the extremes where the group has outliers.

use super::bits::{extreme, range, reciprocal, round};

/// Shares of the full range that a fit starts from.
const STARTS: [f32; 4] = [1.0, 0.92, 0.84, 0.76];
/// Most turns from one start; the error rarely falls after four.
const TURNS: usize = 6;

/// `(scale, min)`, both at least 0, so that `x` is near `scale * q - min` with codes `q` in
/// `0..=top`.
#[inline(always)]
pub(super) fn affine(x: &[f32], top: f32) -> (f32, f32) {
    let (lo, hi) = range(x);
    let lo = lo.min(0.0);
    best_of_starts((0.0, 0.0), |share| {
        let start = ((hi - lo) * share / top, -lo * share);
        refine(start, |(scale, min)| {
            let inverse = reciprocal(scale);
            let code = |x: f32| round((x + min) * inverse).clamp(0.0, top);
            let error = squared(x, |x| scale * code(x) - min);
            (error, solve_affine(x, code))
        })
    })
}

/// A signed scale so that `x` is near `scale * q` with codes `q` in `-half..half`.
#[inline(always)]
pub(super) fn symmetric(x: &[f32], half: f32) -> f32 {
    let extreme = extreme(x);
    best_of_starts(0.0, |share| {
        refine(extreme * share / -half, |scale| {
            let inverse = reciprocal(scale);
            let code = |x: f32| round(x * inverse).clamp(-half, half - 1.0);
            let error = squared(x, |x| scale * code(x));
            let (mut product, mut square) = (0.0, 0.0);
            for &x in x {
                product += x * code(x);
                square += code(x) * code(x);
            }
            (error, product * reciprocal(square))
        })
    })
}

/// The parameters of least error among all starts.
#[inline(always)]
fn best_of_starts<P>(zero: P, fit: impl Fn(f32) -> (f32, P)) -> P {
    let best = STARTS.iter().map(|&share| fit(share)).min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(zero, |(_, parameters)| parameters)
}

/// Improves parameters while their error falls; `turn` gives the error and the next parameters.
#[inline(always)]
fn refine<P: Copy>(start: P, turn: impl Fn(P) -> (f32, P)) -> (f32, P) {
    let (mut error, mut next) = turn(start);
    let mut best = start;
    for _ in 0..TURNS {
        let (new_error, after) = turn(next);
        if new_error.is_nan() || new_error >= error {
            break;
        }
        (error, best, next) = (new_error, next, after);
    }
    (error, best)
}

/// Sum of squared differences to `decoded`.
#[inline(always)]
fn squared(x: &[f32], decoded: impl Fn(f32) -> f32) -> f32 {
    x.iter().map(|&x| (x - decoded(x)).powi(2)).sum()
}

/// Least squares of `scale * q - min` for given codes, with `min` at least 0.
#[inline(always)]
fn solve_affine(x: &[f32], code: impl Fn(f32) -> f32) -> (f32, f32) {
    let (mut sum_q, mut sum_qq, mut sum_x, mut sum_qx) = (0.0, 0.0, 0.0, 0.0);
    for &x in x {
        let q = code(x);
        sum_q += q;
        sum_qq += q * q;
        sum_x += x;
        sum_qx += q * x;
    }
    let n = x.len() as f32;
    let scale = (n * sum_qx - sum_q * sum_x) * reciprocal(n * sum_qq - sum_q * sum_q);
    let min = (scale * sum_q - sum_x) / n;
    if min >= 0.0 { (scale.max(0.0), min) } else { ((sum_qx * reciprocal(sum_qq)).max(0.0), 0.0) }
}
