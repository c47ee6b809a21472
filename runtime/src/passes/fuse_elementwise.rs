//! Makes one `fused` node of a chain of elementwise nodes, so that what they pass on never reaches
//! memory.
//!
//! Starting from each elementwise node, last first, the nodes that make its operands join it while
//! nobody else reads what they make, all have one shape (or work on single elements), and the
//! program fits the kernel's limits. A node does not join if that would keep more memory alive
//! over the nodes in between than it saves.

use std::collections::HashSet;
use std::sync::Arc;

use tenon_kernels::fused::{Instruction, MAX_INPUTS, MAX_REGISTERS, Operation, Source};

use super::rewrite::uses;
use crate::backend::Launch;
use crate::error::Result;
use crate::graph::{Graph, Node, Source as Maker, ValueId};
use crate::ops::Fused;
use crate::tensor::DType;

/// Instructions in a program: beyond this arithmetic outweighs what memory traffic is left to save.
const MAX_INSTRUCTIONS: usize = 16;

/// Fuses what can be fused.
pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let facts = Facts::of(graph);
    let mut absorbed = vec![false; graph.nodes().len()];
    let mut programs: Vec<Option<Program>> = vec![None; absorbed.len()];
    for root in (0..absorbed.len()).rev() {
        if absorbed[root] || !facts.fusible[root] {
            continue;
        }
        let group = grow(graph, &facts, &absorbed, root);
        if let [joined @ .., _] = &group[..]
            && !joined.is_empty()
        {
            programs[root] = program(graph, &group);
            joined.iter().for_each(|&node| absorbed[node] = true);
        }
    }
    let nodes = graph.take_nodes().into_iter().zip(programs).zip(absorbed);
    let nodes = nodes.filter(|(_, absorbed)| !absorbed).map(|((node, program), _)| match program {
        None => node,
        Some(Program { instructions, inputs }) => {
            let op = Arc::new(Fused { program: instructions.into() });
            Node { op, inputs, outputs: node.outputs }
        }
    });
    graph.set_nodes(nodes.collect());
    Ok(())
}

/// What the pass asks of a graph again and again.
struct Facts {
    /// For each node, whether it can be part of a program.
    fusible: Vec<bool>,
    /// For each value, how often nodes and the caller read it.
    uses: Vec<usize>,
    /// Values that some node overwrites: their readers must not move behind it.
    overwritten: HashSet<ValueId>,
}

impl Facts {
    fn of(graph: &Graph) -> Self {
        let fusible = graph.nodes().iter().map(|n| fusible(graph, n)).collect();
        Self { fusible, uses: uses(graph), overwritten: graph.overwritten() }
    }
}

/// A program and the values it reads.
#[derive(Clone)]
struct Program {
    instructions: Vec<Instruction>,
    inputs: Vec<ValueId>,
}

/// The class and parameters of a node.
fn launch(graph: &Graph, node: &Node) -> Launch {
    let descs = |values: &[ValueId]| values.iter().map(|&v| graph.desc(v)).collect::<Vec<_>>();
    node.op.launch(&descs(&node.inputs), &descs(&node.outputs))
}

/// Whether a node is elementwise on operands of its shape or single elements.
fn fusible(graph: &Graph, node: &Node) -> bool {
    let &[output] = &node.outputs[..] else { return false };
    let output = graph.desc(output);
    matches!(launch(graph, node), Launch::Unary(_) | Launch::Binary(_) | Launch::Select)
        && node
            .inputs
            .iter()
            .map(|&v| graph.desc(v))
            .all(|d| d.dtype() == DType::F32 && (d.shape() == output.shape() || d.numel() == 1))
}

/// The nodes that fuse with `root`, in order.
fn grow(graph: &Graph, facts: &Facts, absorbed: &[bool], root: usize) -> Vec<usize> {
    let mut group = vec![root];
    // Candidates come in falling order, so every reader of one has joined before it, or never will.
    for candidate in (0..root).rev() {
        if absorbed[candidate] || !joins(graph, facts, &group, candidate) {
            continue;
        }
        group.insert(0, candidate);
        if program(graph, &group).is_none() {
            group.remove(0);
        }
    }
    group
}

