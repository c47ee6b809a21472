//! One of two values by a condition.

use std::ops::Range;

use super::operand::Operand;
use crate::broadcast::Broadcast;
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// `z[i] = a[..]` where `cond[..]` is not zero (NaN counts as not zero), else `b[..]`, for `i` in
/// `range`; `plan` says which elements meet. Exact.
///
/// Ranges that share no element may be computed at the same time.
///
/// # Panics
/// Where `range` reaches beyond `plan.len()`.
///
/// # Safety
/// The pointers of `(cond, a, b)` must be valid for reading operands of the shapes that `plan` was
/// made for; `z` must be valid for writing `plan.len()` f32. `z` must be disjoint from an operand,
/// or equal to it where the operand has the result's shape.
pub unsafe fn select(
    isa: Isa,
    plan: &Broadcast<3>,
    range: Range<usize>,
    operands: (*const f32, *const f32, *const f32),
    z: *mut f32,
) {
    isa.run(Select { plan, range, operands, z });
}

/// The arguments of [`select`].
struct Select<'a> {
    plan: &'a Broadcast<3>,
    range: Range<usize>,
    operands: (*const f32, *const f32, *const f32),
    z: *mut f32,
}

impl Kernel for Select<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.plan.steps() {
            [true, true, true] => self.rows::<S, true, true, true>(s),
            [true, true, false] => self.rows::<S, true, true, false>(s),
            [true, false, true] => self.rows::<S, true, false, true>(s),
            [true, false, false] => self.rows::<S, true, false, false>(s),
            [false, true, true] => self.rows::<S, false, true, true>(s),
            [false, true, false] => self.rows::<S, false, true, false>(s),
            [false, false, true] => self.rows::<S, false, false, true>(s),
            [false, false, false] => self.rows::<S, false, false, false>(s),
        }
    }
}

impl Select<'_> {
    #[inline(always)]
    fn rows<S: Simd, const C: bool, const A: bool, const B: bool>(self, s: S) {
        let Self { plan, range, operands: (cond, a, b), z } = self;
        for row in plan.rows(range) {
            // SAFETY: the plan's rows lie within operands and result; `select`'s contract.
            unsafe {
                let cond = Operand::<S, C>::new(s, cond.add(row.operands[0]));
                let a = Operand::<S, A>::new(s, a.add(row.operands[1]));
                let b = Operand::<S, B>::new(s, b.add(row.operands[2]));
                select_row(s, (cond, a, b), z.add(row.out), row.len);
            }
        }
    }
}

/// One row.
///
/// # Safety
/// The operands and `z` must hold `n` elements.
#[inline(always)]
unsafe fn select_row<S: Simd, const C: bool, const A: bool, const B: bool>(
    s: S,
    (cond, a, b): (Operand<S, C>, Operand<S, A>, Operand<S, B>),
    z: *mut f32,
    n: usize,
) {
    let whole = n - n % S::LANES;
    let mut i = 0;
    while i < whole {
        // SAFETY: `i + LANES <= n`; the caller's contract.
        unsafe { s.store(z.add(i), pick(s, cond.load(i), a.load(i), b.load(i))) };
        i += S::LANES;
    }
    if i < n {
        let left = n - i;
        // SAFETY: `left` elements are left; the caller's contract.
        unsafe {
            let v = pick(s, cond.load_n(i, left), a.load_n(i, left), b.load_n(i, left));
            s.store_n(z.add(i), v, left);
        }
    }
}

/// `a` where `cond` is not zero, else `b`.
#[inline(always)]
fn pick<S: Simd>(s: S, cond: S::F, a: S::F, b: S::F) -> S::F {
    s.select(s.eq(cond, s.zero()), b, a)
}
