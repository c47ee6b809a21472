//! Max pooling over `[planes, rows, cols]`, both ways, and what average pooling shares with it.
//!
//! A task owns whole planes. Results are in the lanes and stay in registers over all taps of their
//! windows, since rows of 7 or 14 results leave loops that the compiler vectorises in their scalar
//! rest.

pub use super::average::{avg_pool, avg_pool_grad};

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

/// What a column of a kernel reads for some outputs of a row: see [`Pool2d::column`].
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) at: isize,
    first: usize,
    end: usize,
}

/// Columns of a kernel that [`Columns`] keeps.
const KEPT: usize = 8;

/// All columns of the kernel for outputs `x..x + n`. Those of the first outputs are found once for the
/// rows of all planes: what they reach takes two divisions each, a quarter of the time of a pooling by
/// 3 x 3 to rows of 14.
struct Columns<'a> {
    shape: &'a Pool2d,
    x: usize,
    n: usize,
    kept: [Option<Column>; KEPT],
}

impl<'a> Columns<'a> {
    #[inline(always)]
    fn new(shape: &'a Pool2d, x: usize, n: usize) -> Self {
        let mut kept = [None; KEPT];
        for (kx, column) in kept.iter_mut().enumerate().take(shape.cols.kernel) {
            *column = shape.column(kx, x, n);
        }
        Self { shape, x, n, kept }
    }

    #[inline(always)]
    fn get(&self, kx: usize) -> Option<Column> {
        if kx < KEPT { self.kept[kx] } else { self.shape.column(kx, self.x, self.n) }
    }
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

    pub(super) fn input_plane(&self) -> usize {
        self.rows.input * self.cols.input
    }

    pub(super) fn output_plane(&self) -> usize {
        self.rows.output * self.cols.output
    }

    /// The planes of a task.
    pub(super) fn planes_of(&self, task: usize) -> std::ops::Range<usize> {
        let n = self.planes_per_task();
        task * n..((task + 1) * n).min(self.planes)
    }

    /// Input row that tap `k` of output row `y` reads.
    #[inline(always)]
    pub(super) fn input_row(&self, y: usize, k: usize) -> Option<usize> {
        let at = (y * self.rows.stride + k * self.rows.dilation).checked_sub(self.rows.pad)?;
        (at < self.rows.input).then_some(at)
    }

    /// What column `kx` of the windows of outputs `x..x + n` reads: the column for the first of them,
    /// which may lie before the image, and those of the outputs, counted from `x`, that read inside.
    #[inline(always)]
    pub(super) fn column(&self, kx: usize, x: usize, n: usize) -> Option<Column> {
        let cols = &self.cols;
        let at = (x * cols.stride + kx * cols.dilation) as isize - cols.pad as isize;
        let last = at + ((n - 1) * cols.stride) as isize;
        let (first, end) = if at >= 0 && last < cols.input as isize {
            (0, n)
        } else {
            let (first, end) = cols.reached(kx);
            (first.max(x) - x, end.clamp(x, x + n) - x)
        };
        (first < end).then_some(Column { at, first, end })
    }

    /// The divisor of output `x` of row `y`.
    pub(super) fn divisor(&self, by: Divisor, y: usize, x: usize) -> f32 {
        let padded = by == Divisor::Padded;
        match by {
            Divisor::Fixed(n) => n as f32,
            _ => (self.rows.cells(y, padded) * self.cols.cells(x, padded)) as f32,
        }
    }

    /// The divisors of outputs `x..x + n` of row `y`, one for each lane.
    #[inline(always)]
    pub(super) fn divisors<S: Simd>(
        &self,
        s: S,
        by: Divisor,
        (y, x): (usize, usize),
        n: usize,
    ) -> S::F {
        let padded = by == Divisor::Padded;
        if matches!(by, Divisor::Fixed(_)) {
            return s.splat(self.divisor(by, y, x));
        }
        // Cells grow towards the middle of a row: where they are a whole window at both ends, they
        // are in between.
        let whole = |x| self.cols.cells(x, padded) == self.cols.kernel;
        if whole(x) && whole(x + n - 1) {
            return s.splat(self.divisor(by, y, x));
        }
        let mut divisors = [1.0; MAX_LANES];
        for (lane, divisor) in divisors[..n].iter_mut().enumerate() {
            *divisor = self.divisor(by, y, x + lane);
        }
        // SAFETY: no level has more lanes.
        unsafe { s.load(divisors.as_ptr()) }
    }

