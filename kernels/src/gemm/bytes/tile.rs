//! Blocks of C: register tiles of sums of products of bytes as i32.

use std::mem::MaybeUninit;

use super::super::tile::{SOON, ask_ahead, fetch, load};
use super::tile_of;
use crate::isa::Kernel;
use crate::simd::{Lane, MAX_LANES, Panels, Simd};

/// Packed panels and the place of their product, which is the task's own; all of it is valid for the
/// rows and columns that exist.
pub(super) struct Block {
    /// Lanes of depth.
    pub lanes: usize,
    /// Rows of C, at least 1.
    pub rows: usize,
    /// Columns of C, at least 1.
    pub columns: usize,
    /// Panels of A, from this slab on.
    pub a: *const f32,
    /// f32 from panel to panel of A.
    pub a_step: usize,
    /// What the sums of the first panel's rows begin at, as i32, and behind that the rows' scales.
    pub starts: *const f32,
    /// Micro-panels of B.
    pub b: *const f32,
    /// The scales of its columns.
    pub scales: *const f32,
    /// What is added to its columns.
    pub biases: *const f32,
    /// Where the block of C begins; between slabs it holds the sums as i32.
    pub c: *mut f32,
    /// f32 from row to row of C.
    pub c_step: usize,
    /// Whether this is the first slab.
    pub first: bool,
    /// Whether it is the last.
    pub last: bool,
}

/// Room for the sums of a register tile: 14 rows of 2 vectors, or fewer of narrower ones.
type Sums = [MaybeUninit<f32>; 14 * 2 * MAX_LANES];

/// Most vectors of columns of a register tile.
const MOST_VECTORS: usize = 3;

impl Kernel for Block {
    type Out = ();
    const BYTES: bool = true;
    const PANELS: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        const {
            let sizes = tile_of::<S>();
            assert!(S::HAS_PANELS || matches!(sizes, (14, 2) | (8, 3) | (6, 2) | (4, 1)));
        }
        if S::HAS_PANELS {
            return self.panels(s);
        }
        let ((mr, vectors), mut space) = (tile_of::<S>(), [const { MaybeUninit::uninit() }; _]);
        let sums: &mut Sums = &mut space;
        let sums = sums.as_mut_ptr().cast::<f32>();
        let width = vectors * S::LANES;
        for j in (0..self.columns).step_by(width) {
            for i in (0..self.rows).step_by(mr) {
                let rows = (self.rows - i).min(mr);
                let a = self.a.wrapping_add(i / mr * self.a_step);
                let b = self.b.wrapping_add(j * self.lanes);
                let c = self.c.wrapping_add(i * self.c_step + j);
                // SAFETY: the panels hold `lanes`, and there is room for the sums. Only the arms of
                // this level's own tile are compiled.
                unsafe {
                    match (mr, rows) {
                        (14, ..=4) => self.sums::<S, 4, 2>(s, [a, b], c, sums),
                        (14, ..=8) => self.sums::<S, 8, 2>(s, [a, b], c, sums),
                        (14, _) => self.sums::<S, 14, 2>(s, [a, b], c, sums),
                        (8, _) => self.sums::<S, 8, 3>(s, [a, b], c, sums),
                        (6, _) => self.sums::<S, 6, 2>(s, [a, b], c, sums),
                        _ => self.sums::<S, 4, 1>(s, [a, b], c, sums),
                    }
                    self.finish(s, [i, rows], [j, (self.columns - j).min(width)], sums);
                }
            }
        }
    }
}

impl Block {
    /// The sums of `R` rows and `NV` vectors of columns. They go through memory, as those of the f32
    /// tile at its edges: only so do they stay in registers in the loop. `c` is their place in C.
    ///
    /// # Safety
    /// The panels must hold `lanes`, and `to` be valid for the sums.
    #[inline(always)]
    unsafe fn sums<S: Simd, const R: usize, const NV: usize>(
        &self,
        s: S,
        [mut a, mut b]: [*const f32; 2],
        c: *const f32,
        to: *mut f32,
    ) {
        let mut sums = [[s.zero(); NV]; R];
        let soon = self.lanes.saturating_sub(SOON);
        for step in 0..self.lanes {
            if step == soon {
                fetch::<S, R, NV>(s, c, self.c_step);
            }
            ask_ahead::<S, NV>(s, b);
            let mut columns = [s.zero(); NV];
            for v in 0..NV {
                // SAFETY: inside the panel.
                columns[v] = unsafe { s.load(b.add(v * S::LANES)) };
            }
            for r in 0..R {
                // SAFETY: inside the panel.
                let x = s.splat(unsafe { *a.add(r) });
                for v in 0..NV {
                    sums[r][v] = s.dot_bytes::<9>(columns[v], x, sums[r][v]);
                }
            }
            a = a.wrapping_add(tile_of::<S>().0);
            b = b.wrapping_add(NV * S::LANES);
        }
        for r in 0..R {
            for v in 0..NV {
                // SAFETY: the caller's contract.
                unsafe { s.store(to.add((r * NV + v) * S::LANES), sums[r][v]) };
            }
        }
    }

