//! Lets an embedding's gradient add its rows to what it would be summed with: where a language model
//! ties its embedding to its head, the table of the gradient exists once, and no pass over it adds
//! two.

use std::sync::Arc;

use super::rewrite::{Change, is, rewrite, uses};
use crate::error::Result;
use crate::graph::{Graph, Node, Source, ValueId};
use crate::ops::{Add, EmbeddingGrad};

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let (uses, overwritten) = (uses(graph), graph.overwritten());
    // The scatter moves down to the sum, over which its operands must keep.
    let scatter = |graph: &Graph, value: ValueId| {
        let Source::Node { node, .. } = graph.get(value).source else { return None };
        let node = &graph.nodes()[node.index()];
        let keeps = node.inputs.iter().all(|v| !overwritten.contains(v));
        let fits = node.inputs.len() == 2 && keeps && uses[value.index()] == 1;
        is::<EmbeddingGrad>(&*node.op).filter(|_| fits).map(|&op| (op, node.inputs.clone()))
    };
    let of_sums: Vec<_> = graph
        .nodes()
        .iter()
        .map(|node| {
            is::<Add>(&*node.op)?;
            let [a, b] = node.inputs[..] else { return None };
            // A sum that broadcasts has another shape than its smaller operand.
            let same = graph.desc(a) == graph.desc(b);
            let found = scatter(graph, b).map(|s| (s, a, b));
            found.or_else(|| scatter(graph, a).map(|s| (s, b, a))).filter(|_| same)
        })
        .collect();
    let absorbed: Vec<ValueId> = of_sums.iter().flatten().map(|(_, _, rows)| *rows).collect();
    let mut of_sums = of_sums.into_iter();
    rewrite(graph, |_, node| {
        let sum = of_sums.next().flatten();
        if node.outputs.iter().any(|v| absorbed.contains(v)) {
            return Ok(Change::Drop);
        }
        let Some(((op, mut inputs), table, _)) = sum else { return Ok(Change::Keep(node)) };
        inputs.push(table);
        Ok(Change::Keep(Node { op: Arc::new(op), inputs, outputs: node.outputs }))
    })
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::graph::Graph;
    use crate::ops::{Add, EmbeddingGrad, Exp};
    use crate::passes::rewrite::{after, assert_snapshot};
    use crate::tensor::TensorDesc;

    #[test]
    fn an_embeddings_gradient_adds_to_what_it_is_summed_with() {
        let mut g = Graph::new();
        let dy = g.input("dy", TensorDesc::f32(&[3, 8]).unwrap()).unwrap();
        let ids = g.input("ids", TensorDesc::i32(&[3]).unwrap()).unwrap();
        let other = g.input("other", TensorDesc::f32(&[5, 8]).unwrap()).unwrap();
        let table = g.add(Exp, &[other]).unwrap();
        let rows = g.add(EmbeddingGrad { rows: 5 }, &[dy, ids]).unwrap();
        let sum = g.add(Add, &[table, rows]).unwrap();
        // One that is read elsewhere too stays.
        let kept = g.add(EmbeddingGrad { rows: 5 }, &[dy, ids]).unwrap();
        let second = g.add(Add, &[kept, sum]).unwrap();
        g.set_output("kept", kept).unwrap();
        g.set_output("y", second).unwrap();
        let lines = after(run, g);
        let patterns = ["= exp", "= embedding_grad", "= embedding_grad", "= add"];
        assert_snapshot(&lines, &patterns);
        assert!(
            lines.iter().any(|l| l.contains("embedding_grad") && l.matches(", ").count() == 2),
            "{lines:#?}"
        );
    }
}
