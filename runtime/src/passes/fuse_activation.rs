//! Puts activations together with what they multiply or follow, into the kernels made for that:
//! `x * sigmoid(x)` is `silu`, `silu(x) * y` is `silu_mul`, `log(softmax(x))` is `log_softmax`,
//! which also keeps small probabilities that `softmax` rounds to zero.

use std::sync::Arc;

use super::rewrite::{Change, is, rewrite, uses};
use crate::error::Result;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::{Log, LogSoftmax, Mul, Op, Sigmoid, Silu, SiluMul, Softmax};

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let uses = uses(graph);
    let overwritten = graph.overwritten();
    let mut made: Vec<Option<Node>> = vec![None; graph.values().len()];
    rewrite(graph, |graph, mut node| {
        // What made `value`, if this node is its only reader and may read its operands instead.
        let maker = |value: ValueId| {
            let maker: &Node = made.get(value.index())?.as_ref()?;
            let free = !maker.inputs.iter().any(|v| overwritten.contains(v));
            (uses[value.index()] == 1 && free).then_some(maker)
        };
        let fused = match node.inputs[..] {
            [a, b] if is::<Mul>(&*node.op).is_some() => {
                gated(graph, maker(a), b).or_else(|| gated(graph, maker(b), a))
            }
            [x] if is::<Log>(&*node.op).is_some() => maker(x).and_then(|m| {
                is::<Softmax>(&*m.op)?;
                Some((Arc::new(LogSoftmax) as Arc<dyn Op>, m.inputs.clone()))
            }),
            _ => None,
        };
        if let Some((op, inputs)) = fused {
            node = Node { op, inputs, outputs: node.outputs };
        }
        for &output in &node.outputs {
            made[output.index()] = Some(node.clone());
        }
        Ok(Change::Keep(node))
    })
}

/// What a product of `gate`'s result and `other` is in one op.
fn gated(
    graph: &Graph,
    gate: Option<&Node>,
    other: ValueId,
) -> Option<(Arc<dyn Op>, Vec<ValueId>)> {
    let gate = gate?;
    let x = *gate.inputs.first()?;
    if is::<Sigmoid>(&*gate.op).is_some() && x == other {
        return Some((Arc::new(Silu), vec![x]));
    }
    let one_shape = graph.desc(x) == graph.desc(other);
    (is::<Silu>(&*gate.op).is_some() && one_shape).then(|| (Arc::new(SiluMul) as _, vec![x, other]))
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::graph::Graph;
    use crate::ops::{Log, Mul, Sigmoid, Silu, Softmax};
    use crate::passes::prune;
    use crate::passes::rewrite::{after, assert_snapshot};
    use crate::tensor::TensorDesc;

    #[test]
    fn products_and_logarithms_join_their_activation() {
        let mut g = Graph::new();
        let [a, b] = ["a", "b"].map(|n| g.input(n, TensorDesc::f32(&[4, 8]).unwrap()).unwrap());
        let gate = g.add(Sigmoid, &[a]).unwrap();
        let silu = g.add(Mul, &[a, gate]).unwrap();
        let y = g.add(Mul, &[b, silu]).unwrap();
        let p = g.add(Softmax, &[y]).unwrap();
        let z = g.add(Log, &[p]).unwrap();
        let kept = g.add(Silu, &[b]).unwrap();
        let w = g.add(Mul, &[kept, a]).unwrap();
        for (name, v) in [("z", z), ("kept", kept), ("w", w)] {
            g.set_output(name, v).unwrap();
        }
        let lines = after(
            |g| {
                run(g)?;
                prune::run(g)
            },
            g,
        );
        assert_snapshot(&lines, &["silu_mul (a, b)", "= log_softmax", "= silu (b)", "= mul ("]);
    }
}
