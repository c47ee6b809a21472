//! Depthwise convolution of one channel to one, and its input gradient where the stride is one.
//!
//! A band of a plane is copied with its padding, into a first-level cache, and every result is summed
//! in a register over all taps. Tiles of four vectors share what a tap's weight costs to spread: they
//! lie side by side, or below each other where a row is no longer than a vector.

use super::Conv2d;
use super::direct::{Direct, Direction};
use super::patches::Reads;
use super::planes::{Source, Window, fill};
use super::pool::put;
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// f32 of a band: 32 KiB.
const BAND: usize = 8 << 10;
/// f32 past a band that whole vectors may read.
const MARGIN: usize = 64;
/// f32 of a cache line, and how far ahead results are asked for.
const LINE: usize = 16;
const AHEAD: usize = 512;
/// Results that make a task worth starting.
const TASK_RESULTS: usize = 8 << 10;

/// How such a convolution divides into tasks; a function of its shape only.
#[derive(Clone, Copy)]
pub(super) struct Depthwise {
    shape: Conv2d,
    reads: [Reads; 2],
    /// Rows and columns of the source and of the destination.
    source: [usize; 2],
    size: [usize; 2],
    /// Planes of a task.
    planes: usize,
    /// Destination rows of a band, and f32 from one row of a band to the next.
    rows: usize,
    line: usize,
}

impl Depthwise {
    /// The division, where this way serves.
    pub(super) fn of(shape: &Conv2d, direction: Direction) -> Option<Self> {
        let [rows, cols] = [&shape.rows, &shape.cols];
        let single = shape.group_inputs() == 1 && shape.group_outputs() == 1;
        let most = if direction == Direction::Forward { 2 } else { 1 };
        if !single || cols.stride > most || rows.stride > most {
            return None;
        }
        let reads = [Reads::of(rows, direction, 0)?, Reads::of(cols, direction, 0)?];
        let (x, y) = ([rows.input, cols.input], [rows.output, cols.output]);
        let (source, size) = if direction == Direction::Forward { (x, y) } else { (y, x) };
        let plane = size[0] * size[1];
        let line = reads[1].reach(size[1]);
        // At least one row, however long it is.
        let most = (BAND / line).saturating_sub(reads[0].reach(1)) / rows.stride + 1;
        let bands = size[0].div_ceil(most);
        Some(Self {
            shape: *shape,
            reads,
            source,
            size,
            planes: (TASK_RESULTS / plane.max(1)).max(1),
            rows: size[0].div_ceil(bands.max(1)).max(1),
            line,
        })
    }

    /// Tasks of [`Depthwise::run`].
    pub(super) fn tasks(&self) -> usize {
        (self.shape.batch * self.shape.groups).div_ceil(self.planes)
    }

    /// f32 of scratch of one of them.
    pub(super) fn scratch(&self) -> usize {
        self.reads[0].reach(self.rows) * self.line + MARGIN
    }

    /// Computes some planes.
    ///
    /// # Safety
    /// As for [`super::convolve`].
    pub(super) unsafe fn run(&self, isa: Isa, args: &Direct, task: usize, scratch: *mut f32) {
        isa.run(Task { plan: self, args, task, band: scratch });
    }
}

struct Task<'a> {
    plan: &'a Depthwise,
    args: &'a Direct,
    task: usize,
    band: *mut f32,
}

impl Kernel for Task<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let plan = self.plan;
        let first = self.task * plan.planes;
        let end = (first + plan.planes).min(plan.shape.batch * plan.shape.groups);
        for plane in first..end {
            for row in (0..plan.size[0]).step_by(plan.rows) {
                let rows = plan.rows.min(plan.size[0] - row);
                // SAFETY: `convolve`'s contract; these planes are this task's own.
                unsafe {
                    self.copy(s, plane, row, rows);
                    if plan.reads[1].stride == 1 {
                        self.rows::<S, 1>(s, plane, row, rows);
                    } else {
                        self.rows::<S, 2>(s, plane, row, rows);
                    }
                }
            }
        }
    }
}

