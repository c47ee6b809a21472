//! `z[i] = f(a[i], b[i])` with broadcasting, and select.

mod arithmetic;
mod compare;
mod gated;
mod gradient;
mod operand;
mod select;

use std::ops::Range;

pub use select::select;

use crate::AHEAD;
use crate::broadcast::Broadcast;
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;
use crate::tolerance::Tolerance;
use operand::Operand;

/// An elementwise function of two arguments.
pub trait BinaryOp: Copy {
    /// How far [`BinaryOp::eval`] may lie from [`BinaryOp::reference`]. An absolute part holds for
    /// |b| <= 1 and grows with it.
    const TOLERANCE: Tolerance;
    /// The function on vectors.
    fn eval<S: Simd>(self, s: S, a: S::F, b: S::F) -> S::F;
    /// The function as mathematics has it.
    fn reference(self, a: f64, b: f64) -> f64;
}

/// A computation over the operation types of [`Binary`].
pub trait BinaryVisitor {
    /// What the computation returns.
    type Out;
    /// The computation for one operation.
    fn visit<O: BinaryOp>(self, op: O) -> Self::Out;
}

/// Defines operations by their two expressions.
macro_rules! binary_ops {
    ($(
        $(#[$doc:meta])*
        $op:ident, $tolerance:expr,
        |$s:ident, $a:ident, $b:ident| $eval:expr,
        |$x:ident, $y:ident| $reference:expr;
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(super) struct $op;

        impl $crate::binary::BinaryOp for $op {
            const TOLERANCE: $crate::tolerance::Tolerance = $tolerance;
            #[inline(always)]
            fn eval<S: $crate::simd::Simd>(self, $s: S, $a: S::F, $b: S::F) -> S::F {
                $eval
            }
            fn reference(self, $x: f64, $y: f64) -> f64 {
                $reference
            }
        }
    )*};
}
use binary_ops;

family! {
    /// The elementwise functions of two arguments. A gradient takes what its function's derivative
    /// is computed from, then the gradient of the function's result.
    pub enum Binary visited by BinaryVisitor {
        /// `a + b`.
        Add = "add", arithmetic::Add;
        /// `a - b`.
        Sub = "sub", arithmetic::Sub;
        /// `a * b`.
        Mul = "mul", arithmetic::Mul;
        /// `a / b`.
        Div = "div", arithmetic::Div;
        /// `a^b` of IEEE 754 `pow`.
        Pow = "pow", arithmetic::Pow;
        /// The greater; NaN where either is.
        Max = "max", arithmetic::Max;
        /// The lesser; NaN where either is.
        Min = "min", arithmetic::Min;
        /// 1 where `a < b`, else 0.
        Lt = "lt", compare::Lt;
        /// 1 where `a <= b`, else 0.
        Le = "le", compare::Le;
        /// 1 where `a > b`, else 0.
        Gt = "gt", compare::Gt;
        /// 1 where `a >= b`, else 0.
        Ge = "ge", compare::Ge;
        /// 1 where `a == b`, else 0.
        Eq = "eq", compare::Eq;
        /// 1 where `a != b`, else 0.
        Ne = "ne", compare::Ne;
        /// `silu(a) b`: the gated unit of Shazeer, arXiv 2002.05202, on gate `a`.
        SiluMul = "silu_mul", gated::SiluMul;
        /// `b` where `a > 0`, else 0: the gradient of relu at `a`.
        ReluGrad = "relu_grad", gradient::ReluGrad;
        /// `b gelu'(a)`.
        GeluGrad = "gelu_grad", gradient::GeluGrad;
        /// `b gelu_tanh'(a)`.
        GeluTanhGrad = "gelu_tanh_grad", gradient::GeluTanhGrad;
        /// `b silu'(a)`.
        SiluGrad = "silu_grad", gradient::SiluGrad;
        /// `b (1 - a^2)`: the gradient of tanh from its result `a`.
        TanhGrad = "tanh_grad", gradient::TanhGrad;
        /// `b a (1 - a)`: the gradient of sigmoid from its result `a`.
        SigmoidGrad = "sigmoid_grad", gradient::SigmoidGrad;
    }
}

/// `z[i] = op(a[..], b[..])` for `i` in `range`, where `plan` says which elements meet.
///
/// Ranges that share no element may be computed at the same time.
///
/// # Panics
/// Where `range` reaches beyond `plan.len()`.
///
/// # Safety
/// `a` and `b` must be valid for reading operands of the shapes that `plan` was made for; `z` must
/// be valid for writing `plan.len()` f32. `z` must be disjoint from an operand, or equal to it where
/// the operand has the result's shape.
pub unsafe fn apply(
    isa: Isa,
    op: Binary,
    plan: &Broadcast<2>,
    range: Range<usize>,
    (a, b): (*const f32, *const f32),
    z: *mut f32,
) {
    isa.run(Apply { op, plan, range, a, b, z });
}

/// The arguments of [`apply`].
struct Apply<'a> {
    op: Binary,
    plan: &'a Broadcast<2>,
    range: Range<usize>,
    a: *const f32,
    b: *const f32,
    z: *mut f32,
}

