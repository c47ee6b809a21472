//! Convolution and its input gradient as gemm's product, where channels fill register tiles.
//!
//! Rows are destination channels, columns the positions of all images, without halo or padding; the
//! right operand, what a patch matrix would hold, is packed panel by panel straight from the images
//! ([`Patches`]). The input gradient of a strided convolution is one such product for each phase of
//! its destination. A pointwise convolution of stride one sees an image as one line.

use super::Conv2d;
use super::axis::Axis;
use super::direct::{Direct, Direction, Side};
use super::patches::{ITEM, Panel, Patches, Reads};
use crate::gemm::pack::{self, Ahead, Rows};
use crate::gemm::tile::{LOOK, Single, Target, Tile};
use crate::isa::{Isa, Kernel};
use crate::simd::{MAX_WIDTH, Simd};

/// Channels from which panels pay: packing one costs some 5 cycles a step, each tile of 14 rows that
/// reads it 14, and the band of `direct` is packed once for all taps.
const FEWEST_ROWS: usize = 96;
/// The same where the band holds but some of its positions, and where there is one tap and nothing
/// to share.
const FEWEST_STRIDED: usize = 48;
const FEWEST_POINTWISE: usize = 12;
/// Columns of a task: whole tiles of every level.
const COLUMNS: usize = 96;
/// Depth of a slab, rounded to whole channels; with [`COLUMNS`] a fifth of a cache of 1 MiB.
const DEPTH: usize = 512;
/// Tasks worth having, and rows of a task for which packing its columns pays.
const TASKS: usize = 8;
const TASK_ROWS: usize = 56;
/// Rows of weights that a task packs.
const PACK_ROWS: usize = 112;
/// Rows and columns of the largest register tile.
const TILE_ROWS: usize = 14;
const TILE_COLUMNS: usize = MAX_WIDTH;
/// f32 past the panels that whole vectors may write.
const PAD: usize = 64;

/// How a convolution divides into tasks; a function of its shape only.
#[derive(Clone, Copy)]
pub(super) struct Implicit {
    shape: Conv2d,
    direction: Direction,
    src: Side,
    dst: Side,
    /// Tasks over the columns of the largest phase, and over the rows.
    blocks: usize,
    parts: usize,
    /// Source channels of a slab.
    chunk: usize,
}

impl Implicit {
    /// The division, where this way is the faster one.
    pub(super) fn of(shape: &Conv2d, direction: Direction) -> Option<Self> {
        let shape = shape.flat();
        let (src, dst) = shape.sides(direction);
        let taps = shape.taps();
        let strided = shape.rows.stride * shape.cols.stride > 1;
        let fewest = match (direction, taps) {
            (_, 1) => FEWEST_POINTWISE,
            // Phases scatter their results: 107 GFLOP/s instead of 171.
            (Direction::InputGrad, _) if strided => usize::MAX,
            _ if strided => FEWEST_STRIDED,
            _ => FEWEST_ROWS,
        };
        // Vectors are listed by 32-bit offsets from a panel's first image.
        let span = TILE_COLUMNS.saturating_mul(src.len()).saturating_mul(shape.groups);
        if dst.channels < fewest || src.channels < FEWEST_POINTWISE || span > i32::MAX as usize {
            return None;
        }
        let blocks = (shape.batch * dst.rows.len(0) * dst.cols.len(0)).div_ceil(COLUMNS);
        let most = (DEPTH / taps).clamp(1, src.channels);
        Some(Self {
            shape,
            direction,
            src,
            dst,
            blocks,
            parts: (TASKS / blocks.max(1)).min(dst.channels / TASK_ROWS).max(1),
            chunk: src.channels.div_ceil(src.channels.div_ceil(most)),
        })
    }

    /// Tasks of [`Implicit::pack`].
    pub(super) fn pack_tasks(&self) -> usize {
        self.shape.groups * self.pack_blocks()
    }

    /// f32 of the packed weight.
    pub(super) fn packed_len(&self) -> usize {
        self.shape.groups * self.group_len()
    }

