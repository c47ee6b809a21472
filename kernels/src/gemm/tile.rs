//! The register tile: `MR x (NV * LANES)` sums held in registers over one slab.

use crate::simd::Simd;

/// Room for the largest tile of any level.
const MAX_MR: usize = 14;
/// See [`MAX_MR`].
const MAX_NV: usize = 3;

/// How a tile leaves its registers.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    /// Whether C is added to.
    pub accumulate: bool,
    /// Values for the tile's columns, added to each row, or null.
    pub bias: *const f32,
    /// Rows of C that exist.
    pub rows: usize,
    /// Columns of C that exist.
    pub columns: usize,
    /// f32 from row to row of C.
    pub stride: usize,
}

/// Multiplies a packed panel of A (`depth x MR`) with one of B (`depth x NV * LANES`) into C.
///
/// On AVX-512 the 14 x 32 tile is 28 fused multiply-adds for 2 loads and 14 embedded broadcasts a
/// step of depth; read from the assembly, no sum leaves its register.
///
/// # Safety
/// The panels must hold `depth` steps, and `c` be valid for the rows and columns that exist.
#[inline(always)]
pub(super) unsafe fn run<S: Simd>(
    s: S,
    depth: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    finish: Finish,
) {
    let mut sums = [[s.zero(); MAX_NV]; MAX_MR];
    for p in 0..depth {
        // SAFETY: inside the panels.
        unsafe {
            let mut columns = [s.zero(); MAX_NV];
            for v in 0..S::GEMM_NV {
                columns[v] = s.load(b.add((p * S::GEMM_NV + v) * S::LANES));
            }
            for r in 0..S::GEMM_MR {
                let x = s.splat(*a.add(p * S::GEMM_MR + r));
                for v in 0..S::GEMM_NV {
                    sums[r][v] = s.fma(x, columns[v], sums[r][v]);
                }
            }
        }
    }
    if finish.rows == S::GEMM_MR && finish.columns == S::GEMM_NV * S::LANES {
        for r in 0..S::GEMM_MR {
            for v in 0..S::GEMM_NV {
                // SAFETY: the whole tile exists.
                unsafe {
                    let at = c.add(r * finish.stride + v * S::LANES);
                    let mut sum = sums[r][v];
                    if !finish.bias.is_null() {
                        sum = s.add(sum, s.load(finish.bias.add(v * S::LANES)));
                    }
                    if finish.accumulate {
                        sum = s.add(s.load(at), sum);
                    }
                    s.store(at, sum);
                }
            }
        }
    } else {
        // SAFETY: the caller's contract.
        unsafe { edge(s, &sums, c, finish) };
    }
}

/// Writes the part of a tile that lies inside C.
#[inline(always)]
unsafe fn edge<S: Simd>(s: S, sums: &[[S::F; MAX_NV]; MAX_MR], c: *mut f32, finish: Finish) {
    for r in 0..S::GEMM_MR {
        for v in 0..S::GEMM_NV {
            let n = finish.columns.saturating_sub(v * S::LANES).min(S::LANES);
            if r >= finish.rows || n == 0 {
                continue;
            }
            // SAFETY: row `r` and `n` columns from `v * LANES` exist.
            unsafe {
                let at = c.add(r * finish.stride + v * S::LANES);
                let mut sum = sums[r][v];
                if !finish.bias.is_null() {
                    sum = s.add(sum, part_load(s, finish.bias.add(v * S::LANES), n));
                }
                if finish.accumulate {
                    sum = s.add(part_load(s, at, n), sum);
                }
                if n == S::LANES { s.store(at, sum) } else { s.store_n(at, sum, n) }
            }
        }
    }
}

/// The first `n <= LANES` lanes.
#[inline(always)]
unsafe fn part_load<S: Simd>(s: S, p: *const f32, n: usize) -> S::F {
    // SAFETY: the caller vouches for `n` f32.
    unsafe { if n == S::LANES { s.load(p) } else { s.load_n(p, n) } }
}
