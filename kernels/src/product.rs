//! The register-tiled product that attention and convolution share.
//!
//! `gemm` packs both operands because it reads them many times. Here the left operand (keys,
//! values, filters, images) is read in place through strides, one scalar at a time, and the right
//! one is already a panel whose columns are contiguous. Nothing is packed, so a product of a few
//! dozen columns pays for its arithmetic only.

use crate::simd::Simd;

/// Up to three nested loops over memory, innermost last, with the element step of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nest {
    pub(crate) len: [usize; 3],
    pub(crate) step: [isize; 3],
}

impl Nest {
    /// One loop of `len` items, `step` elements apart.
    #[inline(always)]
    pub(crate) fn line(len: usize, step: usize) -> Self {
        Self { len: [1, 1, len], step: [0, 0, step as isize] }
    }

    /// How many items the loops visit.
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        self.len[0] * self.len[1] * self.len[2]
    }

    /// Element offset of the `i`-th item.
    #[inline(always)]
    pub(crate) fn offset(&self, i: usize) -> isize {
        if self.len[0] * self.len[1] == 1 {
            return i as isize * self.step[2];
        }
        let (outer, inner) = (i / self.len[2], i % self.len[2]);
        Walk { at: [outer / self.len[1], outer % self.len[1], inner] }.offset(self.step)
    }
}

/// A place among the items of a nest, moved from item to item without divisions.
#[derive(Clone, Copy)]
struct Walk {
    at: [usize; 3],
}

impl Walk {
    /// Moves to the next item.
    #[inline(always)]
    fn step(&mut self, len: [usize; 3]) {
        self.at[2] += 1;
        if self.at[2] == len[2] {
            (self.at[1], self.at[2]) = (self.at[1] + 1, 0);
            if self.at[1] == len[1] {
                (self.at[0], self.at[1]) = (self.at[0] + 1, 0);
            }
        }
    }

    /// Element offset of the item.
    #[inline(always)]
    fn offset(&self, step: [isize; 3]) -> isize {
        self.at[0] as isize * step[0]
            + self.at[1] as isize * step[1]
            + self.at[2] as isize * step[2]
    }
}

/// `c[r][j] (+)= sum over k of a[r][k] * b[k][j]` for `j` in `0..cols`.
///
/// `a` is addressed as `row + depth`, so any strided or gathered left operand is read in place;
/// `b` advances by `b_step` along the same depth loops. The sum runs in depth order, one
/// accumulator per result, so the bits depend on the shape only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    /// Origin of the left operand.
    pub(crate) a: *const f32,
    /// Where each row of `a` begins.
    pub(crate) rows: Nest,
    /// The summed loops, with the step of `a` along each.
    pub(crate) depth: Nest,
    /// Origin of the panel; every row has `cols` values rounded up to whole vectors to read.
    pub(crate) b: *const f32,
    /// The step of `b` along each depth loop.
    pub(crate) b_step: [isize; 3],
    /// Columns.
    pub(crate) cols: usize,
    /// Origin of the result.
    pub(crate) c: *mut f32,
    /// The step of `c` along each row loop.
    pub(crate) c_step: [isize; 3],
    /// Adds to `c` instead of overwriting it.
    pub(crate) accumulate: bool,
}

