//! `pow`: elementwise power.

use tenon_kernels::binary::Binary;

use super::elementwise::binary_op;
use super::{Affine, Fill, Log, Mul, Select, Tolerance, Vjp};
use crate::error::Result;
use crate::graph::ValueId;
use crate::tensor::Tensor;

binary_op! {
    /// `z = a^b` as IEEE 754 `pow` has it; the operands broadcast. A zero exponent sends no gradient to
    /// the base, and a zero base none to the exponent.
    Pow = "pow", Binary::Pow, Tolerance::relative(2e-6), Fill::Uniform(0.3, 2.5), Fill::Normal;
    |cx| base_gradient(cx),
    exponent_gradient(cx)
}

/// `dz b a^(b-1)`, zero where `b` is.
fn base_gradient(cx: &mut Vjp<'_>) -> Result<ValueId> {
    let (base, exponent) = (cx.input(0), cx.input(1));
    let less = cx.add(Affine { mul: 1.0, add: -1.0 }, &[exponent])?;
    let power = cx.add(Pow, &[base, less])?;
    let slope = cx.add(Mul, &[exponent, power])?;
    let gradient = cx.add(Mul, &[cx.cotangent(), slope])?;
    zero_where_zero(cx, exponent, gradient)
}

/// `dz a^b ln(a)`, zero where `a` is.
fn exponent_gradient(cx: &mut Vjp<'_>) -> Result<ValueId> {
    let base = cx.input(0);
    let log = cx.add(Log, &[base])?;
    let slope = cx.add(Mul, &[cx.output(0), log])?;
    let gradient = cx.add(Mul, &[cx.cotangent(), slope])?;
    zero_where_zero(cx, base, gradient)
}

/// `value`, but zero where `condition` is zero.
fn zero_where_zero(cx: &mut Vjp<'_>, condition: ValueId, value: ValueId) -> Result<ValueId> {
    let zero = cx.constant(Tensor::from_slice(&[], &[0f32])?);
    cx.add(Select, &[condition, value, zero])
}
