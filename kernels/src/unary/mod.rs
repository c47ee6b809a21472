//! `y[i] = f(x[i])`.

mod activation;
mod arithmetic;
mod gelu;
mod pow_scalar;
mod rounding;
mod transcendental;

pub(crate) use activation::silu_slope;
pub(crate) use gelu::{gelu_slope, gelu_tanh_slope};

use crate::isa::{Isa, Kernel};
use crate::simd::Simd;
use crate::tolerance::Tolerance;

/// An elementwise function of one argument.
pub trait UnaryOp: Copy {
    /// How far [`UnaryOp::eval`] may lie from [`UnaryOp::reference`], at every argument.
    const TOLERANCE: Tolerance;
    /// The function on a vector.
    fn eval<S: Simd>(self, s: S, x: S::F) -> S::F;
    /// The function as mathematics has it.
    fn reference(self, x: f64) -> f64;
}

/// A computation over the operation types of [`Unary`].
pub trait UnaryVisitor {
    /// What the computation returns.
    type Out;
    /// The computation for one operation.
    fn visit<O: UnaryOp>(self, op: O) -> Self::Out;
}

/// Defines operations without parameters by their two expressions.
macro_rules! unary_ops {
    ($(
        $(#[$doc:meta])*
        $op:ident, $tolerance:expr, |$s:ident, $x:ident| $eval:expr, |$r:ident| $reference:expr;
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(super) struct $op;

        impl $crate::unary::UnaryOp for $op {
            const TOLERANCE: $crate::tolerance::Tolerance = $tolerance;
            #[inline(always)]
            fn eval<S: $crate::simd::Simd>(self, $s: S, $x: S::F) -> S::F {
                $eval
            }
            fn reference(self, $r: f64) -> f64 {
                $reference
            }
        }
    )*};
}
use unary_ops;

family! {
    /// The elementwise functions of one argument.
    pub enum Unary visited by UnaryVisitor {
        /// `-x`.
        Neg = "neg", arithmetic::Neg;
        /// `|x|`.
        Abs = "abs", arithmetic::Abs;
        /// `x^2`.
        Square = "square", arithmetic::Square;
        /// `1 / x`.
        Recip = "recip", arithmetic::Recip;
        /// Square root.
        Sqrt = "sqrt", arithmetic::Sqrt;
        /// `1 / sqrt(x)`.
        Rsqrt = "rsqrt", arithmetic::Rsqrt;
        /// `mul * x + add`.
        Affine {
            /// The factor.
            mul: 1.75,
            /// The summand.
            add: -0.5
        } = "affine", arithmetic::Affine;
        /// `x` limited to `lo..=hi`; NaN stays.
        Clamp {
            /// The lower limit.
            lo: -1.5,
            /// The upper limit; not below `lo`.
            hi: 2.0
        } = "clamp", arithmetic::Clamp;
        /// `x^exponent` of IEEE 754 `pow`.
        PowScalar {
            /// The exponent.
            exponent: 2.5
        } = "pow_scalar", pow_scalar::PowScalar;
        /// The greatest integer not above `x`.
        Floor = "floor", rounding::Floor;
        /// `x` without its fraction.
        Trunc = "trunc", rounding::Trunc;
        /// The nearest integer, ties to even.
        Round = "round", rounding::Round;
        /// -1, 0 or 1; zeros and NaN stay as they are.
        Sign = "sign", rounding::Sign;
        /// `e^x`.
        Exp = "exp", transcendental::Exp;
        /// Natural logarithm.
        Log = "log", transcendental::Log;
        /// Sine of radians.
        Sin = "sin", transcendental::Sin;
        /// Cosine of radians.
        Cos = "cos", transcendental::Cos;
        /// Hyperbolic tangent.
        Tanh = "tanh", transcendental::Tanh;
        /// `1 / (1 + e^-x)`.
        Sigmoid = "sigmoid", transcendental::Sigmoid;
        /// Error function.
        Erf = "erf", transcendental::Erf;
        /// `max(x, 0)`; NaN stays.
        Relu = "relu", activation::Relu;
        /// `x / (1 + e^-x)`.
        Silu = "silu", activation::Silu;
        /// `ln(1 + e^x)`.
        Softplus = "softplus", activation::Softplus;
        /// `x (1 + erf(x / sqrt(2))) / 2`.
        Gelu = "gelu", gelu::Gelu;
        /// `x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2`.
        GeluTanh = "gelu_tanh", gelu::GeluTanh;
    }
}

/// `y[i] = op(x[i])` for `i < n`.
///
/// # Safety
/// `x` must be valid for reading and `y` for writing `n` f32. `y` must equal `x` or be disjoint
/// from it.
pub unsafe fn apply(isa: Isa, op: Unary, x: *const f32, y: *mut f32, n: usize) {
    isa.run(Apply { op, x, y, n, rows: 1, step: 0 });
}

/// `y[i][j] = op(y[i][j])` in `rows` rows of `n`, `step` elements apart.
///
/// # Safety
/// `y` must be valid for reading and writing the rows.
pub(crate) unsafe fn apply_rows(
    isa: Isa,
    op: Unary,
    y: *mut f32,
    step: usize,
    [rows, n]: [usize; 2],
) {
    isa.run(Apply { op, x: y, y, n, rows, step });
}

/// The arguments of [`apply`] and [`apply_rows`].
struct Apply {
    op: Unary,
    x: *const f32,
    y: *mut f32,
    n: usize,
    rows: usize,
    step: usize,
}

impl Kernel for Apply {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.op.visit(Map { s, args: self });
    }
}

