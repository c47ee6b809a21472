//! Max and average pooling over `[planes, rows, cols]`, both ways.
//!
//! A task owns whole planes. Maxima have results in the lanes and keep them in registers over all
//! taps, since rows of 7 or 14 results leave loops that the compiler vectorises in their scalar
//! rest. For averages each tap of the window is one pass over a row of results, in plain loops;
//! strides of one and two have their own instance.

use super::Axis;
use crate::isa::{Isa, Kernel};
use crate::simd::{MAX_LANES, Simd};

/// Results that make a task worth starting.
const TASK_RESULTS: usize = 8 << 10;

/// The shape of a pooling: `x` is `[planes, rows.input, cols.input]` and `y` is
/// `[planes, rows.output, cols.output]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    /// Images times channels.
    pub planes: usize,
    /// The vertical axis.
    pub rows: Axis,
    /// The horizontal axis.
    pub cols: Axis,
}

/// What an average divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divisor {
    /// The cells of the window that lie in the input or its padding.
    Padded,
    /// The cells of the window that lie in the input.
    Inside,
    /// This number.
    Fixed(i64),
}

impl Axis {
    /// An axis of a pooling with `pad` on both sides.
    ///
    /// `ceil` keeps a last window that starts inside the input or its leading padding but ends
    /// beyond the padding. `None` where no window fits, a size is zero, a window could lie wholly
    /// in the padding (`pad > kernel / 2`), or the sizes overflow.
    #[must_use]
    pub fn pooled(
        input: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
        pad: usize,
        ceil: bool,
    ) -> Option<Self> {
        if pad > kernel / 2 {
            return None;
        }
        let mut axis = Self::new(input, kernel, stride, dilation, (pad, pad))?;
        let extent = (kernel - 1) * dilation + 1;
        let rest = (input + 2 * pad - extent) % stride;
        if ceil && rest > 0 && axis.output * stride < input + pad {
            axis.output += 1;
        }
        Some(axis)
    }

    /// The outputs whose tap `k` reads inside the input.
    #[inline(always)]
    fn reached(&self, k: usize) -> (usize, usize) {
        let at = k * self.dilation;
        let first = self.pad.saturating_sub(at).div_ceil(self.stride);
        let end = (self.input + self.pad).saturating_sub(at).div_ceil(self.stride);
        let end = end.min(self.output);
        (first.min(end), end)
    }

    /// Cells of window `o` that an average counts.
    #[inline(always)]
    fn cells(&self, o: usize, padded: bool) -> usize {
        // Positions count from the start of the padding.
        let (first, end) = (o * self.stride, o * self.stride + self.kernel);
        if padded {
            end.min(self.input + 2 * self.pad) - first
        } else {
            end.min(self.input + self.pad) - first.max(self.pad)
        }
    }
}

impl Pool2d {
    /// Tasks of every function here.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.planes.div_ceil(self.planes_per_task())
    }

    /// f32 of `y`.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.planes * self.output_plane()
    }

    fn planes_per_task(&self) -> usize {
        (TASK_RESULTS / self.output_plane().max(1)).max(1)
    }

    fn input_plane(&self) -> usize {
        self.rows.input * self.cols.input
    }

    fn output_plane(&self) -> usize {
        self.rows.output * self.cols.output
    }

    /// The planes of a task.
    fn planes_of(&self, task: usize) -> std::ops::Range<usize> {
        let n = self.planes_per_task();
        task * n..((task + 1) * n).min(self.planes)
    }

    /// Input row that tap `k` of output row `y` reads.
    #[inline(always)]
    fn input_row(&self, y: usize, k: usize) -> Option<usize> {
        let at = (y * self.rows.stride + k * self.rows.dilation).checked_sub(self.rows.pad)?;
        (at < self.rows.input).then_some(at)
    }

    /// Divisor of output `(y, x)`.
    #[inline(always)]
    fn divisor(&self, divisor: Divisor, y: usize, x: usize) -> f32 {
        let cells = |padded| self.rows.cells(y, padded) * self.cols.cells(x, padded);
        match divisor {
            Divisor::Padded => cells(true) as f32,
            Divisor::Inside => cells(false) as f32,
            Divisor::Fixed(n) => n as f32,
        }
    }
}

