//! The weight gradient of a convolution.
//!
//! Where a group has enough outputs they fill the vector lanes: the output gradient is transposed
//! once a band and every tap multiplies it by the shifted input; several small images make one
//! band, for longer sums. Where it has few (depthwise convolution) the positions fill the lanes, and
//! every tap is a dot product.
//!
//! Images are divided into parts, as many as keep some processors busy, and every part has its own
//! sum; [`sum_parts`] adds them in order. The division is by shape, so the bits are too.

use super::Conv2d;
use super::axis::Taps;
use super::implicit_weight::ImplicitWeight;
use super::planes::{Source, Window};
use crate::isa::{Isa, Kernel};
use crate::product::{Nest, Product};
use crate::simd::Simd;

/// Outputs of one task: two AVX-512 vectors.
const LANE_BLOCK: usize = 32;
/// Fewer outputs in a group than this and positions fill the lanes.
const FEW_OUTPUTS: usize = 9;
/// Sums of one task: 512 of them are 64 KiB, and hide the transposition of the gradient.
const TASK_SUMS: usize = 512;
/// Tasks worth having when the weight itself does not divide into as many.
const TASKS: usize = 16;
/// f32 that a band of the input, or of the gradient, may take.
const BAND_BUDGET: usize = 32 << 10;
/// f32 past a band that whole-vector reads may touch.
const MARGIN: usize = 64;
/// Elements that one task of [`sum_parts`] adds.
const SUM_BLOCK: usize = 4 << 10;

/// The weight gradient of a convolution; shapes as [`Conv2d`] says.
#[derive(Clone, Copy, Debug)]
pub struct WeightGrad {
    /// The shape.
    pub shape: Conv2d,
    /// The input of the forward pass.
    pub x: *const f32,
    /// The gradient of its output.
    pub dy: *const f32,
    /// [`Conv2d::weight_parts`] gradients one after another; the gradient itself where that is 1.
    pub parts: *mut f32,
}

// SAFETY: addresses only; using them is the contract of the functions that take them.
unsafe impl Sync for WeightGrad {}

impl Conv2d {
    /// Partial gradients that [`grad_weight`] writes, for [`sum_parts`] to add.
    #[must_use]
    pub fn weight_parts(&self) -> usize {
        ImplicitWeight::of(self).map_or_else(|| WeightSplit::new(self).parts, |i| i.parts)
    }

    /// Tasks of [`grad_weight`].
    #[must_use]
    pub fn weight_tasks(&self) -> usize {
        if let Some(implicit) = ImplicitWeight::of(self) {
            return implicit.tasks();
        }
        let split = WeightSplit::new(self);
        split.parts * split.chunks * split.lane_blocks * split.input_blocks
    }

    /// f32 of scratch that one running [`grad_weight`] task needs.
    #[must_use]
    pub fn weight_scratch(&self) -> usize {
        if let Some(implicit) = ImplicitWeight::of(self) {
            return implicit.scratch();
        }
        let split = WeightSplit::new(self);
        split.sums_len + split.grad_len + split.source_len
    }

    /// Tasks of [`sum_parts`].
    #[must_use]
    pub fn sum_tasks(&self) -> usize {
        self.weight_len().div_ceil(SUM_BLOCK)
    }
}

/// Runs one of [`Conv2d::weight_tasks`] tasks.
///
/// # Safety
/// The pointers of `args` must be valid for its shape, `parts` overlap nothing else, `task` be in
/// range and run once, and `scratch` hold [`Conv2d::weight_scratch`] f32.
pub unsafe fn grad_weight(isa: Isa, args: &WeightGrad, task: usize, scratch: &mut [f32]) {
    debug_assert!(scratch.len() >= args.shape.weight_scratch());
    let scratch = scratch.as_mut_ptr();
    match ImplicitWeight::of(&args.shape) {
        // SAFETY: the caller's contract.
        Some(implicit) => unsafe { implicit.run(isa, args, task, scratch) },
        None => isa.run(Task { args, task, scratch }),
    }
}

/// Runs one of [`Conv2d::sum_tasks`] tasks: adds the parts of some elements, first to last.
///
/// # Safety
/// As for [`grad_weight`], all of whose tasks must have ended; `dw` must be valid for a weight.
pub unsafe fn sum_parts(isa: Isa, args: &WeightGrad, dw: *mut f32, task: usize) {
    isa.run(Sum { shape: &args.shape, parts: args.parts, dw, task });
}

