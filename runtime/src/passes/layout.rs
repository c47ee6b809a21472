//! Makes transposes disappear into what reads them.
//!
//! A transpose of a transpose is one; one that only moves axes of size 1 is a reshape, which
//! copies nothing; one that swaps the last two axes in front of a matrix product becomes the
//! product's flag, and behind one swaps the product's operands.

use std::sync::Arc;

use super::rewrite::{Change, is, rewrite, uses};
use crate::error::Result;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::{Linear, MatMul, Reshape, Transpose};
use crate::tensor::{DType, TensorDesc};

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let uses = uses(graph);
    let overwritten = graph.overwritten();
    let mut made: Vec<Option<Node>> = vec![None; graph.values().len()];
    rewrite(graph, |graph, mut node| {
        let view = View { graph, made: &made, uses: &uses };
        // To read a transpose's input instead is to read it later than the transpose did.
        let fixed = |n: &Node| !n.inputs.iter().any(|v| overwritten.contains(v));
        while let Some(better) = view.moved(&node).filter(fixed) {
            node = better;
        }
        for &output in &node.outputs {
            made[output.index()] = Some(node.clone());
        }
        Ok(Change::Keep(node))
    })
}

struct View<'a> {
    graph: &'a Graph,
    made: &'a [Option<Node>],
    uses: &'a [usize],
}

impl View<'_> {
    /// The node with one transpose less, if there is one to lose.
    fn moved(&self, node: &Node) -> Option<Node> {
        let op = &*node.op;
        if let Some(transpose) = is::<Transpose>(op) {
            self.transpose(node, transpose)
        } else if let Some(matmul) = is::<MatMul>(op) {
            self.matmul(node, *matmul)
        } else if let Some(linear) = is::<Linear>(op) {
            self.linear(node, linear)
        } else {
            None
        }
    }

    fn transpose(&self, node: &Node, outer: &Transpose) -> Option<Node> {
        let x = node.inputs[0];
        let shape = self.graph.desc(x).shape();
        let long = |axis: &&usize| shape[**axis] != 1;
        if outer.perm.iter().filter(long).is_sorted() {
            let to = self.graph.desc(node.outputs[0]).shape();
            return Some(with(node, Reshape::to(to), vec![x]));
        }
        let (inner, from) = self.transposed(x)?;
        let perm = outer.perm.iter().map(|&axis| inner.perm[axis]).collect();
        Some(with(node, Transpose { perm }, vec![from]))
    }

    fn matmul(&self, node: &Node, op: MatMul) -> Option<Node> {
        let (a, b) = (node.inputs[0], node.inputs[1]);
        if let Some(from) = self.swapped(a)
            && self.keeps_rows(a, b)
            && op.precision.takes(!op.trans_a)
        {
            return Some(with(node, MatMul { trans_a: !op.trans_a, ..op }, vec![from, b]));
        }
        let from = self.swapped(b)?;
        Some(with(node, MatMul { trans_b: !op.trans_b, ..op }, vec![a, from]))
    }

    /// A flag on the left forbids the product of many matrices with one as a single product.
    fn keeps_rows(&self, a: ValueId, b: ValueId) -> bool {
        let rank = |v| self.graph.desc(v).shape().len();
        rank(a) == 2 || rank(b) > 2
    }

    fn linear(&self, node: &Node, op: &Linear) -> Option<Node> {
        let &[x, weight] = &node.inputs[..] else { return None };
        if op.activation.is_some() {
            return None;
        }
        let from = self.swapped(weight)?;
        Some(with(node, MatMul { precision: op.precision, ..MatMul::default() }, vec![x, from]))
    }

    /// The transpose that alone made `value` for one reader, and what it transposed.
    fn transposed(&self, value: ValueId) -> Option<(&Transpose, ValueId)> {
        let node = self.made.get(value.index())?.as_ref()?;
        let transpose = is::<Transpose>(&*node.op)?;
        (self.uses[value.index()] == 1).then_some((transpose, node.inputs[0]))
    }

    /// What `value` is with its last two axes swapped, if a transpose for this reader made it.
    fn swapped(&self, value: ValueId) -> Option<ValueId> {
        let (transpose, from) = self.transposed(value)?;
        let rank = transpose.perm.len();
        let swaps = |i: usize| match rank - i {
            1 => rank - 2,
            2 => rank - 1,
            _ => i,
        };
        let desc: &TensorDesc = self.graph.desc(from);
        (rank >= 2
            && desc.dtype() == DType::F32
            && transpose.perm.iter().copied().eq((0..rank).map(swaps)))
        .then_some(from)
    }
}

