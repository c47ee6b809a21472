//! Average pooling, both ways.
//!
//! A sum over a window is one over its rows, in whole vectors, and one over its columns: `k + k`
//! additions for `k k`, and no lane of the first lies outside the image. The gradient goes the other
//! way.

use super::pool::{Divisor, Pool2d, put};
use crate::gemm::tile::load;
use crate::isa::{Isa, Kernel};
use crate::simd::{MAX_LANES, Simd};

/// Average pooling.
///
/// # Safety
/// As for [`max_pool`](super::pool::max_pool).
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

/// f32 of a line on the stack, beside what whole vectors read past it.
const LINE: usize = 1024;
const SLACK: usize = 2 * MAX_LANES;

/// What some outputs of a row read, or send, as one row: `stride` f32 from one output's window to the
/// next's. Rows of a window are summed first, in whole vectors, and its columns after that.
#[repr(align(64))]
struct Line([f32; LINE + 2 * SLACK]);

impl Pool2d {
    /// Columns that a window spans.
    #[inline(always)]
    fn reach(&self) -> usize {
        (self.cols.kernel - 1) * self.cols.dilation + 1
    }

    /// Outputs of a row whose windows fit into a line; 0 where not one does.
    #[inline(always)]
    fn per_line(&self) -> usize {
        let rest = LINE.checked_sub(self.reach());
        rest.map_or(0, |rest| (rest / self.cols.stride + 1).min(self.cols.output))
    }

    /// What `n` outputs from `x` on span: the first column, which may lie before the image, and the
    /// part of the line that lies inside.
    #[inline(always)]
    fn span(&self, x: usize, n: usize) -> (isize, usize, usize) {
        let at = (x * self.cols.stride) as isize - self.cols.pad as isize;
        let len = (n - 1) * self.cols.stride + self.reach();
        let first = usize::try_from(-at).unwrap_or(0).min(len);
        (at, first, usize::try_from(self.cols.input as isize - at).unwrap_or(0).clamp(first, len))
    }
}

/// An output: its plane, row and column.
type Place = [usize; 3];

/// What is done with outputs, as many at once as a line has room for.
trait Windows {
    /// What `n` outputs of a row do, by a line that only they and those beside them have used.
    ///
    /// # Safety
    /// As for [`avg_pool`]; the line must have room for them.
    unsafe fn some<S: Simd>(&self, s: S, first: Place, n: usize, line: &mut Line);

    /// What an output does whose window is longer than a line.
    ///
    /// # Safety
    /// As for [`avg_pool`].
    unsafe fn one(&self, at: Place);
}

impl Pool2d {
    /// Goes through the outputs of a task.
    ///
    /// # Safety
    /// As for [`avg_pool`].
    #[inline(always)]
    unsafe fn each<S: Simd>(&self, s: S, task: usize, windows: &impl Windows) {
        let some = self.per_line();
        for x in (0..self.cols.output).step_by(some.max(1)) {
            let n = some.min(self.cols.output - x);
            // Zero wherever nothing is written, whatever row it holds.
            let mut line = Line([0.0; LINE + 2 * SLACK]);
            for plane in self.planes_of(task) {
                for y in 0..self.rows.output {
                    // SAFETY: the caller's contract.
                    unsafe {
                        if n == 0 {
                            windows.one([plane, y, x]);
                        } else {
                            windows.some(s, [plane, y, x], n, &mut line);
                        }
                    }
                }
            }
        }
    }

    /// Where the cells of an output's window lie in its plane.
    fn cells(&self, [_, y, x]: Place) -> impl Iterator<Item = usize> {
        let rows = (0..self.rows.kernel).filter_map(move |ky| self.input_row(y, ky));
        rows.flat_map(move |row| {
            let columns = (0..self.cols.kernel).filter_map(move |kx| self.column(kx, x, 1));
            columns.map(move |column| (row * self.cols.input).strict_add_signed(column.at))
        })
    }

    /// Where an output lies among all.
    #[inline(always)]
    fn output_at(&self, [plane, y, x]: Place) -> usize {
        plane * self.output_plane() + y * self.cols.output + x
    }
}