    /// Tasks of [`Implicit::run`].
    pub(super) fn tasks(&self) -> usize {
        let [rows, cols] = self.phases();
        self.shape.groups * rows * cols * self.blocks * self.parts
    }

    /// f32 of scratch of one of them.
    pub(super) fn scratch(&self) -> usize {
        self.panels_len() + self.shape.taps() * TILE_COLUMNS * ITEM
    }

    /// Packs some rows of the weight of a group.
    ///
    /// # Safety
    /// As for [`super::pack_weight`].
    pub(super) unsafe fn pack(&self, isa: Isa, args: &Direct, task: usize) {
        isa.run(Pack { plan: self, args, task });
    }

    /// Computes some columns of a phase.
    ///
    /// # Safety
    /// As for [`super::convolve`].
    pub(super) unsafe fn run(&self, isa: Isa, args: &Direct, task: usize, scratch: *mut f32) {
        isa.run(Task { plan: self, args, task, scratch });
    }

    fn pack_blocks(&self) -> usize {
        self.dst.channels.div_ceil(PACK_ROWS)
    }

    /// f32 of a task's panels.
    fn panels_len(&self) -> usize {
        COLUMNS * self.chunk * self.shape.taps() + PAD
    }

    /// f32 of the panels of one group's weights, all phases.
    fn group_len(&self) -> usize {
        (self.dst.channels + TILE_ROWS) * self.src.channels * self.shape.taps()
    }

    /// Phases of the destination; a stride beyond the size leaves phases without a position.
    fn phases(&self) -> [usize; 2] {
        [self.dst.rows, self.dst.cols].map(|line| line.phases.min(line.size))
    }

    /// What a phase of the destination reads; `None` where no tap reaches it.
    fn reads(&self, [y, x]: [usize; 2]) -> Option<[Reads; 2]> {
        let rows = Reads::of(&self.shape.rows, self.direction, y)?;
        Some([rows, Reads::of(&self.shape.cols, self.direction, x)?])
    }

    /// Phase number `phase`, and the taps of all before it.
    fn phase(&self, phase: usize) -> ([usize; 2], usize) {
        let [_, cols] = self.phases();
        let place = |phase: usize| [phase / cols, phase % cols];
        let taps = |phase| {
            let reads = self.reads(place(phase));
            reads.map_or(0, |[y, x]| y.taps.count * x.taps.count)
        };
        (place(phase), (0..phase).map(taps).sum())
    }
}

impl Conv2d {
    /// The same convolution, with an image as one line where each position reads itself only.
    pub(super) fn flat(&self) -> Self {
        let itself = |axis: &Axis| axis.kernel == 1 && axis.stride == 1 && axis.pad == 0;
        let same = self.rows.input == self.rows.output && self.cols.input == self.cols.output;
        if !(same && itself(&self.rows) && itself(&self.cols)) {
            return *self;
        }
        let line = |n| Axis { input: n, output: n, kernel: 1, stride: 1, dilation: 1, pad: 0 };
        Self { rows: line(1), cols: line(self.rows.input * self.cols.input), ..*self }
    }
}

/// Register tiles of rows from `part` of `parts`.
#[inline(always)]
fn tiles<S: Simd>(rows: usize, part: usize, parts: usize) -> std::ops::Range<usize> {
    let tiles = rows.div_ceil(S::GEMM_MR);
    part * tiles / parts..(part + 1) * tiles / parts
}

struct Pack<'a> {
    plan: &'a Implicit,
    args: &'a Direct,
    task: usize,
}

impl Kernel for Pack<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let plan = self.plan;
        let (group, block) = (self.task / plan.pack_blocks(), self.task % plan.pack_blocks());
        let rows = plan.dst.channels;
        let to = self.args.packed.wrapping_add(group * plan.group_len());
        let [y_phases, x_phases] = plan.phases();
        for phase in 0..y_phases * x_phases {
            let (place, before) = plan.phase(phase);
            let Some(reads) = plan.reads(place) else { continue };
            let depth = plan.src.channels * reads[0].taps.count * reads[1].taps.count;
            let all = rows.next_multiple_of(S::GEMM_MR);
            let to = to.wrapping_add(before * plan.src.channels * all);
            for tile in tiles::<S>(rows, block, plan.pack_blocks()) {
                let first = tile * S::GEMM_MR;
                let (there, to) = (S::GEMM_MR.min(rows - first), to.wrapping_add(first * depth));
                // SAFETY: `pack_weight`'s contract; these rows exist and their panel is this task's.
                unsafe { self.panel(s, group, [first, there], &reads, to) };
            }
        }
    }
}

