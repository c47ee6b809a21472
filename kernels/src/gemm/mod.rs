//! The three matrix products of training: `C = op(A) op(B)`, with `B` in any weight format.
//!
//! | product | A | B | use |
//! |---|---|---|---|
//! | NT | `X` | `W^T`, `W` stored [n, k] | forward of a linear layer |
//! | NN | `dY` | `W`, the same stored blocks read as [k, n] | gradient toward the input |
//! | TN | `dY^T` | `X` | gradient toward the weight |
//!
//! One loop nest serves all: A is packed once into panels of [`Simd::GEMM_MR`] rows; each task
//! owns a rectangle of C, packs the B columns it needs in slabs of at most [`Simd::GEMM_DEPTH`] (decoding formats on
//! the way: no other copy of a quantized matrix is ever made), and runs the register tile over
//! them. The rectangles depend on the shape alone and each is summed in one fixed order, so the
//! bits are the same whoever runs which task. Products of few rows have a path of their own,
//! `narrow`, that packs nothing of B, those of few columns two, `slim` and `turned`, that pack nothing
//! of A.
//!
//! README's table has their speeds beside others'. In GFLOP/s of a Zen 5 thread with one row and a
//! weight in the caches (onnxruntime's MatMulNBits in turn with it, with int8 sums: 130 and 142):
//!
//! | m, n, k | Q4_0, int8 sums | Q4_1, int8 sums | Q4_0, f32 | Q4_1, f32 | f32 |
//! |---|---|---|---|---|---|
//! | 1, 1536, 576 | 218 | 201 | 89 | 78 | 35 |
//! | 1, 576, 1536 | 255 | 237 | 99 | 86 | 45 |
//!
//! Q4_K, whose blocks of 256 elements have 8 scales to unpack, reaches 160 with int8 sums and 83 in
//! f32 at 1, 1536, 2048.
//!
//! The result differs from an exact one by at most `(k + 2) * 2^-24 * sum |a||b|`; with
//! [`Precision::Bf16`] both operands are rounded to bfloat16 first (2^-9 each), with
//! [`Precision::Int8`] to codes (1/254 of the largest magnitude of each block of 32). A product of
//! few rows rounds A to codes where B stores them, and nothing else; in any precision, a block of B
//! whose [`Codes`](crate::quant::Codes) it multiplies counts `|d (q - center)| + |m|` as `|b|`.

pub mod bytes;
mod caches;
mod int8;
mod left;
mod narrow;
pub(crate) mod pack;
mod reference;
mod slim;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
mod turned;

pub use caches::Caches;
pub use narrow::takes as is_narrow;
pub use reference::reference;

use crate::isa::{Isa, Kernel};
use crate::quant::Format;
use crate::simd::{Lane, Panels, Simd};
use crate::unary::{Unary, apply_rows};
use caches::Cut;
use left::PackA;
use pack::{Ahead, Slab, Source, panel_rows, room, side_by_side};
use tile::{Fresh, Pair, Single, Strided, Target, Tile};

/// What the operands are rounded to before they are multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Nothing: f32 products.
    #[default]
    F32,
    /// bfloat16, with f32 sums.
    Bf16,
    /// int8 in blocks of 32 along the sums, with exact sums of a block and f32 beyond; a B stored
    /// [n, k] in a format that has [`Codes`](crate::quant::Codes) is multiplied as it is. For an A
    /// stored [m, k].
    Int8,
}

impl Precision {
    /// Whether there is a product with an A stored so.
    #[must_use]
    pub const fn takes(self, trans_a: bool) -> bool {
        !(trans_a && matches!(self, Self::Int8))
    }

    /// The same where it [takes](Precision::takes) an A stored so, else f32: what a gradient toward
    /// a weight is computed in, whose A is the transpose of the cotangent.
    #[must_use]
    pub const fn or_f32(self, trans_a: bool) -> Self {
        if self.takes(trans_a) { self } else { Self::F32 }
    }
}