struct Sum<'a> {
    shape: &'a Conv2d,
    parts: *const f32,
    dw: *mut f32,
    task: usize,
}

impl Kernel for Sum<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (len, parts) = (self.shape.weight_len(), self.shape.weight_parts());
        let mut at = self.task * SUM_BLOCK;
        let end = (at + SUM_BLOCK).min(len);
        while at < end {
            let n = S::LANES.min(end - at);
            let mut sum = s.zero();
            for part in 0..parts {
                let from = self.parts.wrapping_add(part * len + at);
                // SAFETY: `n` elements of this part lie from here on.
                sum = s.add(sum, unsafe {
                    if n == S::LANES { s.load(from) } else { s.load_n(from, n) }
                });
            }
            // SAFETY: `n` elements of the gradient lie from here on.
            unsafe {
                let to = self.dw.add(at);
                if n == S::LANES { s.store(to, sum) } else { s.store_n(to, sum, n) }
            }
            at += n;
        }
    }
}

/// How a weight gradient divides into tasks; a function of its shape only.
struct WeightSplit {
    /// Partial gradients, and the images of each.
    parts: usize,
    images: usize,
    /// Groups of one task, and tasks over the groups.
    groups: usize,
    chunks: usize,
    /// Outputs of one task, and tasks over the outputs of a group.
    lanes: usize,
    lane_blocks: usize,
    /// Inputs of one task, and tasks over the inputs of a group.
    inputs: usize,
    input_blocks: usize,
    /// Output rows of a band.
    band_rows: usize,
    /// Images of a band.
    together: usize,
    /// f32 from one row of a band to the next, halo included.
    line: usize,
    /// f32 of scratch for the sums, the gradient's band and the source's band.
    sums_len: usize,
    grad_len: usize,
    source_len: usize,
}

impl WeightSplit {
    fn new(shape: &Conv2d) -> Self {
        let taps = shape.taps();
        let few = shape.group_outputs() < FEW_OUTPUTS;
        let lanes = shape.group_outputs().min(LANE_BLOCK);
        let lane_blocks = shape.group_outputs().div_ceil(lanes);
        let most = (TASK_SUMS / taps).clamp(1, shape.group_inputs());
        let input_blocks = shape.group_inputs().div_ceil(most);
        let inputs = shape.group_inputs().div_ceil(input_blocks);
        let groups = (TASK_SUMS / (inputs * taps * lanes)).clamp(1, shape.groups);
        let chunks = shape.groups.div_ceil(groups);
        let most = TASKS.div_ceil(lane_blocks * input_blocks * chunks);
        let images = shape.batch.div_ceil(most.clamp(1, shape.batch.max(1))).max(1);

        let span = |axis: &super::Axis| {
            (0..axis.stride).filter_map(|p| axis.taps(p)).map(|t| t.span()).max().unwrap_or(0)
        };
        let (row_span, line) = (span(&shape.rows), shape.cols.output + span(&shape.cols));
        let width = if few { 1 } else { LANE_BLOCK };
        let by_source = (BAND_BUDGET / (inputs * line)).saturating_sub(row_span);
        let most_rows = by_source.min(BAND_BUDGET / (width * line)).max(1);
        let bands = shape.rows.output.div_ceil(most_rows).max(1);
        let band_rows = shape.rows.output.div_ceil(bands);
        let (source_len, grad_len) =
            (inputs * (band_rows + row_span) * line, width * band_rows * line);
        let fit = BAND_BUDGET / source_len.max(grad_len).max(1);
        let together = if few { 1 } else { fit.clamp(1, images) };
        Self {
            parts: shape.batch.div_ceil(images).max(1),
            images,
            groups,
            chunks,
            lanes,
            lane_blocks,
            inputs,
            input_blocks,
            band_rows,
            together,
            line,
            sums_len: inputs * taps * LANE_BLOCK,
            grad_len: together * grad_len + MARGIN,
            source_len: together * source_len + MARGIN,
        }
    }
}

struct Task<'a> {
    args: &'a WeightGrad,
    task: usize,
    scratch: *mut f32,
}

