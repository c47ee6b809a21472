//! The product of packed weights with a band of the source.
//!
//! Weights are packed once a launch into panels, as gemm packs its left operand, so that a register
//! tile of gemm's height reads them in order. The right operand is the padded band itself, read at
//! the shift of each tap: what a patch matrix would hold, without the matrix.

use super::axis::Taps;
use crate::simd::Simd;

/// Rows of the widest panel, at least.
pub(super) const MOST_ROWS: usize = 14;
/// f32 of the band, and of a panel of weights, that tiles pass over before they turn to the next
/// channels: together they stay in a first-level cache of 48 KiB.
const BAND: usize = 7 << 10;
const PANEL: usize = 5 << 10;

/// Rows of the next panel where `left` are left: a register tile's, with few to spare.
#[inline(always)]
pub(super) fn panel_rows<S: Simd>(left: usize) -> usize {
    match S::GEMM_MR {
        14 => match left {
            15 | 16 | 23 | 24 | 5..=8 => 8,
            9.. => 14,
            _ => 4,
        },
        8 if left > 4 => 8,
        6 if left > 2 => 6,
        6 => 2,
        _ => 4,
    }
}

/// Weights `[out][in][taps]` of some destination channels, seen from the destination.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    /// The weight of the first destination and source channel's first tap.
    pub(super) data: *const f32,
    /// f32 from one destination channel to the next.
    pub(super) row_step: usize,
    /// f32 from one source channel to the next.
    pub(super) channel_step: usize,
    /// Destination channels.
    pub(super) rows: usize,
    /// Source channels.
    pub(super) channels: usize,
    /// Taps of the kernel, one after another.
    pub(super) taps: usize,
}

impl Weights {
    /// Packs panels `[taps][channels][panel rows]`, zero past the rows there are.
    ///
    /// # Safety
    /// The weights must be readable, and `to` valid for writing
    /// `(rows + MOST_ROWS) * channels * taps` f32.
    #[inline(always)]
    pub(super) unsafe fn pack<S: Simd>(&self, _: S, mut to: *mut f32) {
        let mut row = 0;
        while row < self.rows {
            let rows = panel_rows::<S>(self.rows - row);
            let there = rows.min(self.rows - row);
            let from = self.data.wrapping_add(row * self.row_step);
            for tap in 0..self.taps {
                for channel in 0..self.channels {
                    let from = from.wrapping_add(channel * self.channel_step + tap);
                    // SAFETY: the weight of an existing row; the panel has room for all rows.
                    unsafe {
                        for r in 0..there {
                            *to.add(r) = *from.add(r * self.row_step);
                        }
                        for r in there..rows {
                            *to.add(r) = 0.0;
                        }
                    }
                    to = to.wrapping_add(rows);
                }
            }
            row += rows;
        }
    }
}

/// `sums[row][j] (+)=` the sum over taps and channels of packed weights times the band.
pub(super) struct Panels {
    /// Panels of [`Weights::pack`].
    pub(super) weights: *const f32,
    /// Rows of all panels.
    pub(super) rows: usize,
    /// Source channels.
    pub(super) channels: usize,
    /// Rows and columns of the kernel.
    pub(super) kernel: [usize; 2],
    /// The taps to sum over, vertical and horizontal.
    pub(super) taps: (Taps, Taps),
    /// What the first of them reads for the first result.
    pub(super) band: *const f32,
    /// f32 from one channel of the band to the next, and from one of its rows to the next.
    pub(super) plane: usize,
    pub(super) line: usize,
    /// Results, rounded up to whole tiles.
    pub(super) cols: usize,
    /// The sums, `cols` from one row to the next.
    pub(super) sums: *mut f32,
    /// Whether they are added to.
    pub(super) accumulate: bool,
}

impl Panels {
    /// Columns of whole tiles.
    #[inline(always)]
    pub(super) fn whole<S: Simd>(_: S, cols: usize) -> usize {
        cols.next_multiple_of(S::GEMM_NV * S::LANES)
    }

