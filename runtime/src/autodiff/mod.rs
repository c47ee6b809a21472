//! Reverse-mode differentiation: adds the gradient of a scalar to its graph.
//!
//! Gradients flow only along paths that lead to something that trains, so a frozen weight gets no
//! gradient of its own, and nothing that only such a gradient would need is kept alive.

use crate::error::{Error, Result};
use crate::graph::{Graph, ValueId};
use crate::ops::{Add, Gradient, Vjp, find};
use crate::tensor::{DType, Tensor};

/// Adds to `graph` the gradients of `loss`, an f32 scalar, with respect to each of `wrt`.
///
/// The result has one entry for each of `wrt`: `None` where the loss does not depend on it.
///
/// # Errors
/// [`Error::Graph`] where `loss` is not an f32 scalar; [`Error::NoGradient`] where an op on the
/// way has none.
pub fn gradients(
    graph: &mut Graph,
    loss: ValueId,
    wrt: &[ValueId],
) -> Result<Vec<Option<ValueId>>> {
    let desc = graph.desc(loss);
    if desc.dtype() != DType::F32 || desc.numel() != 1 {
        return Err(Error::Graph(format!("the loss must be an f32 scalar, not {desc}")));
    }
    let dims = desc.shape().to_vec();
    let leads = leads_to(graph, wrt);
    let mut cotangents: Vec<Option<ValueId>> = vec![None; graph.values().len()];
    cotangents[loss.index()] = Some(graph.constant(Tensor::from_slice(&dims, &[1f32])?));
    for i in (0..graph.nodes().len()).rev() {
        let node = graph.nodes()[i].clone();
        let wants: Vec<bool> = node.inputs.iter().map(|v| leads[v.index()]).collect();
        let cotangent = node.outputs.first().and_then(|v| cotangents[v.index()]);
        let (Some(cotangent), true) = (cotangent, wants.contains(&true)) else { continue };
        if let Gradient::None(reason) = find(node.op.name()).map_or(Gradient::Vjp, |e| e.gradient) {
            return Err(Error::NoGradient { op: node.op.name(), reason });
        }
        let mut cx = Vjp::new(graph, node.inputs.clone(), node.outputs, cotangent, wants);
        node.op.vjp(&mut cx)?;
        for (gradient, input) in cx.into_gradients().into_iter().zip(node.inputs) {
            let (Some(gradient), true) = (gradient, leads[input.index()]) else { continue };
            cotangents[input.index()] = Some(match cotangents[input.index()] {
                None => gradient,
                Some(sum) => graph.add(Add, &[sum, gradient])?,
            });
        }
    }
    Ok(wrt.iter().map(|v| cotangents[v.index()]).collect())
}

/// For each value, whether one of `wrt` is behind it. Only output 0 of a node carries a gradient.
fn leads_to(graph: &Graph, wrt: &[ValueId]) -> Vec<bool> {
    let mut leads = vec![false; graph.values().len()];
    for v in wrt {
        leads[v.index()] = true;
    }
    for node in graph.nodes() {
        if let Some(first) = node.outputs.first() {
            leads[first.index()] |= node.inputs.iter().any(|v| leads[v.index()]);
        }
    }
    leads
}