/// What one pass of a tap does to a row of results.
trait Pass {
    /// One tap.
    fn tap<const STEP: usize>(&mut self, tap: &Tap);
}

/// One tap of the window over one row of results.
struct Tap {
    /// Element of `x` that the first result reads.
    input: usize,
    /// First element of `y`, and how many.
    output: usize,
    count: usize,
    stride: usize,
}

impl Tap {
    /// Elements of `x` from one result to the next; `STEP` unless that is zero.
    #[inline(always)]
    fn step<const STEP: usize>(&self) -> usize {
        if STEP == 0 { self.stride } else { STEP }
    }
}

impl Pool2d {
    /// Runs `pass` on every tap of every row of output row `y` of one plane.
    #[inline(always)]
    fn taps(&self, plane: usize, y: usize, pass: &mut impl Pass) {
        for ky in 0..self.rows.kernel {
            let Some(row) = self.input_row(y, ky) else { continue };
            for kx in 0..self.cols.kernel {
                let (first, end) = self.cols.reached(kx);
                if first == end {
                    continue;
                }
                let x = first * self.cols.stride + kx * self.cols.dilation - self.cols.pad;
                let tap = Tap {
                    input: plane * self.input_plane() + row * self.cols.input + x,
                    output: plane * self.output_plane() + y * self.cols.output + first,
                    count: end - first,
                    stride: self.cols.stride,
                };
                match self.cols.stride {
                    1 => pass.tap::<1>(&tap),
                    2 => pass.tap::<2>(&tap),
                    _ => pass.tap::<0>(&tap),
                }
            }
        }
    }
}

/// Max pooling: `y` and, in `indices`, which element of its plane each result is (the first of
/// equals; NaN wins, as in PyTorch).
///
/// # Safety
/// `x` must be valid for the shape's input, `y` and `indices` for its output and overlap nothing,
/// and `task` be in range and run once.
pub unsafe fn max_pool(
    isa: Isa,
    shape: &Pool2d,
    x: *const f32,
    y: *mut f32,
    indices: *mut i32,
    task: usize,
) {
    isa.run(Max { shape, x, y, indices, task });
}

struct Max<'a> {
    shape: &'a Pool2d,
    x: *const f32,
    y: *mut f32,
    indices: *mut i32,
    task: usize,
}

impl Kernel for Max<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let shape = self.shape;
        for plane in shape.planes_of(self.task) {
            for y in 0..shape.rows.output {
                for x in (0..shape.cols.output).step_by(S::LANES) {
                    // SAFETY: these results belong to this task; see `max_pool`.
                    unsafe { self.lanes(s, plane, y, x) };
                }
            }
        }
    }
}

