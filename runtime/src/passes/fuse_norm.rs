//! Joins a residual addition with the norm that reads its sum first: `add_rms_norm`.

use std::sync::Arc;

use super::rewrite::{Change, is, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Node, Source};
use crate::ops::{Add, AddRmsNorm, RmsNorm};

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let mut norms = norms(graph);
    let mut absorbed = vec![false; graph.nodes().len()];
    let mut position = 0;
    rewrite(graph, |graph, node| {
        position += 1;
        if absorbed[position - 1] {
            return Ok(Change::Drop);
        }
        let Some((at, norm)) = norms[position - 1].take() else { return Ok(Change::Keep(node)) };
        let Some(&RmsNorm { eps }) = is(&*norm.op) else { return Ok(Change::Keep(node)) };
        // The norm moves up to the addition, so its weight must exist there.
        if matches!(graph.get(norm.inputs[1]).source, Source::Node { .. }) {
            return Ok(Change::Keep(node));
        }
        absorbed[at] = true;
        let inputs = [&node.inputs[..], &norm.inputs[1..]].concat();
        let outputs = [&node.outputs[..], &norm.outputs[..]].concat();
        Ok(Change::Keep(Node { op: Arc::new(AddRmsNorm { eps }), inputs, outputs }))
    })
}

/// For each addition of two tensors of one shape, the norm that reads the sum before anyone else.
fn norms(graph: &Graph) -> Vec<Option<(usize, Node)>> {
    let nodes = graph.nodes();
    let mut first_reader = vec![None; graph.values().len()];
    for (i, node) in nodes.iter().enumerate().rev() {
        node.inputs.iter().for_each(|v| first_reader[v.index()] = Some(i));
    }
    let norm_of = |node: &Node| {
        is::<Add>(&*node.op)?;
        let sum = node.outputs[0];
        let one_shape = node.inputs.iter().all(|&v| graph.desc(v) == graph.desc(sum));
        let at = first_reader[sum.index()].filter(|_| one_shape)?;
        let norm = &nodes[at];
        (is::<RmsNorm>(&*norm.op).is_some() && norm.inputs[0] == sum).then(|| (at, norm.clone()))
    };
    nodes.iter().map(norm_of).collect()
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::graph::Graph;
    use crate::ops::{Add, Exp, Mul, RmsNorm};
    use crate::passes::rewrite::{after, assert_snapshot};
    use crate::tensor::TensorDesc;

    #[test]
    fn a_norm_joins_the_sum_that_it_reads_first() {
        let mut g = Graph::new();
        let [x, h] = ["x", "h"].map(|n| g.input(n, TensorDesc::f32(&[4, 8]).unwrap()).unwrap());
        let w = g.parameter("w", TensorDesc::f32(&[8]).unwrap(), false).unwrap();
        let norm = |g: &mut Graph, v| g.add(RmsNorm { eps: 1e-5 }, &[v, w]).unwrap();
        let sum = g.add(Add, &[x, h]).unwrap();
        let y = norm(&mut g, sum);
        let next = g.add(Add, &[sum, y]).unwrap();
        let early = g.add(Exp, &[next]).unwrap();
        let z = norm(&mut g, next);
        let product = g.add(Mul, &[early, z]).unwrap();
        g.set_output("y", product).unwrap();
        // The second sum is read by `exp` before its norm.
        let lines = after(run, g);
        assert_snapshot(&lines, &["= add_rms_norm", "= add (", "= exp", "= rms_norm", "= mul"]);
    }
}
