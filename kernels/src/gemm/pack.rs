//! Packing: operands into panels that the register tile reads in order.

use crate::quant::{BlockFormat, Format, FormatVisitor};
use crate::simd::Simd;

/// Packs `rows` rows of `depth` f32, `stride` apart, as `dst[depth][width]`, zero past `rows`.
///
/// # Safety
/// `rows >= 1` rows must be readable, and `dst` valid for `depth * width` f32.
#[inline(always)]
pub(super) unsafe fn transposed<S: Simd>(
    s: S,
    src: *const f32,
    stride: usize,
    rows: usize,
    width: usize,
    depth: usize,
    dst: *mut f32,
) {
    let vectors = depth / S::LANES * S::LANES;
    for first in (0..width).step_by(S::LANES) {
        let lanes = (width - first).min(S::LANES);
        let there = rows.saturating_sub(first).min(lanes);
        // SAFETY: only rows below `rows` and `depth` are read; writes stay in the panel.
        unsafe {
            let from = src.add(first.min(rows - 1) * stride);
            for p in (0..vectors).step_by(S::LANES) {
                if there > 0 {
                    s.transpose(from.add(p), stride, dst.add(p * width + first), width, there);
                }
            }
            for p in vectors..depth {
                for r in 0..there {
                    *dst.add(p * width + first + r) = *from.add(r * stride + p);
                }
            }
            if there < lanes {
                for p in 0..depth {
                    for r in there..lanes {
                        *dst.add(p * width + first + r) = 0.0;
                    }
                }
            }
        }
    }
}

/// Packs `depth` rows of `columns` f32, `stride` apart, as `dst[depth][width]`, zero past
/// `columns`.
///
/// # Safety
/// The rows must be readable, `columns <= width`, and `dst` valid for `depth * width` f32.
#[inline(always)]
pub(super) unsafe fn straight<S: Simd>(
    s: S,
    src: *const f32,
    stride: usize,
    columns: usize,
    width: usize,
    depth: usize,
    dst: *mut f32,
) {
    for p in 0..depth {
        // SAFETY: row `p` of source and panel.
        unsafe { copy_row(s, src.add(p * stride), columns, width, dst.add(p * width)) };
    }
}

/// Copies `columns` f32 and fills up to `width` with zeros.
#[inline(always)]
unsafe fn copy_row<S: Simd>(s: S, src: *const f32, columns: usize, width: usize, dst: *mut f32) {
    for at in (0..width).step_by(S::LANES) {
        let lanes = (width - at).min(S::LANES);
        let there = columns.saturating_sub(at).min(lanes);
        // SAFETY: `there` f32 are readable, `lanes` writable.
        unsafe {
            let v = if there == S::LANES {
                s.load(src.add(at))
            } else {
                s.load_n(src.wrapping_add(at), there)
            };
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
unsafe fn round_bf16<S: Simd>(s: S, data: *mut f32, len: usize) {
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

/// Pairs the rows of a packed panel `[depth][width]` as bfloat16, in place: row `p` becomes rows
/// `2p` and `2p + 1` for [`Simd::dot_bf16`], a missing last one zero.
///
/// # Safety
/// The panel must be valid for `depth * width` f32.
#[inline(always)]
unsafe fn pair_bf16<S: Simd>(s: S, panel: *mut f32, width: usize, depth: usize) {
    for p in (0..depth).step_by(2) {
        for first in (0..width).step_by(S::LANES) {
            let n = (width - first).min(S::LANES);
            let load = |row| {
                // SAFETY: `n` f32 of a row; what is overwritten below was read before.
                unsafe {
                    let from = panel.add(row * width + first);
                    if n == S::LANES { s.load(from) } else { s.load_n(from, n) }
                }
            };
            let odd = if p + 1 < depth { load(p + 1) } else { s.zero() };
            let pair = s.pair_bf16(load(p), odd);
            // SAFETY: `n` f32 of row `p / 2`.
            unsafe {
                let to = panel.add(p / 2 * width + first);
                if n == S::LANES { s.store(to, pair) } else { s.store_n(to, pair, n) }
            }
        }
    }
}

/// Rounds a packed panel `[depth][width]` to bfloat16: pairs where the level multiplies them.
///
/// # Safety
/// The panel must be valid for `depth * width` f32.
#[inline(always)]
pub(super) unsafe fn bf16<S: Simd>(s: S, panel: *mut f32, width: usize, depth: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        if S::HAS_DOT_BF16 {
            pair_bf16(s, panel, width, depth);
        } else {
            round_bf16(s, panel, depth * width);
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
    pub(super) unsafe fn pack<S: Simd>(self, s: S, slab: Slab, dst: *mut f32, rows: *mut f32) {
        if slab.depth == 0 {
            return;
        }
        self.format.visit(Pack { s, source: self, slab, dst, rows });
    }
}

struct Pack<S> {
    s: S,
    source: Source,
    slab: Slab,
    dst: *mut f32,
    rows: *mut f32,
}

impl<S: Simd> FormatVisitor for Pack<S> {
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

impl<S: Simd> Pack<S> {
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
                let dst = self.dst.add(j * self.slab.depth);
                transposed(s, src, k, there, Self::WIDTH, self.slab.depth, dst);
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
                let dst = self.dst.add(j * self.slab.depth);
                straight(s, src, n, there, Self::WIDTH, self.slab.depth, dst);
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
                let dst = self.dst.add(j * self.slab.depth);
                transposed(s, self.rows, self.slab.depth, there, Self::WIDTH, self.slab.depth, dst);
            }
        }
    }

    /// Decodes the columns of one row after another and lays them out over the micro-panels.
    #[inline(always)]
    unsafe fn straight<B: BlockFormat>(&self) {
        let (s, row) = (self.s, self.source.n / B::ELEMS);
        let blocks = self.slab.columns.div_ceil(B::ELEMS);
        for p in 0..self.slab.depth {
            // SAFETY: the contract of `Source::pack`; tasks start at whole blocks.
            unsafe {
                let first = (self.slab.from + p) * row + self.slab.column / B::ELEMS;
                B::decode_blocks(s, self.source.data.cast::<B>().add(first), blocks, self.rows);
                for j in (0..self.slab.columns).step_by(Self::WIDTH) {
                    let there = (self.slab.columns - j).min(Self::WIDTH);
                    let dst = self.dst.add(j * self.slab.depth + p * Self::WIDTH);
                    copy_row(s, self.rows.add(j), there, Self::WIDTH, dst);
                }
            }
        }
    }
}
