//! What the three passes do with one block: pack it, mask its scores, write it back.

use std::ops::Range;

use super::{Attention, BLOCK, CHUNK, Mask};
use crate::product::{Nest, Product};
use crate::simd::Simd;

/// Scores below this are hidden; a running maximum starts here, so a query that sees nothing keeps
/// finite arithmetic and sums to zero.
pub(super) const FLOOR: f32 = -1e20;

/// Scores are kept times log2(e), which the scale of the packed block carries for free, so that
/// the exponentials of softmax are powers of two.
pub(super) const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// f32 in a cache line.
const LINE: usize = 16;

/// Rows of `dim` f32 in memory, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) data: *const f32,
    pub(super) stride: usize,
    pub(super) dim: usize,
}

impl Rows {
    /// Those of a head in a tensor of `[positions, heads, dim]`, from one position on.
    #[inline(always)]
    pub(super) fn of_head(
        data: *const f32,
        heads: usize,
        head: usize,
        first: usize,
        dim: usize,
    ) -> Self {
        Self { data: data.wrapping_add((first * heads + head) * dim), stride: heads * dim, dim }
    }

    /// Transposes `n` rows, times `scale`, into `to[dim][BLOCK]`; lanes past `n` become zero.
    ///
    /// # Safety
    /// `n <= BLOCK` rows must be readable and `to` valid for writing `dim * BLOCK` f32.
    #[inline(always)]
    pub(super) unsafe fn pack<S: Simd>(self, s: S, n: usize, scale: f32, to: *mut f32) {
        let whole = self.dim / S::LANES * S::LANES;
        // SAFETY: indices stay inside what the caller vouches for.
        unsafe {
            if n < BLOCK {
                clear(s, self.dim, to);
            }
            for i in (0..n).step_by(S::LANES) {
                let row = self.data.add(i * self.stride);
                let rows = S::LANES.min(n - i);
                for d in (0..whole).step_by(S::LANES) {
                    s.transpose(row.add(d), self.stride, to.add(d * BLOCK + i), BLOCK, rows);
                }
                for (r, d) in (0..rows).flat_map(|r| (whole..self.dim).map(move |d| (r, d))) {
                    *to.add(d * BLOCK + i + r) = *row.add(r * self.stride + d);
                }
            }
            let scale = s.splat(scale);
            for at in (0..self.dim * BLOCK).step_by(S::LANES) {
                s.store(to.add(at), s.mul(s.load(to.add(at)), scale));
            }
        }
    }

    /// Copies `n` rows, times `scale`, to rows of `width`, with zeros at their ends.
    ///
    /// # Safety
    /// `n` rows must be readable, `width >= dim`, and `to` valid for writing `n * width` f32.
    #[inline(always)]
    pub(super) unsafe fn copy(self, n: usize, scale: f32, to: *mut f32, width: usize) {
        for row in 0..n {
            for d in 0..width {
                // SAFETY: the caller's contract.
                unsafe {
                    let x = if d < self.dim { *self.data.add(row * self.stride + d) } else { 0.0 };
                    *to.add(row * width + d) = x * scale;
                }
            }
        }
    }

    /// Asks for a row.
    #[inline(always)]
    pub(super) fn prefetch<S: Simd>(self, s: S, row: usize) {
        for d in (0..self.dim).step_by(LINE) {
            s.prefetch(self.data.wrapping_add(row * self.stride + d));
        }
    }

    /// The rows from the `at`-th on.
    #[inline(always)]
    pub(super) fn from(self, at: usize) -> Self {
        Self { data: self.data.wrapping_add(at * self.stride), ..self }
    }

