//! Convolution and its input gradient, as sums of stride-one convolutions.
//!
//! Where a group has some destination channels, their weights are packed for [`Panels`]; where it
//! has fewer (depthwise convolution) they are read in place.

use super::axis::{Axis, Taps};
use super::panels::{MOST_ROWS, Panels, Weights};
use super::planes::{Source, Window, fill};
use super::{Conv2d, Way};
use crate::isa::{Isa, Kernel};
use crate::product::{Nest, Product};
use crate::simd::{MAX_WIDTH, Simd};

/// f32 that a band of the source may take: half of a common 256 KiB second-level cache.
const SOURCE_BUDGET: usize = 32 << 10;
/// f32 that the results of a band may take.
const RESULT_BUDGET: usize = 16 << 10;
/// Destination channels of one task.
const CHANNEL_BLOCK: usize = 64;
/// Results below which a task takes several groups.
const TASK_RESULTS: usize = 8 << 10;
/// Columns past a band that whole-vector reads may touch, and past the results that whole tiles
/// may write.
const MARGIN: usize = 2 * MAX_WIDTH;
/// Fewest destination channels of a group whose weights are packed.
const PACKED_CHANNELS: usize = 4;

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
    /// The weight packed by [`pack_weight`], [`Conv2d::packed_len`] f32.
    pub packed: *mut f32,
    /// One value for each channel of `dst`, added to it.
    pub bias: Option<*const f32>,
    /// `y`, or the gradient of `x`.
    pub dst: *mut f32,
}

// SAFETY: addresses only; using them is the contract of the functions that take them.
unsafe impl Sync for Direct {}

impl Conv2d {
    /// Tasks of [`pack_weight`], which come before those of [`convolve`].
    #[must_use]
    pub fn pack_tasks(&self, direction: Direction) -> usize {
        match Way::of(self, direction) {
            Way::Implicit(implicit) => implicit.pack_tasks(),
            Way::Depthwise(_) => 0,
            Way::Bands => {
                let packs = self.sides(direction).1.channels >= PACKED_CHANNELS;
                if packs { self.groups * Split::new(self, direction).blocks } else { 0 }
            }
        }
    }

    /// f32 of the packed weight, which all tasks share.
    #[must_use]
    pub fn packed_len(&self, direction: Direction) -> usize {
        match Way::of(self, direction) {
            Way::Implicit(implicit) => implicit.packed_len(),
            _ => self.pack_tasks(direction) * self.packed_block(direction),
        }
    }

    /// f32 of the packed weights of a block of destination channels.
    fn packed_block(&self, direction: Direction) -> usize {
        let (src, dst) = self.sides(direction);
        (dst.channels.min(CHANNEL_BLOCK) + MOST_ROWS) * src.channels * self.taps()
    }

    /// Tasks of [`convolve`].
    #[must_use]
    pub fn tasks(&self, direction: Direction) -> usize {
        match Way::of(self, direction) {
            Way::Implicit(implicit) => implicit.tasks(),
            Way::Depthwise(depthwise) => depthwise.tasks(),
            Way::Bands => {
                let split = Split::new(self, direction);
                self.batch * split.chunks * split.bands * split.blocks
            }
        }
    }

    /// f32 of scratch that one running [`convolve`] task needs.
    #[must_use]
    pub fn scratch(&self, direction: Direction) -> usize {
        match Way::of(self, direction) {
            Way::Implicit(implicit) => implicit.scratch(),
            Way::Depthwise(depthwise) => depthwise.scratch(),
            Way::Bands => {
                let split = Split::new(self, direction);
                let results = split.band_rows * split.line + MARGIN;
                let spare = if split.block >= PACKED_CHANNELS { MOST_ROWS } else { 0 };
                split.source_len + (split.block + spare) * results
            }
        }
    }
}

/// Runs one of [`Conv2d::pack_tasks`] tasks.
///
/// # Safety
/// The weight and `packed` must be valid for their lengths, and `task` be in range and run once.
pub unsafe fn pack_weight(isa: Isa, args: &Direct, task: usize) {
    match Way::of(&args.shape, args.direction) {
        // SAFETY: the caller's contract.
        Way::Implicit(implicit) => unsafe { implicit.pack(isa, args, task) },
        _ => isa.run(Pack { args, task }),
    }
}

struct Pack<'a> {
    args: &'a Direct,
    task: usize,
}

