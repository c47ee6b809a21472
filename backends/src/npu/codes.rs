//! Forward products in codes of 8 bits.
//!
//! Accelerators take scales that are part of what is compiled, and give products in codes as well. So
//! operands are first divided by their own largest magnitudes, the input's by row (by image), the
//! weight's by output channel, and meet scales that never change; nothing of them is measured, and what
//! trains may grow. Results are multiplied by both again. Only their range, in units of both, is
//! measured: in a graph that computes in f32, and frozen in the one that takes its place.
//!
//! What the backward pass reads stays f32: gradients are those of the numbers before they were rounded.
//!
//! How far adapters of a transformer block came from the CPU's loss in 50 steps, by what was rounded
//! (five starts; loss about 1.9): frozen weights by channel alone 2e-5 to 5e-4; inputs by row as well 3e-5
//! to 4e-3; results too, as accelerators do, 2e-3 to 7e-3. With one scale a tensor, frozen after the
//! first steps, adapters, which start at zero, ran into the ends of their ranges: 0.27.

use tenon_runtime::{Error, Result};

use super::evaluate::{Array, Elements, computed};
use super::graph::{Graph, Source, ValueId};
use super::op::{Affine, Binary, DType, Op, Reduce, Type, Unary};

/// What to make of forward products.
enum Mode<'a> {
    /// Their results are measured.
    Observe,
    /// They are computed in codes, whose largest magnitudes these are.
    Code(&'a [f32]),
}

/// How much larger than what was measured results may be.
const MARGIN: f32 = 1.25;
/// In what numbers that are all zero are divided by.
const TINY: f32 = 1e-12;

/// The graph with one more output for each forward product in codes: the largest magnitude of its
/// result in units of its operands', `[1]` f32, in order.
///
/// # Errors
/// As [`Graph::add`].
pub fn observed(graph: &Graph, forward: &[bool]) -> Result<Graph> {
    rewritten(graph, forward, &Mode::Observe)
}

/// The graph with its forward products in codes.
///
/// # Errors
/// As [`Graph::add`]; [`Error::Graph`] for too few maxima.
pub fn coded(graph: &Graph, forward: &[bool], maxima: &[f32]) -> Result<Graph> {
    rewritten(graph, forward, &Mode::Code(maxima))
}

/// How many products are computed in codes, each with a range.
#[must_use]
pub fn ranges(graph: &Graph, forward: &[bool]) -> usize {
    chosen(graph, forward).into_iter().filter(|is| *is).count()
}

fn is_product(op: &Op) -> bool {
    matches!(op, Op::Linear | Op::Conv(_))
}

/// Of each node, whether it is a forward product to compute in codes. Where some weights are frozen,
/// those that train beside them are thin, adapters, and stay f32.
fn chosen(graph: &Graph, forward: &[bool]) -> Vec<bool> {
    let nodes = || graph.nodes().iter().enumerate();
    let is_forward = |i: usize| forward.get(i).copied().unwrap_or(false);
    let mut chosen: Vec<bool> = nodes().map(|(i, n)| is_forward(i) && is_product(&n.op)).collect();
    let frozen: Vec<bool> =
        nodes().map(|(i, node)| chosen[i] && graph.is_const(node.inputs[1])).collect();
    if frozen.contains(&true) {
        chosen = frozen;
    }
    chosen
}

/// The graph so far and what its values are called in the new one.
struct Copy {
    made: Graph,
    new: Vec<ValueId>,
}

impl Copy {
    /// Inputs and constants.
    fn begin(graph: &Graph) -> Result<Self> {
        let mut copy = Self { made: Graph::default(), new: vec![ValueId(0); graph.values().len()] };
        for &input in graph.inputs() {
            copy.new[input.index()] = copy.made.input(graph.ty(input).clone());
        }
        for (i, value) in graph.values().iter().enumerate() {
            if let Source::Const(bytes) = &value.source {
                copy.new[i] = copy.made.constant(value.ty.clone(), bytes.clone())?;
            }
        }
        Ok(copy)
    }

    fn named(&self, values: &[ValueId]) -> Vec<ValueId> {
        values.iter().map(|v| self.new[v.index()]).collect()
    }

