//! Convolution and its input gradient, as sums of stride-one convolutions.

use super::Conv2d;
use super::axis::{Axis, Taps};
use super::planes::{Source, Window};
use crate::isa::{Isa, Kernel};
use crate::product::{Nest, Product};
use crate::simd::Simd;

/// f32 that a band of the source may take: half of a common 256 KiB second-level cache.
const SOURCE_BUDGET: usize = 32 << 10;
/// f32 that the results of a band may take.
const RESULT_BUDGET: usize = 16 << 10;
/// Destination channels of one task.
const CHANNEL_BLOCK: usize = 64;
/// Results below which a task takes several groups.
const TASK_RESULTS: usize = 8 << 10;
/// Columns past a band that whole-vector reads may touch.
const MARGIN: usize = 64;

/// Which way a convolution runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From `x` to `y`.
    Forward,
    /// From the gradient of `y` to that of `x`: the transposed convolution.
    InputGrad,
}

/// One convolution, in either direction; shapes as [`Conv2d`] says.
#[derive(Clone, Copy, Debug)]
pub struct Direct {
    /// The shape.
    pub shape: Conv2d,
    /// The direction.
    pub direction: Direction,
    /// `x`, or the gradient of `y`.
    pub src: *const f32,
    /// The weight.
    pub weight: *const f32,
    /// One value for each channel of `dst`, added to it.
    pub bias: Option<*const f32>,
    /// `y`, or the gradient of `x`.
    pub dst: *mut f32,
}

// SAFETY: addresses only; using them is the contract of the functions that take them.
unsafe impl Sync for Direct {}

impl Conv2d {
    /// Tasks of [`convolve`].
    #[must_use]
    pub fn tasks(&self, direction: Direction) -> usize {
        let split = Split::new(self, direction);
        self.batch * split.chunks * split.bands * split.blocks
    }

    /// f32 of scratch that one running [`convolve`] task needs.
    #[must_use]
    pub fn scratch(&self, direction: Direction) -> usize {
        let split = Split::new(self, direction);
        split.source_len + split.block * split.band_rows * split.line
    }
}

/// Runs one of [`Conv2d::tasks`] tasks.
///
/// # Safety
/// The pointers of `args` must be valid for its shape, `dst` overlap nothing else, `task` be in
/// range and run once, and `scratch` hold [`Conv2d::scratch`] f32.
pub unsafe fn convolve(isa: Isa, args: &Direct, task: usize, scratch: &mut [f32]) {
    debug_assert!(scratch.len() >= args.shape.scratch(args.direction));
    isa.run(Task { args, task, scratch: scratch.as_mut_ptr() });
}

/// One axis of one side of a convolution.
#[derive(Clone, Copy)]
struct Line {
    size: usize,
    /// The stride, on the side that it spreads.
    phases: usize,
}

impl Line {
    /// Positions of one phase.
    #[inline(always)]
    fn len(&self, phase: usize) -> usize {
        self.size.saturating_sub(phase).div_ceil(self.phases)
    }
}

/// One side of a convolution, for one group.
#[derive(Clone, Copy)]
struct Side {
    channels: usize,
    rows: Line,
    cols: Line,
}

impl Side {
    /// Elements of one group of one image.
    #[inline(always)]
    fn len(&self) -> usize {
        self.channels * self.rows.size * self.cols.size
    }
}

impl Conv2d {
    /// The source and the destination of a direction.
    fn sides(&self, direction: Direction) -> (Side, Side) {
        let line = |size, phases| Line { size, phases };
        let x = Side {
            channels: self.group_inputs(),
            rows: line(self.rows.input, self.rows.stride),
            cols: line(self.cols.input, self.cols.stride),
        };
        let y = Side {
            channels: self.group_outputs(),
            rows: line(self.rows.output, 1),
            cols: line(self.cols.output, 1),
        };
        match direction {
            Direction::Forward => (x, y),
            Direction::InputGrad => (y, x),
        }
    }
}

impl Direction {
    /// The taps of `axis` between a phase of the source and one of the destination.
    #[inline(always)]
    fn taps(self, axis: &Axis, source: usize, destination: usize) -> Option<Taps> {
        match self {
            Self::Forward => axis.taps(source),
            Self::InputGrad => axis.taps(destination).map(Taps::reversed),
        }
    }
}

/// How a convolution divides into tasks; a function of its shape only.
struct Split {
    /// Groups of one task, and tasks over the groups.
    groups: usize,
    chunks: usize,
    /// Destination rows (of one phase) of one task, and tasks over the rows.
    band_rows: usize,
    bands: usize,
    /// Destination channels of one task, and tasks over the channels.
    block: usize,
    blocks: usize,
    /// Columns of a band, halo included, at most.
    line: usize,
    /// f32 of the source band.
    source_len: usize,
}