impl Max<'_> {
    /// Results `x` on of row `y` of a plane, one for each lane.
    ///
    /// Indices travel as the bits of floats: a lane is only ever copied or chosen.
    ///
    /// # Safety
    /// As for [`max_pool`].
    #[inline(always)]
    unsafe fn lanes<S: Simd>(&self, s: S, plane: usize, y: usize, x: usize) {
        let (shape, cols) = (self.shape, &self.shape.cols);
        let n = S::LANES.min(cols.output - x);
        let (zero, one) = (s.zero(), s.splat(1.0));
        let (mut best, mut index, mut fresh) = (s.splat(f32::NEG_INFINITY), zero, one);
        for ky in 0..shape.rows.kernel {
            let Some(row) = shape.input_row(y, ky) else { continue };
            for kx in 0..cols.kernel {
                let column = (x * cols.stride + kx * cols.dilation) as isize - cols.pad as isize;
                let last = column + ((n - 1) * cols.stride) as isize;
                let lanes = if column >= 0 && last < cols.input as isize {
                    0..n
                } else {
                    let (first, end) = cols.reached(kx);
                    first.max(x) - x..end.clamp(x, x + n) - x
                };
                if lanes.is_empty() {
                    continue;
                }
                let at = (row * cols.input) as isize + column;
                // SAFETY: the lanes' windows reach inside the plane.
                let v = unsafe { self.gather(s, plane, at, lanes.clone()) };
                let take = s.select(s.lt(best, v), one, fresh);
                let take = s.select(s.eq(v, v), take, one);
                let take = if lanes == (0..n) { take } else { within(s, take, lanes) };
                let take = s.lt(zero, take);
                best = s.select(take, v, best);
                index = s.select(take, places(s, at, cols.stride), index);
                fresh = s.select(take, zero, fresh);
            }
        }
        let to = plane * shape.output_plane() + y * cols.output + x;
        // SAFETY: `n` results lie from here on; i32 and f32 have one layout.
        unsafe {
            let (y, indices) = (self.y.add(to), self.indices.add(to).cast());
            if n == S::LANES {
                s.store(y, best);
                s.store(indices, index);
            } else {
                s.store_n(y, best, n);
                s.store_n(indices, index, n);
            }
        }
    }

    /// Every `stride`-th element of a plane from its index `at` on; only `lanes` must be inside it.
    ///
    /// # Safety
    /// As for [`max_pool`].
    #[inline(always)]
    unsafe fn gather<S: Simd>(
        &self,
        s: S,
        plane: usize,
        at: isize,
        lanes: std::ops::Range<usize>,
    ) -> S::F {
        let (shape, stride) = (self.shape, self.shape.cols.stride);
        let first = (plane * shape.input_plane()) as isize + at;
        let last = first + ((S::LANES - 1) * stride) as isize;
        let from = self.x.wrapping_offset(first);
        let mut values = [0.0; MAX_LANES];
        // SAFETY: either all lanes read inside the tensor, or only those inside the plane do.
        unsafe {
            if first < 0 || last >= (shape.planes * shape.input_plane()) as isize {
                for lane in lanes {
                    values[lane] = *from.wrapping_add(lane * stride);
                }
            } else if stride == 1 {
                return s.load(from);
            } else if stride == 2 {
                // The commonest stride, known to the compiler.
                for lane in 0..S::LANES {
                    values[lane] = *from.add(lane * 2);
                }
            } else {
                for lane in 0..S::LANES {
                    values[lane] = *from.add(lane * stride);
                }
            }
            s.load(values.as_ptr())
        }
    }
}

/// The bits of the indices `at, at + stride, ...`.
#[inline(always)]
fn places<S: Simd>(s: S, at: isize, stride: usize) -> S::F {
    let mut places = [0; MAX_LANES];
    for lane in 0..S::LANES {
        places[lane] = at as i32 + (lane * stride) as i32;
    }
    // SAFETY: no level has more lanes; i32 and f32 have one layout.
    unsafe { s.load(places.as_ptr().cast()) }
}

/// `v` in `lanes`, zero in the others.
#[inline(always)]
fn within<S: Simd>(s: S, v: S::F, lanes: std::ops::Range<usize>) -> S::F {
    let mut inside = [0.0; MAX_LANES];
    inside[lanes].fill(1.0);
    // SAFETY: no level has more lanes.
    s.mul(v, unsafe { s.load(inside.as_ptr()) })
}

/// Gradient of max pooling: `dx` receives each `dy` at its index, in order.
///
/// # Safety
/// As for [`max_pool`]; an index outside its plane is ignored.
pub unsafe fn max_pool_grad(
    shape: &Pool2d,
    dy: *const f32,
    indices: *const i32,
    dx: *mut f32,
    task: usize,
) {
    let (input, output) = (shape.input_plane(), shape.output_plane());
    for plane in shape.planes_of(task) {
        // SAFETY: the planes of a task are its own.
        let (dx, dy, indices) = unsafe {
            (
                std::slice::from_raw_parts_mut(dx.add(plane * input), input),
                std::slice::from_raw_parts(dy.add(plane * output), output),
                std::slice::from_raw_parts(indices.add(plane * output), output),
            )
        };
        dx.fill(0.0);
        for (&dy, &index) in dy.iter().zip(indices) {
            if let Some(dx) = usize::try_from(index).ok().and_then(|i| dx.get_mut(i)) {
                *dx += dy;
            }
        }
    }
}