    fn end(mut self, graph: &Graph) -> Graph {
        for output in graph.outputs() {
            self.made.output(self.new[output.index()]);
        }
        self.made
    }
}

fn rewritten(graph: &Graph, forward: &[bool], mode: &Mode<'_>) -> Result<Graph> {
    let chosen = chosen(graph, forward);
    let mut copy = Copy::begin(graph)?;
    let mut observed = Vec::new();
    for (node, is_chosen) in graph.nodes().iter().zip(chosen) {
        let inputs = copy.named(&node.inputs);
        let made = &mut copy.made;
        copy.new[node.output.index()] = if is_chosen {
            let product = Product::new(made, &node.op, &inputs)?;
            let mut y = match mode {
                Mode::Observe => {
                    let y = made.add(node.op.clone(), &inputs[..2])?;
                    observed.push(product.share(made, y)?);
                    y
                }
                Mode::Code(maxima) => {
                    let most = maxima.get(observed.len()).copied();
                    let most = most.ok_or_else(|| Error::Graph("too few ranges".into()))?;
                    observed.push(inputs[0]);
                    product.coded(made, most)?
                }
            };
            if let Some(&bias) = inputs.get(2) {
                let bias = made.add(Op::Reshape(product.by_channel.clone()), &[bias])?;
                y = made.add(Op::Binary(Binary::Add), &[y, bias])?;
            }
            y
        } else {
            made.add(node.op.clone(), &inputs)?
        };
    }
    let mut made = copy.end(graph);
    if matches!(mode, Mode::Observe) {
        for value in observed {
            let axes = (0..made.shape(value).len()).collect();
            let most = largest(&mut made, value, axes)?;
            let most = made.add(Op::Reshape(vec![1]), &[most])?;
            made.output(most);
        }
    }
    Ok(without_unread(&made))
}

/// A forward product of operands that are divided by their largest magnitudes.
struct Product<'a> {
    op: &'a Op,
    /// Between -1 and 1.
    x: ValueId,
    w: ValueId,
    /// What the result is to be multiplied by.
    most: [ValueId; 2],
    /// The shape of one number for each output channel.
    by_channel: Vec<usize>,
    /// Products in each sum.
    depth: usize,
}

impl<'a> Product<'a> {
    fn new(graph: &mut Graph, op: &'a Op, inputs: &[ValueId]) -> Result<Self> {
        let shape = graph.shape(inputs[1]).to_vec();
        let mut by_channel = vec![1; shape.len()];
        by_channel[1] = shape[0];
        let (x, most_x) = divided(graph, inputs[0])?;
        let (w, most_w) = divided(graph, inputs[1])?;
        let most_w = computed(graph, Op::Reshape(by_channel.clone()), &[most_w])?;
        let depth = shape[1..].iter().product();
        Ok(Self { op, x, w, most: [most_x, most_w], by_channel, depth })
    }

    /// The result's share of the magnitudes that it is multiplied by.
    fn share(&self, graph: &mut Graph, y: ValueId) -> Result<ValueId> {
        let y = graph.add(Op::Binary(Binary::Div), &[y, self.most[0]])?;
        graph.add(Op::Binary(Binary::Div), &[y, self.most[1]])
    }

    /// The product in codes, for results of such a share.
    fn coded(&self, graph: &mut Graph, share: f32) -> Result<ValueId> {
        // A share that was never seen is at most that of all products at their largest.
        let bound = self.depth as f32;
        let is_seen = share > 0.0 && share.is_finite();
        let to = if is_seen { (share * MARGIN).min(bound) } else { bound };
        let x = computed(graph, Op::Quantize(affine(1.0)), &[self.x])?;
        let w = computed(graph, Op::Quantize(affine(1.0)), &[self.w])?;
        let y = graph.add(Op::Coded(Box::new(self.op.clone()), affine(to)), &[x, w])?;
        let y = graph.add(Op::Dequantize, &[y])?;
        let y = graph.add(Op::Binary(Binary::Mul), &[y, self.most[0]])?;
        graph.add(Op::Binary(Binary::Mul), &[y, self.most[1]])
    }
}

/// Codes on both sides of 0, as many as there are.
fn affine(most: f32) -> Affine {
    Affine { scales: [most / 127.0].into(), zero: 0, axis: None }
}