impl Split {
    fn new(shape: &Conv2d, direction: Direction) -> Self {
        let (src, dst) = shape.sides(direction);
        let span = |axis: &Axis| {
            (0..axis.stride).filter_map(|p| axis.taps(p)).map(|t| t.span()).max().unwrap_or(0)
        };
        let (row_span, line) = (span(&shape.rows), dst.cols.len(0) + span(&shape.cols));
        let block = dst.channels.min(CHANNEL_BLOCK);
        let by_source = (SOURCE_BUDGET / (src.channels * line).max(1)).saturating_sub(row_span);
        let by_result = RESULT_BUDGET / (block * line).max(1);
        let rows = dst.rows.len(0).max(1);
        let bands = rows.div_ceil(by_source.min(by_result).max(1));
        let band_rows = rows.div_ceil(bands);
        let factors = [block, band_rows, line, dst.rows.phases, dst.cols.phases];
        let results = factors.into_iter().fold(1, usize::saturating_mul);
        let groups = (TASK_RESULTS / results.max(1)).clamp(1, shape.groups);
        Self {
            groups,
            chunks: shape.groups.div_ceil(groups),
            band_rows,
            bands: rows.div_ceil(band_rows),
            block,
            blocks: dst.channels.div_ceil(block),
            line,
            source_len: src.channels * (band_rows + row_span) * line + MARGIN,
        }
    }
}

struct Task<'a> {
    args: &'a Direct,
    task: usize,
    scratch: *mut f32,
}

impl Kernel for Task<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { args, task, scratch } = self;
        let shape = &args.shape;
        let split = Split::new(shape, args.direction);
        let (src, dst) = shape.sides(args.direction);
        let (task, block) = (task / split.blocks, task % split.blocks);
        let (task, band) = (task / split.bands, task % split.bands);
        let (image, chunk) = (task / split.chunks, task % split.chunks);
        let groups = chunk * split.groups..((chunk + 1) * split.groups).min(shape.groups);
        for group in groups {
            let first = block * split.block;
            let part = Part {
                args,
                src,
                dst,
                src_at: (image * shape.groups + group) * src.len(),
                dst_at: (image * shape.groups + group) * dst.len(),
                group,
                channels: (first, split.block.min(dst.channels - first)),
                band: (band * split.band_rows, split.band_rows),
                line: split.line,
                packed: scratch,
                acc: scratch.wrapping_add(split.source_len),
            };
            // A stride beyond the size leaves phases without a position.
            for y in 0..dst.rows.phases.min(dst.rows.size) {
                for x in 0..dst.cols.phases.min(dst.cols.size) {
                    // SAFETY: `convolve`'s contract; the part lies inside the shape, and its
                    // buffers hold any band of this split.
                    unsafe { part.phase(s, y, x) };
                }
            }
        }
    }
}

/// One group of one image, for a block of destination channels and a band of rows.
struct Part<'a> {
    args: &'a Direct,
    src: Side,
    dst: Side,
    src_at: usize,
    dst_at: usize,
    group: usize,
    /// First destination channel of the group, and how many.
    channels: (usize, usize),
    /// First row of every destination phase, and how many at most.
    band: (usize, usize),
    /// f32 from one row of a band to the next.
    line: usize,
    packed: *mut f32,
    acc: *mut f32,
}

