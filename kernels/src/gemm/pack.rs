//! Packing: operands into panels that the register tile reads in order.

use crate::quant::{BlockFormat, Format, FormatVisitor};
use crate::simd::{MAX_LANES, Simd};

use super::tile::load;

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
pub(super) unsafe fn transposed<S: Simd, const PAIRS: bool>(
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
                    let mut part = [0f32; 2 * MAX_LANES * MAX_LANES];
                    let mut turned = [0f32; MAX_LANES * MAX_LANES];
                    for r in 0..there {
                        let row = part.as_mut_ptr().add(r * step);
                        row.copy_from_nonoverlapping(from.add(r * stride + depth - rest), rest);
                    }
                    turn::<S, PAIRS>(s, part.as_ptr(), step, turned.as_mut_ptr(), S::LANES, there);
                    for p in at..end {
                        let row = turned.as_ptr().add((p - at) * S::LANES);
                        to.add(p * width).copy_from_nonoverlapping(row, there);
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

/// Packs `depth` rows of `columns` f32, `stride` apart, as `dst[depth][width]`, zero past
/// `columns`; as half as many rows of pairs where `PAIRS`.
///
/// # Safety
/// The rows must be readable, `columns <= width`, and `dst` valid for the panel.
#[inline(always)]
pub(super) unsafe fn straight<S: Simd, const PAIRS: bool>(
    s: S,
    src: *const f32,
    stride: usize,
    columns: usize,
    width: usize,
    depth: usize,
    dst: *mut f32,
) {
    for p in 0..panel_rows(PAIRS, depth) {
        // SAFETY: rows that exist and a row of the panel.
        unsafe {
            let row = src.add(if PAIRS { 2 * p } else { p } * stride);
            let odd = if PAIRS && 2 * p + 1 < depth { row.add(stride) } else { std::ptr::null() };
            put_row::<S, PAIRS>(s, row, odd, columns, width, dst.add(p * width));
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

/// Widest row of a panel.
const MAX_WIDTH: usize = 32;

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

impl Source {
    /// Packs a slab into micro-panels of the tile's width, decoding through `rows`, a buffer of
    /// decoded rows.
    ///
    /// # Safety
    /// The slab must lie inside B, start at whole blocks, and the buffers be as large as
    /// [`super::Gemm::scratch_len`] makes them.
    #[inline(always)]
    pub(super) unsafe fn pack<S: Simd, const PAIRS: bool>(
        self,
        s: S,
        slab: Slab,
        dst: *mut f32,
        rows: *mut f32,
    ) {
        if slab.depth == 0 {
            return;
        }
        self.format.visit(Pack::<S, PAIRS> { s, source: self, slab, dst, rows });
    }
}

struct Pack<S, const PAIRS: bool> {
    s: S,
    source: Source,
    slab: Slab,
    dst: *mut f32,
    rows: *mut f32,
}

impl<S: Simd, const PAIRS: bool> FormatVisitor for Pack<S, PAIRS> {
    type Out = ();

    #[inline(always)]
    fn visit<B: BlockFormat>(self) {
        // SAFETY: the contract of `Source::pack`.
        unsafe {
            match (self.source.format, self.source.trans) {
                (Format::F32, true) => self.transposed_f32(),
                (Format::F32, false) => self.straight_f32(),
                (_, true) => self.transposed::<B>(),
                (_, false) => self.straight::<B>(),
            }
        }
    }
}

impl<S: Simd, const PAIRS: bool> Pack<S, PAIRS> {
    const WIDTH: usize = S::GEMM_NV * S::LANES;

    #[inline(always)]
    unsafe fn transposed_f32(&self) {
        let (s, k) = (self.s, self.source.k);
        for j in (0..self.slab.columns).step_by(Self::WIDTH) {
            let there = (self.slab.columns - j).min(Self::WIDTH);
            // SAFETY: the contract of `Source::pack`.
            unsafe {
                let src =
                    self.source.data.cast::<f32>().add((self.slab.column + j) * k + self.slab.from);
                let dst = self.dst.add(j * room(self.slab.depth));
                transposed::<S, PAIRS>(s, src, k, there, Self::WIDTH, self.slab.depth, dst);
            }
        }
    }

    #[inline(always)]
    unsafe fn straight_f32(&self) {
        let (s, n) = (self.s, self.source.n);
        for j in (0..self.slab.columns).step_by(Self::WIDTH) {
            let there = (self.slab.columns - j).min(Self::WIDTH);
            // SAFETY: the contract of `Source::pack`.
            unsafe {
                let src =
                    self.source.data.cast::<f32>().add(self.slab.from * n + self.slab.column + j);
                let dst = self.dst.add(j * room(self.slab.depth));
                straight::<S, PAIRS>(s, src, n, there, Self::WIDTH, self.slab.depth, dst);
            }
        }
    }

    /// Decodes the slab of a micro-panel's rows, then transposes it.
    #[inline(always)]
    unsafe fn transposed<B: BlockFormat>(&self) {
        let (s, row) = (self.s, self.source.k / B::ELEMS);
        let blocks = self.slab.depth / B::ELEMS;
        for j in (0..self.slab.columns).step_by(Self::WIDTH) {
            let there = (self.slab.columns - j).min(Self::WIDTH);
            // SAFETY: the contract of `Source::pack`.
            unsafe {
                for r in 0..there {
                    let first = (self.slab.column + j + r) * row + self.slab.from / B::ELEMS;
                    let src = self.source.data.cast::<B>().add(first);
                    B::decode_blocks(s, src, blocks, self.rows.add(r * self.slab.depth));
                }
                let dst = self.dst.add(j * room(self.slab.depth));
                transposed::<S, PAIRS>(
                    s,
                    self.rows,
                    self.slab.depth,
                    there,
                    Self::WIDTH,
                    self.slab.depth,
                    dst,
                );
            }
        }
    }

    /// Decodes the columns of one row after another and lays them out over the micro-panels.
    #[inline(always)]
    unsafe fn straight<B: BlockFormat>(&self) {
        let (s, row) = (self.s, self.source.n / B::ELEMS);
        let blocks = self.slab.columns.div_ceil(B::ELEMS);
        let decoded = blocks * B::ELEMS;
        for p in 0..panel_rows(PAIRS, self.slab.depth) {
            // SAFETY: the contract of `Source::pack`; tasks start at whole blocks.
            unsafe {
                let (first, count) =
                    if PAIRS { (2 * p, (self.slab.depth - 2 * p).min(2)) } else { (p, 1) };
                for i in 0..count {
                    let at = (self.slab.from + first + i) * row + self.slab.column / B::ELEMS;
                    let src = self.source.data.cast::<B>().add(at);
                    B::decode_blocks(s, src, blocks, self.rows.add(i * decoded));
                }
                let odd = if count == 2 { self.rows.add(decoded) } else { std::ptr::null_mut() };
                for j in (0..self.slab.columns).step_by(Self::WIDTH) {
                    let there = (self.slab.columns - j).min(Self::WIDTH);
                    let dst = self.dst.add(j * room(self.slab.depth) + p * Self::WIDTH);
                    let odd = if odd.is_null() { odd } else { odd.add(j) };
                    put_row::<S, PAIRS>(s, self.rows.add(j), odd, there, Self::WIDTH, dst);
                }
            }
        }
    }
}
