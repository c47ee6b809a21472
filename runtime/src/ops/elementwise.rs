//! What elementwise ops share: their declarations and pieces of their gradients.

use super::common::unbroadcast;
use super::{Add, Affine, Case, Fill, Mul, Op, Vjp};
use crate::error::Result;
use crate::graph::ValueId;

/// Operand values for functions that jump where operands meet: no left value is near a right one.
pub(super) const LEFT: &[f32] = &[-1.35, 0.25, 2.65, 0.85];
/// See [`LEFT`].
pub(super) const RIGHT: &[f32] = &[0.55, -0.75, 1.45];

/// Why the gradient ops of activations have no gradient themselves.
pub(super) const SECOND_ORDER: &str = "second derivatives of activations are not taken";

/// `factor * value`.
pub(super) fn scale(cx: &mut Vjp<'_>, value: ValueId, factor: f32) -> Result<ValueId> {
    cx.add(Affine { mul: factor, add: 0.0 }, &[value])
}

/// The gradient of a maximum or minimum toward the first of `operands`: the cotangent where the
/// strict comparison holds, half of it where only the other does.
pub(super) fn share_of_extremum(
    cx: &mut Vjp<'_>,
    strict: impl Op,
    or_equal: impl Op,
    operands: [usize; 2],
) -> Result<ValueId> {
    let operands = operands.map(|i| cx.input(i));
    let wins = cx.add(strict, &operands)?;
    let holds = cx.add(or_equal, &operands)?;
    let twice = cx.add(Add, &[wins, holds])?;
    let share = scale(cx, twice, 0.5)?;
    cx.add(Mul, &[cx.cotangent(), share])
}

/// The cotangent itself, as a gradient.
pub(super) fn pass(cx: &mut Vjp<'_>) -> Result<ValueId> {
    Ok(cx.cotangent())
}

/// Sets input `i`'s gradient from one of the output's shape.
pub(super) fn set_unbroadcast(cx: &mut Vjp<'_>, i: usize, gradient: ValueId) -> Result<()> {
    let shape = *cx.desc(cx.input(i)).shape();
    let gradient = unbroadcast(cx, gradient, &shape)?;
    cx.set(i, gradient);
    Ok(())
}