impl Kernel for Avg<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: see `avg_pool`; these results belong to this task.
        unsafe { self.shape.each(s, self.task, &self) };
    }
}

impl Windows for Avg<'_> {
    #[inline(always)]
    unsafe fn some<S: Simd>(&self, s: S, first: Place, n: usize, line: &mut Line) {
        // SAFETY: the caller's contract.
        unsafe {
            self.rows(s, first, n, line);
            self.columns(s, first, n, line);
        }
    }

    unsafe fn one(&self, at: Place) {
        let shape = self.shape;
        let x = self.x.wrapping_add(at[0] * shape.input_plane());
        // SAFETY: the window's cells lie inside the plane; the result is this task's.
        unsafe {
            let sum: f32 = shape.cells(at).fold(0.0, |sum, cell| sum + *x.add(cell));
            *self.y.add(shape.output_at(at)) = sum / shape.divisor(self.divisor, at[1], at[2]);
        }
    }
}

impl Avg<'_> {
    /// Sums the rows of the windows of `n` outputs from `x` on.
    ///
    /// # Safety
    /// As for [`avg_pool`], with a line that holds them.
    #[inline(always)]
    unsafe fn rows<S: Simd>(&self, s: S, [plane, y, x]: Place, n: usize, line: &mut Line) {
        let (shape, width) = (self.shape, self.shape.cols.input);
        let (at, first, end) = shape.span(x, n);
        let from = self.x.wrapping_add(plane * shape.input_plane()).wrapping_offset(at);
        let mut i = first;
        while i < end {
            let n = S::LANES.min(end - i);
            let mut sum = s.zero();
            for ky in 0..shape.rows.kernel {
                let Some(row) = shape.input_row(y, ky) else { continue };
                let from = from.wrapping_add(row * width + i);
                // SAFETY: `n` columns of an existing row.
                sum = s.add(sum, unsafe { load(s, from, n) });
            }
            // SAFETY: lanes past the columns are zero, and so may be written past them.
            unsafe { s.store(line.0.as_mut_ptr().add(i), sum) };
            i += n;
        }
    }

    /// Sums the columns of the windows, and divides.
    ///
    /// # Safety
    /// As for [`Avg::rows`], which has written the line.
    #[inline(always)]
    unsafe fn columns<S: Simd>(&self, s: S, at: Place, n: usize, line: &Line) {
        let (shape, cols) = (self.shape, &self.shape.cols);
        let (to, [_, y, x]) = (shape.output_at(at), at);
        for first in (0..n).step_by(S::LANES) {
            let lanes = S::LANES.min(n - first);
            let from = line.0.as_ptr().wrapping_add(first * cols.stride);
            let mut sum = s.zero();
            // SAFETY: windows lie in the line, and whole vectors in its slack.
            unsafe {
                match cols.stride {
                    1 => {
                        for kx in 0..cols.kernel {
                            sum = s.add(sum, s.load(from.add(kx * cols.dilation)));
                        }
                    }
                    2 => {
                        for kx in 0..cols.kernel {
                            let from = from.add(kx * cols.dilation);
                            sum = s.add(sum, s.even(s.load(from), s.load(from.add(S::LANES))));
                        }
                    }
                    stride => {
                        let mut sums = [0.0; MAX_LANES];
                        for (lane, sum) in sums[..lanes].iter_mut().enumerate() {
                            for kx in 0..cols.kernel {
                                *sum += *from.add(lane * stride + kx * cols.dilation);
                            }
                        }
                        sum = s.load(sums.as_ptr());
                    }
                }
                let by = shape.divisors(s, self.divisor, (y, x + first), lanes);
                put(s, self.y.add(to + first), s.div(sum, by), lanes);
            }
        }
    }
}

/// Gradient of average pooling: every cell of a window receives `dy / divisor`.
///
/// # Safety
/// As for [`max_pool`](super::pool::max_pool).
pub unsafe fn avg_pool_grad(
    isa: Isa,
    shape: &Pool2d,
    divisor: Divisor,
    dy: *const f32,
    dx: *mut f32,
    task: usize,
) {
    isa.run(AvgGrad { shape, divisor, dy, dx, task });
}

