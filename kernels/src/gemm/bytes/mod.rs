//! Products of bytes with bytes: operands that are int8 already, with one scale a tensor, a row of
//! A or a column of B.
//!
//! ```text
//! c[i, j] = (sum over k of a[i, k] b[j, k]) * scale_a[i] * scale_b[j] + bias[j]
//! ```
//!
//! The sum is exact; it is rounded to f32, multiplied by the one scale and then the other, and the
//! bias is added, each rounded once: the same bits on every level, and those of [`reference`].
//!
//! Codes are any bytes, -128 too. Where a level multiplies unsigned bytes with signed ones, B is
//! packed with 128 added and the sums of a row of A begin at -128 times the sum of its codes. Both
//! operands are packed in lanes of four codes along k: panels of A whole and once, B a slab of a
//! task's columns at a time.
//!
//! GOP/s of one Zen 5 thread, in minutes when its instruction reached 990 to 1020 (oneDNN of the
//! same minutes): 880 to 900 at 1024 cubed (900 to 940), 890 to 930 at m 256, n 576, k 1536 (900 to
//! 910), 690 to 780 at m 256, n 49152, k 576 (340).
//!
//! A product with blocks' scales along k is [`Precision::Int8`](super::Precision::Int8)'s.

mod pack;
#[cfg(test)]
mod tests;
mod tile;

use super::caches::Cut;
use super::{Caches, PAD};
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;
use pack::{Columns, Part};
use tile::Block;

/// Most bytes of a slab of B along k: a lane holds four, so that a micro-panel is as large as one of
/// 640 f32.
const DEPTH: usize = 2560;

/// A product of bytes: shapes, layout, and how it is cut into tasks.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    isa: Isa,
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Whether B is stored [n, k].
    pub trans_b: bool,
    /// Rows and columns of the register tile.
    tile: [usize; 2],
    cut: Cut,
}

/// Scales: one for all, or one for each.
#[derive(Clone, Copy, Debug)]
pub struct Scales {
    /// The first.
    pub start: *const f32,
    /// Whether there is only that one.
    pub single: bool,
}

impl Scales {
    /// Of a slice: of all, where it holds one.
    #[must_use]
    pub fn new(scales: &[f32]) -> Self {
        Self { start: scales.as_ptr(), single: scales.len() == 1 }
    }

    /// Scale `i`.
    ///
    /// # Safety
    /// It must exist.
    #[inline(always)]
    unsafe fn get(self, i: usize) -> f32 {
        // SAFETY: the caller's contract.
        unsafe { *self.start.add(if self.single { 0 } else { i }) }
    }
}

// SAFETY: read-only pointers under the contracts of `Bytes::pack` and `Bytes::run`.
unsafe impl Send for Scales {}
// SAFETY: as above.
unsafe impl Sync for Scales {}

/// What a task of [`Bytes::run`] reads beside A.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// B.
    pub b: *const i8,
    /// Its scales, of its columns.
    pub scales: Scales,
    /// `n` values added to each row, or null.
    pub bias: *const f32,
}

// SAFETY: read-only pointers under the contract of `Bytes::run`.
unsafe impl Send for Right {}
// SAFETY: as above.
unsafe impl Sync for Right {}

/// The register tile of a level: sums are only integers, so it is that of f32, but for levels whose
/// product of bytes takes registers of its own.
const fn tile_of<S: Simd>() -> (usize, usize) {
    if S::INT8_NV == 1 { (S::INT8_MR, 1) } else { (S::GEMM_MR, S::GEMM_NV) }
}

struct RegisterTile;

impl Kernel for RegisterTile {
    type Out = [usize; 2];
    const BYTES: bool = true;
    const PANELS: bool = true;

    fn run<S: Simd>(self, _: S) -> [usize; 2] {
        let (rows, vectors) = tile_of::<S>();
        [rows, vectors * S::LANES]
    }
}

/// Lanes of four codes along `k`.
const fn lanes(k: usize) -> usize {
    k.div_ceil(4)
}

/// f32 of a packed row of A: codes, what its sums begin at, and its scale.
const fn row_len(k: usize) -> usize {
    lanes(k) + 2
}

impl Bytes {
    /// Most `k`: beyond, the sum of products of -128 with itself leaves an i32.
    pub const MOST_K: usize = (1 << 17) - 1;

    /// The product `A[m, k] op(B)[k, n]`.
    ///
    /// # Panics
    /// Where `k` is above [`Bytes::MOST_K`].
    #[must_use]
    pub fn new(isa: Isa, [m, n, k]: [usize; 3], trans_b: bool) -> Self {
        assert!(k <= Self::MOST_K, "sums over {k} bytes leave an i32");
        let (tile, cut) = (isa.run(RegisterTile), Cut::default());
        Self { isa, m, n, k, trans_b, tile, cut }.with_caches(Caches::default())
    }

    /// The same product cut for other caches.
    #[must_use]
    pub fn with_caches(self, caches: Caches) -> Self {
        // Depth of a slab: k cut evenly, in whole lanes.
        let even = self.k.div_ceil(self.k.div_ceil(DEPTH).max(1));
        let slab = even.next_multiple_of(4).min(self.k);
        let cut = caches.cut([self.m, self.n], self.tile, slab, [slab, self.k], false);
        Self { cut, ..self }
    }

    /// f32 of the packed A that all tasks share.
    #[must_use]
    pub fn shared_len(&self) -> usize {
        PAD + self.m.next_multiple_of(self.tile[0]) * row_len(self.k)
    }