    /// Moves the sums of the rows and columns that exist to C.
    ///
    /// # Safety
    /// `sums` must hold a register tile's, and the rows and columns, each the first and their
    /// number, lie in the block.
    #[inline(always)]
    unsafe fn finish<S: Simd>(
        &self,
        s: S,
        [row, rows]: [usize; 2],
        [column, columns]: [usize; 2],
        sums: *const f32,
    ) {
        let (mr, vectors) = tile_of::<S>();
        let starts = self.starts.wrapping_add(row / mr * self.a_step);
        if self.first && self.last && columns == vectors * S::LANES {
            // SAFETY: as below.
            return unsafe { self.whole(s, starts, [row, rows], column, sums) };
        }
        for at in (0..columns).step_by(S::LANES) {
            let n = (columns - at).min(S::LANES);
            // SAFETY: rows and columns that exist, and what belongs to them.
            unsafe {
                let scale = load(s, self.scales.add(column + at), n);
                let bias = load(s, self.biases.add(column + at), n);
                for r in 0..rows {
                    let c = self.c.add((row + r) * self.c_step + column + at);
                    let so_far = if self.first { s.splat(*starts.add(r)) } else { load(s, c, n) };
                    let sum = s.load(sums.add(r * vectors * S::LANES + at));
                    let mut value = s.add_i32(sum, so_far);
                    if self.last {
                        value = scaled(s, value, starts.add(mr + r), scale, bias);
                    }
                    if n == S::LANES { s.store(c, value) } else { s.store_n(c, value, n) }
                }
            }
        }
    }

    /// [`Block::finish`] for the only slab and columns that all exist, row by row: 2 to 10 % faster
    /// with 49152 columns, elsewhere within 2 % of column by column. The scales must be loaded before
    /// the loop: 1 to 4 % slower otherwise.
    ///
    /// # Safety
    /// As there; `starts` must be what the sums of these rows begin at, and behind that their scales.
    #[inline(always)]
    unsafe fn whole<S: Simd>(
        &self,
        s: S,
        starts: *const f32,
        [row, rows]: [usize; 2],
        column: usize,
        mut sums: *const f32,
    ) {
        let (mr, vectors) = tile_of::<S>();
        let (mut scale, mut bias) = ([s.zero(); MOST_VECTORS], [s.zero(); MOST_VECTORS]);
        for v in 0..vectors {
            let at = column + v * S::LANES;
            // SAFETY: columns that exist.
            unsafe {
                (scale[v], bias[v]) = (s.load(self.scales.add(at)), s.load(self.biases.add(at)));
            }
        }
        let mut c = self.c.wrapping_add(row * self.c_step + column);
        for r in 0..rows {
            // SAFETY: rows and columns that exist, and what belongs to them.
            unsafe {
                let start = s.splat(*starts.add(r));
                for v in 0..vectors {
                    let sum = s.add_i32(s.load(sums.add(v * S::LANES)), start);
                    let value = scaled(s, sum, starts.add(mr + r), scale[v], bias[v]);
                    s.store(c.add(v * S::LANES), value);
                }
            }
            sums = sums.wrapping_add(vectors * S::LANES);
            c = c.wrapping_add(self.c_step);
        }
    }

    /// The same on a level that multiplies whole panels of signed bytes: sums begin at 0 and stay in
    /// C, where the last slab's are scaled.
    #[inline(always)]
    fn panels<S: Simd>(&self, s: S) {
        const { assert!(!S::HAS_PANELS || S::SIGNED_BYTES) }
        let (mr, vectors) = tile_of::<S>();
        let panels = Panels {
            a: self.a,
            a_step: self.a_step,
            b: self.b,
            b_step: vectors * S::LANES * self.lanes,
            depth: self.lanes,
            c: self.c,
            c_step: self.c_step,
            rows: self.rows,
            columns: self.columns,
            bias: std::ptr::null(),
            accumulate: !self.first,
        };
        // SAFETY: the panels hold `lanes`, and the block of C is the task's own.
        unsafe { s.multiply_panels(Lane::I8, &panels) };
        if !self.last {
            return;
        }
        for r in 0..self.rows {
            let row_scale = self.starts.wrapping_add(r / mr * self.a_step + mr + r % mr);
            for at in (0..self.columns).step_by(S::LANES) {
                let n = (self.columns - at).min(S::LANES);
                // SAFETY: a row and columns that exist, and what belongs to them.
                unsafe {
                    let c = self.c.add(r * self.c_step + at);
                    let scale = load(s, self.scales.add(at), n);
                    let bias = load(s, self.biases.add(at), n);
                    let value = scaled(s, load(s, c, n), row_scale, scale, bias);
                    if n == S::LANES { s.store(c, value) } else { s.store_n(c, value, n) }
                }
            }
        }
    }
}

/// A row's sums with its scale, those of the columns and their biases.
///
/// # Safety
/// The row's scale must be readable.
#[inline(always)]
unsafe fn scaled<S: Simd>(s: S, sums: S::F, row: *const f32, scale: S::F, bias: S::F) -> S::F {
    // SAFETY: the caller's contract.
    let scaled = s.mul(s.convert_i32(sums), s.splat(unsafe { *row }));
    s.add(s.mul(scaled, scale), bias)
}