impl Kernel for Apply<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.op.visit(Map { s, args: self });
    }
}

/// The loop over rows.
struct Map<'a, S> {
    s: S,
    args: Apply<'a>,
}

impl<S: Simd> BinaryVisitor for Map<'_, S> {
    type Out = ();
    #[inline(always)]
    fn visit<O: BinaryOp>(self, op: O) {
        match self.args.plan.steps() {
            [true, true] => self.rows::<O, true, true>(op),
            [true, false] => self.rows::<O, true, false>(op),
            [false, true] => self.rows::<O, false, true>(op),
            [false, false] => self.rows::<O, false, false>(op),
        }
    }
}

impl<S: Simd> Map<'_, S> {
    #[inline(always)]
    fn rows<O: BinaryOp, const A: bool, const B: bool>(self, op: O) {
        let Self { s, args: Apply { plan, range, a, b, z, .. } } = self;
        for row in plan.rows(range) {
            // SAFETY: the plan's rows lie within operands and result; `apply`'s contract.
            unsafe {
                let a = Operand::<S, A>::new(s, a.add(row.operands[0]));
                let b = Operand::<S, B>::new(s, b.add(row.operands[1]));
                map_row(s, op, a, b, z.add(row.out), row.len);
            }
        }
    }
}

/// One row.
///
/// # Safety
/// The operands and `z` must hold `n` elements.
#[inline(always)]
unsafe fn map_row<S: Simd, O: BinaryOp, const A: bool, const B: bool>(
    s: S,
    op: O,
    a: Operand<S, A>,
    b: Operand<S, B>,
    z: *mut f32,
    n: usize,
) {
    let whole = n - n % S::LANES;
    let mut i = 0;
    while i < whole {
        a.ask(i + AHEAD);
        b.ask(i + AHEAD);
        s.prefetch(z.wrapping_add(i + AHEAD));
        // SAFETY: `i + LANES <= n`; the caller's contract.
        unsafe { s.store(z.add(i), op.eval(s, a.load(i), b.load(i))) };
        i += S::LANES;
    }
    if i < n {
        let left = n - i;
        // SAFETY: `left` elements are left; the caller's contract.
        unsafe { s.store_n(z.add(i), op.eval(s, a.load_n(i, left), b.load_n(i, left)), left) };
    }
}

impl Binary {
    /// The function as mathematics has it.
    #[must_use]
    pub fn reference(self, a: f64, b: f64) -> f64 {
        struct At(f64, f64);
        impl BinaryVisitor for At {
            type Out = f64;
            fn visit<O: BinaryOp>(self, op: O) -> f64 {
                op.reference(self.0, self.1)
            }
        }
        self.visit(At(a, b))
    }

    /// How far [`apply`] may lie from [`Binary::reference`]; an absolute part holds for |b| <= 1 and
    /// grows with it.
    #[must_use]
    pub fn tolerance(self) -> Tolerance {
        struct Of;
        impl BinaryVisitor for Of {
            type Out = Tolerance;
            fn visit<O: BinaryOp>(self, _: O) -> Tolerance {
                O::TOLERANCE
            }
        }
        self.visit(Of)
    }
}

#[cfg(test)]
mod tests;