impl Kernel for Pack<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { args, task } = self;
        let (shape, direction) = (&args.shape, args.direction);
        let split = Split::new(shape, direction);
        let (group, first) = (task / split.blocks, task % split.blocks * split.block);
        let (src, dst) = shape.sides(direction);
        let [row_step, channel_step] = shape.weight_steps(direction);
        let weights = Weights {
            data: args.weight.wrapping_add(shape.weight_at(group) + first * row_step),
            row_step,
            channel_step,
            rows: split.block.min(dst.channels - first),
            channels: src.channels,
            taps: shape.taps(),
        };
        // SAFETY: `pack_weight`'s contract; every task has a block of its own.
        unsafe { weights.pack(s, args.packed.add(task * shape.packed_block(direction))) };
    }
}

/// Runs one of [`Conv2d::tasks`] tasks.
///
/// # Safety
/// The pointers of `args` must be valid for its shape, `dst` overlap nothing else, `task` be in
/// range and run once, and `scratch` hold [`Conv2d::scratch`] f32; all of [`Conv2d::pack_tasks`]
/// must have run.
pub unsafe fn convolve(isa: Isa, args: &Direct, task: usize, scratch: &mut [f32]) {
    debug_assert!(scratch.len() >= args.shape.scratch(args.direction));
    let scratch = scratch.as_mut_ptr();
    match Way::of(&args.shape, args.direction) {
        // SAFETY: the caller's contract.
        Way::Implicit(implicit) => unsafe { implicit.run(isa, args, task, scratch) },
        // SAFETY: as above.
        Way::Depthwise(depthwise) => unsafe { depthwise.run(isa, args, task, scratch) },
        Way::Bands => isa.run(Task { args, task, scratch }),
    }
}

/// One axis of one side of a convolution.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub(super) size: usize,
    /// The stride, on the side that it spreads.
    pub(super) phases: usize,
}

impl Line {
    /// Positions of one phase.
    #[inline(always)]
    pub(super) fn len(&self, phase: usize) -> usize {
        self.size.saturating_sub(phase).div_ceil(self.phases)
    }
}

/// One side of a convolution, for one group.
#[derive(Clone, Copy)]
pub(super) struct Side {
    pub(super) channels: usize,
    pub(super) rows: Line,
    pub(super) cols: Line,
}

impl Side {
    /// Elements of one group of one image.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.channels * self.rows.size * self.cols.size
    }
}

impl Conv2d {
    /// The source and the destination of a direction.
    pub(super) fn sides(&self, direction: Direction) -> (Side, Side) {
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

    /// f32 of the weight from one destination channel to the next, and from one source channel.
    pub(super) fn weight_steps(&self, direction: Direction) -> [usize; 2] {
        let per_output = self.group_inputs() * self.taps();
        match direction {
            Direction::Forward => [per_output, self.taps()],
            Direction::InputGrad => [self.taps(), per_output],
        }
    }

    /// Where the weights of a group begin.
    pub(super) fn weight_at(&self, group: usize) -> usize {
        group * self.group_outputs() * self.group_inputs() * self.taps()
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
    /// f32 from one row of a band to the next.
    line: usize,
    /// f32 of the source band.
    source_len: usize,
}

impl Split {
    fn new(shape: &Conv2d, direction: Direction) -> Self {
        let (src, dst) = shape.sides(direction);
        let rows = &shape.rows;
        let spans = (0..rows.stride).filter_map(|p| rows.taps(p)).map(|t| t.span());
        let (row_span, line) = (spans.max().unwrap_or(0), line(&shape.cols, direction, src, dst));
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

/// f32 from one row of a band to the next, in every phase.
///
/// What a row reads past its end may be the beginning of the next one, as far as that holds the
/// zeros before the image: with padding on both sides, one side's is enough. At 14 x 14 that saves
/// a 16th of the sums.
fn line(axis: &Axis, direction: Direction, src: Side, dst: Side) -> usize {
    let mut line = 0;
    for to in 0..dst.cols.phases.min(dst.cols.size) {
        for from in 0..src.cols.phases {
            let Some(taps) = direction.taps(axis, from, to) else { continue };
            let (cols, low) = (dst.cols.len(to), taps.low());
            // Reads past the last row stay in the margin.
            let zeros = usize::try_from(-low).unwrap_or(0).min(taps.span()).min(MARGIN / 2);
            let inside = usize::try_from(src.cols.len(from) as isize - low).unwrap_or(0);
            let whole = cols + taps.span();
            line = whole.min(inside.max(cols).max(whole - zeros)).max(line);
        }
    }
    line
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
                weights: args.packed.wrapping_add(
                    (group * split.blocks + block) * shape.packed_block(args.direction),
                ),
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
    /// The packed weights of the channels.
    weights: *const f32,
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
        let pitch = self.acc_pitch(s, rows, cols);
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
                    let end = self.src.channels * y.len * self.line;
                    fill(s, self.packed.add(end), MARGIN);
                    let (taps, wanted) = ((taps_y, taps_x), (rows - 1) * self.line + cols);
                    if self.dst.channels >= PACKED_CHANNELS {
                        self.panels(y.len, pitch, taps, started).run(s, wanted);
                    } else {
                        self.product(y.len, (wanted, pitch), taps, started).run(s);
                    }
                }
                started = true;
            }
        }
        // SAFETY: as above; the results lie inside the destination.
        unsafe { self.write(s, (dst_y, dst_x), (rows, cols), pitch, started) };
    }

