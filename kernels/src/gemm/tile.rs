//! The register tile: rows by vectors of sums, held in registers over one slab.

use std::mem::MaybeUninit;

use super::pack::{Ahead, LINE, lay};
use crate::simd::{MAX_LANES, Simd};

/// Steps of depth between two looks ahead. With 64, half of what looking ahead brings is lost.
pub(crate) const LOOK: usize = 16;
/// Steps before its end at which a tile asks for its place in C, which otherwise waits for it: 2 % of a
/// product of 1024 or 49152 columns, of bytes 11 %; asked for at once, elsewhere 2 % slower.
pub(super) const SOON: usize = 4 * LOOK;

/// Two packed panels and the place of their product.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Rows of the panels.
    pub depth: usize,
    /// A panel of A, rows of `MR` lanes.
    pub a: *const f32,
    /// The panel of A that comes next, to be asked for, or null where it is near. At 2048 cubed, whose
    /// A comes from L3, 5 % in f32.
    pub next: *const f32,
    /// A micro-panel of B, rows of `NV` vectors.
    pub b: *const f32,
    /// The tile of C.
    pub to: Target,
}

/// A tile of C.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// Where the tile of C begins.
    pub c: *mut f32,
    /// f32 from row to row of C.
    pub c_step: usize,
    /// Rows of C that exist, at least 1.
    pub rows: usize,
    /// Columns of C that exist, at least 1.
    pub columns: usize,
    /// Whether C is added to.
    pub accumulate: bool,
    /// Values for the tile's columns, added to each row, or null.
    pub bias: *const f32,
}

/// What the tile multiplies.
pub(crate) trait Step {
    /// Whether it multiplies fewer rows than a tile's.
    const FEW: bool = false;

    /// Rows of the panels that a step takes: 1 or 2.
    #[inline(always)]
    fn rows<S: Simd>() -> usize {
        1
    }

    /// Adds products of the next rows of the panels.
    ///
    /// # Safety
    /// The panels must hold those rows.
    unsafe fn step<S: Simd, const R: usize, const NV: usize>(
        &mut self,
        s: S,
        a: *const f32,
        b: *const f32,
        sums: &mut [[S::F; NV]; R],
    );
}

/// f32 operands.
pub(crate) struct Single;

impl Step for Single {
    #[inline(always)]
    unsafe fn step<S: Simd, const R: usize, const NV: usize>(
        &mut self,
        s: S,
        a: *const f32,
        b: *const f32,
        sums: &mut [[S::F; NV]; R],
    ) {
        ask_ahead::<S, NV>(s, b);
        // SAFETY: the caller's contract.
        unsafe { s.step_f32(a, b, sums) };
    }
}

/// Asks for a row of B's micro-panel that is [`Simd::GEMM_AHEAD`] steps away.
#[inline(always)]
pub(super) fn ask_ahead<S: Simd, const NV: usize>(s: S, b: *const f32) {
    if S::GEMM_AHEAD > 0 {
        for v in 0..NV {
            s.prefetch(b.wrapping_add((S::GEMM_AHEAD * S::GEMM_NV + v) * S::LANES));
        }
    }
}

/// Pairs of bfloat16 along the depth.
pub(super) struct Pair;

impl Step for Pair {
    #[inline(always)]
    fn rows<S: Simd>() -> usize {
        S::STEP_ROWS
    }

    #[inline(always)]
    unsafe fn step<S: Simd, const R: usize, const NV: usize>(
        &mut self,
        s: S,
        a: *const f32,
        b: *const f32,
        sums: &mut [[S::F; NV]; R],
    ) {
        // SAFETY: the caller's contract.
        unsafe { s.step_bf16(a, b, sums) };
    }
}

/// Rows that [`Fresh`] asks for early.
const SOONER: usize = 32;

/// The operands of [`Single`], or of [`Pair`] where `PAIRS`, with a B that this packs step by step:
/// its loads and stores take no time of a tile that multiplies meanwhile.
pub(super) struct Fresh<const PAIRS: bool> {
    /// The next row of a B stored [k, n].
    pub row: *const f32,
    /// f32 from row to row.
    pub stride: usize,
}

impl<const PAIRS: bool> Step for Fresh<PAIRS> {
    #[inline(always)]
    unsafe fn step<S: Simd, const R: usize, const NV: usize>(
        &mut self,
        s: S,
        a: *const f32,
        b: *const f32,
        sums: &mut [[S::F; NV]; R],
    ) {
        let rows = if PAIRS { 2 } else { 1 };
        for r in SOONER..SOONER + rows {
            for v in 0..NV {
                s.prefetch(self.row.wrapping_add(r * self.stride + v * S::LANES));
            }
        }
        // SAFETY: the caller's contract.
        unsafe {
            lay::<S, PAIRS>(s, self.row, self.stride, b.cast_mut());
            self.row = self.row.wrapping_add(rows * self.stride);
            if PAIRS {
                s.step_bf16(a, b, sums);
            } else {
                s.step_f32(a, b, sums);
            }
        }
    }
}

