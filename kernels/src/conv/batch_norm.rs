//! Batch normalisation over `[batch, channels, len]` (Ioffe and Szegedy, 2015), both ways.
//!
//! A task owns some channels. Positions of a channel fill the vector lanes; where there is only
//! one (`[batch, channels]`), channels fill them, and the same code runs.

use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// Values that make a task worth starting.
const TASK_VALUES: usize = 16 << 10;

/// The shape of a batch normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchNorm {
    /// Images.
    pub batch: usize,
    /// Channels, each normalised by itself.
    pub channels: usize,
    /// Positions of a channel in one image.
    pub len: usize,
}

/// What [`normalize`] reads and writes; vectors have one f32 for each channel.
#[derive(Clone, Copy, Debug)]
pub struct Normalize {
    /// The shape.
    pub shape: BatchNorm,
    /// Input.
    pub x: *const f32,
    /// Scale; 1 if absent.
    pub weight: Option<*const f32>,
    /// Shift; 0 if absent.
    pub bias: Option<*const f32>,
    /// Running mean and variance: read in evaluation, updated in training if present.
    pub running: Option<(*mut f32, *mut f32)>,
    /// Share of the batch in the running statistics if training; `None` evaluates with them.
    pub momentum: Option<f32>,
    /// Added to the variance.
    pub eps: f32,
    /// Output.
    pub y: *mut f32,
    /// The mean that was subtracted.
    pub mean: *mut f32,
    /// One over the standard deviation that was divided by.
    pub rstd: *mut f32,
}

// SAFETY: addresses only; using them is the contract of the functions that take them.
unsafe impl Sync for Normalize {}

/// What [`normalize_grad`] reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct NormalizeGrad {
    /// The shape.
    pub shape: BatchNorm,
    /// Input of the forward pass.
    pub x: *const f32,
    /// Scale; 1 if absent.
    pub weight: Option<*const f32>,
    /// Mean from the forward pass.
    pub mean: *const f32,
    /// Reciprocal standard deviation from the forward pass.
    pub rstd: *const f32,
    /// Whether these came from the batch, and so depend on `x`.
    pub training: bool,
    /// Gradient of the output.
    pub dy: *const f32,
    /// Gradient of the input.
    pub dx: *mut f32,
    /// Gradient of the scale.
    pub dweight: *mut f32,
    /// Gradient of the shift.
    pub dbias: *mut f32,
}

// SAFETY: addresses only; using them is the contract of the functions that take them.
unsafe impl Sync for NormalizeGrad {}

impl BatchNorm {
    /// Tasks of [`normalize`] and [`normalize_grad`].
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.channels.div_ceil(self.channels_per_task())
    }

    /// A multiple of the widest vector, so that no level splits one.
    fn channels_per_task(&self) -> usize {
        let channels = TASK_VALUES / (self.batch * self.len).max(1);
        if self.len == 1 { channels.next_multiple_of(16).max(16) } else { channels.max(1) }
    }

    /// The vectors of task `task`.
    #[inline(always)]
    fn lanes<S: Simd>(self, s: S, task: usize) -> impl Iterator<Item = Lanes<S>> {
        let n = self.channels_per_task();
        let end = ((task + 1) * n).min(self.channels);
        let width = if self.len == 1 { S::LANES } else { 1 };
        (task * n..end).step_by(width).map(move |first| Lanes {
            s,
            shape: self,
            first,
            width: width.min(end - first),
        })
    }
}

/// Runs one of [`BatchNorm::tasks`] tasks of the forward pass.
///
/// # Safety
/// The pointers must be valid for the shape, what is written overlap nothing else, `running` be
/// present in evaluation, and `task` be in range and run once.
pub unsafe fn normalize(isa: Isa, args: &Normalize, task: usize) {
    isa.run(Forward { args, task });
}

/// Runs one of [`BatchNorm::tasks`] tasks of the backward pass.
///
/// # Safety
/// As for [`normalize`].
pub unsafe fn normalize_grad(isa: Isa, args: &NormalizeGrad, task: usize) {
    isa.run(Backward { args, task });
}

/// One channel with positions in the lanes, or `width` channels in the lanes.
#[derive(Clone, Copy)]
struct Lanes<S: Simd> {
    s: S,
    shape: BatchNorm,
    first: usize,
    width: usize,
}

impl<S: Simd> Lanes<S> {
    fn by_channel(&self) -> bool {
        self.shape.len == 1
    }

    /// Where image `n` begins, and how many values follow.
    #[inline(always)]
    fn run(&self, n: usize) -> (usize, usize) {
        let at = (n * self.shape.channels + self.first) * self.shape.len;
        (at, if self.by_channel() { self.width } else { self.shape.len })
    }