/// A product: shapes, layouts, and how it is cut into tasks.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    isa: Isa,
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Whether A is stored [k, m].
    pub trans_a: bool,
    /// How B is stored.
    pub b_format: Format,
    /// Whether B is stored [n, k].
    pub trans_b: bool,
    /// See [`Precision`].
    pub precision: Precision,
    tile: TileSize,
    caches: Caches,
    /// Whether it takes the path of [`narrow`].
    narrow: bool,
    cut: Cut,
}

/// The register tile of a level.
#[derive(Clone, Copy, Debug)]
struct TileSize {
    rows: usize,
    columns: usize,
    lanes: usize,
    /// Most depth of a slab of f32 and of bfloat16.
    depth: [usize; 2],
    /// Bytes of a packed bfloat16.
    bf16: usize,
    /// [`Simd::HAS_PANELS`].
    panels: bool,
}

/// Asks for the size of the f32 register tile.
struct RegisterTile;

impl Kernel for RegisterTile {
    type Out = TileSize;
    const PANELS: bool = true;

    fn run<S: Simd>(self, _: S) -> TileSize {
        TileSize {
            rows: S::GEMM_MR,
            columns: S::GEMM_NV * S::LANES,
            lanes: S::LANES,
            depth: S::GEMM_DEPTH,
            bf16: if S::HAS_DOT_BF16 { 2 } else { 4 },
            panels: S::HAS_PANELS,
        }
    }
}

/// What happens to C.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue {
    /// Whether the product is added to what C holds.
    pub accumulate: bool,
    /// `n` values added to each row, or null.
    pub bias: *const f32,
    /// What is done to each element in the end. It runs over a task's part of C while that is near:
    /// inside the register tiles each function would be compiled once for every tile.
    pub activation: Option<Unary>,
}

// SAFETY: a read-only pointer under the contract of `Gemm::run`.
unsafe impl Send for Epilogue {}
// SAFETY: as above.
unsafe impl Sync for Epilogue {}

impl Epilogue {
    /// C becomes the product.
    pub const NONE: Self = Self { accumulate: false, bias: std::ptr::null(), activation: None };
}

impl Gemm {
    /// The product `op(A)[m, k] op(B)[k, n]` of an f32 A with a B in `b_format`, in f32.
    #[must_use]
    pub fn new(
        isa: Isa,
        [m, n, k]: [usize; 3],
        trans_a: bool,
        b_format: Format,
        trans_b: bool,
    ) -> Self {
        let gemm = Self {
            isa,
            m,
            n,
            k,
            trans_a,
            b_format,
            trans_b,
            precision: Precision::F32,
            tile: isa.run(RegisterTile),
            caches: Caches::default(),
            narrow: narrow::takes(m, trans_b),
            cut: Cut::default(),
        };
        gemm.cut()
    }