impl Part<'_> {
    /// Computes one phase of the destination.
    ///
    /// # Safety
    /// As for [`convolve`].
    #[inline(always)]
    unsafe fn phase<S: Simd>(&self, s: S, dst_y: usize, dst_x: usize) {
        let (first, most) = self.band;
        let rows = self.dst.rows.len(dst_y).saturating_sub(first).min(most);
        let cols = self.dst.cols.len(dst_x);
        if rows * cols == 0 {
            return;
        }
        let (shape, direction) = (&self.args.shape, self.args.direction);
        let mut started = false;
        for src_y in 0..self.src.rows.phases {
            let Some(taps_y) = direction.taps(&shape.rows, src_y, dst_y) else { continue };
            for src_x in 0..self.src.cols.phases {
                let Some(taps_x) = direction.taps(&shape.cols, src_x, dst_x) else { continue };
                // Every phase of the source has the pitch of the widest, so that sums line up.
                let y = Window {
                    start: first as isize + taps_y.low(),
                    len: rows + taps_y.span(),
                    step: self.src.rows.phases,
                    phase: src_y,
                };
                let x = Window {
                    start: taps_x.low(),
                    len: self.line,
                    step: self.src.cols.phases,
                    phase: src_x,
                };
                let source = Source {
                    data: self.args.src.wrapping_add(self.src_at),
                    channels: self.src.channels,
                    rows: self.src.rows.size,
                    cols: self.src.cols.size,
                };
                // SAFETY: the band has room for these windows, and the sums for the results.
                unsafe {
                    source.pack(s, y, x, self.packed);
                    self.product(y.len, (rows, cols), (taps_y, taps_x), started).run(s);
                }
                started = true;
            }
        }
        // SAFETY: as above; the results lie inside the destination.
        unsafe { self.write(s, (dst_y, dst_x), (rows, cols), started) };
    }

    /// The product of the packed band with the weights of these taps. Columns are all positions of
    /// the band in one line; those that fall into the halo are computed and not kept.
    #[inline(always)]
    fn product(
        &self,
        band_rows: usize,
        (rows, cols): (usize, usize),
        (taps_y, taps_x): (Taps, Taps),
        accumulate: bool,
    ) -> Product {
        let shape = &self.args.shape;
        let (line, kernel) = (self.line as isize, shape.taps());
        let per_output = shape.group_inputs() * kernel;
        let (row_step, depth_step) = match self.args.direction {
            Direction::Forward => (per_output, kernel),
            Direction::InputGrad => (kernel, per_output),
        };
        let weight = self.group * shape.group_outputs() * per_output
            + self.channels.0 * row_step
            + taps_y.first * shape.cols.kernel
            + taps_x.first;
        let begin = (taps_y.shift - taps_y.low()) * line + taps_x.shift - taps_x.low();
        let pitch = self.acc_pitch(rows, cols);
        Product {
            a: self.args.weight.wrapping_add(weight),
            rows: Nest::line(self.channels.1, row_step),
            depth: Nest {
                len: [self.src.channels, taps_y.count, taps_x.count],
                step: [
                    depth_step as isize,
                    (taps_y.step * shape.cols.kernel) as isize,
                    taps_x.step as isize,
                ],
            },
            b: self.packed.wrapping_offset(begin),
            b_step: [band_rows as isize * line, taps_y.shift_step * line, taps_x.shift_step],
            cols: pitch,
            c: self.acc,
            c_step: [0, 0, pitch as isize],
            accumulate,
        }
    }

    /// Sums of one channel: whole lines but for the last.
    #[inline(always)]
    fn acc_pitch(&self, rows: usize, cols: usize) -> usize {
        (rows - 1) * self.line + cols
    }

    /// Copies the sums, plus bias, to their phase of the destination; zeros where no tap reaches.
    ///
    /// # Safety
    /// As for [`convolve`], the sums having been computed if `started`.
    #[inline(always)]
    unsafe fn write<S: Simd>(
        &self,
        s: S,
        (phase_y, phase_x): (usize, usize),
        (rows, cols): (usize, usize),
        started: bool,
    ) {
        let pitch = self.acc_pitch(rows, cols);
        let (y_step, x_step) = (self.dst.rows.phases, self.dst.cols.phases);
        for c in 0..self.channels.1 {
            let channel = self.channels.0 + c;
            // SAFETY: the channel is one of the group's.
            let bias = self
                .args
                .bias
                .map_or(0.0, |bias| unsafe { *bias.add(self.group * self.dst.channels + channel) });
            for r in 0..rows {
                let y = (self.band.0 + r) * y_step + phase_y;
                let to = (channel * self.dst.rows.size + y) * self.dst.cols.size + phase_x;
                let to = self.args.dst.wrapping_add(self.dst_at + to);
                let from = self.acc.wrapping_add(c * pitch + r * self.line);
                // SAFETY: `cols` results from `from` are this row's, and `to` is its place.
                unsafe {
                    match (started, x_step) {
                        (false, _) => (0..cols).for_each(|i| *to.add(i * x_step) = bias),
                        (true, 1) => add_bias(s, from, bias, to, cols),
                        (true, _) => {
                            (0..cols).for_each(|i| *to.add(i * x_step) = *from.add(i) + bias);
                        }
                    }
                }
            }
        }
    }
}

/// `to[i] = from[i] + bias` for `n` values.
///
/// # Safety
/// Both must be valid for `n` f32.
#[inline(always)]
unsafe fn add_bias<S: Simd>(s: S, from: *const f32, bias: f32, to: *mut f32, n: usize) {
    let bias = s.splat(bias);
    let mut i = 0;
    // SAFETY: the caller's contract.
    unsafe {
        while i + S::LANES <= n {
            s.store(to.add(i), s.add(s.load(from.add(i)), bias));
            i += S::LANES;
        }
        if i < n {
            s.store_n(to.add(i), s.add(s.load_n(from.add(i), n - i), bias), n - i);
        }
    }
}
