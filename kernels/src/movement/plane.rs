//! The two innermost dimensions of a copy.

use super::Dim;
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// Rows and columns of a tile of a transpose: 16 columns of 4 bytes fill a cache line.
const TILE: usize = 16;

/// A matrix of elements, strided on both sides.
pub(super) struct Plane {
    pub(super) rows: Dim,
    pub(super) cols: Dim,
}

impl Plane {
    /// Copies the plane from `src` to `dst`.
    ///
    /// # Safety
    /// `src` must be valid for reading and `dst` for writing every element of the plane, and the two
    /// sets be disjoint.
    pub(super) unsafe fn copy<T: Copy>(&self, isa: Isa, src: *const T, dst: *mut T) {
        // SAFETY: the caller's contract, whichever way is taken.
        unsafe {
            match (self.cols.src, self.cols.dst) {
                (1, 1) => self.copy_rows(src, dst),
                (0, 1) => self.fill_rows(src, dst),
                _ if self.rows.src == 1 && self.cols.dst == 1 => {
                    self.transpose(isa, src, dst);
                }
                _ => self.copy_elements(src, dst),
            }
        }
    }

    /// Rows that both sides have in one piece.
    ///
    /// # Safety
    /// As [`Plane::copy`].
    unsafe fn copy_rows<T: Copy>(&self, src: *const T, dst: *mut T) {
        for r in 0..self.rows.extent {
            // SAFETY: row `r` of the plane.
            unsafe {
                let from = src.add(r * self.rows.src);
                from.copy_to_nonoverlapping(dst.add(r * self.rows.dst), self.cols.extent);
            }
        }
    }

    /// Rows of one repeated element.
    ///
    /// # Safety
    /// As [`Plane::copy`].
    unsafe fn fill_rows<T: Copy>(&self, src: *const T, dst: *mut T) {
        for r in 0..self.rows.extent {
            // SAFETY: row `r` of the plane; its elements are written before anything reads them.
            unsafe {
                let value = *src.add(r * self.rows.src);
                let to = dst.add(r * self.rows.dst);
                for c in 0..self.cols.extent {
                    to.add(c).write(value);
                }
            }
        }
    }

    /// The source's rows are the destination's columns: tiles keep both sides' lines in the
    /// first-level cache.
    ///
    /// # Safety
    /// As [`Plane::copy`], with source rows and destination columns contiguous.
    unsafe fn transpose<T: Copy>(&self, isa: Isa, src: *const T, dst: *mut T) {
        let (rows, cols) = (self.rows.extent, self.cols.extent);
        let (whole_rows, whole_cols) = (rows - rows % TILE, cols - cols % TILE);
        // SAFETY: whole tiles; what is left below them, and beside.
        unsafe {
            let whole = self.part(whole_rows, whole_cols);
            if size_of::<T>() == size_of::<f32>() {
                isa.run(Words { plane: &whole, src: src.cast(), dst: dst.cast() });
            } else {
                whole.transpose_tiles(src, dst);
            }
            let below = (src.add(whole_rows), dst.add(whole_rows * self.rows.dst));
            self.part(rows - whole_rows, cols).copy_elements(below.0, below.1);
            let beside = (src.add(whole_cols * self.cols.src), dst.add(whole_cols));
            self.part(whole_rows, cols - whole_cols).copy_elements(beside.0, beside.1);
        }
    }

    /// As many rows and columns, strided alike.
    fn part(&self, rows: usize, cols: usize) -> Self {
        Self { rows: Dim { extent: rows, ..self.rows }, cols: Dim { extent: cols, ..self.cols } }
    }

    /// Whole tiles by way of a buffer, so that a cache line on either side is touched once: with
    /// strides of a power of two the 16 lines of a tile share a set and would evict each other.
    ///
    /// # Safety
    /// As [`Plane::transpose`], for whole tiles.
    unsafe fn transpose_tiles<T: Copy>(&self, src: *const T, dst: *mut T) {
        for r in (0..self.rows.extent).step_by(TILE) {
            for c in (0..self.cols.extent).step_by(TILE) {
                // SAFETY: all elements are of a tile.
                unsafe {
                    let (src, dst) =
                        (src.add(r + c * self.cols.src), dst.add(r * self.rows.dst + c));
                    let columns: [[T; TILE]; TILE] = std::array::from_fn(|c| {
                        src.add(c * self.cols.src).cast::<[T; TILE]>().read()
                    });
                    for r in 0..TILE {
                        let row: [T; TILE] = std::array::from_fn(|c| columns[c][r]);
                        dst.add(r * self.rows.dst).cast::<[T; TILE]>().write(row);
                    }
                }
            }
        }
    }

    /// Any strides.
    ///
    /// # Safety
    /// As [`Plane::copy`].
    unsafe fn copy_elements<T: Copy>(&self, src: *const T, dst: *mut T) {
        let Self { rows, cols } = self;
        for r in 0..rows.extent {
            for c in 0..cols.extent {
                // SAFETY: an element of the plane.
                unsafe {
                    let value = *src.add(r * rows.src + c * cols.src);
                    dst.add(r * rows.dst + c * cols.dst).write(value);
                }
            }
        }
    }
}

/// Whole tiles of elements of 4 bytes, whatever they are, in vectors: at 2048 by 2048 1.1 ms with 16
/// lanes and 1.5 with 8, where the compiler made 4.0 of `transpose_tiles`.
struct Words<'a> {
    plane: &'a Plane,
    src: *const f32,
    dst: *mut f32,
}

impl Kernel for Words<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (from, to) = (self.plane.cols.src, self.plane.rows.dst);
        let mut lines = Lines([0.0; TILE * TILE]);
        for r in (0..self.plane.rows.extent).step_by(TILE) {
            for c in (0..self.plane.cols.extent).step_by(TILE) {
                // SAFETY: a tile of the plane, and of the buffer.
                unsafe {
                    let (src, dst) = (self.src.add(r + c * from), self.dst.add(r * to + c));
                    if S::LANES == TILE {
                        s.transpose(src, from, dst, to, TILE);
                        continue;
                    }
                    // As `transpose_tiles`: a line that vectors do not fill is read once.
                    let lines = lines.0.as_mut_ptr();
                    for at in (0..TILE * TILE).step_by(S::LANES) {
                        s.store(lines.add(at), s.load(src.add(at / TILE * from + at % TILE)));
                    }
                    for r in (0..TILE).step_by(S::LANES) {
                        for c in (0..TILE).step_by(S::LANES) {
                            let block = lines.add(c * TILE + r);
                            s.transpose(block, TILE, dst.add(r * to + c), to, S::LANES);
                        }
                    }
                }
            }
        }
    }
}

/// The lines of a tile.
#[repr(align(64))]
struct Lines([f32; TILE * TILE]);