impl Kernel for Task<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { args, task, scratch } = self;
        let shape = &args.shape;
        let split = WeightSplit::new(shape);
        let (task, input_block) = (task / split.input_blocks, task % split.input_blocks);
        let (task, lane_block) = (task / split.lane_blocks, task % split.lane_blocks);
        let (part, chunk) = (task / split.chunks, task % split.chunks);
        let (input, lane) = (input_block * split.inputs, lane_block * split.lanes);
        for group in chunk * split.groups..((chunk + 1) * split.groups).min(shape.groups) {
            let block = Block {
                args,
                split: &split,
                part,
                group,
                inputs: (input, split.inputs.min(shape.group_inputs() - input)),
                outputs: (lane, split.lanes.min(shape.group_outputs() - lane)),
                sums: scratch,
                grad: scratch.wrapping_add(split.sums_len),
                source: scratch.wrapping_add(split.sums_len + split.grad_len),
            };
            // SAFETY: `grad_weight`'s contract; the block lies inside the shape.
            unsafe { block.run(s) };
        }
    }
}

/// The weights between some inputs and some outputs of a group, over the images of one part.
struct Block<'a> {
    args: &'a WeightGrad,
    split: &'a WeightSplit,
    part: usize,
    group: usize,
    /// First input of the group, and how many; outputs likewise.
    inputs: (usize, usize),
    outputs: (usize, usize),
    /// `[inputs][taps][LANE_BLOCK]`.
    sums: *mut f32,
    grad: *mut f32,
    source: *mut f32,
}