impl Product {
    /// Computes the product.
    ///
    /// # Safety
    /// Every element that the loops address must be valid for reading (`a`, `b`) or for reading
    /// and writing (`c`), and `c` must overlap neither operand.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd>(&self, s: S) {
        let mut left = Rows { count: self.rows.count(), walk: Walk { at: [0; 3] } };
        // SAFETY: the caller's contract, for rows in range only.
        unsafe {
            if S::GEMM_NV == 1 {
                // Sixteen registers of half a vector: two vectors a row would spill.
                self.row_tiles::<S, 4, 1>(s, &mut left);
                self.row_tiles::<S, 1, 4>(s, &mut left);
            } else {
                if S::GEMM_MR >= 8 {
                    self.row_tiles::<S, 8, 2>(s, &mut left);
                }
                self.row_tiles::<S, 4, 2>(s, &mut left);
                self.row_tiles::<S, 2, 4>(s, &mut left);
                self.row_tiles::<S, 1, 8>(s, &mut left);
            }
        }
    }

    /// Whole tiles of `MR` of the rows that are left.
    ///
    /// # Safety
    /// As for [`Product::run`].
    #[inline(always)]
    unsafe fn row_tiles<S: Simd, const MR: usize, const NV: usize>(&self, s: S, left: &mut Rows) {
        while left.count >= MR {
            let (mut a, mut c) = ([self.a; MR], [self.c; MR]);
            for r in 0..MR {
                a[r] = a[r].wrapping_offset(left.walk.offset(self.rows.step));
                c[r] = c[r].wrapping_offset(left.walk.offset(self.c_step));
                left.walk.step(self.rows.len);
            }
            left.count -= MR;
            // SAFETY: the caller's contract, for rows in range.
            unsafe { self.row_tile::<S, MR, NV>(s, &a, &c) };
        }
    }

    /// All columns of some rows, from where those of the left operand and of the result begin.
    ///
    /// # Safety
    /// As for [`Product::run`], with those rows in range.
    #[inline(always)]
    unsafe fn row_tile<S: Simd, const MR: usize, const NV: usize>(
        &self,
        s: S,
        a: &[*const f32; MR],
        c: &[*mut f32; MR],
    ) {
        let mut col = 0;
        // SAFETY: the columns of each tile are in range; only the last vector is partial.
        unsafe {
            while col + NV * S::LANES <= self.cols {
                self.tile::<S, MR, NV>(s, a, c, col, S::LANES);
                col += NV * S::LANES;
            }
            while col < self.cols {
                let width = (self.cols - col).min(S::LANES);
                self.tile::<S, MR, 1>(s, a, c, col, width);
                col += width;
            }
        }
    }

    /// `MR` rows by `NV` vectors, whose last one holds `width` columns.
    ///
    /// # Safety
    /// As for [`Product::run`], with those rows and columns in range.
    #[inline(always)]
    unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(
        &self,
        s: S,
        a: &[*const f32; MR],
        c: &[*mut f32; MR],
        col: usize,
        width: usize,
    ) {
        let mut acc = [[s.zero(); NV]; MR];
        let [n0, n1, n2] = self.depth.len;
        let [a0, a1, a2] = self.depth.step;
        let [b0, b1, b2] = self.b_step;
        for i0 in 0..n0 as isize {
            for i1 in 0..n1 as isize {
                let mut at = i0 * a0 + i1 * a1;
                let mut b = self.b.wrapping_offset(i0 * b0 + i1 * b1).wrapping_add(col);
                for _ in 0..n2 {
                    let mut vb = [s.zero(); NV];
                    for v in 0..NV {
                        // SAFETY: a panel row is readable in whole vectors.
                        vb[v] = unsafe { s.load(b.add(v * S::LANES)) };
                    }
                    for r in 0..MR {
                        // SAFETY: the loops stay inside the left operand.
                        let va = s.splat(unsafe { *a[r].offset(at) });
                        for v in 0..NV {
                            acc[r][v] = s.fma(va, vb[v], acc[r][v]);
                        }
                    }
                    at += a2;
                    b = b.wrapping_offset(b2);
                }
            }
        }
        for r in 0..MR {
            for v in 0..NV {
                let c = c[r].wrapping_add(col + v * S::LANES);
                let n = if v + 1 == NV { width } else { S::LANES };
                // SAFETY: `n` columns from here belong to the result.
                unsafe { put(s, c, acc[r][v], n, self.accumulate) };
            }
        }
    }
}

/// Rows that are left to do.
struct Rows {
    count: usize,
    walk: Walk,
}

/// Writes the first `n` lanes of `v`, added to what is there where `accumulate`.
///
/// # Safety
/// `c` must be valid for reading and writing `n <= LANES` f32.
#[inline(always)]
unsafe fn put<S: Simd>(s: S, c: *mut f32, v: S::F, n: usize, accumulate: bool) {
    // SAFETY: `n` lanes are read and written, as the caller guarantees.
    unsafe {
        if n == S::LANES {
            let v = if accumulate { s.add(s.load(c), v) } else { v };
            s.store(c, v);
        } else {
            let v = if accumulate { s.add(s.load_n(c, n), v) } else { v };
            s.store_n(c, v, n);
        }
    }
}
