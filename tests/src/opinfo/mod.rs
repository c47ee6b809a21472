//! PyTorch's own operator samples, answered by graphs of Tenon's ops.
//!
//! [`rules`] has one row an operator: how it is said in Tenon, as one op or a composition. A
//! sample is then built, differentiated toward every operand that PyTorch differentiated, run, and
//! compared with the answers in the file, outputs and gradients alike.

mod argument;
mod build;
mod conv;
mod elementwise;
mod index;
mod linear;
mod loss;
mod movement;
mod norm;
mod pool;
mod reduce;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use argument::{Argument, Sample};
pub use build::{Build, Stop};

use crate::golden::{self, Array};
use tenon_runtime::backend::Backend;
use tenon_runtime::executor::Executor;
use tenon_runtime::graph::{Graph, ValueId};
use tenon_runtime::ops::{self, Tolerance};
use tenon_runtime::{autodiff, passes};

/// What [`Rule`]s give: the operator's outputs.
pub type Built = Result<Vec<ValueId>, Stop>;

/// How one PyTorch operator is said in Tenon.
pub type Rule = fn(&mut Build<'_>) -> Built;

/// The rule of every operator that has one.
#[must_use]
pub fn rules() -> BTreeMap<&'static str, Rule> {
    let tables = [
        elementwise::RULES,
        reduce::RULES,
        movement::RULES,
        index::RULES,
        linear::RULES,
        conv::RULES,
        pool::RULES,
        norm::RULES,
        loss::RULES,
    ];
    tables.into_iter().flatten().copied().collect()
}

/// Every sample with its tensors.
#[must_use]
pub fn samples() -> (Vec<Sample>, BTreeMap<String, Array>) {
    let lines = golden::bytes("opinfo/opinfo.jsonl.gz");
    let samples = String::from_utf8_lossy(&lines).lines().map(Sample::parse).collect();
    (samples, golden::tensors("opinfo/opinfo.safetensors.gz"))
}

/// Answers one sample; `Ok` holds how much of the bound was used, at most 1.
///
/// # Errors
/// [`Stop::LeftOut`] where Tenon does not have what the sample asks for, [`Stop::Failed`] where it
/// answers wrongly or not at all.
pub fn answer(
    rule: Rule,
    sample: &Sample,
    tensors: &BTreeMap<String, Array>,
    backends: &[Arc<dyn Backend>],
) -> Result<f32, Stop> {
    let mut build = Build::new(sample, tensors)?;
    let outputs = rule(&mut build)?;
    let Build { mut graph, leaves, feeds, .. } = build;
    let checks = questions(&mut graph, sample, &outputs, &leaves, tensors)?;
    let bound = bound(&graph);
    // A gradient is a sum of products with the cotangent, which may cancel to nothing but rounding.
    let gout = sample.gout.iter().flat_map(|name| tensors[name].values.iter());
    let cotangent = gout.fold(0.0, |m: f32, &v| m.max(v.abs() as f32));
    passes::optimize(&mut graph)?;
    let mut executor = Executor::new(graph, backends, &HashMap::new())?;
    for (name, array) in feeds.iter().map(|n| (n, &tensors[n])) {
        match array.kind {
            golden::Kind::Int => executor.write(name, &array.ints())?,
            _ => executor.write(name, &array.floats())?,
        }
    }
    executor.run(&mut ())?;
    checks.iter().try_fold(0f32, |worst, (name, want)| {
        let got = executor.read_vec::<f32>(name)?;
        let dims = executor.desc(name)?.shape().to_vec();
        let abs = if name.starts_with("gin") { bound.rel * cotangent } else { bound.abs };
        let excess = Tolerance { abs, ..bound }.excess(&got, &want.floats());
        if dims == want.dims && excess <= 1.0 {
            return Ok(worst.max(excess));
        }
        Err(Stop::Failed(format!(
            "{name}: {excess:.3} of the bound, {dims:?} for {:?}\n  got  {:?}\n  want {:?}",
            want.dims,
            &got[..got.len().min(8)],
            &want.values[..want.values.len().min(8)],
        )))
    })
}

/// Names the outputs and gradients that the sample has answers to.
fn questions<'a>(
    graph: &mut Graph,
    sample: &Sample,
    outputs: &[ValueId],
    leaves: &[ValueId],
    tensors: &'a BTreeMap<String, Array>,
) -> Result<Vec<(String, &'a Array)>, Stop> {
    let wanted: Vec<&Array> = sample.out.iter().map(|name| &tensors[name]).collect();
    if wanted.iter().any(|a| a.kind == golden::Kind::Double) {
        return Err(Stop::LeftOut("element type f64".into()));
    }
    if outputs.len() != wanted.len() {
        return Err(Stop::Failed(format!("{} outputs for {}", outputs.len(), wanted.len())));
    }
    let mut checks = Vec::new();
    for (i, (&value, want)) in outputs.iter().zip(wanted).enumerate() {
        let name = format!("out.{i}");
        graph.set_output(&name, value)?;
        checks.push((name, want));
    }
    if leaves.is_empty() || sample.gout.is_empty() {
        return Ok(checks);
    }
    let loss = pulled(graph, outputs, &sample.gout, tensors)?;
    let gradients = autodiff::gradients(graph, loss, leaves)?;
    for (i, (gradient, name)) in gradients.into_iter().zip(&sample.gin).enumerate() {
        let want = &tensors[name];
        let gradient = match gradient {
            Some(value) => value,
            None => graph.constant(zeros(&want.dims)?),
        };
        let name = format!("gin.{i}");
        graph.set_output(&name, gradient)?;
        checks.push((name, want));
    }
    Ok(checks)
}

/// The scalar whose gradient toward each output is that output's `gout`.
fn pulled(
    graph: &mut Graph,
    outputs: &[ValueId],
    gout: &[String],
    tensors: &BTreeMap<String, Array>,
) -> Result<ValueId, Stop> {
    let mut loss = None;
    for (&value, name) in outputs.iter().zip(gout) {
        let array = &tensors[name];
        let seed = tenon_runtime::Tensor::from_slice(&array.dims, &array.floats())?;
        let seed = graph.constant(seed);
        let product = graph.call("mul", &[], &[value, seed])?[0];
        let flat = graph.call("reshape", &[("shape", ops::Attr::Ints(vec![-1]))], &[product]);
        let flat = if array.values.is_empty() { product } else { flat?[0] };
        let sum = graph.call("reduce_sum", &[("keepdims", false.into())], &[flat])?[0];
        loss = Some(match loss {
            None => sum,
            Some(so_far) => graph.call("add", &[], &[so_far, sum])?[0],
        });
    }
    loss.ok_or_else(|| Stop::Failed("no output to differentiate".into()))
}

fn zeros(dims: &[usize]) -> Result<tenon_runtime::Tensor, Stop> {
    Ok(tenon_runtime::Tensor::from_slice(dims, &vec![0f32; dims.iter().product()])?)
}

/// To first order, errors add up along a composition: the sum of the bounds of the ops in it,
/// relative to the largest magnitude of the answer. Twice, since PyTorch computed in f32 as well.
fn bound(graph: &Graph) -> Tolerance {
    let each = graph.nodes().iter().filter_map(|n| ops::find(n.op.name()).ok());
    let rel: f32 = each.map(|entry| entry.tolerance.rel).sum();
    Tolerance::scaled(2.0 * rel.max(f32::EPSILON))
}
