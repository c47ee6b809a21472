//! Functions of each element, and chains of them.

use tenon_kernels::binary::Binary as Function2;
use tenon_kernels::fused::{Instruction, Operation, Source};
use tenon_kernels::unary::Unary as Function;
use tenon_runtime::backend::Signature;
use tenon_runtime::{DType as Stored, Error, Result};

use super::{Builder, no};
use crate::npu::graph::ValueId;
use crate::npu::op::{Binary, Compare, DType, Op, Unary, broadcast};

const FRAC_1_SQRT_TAU: f32 = 0.398_942_3;
/// `sqrt(2 / pi)` and the cubic's factor in the tanh form of gelu.
const GELU: (f32, f32) = (0.797_884_6, 0.044_715);

/// `f(x)`.
pub(super) fn unary(b: &mut Builder, kind: Function, x: ValueId) -> Result<ValueId> {
    let direct = match kind {
        Function::Neg => Unary::Neg,
        Function::Abs => Unary::Abs,
        Function::Sqrt => Unary::Sqrt,
        Function::Rsqrt => Unary::Rsqrt,
        Function::Floor => Unary::Floor,
        Function::Exp => Unary::Exp,
        Function::Log => Unary::Log,
        Function::Sin => Unary::Sin,
        Function::Tanh => Unary::Tanh,
        Function::Sigmoid => Unary::Sigmoid,
        Function::Erf => Unary::Erf,
        Function::Relu => Unary::Relu,
        _ => return composed(b, kind, x),
    };
    b.unary(direct, x)
}

fn composed(b: &mut Builder, kind: Function, x: ValueId) -> Result<ValueId> {
    match kind {
        Function::Square => b.mul(x, x),
        Function::Recip => {
            let one = b.scalar(1.0)?;
            b.binary(Binary::Div, one, x)
        }
        Function::Affine { mul, add } => {
            let y = b.scale(x, mul)?;
            b.add_scalar(y, add)
        }
        Function::Clamp { lo, hi } => {
            let (lo, hi) = (b.scalar(lo)?, b.scalar(hi)?);
            let y = b.binary(Binary::Max, x, lo)?;
            b.binary(Binary::Min, y, hi)
        }
        Function::Sign => {
            let shape = b.shape(x);
            let (one, minus) = (b.filled(&shape, 1.0)?, b.filled(&shape, -1.0)?);
            let zero = b.scalar(0.0)?;
            let (above, below) =
                (b.compare(Compare::Gt, x, zero)?, b.compare(Compare::Lt, x, zero)?);
            let y = b.graph.add(Op::Select, &[below, minus, x])?;
            b.graph.add(Op::Select, &[above, one, y])
        }
        Function::Silu => {
            let s = b.unary(Unary::Sigmoid, x)?;
            b.mul(x, s)
        }
        Function::Softplus => {
            // max(x, 0) + ln(1 + e^-|x|)
            let (r, a) = (b.unary(Unary::Relu, x)?, b.unary(Unary::Abs, x)?);
            let n = b.unary(Unary::Neg, a)?;
            let e = b.unary(Unary::Exp, n)?;
            let e = b.add_scalar(e, 1.0)?;
            let l = b.unary(Unary::Log, e)?;
            b.add(r, l)
        }
        Function::Gelu => {
            let share = normal_share(b, x)?;
            b.mul(x, share)
        }
        Function::GeluTanh => {
            let t = gelu_tanh(b, x)?;
            let t = b.add_scalar(t, 1.0)?;
            let h = b.scale(x, 0.5)?;
            b.mul(h, t)
        }
        _ => no("this function runs on the CPU"),
    }
}

