//! Packing: operands into panels that the register tile reads in order.

use std::mem::MaybeUninit;

use crate::isa::Isa;
use crate::quant::{Format, Stretch};
use crate::simd::{MAX_LANES, MAX_WIDTH, Simd};

use super::tile::{load, put};

/// Rows of a packed panel of `depth` steps: a row of pairs of bfloat16 is two steps.
pub(super) const fn panel_rows(pairs: bool, depth: usize) -> usize {
    if pairs { depth.div_ceil(2) } else { depth }
}

/// Packs `rows` rows of `depth` f32, `stride` apart, as `dst[depth][width]`, zero past `rows`; as
/// half as many rows of pairs where `PAIRS`.
///
/// # Safety
/// `rows >= 1` rows must be readable, and `dst` valid for the panel.
#[inline(always)]
pub(crate) unsafe fn transposed<S: Simd, const PAIRS: bool>(
    s: S,
    src: *const f32,
    stride: usize,
    rows: usize,
    width: usize,
    depth: usize,
    dst: *mut f32,
) {
    let step = if PAIRS { 2 * S::LANES } else { S::LANES };
    let end = panel_rows(PAIRS, depth);
    for first in (0..width).step_by(S::LANES) {
        let lanes = (width - first).min(S::LANES);
        let there = rows.saturating_sub(first).min(lanes);
        // SAFETY: only rows below `rows` and `depth` are read; writes stay in the panel.
        unsafe {
            let from = src.add(first.min(rows - 1) * stride);
            let to = dst.add(first);
            if there > 0 {
                for p in 0..depth / step {
                    turn::<S, PAIRS>(
                        s,
                        from.add(p * step),
                        stride,
                        to.add(p * S::LANES * width),
                        width,
                        there,
                    );
                }
                let rest = depth % step;
                if rest > 0 {
                    let at = depth / step * S::LANES;
                    // What is left of the rows, with zeros to a whole step.
                    let mut part =
                        [const { MaybeUninit::<f32>::uninit() }; 2 * MAX_LANES * MAX_LANES];
                    let mut turned =
                        [const { MaybeUninit::<f32>::uninit() }; MAX_LANES * MAX_LANES];
                    let (part, turned): (*mut f32, *mut f32) =
                        (part.as_mut_ptr().cast(), turned.as_mut_ptr().cast());
                    for r in 0..there {
                        let row = from.add(r * stride + depth - rest);
                        for at in (0..step).step_by(S::LANES) {
                            let some = rest.saturating_sub(at).min(S::LANES);
                            s.store(part.add(r * step + at), load(s, row.wrapping_add(at), some));
                        }
                    }
                    turn::<S, PAIRS>(s, part, step, turned, S::LANES, there);
                    for p in at..end {
                        let row = load(s, turned.add((p - at) * S::LANES), there);
                        put(s, to.add(p * width), row, there, false);
                    }
                }
            }
            if there < lanes {
                for p in 0..end {
                    to.add(p * width + there).write_bytes(0, lanes - there);
                }
            }
        }
    }
}

/// [`Simd::transpose`], of pairs where `PAIRS`.
///
/// # Safety
/// As for that.
#[inline(always)]
unsafe fn turn<S: Simd, const PAIRS: bool>(
    s: S,
    src: *const f32,
    stride: usize,
    dst: *mut f32,
    dst_stride: usize,
    n: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        if PAIRS {
            s.transpose_pairs(src, stride, dst, dst_stride, n);
        } else {
            s.transpose(src, stride, dst, dst_stride, n);
        }
    }
}

/// Rows of f32 that lie `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    /// The first of them.
    pub src: *const f32,
    /// f32 from row to row.
    pub stride: usize,
    /// f32 of each that are packed.
    pub columns: usize,
    /// How many there are.
    pub depth: usize,
}

/// Rows that [`straight`] asks for early. The columns of a task are a few lines of each row, and rows
/// a power of two apart fall into the same few sets of a cache, which has 8 to 12 lines for each.
pub(super) const EARLY: usize = 8;

