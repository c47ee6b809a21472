//! The weight gradient as gemm's product, where outputs fill register tiles.
//!
//! Rows are outputs, columns the weights of an output, and the sums run over the positions of all
//! images. Both operands are [`Patches`]: rows of positions, those of the gradient without taps,
//! transposed into panels.

use super::Conv2d;
use super::direct::Direction;
use super::patches::{ITEM, Panel, Patches, Reads};
use super::weight::WeightGrad;
use crate::gemm::pack::{self, Ahead};
use crate::gemm::tile::{Single, Target, Tile};
use crate::isa::{Isa, Kernel};
use crate::simd::{MAX_WIDTH, Simd};

/// Outputs from which gathering and transposing what a strided kernel reads pays; where the stride
/// is one, `weight` transposes the gradient only, and reaches 205 to 215 GFLOP/s instead of 160 to 180.
const FEWEST_STRIDED: usize = 96;
/// Inputs and outputs from which it pays where there is one tap.
const FEWEST_POINTWISE: usize = 12;
/// Rows of a task, and columns, rounded to whole channels.
const ROWS: usize = 224;
const COLUMNS: usize = 192;
/// Positions that are packed at once, in whole vectors: with rows and columns 0.5 MB of a cache.
const DEPTH: usize = 192;
/// Tasks worth having when the weight does not divide into as many.
const TASKS: usize = 16;
/// Columns and rows of the largest register tile.
const TILE: usize = MAX_WIDTH;
/// f32 past rows and panels that whole vectors may write.
const PAD: usize = 64;

/// How a weight gradient divides into tasks; a function of its shape only.
#[derive(Clone, Copy)]
pub(super) struct ImplicitWeight {
    shape: Conv2d,
    /// Outputs of a task, and tasks over the outputs of a group.
    rows: usize,
    row_blocks: usize,
    /// Inputs of a task, and tasks over the inputs of a group.
    inputs: usize,
    column_blocks: usize,
    /// Partial gradients, and images of each.
    pub(super) parts: usize,
    images: usize,
}

impl ImplicitWeight {
    /// The division, where this way is the faster one.
    pub(super) fn of(shape: &Conv2d) -> Option<Self> {
        let shape = shape.flat();
        let taps = shape.taps();
        let (inputs, outputs) = (shape.group_inputs(), shape.group_outputs());
        let fewest = match (taps, shape.rows.stride * shape.cols.stride) {
            (1, _) => FEWEST_POINTWISE,
            (_, 1) => usize::MAX,
            _ => FEWEST_STRIDED,
        };
        let image = shape.in_channels * shape.rows.input * shape.cols.input;
        let image = image.max(shape.out_channels * shape.rows.output * shape.cols.output);
        // Vectors are listed by 32-bit offsets from a panel's first image.
        let near = image.checked_mul(DEPTH).is_some_and(|n| i32::try_from(n).is_ok());
        if outputs < fewest || inputs < FEWEST_POINTWISE || shape.batch == 0 || !near {
            return None;
        }
        let row_blocks = outputs.div_ceil(ROWS);
        let column_blocks = inputs.div_ceil((COLUMNS / taps).max(1));
        let most = TASKS.div_ceil(row_blocks * column_blocks * shape.groups);
        let images = shape.batch.div_ceil(most.min(shape.batch));
        Some(Self {
            shape,
            rows: outputs.div_ceil(row_blocks),
            row_blocks,
            inputs: inputs.div_ceil(column_blocks),
            column_blocks,
            parts: shape.batch.div_ceil(images),
            images,
        })
    }

    /// Tasks of [`ImplicitWeight::run`].
    pub(super) fn tasks(&self) -> usize {
        self.parts * self.shape.groups * self.row_blocks * self.column_blocks
    }

    /// f32 of scratch of one of them.
    pub(super) fn scratch(&self) -> usize {
        let columns = self.inputs * self.shape.taps();
        let panels = (self.rows + columns + 2 * TILE) * DEPTH;
        panels + columns.max(TILE) * DEPTH + PAD + DEPTH * ITEM * (self.shape.taps() + 1)
    }

    /// Computes some weights of a part.
    ///
    /// # Safety
    /// As for [`super::grad_weight`].
    pub(super) unsafe fn run(&self, isa: Isa, args: &WeightGrad, task: usize, scratch: *mut f32) {
        isa.run(Task { plan: self, args, task, scratch });
    }
}

struct Task<'a> {
    plan: &'a ImplicitWeight,
    args: &'a WeightGrad,
    task: usize,
    scratch: *mut f32,
}

impl Kernel for Task<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { plan, args, task, scratch } = self;
        let shape = &plan.shape;
        let (task, column_block) = (task / plan.column_blocks, task % plan.column_blocks);
        let (task, row_block) = (task / plan.row_blocks, task % plan.row_blocks);
        let (part, group) = (task / shape.groups, task % shape.groups);
        let (output, input) = (row_block * plan.rows, column_block * plan.inputs);
        if output >= shape.group_outputs() || input >= shape.group_inputs() {
            return;
        }
        let outputs = plan.rows.min(shape.group_outputs() - output);
        let inputs = plan.inputs.min(shape.group_inputs() - input);
        let columns = inputs * shape.taps();
        let at = part * shape.weight_len()
            + (group * shape.group_outputs() + output) * shape.group_inputs() * shape.taps()
            + input * shape.taps();
        // Both panels, the rows that become them, and the two lists.
        let b = scratch.wrapping_add(plan.rows.next_multiple_of(TILE) * DEPTH);
        let lines = b.wrapping_add((plan.inputs * shape.taps()).next_multiple_of(TILE) * DEPTH);
        let room = (plan.inputs * shape.taps()).max(TILE) * DEPTH + PAD;
        let items = lines.wrapping_add(room);
        let [dy, x] = operands(args, shape, group, items);
        let block = Block {
            dy: Lines { of: dy, channels: (output, outputs) },
            x: Lines { of: x, channels: (input, inputs) },
            a: scratch,
            b,
            lines,
            rows: outputs,
            columns,
            c: args.parts.wrapping_add(at),
            c_step: shape.group_inputs() * shape.taps(),
        };
        let positions = shape.rows.output * shape.cols.output;
        let first = part * plan.images * positions;
        let end = ((part + 1) * plan.images).min(shape.batch) * positions;
        for at in (first..end).step_by(DEPTH) {
            // SAFETY: `grad_weight`'s contract; these weights are this task's own.
            unsafe { block.add(s, [at, DEPTH.min(end - at)], at > first) };
        }
    }
}

