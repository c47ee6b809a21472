//! How the caches cut a product.

use super::{Gemm, Precision, narrow, slim};

/// Sizes of the caches that a thread works in, in bytes. They decide how a product is cut into
/// tasks and blocks, not what is summed in which order: the bits do not depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// A thread's share of the second level.
    pub l2: usize,
    /// The third level, 0 where there is none.
    pub l3: usize,
}

impl Default for Caches {
    /// What a phone's fast cores have.
    fn default() -> Self {
        Self { l2: 512 << 10, l3: 4 << 20 }
    }
}

impl Caches {
    /// Cuts a C of `m` by `n` into whole tiles of some rows and `unit`s of columns, given the bytes of
    /// a row or column of the operands in a slab and in all of k; see [`Caches::task_columns`] of
    /// `along`.
    pub(super) fn cut(
        self,
        [m, n]: [usize; 2],
        [tile_rows, unit]: [usize; 2],
        slab: usize,
        [slab_bytes, bytes]: [usize; 2],
        along: bool,
    ) -> Cut {
        let columns = self.task_columns(n, unit, slab_bytes, along);
        let across = n.div_ceil(columns);
        let rows = self.task_rows(m, bytes, across, tile_rows);
        Cut { slab, columns, across, rows, block_rows: self.block_rows(tile_rows, slab_bytes) }
    }

    /// Rows of A, in whole tiles and with `row_bytes` in a slab, that stay in L2 while the columns of
    /// a task pass: half of it. With a quarter, 1 % less in bfloat16 on Zen 5.
    fn block_rows(self, tile_rows: usize, row_bytes: usize) -> usize {
        (self.l2 / 2 / row_bytes.max(1) / tile_rows).max(1) * tile_rows
    }

    /// Columns of C in a task, in whole `unit`s: few enough that there are 16 tasks to share. With 9
    /// for 576 columns the second of two threads waited for the first. At most so many that their
    /// slab of B, with `column_bytes` each, stays in a quarter of L2: 3 % faster than an eighth with
    /// 49152 columns. In half of it where f32 lie `along` n: a row's stretch is then more lines at
    /// once, and a product in bfloat16 with 49152 columns is 7 % faster than by 64 at a time. Bytes
    /// gain 1 % there and lose 2 % elsewhere.
    fn task_columns(self, n: usize, unit: usize, column_bytes: usize, along: bool) -> usize {
        let share = self.l2 / if along { 2 } else { 4 };
        let most = share / column_bytes.max(1) / unit * unit;
        (n / 16 / unit * unit).min(most).max(unit)
    }

    /// Rows of C in a task, of `m` with `row_bytes` of A each: all of them, unless there are too few
    /// tasks of columns, or more rows than stay in L3 until the tasks of all columns have passed
    /// over them. At 2048 cubed, with A of 16 MiB, 226 GFLOP/s; 155 without, and 220 with half as
    /// many, for then B comes from memory twice as often.
    fn task_rows(self, m: usize, row_bytes: usize, column_tasks: usize, tile_rows: usize) -> usize {
        if column_tasks >= 4 {
            let pass = (self.l3 / 4).max(1 << 20) / row_bytes.max(1);
            let most = pass.max(1).next_multiple_of(tile_rows);
            let parts = m.div_ceil(most).max(1);
            return m.div_ceil(parts).next_multiple_of(tile_rows).max(1);
        }
        (m / 8).next_multiple_of(tile_rows).max(tile_rows * 4)
    }
}

/// How a product is cut into tasks, slabs and blocks. Found once: asked for by each task anew, its
/// divisions took a sixth of a product of 256 x 576 x 8.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cut {
    /// Depth of a slab: k cut evenly, in whole blocks of any format.
    pub slab: usize,
    /// Columns of C in a task: whole tiles and whole blocks.
    pub columns: usize,
    /// Tasks that share the columns of C.
    pub across: usize,
    /// Rows of C in a task.
    pub rows: usize,
    /// Rows of A that stay in L2.
    pub block_rows: usize,
}

impl Cut {
    pub(super) fn of(gemm: &Gemm) -> Self {
        let &Gemm { m, n, k, b_format, trans_b, precision, tile, caches, .. } = gemm;
        let blocks = |along: bool| if along { b_format.block_elems() } else { 1 };
        let most = tile.depth[usize::from(precision == Precision::Bf16)];
        let even = k.div_ceil(k.div_ceil(most).max(1));
        let slab = even.next_multiple_of(blocks(trans_b).max(32)).min(k);
        // Whole blocks, and where a tile is wider than one, whole tiles.
        let block = blocks(!trans_b);
        let tiles = (1..=block).find(|tiles| (tiles * tile.columns).is_multiple_of(block));
        let unit = if tile.columns < block { block } else { tiles.unwrap_or(1) * tile.columns };
        let bytes = [slab, k].map(|depth| depth * gemm.element());
        let cut = caches.cut([m, n], [tile.rows, unit], slab, bytes, !trans_b);
        let (columns, rows) = if gemm.narrow {
            (narrow::columns(gemm), m)
        } else if slim::takes(gemm) {
            (n.max(1), slim::rows(gemm))
        } else {
            return cut;
        };
        Self { columns, across: n.div_ceil(columns), rows, ..cut }
    }

    /// Tasks that compute C, of `m` rows.
    pub(super) fn tasks(&self, m: usize) -> usize {
        self.across * m.div_ceil(self.rows).max(1)
    }

    /// First row and rows, first column and columns of a task, of a C of `m` by `n`.
    #[inline(always)]
    pub(super) fn rectangle(&self, task: usize, [m, n]: [usize; 2]) -> ([usize; 2], [usize; 2]) {
        let &Self { across, rows, columns, .. } = self;
        let (row, column) = (task / across * rows, task % across * columns);
        ([row, (m - row).min(rows)], [column, (n - column).min(columns)])
    }
}