/// Packs rows as panels `dst[panel][depth][width]`, `step` apart, zero past the columns; as half as
/// many rows of pairs where `PAIRS`.
///
/// All panels of a row are written before the next row is read: panel by panel, lines of a wide
/// matrix left the caches between one panel and the next, and an A of 1024 x 1024 stored [k, m] took
/// three times as long.
///
/// # Safety
/// The rows must be readable, and `dst` valid for the panels.
#[inline(always)]
pub(crate) unsafe fn straight<S: Simd, const PAIRS: bool>(
    s: S,
    from: Rows,
    width: usize,
    dst: *mut f32,
    step: usize,
) {
    let Rows { src, stride, columns, depth } = from;
    for p in 0..panel_rows(PAIRS, depth) {
        let (first, rows) = if PAIRS { (2 * p, 2) } else { (p, 1) };
        let row = src.wrapping_add(first * stride);
        let odd = PAIRS && 2 * p + 1 < depth;
        for r in EARLY..EARLY + rows {
            for at in (0..columns).step_by(LINE / size_of::<f32>()) {
                s.prefetch(row.wrapping_add(r * stride + at));
            }
        }
        let mut to = dst.wrapping_add(p * width);
        for at in (0..columns).step_by(width) {
            let row = row.wrapping_add(at);
            let there = (columns - at).min(width);
            // SAFETY: rows that exist and a row of the panel.
            unsafe {
                // A whole row of B, without a branch a vector: products toward the input are 2 % faster.
                if odd == PAIRS && there == S::GEMM_NV * S::LANES {
                    lay::<S, PAIRS>(s, row, stride, to);
                } else {
                    let odd = if odd { row.add(stride) } else { std::ptr::null() };
                    put_row::<S, PAIRS>(s, row, odd, there, width, to);
                }
            }
            to = to.wrapping_add(step);
        }
    }
}

/// Writes a whole row of a panel of B, paired with the one a `stride` later where `PAIRS`.
///
/// # Safety
/// The rows must be readable, `dst` writable.
#[inline(always)]
pub(super) unsafe fn lay<S: Simd, const PAIRS: bool>(
    s: S,
    row: *const f32,
    stride: usize,
    dst: *mut f32,
) {
    for at in (0..S::GEMM_NV * S::LANES).step_by(S::LANES) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut x = s.load(row.add(at));
            if PAIRS {
                x = s.pair_bf16(x, s.load(row.add(stride + at)));
            }
            s.store(dst.add(at), x);
        }
    }
}

/// Writes a row of a panel: `columns` f32, paired with those of `odd` (zeros where null) where
/// `PAIRS`, and zeros up to `width`.
///
/// # Safety
/// The rows must be valid for `columns` f32, `dst` for `width`.
#[inline(always)]
unsafe fn put_row<S: Simd, const PAIRS: bool>(
    s: S,
    row: *const f32,
    odd: *const f32,
    columns: usize,
    width: usize,
    dst: *mut f32,
) {
    for at in (0..width).step_by(S::LANES) {
        let lanes = (width - at).min(S::LANES);
        let there = columns.saturating_sub(at).min(lanes);
        // SAFETY: `there` f32 are readable, `lanes` writable.
        unsafe {
            let mut v = load(s, row.wrapping_add(at), there);
            if PAIRS {
                let odd =
                    if odd.is_null() { s.zero() } else { load(s, odd.wrapping_add(at), there) };
                v = s.pair_bf16(v, odd);
            }
            if lanes == S::LANES {
                s.store(dst.add(at), v);
            } else {
                s.store_n(dst.add(at), v, lanes);
            }
        }
    }
}

/// Rounds `len` f32 to bfloat16 in place, to nearest even.
///
/// # Safety
/// `data` must be valid for `len` f32.
#[inline(always)]
pub(super) unsafe fn round_bf16<S: Simd>(s: S, data: *mut f32, len: usize) {
    let mut bits = [0u16; 16];
    let vectors = len / S::LANES * S::LANES;
    // SAFETY: inside the data; `bits` holds the lanes of any level.
    unsafe {
        for at in (0..vectors).step_by(S::LANES) {
            s.store_bf16(bits.as_mut_ptr(), s.load(data.add(at)));
            s.store(data.add(at), s.load_bf16(bits.as_ptr()));
        }
        for at in vectors..len {
            *data.add(at) = half::bf16::from_f32(*data.add(at)).to_f32();
        }
    }
}

/// Steps of depth that a panel of `depth` of them has room for: where two rows of pairs lie side by side, a single
/// step takes the room of two.
pub(super) const fn room(depth: usize) -> usize {
    if depth == 1 { 2 } else { depth }
}