/// The loop over elements.
struct Map<S> {
    s: S,
    args: Apply,
}

impl<S: Simd> UnaryVisitor for Map<S> {
    type Out = ();
    #[inline(always)]
    fn visit<O: UnaryOp>(self, op: O) {
        let Self { s, args: Apply { n, rows, step, .. } } = self;
        let whole = n - n % S::LANES;
        for row in 0..rows {
            let x = self.args.x.wrapping_add(row * step);
            let y = self.args.y.wrapping_add(row * step);
            let mut i = 0;
            while i < whole {
                // SAFETY: `i + LANES <= n`; `apply`'s contract.
                unsafe { s.store(y.add(i), op.eval(s, s.load(x.add(i)))) };
                i += S::LANES;
            }
            if i < n {
                // SAFETY: `n - i` elements are left; `apply`'s contract.
                unsafe { s.store_n(y.add(i), op.eval(s, s.load_n(x.add(i), n - i)), n - i) };
            }
        }
    }
}

impl Unary {
    /// The function as mathematics has it.
    #[must_use]
    pub fn reference(self, x: f64) -> f64 {
        struct At(f64);
        impl UnaryVisitor for At {
            type Out = f64;
            fn visit<O: UnaryOp>(self, op: O) -> f64 {
                op.reference(self.0)
            }
        }
        self.visit(At(x))
    }

    /// How far [`apply`] may lie from [`Unary::reference`], at every argument.
    #[must_use]
    pub fn tolerance(self) -> Tolerance {
        struct Of;
        impl UnaryVisitor for Of {
            type Out = Tolerance;
            fn visit<O: UnaryOp>(self, _: O) -> Tolerance {
                O::TOLERANCE
            }
        }
        self.visit(Of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Floats of all exponents and both signs, the special ones, and a dense range around zero.
    fn sweep() -> Vec<f32> {
        let special = [0.0, 0.5, 1.5, 2.5, f32::MIN_POSITIVE, 1e-45, f32::INFINITY, f32::NAN];
        let mut all: Vec<f32> = special.iter().flat_map(|&x| [x, -x]).collect();
        all.extend((0..=u32::MAX).step_by(100_003).map(f32::from_bits));
        all.extend((-50_000..50_000).map(|i| i as f32 * 0.000_51));
        all
    }

    #[test]
    fn every_op_meets_its_tolerance_on_every_level() {
        let x = sweep();
        let mut y = vec![0.0; x.len()];
        for isa in Isa::available() {
            for &op in Unary::SAMPLES {
                // SAFETY: two vectors of that length.
                unsafe { apply(isa, op, x.as_ptr(), y.as_mut_ptr(), x.len()) };
                for (&x, &y) in x.iter().zip(&y) {
                    let want = op.reference(f64::from(x));
                    let name = (op.name(), isa.name());
                    assert!(
                        op.tolerance().accepts(y, want),
                        "{name:?}({x:e}) = {y:e}, not {want:e}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_length_in_place_and_nothing_beyond() {
        for isa in Isa::available() {
            for n in 0..70 {
                let mut x: Vec<f32> = (0..80).map(|i| i as f32).collect();
                let p = x.as_mut_ptr();
                // SAFETY: `n` of the vector's 80 elements, in place.
                unsafe { apply(isa, Unary::Neg, p, p, n) };
                for (i, &x) in x.iter().enumerate() {
                    assert_eq!(x, if i < n { -(i as f32) } else { i as f32 });
                }
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Unary::SAMPLES.iter().map(|op| op.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Unary::SAMPLES.len());
    }

    #[test]
    fn names_and_parameters_lead_back() {
        for &op in Unary::SAMPLES {
            let parameters: Vec<f32> = op.parameters().collect();
            assert_eq!(Unary::from_name(op.name(), &parameters), Some(op));
            assert_eq!(Unary::from_name(op.name(), &[0.0; 3]), None);
        }
        assert_eq!(Unary::from_name("nothing", &[]), None);
    }
}