/// Average pooling.
///
/// # Safety
/// As for [`max_pool`].
pub unsafe fn avg_pool(
    isa: Isa,
    shape: &Pool2d,
    divisor: Divisor,
    x: *const f32,
    y: *mut f32,
    task: usize,
) {
    isa.run(Avg { shape, divisor, x, y, task });
}

struct Avg<'a> {
    shape: &'a Pool2d,
    divisor: Divisor,
    x: *const f32,
    y: *mut f32,
    task: usize,
}

impl Kernel for Avg<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        let shape = self.shape;
        for plane in shape.planes_of(self.task) {
            for row in 0..shape.rows.output {
                let at = plane * shape.output_plane() + row * shape.cols.output;
                // SAFETY: row `row` of this plane belongs to this task.
                unsafe {
                    self.y.add(at).write_bytes(0, shape.cols.output);
                    shape.taps(plane, row, &mut self);
                    for x in 0..shape.cols.output {
                        *self.y.add(at + x) /= shape.divisor(self.divisor, row, x);
                    }
                }
            }
        }
    }
}

impl Pass for Avg<'_> {
    #[inline(always)]
    fn tap<const STEP: usize>(&mut self, tap: &Tap) {
        let step = tap.step::<STEP>();
        // SAFETY: `Pool2d::taps` yields ranges inside both planes.
        let (x, y) = unsafe {
            (
                std::slice::from_raw_parts(self.x.add(tap.input), (tap.count - 1) * step + 1),
                std::slice::from_raw_parts_mut(self.y.add(tap.output), tap.count),
            )
        };
        for i in 0..tap.count {
            y[i] += x[i * step];
        }
    }
}

/// Gradient of average pooling: every cell of a window receives `dy / divisor`.
///
/// # Safety
/// As for [`max_pool`].
pub unsafe fn avg_pool_grad(
    isa: Isa,
    shape: &Pool2d,
    divisor: Divisor,
    dy: *const f32,
    dx: *mut f32,
    task: usize,
) {
    isa.run(AvgGrad { shape, divisor, dy, dx, row: 0, task });
}

struct AvgGrad<'a> {
    shape: &'a Pool2d,
    divisor: Divisor,
    dy: *const f32,
    dx: *mut f32,
    /// Output row of the taps being run.
    row: usize,
    task: usize,
}

impl Kernel for AvgGrad<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        let shape = self.shape;
        for plane in shape.planes_of(self.task) {
            // SAFETY: this plane belongs to this task.
            unsafe { self.dx.add(plane * shape.input_plane()).write_bytes(0, shape.input_plane()) };
            for row in 0..shape.rows.output {
                self.row = row;
                shape.taps(plane, row, &mut self);
            }
        }
    }
}

impl Pass for AvgGrad<'_> {
    #[inline(always)]
    fn tap<const STEP: usize>(&mut self, tap: &Tap) {
        let step = tap.step::<STEP>();
        let first = tap.output % self.shape.cols.output;
        // SAFETY: `Pool2d::taps` yields ranges inside both planes.
        let (dx, dy) = unsafe {
            (
                std::slice::from_raw_parts_mut(self.dx.add(tap.input), (tap.count - 1) * step + 1),
                std::slice::from_raw_parts(self.dy.add(tap.output), tap.count),
            )
        };
        for i in 0..tap.count {
            dx[i * step] += dy[i] / self.shape.divisor(self.divisor, self.row, first + i);
        }
    }
}