/// Whether a node may and should join the group.
fn joins(graph: &Graph, facts: &Facts, group: &[usize], candidate: usize) -> bool {
    let nodes = graph.nodes();
    if !facts.fusible[candidate] {
        return false;
    }
    let (node, made) = (&nodes[candidate], nodes[candidate].outputs[0]);
    let readers = group.iter().flat_map(|&n| &nodes[n].inputs).filter(|&&v| v == made).count();
    let root = nodes[group[group.len() - 1]].outputs[0];
    let one_shape = graph.desc(made).shape() == graph.desc(root).shape();
    let fixed = !node.inputs.iter().any(|v| facts.overwritten.contains(v));
    readers > 0
        && readers == facts.uses[made.index()]
        && one_shape
        && fixed
        && keeps_memory(graph, group, candidate)
}

/// Whether joining keeps no more memory alive: the candidate's operands live on instead of its
/// result, over the nodes up to the group's last that are not in the group.
fn keeps_memory(graph: &Graph, group: &[usize], candidate: usize) -> bool {
    let node = &graph.nodes()[candidate];
    let whole = |v: &&ValueId| {
        graph.desc(**v).shape() == graph.desc(node.outputs[0]).shape()
            && matches!(graph.get(**v).source, Maker::Node { .. })
    };
    let operands: HashSet<_> = node.inputs.iter().filter(whole).collect();
    let between = group[group.len() - 1] - candidate - group.len();
    operands.len() <= 1 || between == 0
}

/// The program of a group, or `None` where it exceeds a limit.
fn program(graph: &Graph, group: &[usize]) -> Option<Program> {
    let mut build = Builder::default();
    let reads = |value: ValueId, after: usize| {
        group[after + 1..].iter().any(|&n| graph.nodes()[n].inputs.contains(&value))
    };
    for (i, &n) in group.iter().enumerate() {
        let node = &graph.nodes()[n];
        let sources: Vec<Source> =
            node.inputs.iter().map(|&v| build.source(v)).collect::<Option<_>>()?;
        let operation = match (launch(graph, node), &sources[..]) {
            (Launch::Unary(op), &[x]) => Operation::Unary(op, [x]),
            (Launch::Binary(op), &[a, b]) => Operation::Binary(op, [a, b]),
            (Launch::Select, &[c, a, b]) => Operation::Select([c, a, b]),
            _ => return None,
        };
        build.release(|value| !reads(value, i));
        let to = if i + 1 < group.len() { build.take(node.outputs[0])? } else { 0 };
        build.instructions.push(Instruction { operation, to });
    }
    (build.instructions.len() <= MAX_INSTRUCTIONS)
        .then_some(Program { instructions: build.instructions, inputs: build.inputs })
}

/// A program in the making.
#[derive(Default)]
struct Builder {
    instructions: Vec<Instruction>,
    inputs: Vec<ValueId>,
    /// What each register holds.
    registers: [Option<ValueId>; MAX_REGISTERS],
}

impl Builder {
    /// Where a value is to be read; it becomes an operand if no register holds it.
    fn source(&mut self, value: ValueId) -> Option<Source> {
        if let Some(register) = self.registers.iter().position(|&r| r == Some(value)) {
            return Some(Source::Register(register));
        }
        let known = self.inputs.iter().position(|&v| v == value);
        let input = known.unwrap_or_else(|| {
            self.inputs.push(value);
            self.inputs.len() - 1
        });
        (input < MAX_INPUTS).then_some(Source::Input(input))
    }

    /// Frees the registers of values that are `dead`.
    fn release(&mut self, dead: impl Fn(ValueId) -> bool) {
        for register in &mut self.registers {
            *register = register.filter(|&value| !dead(value));
        }
    }

    /// A free register, now holding `value`.
    fn take(&mut self, value: ValueId) -> Option<usize> {
        let free = self.registers.iter().position(Option::is_none)?;
        self.registers[free] = Some(value);
        Some(free)
    }
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::graph::Graph;
    use crate::ops::{Add, Affine, Exp, Mul, Neg, ReduceSum, Silu, Sqrt};
    use crate::passes::rewrite::{after, assert_snapshot};
    use crate::tensor::TensorDesc;

