//! Forward products in codes of 8 bits: ranges are measured in a graph that computes in f32, and frozen
//! in the one that takes its place.
//!
//! What the backward pass reads stays f32: gradients are those of the numbers before they were rounded.

use tenon_runtime::{Error, Result};

use super::evaluate::{Array, apply};
use super::graph::{Graph, Source, ValueId};
use super::op::{Affine, Binary, Op, Reduce, Unary};

/// What to make of forward products.
enum Mode<'a> {
    /// Their operands and results are measured.
    Observe,
    /// They are computed in codes, whose largest magnitudes these are.
    Code(&'a [f32]),
}

/// The graph with one more output for each range: the largest magnitude, `[1]` f32, of the input, the
/// weight and the result of each forward product, in order.
///
/// # Errors
/// As [`Graph::add`].
pub fn observed(graph: &Graph, forward: &[bool]) -> Result<Graph> {
    rewritten(graph, forward, &Mode::Observe)
}

/// The graph with its forward products in codes.
///
/// # Errors
/// As [`Graph::add`]; [`Error::Graph`] for too few maxima.
pub fn coded(graph: &Graph, forward: &[bool], maxima: &[f32]) -> Result<Graph> {
    rewritten(graph, forward, &Mode::Code(maxima))
}

/// How many ranges there are.
#[must_use]
pub fn ranges(graph: &Graph, forward: &[bool]) -> usize {
    3 * graph.nodes().iter().zip(forward).filter(|(node, is)| **is && is_product(&node.op)).count()
}

fn is_product(op: &Op) -> bool {
    matches!(op, Op::Linear | Op::Conv(_))
}

fn rewritten(graph: &Graph, forward: &[bool], mode: &Mode<'_>) -> Result<Graph> {
    let mut made = Graph::default();
    let mut new = vec![ValueId(0); graph.values().len()];
    let mut observed = Vec::new();
    for &input in graph.inputs() {
        new[input.index()] = made.input(graph.ty(input).clone());
    }
    for (i, value) in graph.values().iter().enumerate() {
        if let Source::Const(bytes) = &value.source {
            new[i] = made.constant(value.ty.clone(), bytes.clone())?;
        }
    }
    for (i, node) in graph.nodes().iter().enumerate() {
        let inputs: Vec<ValueId> = node.inputs.iter().map(|v| new[v.index()]).collect();
        let is_forward = forward.get(i).copied().unwrap_or(false) && is_product(&node.op);
        new[node.output.index()] = if is_forward {
            let mut y = match mode {
                Mode::Observe => {
                    let y = made.add(node.op.clone(), &inputs[..2])?;
                    observed.extend([inputs[0], inputs[1], y]);
                    y
                }
                Mode::Code(maxima) => {
                    let from = observed.len();
                    observed.extend([inputs[0]; 3]);
                    let maxima = maxima.get(from..from + 3);
                    let maxima = maxima.ok_or_else(|| Error::Graph("too few ranges".into()))?;
                    product(&mut made, &node.op, &inputs, maxima)?
                }
            };
            if let Some(&bias) = inputs.get(2) {
                let n = made.ty(bias).numel();
                let shape = if node.op == Op::Linear { vec![1, n] } else { vec![1, n, 1, 1] };
                let bias = made.add(Op::Reshape(shape), &[bias])?;
                y = made.add(Op::Binary(Binary::Add), &[y, bias])?;
            }
            y
        } else {
            made.add(node.op.clone(), &inputs)?
        };
    }
    for output in graph.outputs() {
        made.output(new[output.index()]);
    }
    if matches!(mode, Mode::Observe) {
        for value in observed {
            let axes: Vec<usize> = (0..made.shape(value).len()).collect();
            let magnitude = made.add(Op::Unary(Unary::Abs), &[value])?;
            let most = made.add(Op::Reduce { kind: Reduce::Max, axes }, &[magnitude])?;
            let most = made.add(Op::Reshape(vec![1]), &[most])?;
            made.output(most);
        }
    }
    Ok(made)
}

/// Codes on both sides of 0, as many as there are.
fn affine(most: f32) -> Affine {
    let scale = if most > 0.0 && most.is_finite() { most / 127.0 } else { 1.0 };
    Affine { scales: [scale].into(), zero: 0, axis: None }
}

fn product(graph: &mut Graph, op: &Op, inputs: &[ValueId], maxima: &[f32]) -> Result<ValueId> {
    let mut codes = |value: ValueId, most: f32| -> Result<ValueId> {
        let quantize = Op::Quantize(affine(most));
        let ty = graph.ty(value).clone();
        match &graph.value(value).source {
            // What is frozen is rounded here.
            Source::Const(bytes) => {
                let made = apply(&quantize, &[&Array::from_bytes(&ty, bytes)?])?;
                graph.constant(made.ty.clone(), made.to_bytes())
            }
            _ => graph.add(quantize, &[value]),
        }
    };
    let (x, w) = (codes(inputs[0], maxima[0])?, codes(inputs[1], maxima[1])?);
    let y = graph.add(Op::Coded(Box::new(op.clone()), affine(maxima[2])), &[x, w])?;
    graph.add(Op::Dequantize, &[y])
}