impl Task<'_> {
    /// Copies what some rows of a plane read to the band.
    ///
    /// # Safety
    /// As for [`super::convolve`].
    #[inline(always)]
    unsafe fn copy<S: Simd>(&self, s: S, plane: usize, row: usize, rows: usize) {
        let Depthwise { source, reads: [y, x], line, .. } = *self.plan;
        let data = self.args.src.wrapping_add(plane * source[0] * source[1]);
        let window = |start, len| Window { start, len, step: 1, phase: 0 };
        let from = Source { data, channels: 1, rows: source[0], cols: source[1] };
        let start = (row * y.stride) as isize + y.taps.low();
        let len = y.reach(rows);
        // SAFETY: the caller's contract; the scratch has room for the band.
        unsafe {
            from.pack(s, window(start, len), window(x.taps.low(), line), self.band);
            fill(s, self.band.add(len * line), MARGIN);
        }
    }

    /// Asks for what a row of the next band reads, or of the next plane's, and for where results
    /// after these go: copying waits for memory, which computing does not use. With planes of
    /// 112 x 112 that brings 15 to 25 %; with 14 x 14, which lie near, it would cost a third.
    #[inline(always)]
    fn ahead<S: Simd>(&self, s: S, plane: usize, row: usize, to: *const f32) {
        let ([height, width], stride) = (self.plan.source, self.plan.reads[0].stride);
        let from = self.args.src.wrapping_add((plane * height + row * stride) * width);
        for at in (0..stride * width).step_by(LINE) {
            s.prefetch(from.wrapping_add(at));
        }
        for at in (0..self.plan.size[1]).step_by(LINE) {
            s.prefetch(to.wrapping_add(AHEAD + at));
        }
    }

    /// Computes rows whose band is there.
    ///
    /// # Safety
    /// As for [`super::convolve`].
    #[inline(always)]
    unsafe fn rows<S: Simd, const STRIDE: usize>(
        &self,
        s: S,
        plane: usize,
        row: usize,
        rows: usize,
    ) {
        let ([_, cols], line) = (self.plan.size, self.plan.line * self.plan.reads[0].stride);
        let to = self.args.dst.wrapping_add((plane * self.plan.size[0] + row) * cols);
        let channel = plane % self.plan.shape.groups;
        let tile = |from: usize, to: *mut f32, n: usize, step: [usize; 2]| Tile {
            task: self,
            channel,
            from: self.band.wrapping_add(from),
            to,
            step,
            n,
        };
        // SAFETY: the caller's contract: the tiles' results are in these rows.
        unsafe {
            if cols <= S::LANES {
                let four = rows / 4 * 4;
                for r in (0..four).step_by(4) {
                    tile(r * line, to.add(r * cols), cols, [line, cols]).run::<S, 4, STRIDE>(s);
                }
                for r in four..rows {
                    tile(r * line, to.add(r * cols), cols, [line, cols]).run::<S, 1, STRIDE>(s);
                }
                return;
            }
            let step = [S::LANES * STRIDE, S::LANES];
            let four = cols / (4 * S::LANES) * 4 * S::LANES;
            for r in 0..rows {
                let (from, to) = (r * line, to.add(r * cols));
                self.ahead(s, plane, row + rows + r, to);
                for x in (0..four).step_by(4 * S::LANES) {
                    tile(from + x * STRIDE, to.add(x), S::LANES, step).run::<S, 4, STRIDE>(s);
                }
                for x in (four..cols).step_by(S::LANES) {
                    let n = S::LANES.min(cols - x);
                    tile(from + x * STRIDE, to.add(x), n, step).run::<S, 1, STRIDE>(s);
                }
            }
        }
    }
}

/// Some vectors of results.
struct Tile<'a> {
    task: &'a Task<'a>,
    channel: usize,
    /// What the first tap reads for the first result, and where that goes.
    from: *const f32,
    to: *mut f32,
    /// f32 from vector to vector of both.
    step: [usize; 2],
    /// Results of a vector.
    n: usize,
}

impl Tile<'_> {
    /// Computes `NV` vectors.
    ///
    /// # Safety
    /// As for [`super::convolve`], their band being there.
    #[inline(always)]
    unsafe fn run<S: Simd, const NV: usize, const STRIDE: usize>(&self, s: S) {
        let (plan, args) = (self.task.plan, self.task.args);
        let [y, x] = &plan.reads;
        let kernel = plan.shape.cols.kernel;
        let weights = args.weight.wrapping_add(self.channel * plan.shape.taps());
        // SAFETY: the channel is one of the shape's.
        let bias = args.bias.map_or(0.0, |bias| unsafe { *bias.add(self.channel) });
        let mut sums = [s.splat(bias); NV];
        for i in 0..y.taps.count {
            let row = y.taps.shift + i as isize * y.taps.shift_step - y.taps.low();
            for j in 0..x.taps.count {
                let column = x.taps.shift + j as isize * x.taps.shift_step - x.taps.low();
                let from = self.from.wrapping_offset(row * plan.line as isize + column);
                let tap =
                    (y.taps.first + i * y.taps.step) * kernel + x.taps.first + j * x.taps.step;
                // SAFETY: a weight of the channel, and vectors that begin in the band.
                unsafe {
                    let weight = s.splat(*weights.add(tap));
                    for v in 0..NV {
                        let from = from.add(v * self.step[0]);
                        let value = if STRIDE == 1 {
                            s.load(from)
                        } else {
                            s.even(s.load(from), s.load(from.add(S::LANES)))
                        };
                        sums[v] = s.fma(weight, value, sums[v]);
                    }
                }
            }
        }
        for v in 0..NV {
            // SAFETY: `n` results lie from there on.
            unsafe { put(s, self.to.add(v * self.step[1]), sums[v], self.n) };
        }
    }
}