/// The standard normal distribution's share below `x`. Where there is no `erf`, by the rational
/// Chebyshev fit of `erfc` of Numerical Recipes (2nd ed., 6.2), whose relative error is 1.2e-7
/// everywhere, so that tails keep their digits.
fn normal_share(b: &mut Builder, x: ValueId) -> Result<ValueId> {
    if b.target.has(&Op::Unary(Unary::Erf)) {
        let z = b.scale(x, std::f32::consts::FRAC_1_SQRT_2)?;
        let e = b.unary(Unary::Erf, z)?;
        let e = b.scale(e, 0.5)?;
        return b.add_scalar(e, 0.5);
    }
    const FIT: [f32; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_9,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2,
    ];
    let a = b.unary(Unary::Abs, x)?;
    let z = b.scale(a, std::f32::consts::FRAC_1_SQRT_2)?;
    let half = b.scale(z, 0.5)?;
    let below = b.add_scalar(half, 1.0)?;
    let one = b.scalar(1.0)?;
    let t = b.binary(Binary::Div, one, below)?;
    let mut fit = b.scale(t, FIT[0])?;
    for &c in &FIT[1..9] {
        let sum = b.add_scalar(fit, c)?;
        fit = b.mul(sum, t)?;
    }
    let fit = b.add_scalar(fit, FIT[9])?;
    let square = b.mul(z, z)?;
    let exponent = b.sub(fit, square)?;
    let e = b.unary(Unary::Exp, exponent)?;
    let tail = b.mul(t, e)?;
    let tail = b.scale(tail, 0.5)?;
    let rest = b.sub(one, tail)?;
    let zero = b.scalar(0.0)?;
    let left = b.compare(Compare::Lt, x, zero)?;
    b.graph.add(Op::Select, &[left, tail, rest])
}

/// The tanh of gelu's tanh form.
fn gelu_tanh(b: &mut Builder, x: ValueId) -> Result<ValueId> {
    let square = b.mul(x, x)?;
    let cubic = b.scale(square, GELU.0 * GELU.1)?;
    let factor = b.add_scalar(cubic, GELU.0)?;
    let u = b.mul(x, factor)?;
    b.unary(Unary::Tanh, u)
}

/// `f(x, y)`; gradients take what the derivative is computed from, then the cotangent.
pub(super) fn binary(b: &mut Builder, kind: Function2, x: ValueId, y: ValueId) -> Result<ValueId> {
    let direct = match kind {
        Function2::Add => Binary::Add,
        Function2::Sub => Binary::Sub,
        Function2::Mul => Binary::Mul,
        Function2::Div => Binary::Div,
        Function2::Max => Binary::Max,
        Function2::Min => Binary::Min,
        _ => return composed2(b, kind, x, y),
    };
    b.binary(direct, x, y)
}