    /// `c[n][BLOCK] = self[n][dim] * panel[dim][BLOCK]`: dot products of `n` rows with a block.
    ///
    /// # Safety
    /// `n` rows, `panel` and `c` must be valid, and `c` overlap none of them.
    #[inline(always)]
    pub(super) unsafe fn dot<S: Simd>(self, s: S, n: usize, panel: *const f32, c: *mut f32) {
        let product = Product {
            a: self.data,
            rows: Nest::line(n, self.stride),
            depth: Nest::line(self.dim, 1),
            b: panel,
            b_step: [0, 0, BLOCK as isize],
            cols: BLOCK,
            c,
            c_step: [0, 0, BLOCK as isize],
            accumulate: false,
        };
        // SAFETY: the caller's contract.
        unsafe { product.run(s) }
    }

    /// `c[dim][BLOCK] += self[n][dim]^T * weights[n][BLOCK]`: rows weighted and summed.
    ///
    /// # Safety
    /// As for [`Rows::dot`].
    #[inline(always)]
    pub(super) unsafe fn weigh<S: Simd>(self, s: S, n: usize, weights: *const f32, c: *mut f32) {
        let product = Product {
            a: self.data,
            rows: Nest::line(self.dim, 1),
            depth: Nest::line(n, self.stride),
            b: weights,
            b_step: [0, 0, BLOCK as isize],
            cols: BLOCK,
            c,
            c_step: [0, 0, BLOCK as isize],
            accumulate: true,
        };
        // SAFETY: the caller's contract.
        unsafe { product.run(s) }
    }
}

/// Transposes `from[dim][BLOCK]` back into `n` rows of `to`, each lane times its `factor`; `from`
/// is left scaled.
///
/// # Safety
/// `from` must hold `dim * BLOCK` f32, and `to` be valid for `n` rows.
#[inline(always)]
pub(super) unsafe fn unpack<S: Simd>(
    s: S,
    from: *mut f32,
    factor: &[f32; BLOCK],
    n: usize,
    to: *mut f32,
    stride: usize,
    dim: usize,
) {
    // SAFETY: indices stay inside what the caller vouches for.
    unsafe {
        for i in (0..BLOCK).step_by(S::LANES) {
            let factor = s.load(factor.as_ptr().add(i));
            for at in (0..dim).map(|d| from.add(d * BLOCK + i)) {
                s.store(at, s.mul(s.load(at), factor));
            }
        }
        let whole = n / S::LANES * S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            for d in (0..dim).step_by(S::LANES) {
                let (rows, at) = (S::LANES.min(dim - d), from.add(d * BLOCK + i));
                s.transpose(at, BLOCK, to.add(i * stride + d), stride, rows);
            }
        }
        for (i, d) in (whole..n).flat_map(|i| (0..dim).map(move |d| (i, d))) {
            *to.add(i * stride + d) = *from.add(d * BLOCK + i);
        }
    }
}

/// Sets `BLOCK` rows of `n` lanes each to zero.
///
/// # Safety
/// `to` must be valid for writing `rows * BLOCK` f32.
#[inline(always)]
pub(super) unsafe fn clear<S: Simd>(s: S, rows: usize, to: *mut f32) {
    for at in (0..rows * BLOCK).step_by(S::LANES) {
        // SAFETY: `at` stays inside; BLOCK is a whole number of vectors.
        unsafe { s.store(to.add(at), s.zero()) };
    }
}

/// Which entries of a tile of scores, rows by lanes, are seen.
///
/// A lane sees a row where `low <= lane - row <= high`, both as positions in the sequence.
#[derive(Clone, Copy)]
pub(super) struct Sight {
    low: f32,
    high: f32,
    /// Position of lane 0 less that of row 0.
    ahead: f32,
    mask: Option<Mask>,
    /// Elements of the mask from one row, and one lane, to the next.
    row_step: usize,
    lane_step: usize,
}

impl Sight {
    /// Lanes are queries from `query` on, rows keys from `key` on.
    pub(super) fn of_queries(
        shape: &Attention,
        query: usize,
        key: usize,
        mask: Option<Mask>,
    ) -> Self {
        let (before, after) = shape.reach();
        let ahead = query as f32 + shape.keys as f32 - shape.queries as f32 - key as f32;
        let mask = mask.map(|m| m.at(query, key));
        let lane_step = mask.map_or(0, |m| m.query_stride);
        Self { low: -(after as f32), high: before as f32, ahead, mask, row_step: 1, lane_step }
    }

