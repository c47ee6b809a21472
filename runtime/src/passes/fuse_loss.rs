//! Joins a language model's head and loss with their gradients: the logits are then computed once,
//! not twice.

use std::sync::Arc;

use super::rewrite::{Change, is, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Node, Source};
use crate::ops::{LinearCrossEntropy, LinearCrossEntropyBoth, LinearCrossEntropyGrad};

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let mut pairs = pairs(graph);
    let mut absorbed = vec![false; graph.nodes().len()];
    let mut position = 0;
    rewrite(graph, |_, node| {
        position += 1;
        if absorbed[position - 1] {
            return Ok(Change::Drop);
        }
        let (Some((at, gradient)), Some(&LinearCrossEntropy { ignore_index, precision })) =
            (pairs[position - 1].take(), is(&*node.op))
        else {
            return Ok(Change::Keep(node));
        };
        let Some(&LinearCrossEntropyGrad { wants_weight, .. }) = is(&*gradient.op) else {
            return Ok(Change::Keep(node));
        };
        absorbed[at] = true;
        let inputs = [&node.inputs[..], &gradient.inputs[4..]].concat();
        let outputs = [&node.outputs[..], &gradient.outputs[..]].concat();
        let op = Arc::new(LinearCrossEntropyBoth { ignore_index, precision, wants_weight });
        Ok(Change::Keep(Node { op, inputs, outputs }))
    })
}

/// For each loss, its gradient, where that scales by a number known beforehand.
fn pairs(graph: &Graph) -> Vec<Option<(usize, Node)>> {
    let nodes = graph.nodes();
    let belongs = |loss: &Node, gradient: &Node| {
        gradient.inputs[..3] == loss.inputs[..] && gradient.inputs[3] == loss.outputs[1]
    };
    let gradient_of = |loss: &Node| {
        is::<LinearCrossEntropy>(&*loss.op)?;
        let at = nodes.iter().position(|n| {
            is::<LinearCrossEntropyGrad>(&*n.op).is_some()
                && belongs(loss, n)
                && !matches!(graph.get(n.inputs[4]).source, Source::Node { .. })
        })?;
        Some((at, nodes[at].clone()))
    };
    nodes.iter().map(gradient_of).collect()
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::autodiff::gradients;
    use crate::graph::{Graph, ValueId};
    use crate::ops::{Exp, LinearCrossEntropy};
    use crate::passes::rewrite::{after, assert_snapshot};
    use crate::tensor::TensorDesc;

    /// A loss over `exp(a) W` with gradients toward what trains.
    fn graph(head_trains: bool) -> Graph {
        let mut g = Graph::new();
        let a = g.parameter("a", TensorDesc::f32(&[3, 8]).unwrap(), true).unwrap();
        let w = g.parameter("w", TensorDesc::f32(&[5, 8]).unwrap(), head_trains).unwrap();
        let targets = g.input("targets", TensorDesc::i32(&[3]).unwrap()).unwrap();
        let x = g.add(Exp, &[a]).unwrap();
        let loss = g.add(LinearCrossEntropy::default(), &[x, w, targets]).unwrap();
        let wrt: Vec<ValueId> = g.trainable();
        for (i, gradient) in gradients(&mut g, loss, &wrt).unwrap().into_iter().enumerate() {
            g.set_output(&format!("gradient {i}"), gradient.unwrap()).unwrap();
        }
        g
    }

    #[test]
    fn the_logits_are_computed_once() {
        for head_trains in [false, true] {
            let lines = after(run, graph(head_trains));
            assert_snapshot(&lines, &["= exp", "= linear_cross_entropy_both", "= mul"]);
        }
    }
}
