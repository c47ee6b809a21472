//! Copies between strided layouts: transpose, slice, concat, pad, broadcast, fill.
//!
//! All of them are one loop nest over at most [`MAX_DIMS`] dimensions in which either side steps
//! by its own stride; a source stride of 0 repeats an element. The nest is reduced first: what both
//! sides walk alike becomes one dimension, the dimension in which the destination is contiguous
//! comes innermost, and the one in which the source is contiguous beside it. The two innermost
//! then are rows to copy or fill, or a matrix to transpose in tiles.

mod plane;
#[cfg(test)]
mod tests;

use plane::Plane;

use crate::isa::Isa;

/// Most dimensions of a copy.
pub const MAX_DIMS: usize = 8;

/// Elements in a unit of work, about: 64 KiB of f32, what a thread's claim of it costs little beside.
const UNIT: usize = 1 << 14;

/// Where an operand's elements lie, in elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The first element.
    pub offset: usize,
    /// Step along each dimension of the copy.
    pub strides: [usize; MAX_DIMS],
}

impl Layout {
    /// A layout with a stride for each dimension.
    ///
    /// # Panics
    /// For more than [`MAX_DIMS`] strides.
    #[must_use]
    pub fn new(offset: usize, strides: &[usize]) -> Self {
        let mut own = [0; MAX_DIMS];
        own[..strides.len()].copy_from_slice(strides);
        Self { offset, strides: own }
    }
}

/// A dimension and the strides along it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dim {
    extent: usize,
    src: usize,
    dst: usize,
}

/// A copy of a box of elements, reduced and cut into units of work that write disjoint elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StridedCopy {
    src: usize,
    dst: usize,
    /// Dimensions around the plane, outermost first.
    outer: [Dim; MAX_DIMS],
    outer_len: usize,
    rows: Dim,
    cols: Dim,
    /// Rows and columns of the plane in a unit.
    unit: (usize, usize),
}

impl StridedCopy {
    /// A copy of `dims` elements from `src` to `dst`. No two destinations may coincide.
    ///
    /// # Panics
    /// For more than [`MAX_DIMS`] dimensions.
    #[must_use]
    pub fn new(dims: &[usize], src: &Layout, dst: &Layout) -> Self {
        let mut nest = [Dim::default(); MAX_DIMS];
        for (i, &extent) in dims.iter().enumerate() {
            nest[i] = Dim { extent, src: src.strides[i], dst: dst.strides[i] };
        }
        let mut len = merge(&mut nest, dims.len());
        // Units address the plane as rows by columns; one of them may be a single step.
        let cols = pop(&mut nest, &mut len);
        let source_runs = nest[..len].iter().position(|d| d.src == 1 && cols.src != 1);
        if let Some(i) = source_runs {
            nest[i..len].rotate_left(1);
        }
        let rows = pop(&mut nest, &mut len);
        // A transpose works in squares, so that both sides' pages stay few: rows of whole length
        // took twice as long at 2048 by 2048 (5.6 against 11 GB/s).
        let is_transpose = rows.src == 1 && cols.src > 1;
        let unit_cols = cols.extent.clamp(1, if is_transpose { UNIT.isqrt() } else { UNIT });
        let unit = ((UNIT / unit_cols).clamp(1, rows.extent.max(1)), unit_cols);
        let (src, dst) = (src.offset, dst.offset);
        Self { src, dst, outer: nest, outer_len: len, rows, cols, unit }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        let outer: usize = self.outer().iter().map(|d| d.extent).product();
        outer * self.rows.extent * self.cols.extent
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first element of source and destination.
    #[must_use]
    pub fn starts(&self) -> (usize, usize) {
        (self.src, self.dst)
    }

    /// Extent, source stride and destination stride of each dimension, the innermost first: columns of
    /// the plane, its rows, and what lies around.
    pub fn dims(&self) -> impl Iterator<Item = [usize; 3]> {
        let plane = [self.cols, self.rows];
        let outer = self.outer().iter().rev().copied();
        plane.into_iter().chain(outer).map(|d| [d.extent, d.src, d.dst])
    }

    /// Number of units of work.
    #[must_use]
    pub fn units(&self) -> usize {
        let (across, down) = self.grid();
        self.outer().iter().map(|d| d.extent).product::<usize>() * across * down
    }

    /// Copies unit `unit` of elements of type `T`.
    ///
    /// # Safety
    /// `unit` must be below [`StridedCopy::units`]. `src` must be valid for reading and `dst` for
    /// writing every element that the layouts name, and the two sets be disjoint. Units may run at
    /// the same time.
    pub unsafe fn run<T: Copy>(&self, isa: Isa, src: *const T, dst: *mut T, unit: usize) {
        let (across, down) = self.grid();
        let (mut rest, col) = (unit / across, unit % across * self.unit.1);
        let row = rest % down * self.unit.0;
        rest /= down;
        let mut from = self.src + row * self.rows.src + col * self.cols.src;
        let mut to = self.dst + row * self.rows.dst + col * self.cols.dst;
        for dim in self.outer().iter().rev() {
            from += rest % dim.extent * dim.src;
            to += rest % dim.extent * dim.dst;
            rest /= dim.extent;
        }
        let rows = Dim { extent: (self.rows.extent - row).min(self.unit.0), ..self.rows };
        let cols = Dim { extent: (self.cols.extent - col).min(self.unit.1), ..self.cols };
        // SAFETY: the offsets are of elements of the copy; the plane is a part of it.
        unsafe { Plane { rows, cols }.copy(isa, src.add(from), dst.add(to)) };
    }

    fn outer(&self) -> &[Dim] {
        &self.outer[..self.outer_len]
    }

    /// Units across and down a plane.
    fn grid(&self) -> (usize, usize) {
        (self.cols.extent.div_ceil(self.unit.1), self.rows.extent.div_ceil(self.unit.0))
    }
}

/// Puts dimensions in the destination's order, drops those of one step, and joins those that both
/// sides walk as one. Gives how many are left.
fn merge(nest: &mut [Dim; MAX_DIMS], dims: usize) -> usize {
    nest[..dims].sort_by_key(|d| std::cmp::Reverse((d.extent != 1, d.dst)));
    let mut len = 0;
    for i in 0..dims {
        let dim = nest[i];
        if dim.extent == 1 {
            continue;
        }
        let joins =
            |outer: Dim| outer.src == dim.src * dim.extent && outer.dst == dim.dst * dim.extent;
        if len > 0 && joins(nest[len - 1]) {
            nest[len - 1] = Dim { extent: nest[len - 1].extent * dim.extent, ..dim };
        } else {
            nest[len] = dim;
            len += 1;
        }
    }
    len
}

/// Takes the innermost dimension off, or one of a single step where there is none.
fn pop(nest: &mut [Dim; MAX_DIMS], len: &mut usize) -> Dim {
    match len.checked_sub(1) {
        None => Dim { extent: 1, src: 1, dst: 1 },
        Some(last) => {
            *len = last;
            nest[last]
        }
    }
}
