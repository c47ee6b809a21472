//! Reductions.

use super::{Build, Built, Rule, Stop};
use tenon_runtime::graph::ValueId;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("sum", |b| along(b, "reduce_sum")),
    ("mean", |b| along(b, "reduce_mean")),
    ("var", variance),
    ("logsumexp", logsumexp),
    ("linalg.vecdot", vecdot),
    ("cumsum", cumsum),
];

fn along(b: &mut Build<'_>, op: &str) -> Built {
    let x = b.input()?;
    let axes = b.axes(1, "dim", b.dims(x).len());
    let keep = b.flag(2, "keepdim", false);
    Build::one(b.reduce(op, x, &axes, keep))
}

/// The mean square distance from the mean, over `n - correction`.
fn variance(b: &mut Build<'_>) -> Built {
    let x = b.input()?;
    let dims = b.dims(x);
    // `var(unbiased)` is a form of its own, whose flag stands where `dim` does otherwise.
    let form = b.arg(1, "dim");
    let (axes, unbiased) = match form {
        super::Argument::Bool(v) => ((0..dims.len()).collect(), *v),
        _ => (b.axes(1, "dim", dims.len()), b.flag(usize::MAX, "unbiased", true)),
    };
    let correction = b.number(usize::MAX, "correction", f64::from(u8::from(unbiased)));
    let count: usize = axes.iter().map(|&a| dims[a]).product();
    let mean = b.reduce("reduce_mean", x, &axes, true)?;
    let distance = b.op("sub", &[x, mean])?;
    let square = b.op("square", &[distance])?;
    let keep = b.flag(usize::MAX, "keepdim", false);
    let sum = b.reduce("reduce_sum", square, &axes, keep)?;
    Build::one(b.affine(sum, 1.0 / (count as f64 - correction), 0.0))
}

/// `max + log(sum(exp(x - max)))`; the shift has no influence on the gradient, so a constant zero
/// slope through it is exact: `log_softmax` gives it without one.
fn logsumexp(b: &mut Build<'_>) -> Built {
    let x = b.input()?;
    let dims = b.dims(x);
    let axes = b.axes(1, "dim", dims.len());
    let keep = b.flag(2, "keepdim", false);
    let shift = b.reduce("reduce_max", x, &axes, true)?;
    let shifted = b.op("sub", &[x, shift])?;
    let exp = b.op("exp", &[shifted])?;
    let sum = b.reduce("reduce_sum", exp, &axes, true)?;
    let log = b.op("log", &[sum])?;
    let value = b.op("add", &[log, shift])?;
    let kept = b.dims(value);
    let rest: Vec<usize> =
        (0..kept.len()).filter(|a| keep || !axes.contains(a)).map(|a| kept[a]).collect();
    Build::one(b.reshape(value, &rest))
}

fn vecdot(b: &mut Build<'_>) -> Built {
    let (x, y) = (b.input()?, b.tensor(1, "other")?);
    let product = b.op("mul", &[x, y])?;
    let axis = b.axis(usize::MAX, "dim", -1, b.dims(product).len());
    Build::one(b.reduce("reduce_sum", product, &[axis], false))
}

/// A product with a triangle of ones.
fn cumsum(b: &mut Build<'_>) -> Built {
    let x = b.input()?;
    let dims = b.dims(x);
    if dims.is_empty() {
        return Ok(vec![x]);
    }
    let axis = b.axis(1, "dim", 0, dims.len());
    let last = swapped(dims.len(), axis);
    let rows = b.permute(x, &last)?;
    let n = dims[axis];
    let ones: Vec<f32> = (0..n * n).map(|i| f32::from(u8::from(i / n <= i % n))).collect();
    let triangle = b.constant(&[n, n], &ones)?;
    let rows = at_least_matrix(b, rows)?;
    let sums = b.op("matmul", &[rows, triangle])?;
    let order: Vec<usize> = last.iter().map(|&a| dims[a]).collect();
    let sums = b.reshape(sums, &order)?;
    Build::one(b.permute(sums, &last))
}

/// The order of axes in which `axis` and the last one have changed places.
fn swapped(rank: usize, axis: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(axis, rank - 1);
    order
}

fn at_least_matrix(b: &mut Build<'_>, x: ValueId) -> Result<ValueId, Stop> {
    let dims = b.dims(x);
    if dims.len() >= 2 { Ok(x) } else { b.reshape(x, &[1, dims[0]]) }
}
