//! Max and average pooling over `[planes, rows, cols]`, both ways.
//!
//! A task owns whole planes. Each tap of the window is one pass over a row of results, in plain
//! loops that the compiler vectorises for the level they are compiled for; strides of one and two
//! have their own instance, since a known stride turns gathers into shuffles.

use super::Axis;
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

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
    /// Tap that reads `input_row[first_input + i * step]` for results `i` of `first..end`, whose
    /// input index within the plane is `index + i * step`.
    fn tap<const STEP: usize>(&mut self, tap: &Tap);
}

/// One tap of the window over one row of results.
struct Tap {
    /// Element of `x` that the first result reads.
    input: usize,
    /// Its index within the plane.
    index: usize,
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
                let index = row * self.cols.input + x;
                let tap = Tap {
                    input: plane * self.input_plane() + index,
                    index,
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
    fn run<S: Simd>(mut self, _: S) {
        let shape = self.shape;
        for plane in shape.planes_of(self.task) {
            for row in 0..shape.rows.output {
                let at = plane * shape.output_plane() + row * shape.cols.output;
                for i in at..at + shape.cols.output {
                    // SAFETY: row `row` of this plane belongs to this task.
                    unsafe {
                        *self.y.add(i) = f32::NEG_INFINITY;
                        *self.indices.add(i) = -1;
                    }
                }
                shape.taps(plane, row, &mut self);
            }
        }
    }
}

impl Pass for Max<'_> {
    #[inline(always)]
    fn tap<const STEP: usize>(&mut self, tap: &Tap) {
        let step = tap.step::<STEP>();
        // SAFETY: `Pool2d::taps` yields ranges inside both planes.
        let (x, y, indices) = unsafe {
            (
                std::slice::from_raw_parts(self.x.add(tap.input), (tap.count - 1) * step + 1),
                std::slice::from_raw_parts_mut(self.y.add(tap.output), tap.count),
                std::slice::from_raw_parts_mut(self.indices.add(tap.output), tap.count),
            )
        };
        for i in 0..tap.count {
            let (new, old) = (x[i * step], y[i]);
            let better = (new > old) | new.is_nan() | (indices[i] < 0);
            y[i] = if better { new } else { old };
            indices[i] = if better { (tap.index + i * step) as i32 } else { indices[i] };
        }
    }
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