impl Pack<'_> {
    /// Packs `[channels][taps][tile rows]` of some rows, zero past them.
    ///
    /// # Safety
    /// The rows must exist, and the panel have room.
    #[inline(always)]
    unsafe fn panel<S: Simd>(
        &self,
        s: S,
        group: usize,
        [first, there]: [usize; 2],
        [y, x]: &[Reads; 2],
        mut to: *mut f32,
    ) {
        let (plan, shape) = (self.plan, &self.plan.shape);
        let [row_step, channel_step] = shape.weight_steps(plan.direction);
        let from = self.args.weight.wrapping_add(shape.weight_at(group) + first * row_step);
        let channels = plan.src.channels;
        // SAFETY: the caller's contract; the taps are the kernel's.
        unsafe {
            if plan.direction == Direction::Forward {
                let depth = channels * shape.taps();
                pack::transposed::<S, false>(s, from, depth, there, S::GEMM_MR, depth, to);
                return;
            }
            if shape.taps() == 1 {
                let rows =
                    Rows { src: from, stride: channel_step, columns: there, depth: channels };
                pack::straight::<S, false>(s, rows, S::GEMM_MR, to, S::GEMM_MR * channels);
                return;
            }
            for channel in 0..channels {
                for tap in 0..y.taps.count * x.taps.count {
                    let (i, j) = (tap / x.taps.count, tap % x.taps.count);
                    let row = (y.taps.first + i * y.taps.step) * shape.cols.kernel;
                    let tap = row + x.taps.first + j * x.taps.step;
                    let from = from.add(channel * channel_step + tap);
                    for r in 0..S::GEMM_MR {
                        *to.add(r) = if r < there { *from.add(r * row_step) } else { 0.0 };
                    }
                    to = to.add(S::GEMM_MR);
                }
            }
        }
    }
}

struct Task<'a> {
    plan: &'a Implicit,
    args: &'a Direct,
    task: usize,
    scratch: *mut f32,
}

impl Kernel for Task<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (plan, args) = (self.plan, self.args);
        let (task, part) = (self.task / plan.parts, self.task % plan.parts);
        let (task, block) = (task / plan.blocks, task % plan.blocks);
        let [y_phases, x_phases] = plan.phases();
        let (group, phase) = (task / (y_phases * x_phases), task % (y_phases * x_phases));
        let (place, before) = plan.phase(phase);
        let size = [plan.dst.rows.len(place[0]), plan.dst.cols.len(place[1])];
        let all = plan.shape.batch * size[0] * size[1];
        let first = block * COLUMNS;
        if first >= all {
            return;
        }
        let rows = plan.dst.channels.next_multiple_of(S::GEMM_MR);
        let weights = group * plan.group_len() + before * plan.src.channels * rows;
        let product = Product {
            plan,
            bias: args.bias.map(|bias| bias.wrapping_add(group * plan.dst.channels)),
            weights: args.packed.wrapping_add(weights),
            panels: self.scratch,
            tiles: tiles::<S>(plan.dst.channels, part, plan.parts),
            columns: [first, COLUMNS.min(all - first)],
            dst: args.dst.wrapping_add(group * plan.dst.len()),
            phase: place,
            size,
        };
        let images = plan.shape.batch * plan.shape.groups;
        let patches = plan.reads(place).map(|reads| Patches {
            data: args.src.wrapping_add(group * plan.src.len()),
            end: args.src.wrapping_add(images * plan.src.len()),
            image: plan.shape.groups * plan.src.len(),
            source: [plan.src.rows.size, plan.src.cols.size],
            size,
            reads,
            items: self.scratch.wrapping_add(plan.panels_len()),
        });
        // SAFETY: `convolve`'s contract; these rows and columns are this task's own.
        unsafe {
            if patches.is_none() || product.bias.is_some() {
                product.fill::<S>();
            }
            if let Some(patches) = patches {
                product.run(s, &patches);
            }
        }
    }
}

