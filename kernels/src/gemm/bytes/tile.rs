//! The register tile: sums of products of bytes as i32.

use std::mem::MaybeUninit;

use super::super::tile::load;
use super::tile_of;
use crate::simd::{MAX_LANES, Simd};

/// Two packed panels and the place of their product.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// Lanes of depth.
    pub lanes: usize,
    /// A panel of A, from this slab on.
    pub a: *const f32,
    /// What the sums of its rows begin at, as i32, and behind that the rows' scales.
    pub starts: *const f32,
    /// A micro-panel of B.
    pub b: *const f32,
    /// The scales of its columns.
    pub scales: *const f32,
    /// What is added to its columns.
    pub biases: *const f32,
    /// Where the tile of C begins; between slabs it holds the sums as i32.
    pub c: *mut f32,
    /// f32 from row to row of C.
    pub c_step: usize,
    /// Rows of C that exist, at least 1.
    pub rows: usize,
    /// Columns of C that exist, at least 1.
    pub columns: usize,
    /// Whether this is the first slab.
    pub first: bool,
    /// Whether it is the last.
    pub last: bool,
}

impl Tile {
    /// Multiplies the panels into C.
    ///
    /// # Safety
    /// The panels must hold `lanes`, and the rest be valid for the rows and columns that exist.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd>(&self, s: S) {
        const { assert!(matches!(tile_of::<S>(), (14, 2) | (8, 3) | (6, 2) | (4, 1))) }
        // SAFETY: the caller's contract. Only the arms of this level's own tile are compiled.
        unsafe {
            match (tile_of::<S>(), self.rows) {
                ((14, _), ..=4) => self.sized::<S, 4, 2>(s),
                ((14, _), ..=8) => self.sized::<S, 8, 2>(s),
                ((14, _), _) => self.sized::<S, 14, 2>(s),
                ((8, _), _) => self.sized::<S, 8, 3>(s),
                ((6, _), _) => self.sized::<S, 6, 2>(s),
                _ => self.sized::<S, 4, 1>(s),
            }
        }
    }

    /// One register tile of `R` rows and `NV` vectors.
    ///
    /// # Safety
    /// As for [`Tile::run`], with at most `R` rows and `NV` vectors of columns.
    #[inline(always)]
    unsafe fn sized<S: Simd, const R: usize, const NV: usize>(&self, s: S) {
        let mut sums = [[s.zero(); NV]; R];
        let (mut a, mut b) = (self.a, self.b);
        for _ in 0..self.lanes {
            let mut columns = [s.zero(); NV];
            for v in 0..NV {
                // SAFETY: inside the panel.
                columns[v] = unsafe { s.load(b.add(v * S::LANES)) };
            }
            for r in 0..R {
                // SAFETY: inside the panel.
                let x = s.splat(unsafe { *a.add(r) });
                for v in 0..NV {
                    sums[r][v] = s.dot_bytes::<8>(columns[v], x, sums[r][v]);
                }
            }
            a = a.wrapping_add(tile_of::<S>().0);
            b = b.wrapping_add(NV * S::LANES);
        }
        // Through memory, as the f32 tile's edges: only so do the sums stay in registers.
        let mut spill = [[[MaybeUninit::<f32>::uninit(); MAX_LANES]; NV]; R];
        let (from, step) = (spill.as_mut_ptr().cast::<f32>(), NV * S::LANES);
        for r in 0..R {
            for v in 0..NV {
                // SAFETY: inside the array.
                unsafe { s.store(from.add(r * step + v * S::LANES), sums[r][v]) };
            }
        }
        // SAFETY: the caller's contract; all sums were just written.
        unsafe { self.finish(s, from, step) };
    }

    /// Moves the rows and columns that exist from `from` to C.
    ///
    /// # Safety
    /// As for [`Tile::run`]; `from` must hold the rows, `step` apart, in whole vectors.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, from: *const f32, step: usize) {
        let mr = tile_of::<S>().0;
        for at in (0..self.columns).step_by(S::LANES) {
            let n = (self.columns - at).min(S::LANES);
            // SAFETY: rows and columns that exist, and what belongs to them.
            unsafe {
                let (scale, bias) =
                    (load(s, self.scales.add(at), n), load(s, self.biases.add(at), n));
                for r in 0..self.rows {
                    let c = self.c.add(r * self.c_step + at);
                    let so_far =
                        if self.first { s.splat(*self.starts.add(r)) } else { load(s, c, n) };
                    let mut value = s.add_i32(s.load(from.add(r * step + at)), so_far);
                    if self.last {
                        let scaled = s.mul(s.convert_i32(value), s.splat(*self.starts.add(mr + r)));
                        value = s.add(s.mul(scaled, scale), bias);
                    }
                    if n == S::LANES { s.store(c, value) } else { s.store_n(c, value, n) }
                }
            }
        }
    }
}