impl Block<'_> {
    /// Sums over the images of the part and writes the weights.
    ///
    /// # Safety
    /// As for [`grad_weight`].
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, s: S) {
        let shape = &self.args.shape;
        let sums = self.inputs.1 * shape.taps() * LANE_BLOCK;
        let last = ((self.part + 1) * self.split.images).min(shape.batch);
        // SAFETY: the caller's contract.
        unsafe {
            for at in (0..sums).step_by(S::LANES) {
                s.store(self.sums.add(at), s.zero());
            }
            for image in (self.part * self.split.images..last).step_by(self.split.together) {
                let images = (image, self.split.together.min(last - image));
                for first in (0..shape.rows.output).step_by(self.split.band_rows.max(1)) {
                    let rows = self.split.band_rows.min(shape.rows.output - first);
                    self.band(s, images, first, rows);
                }
            }
            self.write();
        }
    }

    /// Adds what `rows` output rows of some images contribute.
    ///
    /// # Safety
    /// As for [`grad_weight`].
    #[inline(always)]
    unsafe fn band<S: Simd>(
        &self,
        s: S,
        (image, images): (usize, usize),
        first: usize,
        rows: usize,
    ) {
        let shape = &self.args.shape;
        let few = shape.group_outputs() < FEW_OUTPUTS;
        if !few {
            for i in 0..images {
                let to = self.grad.wrapping_add(i * rows * shape.cols.output * LANE_BLOCK);
                // SAFETY: the caller's contract.
                unsafe { self.transpose(s, image + i, first, rows, to) };
            }
        }
        for phase_y in 0..shape.rows.stride {
            let Some(taps_y) = shape.rows.taps(phase_y) else { continue };
            for phase_x in 0..shape.cols.stride {
                let Some(taps_x) = shape.cols.taps(phase_x) else { continue };
                let y = Window {
                    start: first as isize + taps_y.low(),
                    len: rows + taps_y.span(),
                    step: shape.rows.stride,
                    phase: phase_y,
                };
                let x = Window {
                    start: taps_x.low(),
                    len: self.split.line,
                    step: shape.cols.stride,
                    phase: phase_x,
                };
                // SAFETY: the caller's contract; the scratch has room for these windows.
                unsafe {
                    for i in 0..images {
                        let to = self.inputs.1 * y.len * self.split.line * i;
                        self.source_of(image + i).pack(s, y, x, self.source.wrapping_add(to));
                    }
                    if few {
                        self.dots(s, image, (first, rows), y.len, (taps_y, taps_x));
                    } else {
                        self.product(images, rows, y.len, (taps_y, taps_x)).run(s);
                    }
                }
            }
        }
    }

    /// The block's inputs in one image.
    #[inline(always)]
    fn source_of(&self, image: usize) -> Source {
        let shape = &self.args.shape;
        let channel = self.group * shape.group_inputs() + self.inputs.0;
        let plane = shape.rows.input * shape.cols.input;
        Source {
            data: self.args.x.wrapping_add((image * shape.in_channels + channel) * plane),
            channels: self.inputs.1,
            rows: shape.rows.input,
            cols: shape.cols.input,
        }
    }

    /// The first element of one output channel's gradient.
    #[inline(always)]
    fn grad_at(&self, image: usize, output: usize) -> *const f32 {
        let shape = &self.args.shape;
        let channel = self.group * shape.group_outputs() + self.outputs.0 + output;
        let plane = shape.rows.output * shape.cols.output;
        self.args.dy.wrapping_add((image * shape.out_channels + channel) * plane)
    }

    /// Transposes a band of the gradient to `[rows][cols][LANE_BLOCK]` at `grad`; lanes past the
    /// outputs keep what they had, since no sum of theirs is written.
    ///
    /// # Safety
    /// As for [`grad_weight`].
    #[inline(always)]
    unsafe fn transpose<S: Simd>(
        &self,
        s: S,
        image: usize,
        first: usize,
        rows: usize,
        grad: *mut f32,
    ) {
        let shape = &self.args.shape;
        let (n, plane) = (rows * shape.cols.output, shape.rows.output * shape.cols.output);
        let whole = n / S::LANES * S::LANES;
        for lane in (0..self.outputs.1).step_by(S::LANES) {
            let from = self.grad_at(image, lane).wrapping_add(first * shape.cols.output);
            let to = grad.wrapping_add(lane);
            let lanes = S::LANES.min(self.outputs.1 - lane);
            // SAFETY: the outputs' rows lie inside the gradient, and the band in the scratch.
            unsafe {
                for i in (0..whole).step_by(S::LANES) {
                    s.transpose(from.add(i), plane, to.add(i * LANE_BLOCK), LANE_BLOCK, lanes);
                }
                for (i, l) in (whole..n).flat_map(|i| (0..lanes).map(move |l| (i, l))) {
                    *to.add(i * LANE_BLOCK + l) = *from.add(l * plane + i);
                }
            }
        }
    }

    /// Steps of the source band along inputs and taps.
    #[inline(always)]
    fn source_rows(&self, band_rows: usize, (y, x): (Taps, Taps)) -> (*const f32, Nest) {
        let line = self.split.line as isize;
        let begin = (y.shift - y.low()) * line + x.shift - x.low();
        let nest = Nest {
            len: [self.inputs.1, y.count, x.count],
            step: [band_rows as isize * line, y.shift_step * line, x.shift_step],
        };
        (self.source.wrapping_offset(begin), nest)
    }

    /// Index of the first sum of these taps, and the steps along inputs and taps.
    #[inline(always)]
    fn sum_rows(&self, (y, x): (Taps, Taps)) -> (usize, [isize; 3]) {
        let (taps, kernel) = (self.args.shape.taps(), self.args.shape.cols.kernel);
        (y.first * kernel + x.first, [taps as isize, (y.step * kernel) as isize, x.step as isize])
    }

    /// The product with outputs in the lanes.
    #[inline(always)]
    fn product(&self, images: usize, rows: usize, band_rows: usize, taps: (Taps, Taps)) -> Product {
        let cols = self.args.shape.cols.output;
        let line = self.split.line as isize;
        let (image, row) = (self.inputs.1 as isize * band_rows as isize * line, cols * LANE_BLOCK);
        let (a, nest) = self.source_rows(band_rows, taps);
        let (sum, steps) = self.sum_rows(taps);
        Product {
            a,
            rows: nest,
            depth: Nest { len: [images, rows, cols], step: [image, line, 1] },
            b: self.grad,
            b_step: [(rows * row) as isize, row as isize, LANE_BLOCK as isize],
            cols: self.outputs.1,
            c: self.sums.wrapping_add(sum * LANE_BLOCK),
            c_step: steps.map(|step| step * LANE_BLOCK as isize),
            accumulate: true,
        }
    }

    /// The products with positions in the lanes: one dot product for each output, input and tap.
    ///
    /// # Safety
    /// As for [`grad_weight`], with the source band packed.
    #[inline(always)]
    unsafe fn dots<S: Simd>(
        &self,
        s: S,
        image: usize,
        (first, rows): (usize, usize),
        band_rows: usize,
        taps: (Taps, Taps),
    ) {
        let shape = &self.args.shape;
        let (source, nest) = self.source_rows(band_rows, taps);
        let (sum, steps) = self.sum_rows(taps);
        let sums = Nest { len: nest.len, step: steps };
        for output in 0..self.outputs.1 {
            // The gradient with the pitch of the source, zero in its halo.
            let gradient = Source {
                data: self.grad_at(image, output),
                channels: 1,
                rows: shape.rows.output,
                cols: shape.cols.output,
            };
            let y = Window { start: first as isize, len: rows, step: 1, phase: 0 };
            let x = Window { start: 0, len: self.split.line, step: 1, phase: 0 };
            let n = (rows - 1) * self.split.line + shape.cols.output;
            // SAFETY: the scratch has room for the gradient's band; the rows of the nest lie
            // inside the source's band for `n` positions.
            unsafe {
                gradient.pack(s, y, x, self.grad);
                let mut row = 0;
                while row < nest.count() {
                    // Kernels have 9 taps, or 25.
                    let take = match nest.count() - row {
                        9.. => 9,
                        4.. => 4,
                        _ => 1,
                    };
                    let mut dots = [0.0; 9];
                    match take {
                        9 => dots = dot_rows::<S, 9>(s, source, &nest, row, self.grad, n),
                        4 => {
                            let four = dot_rows::<S, 4>(s, source, &nest, row, self.grad, n);
                            dots[..4].copy_from_slice(&four);
                        }
                        _ => [dots[0]] = dot_rows::<S, 1>(s, source, &nest, row, self.grad, n),
                    }
                    for (i, dot) in dots[..take].iter().enumerate() {
                        let at = (sum as isize + sums.offset(row + i)) as usize;
                        *self.sums.add(at * LANE_BLOCK + output) += dot;
                    }
                    row += take;
                }
            }
        }
    }

    /// Writes the sums to the part's weights.
    ///
    /// # Safety
    /// As for [`grad_weight`].
    #[inline(always)]
    unsafe fn write(&self) {
        let shape = &self.args.shape;
        let (per_output, taps) = (shape.group_inputs() * shape.taps(), shape.taps());
        let first = self.group * shape.group_outputs() + self.outputs.0;
        for output in 0..self.outputs.1 {
            let at = (first + output) * per_output + self.inputs.0 * taps;
            let to = self.args.parts.wrapping_add(self.part * shape.weight_len() + at);
            for i in 0..self.inputs.1 * taps {
                // SAFETY: these weights belong to this block.
                unsafe { *to.add(i) = *self.sums.add(i * LANE_BLOCK + output) };
            }
        }
    }
}