/// Places of consecutive columns in the destination: the first, how many, and the step between them.
type Run = (usize, usize, usize);

/// Some rows and columns of a phase.
struct Product<'a> {
    plan: &'a Implicit,
    bias: Option<*const f32>,
    /// The phase's panels of weights, and where those of patches go.
    weights: *const f32,
    panels: *mut f32,
    /// Register tiles of rows.
    tiles: std::ops::Range<usize>,
    /// First column, and how many.
    columns: [usize; 2],
    /// The group's first channel in the first image.
    dst: *mut f32,
    /// The phase, and its rows and columns.
    phase: [usize; 2],
    size: [usize; 2],
}

impl Product<'_> {
    /// Where a column and those that follow it in steps lie.
    #[inline(always)]
    fn place(&self, column: usize) -> Run {
        let ([rows, cols], dst) = (self.size, &self.plan.dst);
        let (image, at) = (column / (rows * cols), column % (rows * cols));
        let image = image * self.plan.shape.groups * dst.len();
        if dst.rows.phases * dst.cols.phases == 1 {
            return (image + at, rows * cols - at, 1);
        }
        let (y, x) = (at / cols, at % cols);
        let row = (y * dst.rows.phases + self.phase[0]) * dst.cols.size;
        (image + row + x * dst.cols.phases + self.phase[1], cols - x, dst.cols.phases)
    }

    /// f32 from one row to the next.
    #[inline(always)]
    fn plane(&self) -> usize {
        self.plan.dst.rows.size * self.plan.dst.cols.size
    }

    /// Rows of a register tile.
    #[inline(always)]
    fn rows<S: Simd>(&self, tile: usize) -> usize {
        S::GEMM_MR.min(self.plan.dst.channels - tile * S::GEMM_MR)
    }

    /// Writes the bias, or zeros.
    ///
    /// # Safety
    /// As for [`super::convolve`].
    #[inline(always)]
    unsafe fn fill<S: Simd>(&self) {
        let first = self.tiles.start * S::GEMM_MR;
        let end = (self.tiles.end * S::GEMM_MR).min(self.plan.dst.channels);
        let [column, columns] = self.columns;
        let mut done = 0;
        while done < columns {
            let (at, n, step) = self.place(column + done);
            let n = n.min(columns - done);
            for row in first..end {
                // SAFETY: an existing row and its columns.
                unsafe {
                    let bias = self.bias.map_or(0.0, |bias| *bias.add(row));
                    let to = self.dst.add(row * self.plane() + at);
                    if step == 1 {
                        std::slice::from_raw_parts_mut(to, n).fill(bias);
                    } else {
                        (0..n).for_each(|i| *to.add(i * step) = bias);
                    }
                }
            }
            done += n;
        }
    }

    /// Sums all slabs.
    ///
    /// # Safety
    /// As for [`super::convolve`].
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, s: S, patches: &Patches) {
        let width = S::GEMM_NV * S::LANES;
        let [column, columns] = self.columns;
        let channels = self.plan.src.channels;
        for first in (0..channels).step_by(self.plan.chunk) {
            let some = self.plan.chunk.min(channels - first);
            let depth = some * patches.taps();
            for j in (0..columns).step_by(width) {
                let panel = Panel {
                    column: column + j,
                    columns: width.min(columns - j),
                    width,
                    channels: (first, some),
                };
                // SAFETY: the caller's contract; the scratch has room for the slab.
                unsafe {
                    let count = patches.list::<S>(panel);
                    patches.pack(s, count, panel, self.panels.add(j * depth));
                }
            }
            let mut ahead = self.ahead(patches, first + some, width, depth);
            let add = first > 0 || self.bias.is_some();
            for tile in self.tiles.clone() {
                let at = tile * channels + first;
                let a = self.weights.wrapping_add(at * patches.taps() * S::GEMM_MR);
                for j in (0..columns).step_by(width) {
                    let b = self.panels.wrapping_add(j * depth);
                    // SAFETY: as above; both panels are packed.
                    unsafe { self.tile(s, [tile, j], [a, b], depth, add, &mut ahead) };
                }
            }
        }
    }

    /// What is packed after the slab that ends before channel `next`: the next slab, or the first
    /// one of the columns that follow, which with more threads another may compute.
    #[inline(always)]
    fn ahead(&self, patches: &Patches, next: usize, width: usize, depth: usize) -> Ahead {
        let channels = self.plan.src.channels;
        let [column, columns] = self.columns;
        let all = self.plan.shape.batch * self.size[0] * self.size[1];
        let (column, channel) =
            if next < channels { (column, next) } else { (column + COLUMNS, 0) };
        if column >= all {
            return Ahead::default();
        }
        let (from, len) = patches.span(column, columns.min(all - column));
        let from = from.wrapping_add(channel * patches.plane());
        let rows = self.plan.chunk.min(channels - channel);
        let looks = self.tiles.len() * columns.div_ceil(width) * depth.div_ceil(LOOK);
        let [bytes, stride] = [len, patches.plane()].map(|n| n * size_of::<f32>());
        Ahead::over(from.addr(), bytes, stride, rows, looks)
    }

    /// One register tile.
    ///
    /// # Safety
    /// As for [`super::convolve`], both panels being packed.
    #[inline(always)]
    unsafe fn tile<S: Simd>(
        &self,
        s: S,
        [tile, j]: [usize; 2],
        [a, b]: [*const f32; 2],
        depth: usize,
        add: bool,
        ahead: &mut Ahead,
    ) {
        let width = S::GEMM_NV * S::LANES;
        let (rows, columns) = (self.rows::<S>(tile), width.min(self.columns[1] - j));
        let c = self.dst.wrapping_add(tile * S::GEMM_MR * self.plane());
        let (at, there, step) = self.place(self.columns[0] + j);
        // SAFETY: the caller's contract.
        unsafe {
            if step == 1 && there >= columns {
                let to = Target {
                    c: c.add(at),
                    c_step: self.plane(),
                    rows,
                    columns,
                    accumulate: add,
                    bias: std::ptr::null(),
                };
                Tile { depth, a, next: std::ptr::null(), b, to }.run(s, Single, ahead);
                return;
            }
            let mut sums = Sums([0.0; TILE_ROWS * TILE_COLUMNS]);
            let to = Target {
                c: sums.0.as_mut_ptr(),
                c_step: width,
                rows,
                columns: columns.next_multiple_of(S::LANES),
                accumulate: false,
                bias: std::ptr::null(),
            };
            Tile { depth, a, next: std::ptr::null(), b, to }.run(s, Single, ahead);
            self.spread::<S>(&sums, [rows, columns], j, c, add);
        }
    }

    /// Moves the sums of a tile to their places, which lie apart.
    ///
    /// # Safety
    /// As for [`super::convolve`].
    #[inline(always)]
    unsafe fn spread<S: Simd>(
        &self,
        sums: &Sums,
        [rows, columns]: [usize; 2],
        j: usize,
        c: *mut f32,
        add: bool,
    ) {
        let mut done = 0;
        while done < columns {
            let (at, n, step) = self.place(self.columns[0] + j + done);
            let n = n.min(columns - done);
            for row in 0..rows {
                let from = &sums.0[row * S::GEMM_NV * S::LANES + done..][..n];
                let to = c.wrapping_add(row * self.plane() + at);
                for (i, &sum) in from.iter().enumerate() {
                    // SAFETY: an existing row and its columns.
                    unsafe {
                        let to = to.add(i * step);
                        *to = if add { *to + sum } else { sum };
                    }
                }
            }
            done += n;
        }
    }
}

/// A register tile in memory.
#[repr(align(64))]
struct Sums([f32; TILE_ROWS * TILE_COLUMNS]);