struct AvgGrad<'a> {
    shape: &'a Pool2d,
    divisor: Divisor,
    dy: *const f32,
    dx: *mut f32,
    task: usize,
}

impl Kernel for AvgGrad<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let shape = self.shape;
        for plane in shape.planes_of(self.task) {
            // SAFETY: this plane belongs to this task.
            unsafe {
                self.dx.add(plane * shape.input_plane()).write_bytes(0, shape.input_plane());
            }
        }
        // SAFETY: see `avg_pool_grad`; the planes belong to this task.
        unsafe { shape.each(s, self.task, &self) };
    }
}

impl Windows for AvgGrad<'_> {
    #[inline(always)]
    unsafe fn some<S: Simd>(&self, s: S, first: Place, n: usize, line: &mut Line) {
        // SAFETY: the caller's contract.
        unsafe {
            self.shares(s, first, n, line);
            self.send(s, first, n, line);
        }
    }

    unsafe fn one(&self, at: Place) {
        let shape = self.shape;
        let dx = self.dx.wrapping_add(at[0] * shape.input_plane());
        // SAFETY: one of the task's gradients; the window's cells lie inside the plane.
        unsafe {
            let dy = *self.dy.add(shape.output_at(at));
            let share = dy / shape.divisor(self.divisor, at[1], at[2]);
            shape.cells(at).for_each(|cell| *dx.add(cell) += share);
        }
    }
}

impl AvgGrad<'_> {
    /// Divides the gradients of `n` outputs from `x` on, and places each where its window begins,
    /// after the line's first slack and a window's reach.
    ///
    /// # Safety
    /// As for [`avg_pool_grad`], with a line that holds the windows.
    #[inline(always)]
    unsafe fn shares<S: Simd>(&self, s: S, at: Place, n: usize, line: &mut Line) {
        let (shape, stride) = (self.shape, self.shape.cols.stride);
        let (from, [_, y, x]) = (shape.output_at(at), at);
        for first in (0..n).step_by(S::LANES) {
            let lanes = S::LANES.min(n - first);
            let mut shares = [0.0; MAX_LANES];
            // SAFETY: `lanes` gradients lie from there on; no level has more lanes.
            unsafe {
                let dy = load(s, self.dy.add(from + first), lanes);
                let by = shape.divisors(s, self.divisor, (y, x + first), lanes);
                s.store(shares.as_mut_ptr(), s.div(dy, by));
            }
            let to = &mut line.0[SLACK + first * stride..];
            for (to, share) in to.iter_mut().step_by(stride).zip(&shares[..lanes]) {
                *to = *share;
            }
        }
    }

    /// Adds the shares to all cells of their windows.
    ///
    /// # Safety
    /// As for [`AvgGrad::shares`], which has written the line.
    #[inline(always)]
    unsafe fn send<S: Simd>(&self, s: S, [plane, y, x]: Place, n: usize, line: &Line) {
        let (shape, cols) = (self.shape, &self.shape.cols);
        let (at, first, end) = shape.span(x, n);
        let to = self.dx.wrapping_add(plane * shape.input_plane()).wrapping_offset(at);
        let mut i = first;
        while i < end {
            let n = S::LANES.min(end - i);
            let mut sum = s.zero();
            for kx in 0..cols.kernel {
                let back = kx * cols.dilation;
                // Before the first window, and past the last, there are no shares.
                if back > i + SLACK - 1 {
                    break;
                }
                // SAFETY: whole vectors lie in the line and its slack.
                sum = s.add(sum, unsafe { s.load(line.0.as_ptr().add(SLACK + i - back)) });
            }
            for ky in 0..shape.rows.kernel {
                let Some(row) = shape.input_row(y, ky) else { continue };
                let to = to.wrapping_add(row * cols.input + i);
                // SAFETY: `n` columns of an existing row.
                unsafe { put(s, to, s.add(load(s, to, n), sum), n) };
            }
            i += n;
        }
    }
}