/// The largest magnitude along some axes, which stay with size 1.
fn largest(graph: &mut Graph, x: ValueId, axes: Vec<usize>) -> Result<ValueId> {
    let x = computed(graph, Op::Unary(Unary::Abs), &[x])?;
    computed(graph, Op::Reduce { kind: Reduce::Max, axes }, &[x])
}

/// A value divided by the largest magnitude of each index of its first axis, and those.
fn divided(graph: &mut Graph, x: ValueId) -> Result<(ValueId, ValueId)> {
    let most = largest(graph, x, (1..graph.shape(x).len()).collect())?;
    let tiny = graph.floats(&[1], &[TINY])?;
    let most = computed(graph, Op::Binary(Binary::Max), &[most, tiny])?;
    Ok((computed(graph, Op::Binary(Binary::Div), &[x, most])?, most))
}

/// The graph with the frozen weights of its forward products in codes of 8 bits, in blocks with a
/// scale each, which the accelerator decodes, for the backward pass too; and of each node, which one
/// it was or is for.
///
/// # Errors
/// As [`Graph::add`].
pub fn with_coded_weights(graph: &Graph, forward: &[bool]) -> Result<(Graph, Vec<usize>)> {
    let nodes = graph.nodes().iter().zip(forward);
    let weights = nodes.filter(|(node, is)| **is && is_product(&node.op)).map(|(n, _)| n.inputs[1]);
    let mut weights: Vec<ValueId> = weights.filter(|w| graph.is_const(*w)).collect();
    let mut copy = Copy::begin(graph)?;
    let mut from = Vec::new();
    for (i, node) in graph.nodes().iter().enumerate() {
        // Before the first that reads it.
        for weight in &node.inputs {
            let value = graph.value(*weight);
            if let (true, Source::Const(bytes)) = (weights.contains(weight), &value.source) {
                weights.retain(|w| w != weight);
                let codes = in_blocks(&Array::from_bytes(&value.ty, bytes)?);
                let codes = copy.made.constant(codes.ty.clone(), codes.to_bytes())?;
                let decoded = copy.made.add(Op::Dequantize, &[codes])?;
                let whole = Op::Reshape(value.ty.shape.clone());
                copy.new[weight.index()] = copy.made.add(whole, &[decoded])?;
                from.extend([i; 2]);
            }
        }
        let inputs = copy.named(&node.inputs);
        copy.new[node.output.index()] = copy.made.add(node.op.clone(), &inputs)?;
        from.push(i);
    }
    Ok((without_unread(&copy.end(graph)), from))
}

/// The same without constants that nothing reads any more.
fn without_unread(graph: &Graph) -> Graph {
    let (pruned, inputs) = graph.pruned();
    debug_assert!(
        inputs.len() == graph.inputs().len() && pruned.nodes().len() == graph.nodes().len()
    );
    pruned
}

/// Elements of a row that share a scale, where they divide it: those of Q8_0, which then loses nothing.
const BLOCK: usize = 32;

/// Rows of codes with a scale each: blocks of a weight's rows, or all of an output channel.
fn in_blocks(weight: &Array) -> Array {
    let floats = match &weight.elements {
        Elements::Floats(floats) => &floats[..],
        Elements::Integers(_) => &[],
    };
    let channel: usize = weight.ty.shape[1..].iter().product();
    let length = if channel.is_multiple_of(BLOCK) { BLOCK } else { channel };
    let blocks = floats.chunks(length.max(1));
    let largest = |block: &[f32]| block.iter().fold(TINY, |most, v| most.max(v.abs()));
    let scales: Vec<f32> = blocks.clone().map(|block| largest(block) / 127.0).collect();
    let code = |v: &f32, scale: f32| (v / scale).round_ties_even().clamp(-127.0, 127.0) as i32;
    let codes = blocks.zip(&scales).flat_map(|(block, &s)| block.iter().map(move |v| code(v, s)));
    let codes = Elements::Integers(codes.collect());
    let shape = [scales.len(), length];
    let affine = Affine { scales: scales.into(), zero: 0, axis: Some(0) };
    Array { ty: Type::new(DType::I8(affine), &shape), elements: codes }
}