    /// f32 of scratch that a running task needs for itself: panels, scales and biases of columns.
    #[must_use]
    pub fn scratch_len(&self) -> usize {
        self.cut.columns.next_multiple_of(self.tile[1]) * (lanes(self.cut.slab) + 2) + PAD
    }

    /// Tasks that pack A.
    #[must_use]
    pub fn pack_tasks(&self) -> usize {
        self.m.div_ceil(self.pack_rows())
    }

    /// Packs a part of A, with its scales, into the shared buffer.
    ///
    /// # Safety
    /// `a` must be valid for `m * k` bytes, `scales` for its rows, `shared` for
    /// [`Bytes::shared_len`]; `task` must be below [`Bytes::pack_tasks`], and no other call may have
    /// the same task at the same time.
    pub unsafe fn pack(&self, task: usize, a: *const i8, scales: Scales, shared: *mut f32) {
        let (mr, first) = (self.tile[0], task * self.pack_rows());
        for at in (first..self.m.min(first + self.pack_rows())).step_by(mr) {
            let rows = (self.m - at).min(mr);
            // SAFETY: rows `at..at + rows` of A and their scales exist; the panel is this task's.
            unsafe {
                let (src, to) = (a.add(at * self.k), shared.add(at * row_len(self.k)));
                let starts = to.add(lanes(self.k) * mr);
                let part = Part { src, stride: self.k, count: rows, depth: self.k, width: mr, to };
                pack::rows(self.isa, part, starts);
                for r in 0..rows {
                    *starts.add(mr + r) = scales.get(at + r);
                }
            }
        }
    }

    /// Rows of A in a task that packs them, as those of [`Gemm`](super::Gemm).
    fn pack_rows(&self) -> usize {
        self.tile[0] * 2
    }

    /// Tasks that compute C; each needs the whole of A packed.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.cut.tasks(self.m)
    }

    /// Computes a part of C, stored [m, n] contiguously.
    ///
    /// # Safety
    /// `shared` must hold all of A packed; `right` must be valid for the stored B, for the scales of
    /// its columns and, where there is one, for the bias; `c` must be valid for `m * n` f32,
    /// `scratch` for [`Bytes::scratch_len`] and used by no one else meanwhile; `task` must be below
    /// [`Bytes::tasks`], and no other call may have the same task at the same time.
    pub unsafe fn run(
        &self,
        task: usize,
        shared: *const f32,
        right: Right,
        c: *mut f32,
        scratch: *mut f32,
    ) {
        let &Self { m, n, k, tile: [mr, width], cut: Cut { slab, block_rows, .. }, .. } = self;
        let ([row, rows], [column, columns]) = self.cut.rectangle(task, [m, n]);
        let room = columns.next_multiple_of(width);
        let scales = scratch.wrapping_add(room * lanes(slab));
        // SAFETY: the columns exist, and the scratch has room for what belongs to them.
        unsafe {
            for j in 0..columns {
                *scales.add(j) = right.scales.get(column + j);
                *scales.add(room + j) =
                    if right.bias.is_null() { 0.0 } else { *right.bias.add(column + j) };
            }
        }
        let mut depth = 0;
        // One turn even where k is 0: C is then the bias.
        while depth < k.max(1) {
            let there = (k - depth).min(slab);
            let [along, across] = if self.trans_b { [1, k] } else { [n, 1] };
            // Columns and rows of B that exist; the scratch has room for the panels.
            let part = |j: usize, count: usize| Part {
                src: right.b.wrapping_add((column + j) * across + depth * along),
                stride: along.max(across),
                count,
                depth: there,
                width,
                to: scratch.wrapping_add(j * lanes(there)),
            };
            if self.trans_b {
                for j in (0..columns).step_by(width) {
                    pack::rows(self.isa, part(j, (columns - j).min(width)), std::ptr::null_mut());
                }
            } else {
                self.isa.run(Columns(part(0, columns)));
            }
            for top in (row..row + rows).step_by(block_rows) {
                let panel = shared.wrapping_add(top * row_len(k));
                self.isa.run(Block {
                    lanes: lanes(there),
                    rows: (row + rows - top).min(block_rows),
                    columns,
                    a: panel.wrapping_add(lanes(depth) * mr),
                    a_step: row_len(k) * mr,
                    starts: panel.wrapping_add(lanes(k) * mr),
                    b: scratch,
                    scales,
                    biases: scales.wrapping_add(room),
                    c: c.wrapping_add(top * n + column),
                    c_step: n,
                    first: depth == 0,
                    last: depth + there == k,
                });
            }
            depth += there.max(1);
        }
    }
}

/// The definition: C of an A stored [m, k].
///
/// # Panics
/// Where a slice is too short.
#[must_use]
pub fn reference(
    [m, n, k]: [usize; 3],
    a: &[i8],
    b: &[i8],
    trans_b: bool,
    [scale_a, scale_b]: [&[f32]; 2],
    bias: &[f32],
) -> Vec<f32> {
    let one = |scales: &[f32], i: usize| scales[if scales.len() == 1 { 0 } else { i }];
    let value = |i: usize, j: usize| {
        let right = |p: usize| b[if trans_b { j * k + p } else { p * n + j }];
        let sum: i32 = (0..k).map(|p| i32::from(a[i * k + p]) * i32::from(right(p))).sum();
        let scaled = sum as f32 * one(scale_a, i) * one(scale_b, j);
        bias.get(j).map_or(scaled, |bias| scaled + bias)
    };
    (0..m * n).map(|at| value(at / n, at % n)).collect()
}