    /// What a column of the kernel reads in a row of a plane of `x`; lanes that read outside are
    /// unspecified.
    ///
    /// # Safety
    /// `x` must be valid for the shape's input.
    #[inline(always)]
    unsafe fn gather<S: Simd>(
        &self,
        s: S,
        x: *const f32,
        plane: usize,
        row: usize,
        column: Column,
    ) -> S::F {
        let stride = self.cols.stride;
        let first = (plane * self.input_plane() + row * self.cols.input) as isize + column.at;
        let len = self.planes * self.input_plane();
        let from = x.wrapping_offset(first);
        let whole = first >= 0 && first as usize + stride.saturating_mul(S::LANES) <= len;
        // SAFETY: either all that the vectors span lies inside the tensor, or only lanes inside the
        // plane are read.
        unsafe {
            match stride {
                1 if whole => s.load(from),
                2 if whole => s.even(s.load(from), s.load(from.add(S::LANES))),
                _ => {
                    let mut values = [0.0; MAX_LANES];
                    for lane in column.first..column.end {
                        values[lane] = *from.wrapping_add(lane * stride);
                    }
                    s.load(values.as_ptr())
                }
            }
        }
    }
}

/// The numbers of the lanes.
static LANE_NUMBERS: [f32; MAX_LANES] =
    [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];

/// `v` in the lanes that read inside, zero in the others.
#[inline(always)]
fn within<S: Simd>(s: S, v: S::F, column: Column) -> S::F {
    // SAFETY: no level has more lanes.
    let numbers = unsafe { s.load(LANE_NUMBERS.as_ptr()) };
    let [first, end] = [column.first, column.end].map(|lane| s.splat(lane as f32));
    let v = s.select(s.lt(numbers, first), s.zero(), v);
    s.select(s.lt(numbers, end), v, s.zero())
}

/// Writes the first `n <= LANES` lanes.
///
/// # Safety
/// `to` must be valid for writing `n` f32.
#[inline(always)]
pub(super) unsafe fn put<S: Simd>(s: S, to: *mut f32, v: S::F, n: usize) {
    // SAFETY: the caller's contract.
    unsafe { if n == S::LANES { s.store(to, v) } else { s.store_n(to, v, n) } }
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
        let mut steps = [0; MAX_LANES];
        for (lane, step) in steps.iter_mut().enumerate() {
            *step = (lane * shape.cols.stride) as i32;
        }
        // SAFETY: no level has more lanes; i32 and f32 have one layout.
        let steps = unsafe { s.load(steps.as_ptr().cast()) };
        let columns = |x| Columns::new(shape, x, S::LANES.min(shape.cols.output - x));
        let first = columns(0);
        for plane in shape.planes_of(self.task) {
            for y in 0..shape.rows.output {
                // SAFETY: these results belong to this task; see `max_pool`.
                unsafe { self.lanes(s, plane, y, &first, steps) };
                for x in (S::LANES..shape.cols.output).step_by(S::LANES) {
                    // SAFETY: as above.
                    unsafe { self.lanes(s, plane, y, &columns(x), steps) };
                }
            }
        }
    }
}

impl Max<'_> {
    /// Some results of row `y` of a plane, one for each lane, whose windows lie `steps` from the
    /// first one's.
    ///
    /// Indices travel as the bits of floats: a lane is only ever copied, chosen or added to as an
    /// integer. Nothing here passes through the stack, whose stores a whole-vector load would have
    /// to wait for: windows of 2 x 2 took three times as long.
    ///
    /// # Safety
    /// As for [`max_pool`].
    #[inline(always)]
    unsafe fn lanes<S: Simd>(
        &self,
        s: S,
        plane: usize,
        y: usize,
        columns: &Columns<'_>,
        steps: S::F,
    ) {
        let (shape, x, n) = (self.shape, columns.x, columns.n);
        let (zero, one) = (s.zero(), s.splat(1.0));
        let (mut best, mut index, mut fresh) = (s.splat(f32::NEG_INFINITY), zero, one);
        for ky in 0..shape.rows.kernel {
            let Some(row) = shape.input_row(y, ky) else { continue };
            for kx in 0..shape.cols.kernel {
                let Some(column) = columns.get(kx) else { continue };
                // SAFETY: the lanes' windows reach inside the plane.
                let v = unsafe { shape.gather(s, self.x, plane, row, column) };
                let whole = column.first == 0 && column.end == n;
                let at = (row * shape.cols.input) as isize + column.at;
                let take = s.select(s.lt(best, v), one, fresh);
                let take = s.select(s.eq(v, v), take, one);
                let take = if whole { take } else { within(s, take, column) };
                let take = s.lt(zero, take);
                let place = s.add_i32(steps, s.splat(f32::from_bits((at as i32).cast_unsigned())));
                best = s.select(take, v, best);
                index = s.select(take, place, index);
                fresh = s.select(take, zero, fresh);
            }
        }
        let to = plane * shape.output_plane() + y * shape.cols.output + x;
        // SAFETY: `n` results lie from here on; i32 and f32 have one layout.
        unsafe {
            put(s, self.y.add(to), best, n);
            put(s, self.indices.add(to).cast(), index, n);
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
