//! Cross-entropy with integer targets, whole or strip by strip.

use super::softmax::{self, check, start};
use super::{get, greatest, put};
use crate::isa::{Isa, Kernel};
use crate::simd::{Simd, math};

/// The log of the sum of exponentials so far: `max + ln(sum)` over the columns seen.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Running {
    /// The greatest logit seen, or one near it: `sum` is no more than `e^8` per logit.
    pub max: f32,
    /// `sum exp(logit - max)`.
    pub sum: f32,
}

impl Running {
    /// Nothing seen.
    pub const START: Self = Self { max: f32::NEG_INFINITY, sum: 0.0 };

    /// `ln sum exp`.
    #[must_use]
    pub fn lse(self) -> f32 {
        self.max + self.sum.ln()
    }
}

/// Adds a strip of logits to each row's running sum (Milakov and Gimelshein 2018).
///
/// # Panics
/// Where `logits` are not `running.len()` rows of `cols`.
pub fn accumulate(isa: Isa, cols: usize, logits: &[f32], running: &mut [Running]) {
    assert_eq!(logits.len(), cols * running.len());
    isa.run(Accumulate { cols, logits, running });
}

/// Turns a strip of logits into `exp(logit - max)` in place, with `max` the greatest of this and
/// earlier strips, and adds it to each row's running sum; `factors` become what earlier strips'
/// exponentials must be multiplied by to belong to the same `max` (Dao et al. 2022).
///
/// # Panics
/// Where lengths do not match.
pub fn exponentials(
    isa: Isa,
    cols: usize,
    logits: &mut [f32],
    running: &mut [Running],
    factors: &mut [f32],
) {
    assert!(logits.len() == cols * running.len() && factors.len() == running.len());
    isa.run(Exponentials { cols, logits, running, factors });
}

/// Turns a strip of logits, columns `first..first + cols` of all, into the gradient of the loss
/// toward them, in place: `scale * (exp(logit - lse) - [column == target])`, and 0 in rows whose
/// target is `ignore`.
///
/// # Panics
/// Where lengths do not match.
pub fn gradient(isa: Isa, strip: Strip<'_>) {
    check(strip.cols, &[strip.logits.len()]);
    let rows = strip.logits.len() / strip.cols;
    assert!(strip.lse.len() == rows && strip.targets.len() == rows && strip.scale.len() == rows);
    isa.run(strip);
}

/// Operands of [`gradient`].
pub struct Strip<'a> {
    /// First column of the strip.
    pub first: usize,
    /// Columns of the strip.
    pub cols: usize,
    /// Logits, then gradients.
    pub logits: &'a mut [f32],
    /// Each row's `ln sum exp` over all columns.
    pub lse: &'a [f32],
    /// Each row's target column.
    pub targets: &'a [i32],
    /// Target of rows that do not count.
    pub ignore: i32,
    /// Each row's factor.
    pub scale: &'a [f32],
}

/// Logits that are added at a time: where one is far greater than those before, the part is read
/// again, from L1.
const PART: usize = 1024;

/// Logits ahead of the current ones that are asked for. They are all that moves, so they may be many:
/// at 64 MiB 37 GB/s with 1024, 43 with 2048, 45 with 4096 (Zen 5, one thread).
const AHEAD: usize = 4096;

struct Accumulate<'a> {
    cols: usize,
    logits: &'a [f32],
    running: &'a mut [Running],
}

impl Kernel for Accumulate<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, running) in self.logits.chunks_exact(self.cols).zip(self.running) {
            for part in x.chunks(PART) {
                let first = running.max == f32::NEG_INFINITY;
                let near = if first { start(s, part) } else { running.max };
                let (near, sum) = softmax::exponentials::<S, false>(s, part, &mut [], near, AHEAD);
                // exp(-inf - -inf) would be NaN: a row of nothing but -inf adds nothing.
                if near == f32::NEG_INFINITY {
                    continue;
                }
                if near > running.max {
                    running.sum *= (running.max - near).exp();
                    running.max = near;
                }
                running.sum += sum;
            }
        }
    }
}

struct Exponentials<'a> {
    cols: usize,
    logits: &'a mut [f32],
    running: &'a mut [Running],
    factors: &'a mut [f32],
}

impl Kernel for Exponentials<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.logits.chunks_exact_mut(self.cols).zip(self.running).zip(self.factors);
        for ((x, running), factor) in rows {
            let max = greatest(s, x).max(running.max);
            // As in `Accumulate`: a row of nothing but -inf has no exponential.
            if max == f32::NEG_INFINITY {
                (*factor, running.max) = (1.0, max);
                x.fill(0.0);
                continue;
            }
            let top = s.splat(max);
            let sum = sum!(s: S, self.cols, |at, n, sum| {
                let p = math::exp_weight(s, s.sub(get(s, x, at, n), top));
                put(s, x, at, n, p);
                // Lanes beyond the row hold exp(0 - max), which is not part of the sum.
                s.add(sum, if n == S::LANES { p } else { get(s, x, at, n) })
            });
            *factor = (running.max - max).exp();
            running.sum = running.sum * *factor + sum;
            running.max = max;
        }
    }
}

impl Kernel for Strip<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.logits.chunks_exact_mut(self.cols).zip(self.lse).zip(self.targets);
        for (((x, &lse), &target), &scale) in rows.zip(self.scale) {
            if target == self.ignore {
                x.fill(0.0);
                continue;
            }
            let (top, factor) = (s.splat(lse), s.splat(scale));
            each!(S, self.cols, |at, n| {
                let p = math::exp_weight(s, s.sub(get(s, x, at, n), top));
                put(s, x, at, n, s.mul(p, factor));
            });
            let column = usize::try_from(target).ok().and_then(|t| t.checked_sub(self.first));
            if let Some(hit) = column.and_then(|c| x.get_mut(c)) {
                *hit -= scale;
            }
        }
    }
}
