//! Reverse-mode differentiation: adds the gradient of a scalar to its graph.
//!
//! Gradients flow only along paths that lead to something that trains, so a frozen weight gets no
//! gradient of its own, and nothing that only such a gradient would need is kept alive.

mod samples;

pub(crate) use samples::Samples;

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::{Add, Gradient, Vjp, find};
use crate::tensor::{DType, Tensor};

const ASIDE: &str = "only its first output carries one";

/// Adds to `graph` the gradients of `loss`, an f32 scalar, with respect to each of `wrt`.
///
/// The result has one entry for each of `wrt`: `None` where the loss does not depend on it.
///
/// # Errors
/// [`Error::Graph`] where `loss` is not an f32 scalar; [`Error::NoGradient`] where an op on the
/// way has none, or the way leads through another output than an op's first.
pub fn gradients(
    graph: &mut Graph,
    loss: ValueId,
    wrt: &[ValueId],
) -> Result<Vec<Option<ValueId>>> {
    let one = cotangent(graph, loss, 1.0)?;
    gradients_along(graph, &[(loss, one)], wrt)
}

/// Adds the cotangent of a loss, which is 1 where nothing is scaled.
///
/// # Errors
/// [`Error::Graph`] where `loss` is not an f32 scalar.
pub(crate) fn cotangent(graph: &mut Graph, loss: ValueId, value: f32) -> Result<ValueId> {
    let desc = graph.desc(loss);
    if desc.dtype() != DType::F32 || desc.numel() != 1 {
        return Err(Error::Graph(format!("the loss must be an f32 scalar, not {desc}")));
    }
    Ok(graph.constant(Tensor::from_slice(desc.shape(), &[value])?))
}

/// Adds to `graph` the gradients of the sum of the inner products of values with cotangents of
/// their shape, with respect to each of `wrt`, as [`gradients`] does.
///
/// # Errors
/// [`Error::NoGradient`] as [`gradients`].
pub(crate) fn gradients_along(
    graph: &mut Graph,
    seeds: &[(ValueId, ValueId)],
    wrt: &[ValueId],
) -> Result<Vec<Option<ValueId>>> {
    gradients_with(graph, seeds, wrt, None, &mut |_, _, _, gradient| Ok(gradient))
}

/// Where a value that a gradient is asked for is read, and the cotangent of what is made of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    /// The node's number.
    node: usize,
    /// Which of its inputs.
    input: usize,
    /// The cotangent of its first output.
    cotangent: ValueId,
}

/// [`gradients_along`], in which each gradient that a node gives is first changed, or, where there
/// is a place for `uses`, those toward `wrt` are not made: what they would be made of is told.
fn gradients_with(
    graph: &mut Graph,
    seeds: &[(ValueId, ValueId)],
    wrt: &[ValueId],
    mut uses: Option<&mut Vec<Use>>,
    change: &mut dyn FnMut(&mut Graph, &Node, usize, ValueId) -> Result<ValueId>,
) -> Result<Vec<Option<ValueId>>> {
    let (leads, aside) = leads_to(graph, wrt);
    // A gradient that silently left out a way would be wrong.
    let check = |value: ValueId| match aside[value.index()] {
        Some(op) if !leads[value.index()] => Err(Error::NoGradient { op, reason: ASIDE }),
        _ => Ok(()),
    };
    let mut cotangents: Vec<Option<ValueId>> = vec![None; graph.values().len()];
    let own = graph.nodes().len();
    for &(value, cotangent) in seeds {
        check(value)?;
        add_to(graph, &mut cotangents[value.index()], cotangent)?;
    }
    for i in (0..own).rev() {
        let node = graph.nodes()[i].clone();
        let mut wants: Vec<bool> = node.inputs.iter().map(|v| leads[v.index()]).collect();
        let cotangent = node.outputs.first().and_then(|v| cotangents[v.index()]);
        let (Some(cotangent), true) = (cotangent, wants.contains(&true)) else { continue };
        node.inputs.iter().try_for_each(|&v| check(v))?;
        if let Gradient::None(reason) = find(node.op.name()).map_or(Gradient::Vjp, |e| e.gradient) {
            return Err(Error::NoGradient { op: node.op.name(), reason });
        }
        if let Some(uses) = &mut uses {
            for (input, wants) in wants.iter_mut().enumerate() {
                if wrt.contains(&node.inputs[input]) {
                    uses.push(Use { node: i, input, cotangent });
                    *wants = false;
                }
            }
            if !wants.contains(&true) {
                continue;
            }
        }
        let (inputs, outputs) = (node.inputs.clone(), node.outputs.clone());
        let mut cx = Vjp::new(graph, inputs, outputs, cotangent, wants.clone());
        node.op.vjp(&mut cx)?;
        for (i, gradient) in cx.into_gradients().into_iter().enumerate() {
            let (Some(gradient), true) = (gradient, wants[i]) else { continue };
            let input = node.inputs[i];
            let gradient = change(graph, &node, i, gradient)?;
            add_to(graph, &mut cotangents[input.index()], gradient)?;
        }
    }
    Ok(wrt.iter().map(|v| cotangents[v.index()]).collect())
}

/// Adds one more part to a cotangent.
fn add_to(graph: &mut Graph, sum: &mut Option<ValueId>, part: ValueId) -> Result<()> {
    *sum = Some(match *sum {
        None => part,
        Some(sum) => graph.add(Add, &[sum, part])?,
    });
    Ok(())
}

/// For each value, whether one of `wrt` is behind it on a way that carries a gradient, and which op
/// has one behind an output that carries none: all but an op's first are residuals.
fn leads_to(graph: &Graph, wrt: &[ValueId]) -> (Vec<bool>, Vec<Option<&'static str>>) {
    let mut leads = vec![false; graph.values().len()];
    let mut aside = vec![None; graph.values().len()];
    for v in wrt {
        leads[v.index()] = true;
    }
    for node in graph.nodes() {
        let lead = node.inputs.iter().any(|v| leads[v.index()]);
        let passed = node.inputs.iter().find_map(|v| aside[v.index()]);
        for (i, output) in node.outputs.iter().enumerate() {
            leads[output.index()] |= lead && i == 0;
            aside[output.index()] = passed.or((lead && i > 0).then(|| node.op.name()));
        }
    }
    (leads, aside)
}