/// Lays the rows of a packed panel `[rows][width]` side by side, as [`Simd::STEP_ROWS`] says: of
/// rows `p` and `p + 1` lane by lane, a missing last one zero.
///
/// # Safety
/// The panel must be valid for `rows * width` f32, rows counted up to whole steps.
#[inline(always)]
pub(super) unsafe fn side_by_side<S: Simd>(_: S, panel: *mut f32, width: usize, rows: usize) {
    const { assert!(S::GEMM_MR <= MAX_WIDTH && S::GEMM_NV * S::LANES <= MAX_WIDTH) }
    if S::STEP_ROWS == 1 {
        return;
    }
    for p in (0..rows).step_by(2) {
        let mut two = [0f32; 2 * MAX_WIDTH];
        // SAFETY: the rows that exist are read, then their place is written.
        unsafe {
            let to = panel.add(p * width);
            to.copy_to_nonoverlapping(two.as_mut_ptr(), (rows - p).min(2) * width);
            for i in 0..width {
                *to.add(2 * i) = two[i];
                *to.add(2 * i + 1) = two[width + i];
            }
        }
    }
}

/// B as it is stored.
#[derive(Clone, Copy)]
pub(super) struct Source {
    /// Level for decoding.
    pub isa: Isa,
    /// Its first byte.
    pub data: *const u8,
    /// Format of its rows.
    pub format: Format,
    /// Whether a row runs along k ([n, k]) rather than along n ([k, n]).
    pub trans: bool,
    /// Length of the sums.
    pub k: usize,
    /// Columns of C.
    pub n: usize,
}

/// A rectangle of B.
#[derive(Clone, Copy)]
pub(super) struct Slab {
    /// First step of depth.
    pub from: usize,
    /// Steps of depth.
    pub depth: usize,
    /// First column.
    pub column: usize,
    /// Columns.
    pub columns: usize,
}

/// Rows of B stored along n that are decoded at once: an even number, whose columns stay in L1.
pub(super) const DECODED: usize = 32;

/// A rectangle of memory that is asked for some lines at a time.
///
/// Packing weights that lie in memory, not in a cache, otherwise waits for them: products of
/// SmolLM2's shapes are 5 % faster in bfloat16 and 3 % in f32 for asking early. All the lines for a
/// tile at once make them 6 % slower than none: the tile's own loads wait behind.
#[derive(Default)]
pub(crate) struct Ahead {
    /// Address of the next line's row, and bytes of it before the line.
    row: usize,
    at: usize,
    /// Bytes of a row.
    bytes: usize,
    /// Bytes from row to row.
    stride: usize,
    /// Rows left.
    rows: usize,
    /// Lines to ask for at once.
    lines: usize,
}

impl Ahead {
    /// `rows` rows of `bytes`, `stride` bytes apart, to be asked for in so many looks.
    pub(crate) fn over(row: usize, bytes: usize, stride: usize, rows: usize, looks: usize) -> Self {
        let lines = (rows * bytes.div_ceil(LINE)).div_ceil(looks.max(1));
        Self { row, at: 0, bytes, stride, rows, lines }
    }

    /// Asks for some lines.
    #[inline(always)]
    pub(super) fn look<S: Simd>(&mut self, s: S) {
        for _ in 0..self.lines {
            if self.rows == 0 {
                return;
            }
            s.prefetch(std::ptr::without_provenance(self.row + self.at));
            self.at += LINE;
            if self.at >= self.bytes {
                self.at = 0;
                self.row += self.stride;
                self.rows -= 1;
            }
        }
    }
}

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

impl Source {
    /// The memory of a slab, to be asked for in so many looks. Nothing where that is less than a
    /// line a look: packing it takes no time beside the product; or where there is no product.
    pub(super) fn ahead(&self, slab: Slab, looks: usize) -> Ahead {
        let (elements, bytes) = (self.format.block_elems(), self.format.block_bytes());
        let size = |n: usize| n.div_ceil(elements) * bytes;
        let Slab { from, depth, column, columns } = slab;
        let (first, rows, from, n, stride) = if self.trans {
            (column, columns, from, depth, self.k)
        } else {
            (from, depth, column, columns, self.n)
        };
        if !(1..=rows * size(n).div_ceil(LINE)).contains(&looks) {
            return Ahead::default();
        }
        let row = self.data.addr() + size(first * stride + from);
        Ahead::over(row, size(n), size(stride), rows, looks)
    }