/// The gradient and the input of one group as rows of positions.
#[inline(always)]
fn operands(args: &WeightGrad, shape: &Conv2d, group: usize, items: *mut f32) -> [Patches; 2] {
    let [source, size] =
        [[shape.rows.input, shape.cols.input], [shape.rows.output, shape.cols.output]];
    let (x_plane, y_plane) = (source[0] * source[1], size[0] * size[1]);
    let forward = |axis| Reads::of(axis, Direction::Forward, 0).unwrap_or(Reads::SELF);
    let dy = Patches {
        data: args.dy.wrapping_add(group * shape.group_outputs() * y_plane),
        end: args.dy.wrapping_add(shape.batch * shape.out_channels * y_plane),
        image: shape.out_channels * y_plane,
        source: [1, y_plane],
        size: [1, y_plane],
        reads: [Reads::SELF; 2],
        items,
    };
    let x = Patches {
        data: args.x.wrapping_add(group * shape.group_inputs() * x_plane),
        end: args.x.wrapping_add(shape.batch * shape.in_channels * x_plane),
        image: shape.in_channels * x_plane,
        source,
        size,
        reads: [forward(&shape.rows), forward(&shape.cols)],
        items: items.wrapping_add(DEPTH * ITEM),
    };
    [dy, x]
}

/// An operand: some channels of patches.
struct Lines {
    of: Patches,
    channels: (usize, usize),
}

impl Lines {
    /// Packs all its rows of some positions as panels of `width` rows.
    ///
    /// # Safety
    /// The positions must exist, and the buffers have room.
    #[inline(always)]
    unsafe fn pack<S: Simd>(
        &self,
        s: S,
        width: usize,
        [first, n]: [usize; 2],
        lines: *mut f32,
        to: *mut f32,
    ) {
        let (channel, channels) = self.channels;
        let rows = channels * self.of.taps();
        // SAFETY: the caller's contract.
        unsafe {
            if let Some(from) = self.of.in_place(first, n) {
                let plane = self.of.plane();
                let from = from.add(channel * plane);
                for row in (0..rows).step_by(width) {
                    let (from, to) = (from.add(row * plane), to.add(row * n));
                    let there = width.min(rows - row);
                    pack::transposed::<S, false>(s, from, plane, there, width, n, to);
                }
                return;
            }
            let step = n.next_multiple_of(S::LANES);
            let panel = Panel { column: first, columns: n, width: step, channels: (channel, 0) };
            let count = self.of.list::<S>(panel);
            // Whole channels whose rows fill panels, as many as there is room for.
            let panel = Panel { channels: (channel, channels), ..panel };
            if self.of.taps() > 1 {
                self.of.pack(s, count, panel, lines);
            }
            for row in (0..rows).step_by(width) {
                let there = width.min(rows - row);
                let from = if self.of.taps() > 1 {
                    lines.add(row * step)
                } else {
                    let some = Panel { channels: (channel + row, there), ..panel };
                    self.of.pack(s, count, some, lines);
                    lines
                };
                pack::transposed::<S, false>(s, from, step, there, width, n, to.add(row * n));
            }
        }
    }
}

/// Some weights of a group.
struct Block {
    dy: Lines,
    x: Lines,
    /// Panels of both, and rows of positions before they are transposed.
    a: *mut f32,
    b: *mut f32,
    lines: *mut f32,
    rows: usize,
    columns: usize,
    /// The weights.
    c: *mut f32,
    c_step: usize,
}

impl Block {
    /// Adds what some positions contribute, or begins with it.
    ///
    /// # Safety
    /// As for [`super::grad_weight`].
    #[inline(always)]
    unsafe fn add<S: Simd>(&self, s: S, positions: [usize; 2], accumulate: bool) {
        let width = S::GEMM_NV * S::LANES;
        let depth = positions[1];
        // SAFETY: the caller's contract; every tile covers the rows and columns that exist.
        unsafe {
            self.dy.pack(s, S::GEMM_MR, positions, self.lines, self.a);
            self.x.pack(s, width, positions, self.lines, self.b);
            for j in (0..self.columns).step_by(width) {
                for i in (0..self.rows).step_by(S::GEMM_MR) {
                    let to = Target {
                        c: self.c.add(i * self.c_step + j),
                        c_step: self.c_step,
                        rows: S::GEMM_MR.min(self.rows - i),
                        columns: width.min(self.columns - j),
                        accumulate,
                        bias: std::ptr::null(),
                    };
                    let (a, b) = (self.a.add(i * depth), self.b.add(j * depth));
                    Tile { depth, a, next: std::ptr::null(), b, to }.run(
                        s,
                        Single,
                        &mut Ahead::default(),
                    );
                }
            }
        }
    }
}