    /// The same product in another precision.
    ///
    /// # Panics
    /// Where [`Precision::takes`] says no.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        assert!(precision.takes(self.trans_a), "no product of {self:?} in {precision:?}");
        let tile = if precision == Precision::Int8 {
            self.isa.run(int8::RegisterTile)
        } else {
            self.isa.run(RegisterTile)
        };
        Self { precision, tile, ..self }.cut()
    }

    /// The same product cut for other caches.
    #[must_use]
    pub fn with_caches(self, caches: Caches) -> Self {
        Self { caches, ..self }.cut()
    }

    /// The same product cut anew.
    fn cut(self) -> Self {
        Self { cut: Cut::of(&self), ..self }
    }

    /// f32 of the packed A that all tasks share.
    #[must_use]
    pub fn shared_len(&self) -> usize {
        if self.narrow {
            return narrow::shared_len(self);
        }
        if slim::takes(self) {
            return 0;
        }
        let rows = self.m.next_multiple_of(self.tile.rows);
        let int8 = self.precision == Precision::Int8;
        PAD + rows * if int8 { int8::row_len(self.k) } else { room(self.k) }
    }

    /// f32 of scratch that a running task needs for itself.
    #[must_use]
    pub fn scratch_len(&self) -> usize {
        if self.narrow {
            return narrow::scratch_len(self);
        }
        if slim::takes(self) {
            return slim::scratch_len(self);
        }
        if self.precision == Precision::Int8 {
            return int8::scratch_len(self);
        }
        let depth = room(self.cut.slab);
        let panels = self.cut.columns.next_multiple_of(self.tile.columns) * depth;
        // Rows that are decoded before they are packed.
        let decoded = if self.b_format == Format::F32 {
            0
        } else if self.trans_b {
            self.tile.columns * depth
        } else {
            pack::DECODED * self.cut.columns.next_multiple_of(self.b_format.block_elems())
        };
        panels + decoded + PAD
    }

    /// Tasks that pack A: none for a product that reads it where it lies.
    #[must_use]
    pub fn pack_tasks(&self) -> usize {
        if slim::takes(self) { 0 } else { self.m.div_ceil(self.pack_rows()) }
    }

    /// What [`Gemm::run`] takes as A: what is packed in `shared`, or A itself.
    #[must_use]
    pub fn left(&self, a: *const f32, shared: *const f32) -> *const f32 {
        if slim::takes(self) { a } else { shared }
    }

    /// Packs a part of A into the shared buffer.
    ///
    /// # Safety
    /// `a` must be valid for `m * k` f32, `shared` for [`Gemm::shared_len`]; `task` must be below
    /// [`Gemm::pack_tasks`], and no other call may have the same task at the same time.
    pub unsafe fn pack(&self, task: usize, a: *const f32, shared: *mut f32) {
        let first = task * self.pack_rows();
        let rows = (self.m - first).min(self.pack_rows());
        let part = PackA { gemm: self, first, rows, a, shared };
        match self.precision {
            // SAFETY: the caller's contract.
            _ if self.narrow => unsafe { narrow::pack(part) },
            Precision::Int8 => self.isa.run(int8::Quantize(part)),
            _ => self.isa.run(part),
        }
    }

    /// Tasks that compute C; each needs the whole of A packed.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.cut.tasks(self.m)
    }

    /// Computes a part of C, stored [m, n] contiguously.
    ///
    /// # Safety
    /// `left` must be what [`Gemm::left`] says, with all of A packed where it says `shared`; `b` must
    /// be valid for the stored B and aligned to [`Format::align`]; `c` must be valid for `m * n` f32,
    /// the bias for `n`, `scratch` for [`Gemm::scratch_len`] and used by no one else meanwhile; `task`
    /// must be below [`Gemm::tasks`], and no other call may have the same task at the same time.
    pub unsafe fn run(
        &self,
        task: usize,
        left: *const f32,
        b: *const u8,
        c: *mut f32,
        epilogue: Epilogue,
        scratch: *mut f32,
    ) {
        let part = Run { gemm: self, task, shared: left, b, c, epilogue, scratch };
        match self.precision {
            // SAFETY: the caller's contract.
            _ if self.narrow => unsafe { narrow::run(part) },
            _ if slim::takes(self) => slim::run(part),
            Precision::Int8 => self.isa.run(int8::Multiply(part)),
            _ => self.isa.run(part),
        }
        if let Some(op) = epilogue.activation {
            let ([row, rows], [column, columns]) = part.rectangle();
            let c = c.wrapping_add(row * self.n + column);
            // SAFETY: the task's own part of C.
            unsafe { apply_rows(self.isa, op, c, self.n, [rows, columns]) };
        }
    }

    /// Bytes of a packed element.
    fn element(&self) -> usize {
        match self.precision {
            Precision::F32 => size_of::<f32>(),
            Precision::Bf16 => self.tile.bf16,
            Precision::Int8 => 1,
        }
    }

    /// Whether panels hold pairs of bfloat16 on the level of `S`.
    #[inline(always)]
    fn pairs<S: Simd>(&self) -> bool {
        S::HAS_DOT_BF16 && self.precision == Precision::Bf16
    }

    /// Rows of A in a task that packs them: few, so that 256 rows are work for several threads; more
    /// where A is stored [k, m], of whose rows each task reads a stretch.
    fn pack_rows(&self) -> usize {
        if self.narrow { self.m } else { self.tile.rows * if self.trans_a { 8 } else { 2 } }
    }
}

/// Bytes of the smallest pages.
const PAGE: usize = 4096;

/// f32 that vector stores may write past the end of a packed panel.
const PAD: usize = 64;