    /// Asks for elements `from..from + len` of `rows` stored rows, which need not exist.
    #[inline(always)]
    pub(super) fn ask<S: Simd>(&self, s: S, [first, rows]: [usize; 2], [from, len]: [usize; 2]) {
        let stride = if self.trans { self.k } else { self.n };
        let (elements, bytes) = (self.format.block_elems(), self.format.block_bytes());
        let last = len.div_ceil(elements) * bytes - 1;
        for row in first..first + rows {
            let row = self.data.wrapping_add((row * stride + from) / elements * bytes);
            for at in (0..last).step_by(LINE).chain([last]) {
                s.prefetch(row.wrapping_add(at).cast());
            }
        }
    }

    /// Decodes elements `from..from + len` of `rows` stored rows, `step` apart in `dst`.
    ///
    /// Not inlined, on purpose: a copy of all decoders in each of the places that call it would be
    /// half a megabyte of libtenon.
    ///
    /// # Safety
    /// The rows must exist, the elements be whole blocks, and `dst` have room for them.
    pub(super) unsafe fn decode(
        &self,
        [first, rows]: [usize; 2],
        [from, len]: [usize; 2],
        dst: *mut f32,
        step: usize,
    ) {
        let stride = if self.trans { self.k } else { self.n };
        let (elements, bytes) = (self.format.block_elems(), self.format.block_bytes());
        let n = len.next_multiple_of(elements);
        let src = self.data.wrapping_add((first * stride + from) / elements * bytes);
        // SAFETY: the caller's contract.
        unsafe { self.format.decode_rows(self.isa, Stretch { src, stride, rows, n }, dst, step) };
    }

    /// Packs a slab into micro-panels of the tile's width, decoding through `space`.
    ///
    /// # Safety
    /// The slab must lie inside B, start at whole blocks, and the buffers be as large as
    /// [`super::Gemm::scratch_len`] makes them.
    #[inline(always)]
    pub(super) unsafe fn pack<S: Simd, const PAIRS: bool>(
        &self,
        s: S,
        slab: Slab,
        dst: *mut f32,
        space: *mut f32,
    ) {
        if slab.depth == 0 {
            return;
        }
        // SAFETY: the caller's contract.
        unsafe {
            if self.trans {
                self.transposed::<S, PAIRS>(s, slab, dst, space);
            } else {
                self.straight::<S, PAIRS>(s, slab, dst, space);
            }
        }
    }

    /// Rows that run along k: each is a column of the micro-panel.
    #[inline(always)]
    unsafe fn transposed<S: Simd, const PAIRS: bool>(
        &self,
        s: S,
        slab: Slab,
        dst: *mut f32,
        space: *mut f32,
    ) {
        let (width, depth) = (S::GEMM_NV * S::LANES, slab.depth);
        for j in (0..slab.columns).step_by(width) {
            let there = (slab.columns - j).min(width);
            let row = slab.column + j;
            // SAFETY: the contract of `Source::pack`.
            unsafe {
                let (src, stride) = if self.format == Format::F32 {
                    (self.data.cast::<f32>().add(row * self.k + slab.from), self.k)
                } else {
                    self.decode([row, there], [slab.from, depth], space, depth);
                    (space.cast_const(), depth)
                };
                let to = dst.add(j * room(depth));
                transposed::<S, PAIRS>(s, src, stride, there, width, depth, to);
            }
        }
    }

    /// Rows that run along n: each is a row of the micro-panels.
    #[inline(always)]
    unsafe fn straight<S: Simd, const PAIRS: bool>(
        &self,
        s: S,
        slab: Slab,
        dst: *mut f32,
        space: *mut f32,
    ) {
        let (width, depth) = (S::GEMM_NV * S::LANES, slab.depth);
        let stored = self.format == Format::F32;
        let decoded = slab.columns.next_multiple_of(self.format.block_elems());
        for first in (0..depth).step_by(if stored { depth } else { DECODED }) {
            let rows = if stored { depth } else { (depth - first).min(DECODED) };
            let row = slab.from + first;
            // SAFETY: the contract of `Source::pack`; tasks start at whole blocks.
            unsafe {
                let (src, stride) = if stored {
                    (self.data.cast::<f32>().add(row * self.n + slab.column), self.n)
                } else {
                    self.decode([row, rows], [slab.column, slab.columns], space, decoded);
                    (space.cast_const(), decoded)
                };
                let from = Rows { src, stride, columns: slab.columns, depth: rows };
                let to = dst.add(panel_rows(PAIRS, first) * width);
                straight::<S, PAIRS>(s, from, width, to, width * room(depth));
            }
        }
    }
}