    /// One value for each channel of these lanes; `default` if there are none.
    ///
    /// # Safety
    /// The vector must have a value for every channel.
    #[inline(always)]
    unsafe fn channel(&self, values: Option<*const f32>, default: f32) -> S::F {
        let Some(values) = values else { return self.s.splat(default) };
        // SAFETY: the caller's contract.
        unsafe {
            if self.by_channel() {
                load(self.s, values.add(self.first), self.width)
            } else {
                self.s.splat(*values.add(self.first))
            }
        }
    }

    /// Writes one value for each channel of these lanes.
    ///
    /// # Safety
    /// As for [`Lanes::channel`].
    #[inline(always)]
    unsafe fn set_channel(&self, values: *mut f32, v: S::F) {
        // SAFETY: the caller's contract; in a single channel all lanes are equal.
        unsafe { store(self.s, values.add(self.first), v, self.width) };
    }

    /// The sum over a channel of what its lanes added up to, in every lane that stands for it.
    #[inline(always)]
    fn total(&self, sum: S::F) -> S::F {
        if self.by_channel() { sum } else { self.s.splat(self.s.sum(sum)) }
    }

    /// Sum of the input, or of its squared distance from `mean`; image by image, to keep the
    /// rounding of long sums down.
    ///
    /// # Safety
    /// `x` must be valid for the shape.
    #[inline(always)]
    unsafe fn moment(&self, x: *const f32, mean: Option<S::F>) -> S::F {
        let s = self.s;
        let mut sum = s.zero();
        for n in 0..self.shape.batch {
            let (at, len) = self.run(n);
            let mut part = s.zero();
            for i in (0..len).step_by(S::LANES) {
                let k = S::LANES.min(len - i);
                // SAFETY: `k` values lie from here on.
                let v = unsafe { load(s, x.add(at + i), k) };
                part = match mean {
                    None => s.add(part, v),
                    Some(mean) => {
                        let d = first_lanes(s, s.sub(v, mean), k);
                        s.fma(d, d, part)
                    }
                };
            }
            sum = s.add(sum, part);
        }
        self.total(sum)
    }
}

/// The first `n` lanes of `v`, zero in the others.
#[inline(always)]
fn first_lanes<S: Simd>(s: S, v: S::F, n: usize) -> S::F {
    if n == S::LANES {
        return v;
    }
    let mut lanes = [0.0; 64];
    // SAFETY: `n` lanes are written and read, fewer than the array has.
    unsafe {
        s.store_n(lanes.as_mut_ptr(), v, n);
        s.load_n(lanes.as_ptr(), n)
    }
}

/// Reads `n <= LANES` f32.
///
/// # Safety
/// `p` must be valid for reading `n` f32.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, p: *const f32, n: usize) -> S::F {
    // SAFETY: the caller's contract.
    unsafe { if n == S::LANES { s.load(p) } else { s.load_n(p, n) } }
}

/// Writes `n <= LANES` f32.
///
/// # Safety
/// `p` must be valid for writing `n` f32.
#[inline(always)]
unsafe fn store<S: Simd>(s: S, p: *mut f32, v: S::F, n: usize) {
    // SAFETY: the caller's contract.
    unsafe { if n == S::LANES { s.store(p, v) } else { s.store_n(p, v, n) } }
}

struct Forward<'a> {
    args: &'a Normalize,
    task: usize,
}

impl Kernel for Forward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for lanes in self.args.shape.lanes(s, self.task) {
            // SAFETY: `normalize`'s contract; these channels belong to this task.
            unsafe { self.args.channels(lanes) };
        }
    }
}

impl Normalize {
    /// Normalises the channels of some lanes.
    ///
    /// # Safety
    /// As for [`normalize`].
    #[inline(always)]
    unsafe fn channels<S: Simd>(&self, lanes: Lanes<S>) {
        let s = lanes.s;
        // SAFETY: the caller's contract.
        unsafe {
            let (mean, var) = self.statistics(lanes);
            let one = s.splat(1.0);
            let rstd = s.div(one, s.sqrt(s.add(var, s.splat(self.eps))));
            lanes.set_channel(self.mean, mean);
            lanes.set_channel(self.rstd, rstd);
            let scale = s.mul(rstd, lanes.channel(self.weight, 1.0));
            let bias = lanes.channel(self.bias, 0.0);
            for n in 0..self.shape.batch {
                let (at, len) = lanes.run(n);
                for i in (0..len).step_by(S::LANES) {
                    let k = S::LANES.min(len - i);
                    let centred = s.sub(load(s, self.x.add(at + i), k), mean);
                    store(s, self.y.add(at + i), s.fma(centred, scale, bias), k);
                }
            }
        }
    }

