//! Rows of a table by number, and the sum of rows back into a table.
//!
//! The reference is one element at a time, with [`Format::element`]. [`gather`] is exact; the error
//! of [`scatter_add`] is that of a sum. Both check nothing: [`out_of_range`] says first whether every
//! number has its row.

#[cfg(test)]
mod tests;

use crate::isa::{Isa, Kernel};
use crate::quant::Format;
use crate::simd::Simd;

/// The position of the first id that is not in `0..rows`.
#[must_use]
pub fn out_of_range(ids: &[i32], rows: usize) -> Option<usize> {
    ids.iter().position(|&id| is_beyond(id, rows))
}

/// The position of the first target that is neither in `0..classes` nor `ignore`, which stands for none.
#[must_use]
pub fn target_out_of_range(targets: &[i32], classes: usize, ignore: i32) -> Option<usize> {
    targets.iter().position(|&target| target != ignore && is_beyond(target, classes))
}

fn is_beyond(id: i32, rows: usize) -> bool {
    usize::try_from(id).map_or(true, |id| id >= rows)
}

/// Rows of `cols` elements in any weight format.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The first row.
    pub rows: *const u8,
    /// How elements are stored.
    pub format: Format,
    /// Elements in a row: whole blocks of the format.
    pub cols: usize,
}

/// Writes row `ids[i]` of the table, decoded to f32, to row `i` of `out`. Exact.
///
/// # Safety
/// Every id must have a row in the table, aligned to [`Format::align`], and `out` be valid for
/// writing `ids.len() * cols` f32.
pub unsafe fn gather(isa: Isa, table: Table, ids: &[i32], out: *mut f32) {
    let Some(row_bytes) = table.format.row_bytes(table.cols) else {
        debug_assert!(false, "rows must be whole blocks");
        return;
    };
    for (i, &id) in ids.iter().enumerate() {
        // SAFETY: the caller's contract: `id` is the number of a row.
        unsafe {
            let row = table.rows.add(id as usize * row_bytes);
            table.format.decode(isa, row, table.cols, out.add(i * table.cols));
        }
    }
}

/// Rows of f32 of which a range of columns is meant.
#[derive(Clone, Copy, Debug)]
pub struct Rows<P> {
    /// The first row's first column of the range.
    pub start: P,
    /// Elements from row to row.
    pub stride: usize,
}

/// Adds row `i` of `rows` to row `ids[i]` of `out`, over `cols` columns.
///
/// Rows with one id are added in the order of `ids`, so the bits do not depend on how columns are
/// split among calls. The error of an element is at most `(n - 1) * 2^-24` of the sum of the
/// magnitudes of its `n` terms.
///
/// # Safety
/// `rows` must be valid for reading `cols` elements of `ids.len()` rows, and `out` for reading and
/// writing `cols` elements of every row that an id names; the two must be disjoint.
pub unsafe fn scatter_add(
    isa: Isa,
    rows: Rows<*const f32>,
    ids: &[i32],
    cols: usize,
    out: Rows<*mut f32>,
) {
    isa.run(ScatterAdd { rows, ids, cols, out });
}

/// The arguments of [`scatter_add`].
struct ScatterAdd<'a> {
    rows: Rows<*const f32>,
    ids: &'a [i32],
    cols: usize,
    out: Rows<*mut f32>,
}

impl Kernel for ScatterAdd<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (i, &id) in self.ids.iter().enumerate() {
            // SAFETY: `scatter_add`'s contract.
            unsafe {
                let from = self.rows.start.add(i * self.rows.stride);
                let to = self.out.start.add(id as usize * self.out.stride);
                add_row(s, from, self.cols, to);
            }
        }
    }
}

/// `y[i] += x[i]` for `i < n`.
///
/// # Safety
/// `x` must be valid for reading and `y` for reading and writing `n` f32, and the two be disjoint.
#[inline(always)]
unsafe fn add_row<S: Simd>(s: S, x: *const f32, n: usize, y: *mut f32) {
    let whole = n - n % S::LANES;
    let mut i = 0;
    while i < whole {
        // SAFETY: `i + LANES <= n`; the caller's contract.
        unsafe { s.store(y.add(i), s.add(s.load(y.add(i)), s.load(x.add(i)))) };
        i += S::LANES;
    }
    let n = n - whole;
    if n > 0 {
        // SAFETY: `n` elements are left; the caller's contract.
        unsafe { s.store_n(y.add(i), s.add(s.load_n(y.add(i), n), s.load_n(x.add(i), n)), n) };
    }
}
