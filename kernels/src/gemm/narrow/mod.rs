//! Products of few rows, such as a model's step at one token: B is read once, in the order in which
//! it is stored, and never packed.
//!
//! | B stored | how |
//! |---|---|
//! | [n, k], with codes | `codes`: four columns at a time, the codes decoded in registers |
//! | [n, k] | `dot`: four rows of B at a time, each a column's sum in lanes |
//! | [k, n] | `axpy`: four rows of B at a time, added to the rows of C |
//!
//! Only the first rounds A to int8 where that is asked for. The others multiply f32, whatever the
//! precision: rounding what streams by would only cost time. They decode a stored row that is not
//! f32 a stretch at a time into the task's scratch.

mod axpy;
pub(super) mod codes;
mod dot;
#[cfg(test)]
mod tests;

use super::{Gemm, PAD, PackA, Precision, Run, int8, pack::transposed};
use crate::isa::Kernel;
use crate::quant::Format;
use crate::simd::Simd;

/// Most rows of a product with a B stored [n, k]; one row less with one stored [k, n]. With more the
/// packed path is as fast: in GFLOP/s of a Zen 5 thread with N 1536, K 576, Q4_0 and int8 sums, 251
/// to 177 at 4 rows and 256 to 256 at 6; with Q4_1 and f32, 93 to 53 at 5 and 80 to 89 at 8.
const ROWS: usize = 5;
/// Elements of a row of B that are decoded at once: whole blocks of any format.
const CHUNK: usize = 512;
/// Bytes of B that are worth a task: one costs 25 ns on Zen 5. With a third of them, N 1536, K 576 in
/// Q4_1 by int8 sums takes 9.2 us of a thread; with all in one task 8.6.
const TASK: usize = 48 << 10;

/// Whether a product of `m` rows takes this path, which rounds no float to bfloat16, whatever the
/// precision. It depends on neither n nor k, so that products which share a packed A agree.
#[must_use]
pub fn takes(m: usize, trans_b: bool) -> bool {
    let most = if trans_b { ROWS } else { ROWS - 1 };
    (1..=most).contains(&m)
}

/// What computes a product of this path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The codes of B with those of A.
    Bytes,
    /// The codes of B with f32.
    Codes,
    /// What B's elements decode to.
    Decoded,
}

impl Way {
    pub(super) fn of(gemm: &Gemm) -> Self {
        if !int8::keeps_codes(gemm.b_format, gemm.trans_b) || gemm.trans_a {
            Self::Decoded
        } else if gemm.precision == Precision::Int8 {
            Self::Bytes
        } else {
            Self::Codes
        }
    }
}

/// [`Gemm::shared_len`].
pub(super) fn shared_len(gemm: &Gemm) -> usize {
    let row_len = |vectors| codes::Groups::of(gemm, gemm.tile.lanes).row_len(vectors);
    let row = match Way::of(gemm) {
        Way::Bytes => row_len(int8::narrow::VECTORS),
        Way::Codes => row_len(codes::VECTORS),
        Way::Decoded => gemm.k,
    };
    gemm.m * row + PAD
}

/// [`Gemm::scratch_len`].
pub(super) fn scratch_len(gemm: &Gemm) -> usize {
    if Way::of(gemm) == Way::Decoded && gemm.b_format != Format::F32 { 4 * CHUNK } else { 0 }
}

/// Columns of a task.
pub(super) fn columns(gemm: &Gemm) -> usize {
    let &Gemm { n, k, b_format, trans_b, .. } = gemm;
    let bytes = |elements: usize| elements * b_format.block_bytes() / b_format.block_elems();
    if trans_b {
        (n / 32).max(TASK / bytes(k).max(1)).max(1).next_multiple_of(4)
    } else {
        // Whole blocks, and pieces of rows that a prefetcher follows.
        (n / 8).max(1).next_multiple_of(b_format.block_elems().max(128))
    }
}