    /// Mean and variance to normalise by; in training those of the batch, which then move the
    /// running ones (the variance by its unbiased estimate).
    ///
    /// # Safety
    /// As for [`normalize`].
    #[inline(always)]
    unsafe fn statistics<S: Simd>(&self, lanes: Lanes<S>) -> (S::F, S::F) {
        let s = lanes.s;
        let running = self.running;
        // SAFETY: the caller's contract.
        unsafe {
            let old_mean = lanes.channel(running.map(|r| r.0.cast_const()), 0.0);
            let old_var = lanes.channel(running.map(|r| r.1.cast_const()), 1.0);
            let Some(momentum) = self.momentum else { return (old_mean, old_var) };
            let count = (self.shape.batch * self.shape.len) as f32;
            let mean = s.div(lanes.moment(self.x, None), s.splat(count));
            let squares = lanes.moment(self.x, Some(mean));
            let var = s.div(squares, s.splat(count));
            if let Some((running_mean, running_var)) = running {
                let unbiased = s.div(squares, s.splat(count - 1.0));
                let (keep, take) = (s.splat(1.0 - momentum), s.splat(momentum));
                let mix = |old, new| s.fma(old, keep, s.mul(new, take));
                lanes.set_channel(running_mean, mix(old_mean, mean));
                lanes.set_channel(running_var, mix(old_var, unbiased));
            }
            (mean, var)
        }
    }
}

struct Backward<'a> {
    args: &'a NormalizeGrad,
    task: usize,
}

impl Kernel for Backward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for lanes in self.args.shape.lanes(s, self.task) {
            // SAFETY: `normalize_grad`'s contract; these channels belong to this task.
            unsafe { self.args.channels(lanes) };
        }
    }
}

impl NormalizeGrad {
    /// With `h = (x - mean) * rstd`: `dbias = sum(dy)`, `dweight = sum(dy h)` and
    /// `dx = weight rstd (dy - mean(dy) - h mean(dy h))`, without the means in evaluation.
    ///
    /// # Safety
    /// As for [`normalize_grad`].
    #[inline(always)]
    unsafe fn channels<S: Simd>(&self, lanes: Lanes<S>) {
        let s = lanes.s;
        // SAFETY: the caller's contract.
        unsafe {
            let mean = lanes.channel(Some(self.mean), 0.0);
            let rstd = lanes.channel(Some(self.rstd), 1.0);
            let (dbias, dweight) = self.sums(lanes, mean, rstd);
            lanes.set_channel(self.dbias, dbias);
            lanes.set_channel(self.dweight, dweight);
            let count = (self.shape.batch * self.shape.len) as f32;
            let share = s.splat(if self.training { 1.0 / count } else { 0.0 });
            let (shift, slope) = (s.mul(dbias, share), s.mul(s.mul(dweight, share), rstd));
            let scale = s.mul(rstd, lanes.channel(self.weight, 1.0));
            for n in 0..self.shape.batch {
                let (at, len) = lanes.run(n);
                for i in (0..len).step_by(S::LANES) {
                    let k = S::LANES.min(len - i);
                    let centred = s.sub(load(s, self.x.add(at + i), k), mean);
                    let dy = s.sub(load(s, self.dy.add(at + i), k), shift);
                    let dx = s.mul(s.sub(dy, s.mul(centred, slope)), scale);
                    store(s, self.dx.add(at + i), dx, k);
                }
            }
        }
    }

    /// `sum(dy)` and `sum(dy * (x - mean)) * rstd`.
    ///
    /// # Safety
    /// As for [`normalize_grad`].
    #[inline(always)]
    unsafe fn sums<S: Simd>(&self, lanes: Lanes<S>, mean: S::F, rstd: S::F) -> (S::F, S::F) {
        let s = lanes.s;
        let (mut plain, mut weighted) = (s.zero(), s.zero());
        for n in 0..self.shape.batch {
            let (at, len) = lanes.run(n);
            let (mut part, mut weighted_part) = (s.zero(), s.zero());
            for i in (0..len).step_by(S::LANES) {
                let k = S::LANES.min(len - i);
                // SAFETY: `k` values lie from here on; lanes past them have a zero gradient.
                let (x, dy) =
                    unsafe { (load(s, self.x.add(at + i), k), load(s, self.dy.add(at + i), k)) };
                part = s.add(part, dy);
                weighted_part = s.fma(dy, s.sub(x, mean), weighted_part);
            }
            plain = s.add(plain, part);
            weighted = s.add(weighted, weighted_part);
        }
        (lanes.total(plain), s.mul(lanes.total(weighted), rstd))
    }
}
