//! A, packed into panels once for all tasks.

use super::pack::{Rows, panel_rows, room, round_bf16, side_by_side, straight, transposed};
use super::{Gemm, Precision};
use crate::isa::Kernel;
use crate::simd::Simd;

/// Rows of op(A), from `first` on, and the buffer that all tasks share.
pub(super) struct PackA<'a> {
    pub gemm: &'a Gemm,
    pub first: usize,
    pub rows: usize,
    pub a: *const f32,
    pub shared: *mut f32,
}

impl Kernel for PackA<'_> {
    type Out = ();
    const BF16: bool = true;
    const PANELS: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let &Gemm { k, precision, .. } = self.gemm;
        let pairs = self.gemm.pairs::<S>();
        // SAFETY: rows `first..first + rows` of op(A) exist, and their panels are this task's own.
        unsafe {
            if pairs {
                self.panels::<S, true>(s);
            } else {
                self.panels::<S, false>(s);
            }
            for at in (0..self.rows).step_by(S::GEMM_MR) {
                let panel = self.panel(at);
                if pairs {
                    side_by_side(s, panel, S::GEMM_MR, panel_rows(true, k));
                } else if precision == Precision::Bf16 {
                    round_bf16(s, panel, k * S::GEMM_MR);
                }
            }
        }
    }
}

impl PackA<'_> {
    /// The panel of the task's row `at`, which begins one.
    fn panel(&self, at: usize) -> *mut f32 {
        self.shared.wrapping_add((self.first + at) * room(self.gemm.k))
    }

    /// Packs all panels of the task.
    ///
    /// # Safety
    /// The rows must exist, and the panels have room for them.
    #[inline(always)]
    unsafe fn panels<S: Simd, const PAIRS: bool>(&self, s: S) {
        let (&Gemm { m, k, trans_a, .. }, mr) = (self.gemm, S::GEMM_MR);
        // SAFETY: the caller's contract.
        unsafe {
            if trans_a {
                let src = self.a.add(self.first);
                let from = Rows { src, stride: m, columns: self.rows, depth: k };
                return straight::<S, PAIRS>(s, from, mr, self.panel(0), mr * room(k));
            }
            for at in (0..self.rows).step_by(mr) {
                let (row, rows) = (self.a.add((self.first + at) * k), (self.rows - at).min(mr));
                transposed::<S, PAIRS>(s, row, k, rows, mr, k, self.panel(at));
            }
        }
    }
}