/// The operands of [`Single`], of a B that is read where it lies: where C has rows for one tile alone,
/// nobody would read a packed one again. 8 x 576 x 256: 93 to 210 GFLOP/s.
pub(super) struct Strided {
    /// The next row of a B stored [k, n].
    pub row: *const f32,
    /// f32 from row to row.
    pub stride: usize,
}

impl Step for Strided {
    const FEW: bool = true;

    #[inline(always)]
    unsafe fn step<S: Simd, const R: usize, const NV: usize>(
        &mut self,
        s: S,
        a: *const f32,
        _: *const f32,
        sums: &mut [[S::F; NV]; R],
    ) {
        for v in 0..NV {
            s.prefetch(self.row.wrapping_add(SOONER * self.stride + v * S::LANES));
        }
        // SAFETY: the caller's contract.
        unsafe { s.step_f32(a, self.row, sums) };
        self.row = self.row.wrapping_add(self.stride);
    }
}

impl Tile {
    /// Multiplies the panels into C.
    ///
    /// Register tiles have constant sizes, so that their sums stay in registers: with a size
    /// known only at run time LLVM keeps them on the stack, at a third of the speed. At the
    /// edges of C a smaller one computes fewer sums that nobody stores.
    ///
    /// # Safety
    /// The panels must hold `depth` rows, counted up to whole steps, and `c` and the bias be valid
    /// for the rows and columns that exist.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd, D: Step>(&self, s: S, mut step: D, ahead: &mut Ahead) {
        let step = &mut step;
        const {
            let sizes = (S::GEMM_MR, S::GEMM_NV);
            assert!(S::HAS_PANELS || matches!(sizes, (14, 2) | (8, 3) | (6, 2) | (4, 1)));
        }
        // A short vector less is little to save.
        let vectors =
            if S::LANES < MAX_LANES { S::GEMM_NV } else { self.to.columns.div_ceil(S::LANES) };
        let narrow = self.to.columns <= S::LANES;
        // SAFETY: the caller's contract; each tile covers the rows and columns that exist. Only
        // the arms of this level's own tile are compiled.
        unsafe {
            match (S::GEMM_MR, S::GEMM_NV) {
                (14, 2) => match (self.to.rows, narrow) {
                    (..=4, false) => self.sized::<S, D, 4, 2>(s, step, ahead),
                    (..=4, true) => self.sized::<S, D, 4, 1>(s, step, ahead),
                    (..=8, false) => self.sized::<S, D, 8, 2>(s, step, ahead),
                    (..=8, true) => self.sized::<S, D, 8, 1>(s, step, ahead),
                    (_, false) => self.sized::<S, D, 14, 2>(s, step, ahead),
                    (_, true) => self.sized::<S, D, 14, 1>(s, step, ahead),
                },
                (8, 3) => match (self.to.rows, vectors) {
                    (..=4, 1) => self.sized::<S, D, 4, 1>(s, step, ahead),
                    (..=4, 2) => self.sized::<S, D, 4, 2>(s, step, ahead),
                    (..=4, _) => self.sized::<S, D, 4, 3>(s, step, ahead),
                    (_, 1) => self.sized::<S, D, 8, 1>(s, step, ahead),
                    (_, 2) => self.sized::<S, D, 8, 2>(s, step, ahead),
                    _ => self.sized::<S, D, 8, 3>(s, step, ahead),
                },
                (6, 2) => match self.to.rows {
                    ..=2 => self.sized::<S, D, 2, 2>(s, step, ahead),
                    _ => self.sized::<S, D, 6, 2>(s, step, ahead),
                },
                (4, 1) => self.sized::<S, D, 4, 1>(s, step, ahead),
                _ => unreachable!("no register tile of this size"),
            }
        }
    }

    /// The same for a tile of all columns and, but where [`Step::FEW`] says so, of all rows.
    ///
    /// # Safety
    /// As for [`Tile::run`].
    #[inline(always)]
    pub(super) unsafe fn whole<S: Simd, D: Step>(&self, s: S, mut step: D, ahead: &mut Ahead) {
        let step = &mut step;
        // SAFETY: the caller's contract.
        unsafe {
            match (S::GEMM_MR, S::GEMM_NV) {
                (14, 2) if D::FEW && self.to.rows <= 4 => self.sized::<S, D, 4, 2>(s, step, ahead),
                (14, 2) if D::FEW && self.to.rows <= 8 => self.sized::<S, D, 8, 2>(s, step, ahead),
                (6, 2) if D::FEW && self.to.rows <= 2 => self.sized::<S, D, 2, 2>(s, step, ahead),
                (14, 2) => self.sized::<S, D, 14, 2>(s, step, ahead),
                (8, 3) => self.sized::<S, D, 8, 3>(s, step, ahead),
                (6, 2) => self.sized::<S, D, 6, 2>(s, step, ahead),
                _ => self.sized::<S, D, 4, 1>(s, step, ahead),
            }
        }
    }

    /// One register tile of `R` rows and `NV` vectors.
    ///
    /// # Safety
    /// As for [`Tile::run`], with at most `R` rows and `NV` vectors of columns.
    #[inline(always)]
    unsafe fn sized<S: Simd, D: Step, const R: usize, const NV: usize>(
        &self,
        s: S,
        step: &mut D,
        ahead: &mut Ahead,
    ) {
        let mut sums = [[s.zero(); NV]; R];
        let (mut a, mut b) = (self.a, self.b);
        let mut left = self.depth.div_ceil(D::rows::<S>());
        while left > 0 {
            ahead.look(s);
            if left.div_ceil(LOOK) == SOON / LOOK {
                fetch::<S, R, NV>(s, self.to.c, self.to.c_step);
            }
            if !self.next.is_null() {
                let at = a.addr() - self.a.addr();
                for line in (0..LOOK * D::rows::<S>() * S::GEMM_MR).step_by(LINE / size_of::<f32>())
                {
                    s.prefetch(self.next.wrapping_byte_add(at).wrapping_add(line));
                }
            }
            let some = left.min(LOOK);
            left -= some;
            for _ in 0..some {
                // SAFETY: inside the panels.
                unsafe { step.step(s, a, b, &mut sums) };
                a = a.wrapping_add(D::rows::<S>() * S::GEMM_MR);
                b = b.wrapping_add(D::rows::<S>() * S::GEMM_NV * S::LANES);
            }
        }
        if D::rows::<S>() == 2 {
            s.turn_sums(&mut sums);
        }
        // SAFETY: the caller's contract.
        unsafe { self.to.put(s, &sums) };
    }
}