/// Dot products of `b` with `MR` rows of `a`, `n` long.
///
/// # Safety
/// The rows and `b` must be valid for reading `n` f32.
#[inline(always)]
unsafe fn dot_rows<S: Simd, const MR: usize>(
    s: S,
    a: *const f32,
    rows: &Nest,
    row: usize,
    b: *const f32,
    n: usize,
) -> [f32; MR] {
    let mut acc = [s.zero(); MR];
    let mut at = [a; MR];
    for r in 0..MR {
        at[r] = a.wrapping_offset(rows.offset(row + r));
    }
    let mut i = 0;
    while i < n {
        let left = n - i;
        // SAFETY: `i` stays below `n`, and the last vector is partial.
        unsafe {
            if left >= S::LANES {
                let vb = s.load(b.add(i));
                for r in 0..MR {
                    acc[r] = s.fma(s.load(at[r].add(i)), vb, acc[r]);
                }
            } else {
                let vb = s.load_n(b.add(i), left);
                for r in 0..MR {
                    acc[r] = s.fma(s.load_n(at[r].add(i), left), vb, acc[r]);
                }
            }
        }
        i += S::LANES;
    }
    let mut sums = [0.0; MR];
    for r in 0..MR {
        sums[r] = s.sum(acc[r]);
    }
    sums
}
