//! Normalisations and softmax.

use super::{Argument, Build, Built, Rule, Stop};
use tenon_runtime::graph::ValueId;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("softmax", |b| along_last(b, "softmax")),
    ("log_softmax", |b| along_last(b, "log_softmax")),
    ("nn.functional.layer_norm", layer_norm),
    ("nn.functional.rms_norm", rms_norm),
    ("nn.functional.group_norm", group_norm),
    ("nn.functional.batch_norm", batch_norm),
    ("nn.functional.normalize", normalize),
];

/// Tenon's rows lie along the last axis; another one changes places with it.
fn along_last(b: &mut Build<'_>, op: &str) -> Built {
    if b.word(usize::MAX, "dtype", "").contains("64") {
        return Err(Stop::LeftOut("element type f64".into()));
    }
    let x = b.input()?;
    not_empty(b, x)?;
    let rank = b.dims(x).len();
    if rank == 0 {
        let row = b.reshape(x, &[1])?;
        let row = b.op(op, &[row])?;
        return Build::one(b.reshape(row, &[]));
    }
    let axis = b.axis(1, "dim", -1, rank);
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(axis, rank - 1);
    let rows = b.permute(x, &order)?;
    let rows = b.op(op, &[rows])?;
    Build::one(b.permute(rows, &order))
}

fn not_empty(b: &Build<'_>, x: ValueId) -> Result<(), Stop> {
    match b.dims(x).contains(&0) {
        true => Err(Stop::LeftOut("a normalisation of no element".into())),
        false => Ok(()),
    }
}

/// The last axes of a normalised shape as one.
fn folded(b: &mut Build<'_>) -> Result<(ValueId, usize), Stop> {
    let x = b.input()?;
    let dims = b.dims(x);
    let inner = b.arg(1, "normalized_shape").ints().unwrap_or_default().len();
    let (outer, own) = dims.split_at(dims.len() - inner);
    let width: usize = own.iter().product();
    let rows: Vec<usize> = outer.iter().copied().chain([width]).collect();
    Ok((b.reshape(x, &rows)?, width))
}

/// A weight or bias as a row; the neutral one where it is not given.
fn row(
    b: &mut Build<'_>,
    given: Option<ValueId>,
    width: usize,
    neutral: f32,
) -> Result<ValueId, Stop> {
    match given {
        Some(value) => b.reshape(value, &[width]),
        None => b.constant(&[width], &vec![neutral; width]),
    }
}

fn layer_norm(b: &mut Build<'_>) -> Built {
    let (x, width) = folded(b)?;
    let weight = b.optional(2, "weight");
    let bias = b.optional(3, "bias");
    let (weight, bias) = (row(b, weight, width, 1.0)?, row(b, bias, width, 0.0)?);
    let eps = b.number(4, "eps", 1e-5);
    let y = b.call("layer_norm", &[("eps", eps.into())], &[x, weight, bias])?;
    let dims = b.dims(b.input()?);
    Build::one(b.reshape(y, &dims))
}

fn rms_norm(b: &mut Build<'_>) -> Built {
    let (x, width) = folded(b)?;
    let weight = b.optional(2, "weight");
    let weight = row(b, weight, width, 1.0)?;
    let eps = b.number(3, "eps", f64::from(f32::EPSILON));
    let y = b.call("rms_norm", &[("eps", eps.into())], &[x, weight])?;
    let dims = b.dims(b.input()?);
    Build::one(b.reshape(y, &dims))
}

/// Scale and shift follow by channel.
fn group_norm(b: &mut Build<'_>) -> Built {
    let x = b.input()?;
    not_empty(b, x)?;
    let dims = b.dims(x);
    let groups = b.number(1, "num_groups", 1.0) as i64;
    let eps = b.number(4, "eps", 1e-5);
    let mut y = b.call("group_norm", &[("groups", groups.into()), ("eps", eps.into())], &[x])?;
    let mut channels = vec![1; dims.len() - 1];
    channels[0] = dims[1];
    for (i, name, op) in [(2, "weight", "mul"), (3, "bias", "add")] {
        if let Some(factor) = b.optional(i, name) {
            let factor = b.reshape(factor, &channels)?;
            y = b.op(op, &[y, factor])?;
        }
    }
    Ok(vec![y])
}

/// Running statistics are states in Tenon and inputs here, so training takes none, and evaluation
/// is composed from them.
fn batch_norm(b: &mut Build<'_>) -> Built {
    let x = b.input()?;
    if b.dims(x).len() < 2 {
        return Err(Stop::LeftOut("batch_norm without an axis of channels".into()));
    }
    let eps = b.number(7, "eps", 1e-5);
    let (weight, bias) = (b.optional(3, "weight"), b.optional(4, "bias"));
    let training = b.flag(5, "training", false);
    if !training {
        return evaluated(b, x, weight, bias, eps);
    }
    let affine = weight.is_some() && bias.is_some();
    let attrs = [
        ("training", true.into()),
        ("running", false.into()),
        ("affine", affine.into()),
        ("eps", eps.into()),
    ];
    let inputs: Vec<_> = [x].into_iter().chain(weight).chain(bias).collect();
    Build::one(b.call("batch_norm", &attrs, &inputs))
}

fn evaluated(
    b: &mut Build<'_>,
    x: ValueId,
    weight: Option<ValueId>,
    bias: Option<ValueId>,
    eps: f64,
) -> Built {
    let (mean, variance) = (b.tensor(1, "running_mean")?, b.tensor(2, "running_var")?);
    let mut channels = vec![1; b.dims(x).len() - 1];
    channels[0] = b.dims(x)[1];
    let variance = b.affine(variance, 1.0, eps)?;
    let inverse = b.op("rsqrt", &[variance])?;
    let steps = [(Some(mean), "sub"), (Some(inverse), "mul"), (weight, "mul"), (bias, "add")];
    let mut y = x;
    for (operand, op) in steps {
        if let Some(operand) = operand {
            let operand = b.reshape(operand, &channels)?;
            y = b.op(op, &[y, operand])?;
        }
    }
    Ok(vec![y])
}

/// `x / max(norm_p(x), eps)`.
fn normalize(b: &mut Build<'_>) -> Built {
    let x = b.input()?;
    let rank = b.dims(x).len();
    let p = match b.arg(1, "p") {
        Argument::Number(p) => *p,
        _ => 2.0,
    };
    if p == 0.0 {
        return Err(Stop::LeftOut("a norm that counts".into()));
    }
    let axis = b.axis(2, "dim", 1, rank);
    let eps = b.number(3, "eps", 1e-12);
    let size = b.op("abs", &[x])?;
    let power = b.call("pow_scalar", &[("exponent", p.into())], &[size])?;
    let sum = b.reduce("reduce_sum", power, &[axis.min(rank.saturating_sub(1))], true)?;
    let norm = b.call("pow_scalar", &[("exponent", (1.0 / p).into())], &[sum])?;
    let eps = b.scalar(eps)?;
    let norm = b.op("maximum", &[norm, eps])?;
    Build::one(b.op("div", &[x, norm]))
}
