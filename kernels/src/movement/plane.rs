//! The two innermost dimensions of a copy.

use super::Dim;

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
    pub(super) unsafe fn copy<T: Copy>(&self, src: *const T, dst: *mut T) {
        // SAFETY: the caller's contract, whichever way is taken.
        unsafe {
            match (self.cols.src, self.cols.dst) {
                (1, 1) => self.copy_rows(src, dst),
                (0, 1) => self.fill_rows(src, dst),
                _ if self.rows.src == 1 && self.cols.dst == 1 => self.transpose(src, dst),
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
    unsafe fn transpose<T: Copy>(&self, src: *const T, dst: *mut T) {
        let (rows, cols) = (self.rows.extent, self.cols.extent);
        for r in (0..rows).step_by(TILE) {
            for c in (0..cols).step_by(TILE) {
                // SAFETY: a tile of the plane.
                unsafe {
                    let from = src.add(r + c * self.cols.src);
                    let to = dst.add(r * self.rows.dst + c);
                    let (rows, cols) = ((rows - r).min(TILE), (cols - c).min(TILE));
                    if (rows, cols) == (TILE, TILE) {
                        self.transpose_tile(from, to);
                    } else {
                        Self {
                            rows: Dim { extent: rows, ..self.rows },
                            cols: Dim { extent: cols, ..self.cols },
                        }
                        .copy_elements(from, to);
                    }
                }
            }
        }
    }

    /// A whole tile by way of a buffer, so that a cache line on either side is touched once: with
    /// strides of a power of two the 16 lines of a tile share a set and would evict each other.
    ///
    /// # Safety
    /// As [`Plane::transpose`], for a part of [`TILE`] by [`TILE`].
    #[inline(always)]
    unsafe fn transpose_tile<T: Copy>(&self, src: *const T, dst: *mut T) {
        // SAFETY: all elements are of the part.
        let columns: [[T; TILE]; TILE] = std::array::from_fn(|c| unsafe {
            src.add(c * self.cols.src).cast::<[T; TILE]>().read()
        });
        for r in 0..TILE {
            let row: [T; TILE] = std::array::from_fn(|c| columns[c][r]);
            // SAFETY: as above.
            unsafe { dst.add(r * self.rows.dst).cast::<[T; TILE]>().write(row) };
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
