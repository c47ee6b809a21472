//! Losses.

use super::{Build, Built, Rule, Stop};
use tenon_runtime::graph::ValueId;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("nn.functional.cross_entropy", cross_entropy),
    ("nn.functional.nll_loss", nll_loss),
    ("nn.functional.mse_loss", mse),
    ("nn.functional.l1_loss", l1),
    ("nn.functional.smooth_l1_loss", smooth_l1),
    ("nn.functional.huber_loss", huber),
    ("nn.functional.kl_div", kl_div),
    ("nn.functional.binary_cross_entropy_with_logits", bce_with_logits),
];

/// Mean (the default), sum, mean over the first axis, or none.
fn reduced(b: &mut Build<'_>, x: ValueId) -> Built {
    let dims = b.dims(x);
    let count = match b.word(usize::MAX, "reduction", "mean") {
        "none" => return Ok(vec![x]),
        "sum" => 1,
        "batchmean" => dims.first().copied().unwrap_or(1),
        _ => dims.iter().product(),
    };
    let sum = b.sum(x)?;
    Build::one(b.affine(sum, 1.0 / count as f64, 0.0))
}

fn difference(b: &mut Build<'_>) -> Result<ValueId, Stop> {
    let (x, target) = (b.input()?, b.tensor(1, "target")?);
    b.op("sub", &[x, target])
}

fn mse(b: &mut Build<'_>) -> Built {
    let d = difference(b)?;
    let loss = b.op("square", &[d])?;
    reduced(b, loss)
}

fn l1(b: &mut Build<'_>) -> Built {
    let d = difference(b)?;
    let loss = b.op("abs", &[d])?;
    reduced(b, loss)
}

/// `d^2 / 2` below `width`, `width (|d| - width / 2)` above, times `factor`.
fn quadratic_then_linear(b: &mut Build<'_>, width: f64, factor: f64) -> Built {
    let d = difference(b)?;
    let size = b.op("abs", &[d])?;
    let square = b.op("square", &[d])?;
    let quadratic = b.affine(square, 0.5 * factor, 0.0)?;
    let linear = b.affine(size, width * factor, -0.5 * width * width * factor)?;
    let limit = b.scalar(width)?;
    let inside = b.op("lt", &[size, limit])?;
    let loss = b.op("select", &[inside, quadratic, linear])?;
    reduced(b, loss)
}

fn smooth_l1(b: &mut Build<'_>) -> Built {
    match b.number(usize::MAX, "beta", 1.0) {
        0.0 => l1(b),
        beta => quadratic_then_linear(b, beta, 1.0 / beta),
    }
}

fn huber(b: &mut Build<'_>) -> Built {
    let delta = b.number(usize::MAX, "delta", 1.0);
    quadratic_then_linear(b, delta, 1.0)
}

/// `target (log target - input)`; a target of 0 counts 0, whatever its logarithm.
fn kl_div(b: &mut Build<'_>) -> Built {
    let (x, target) = (b.input()?, b.tensor(1, "target")?);
    let (probability, logarithm) = if b.flag(usize::MAX, "log_target", false) {
        (b.op("exp", &[target])?, target)
    } else {
        (target, b.op("log", &[target])?)
    };
    let d = b.op("sub", &[logarithm, x])?;
    let loss = b.op("mul", &[probability, d])?;
    reduced(b, loss)
}

/// `(1 - t) x + (1 + (p - 1) t) softplus(-x)`, weighted.
fn bce_with_logits(b: &mut Build<'_>) -> Built {
    let (x, target) = (b.input()?, b.tensor(1, "target")?);
    let negative = b.op("neg", &[x])?;
    let mut log_term = b.op("softplus", &[negative])?;
    if let Some(positive) = b.optional(usize::MAX, "pos_weight") {
        let surplus = b.affine(positive, 1.0, -1.0)?;
        let surplus = b.op("mul", &[surplus, target])?;
        let factor = b.affine(surplus, 1.0, 1.0)?;
        log_term = b.op("mul", &[factor, log_term])?;
    }
    let rest = b.affine(target, -1.0, 1.0)?;
    let linear = b.op("mul", &[rest, x])?;
    let mut loss = b.op("add", &[linear, log_term])?;
    if let Some(weight) = b.optional(2, "weight") {
        loss = b.op("mul", &[loss, weight])?;
    }
    reduced(b, loss)
}

/// Classes are axis 1 (axis 0 of a vector); the loss has the other axes.
fn cross_entropy(b: &mut Build<'_>) -> Built {
    let rows = class_rows(b)?;
    let log = b.op("log_softmax", &[rows])?;
    picked(b, log)
}

fn nll_loss(b: &mut Build<'_>) -> Built {
    let rows = class_rows(b)?;
    picked(b, rows)
}

/// The input as `[..., classes]`.
fn class_rows(b: &mut Build<'_>) -> Result<ValueId, Stop> {
    let x = b.input()?;
    let rank = b.dims(x).len();
    if rank < 3 {
        return Ok(x);
    }
    let order: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
    b.permute(x, &order)
}

/// `-weight[target] log[target]`, by a constant that is 1 (or the class's weight) at each target:
/// the target tensor of the sample is known when the graph is built. Probabilities as targets are
/// that constant themselves.
fn picked(b: &mut Build<'_>, log: ValueId) -> Built {
    let target = b.content(1, "target")?;
    if target.kind == crate::golden::Kind::Float {
        return Err(Stop::LeftOut("class probabilities as targets".into()));
    }
    let dims = b.dims(log);
    let classes = *dims.last().unwrap_or(&1);
    let weights = match b.content(2, "weight") {
        Ok(array) => array.values.clone(),
        Err(_) => vec![1.0; classes],
    };
    let ignored = b.number(usize::MAX, "ignore_index", -100.0);
    let weight_of = |&t: &f64| if t == ignored { 0.0 } else { weights[t as usize] };
    let mut mask = vec![0f32; dims.iter().product()];
    for (row, t) in target.values.iter().enumerate().filter(|(_, t)| **t != ignored) {
        mask[row * classes + *t as usize] = -weight_of(t) as f32;
    }
    let total: f64 = target.values.iter().map(weight_of).sum();
    let (mask, zero) = (b.constant(&dims, &mask)?, b.scalar(0.0)?);
    // A class of weight 0 counts 0 even where its logarithm is infinite.
    let weighted = b.op("mul", &[log, mask])?;
    let weighted = b.op("select", &[mask, weighted, zero])?;
    let loss = b.reduce("reduce_sum", weighted, &[dims.len().saturating_sub(1)], false)?;
    match b.word(usize::MAX, "reduction", "mean") {
        "none" => Ok(vec![loss]),
        "sum" => Build::one(b.sum(loss)),
        _ => {
            let sum = b.sum(loss)?;
            Build::one(b.affine(sum, 1.0 / total, 0.0))
        }
    }
}