    /// The product of the packed weights with the band at these taps. Columns are all positions of
    /// the band in one line; those that fall into the halo are computed and not kept.
    #[inline(always)]
    fn panels(
        &self,
        band_rows: usize,
        pitch: usize,
        taps: (Taps, Taps),
        accumulate: bool,
    ) -> Panels {
        let shape = &self.args.shape;
        Panels {
            weights: self.weights,
            rows: self.channels.1,
            channels: self.src.channels,
            kernel: [shape.rows.kernel, shape.cols.kernel],
            taps,
            band: self.first(taps),
            plane: band_rows * self.line,
            line: self.line,
            cols: pitch,
            sums: self.acc,
            accumulate,
        }
    }

    /// What the first tap reads for the first result.
    #[inline(always)]
    fn first(&self, (y, x): (Taps, Taps)) -> *const f32 {
        let begin = (y.shift - y.low()) * self.line as isize + x.shift - x.low();
        self.packed.wrapping_offset(begin)
    }

    /// The same product with weights read in place.
    #[inline(always)]
    fn product(
        &self,
        band_rows: usize,
        (cols, pitch): (usize, usize),
        taps: (Taps, Taps),
        accumulate: bool,
    ) -> Product {
        let shape = &self.args.shape;
        let line = self.line as isize;
        let [row_step, depth_step] = shape.weight_steps(self.args.direction);
        let weight = shape.weight_at(self.group)
            + self.channels.0 * row_step
            + taps.0.first * shape.cols.kernel
            + taps.1.first;
        Product {
            a: self.args.weight.wrapping_add(weight),
            rows: Nest::line(self.channels.1, row_step),
            depth: Nest {
                len: [self.src.channels, taps.0.count, taps.1.count],
                step: [
                    depth_step as isize,
                    (taps.0.step * shape.cols.kernel) as isize,
                    taps.1.step as isize,
                ],
            },
            b: self.first(taps),
            b_step: [band_rows as isize * line, taps.0.shift_step * line, taps.1.shift_step],
            cols,
            c: self.acc,
            c_step: [0, 0, pitch as isize],
            accumulate,
        }
    }

    /// f32 from the sums of one channel to those of the next: whole lines but for the last, up to
    /// whole tiles.
    #[inline(always)]
    fn acc_pitch<S: Simd>(&self, s: S, rows: usize, cols: usize) -> usize {
        Panels::whole(s, (rows - 1) * self.line + cols)
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
        pitch: usize,
        started: bool,
    ) {
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
                        (true, 1) => {
                            // What follows in the channel is this task's too.
                            let free = y_step == 1 && (rows - 1 - r) * cols >= S::LANES;
                            add_bias(s, from, bias, to, cols, free);
                        }
                        (true, _) => {
                            (0..cols).for_each(|i| *to.add(i * x_step) = *from.add(i) + bias);
                        }
                    }
                }
            }
        }
    }
}

/// `to[i] = from[i] + bias` for `n` values; up to whole vectors where what follows is `free`.
///
/// # Safety
/// Both must be valid for `n` f32, and up to whole vectors if `free`.
#[inline(always)]
unsafe fn add_bias<S: Simd>(s: S, from: *const f32, bias: f32, to: *mut f32, n: usize, free: bool) {
    let bias = s.splat(bias);
    let mut i = 0;
    // SAFETY: the caller's contract.
    unsafe {
        while i + S::LANES <= n {
            s.store(to.add(i), s.add(s.load(from.add(i)), bias));
            i += S::LANES;
        }
        if i < n && free {
            s.store(to.add(i), s.add(s.load(from.add(i)), bias));
        } else if i < n {
            s.store_n(to.add(i), s.add(s.load_n(from.add(i), n - i), bias), n - i);
        }
    }
}