fn with(node: &Node, op: impl crate::ops::Op, inputs: Vec<ValueId>) -> Node {
    Node { op: Arc::new(op), inputs, outputs: node.outputs.clone() }
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::graph::{Graph, ValueId};
    use crate::ops::{Linear, MatMul, Transpose};
    use crate::passes::prune;
    use crate::passes::rewrite::{after, assert_snapshot};
    use crate::tensor::TensorDesc;

    fn input(g: &mut Graph, name: &str, dims: &[usize]) -> ValueId {
        g.input(name, TensorDesc::f32(dims).unwrap()).unwrap()
    }

    fn transpose(g: &mut Graph, perm: &[usize], x: ValueId) -> ValueId {
        g.add(Transpose { perm: perm.to_vec() }, &[x]).unwrap()
    }

    fn lines(g: Graph) -> Vec<String> {
        after(
            |g| {
                run(g)?;
                prune::run(g)
            },
            g,
        )
    }

    #[test]
    fn transposes_become_flags_of_products() {
        let mut g = Graph::new();
        let (a, b) = (input(&mut g, "a", &[5, 3]), input(&mut g, "b", &[4, 5]));
        let (at, bt) = (transpose(&mut g, &[1, 0], a), transpose(&mut g, &[1, 0], b));
        let product = g.add(MatMul::default(), &[at, bt]).unwrap();
        g.set_output("y", product).unwrap();
        assert_snapshot(&lines(g), &["matmul{trans_a=true trans_b=true"]);
    }

    #[test]
    fn a_layer_with_a_transposed_weight_is_a_plain_product() {
        let mut g = Graph::new();
        let (x, w) = (input(&mut g, "x", &[2, 3]), input(&mut g, "w", &[3, 4]));
        let wt = transpose(&mut g, &[1, 0], w);
        let y = g.add(Linear::default(), &[x, wt]).unwrap();
        g.set_output("y", y).unwrap();
        assert_snapshot(&lines(g), &["matmul{trans_a=false trans_b=false"]);
    }

    #[test]
    fn chains_collapse_and_unit_axes_move_for_free() {
        let mut g = Graph::new();
        let x = input(&mut g, "x", &[2, 1, 3, 4]);
        let a = transpose(&mut g, &[0, 2, 1, 3], x);
        let b = transpose(&mut g, &[0, 1, 3, 2], x);
        let b = transpose(&mut g, &[1, 0, 3, 2], b);
        g.set_output("a", a).unwrap();
        g.set_output("b", b).unwrap();
        // The second is the identity but for the axis of size 1.
        assert_snapshot(
            &lines(g),
            &["reshape{shape=[2, 3, 1, 4]} (x)", "reshape{shape=[1, 2, 3, 4]} (x)"],
        );
    }

    #[test]
    fn a_transpose_with_other_readers_stays() {
        let mut g = Graph::new();
        let (a, b) = (input(&mut g, "a", &[5, 3]), input(&mut g, "b", &[5, 4]));
        let at = transpose(&mut g, &[1, 0], a);
        let product = g.add(MatMul::default(), &[at, b]).unwrap();
        g.set_output("at", at).unwrap();
        g.set_output("y", product).unwrap();
        assert_snapshot(&lines(g), &["= transpose", "= matmul{trans_a=false"]);
    }
}