    /// Lanes are keys from `key` on, rows queries from `query` on.
    pub(super) fn of_keys(shape: &Attention, query: usize, key: usize, mask: Option<Mask>) -> Self {
        let (before, after) = shape.reach();
        let ahead = key as f32 + shape.queries as f32 - shape.keys as f32 - query as f32;
        let mask = mask.map(|m| m.at(query, key));
        let row_step = mask.map_or(0, |m| m.query_stride);
        Self { low: -(before as f32), high: after as f32, ahead, mask, row_step, lane_step: 1 }
    }

    /// Adds the mask to `scores[rows][BLOCK]` and hides what is out of sight; `lanes` are real.
    ///
    /// # Safety
    /// `scores` must be valid for `rows * BLOCK` f32 and the mask for the same tile.
    #[inline(always)]
    pub(super) unsafe fn apply<S: Simd>(&self, s: S, rows: usize, lanes: usize, scores: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe {
            if let Some(mask) = self.mask {
                self.add_mask(s, mask.data, rows, lanes, scores);
            }
            let nearest = self.ahead - (rows - 1) as f32;
            let farthest = self.ahead + (BLOCK - 1) as f32;
            if nearest < self.low || farthest > self.high {
                self.hide(s, rows, scores);
            }
        }
    }

    /// Replaces what is out of sight by minus infinity.
    ///
    /// # Safety
    /// As for [`Sight::apply`].
    #[inline(always)]
    unsafe fn hide<S: Simd>(&self, s: S, rows: usize, scores: *mut f32) {
        let mut lane = [0.0; BLOCK];
        for i in 0..BLOCK {
            lane[i] = self.ahead + i as f32;
        }
        let (low, high) = (s.splat(self.low), s.splat(self.high));
        let hidden = s.splat(f32::NEG_INFINITY);
        for v in (0..BLOCK).step_by(S::LANES) {
            // SAFETY: `v` starts a whole vector of `lane` and of each row of scores.
            unsafe {
                let lane = s.load(lane.as_ptr().add(v));
                for row in 0..rows {
                    let at = scores.add(row * BLOCK + v);
                    let distance = s.sub(lane, s.splat(row as f32));
                    let near = s.select(s.le(distance, high), s.load(at), hidden);
                    s.store(at, s.select(s.le(low, distance), near, hidden));
                }
            }
        }
    }

    /// Adds the mask, gathered to lanes a row at a time.
    ///
    /// # Safety
    /// As for [`Sight::apply`], `mask` being the tile's first element.
    #[inline(always)]
    unsafe fn add_mask<S: Simd>(
        &self,
        s: S,
        mask: *const f32,
        rows: usize,
        lanes: usize,
        scores: *mut f32,
    ) {
        let mut line = [0.0; BLOCK];
        for row in 0..rows {
            for i in 0..lanes {
                // SAFETY: row and lane are inside the mask's tile.
                line[i] = unsafe { *mask.add(row * self.row_step + i * self.lane_step) };
            }
            for v in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: `v` starts a whole vector of both.
                unsafe {
                    let at = scores.add(row * BLOCK + v);
                    let mask = s.load(line.as_ptr().add(v));
                    s.store(at, s.fma(mask, s.splat(LOG2_E), s.load(at)));
                }
            }
        }
    }
}

impl Mask {
    /// The mask of one head of one sequence.
    pub(super) fn of_head(self, batch: usize, head: usize) -> Self {
        let skip = batch * self.batch_stride + head * self.head_stride;
        Self { data: self.data.wrapping_add(skip), ..self }
    }

    /// The mask from one query and key on.
    fn at(self, query: usize, key: usize) -> Self {
        Self { data: self.data.wrapping_add(query * self.query_stride + key), ..self }
    }
}

/// Steps through `range` by [`CHUNK`].
#[inline(always)]
pub(super) fn chunks(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(CHUNK).map(move |first| first..end.min(first + CHUNK))
}