fn composed2(b: &mut Builder, kind: Function2, x: ValueId, y: ValueId) -> Result<ValueId> {
    let compare = match kind {
        Function2::Lt => Some(Compare::Lt),
        Function2::Le => Some(Compare::Le),
        Function2::Gt => Some(Compare::Gt),
        Function2::Ge => Some(Compare::Ge),
        Function2::Eq => Some(Compare::Eq),
        Function2::Ne => Some(Compare::Ne),
        _ => None,
    };
    if let Some(compare) = compare {
        let mask = b.compare(compare, x, y)?;
        return b.ones_where(mask);
    }
    let slope = match kind {
        Function2::SiluMul => {
            let s = b.unary(Unary::Sigmoid, x)?;
            b.mul(x, s)?
        }
        Function2::ReluGrad => {
            let shape = broadcast(&b.shape(x), &b.shape(y)).map_err(Error::Graph)?;
            let (x, y) = (b.spread(x, &shape)?, b.spread(y, &shape)?);
            let (zero, zeros) = (b.scalar(0.0)?, b.filled(&shape, 0.0)?);
            let mask = b.compare(Compare::Gt, x, zero)?;
            return b.graph.add(Op::Select, &[mask, y, zeros]);
        }
        Function2::SiluGrad => {
            // s + x s (1 - s)
            let s = b.unary(Unary::Sigmoid, x)?;
            let n = b.unary(Unary::Neg, s)?;
            let rest = b.add_scalar(n, 1.0)?;
            let (xs, one) = (b.mul(x, rest)?, b.scalar(1.0)?);
            let sum = b.add(xs, one)?;
            b.mul(s, sum)?
        }
        Function2::GeluGrad => {
            let share = normal_share(b, x)?;
            let square = b.mul(x, x)?;
            let exponent = b.scale(square, -0.5)?;
            let e = b.unary(Unary::Exp, exponent)?;
            let density = b.scale(e, FRAC_1_SQRT_TAU)?;
            let xd = b.mul(x, density)?;
            b.add(share, xd)?
        }
        Function2::GeluTanhGrad => {
            // (1 + t) / 2 + x (1 - t^2) u' / 2
            let t = gelu_tanh(b, x)?;
            let square = b.mul(x, x)?;
            let cubic = b.scale(square, 3.0 * GELU.0 * GELU.1)?;
            let inner = b.add_scalar(cubic, GELU.0)?;
            let tt = b.mul(t, t)?;
            let n = b.unary(Unary::Neg, tt)?;
            let rest = b.add_scalar(n, 1.0)?;
            let (xr, first) = (b.mul(x, rest)?, b.add_scalar(t, 1.0)?);
            let second = b.mul(xr, inner)?;
            let sum = b.add(first, second)?;
            b.scale(sum, 0.5)?
        }
        Function2::TanhGrad => {
            let square = b.mul(x, x)?;
            let one = b.scalar(1.0)?;
            b.sub(one, square)?
        }
        Function2::SigmoidGrad => {
            let one = b.scalar(1.0)?;
            let rest = b.sub(one, x)?;
            b.mul(x, rest)?
        }
        _ => return no("this function runs on the CPU"),
    };
    b.mul(slope, y)
}

/// Inputs 1 or 2 by whether input 0 is not zero.
pub(super) fn select(b: &mut Builder, inputs: &[ValueId]) -> Result<ValueId> {
    let &[c, x, y] = inputs else { return no("select takes three") };
    let shape = broadcast(&b.shape(x), &b.shape(y)).and_then(|s| broadcast(&s, &b.shape(c)));
    let shape = shape.map_err(Error::Graph)?;
    let zero = b.scalar(0.0)?;
    let (c, x, y) = (b.spread(c, &shape)?, b.spread(x, &shape)?, b.spread(y, &shape)?);
    let mask = b.compare(Compare::Ne, c, zero)?;
    b.graph.add(Op::Select, &[mask, x, y])
}

/// Between f32 and i32.
pub(super) fn cast(b: &mut Builder, signature: Signature<'_>, x: ValueId) -> Result<ValueId> {
    match (signature.inputs[0].dtype(), signature.outputs[0].dtype()) {
        (Stored::F32, Stored::I32) => b.graph.add(Op::Cast(DType::I32), &[x]),
        (Stored::I32, Stored::F32) => b.graph.add(Op::Cast(DType::F32), &[x]),
        _ => no("other types are converted on the CPU"),
    }
}

/// A chain, instruction by instruction.
pub(super) fn fused(
    b: &mut Builder,
    program: &[Instruction],
    inputs: &[ValueId],
) -> Result<ValueId> {
    let mut registers = [None; tenon_kernels::fused::MAX_REGISTERS];
    let mut last = None;
    for instruction in program {
        let read = |source: &Source| match *source {
            Source::Input(i) => inputs.get(i).copied(),
            Source::Register(r) => registers[r],
        };
        let sources: Option<Vec<_>> = instruction.operation.sources().iter().map(read).collect();
        let Some(sources) = sources else { return no("a chain that reads what is not there") };
        let value = match instruction.operation {
            Operation::Unary(kind, _) => unary(b, kind, sources[0])?,
            Operation::Binary(kind, _) => binary(b, kind, sources[0], sources[1])?,
            Operation::Select(_) => select(b, &sources)?,
        };
        last = Some(value);
        if let Some(register) = registers.get_mut(instruction.to) {
            *register = last;
        }
    }
    last.map_or_else(|| no("an empty chain"), Ok)
}