#[derive(Clone, Copy)]
struct Run<'a> {
    gemm: &'a Gemm,
    task: usize,
    shared: *const f32,
    b: *const u8,
    c: *mut f32,
    epilogue: Epilogue,
    scratch: *mut f32,
}

impl Kernel for Run<'_> {
    type Out = ();
    const BF16: bool = true;
    const PANELS: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let g = self.gemm;
        let ([row, rows], [column, columns]) = self.rectangle();
        let source = self.source();
        let decoded = columns.next_multiple_of(g.tile.columns) * room(g.cut.slab) + PAD / 2;
        let mut depth = 0;
        // One turn even where k is 0: C is then the bias.
        while depth < g.k.max(1) {
            let slab = (g.k - depth).min(g.cut.slab);
            let mut ahead = self.ahead::<S>(&source, depth + slab);
            let part = Slab { from: depth, depth: slab, column, columns };
            let fresh = self.fresh::<S>(rows, part);
            // SAFETY: the caller's contract; the slab and the columns lie inside B.
            unsafe {
                let rows_of_b = self.scratch.add(decoded);
                let part = Slab { column: column + fresh, columns: columns - fresh, ..part };
                let panels = self.scratch.add(fresh * room(slab));
                if g.pairs::<S>() {
                    source.pack::<S, true>(s, part, panels, rows_of_b);
                } else {
                    source.pack::<S, false>(s, part, panels, rows_of_b);
                }
                if g.precision == Precision::Bf16 {
                    let width = S::GEMM_NV * S::LANES;
                    for j in (fresh..columns).step_by(width) {
                        let panel = self.scratch.add(j * room(slab));
                        if g.pairs::<S>() {
                            side_by_side(s, panel, width, panel_rows(true, slab));
                        } else {
                            pack::round_bf16(s, panel, width * slab);
                        }
                    }
                }
            }
            let mut fresh = fresh;
            for first in (row..row + rows).step_by(g.cut.block_rows) {
                let some = (row + rows - first).min(g.cut.block_rows);
                let part = Slab { column, columns, ..part };
                // SAFETY: as above; the rectangle of C is this task's own.
                unsafe { self.block(s, part, [first, some], fresh, &mut ahead) };
                fresh = 0;
            }
            depth += slab.max(1);
        }
    }
}

