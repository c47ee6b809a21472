//! Elementwise operators.

use super::{Argument, Build, Built, Rule, Stop};
use tenon_runtime::DType;
use tenon_runtime::graph::ValueId;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("add", |b| scaled(b, "add")),
    ("sub", |b| scaled(b, "sub")),
    ("mul", |b| plain(b, "mul")),
    ("div", div),
    ("exp", |b| unary(b, "exp")),
    ("log", |b| unary(b, "log")),
    ("sqrt", |b| unary(b, "sqrt")),
    ("rsqrt", |b| unary(b, "rsqrt")),
    ("tanh", |b| unary(b, "tanh")),
    ("sigmoid", |b| unary(b, "sigmoid")),
    ("nn.functional.relu", |b| unary(b, "relu")),
    ("nn.functional.silu", |b| unary(b, "silu")),
    ("nn.functional.gelu", gelu),
    ("nn.functional.softplus", softplus),
    ("clamp", clamp),
    ("where", select),
    ("masked_fill", masked_fill),
];

fn unary(b: &mut Build<'_>, op: &str) -> Built {
    let x = b.input()?;
    Build::one(b.op(op, &[x]))
}

/// A tensor operand, or a constant for a number.
fn operand(b: &mut Build<'_>, i: usize) -> Result<ValueId, Stop> {
    match b.arg(i, "other") {
        Argument::Number(v) => b.scalar(*v),
        _ => b.tensor(i, "other"),
    }
}

fn plain(b: &mut Build<'_>, op: &str) -> Built {
    let (x, y) = (b.input()?, operand(b, 1)?);
    Build::one(b.op(op, &[x, y]))
}

/// `x op alpha y`.
fn scaled(b: &mut Build<'_>, op: &str) -> Built {
    let alpha = b.number(usize::MAX, "alpha", 1.0);
    let (x, mut y) = (b.input()?, operand(b, 1)?);
    if alpha != 1.0 {
        y = b.affine(y, alpha, 0.0)?;
    }
    Build::one(b.op(op, &[x, y]))
}

fn div(b: &mut Build<'_>) -> Built {
    let (x, y) = (b.input()?, operand(b, 1)?);
    let quotient = b.op("div", &[x, y])?;
    match b.word(usize::MAX, "rounding_mode", "none") {
        "none" => Ok(vec![quotient]),
        mode => Build::one(b.op(mode, &[quotient])),
    }
}

/// An operand of whole numbers as f32.
fn float(b: &mut Build<'_>, x: ValueId) -> Result<ValueId, Stop> {
    match b.graph.desc(x).dtype() {
        DType::F32 => Ok(x),
        _ => b.call("cast", &[("dtype", "f32".into())], &[x]),
    }
}

fn gelu(b: &mut Build<'_>) -> Built {
    let op = if b.word(1, "approximate", "none") == "tanh" { "gelu_tanh" } else { "gelu" };
    unary(b, op)
}

/// `softplus(beta x) / beta`, and `x` where `beta x` is above the threshold.
fn softplus(b: &mut Build<'_>) -> Built {
    let x = b.input()?;
    let (beta, threshold) = (b.number(1, "beta", 1.0), b.number(2, "threshold", 20.0));
    let scaled = b.affine(x, beta, 0.0)?;
    let soft = b.op("softplus", &[scaled])?;
    let soft = b.affine(soft, 1.0 / beta, 0.0)?;
    let threshold = b.scalar(threshold)?;
    let linear = b.op("gt", &[scaled, threshold])?;
    Build::one(b.op("select", &[linear, x, soft]))
}

/// Limits may be tensors: comparisons and selects, since at a limit PyTorch's gradient goes whole
/// to the input, where `maximum` would share it.
fn clamp(b: &mut Build<'_>) -> Built {
    let mut y = b.input()?;
    if let Some(low) = b.optional(1, "min") {
        let low = float(b, low)?;
        let below = b.op("lt", &[y, low])?;
        y = b.op("select", &[below, low, y])?;
    }
    if let Some(high) = b.optional(2, "max") {
        let high = float(b, high)?;
        let above = b.op("gt", &[y, high])?;
        y = b.op("select", &[above, high, y])?;
    }
    Ok(vec![y])
}

/// PyTorch's sample has the condition in the middle: `x.where(condition, other)`.
fn select(b: &mut Build<'_>) -> Built {
    let (x, condition, other) = (b.input()?, b.tensor(1, "condition")?, operand(b, 2)?);
    Build::one(b.op("select", &[condition, x, other]))
}

fn masked_fill(b: &mut Build<'_>) -> Built {
    let (x, mask, value) = (b.input()?, b.tensor(1, "mask")?, operand(b, 2)?);
    Build::one(b.op("select", &[mask, value, x]))
}