    /// Computes the product of the first `wanted` columns; what the rest becomes is unspecified.
    ///
    /// # Safety
    /// The weights must be packed, the band be readable at all taps for `cols` results, and
    /// `sums` be valid for `rows + MOST_ROWS` rows.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd>(&self, s: S, wanted: usize) {
        let taps = self.kernel[0] * self.kernel[1];
        let most = (BAND / self.plane.max(1)).min(PANEL / (taps * MOST_ROWS)).max(8);
        let chunk = self.channels.div_ceil(self.channels.div_ceil(most)).max(1);
        for first in (0..self.channels).step_by(chunk) {
            let channels = (first, chunk.min(self.channels - first));
            let (mut row, mut weights) = (0, self.weights);
            while row < self.rows {
                let rows = panel_rows::<S>(self.rows - row);
                for col in (0..wanted).step_by(S::GEMM_NV * S::LANES) {
                    let narrow = wanted - col <= S::LANES;
                    let tile = Tile {
                        of: self,
                        channels,
                        a: weights.wrapping_add(first * rows),
                        b: self.band.wrapping_add(first * self.plane + col),
                        c: self.sums.wrapping_add(row * self.cols + col),
                    };
                    // SAFETY: the caller's contract. Only the arms of this level's panels are
                    // compiled.
                    unsafe {
                        match (S::GEMM_MR, S::GEMM_NV) {
                            (14, 2) => match (rows, narrow) {
                                (14, false) => tile.run::<S, 14, 2>(s),
                                (14, true) => tile.run::<S, 14, 1>(s),
                                (8, false) => tile.run::<S, 8, 2>(s),
                                (8, true) => tile.run::<S, 8, 1>(s),
                                (_, false) => tile.run::<S, 4, 2>(s),
                                (_, true) => tile.run::<S, 4, 1>(s),
                            },
                            (8, 3) if rows == 8 => tile.run::<S, 8, 3>(s),
                            (8, 3) => tile.run::<S, 4, 3>(s),
                            (6, 2) if rows == 6 => tile.run::<S, 6, 2>(s),
                            (6, 2) => tile.run::<S, 2, 2>(s),
                            _ => tile.run::<S, 4, 1>(s),
                        }
                    }
                }
                (row, weights) = (row + rows, weights.wrapping_add(rows * taps * self.channels));
            }
        }
    }
}

/// One register tile over some channels.
struct Tile<'a> {
    of: &'a Panels,
    /// First channel, and how many.
    channels: (usize, usize),
    /// The first channel's weights of tap 0, and what the first tap reads in that channel.
    a: *const f32,
    b: *const f32,
    c: *mut f32,
}

impl Tile<'_> {
    /// Computes `R` rows of `NV` vectors.
    ///
    /// # Safety
    /// As for [`Panels::run`].
    #[inline(always)]
    unsafe fn run<S: Simd, const R: usize, const NV: usize>(&self, s: S) {
        let of = self.of;
        let (y, x) = of.taps;
        let mut sums = [[s.zero(); NV]; R];
        for i in 0..y.count {
            for j in 0..x.count {
                let tap = (y.first + i * y.step) * of.kernel[1] + x.first + j * x.step;
                let mut a = self.a.wrapping_add(tap * of.channels * R);
                let shift = i as isize * y.shift_step * of.line as isize;
                let mut b = self.b.wrapping_offset(shift + j as isize * x.shift_step);
                for _ in 0..self.channels.1 {
                    let mut columns = [s.zero(); NV];
                    for v in 0..NV {
                        // SAFETY: inside the band.
                        columns[v] = unsafe { s.load(b.add(v * S::LANES)) };
                    }
                    for r in 0..R {
                        // SAFETY: inside the panel.
                        let weight = s.splat(unsafe { *a.add(r) });
                        for v in 0..NV {
                            sums[r][v] = s.fma(weight, columns[v], sums[r][v]);
                        }
                    }
                    a = a.wrapping_add(R);
                    b = b.wrapping_add(of.plane);
                }
            }
        }
        let add = of.accumulate || self.channels.0 > 0;
        for r in 0..R {
            for v in 0..NV {
                // SAFETY: inside the sums.
                unsafe {
                    let at = self.c.add(r * of.cols + v * S::LANES);
                    let sum = sums[r][v];
                    s.store(at, if add { s.add(s.load(at), sum) } else { sum });
                }
            }
        }
    }
}