impl Target {
    /// Writes the sums of a register tile.
    ///
    /// # Safety
    /// `c` and the bias must be valid for the rows and columns that exist, which must be at most
    /// `R` and `NV` vectors.
    #[inline(always)]
    pub(super) unsafe fn put<S: Simd, const R: usize, const NV: usize>(
        &self,
        s: S,
        sums: &[[S::F; NV]; R],
    ) {
        // Only plain loops over constant bounds keep the sums in registers; with the general code
        // of `finish` in their place they are stored in every step of depth (75 instead of 220
        // GFLOP/s). So a tile at an edge, or one with a bias, goes through memory.
        let mut spill = [[[MaybeUninit::<f32>::uninit(); MAX_LANES]; NV]; R];
        let whole = self.rows >= R && self.columns >= NV * S::LANES && self.bias.is_null();
        let (to, step) =
            if whole { (self.c, self.c_step) } else { (spill.as_mut_ptr().cast(), NV * S::LANES) };
        let add = whole && self.accumulate;
        for r in 0..R {
            for v in 0..NV {
                // SAFETY: the whole tile exists, in C or on the stack.
                unsafe {
                    let at = to.add(r * step + v * S::LANES);
                    s.store(at, if add { s.add(s.load(at), sums[r][v]) } else { sums[r][v] });
                }
            }
        }
        if !whole {
            // SAFETY: the caller's contract; all sums were just written.
            unsafe { self.finish(s, to, step) };
        }
    }

    /// Moves the rows and columns that exist from `from` to C.
    ///
    /// # Safety
    /// As for [`Target::put`]; `from` must hold the rows, `step` apart, in whole vectors.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, from: *const f32, step: usize) {
        for first in (0..self.columns).step_by(S::LANES) {
            let n = (self.columns - first).min(S::LANES);
            let mut bias = s.zero();
            if !self.bias.is_null() {
                // SAFETY: `n` values from the vector's first.
                bias = unsafe { load(s, self.bias.add(first), n) };
            }
            for r in 0..self.rows {
                // SAFETY: `n` columns of an existing row.
                unsafe {
                    let sum = s.add(s.load(from.add(r * step + first)), bias);
                    put(s, self.c.add(r * self.c_step + first), sum, n, self.accumulate);
                }
            }
        }
    }
}

/// Asks for the lines that a register tile will be written to, rows `step` apart.
#[inline(always)]
pub(super) fn fetch<S: Simd, const R: usize, const NV: usize>(s: S, c: *const f32, step: usize) {
    for r in 0..R {
        for v in 0..NV {
            s.prefetch(c.wrapping_add(r * step + v * S::LANES));
        }
    }
}

/// The first `n <= LANES` lanes.
///
/// # Safety
/// `p` must be valid for reading `n` f32.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(s: S, p: *const f32, n: usize) -> S::F {
    // SAFETY: the caller vouches for `n` f32.
    unsafe { if n == S::LANES { s.load(p) } else { s.load_n(p, n) } }
}

/// Writes the first `n <= LANES` lanes of `v`, added to what is there where `accumulate`.
///
/// # Safety
/// `p` must be valid for reading and writing `n` f32.
#[inline(always)]
pub(super) unsafe fn put<S: Simd>(s: S, p: *mut f32, v: S::F, n: usize, accumulate: bool) {
    // SAFETY: `n` lanes are read and written, as the caller guarantees.
    unsafe {
        let v = if accumulate { s.add(load(s, p, n), v) } else { v };
        if n == S::LANES { s.store(p, v) } else { s.store_n(p, v, n) }
    }
}
