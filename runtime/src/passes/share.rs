//! Computes common subexpressions once.
//!
//! A node that repeats an earlier one (the same op, attributes and operands) goes, and its readers
//! read the earlier result. That keeps the result alive for longer, so cheap elementwise work is
//! repeated where sharing it would take more memory than it saves: gradients repeat activations
//! for just that reason.

use std::collections::HashMap;

use super::rewrite::{Change, rewrite};
use crate::backend::Launch;
use crate::error::Result;
use crate::graph::{Graph, Node, Source, ValueId};
use crate::memory::descs;
use crate::tensor::{DType, Shape};

/// Bytes of constants that are compared: scalars and small rows.
const MAX_CONSTANT: usize = 256;
/// Bytes of a result that is worth keeping however long.
const SMALL: usize = 4096;

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let mut last_use = last_use(graph);
    let overwritten = graph.overwritten();
    let mut constants: HashMap<(DType, Shape, Vec<u8>), ValueId> = HashMap::new();
    let mut canonical: Vec<ValueId> = graph.iter_values().map(|(id, _)| id).collect();
    for (id, value) in graph.iter_values() {
        if let Source::Constant(tensor) = &value.source
            && tensor.desc().bytes() <= MAX_CONSTANT
        {
            let mut bytes = vec![0; tensor.desc().bytes()];
            tensor.storage().read(0, &mut bytes)?;
            let key = (tensor.desc().dtype(), *tensor.desc().shape(), bytes);
            canonical[id.index()] = *constants.entry(key).or_insert(id);
        }
    }
    let mut known: HashMap<(String, Vec<ValueId>), Vec<ValueId>> = HashMap::new();
    let mut position = 0;
    rewrite(graph, |graph, mut node| {
        position += 1;
        node.inputs.iter_mut().for_each(|v| *v = canonical[v.index()]);
        if !node.op.mutates().is_empty() {
            return Ok(Change::Keep(node));
        }
        let key = (format!("{} {:?}", node.op.name(), node.op.attrs()), node.inputs.clone());
        let twin = known.get(&key).filter(|first| {
            let last = last_use[first[0].index()];
            !node.outputs.iter().any(|v| overwritten.contains(v))
                && (last >= position || is_worth_keeping(graph, &node, &last_use, position))
        });
        match twin {
            Some(first) => {
                for (kept, gone) in first.iter().zip(&node.outputs) {
                    let last = last_use[gone.index()].max(last_use[kept.index()]);
                    last_use[kept.index()] = last;
                }
                Ok(Change::Replace(first.clone()))
            }
            None => {
                known.insert(key, node.outputs.clone());
                Ok(Change::Keep(node))
            }
        }
    })
}

/// For each value, one more than the number of the last node that reads it.
fn last_use(graph: &Graph) -> Vec<usize> {
    let mut last = vec![0; graph.values().len()];
    for (i, node) in graph.nodes().iter().enumerate() {
        node.inputs.iter().for_each(|v| last[v.index()] = i + 1);
    }
    graph.outputs().iter().for_each(|(_, v)| last[v.index()] = usize::MAX);
    last
}

/// Whether the earlier result should live on for this node: always where work is dear or the
/// result small, otherwise if operands that die here weigh as much.
fn is_worth_keeping(graph: &Graph, node: &Node, last_use: &[usize], position: usize) -> bool {
    let (inputs, outputs) = descs(graph, node);
    let launch = node.op.launch(&inputs, &outputs);
    let cheap = matches!(
        launch,
        Launch::Unary(_) | Launch::Binary(_) | Launch::Select | Launch::Cast | Launch::Move { .. }
    );
    let bytes: usize = outputs.iter().map(|d| d.bytes()).sum();
    let made = |v: &ValueId| matches!(graph.get(*v).source, Source::Node { .. });
    let freed: usize = node
        .inputs
        .iter()
        .filter(|v| made(v) && last_use[v.index()] <= position)
        .map(|&v| graph.desc(v).bytes())
        .sum();
    !cheap || bytes <= SMALL || freed >= bytes
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::graph::{Graph, ValueId};
    use crate::ops::{Add, Exp, MatMul, Mul, ReduceSum, Silu};
    use crate::passes::rewrite::{after, assert_snapshot};
    use crate::tensor::TensorDesc;

    fn square(g: &mut Graph, name: &str) -> ValueId {
        g.input(name, TensorDesc::f32(&[64, 64]).unwrap()).unwrap()
    }

    #[test]
    fn equal_nodes_and_constants_become_one() {
        let mut g = Graph::new();
        let (a, b) = (square(&mut g, "a"), square(&mut g, "b"));
        let twice = [0, 1].map(|_| {
            let half = g.scalar(0.5).unwrap();
            let product = g.add(MatMul::default(), &[a, b]).unwrap();
            g.add(Mul, &[product, half]).unwrap()
        });
        let other = g.add(MatMul { trans_b: true, ..MatMul::default() }, &[a, b]).unwrap();
        let sum = g.add(Add, &twice).unwrap();
        let sum = g.add(Add, &[sum, other]).unwrap();
        g.set_output("y", sum).unwrap();
        let lines = after(run, g);
        assert_snapshot(&lines, &["trans_b=false", "= mul (", "trans_b=true", "= add", "= add"]);
    }

    #[test]
    fn an_activation_is_repeated_rather_than_kept() {
        let mut g = Graph::new();
        let a = square(&mut g, "a");
        let x = g.add(Exp, &[a]).unwrap();
        let early = g.add(Silu, &[x]).unwrap();
        let mut v = g.add(ReduceSum { axes: vec![0], keepdims: false }, &[early]).unwrap();
        v = g.add(Exp, &[v]).unwrap();
        let late = g.add(Silu, &[x]).unwrap();
        let late = g.add(Add, &[late, v]).unwrap();
        // `x` lives on, so that keeping its activation too would take memory.
        let end = g.add(Mul, &[late, x]).unwrap();
        g.set_output("y", end).unwrap();
        let silus = after(run, g).iter().filter(|l| l.contains("= silu")).count();
        assert_eq!(silus, 2);
    }
}
