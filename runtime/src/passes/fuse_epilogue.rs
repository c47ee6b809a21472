//! Gives a layer's product the activation that alone reads its result, while that is near.

use std::sync::Arc;

use super::rewrite::{Change, is, rewrite, uses};
use crate::error::Result;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::Linear;

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let mut joined = joined(graph);
    let mut absorbed = vec![false; graph.nodes().len()];
    let mut position = 0;
    rewrite(graph, |_, node| {
        position += 1;
        if absorbed[position - 1] {
            return Ok(Change::Drop);
        }
        let Some((at, op, outputs)) = joined[position - 1].take() else {
            return Ok(Change::Keep(node));
        };
        absorbed[at] = true;
        Ok(Change::Keep(Node { op: Arc::new(op), inputs: node.inputs, outputs }))
    })
}

/// For each layer, where its activation is, the two in one, and what that makes.
fn joined(graph: &Graph) -> Vec<Option<(usize, Linear, Vec<ValueId>)>> {
    let (nodes, uses) = (graph.nodes(), uses(graph));
    let mut reader = vec![None; graph.values().len()];
    for (i, node) in nodes.iter().enumerate() {
        node.inputs.iter().for_each(|v| reader[v.index()] = Some(i));
    }
    let join = |node: &Node| {
        let layer = is::<Linear>(&*node.op)?;
        let sums = node.outputs[0].index();
        let at = reader[sums].filter(|_| uses[sums] == 1)?;
        let both = layer.followed_by(&*nodes[at].op)?;
        Some((at, both, nodes[at].outputs.clone()))
    };
    nodes.iter().map(join).collect()
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::graph::Graph;
    use crate::ops::{Exp, Linear, Relu, Silu, Tanh};
    use crate::passes::rewrite::{after, assert_snapshot};
    use crate::tensor::TensorDesc;

    #[test]
    fn an_activation_joins_the_layer_that_it_alone_reads() {
        let mut g = Graph::new();
        let desc = TensorDesc::f32(&[4, 4]).unwrap();
        let [x, w] = ["x", "w"].map(|n| g.input(n, desc.clone()).unwrap());
        let layer = |g: &mut Graph, x| g.add(Linear::default(), &[x, w]).unwrap();
        // One reader; one activation is all that joins.
        let h = layer(&mut g, x);
        let h = g.add(Relu, &[h]).unwrap();
        let once = g.add(Tanh, &[h]).unwrap();
        // The sums are read elsewhere, too.
        let z = layer(&mut g, h);
        let (both, also) = (g.add(Relu, &[z]).unwrap(), g.add(Exp, &[z]).unwrap());
        // The gradient would read the sums.
        let z = layer(&mut g, x);
        let silu = g.add(Silu, &[z]).unwrap();
        for (name, v) in [("once", once), ("both", both), ("also", also), ("silu", silu)] {
            g.set_output(name, v).unwrap();
        }
        let lines = after(run, g);
        assert_snapshot(
            &lines,
            &["relu", "= tanh", "= linear", "= relu", "= exp", "= linear", "= silu"],
        );
    }
}
