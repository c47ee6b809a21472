//! One operand along a row.

use crate::simd::Simd;

/// A row of an operand: elements in memory where it steps, one value for all where it stays.
#[derive(Clone, Copy)]
pub(super) struct Operand<S: Simd, const STEPS: bool> {
    s: S,
    p: *const f32,
    value: S::F,
}

impl<S: Simd, const STEPS: bool> Operand<S, STEPS> {
    /// The row that begins at `p`.
    ///
    /// # Safety
    /// `p` must be valid for reading one f32 for as long as this function, and what `load` reads for
    /// as long as the row is used.
    #[inline(always)]
    pub(super) unsafe fn new(s: S, p: *const f32) -> Self {
        // SAFETY: the caller's contract.
        let value = if STEPS { s.zero() } else { s.splat(unsafe { *p }) };
        Self { s, p, value }
    }

    /// Asks for the elements from `i` on, which need not exist.
    #[inline(always)]
    pub(super) fn ask(&self, i: usize) {
        if STEPS {
            self.s.prefetch(self.p.wrapping_add(i));
        }
    }

    /// The elements from `i` on.
    ///
    /// # Safety
    /// The row must have `i + LANES` elements.
    #[inline(always)]
    pub(super) unsafe fn load(&self, i: usize) -> S::F {
        // SAFETY: the caller's contract.
        if STEPS { unsafe { self.s.load(self.p.add(i)) } } else { self.value }
    }

    /// The `n < LANES` elements from `i` on.
    ///
    /// # Safety
    /// The row must have `i + n` elements.
    #[inline(always)]
    pub(super) unsafe fn load_n(&self, i: usize, n: usize) -> S::F {
        // SAFETY: the caller's contract.
        if STEPS { unsafe { self.s.load_n(self.p.add(i), n) } } else { self.value }
    }
}