impl Run<'_> {
    /// The operand B.
    #[inline(always)]
    fn source(&self) -> Source {
        let &Gemm { isa, b_format: format, trans_b: trans, k, n, .. } = self.gemm;
        Source { isa, data: self.b, format, trans, k, n }
    }

    /// First row and rows, first column and columns of the task.
    #[inline(always)]
    fn rectangle(&self) -> ([usize; 2], [usize; 2]) {
        let g = self.gemm;
        g.cut.rectangle(self.task, [g.m, g.n])
    }

    /// The part of B that is packed after the slab that ends at `depth`: the next slab, or the first
    /// one of the next task, which with more threads another may run.
    #[inline(always)]
    fn ahead<S: Simd>(&self, source: &Source, depth: usize) -> Ahead {
        let g = self.gemm;
        let (task, from) = if depth < g.k { (self.task, depth) } else { (self.task + 1, 0) };
        if task >= g.tasks() {
            return Ahead::default();
        }
        let ([_, rows], [column, columns]) = Run { task, ..*self }.rectangle();
        let slab = Slab { from, depth: (g.k - from).min(g.cut.slab), column, columns };
        let tiles = rows.div_ceil(g.tile.rows) * columns.div_ceil(g.tile.columns);
        let looks = panel_rows(g.pairs::<S>(), slab.depth).div_ceil(tile::LOOK);
        source.ahead(slab, tiles * looks)
    }

    /// The tile of C at a row and column; what lies above `depth` is summed already.
    #[inline(always)]
    fn target(&self, depth: usize, row: usize, [column, columns]: [usize; 2]) -> Target {
        let (g, bias) = (self.gemm, self.epilogue.bias);
        Target {
            c: self.c.wrapping_add(row * g.n + column),
            c_step: g.n,
            rows: (g.m - row).min(g.tile.rows),
            columns: columns.min(g.tile.columns),
            accumulate: depth > 0 || self.epilogue.accumulate,
            bias: if depth > 0 || bias.is_null() {
                std::ptr::null()
            } else {
                bias.wrapping_add(column)
            },
        }
    }

    /// Columns of a slab that the first tile of each packs while it multiplies or, being the only one,
    /// reads where they lie: whole tiles of a B whose rows run along n as those of the panels do.
    /// Products of 512 or 576 columns are 1 to 4 % faster, in bfloat16 1 to 3 %. Not where a row is
    /// longer than a page: each step then waits for a page's address, and with 49152 columns in
    /// bfloat16 a product is 6 % slower.
    #[inline(always)]
    fn fresh<S: Simd>(&self, rows: usize, Slab { depth, columns, .. }: Slab) -> usize {
        let g = self.gemm;
        let stored = g.b_format == Format::F32 && !g.trans_b && !S::HAS_PANELS;
        let near = g.n * size_of::<f32>() < PAGE;
        let laid = match g.precision {
            Precision::F32 => true,
            _ => g.pairs::<S>() && S::STEP_ROWS == 1 && depth.is_multiple_of(2),
        };
        // The rows of one tile take B as it lies.
        let enough = rows >= S::GEMM_MR || g.precision == Precision::F32 && g.m <= S::GEMM_MR;
        if stored && near && laid && enough { columns - columns % g.tile.columns } else { 0 }
    }

    /// All tiles of some rows and a slab's columns, the first of which are yet to be packed.
    #[inline(always)]
    unsafe fn block<S: Simd>(
        &self,
        s: S,
        Slab { from: depth, depth: slab, column, columns }: Slab,
        [row, rows]: [usize; 2],
        fresh: usize,
        ahead: &mut Ahead,
    ) {
        let g = self.gemm;
        let width = S::GEMM_NV * S::LANES;
        let paired = g.pairs::<S>();
        let a = self.shared.wrapping_add(panel_rows(paired, depth) * S::GEMM_MR);
        if S::HAS_PANELS {
            let Target { c, c_step, accumulate, bias, .. } =
                self.target(depth, row, [column, columns]);
            let panels = Panels {
                a: a.wrapping_add(row * room(g.k)),
                a_step: S::GEMM_MR * room(g.k),
                b: self.scratch,
                b_step: width * room(slab),
                depth: panel_rows(paired, slab),
                c,
                c_step,
                rows,
                columns,
                bias,
                accumulate,
            };
            let lane = if paired { Lane::Bf16 } else { Lane::F32 };
            // SAFETY: the panels are packed and the block of C is this task's own.
            return unsafe { s.multiply_panels(lane, &panels) };
        }
        // Where the task's rows of A are more than L2 holds, each block of them comes from afar.
        let far = g.cut.rows.min(g.m) * g.k * g.element() > g.caches.l2;
        for j in (0..columns).step_by(width) {
            for i in (row..row + rows).step_by(S::GEMM_MR) {
                let panel = |i: usize| a.wrapping_add(i * room(g.k));
                let tile = Tile {
                    depth: panel_rows(paired, slab),
                    // Row `i` and column `j` begin panels.
                    a: panel(i),
                    next: if far && j == 0 { panel(i + S::GEMM_MR) } else { std::ptr::null() },
                    b: self.scratch.wrapping_add(j * room(slab)),
                    to: self.target(depth, i, [column + j, columns - j]),
                };
                let (b, stride) =
                    (self.b.cast::<f32>().wrapping_add(depth * g.n + column + j), g.n);
                // SAFETY: the panels are packed, or B has rows for them, and the tile of C is this
                // task's own.
                unsafe {
                    match (i == row && j < fresh, paired) {
                        (false, false) => tile.run(s, Single, ahead),
                        (false, true) => tile.run(s, Pair, ahead),
                        (true, true) => tile.whole(s, Fresh::<true> { row: b, stride }, ahead),
                        _ if g.m <= S::GEMM_MR => tile.whole(s, Strided { row: b, stride }, ahead),
                        _ => tile.whole(s, Fresh::<false> { row: b, stride }, ahead),
                    }
                }
            }
        }
    }
}
