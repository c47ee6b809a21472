//! Packing bytes in lanes of four along k.

use std::mem::MaybeUninit;

use super::super::PAGE;
use super::super::pack::{EARLY, LINE, transposed};
use super::super::tile::load;
use super::lanes;
use crate::isa::{Isa, Kernel};
use crate::simd::{MAX_LANES, MAX_WIDTH, Simd};

/// Bytes of a row that are copied before they are laid out; with all rows they stay in L1.
const CHUNK: usize = 512;

/// What turns a byte of B into what the level multiplies, by exclusive or: for unsigned ones, which
/// are 128 greater, the upper bit of each byte.
const fn offset<S: Simd>() -> f32 {
    f32::from_bits(if S::SIGNED_BYTES { 0 } else { 0x8080_8080 })
}

/// A part of an operand, and its panel.
pub(super) struct Part {
    /// Its first byte.
    pub src: *const i8,
    /// Bytes from row to row of what is stored.
    pub stride: usize,
    /// Rows of A or columns of B, 1 to `width`.
    pub count: usize,
    /// Bytes of each.
    pub depth: usize,
    /// Those a panel has.
    pub width: usize,
    /// The panel: `[depth / 4][width]` lanes.
    pub to: *mut f32,
}

/// Packs rows of A, or columns of a B stored [n, k]: what lies in a row along k. Rows that are whole
/// lanes are read where they are, others are copied first, with zeros to whole lanes.
///
/// For A, `starts` gets what the sums of each row begin at: what is added to B, with the opposite
/// sign, times the sum of the row's codes. Where it is null, the part is one of B.
///
/// One function for both operands, that its code be there once.
#[inline(never)]
pub(super) fn rows(isa: Isa, part: Part, starts: *mut f32) {
    isa.run(Rows { part, starts });
}

/// See [`rows`]. Compiled for the levels that differ in more than products of bytes, as all of
/// packing is.
struct Rows {
    part: Part,
    starts: *mut f32,
}

impl Kernel for Rows {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Part { src, stride, count, depth, width, to } = self.part;
        debug_assert!(width <= MAX_WIDTH);
        let mut space = MaybeUninit::<[f32; MAX_WIDTH * CHUNK / 4]>::uninit();
        let copy = space.as_mut_ptr().cast::<f32>();
        let aligned = src.cast::<f32>().is_aligned() && (stride | depth).is_multiple_of(4);
        for from in (0..depth).step_by(CHUNK) {
            let there = (depth - from).min(CHUNK);
            // SAFETY: the chunk of rows that exist; a row of the copy holds a chunk.
            unsafe {
                let mut chunk = (src.add(from).cast::<f32>(), stride / 4);
                if !aligned {
                    for r in 0..count {
                        let row = copy.add(r * CHUNK / 4);
                        if !there.is_multiple_of(4) {
                            row.add(there / 4).write(0.0);
                        }
                        row.cast::<i8>()
                            .copy_from_nonoverlapping(src.add(r * stride + from), there);
                    }
                    chunk = (copy, CHUNK / 4);
                }
                let (panel, lanes) = (to.add(from / 4 * width), lanes(there));
                transposed::<S, false>(s, chunk.0, chunk.1, count, width, lanes, panel);
                if self.starts.is_null() && !S::SIGNED_BYTES {
                    for at in (0..lanes * width).step_by(S::LANES) {
                        let lane = panel.add(at);
                        s.store(lane, s.xor(s.load(lane), s.splat(offset::<S>())));
                    }
                }
            }
        }
        if !self.starts.is_null() {
            // SAFETY: the panel is packed.
            unsafe { starts(s, to, lanes(depth), width, self.starts) };
        }
    }
}

/// What the sums of each row of a packed panel of A begin at, as i32: see [`rows`].
///
/// # Safety
/// `panel` must hold `lanes` of `width` rows; `starts` must be valid for `width` i32.
#[inline(always)]
unsafe fn starts<S: Simd>(s: S, panel: *const f32, lanes: usize, width: usize, starts: *mut f32) {
    // -x is the complement of x - 1.
    let (all, ones) = (s.splat(f32::from_bits(u32::MAX)), s.splat(f32::from_bits(0x0101_0101)));
    for first in (0..width).step_by(S::LANES) {
        let n = (width - first).min(S::LANES);
        // Four sums, for one would wait for itself.
        let mut sums = [s.zero(); 4];
        if !S::SIGNED_BYTES {
            for from in (0..lanes).step_by(4) {
                for (i, sum) in sums.iter_mut().enumerate().take(lanes - from) {
                    // SAFETY: `n` lanes of the panel's row.
                    let codes = unsafe { load(s, panel.add((from + i) * width + first), n) };
                    *sum = s.dot_bytes::<7>(ones, codes, *sum);
                }
            }
        }
        let [a, b, c, d] = sums;
        let sum = s.add_i32(s.add_i32(a, b), s.add_i32(c, d));
        let start = s.xor(s.add_i32(s.shift_left::<7>(sum), all), all);
        // SAFETY: as above.
        unsafe {
            if n == S::LANES {
                s.store(starts.add(first), start);
            } else {
                s.store_n(starts.add(first), start, n);
            }
        }
    }
}

/// Packs columns of a B stored [k, n] in panels, one behind the other.
///
/// All panels of four rows are written before the next rows are read: see
/// [`straight`](super::super::pack::straight).
pub(super) struct Columns(pub(super) Part);

impl Kernel for Columns {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Part { src, stride, count, depth, width, to } = self.0;
        for lane in 0..lanes(depth) {
            let (rows, there) = (src.wrapping_add(4 * lane * stride), (depth - 4 * lane).min(4));
            // No prefetcher follows from page to page: with 49152 columns a product is 3 % faster,
            // with 1024 it would be 2 % slower.
            if stride >= PAGE {
                for r in EARLY..EARLY + 4 {
                    for at in (0..count).step_by(LINE) {
                        s.prefetch(rows.wrapping_add(r * stride + at).cast());
                    }
                }
            }
            for panel in (0..count).step_by(width) {
                let to = to.wrapping_add(panel * lanes(depth) + lane * width);
                let end = count.min(panel + width);
                for first in (panel..end).step_by(S::LANES) {
                    let n = (end - first).min(S::LANES);
                    let mut four = [s.zero(); 4];
                    for (i, row) in four.iter_mut().enumerate().take(there) {
                        // SAFETY: `n` bytes of a row that exists.
                        *row = unsafe {
                            let from = rows.add(i * stride + first);
                            if n == S::LANES {
                                s.load_i8(from)
                            } else {
                                let mut part = [0; MAX_LANES];
                                part.as_mut_ptr().copy_from_nonoverlapping(from, n);
                                s.load_i8(part.as_ptr())
                            }
                        };
                    }
                    // SAFETY: the panel's rows are whole vectors.
                    unsafe {
                        let packed = s.xor(s.pack_i8(four), s.splat(offset::<S>()));
                        s.store(to.add(first - panel), packed);
                    }
                }
            }
        }
    }
}