/// [`Gemm::pack`].
///
/// # Safety
/// As there.
pub(super) unsafe fn pack(part: PackA<'_>) {
    let isa = part.gemm.isa;
    match Way::of(part.gemm) {
        Way::Bytes => isa.run(int8::narrow::Quantize(part)),
        Way::Codes => isa.run(codes::Arrange(part)),
        Way::Decoded => isa.run(Pack(part)),
    }
}

/// [`Gemm::run`].
///
/// # Safety
/// As there.
pub(super) unsafe fn run(part: Run<'_>) {
    let isa = part.gemm.isa;
    match Way::of(part.gemm) {
        Way::Bytes => isa.run(int8::narrow::Multiply(part)),
        _ => isa.run(Multiply(part)),
    }
}

/// Packs the rows of A as they are.
struct Pack<'a>(PackA<'a>);

impl Kernel for Pack<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PackA { gemm: &Gemm { m, k, trans_a, .. }, a, shared, .. } = self.0;
        // SAFETY: the contract of `Gemm::pack`.
        unsafe {
            if !trans_a || m == 1 {
                a.copy_to_nonoverlapping(shared, m * k);
            } else if k > 0 {
                transposed::<S, false>(s, a, m, k, k, m, shared);
            }
        }
    }
}

/// Computes columns of C in f32.
struct Multiply<'a>(Run<'a>);

impl Kernel for Multiply<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the contract of `Gemm::run`.
        unsafe {
            if Way::of(self.0.gemm) == Way::Codes {
                codes::columns::<S, codes::Floats>(s, &self.0);
            } else if self.0.gemm.trans_b {
                dot::columns(s, &self.0);
            } else {
                axpy::columns(s, &self.0);
            }
        }
    }
}

/// `there` (1 to 4) successive rows of B from an element on, as f32; the last stands for those
/// that do not exist.
///
/// # Safety
/// The rows must have `len` elements there, at most [`CHUNK`], from and in whole blocks.
#[inline(always)]
unsafe fn four_rows(
    run: &Run<'_>,
    [row, there]: [usize; 2],
    [from, len]: [usize; 2],
) -> [*const f32; 4] {
    let g = run.gemm;
    let (first, apart) = if g.b_format == Format::F32 {
        let step = if g.trans_b { g.k } else { g.n };
        (run.b.cast::<f32>().wrapping_add(row * step + from), step)
    } else {
        // SAFETY: the caller's contract; the scratch has room for four stretches.
        unsafe { run.source().decode([row, there], [from, len], run.scratch, CHUNK) };
        (run.scratch.cast_const(), CHUNK)
    };
    let mut rows = [first; 4];
    for (i, row) in rows.iter_mut().enumerate() {
        *row = row.wrapping_add(i.min(there - 1) * apart);
    }
    rows
}

/// Writes up to four sums of a row of C.
///
/// # Safety
/// The columns must exist and be the task's own.
#[inline(always)]
pub(super) unsafe fn put(run: &Run<'_>, row: usize, [column, columns]: [usize; 2], sums: [f32; 4]) {
    // SAFETY: the caller's contract.
    unsafe {
        if columns == 4 {
            return put_all(run, row, column, sums);
        }
        // Not a loop over `columns`: that becomes masks for whole fours as well.
        for j in 0..3 {
            if j < columns {
                put_all(run, row, column + j, [sums[j]]);
            }
        }
    }
}

/// Writes `N` sums of a row of C.
///
/// # Safety
/// As for [`put`].
#[inline(always)]
unsafe fn put_all<const N: usize>(run: &Run<'_>, row: usize, column: usize, mut sums: [f32; N]) {
    let c = run.c.wrapping_add(row * run.gemm.n + column);
    let bias = run.epilogue.bias.wrapping_add(column);
    // SAFETY: the caller's contract.
    unsafe {
        if !run.epilogue.bias.is_null() {
            for j in 0..N {
                sums[j] += *bias.add(j);
            }
        }
        if run.epilogue.accumulate {
            for j in 0..N {
                sums[j] += *c.add(j);
            }
        }
        c.cast::<[f32; N]>().write(sums);
    }
}