    /// A graph with inputs `a`, `b` of 4 x 8 and `s` of one element.
    fn inputs() -> (Graph, [crate::ValueId; 3]) {
        let mut g = Graph::new();
        let a = g.input("a", TensorDesc::f32(&[4, 8]).unwrap()).unwrap();
        let b = g.input("b", TensorDesc::f32(&[4, 8]).unwrap()).unwrap();
        let s = g.input("s", TensorDesc::f32(&[1]).unwrap()).unwrap();
        (g, [a, b, s])
    }

    fn fused(g: Graph) -> Vec<String> {
        after(run, g)
    }

    #[test]
    fn a_chain_becomes_one_node() {
        let (mut g, [a, b, s]) = inputs();
        let gate = g.add(Silu, &[a]).unwrap();
        let product = g.add(Mul, &[gate, b]).unwrap();
        let scaled = g.add(Mul, &[product, s]).unwrap();
        let sum = g.add(Add, &[scaled, scaled]).unwrap();
        g.set_output("y", sum).unwrap();
        assert_snapshot(&fused(g), &["r0 = silu i0; r0 = mul r0 i1; r0 = mul r0 i2; add r0 r0"]);
    }

    #[test]
    fn what_others_read_stays() {
        let (mut g, [a, _, _]) = inputs();
        let e = g.add(Exp, &[a]).unwrap();
        let n = g.add(Neg, &[e]).unwrap();
        let total = g.add(ReduceSum { axes: vec![1], keepdims: true }, &[e]).unwrap();
        let q = g.add(Sqrt, &[n]).unwrap();
        let row = g.add(Mul, &[q, total]).unwrap();
        g.set_output("y", row).unwrap();
        // The product broadcasts rows, and `e` has two readers.
        assert_snapshot(&fused(g), &["= exp (a)", "reduce_sum", "r0 = neg i0; sqrt r0", "= mul ("]);
    }

    #[test]
    fn outputs_are_not_swallowed() {
        let (mut g, [a, b, _]) = inputs();
        let e = g.add(Exp, &[a]).unwrap();
        let y = g.add(Add, &[e, b]).unwrap();
        g.set_output("e", e).unwrap();
        g.set_output("y", y).unwrap();
        assert_snapshot(&fused(g), &["= exp (a)", "= add ("]);
    }

    #[test]
    fn a_node_that_would_keep_two_operands_alive_stays() {
        let (mut g, [a, b, _]) = inputs();
        let (x, y) = (g.add(Exp, &[a]).unwrap(), g.add(Neg, &[b]).unwrap());
        let all = |g: &mut Graph, v| g.add(ReduceSum { axes: vec![0, 1], keepdims: true }, &[v]);
        let (sx, sy) = (all(&mut g, x).unwrap(), all(&mut g, y).unwrap());
        let product = g.add(Mul, &[x, y]).unwrap();
        let total = g.add(Add, &[sx, sy]).unwrap();
        let last = g.add(ReduceSum { axes: vec![0, 1], keepdims: true }, &[total]).unwrap();
        let z = g.add(Add, &[product, last]).unwrap();
        g.set_output("z", z).unwrap();
        let nodes = fused(g);
        assert!(nodes.iter().any(|l| l.contains("= mul (")), "{nodes:#?}");
        assert!(!nodes.iter().any(|l| l.contains("fused")), "{nodes:#?}");
    }

    #[test]
    fn long_chains_are_cut_at_the_limit() {
        let (mut g, [mut v, _, _]) = inputs();
        for _ in 0..20 {
            v = g.add(Affine { mul: 2.0, add: 1.0 }, &[v]).unwrap();
        }
        g.set_output("y", v).unwrap();
        let nodes = fused(g);
        assert_eq!(nodes.len(), 2, "{nodes:#?}");
        assert_eq!(nodes[1].matches("affine").count(), super::MAX_INSTRUCTIONS);
    }
}