/// Declares an op that is one kernel of one operand, without attributes.
///
/// After the line `Type = "name", kernel, tolerance, fill` comes its gradient: an expression over
/// the [`Vjp`], or `flat` where the derivative is zero wherever it exists, so that nothing flows.
macro_rules! unary_op {
    ($(#[$doc:meta])* $op:ident = $name:literal, $kernel:expr, $tolerance:expr, $fill:expr; flat) => {
        unary_op!(@declare $(#[$doc])* $op, $name, $kernel, $tolerance, $fill, |_cx| {});
    };
    ($(#[$doc:meta])* $op:ident = $name:literal, $kernel:expr, $tolerance:expr, $fill:expr;
     |$cx:ident| $gradient:expr) => {
        unary_op!(@declare $(#[$doc])* $op, $name, $kernel, $tolerance, $fill, |$cx| {
            let gradient = $gradient?;
            $cx.set(0, gradient);
        });
    };
    (@declare $(#[$doc:meta])* $op:ident, $name:literal, $kernel:expr, $tolerance:expr, $fill:expr,
     |$cx:ident| $vjp:block) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        impl $crate::ops::Op for $op {
            fn name(&self) -> &'static str {
                $name
            }

            fn infer(
                &self,
                inputs: &[&$crate::tensor::TensorDesc],
            ) -> $crate::error::Result<Vec<$crate::tensor::TensorDesc>> {
                $crate::ops::common::infer_unary($name, inputs)
            }

            fn vjp(&self, $cx: &mut $crate::ops::Vjp<'_>) -> $crate::error::Result<()> {
                $vjp
                Ok(())
            }

            fn launch(
                &self,
                _: &[&$crate::tensor::TensorDesc],
                _: &[&$crate::tensor::TensorDesc],
            ) -> $crate::backend::Launch {
                $crate::backend::Launch::Unary($kernel)
            }
        }

        impl $crate::ops::OpKind for $op {
            const NAME: &'static str = $name;
            const TOLERANCE: $crate::ops::Tolerance = $tolerance;

            fn parse(_: &mut $crate::ops::AttrReader<'_>) -> $crate::error::Result<Self> {
                Ok(Self)
            }

            fn cases() -> Vec<$crate::ops::Case> {
                $crate::ops::elementwise::unary_cases(Self, &$fill)
            }
        }
    };
}

/// Declares an op that is one kernel of two operands that broadcast, without attributes.
///
/// After the line `Type = "name", kernel, tolerance, left fill, right fill` come its gradients: an
/// expression over the [`Vjp`] for each operand in the output's shape, evaluated where wanted;
/// `flat` where both are zero wherever they exist; or `none` with the reason.
macro_rules! binary_op {
    ($(#[$doc:meta])* $op:ident = $name:literal, $kernel:expr, $tolerance:expr, $a:expr, $b:expr; flat) => {
        binary_op!(@declare $(#[$doc])* $op, $name, $kernel, $tolerance, $a, $b,
            $crate::ops::Gradient::Vjp, |_cx| {});
    };
    ($(#[$doc:meta])* $op:ident = $name:literal, $kernel:expr, $tolerance:expr, $a:expr, $b:expr;
     none $reason:expr) => {
        binary_op!(@declare $(#[$doc])* $op, $name, $kernel, $tolerance, $a, $b,
            $crate::ops::Gradient::None($reason), |_cx| {
                return Err($crate::error::Error::NoGradient { op: $name, reason: $reason });
            });
    };
    ($(#[$doc:meta])* $op:ident = $name:literal, $kernel:expr, $tolerance:expr, $a:expr, $b:expr;
     |$cx:ident| $left:expr, $right:expr) => {
        binary_op!(@declare $(#[$doc])* $op, $name, $kernel, $tolerance, $a, $b,
            $crate::ops::Gradient::Vjp, |$cx| {
                if $cx.wants(0) {
                    let gradient = $left?;
                    $crate::ops::elementwise::set_unbroadcast($cx, 0, gradient)?;
                }
                if $cx.wants(1) {
                    let gradient = $right?;
                    $crate::ops::elementwise::set_unbroadcast($cx, 1, gradient)?;
                }
            });
    };
    (@declare $(#[$doc:meta])* $op:ident, $name:literal, $kernel:expr, $tolerance:expr, $a:expr, $b:expr,
     $kind:expr, |$cx:ident| $vjp:block) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        impl $crate::ops::Op for $op {
            fn name(&self) -> &'static str {
                $name
            }

            fn infer(
                &self,
                inputs: &[&$crate::tensor::TensorDesc],
            ) -> $crate::error::Result<Vec<$crate::tensor::TensorDesc>> {
                $crate::ops::common::arity::<2>($name, inputs)?;
                $crate::ops::common::infer_broadcast($name, inputs)
            }

            #[allow(unreachable_code, reason = "an op without gradient ends in its error")]
            fn vjp(&self, $cx: &mut $crate::ops::Vjp<'_>) -> $crate::error::Result<()> {
                $vjp
                Ok(())
            }

            fn launch(
                &self,
                _: &[&$crate::tensor::TensorDesc],
                _: &[&$crate::tensor::TensorDesc],
            ) -> $crate::backend::Launch {
                $crate::backend::Launch::Binary($kernel)
            }
        }

        impl $crate::ops::OpKind for $op {
            const NAME: &'static str = $name;
            const GRADIENT: $crate::ops::Gradient = $kind;
            const TOLERANCE: $crate::ops::Tolerance = $tolerance;

            fn parse(_: &mut $crate::ops::AttrReader<'_>) -> $crate::error::Result<Self> {
                Ok(Self)
            }

            fn cases() -> Vec<$crate::ops::Case> {
                $crate::ops::elementwise::binary_cases(Self, &$a, &$b)
            }
        }
    };
}

pub(super) use {binary_op, unary_op};

/// A small tensor, an odd length, a scalar, and a size to time.
pub(super) fn unary_cases(op: impl Op + Copy, fill: &Fill) -> Vec<Case> {
    let case = |dims: &[usize]| Case::new(op).filled(dims, fill.clone());
    vec![case(&[3, 5]), case(&[67]), case(&[]), case(&[1 << 22]).bench_rows()]
}

/// Equal shapes, both kinds of broadcasting, a scalar operand, and a size to time.
pub(super) fn binary_cases(op: impl Op + Copy, left: &Fill, right: &Fill) -> Vec<Case> {
    let case =
        |a: &[usize], b: &[usize]| Case::new(op).filled(a, left.clone()).filled(b, right.clone());
    vec![
        case(&[3, 5], &[3, 5]),
        case(&[4, 1, 3], &[2, 1]),
        case(&[], &[19]),
        case(&[1 << 22], &[1 << 22]).bench_rows(),
    ]
}
