//! The register tile: each sum held as i32 within a block and as f32 beyond it.

use crate::quant::Codes;
use crate::simd::Simd;

use super::super::tile::{Target, fetch};
use super::center;
use super::round::BLOCK;

/// Two packed panels and the place of their product.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// Blocks of depth.
    pub blocks: usize,
    /// The first of them in the panel of A.
    pub first: usize,
    /// A panel of A, of all of k.
    pub a: *const f32,
    /// Blocks in it.
    pub a_blocks: usize,
    /// A micro-panel of B, of the tile's blocks.
    pub b: *const f32,
    /// The tile of C.
    pub to: Target,
}

/// Lanes of four codes in a block.
const STEPS: usize = BLOCK / 4;

impl Tile {
    /// Multiplies the panels into C.
    ///
    /// # Safety
    /// The panels must be packed for `C`, and the target be valid for the rows and columns that
    /// exist.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd, C: Codes>(&self, s: S) {
        const {
            let sizes = (S::INT8_MR, S::INT8_NV);
            assert!(matches!(sizes, (7, 2) | (6, 2) | (4, 2) | (4, 1) | (3, 2)));
        }
        let narrow = self.to.columns <= S::LANES;
        // SAFETY: the caller's contract; each tile covers the rows and columns that exist. Only
        // the arms of this level's own tile are compiled.
        unsafe {
            match (S::INT8_MR, S::INT8_NV) {
                (7, 2) => match (self.to.rows, narrow) {
                    (..=4, false) => self.sized::<S, C, 4, 2>(s),
                    (..=4, true) => self.sized::<S, C, 4, 1>(s),
                    (_, false) => self.sized::<S, C, 7, 2>(s),
                    (_, true) => self.sized::<S, C, 7, 1>(s),
                },
                (6, 2) => match (self.to.rows, narrow) {
                    (..=2, false) => self.sized::<S, C, 2, 2>(s),
                    (..=2, true) => self.sized::<S, C, 2, 1>(s),
                    (_, false) => self.sized::<S, C, 6, 2>(s),
                    (_, true) => self.sized::<S, C, 6, 1>(s),
                },
                (4, 2) if !narrow => self.sized::<S, C, 4, 2>(s),
                (4, _) => self.sized::<S, C, 4, 1>(s),
                (3, _) if narrow => self.sized::<S, C, 3, 1>(s),
                (3, _) => self.sized::<S, C, 3, 2>(s),
                _ => unreachable!("no register tile of this size"),
            }
        }
    }

    /// One register tile of `R` rows and `NV` vectors.
    ///
    /// # Safety
    /// As for [`Tile::run`], with at most `R` rows and `NV` vectors of columns.
    #[inline(always)]
    unsafe fn sized<S: Simd, C: Codes, const R: usize, const NV: usize>(&self, s: S) {
        let (mr, width) = (S::INT8_MR, S::INT8_NV * S::LANES);
        fetch::<S, R, NV>(s, self.to.c, self.to.c_step);
        let mut sums = [[s.zero(); NV]; R];
        let mut a = self.a.wrapping_add(self.first * STEPS * mr);
        let mut scales_a = self.a.wrapping_add((self.a_blocks * STEPS + self.first) * mr);
        let mut b = self.b;
        let mut scales_b = self.b.wrapping_add(self.blocks * STEPS * width);
        let (starts, mins) = (self.a_blocks * mr, self.blocks * width);
        for _ in 0..self.blocks {
            let mut dots = [[s.zero(); NV]; R];
            if !C::HAS_MIN && const { center::<S, C>() } != 0 {
                for r in 0..R {
                    // SAFETY: inside the panel.
                    dots[r] = [s.splat(unsafe { *scales_a.add(starts + r) }); NV];
                }
                s.turn_sums(&mut dots);
            }
            for _ in 0..STEPS / S::STEP_ROWS {
                // SAFETY: inside the panels.
                unsafe {
                    match C::BITS {
                        ..=7 => s.step_bytes::<7, R, NV>(a, b, &mut dots),
                        _ => s.step_bytes::<8, R, NV>(a, b, &mut dots),
                    }
                }
                a = a.wrapping_add(S::STEP_ROWS * mr);
                b = b.wrapping_add(S::STEP_ROWS * width);
            }
            s.turn_sums(&mut dots);
            for v in 0..NV {
                // SAFETY: inside the panel.
                let scale = unsafe { s.load(scales_b.add(v * S::LANES)) };
                for r in 0..R {
                    // SAFETY: inside the panel.
                    let by = s.splat(unsafe { *scales_a.add(r) });
                    // In this order no register is needed beyond that of the dot product: the 32
                    // of NEON are then enough.
                    sums[r][v] = s.fma(s.mul(s.convert_i32(dots[r][v]), scale), by, sums[r][v]);
                }
            }
            if C::HAS_MIN {
                for v in 0..NV {
                    // SAFETY: inside the panel.
                    let min = unsafe { s.load(scales_b.add(mins + v * S::LANES)) };
                    for r in 0..R {
                        // SAFETY: inside the panel.
                        let sum = s.splat(unsafe { *scales_a.add(starts + r) });
                        sums[r][v] = s.fma(sum, min, sums[r][v]);
                    }
                }
            }
            scales_a = scales_a.wrapping_add(mr);
            scales_b = scales_b.wrapping_add(width);
        }
        // SAFETY: the caller's contract.
        unsafe { self.to.put(s, &sums) };
    }
}
