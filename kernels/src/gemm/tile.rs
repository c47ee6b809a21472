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
    let whole = finish.rows == S::GEMM_MR && finish.columns == S::GEMM_NV * S::LANES;
    // A tile at the edge, or one with a bias, goes through memory: only plain loops over constant
    // bounds keep the sums above in registers (with the general code here inlined once more, they
    // lived on the stack: 75 instead of 250 GFLOP/s).
    let mut spill = [0f32; MAX_MR * MAX_NV * 16];
    let (to, stride) = if whole && finish.bias.is_null() {
        (c, finish.stride)
    } else {
        (spill.as_mut_ptr(), S::GEMM_NV * S::LANES)
    };
    let add = finish.accumulate && to == c;
    for r in 0..S::GEMM_MR {
        for v in 0..S::GEMM_NV {
            // SAFETY: the whole tile exists, in C or on the stack.
            unsafe {
                let at = to.add(r * stride + v * S::LANES);
                s.store(at, if add { s.add(s.load(at), sums[r][v]) } else { sums[r][v] });
            }
        }
    }
    if to != c {
        // SAFETY: the caller's contract.
        unsafe { copy(s, to, stride, c, finish) };
    }
}

/// Writes the part of a tile that lies inside C.
#[inline(always)]
unsafe fn copy<S: Simd>(s: S, from: *const f32, from_stride: usize, c: *mut f32, finish: Finish) {
    for r in 0..finish.rows {
        for v in (0..finish.columns).step_by(S::LANES) {
            let n = (finish.columns - v).min(S::LANES);
            // SAFETY: row `r` and `n` columns from `v` exist.
            unsafe {
                let at = c.add(r * finish.stride + v);
                let mut sum = s.load(from.add(r * from_stride + v));
                if !finish.bias.is_null() {
                    sum = s.add(sum, part_load(s, finish.bias.add(v), n));
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
