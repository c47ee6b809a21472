//! Gradients of single samples: which values belong to one sample each, and the norm of what each
//! sample by itself would add to a parameter's gradient.

use std::sync::Arc;

use tenon_kernels::conv::Conv;

use super::{Use, gradients_with};
use crate::backend::{Launch, Reduction, Row};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Source, ValueId};
use crate::memory::descs;
use crate::ops::{
    Add, Cast, Clamp, Concat, CrossEntropy, LinearCrossEntropy, Mul, Ne, Op, Recip, ReduceSum,
    Reshape, Slice, Square, Transpose, Vjp,
};
use crate::tensor::{DType, TensorDesc};

/// What a value holds of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// Nothing: it is the same whatever they are.
    None,
    /// As many equal parts in a row, each of which one sample decides.
    Each,
    /// More than one in some element, since an op of this name.
    Mixed(&'static str),
}

/// The gradients of samples toward parameters, not yet summed.
pub(crate) struct Samples {
    /// By parameter asked for: where it is read.
    uses: Vec<Vec<Use>>,
    holds: Vec<Holds>,
    samples: usize,
}

impl Samples {
    /// Adds to `graph` what the gradients of `seeds` toward each of `wrt`, all parameters, are made
    /// of. The loss is the mean of those of as many samples, equal parts of the first axis of every
    /// input that has any; where targets may be ignored, each sample's is the mean over its own.
    ///
    /// # Errors
    /// [`Error::Usage`], [`Error::Graph`] where samples cannot be told apart; as
    /// [`super::gradients`].
    pub(crate) fn new(
        graph: &mut Graph,
        seeds: &[(ValueId, ValueId)],
        wrt: &[ValueId],
        samples: usize,
    ) -> Result<Self> {
        let (mut uses, mut own) = (Vec::new(), Vec::new());
        let mut even = |graph: &mut Graph, node: &Node, input: usize, gradient: ValueId| {
            let targets = match ignored(&*node.op) {
                Some(index) if input == 0 => (node.inputs[2.min(node.inputs.len() - 1)], index),
                _ => return Ok(gradient),
            };
            let gradient = evened(graph, gradient, targets, samples)?;
            own.push(gradient);
            Ok(gradient)
        };
        gradients_with(graph, seeds, wrt, Some(&mut uses), &mut even)?;
        let holds = holds(graph, samples, &own)?;
        let mut by_parameter = vec![Vec::new(); wrt.len()];
        for found in uses {
            let node = &graph.nodes()[found.node];
            let parameter = node.inputs[found.input];
            let others = node.inputs.iter().filter(|&&v| v != parameter);
            for &value in others.chain(&node.outputs).chain([&found.cotangent]) {
                if let Holds::Mixed(op) = holds[value.index()] {
                    return Err(inseparable(graph, parameter, op));
                }
            }
            let i = wrt.iter().position(|&p| p == parameter).unwrap_or_default();
            by_parameter[i].push(found);
        }
        Ok(Self { uses: by_parameter, holds, samples })
    }

    /// Whether the loss depends on parameter number `i`.
    pub(crate) fn has(&self, i: usize) -> bool {
        !self.uses[i].is_empty()
    }

    /// For each sample, the squared norm of its part of the gradient toward parameter number `i`.
    pub(crate) fn norms(&self, graph: &mut Graph, i: usize) -> Result<ValueId> {
        if let [only] = &self.uses[i][..] {
            let node = graph.nodes()[only.node].clone();
            let mut cx = vjp(graph, &node, only.cotangent, only.input);
            if let Some(norms) = node.op.sample_norms(&mut cx, only.input, self.samples)? {
                return Ok(norms);
            }
        }
        let mut each = Vec::with_capacity(self.samples);
        for sample in 0..self.samples {
            let mut sum: Option<ValueId> = None;
            for found in &self.uses[i] {
                let part = self.part(graph, found, sample)?;
                sum = Some(match sum {
                    None => part,
                    Some(sum) => graph.add(Add, &[sum, part])?,
                });
            }
            let sum = sum.ok_or_else(|| Error::Graph("a parameter that nothing reads".into()))?;
            let norm = graph.call("grad_norm", &[], &[sum])?[0];
            let square = graph.add(Square, &[norm])?;
            each.push(graph.add(Reshape::to(&[1]), &[square])?);
        }
        if each.len() == 1 { Ok(each[0]) } else { graph.add(Concat { axis: 0 }, &each) }
    }

    /// The gradient toward parameter number `i` with each sample's part times its factor [samples].
    pub(crate) fn weighted(
        &self,
        graph: &mut Graph,
        i: usize,
        factors: ValueId,
    ) -> Result<ValueId> {
        let mut sum: Option<ValueId> = None;
        for found in &self.uses[i] {
            let cotangent = times(graph, found.cotangent, factors, self.samples)?;
            let node = graph.nodes()[found.node].clone();
            let part = gradient(graph, &node, cotangent, found.input)?;
            sum = Some(match sum {
                None => part,
                Some(sum) => graph.add(Add, &[sum, part])?,
            });
        }
        sum.ok_or_else(|| Error::Graph("a parameter that nothing reads".into()))
    }

    /// The gradient of one sample by one use of a parameter: the op's, on slices. It must give one
    /// sample's output on them, which it does not where the parameter has a part for each.
    fn part(&self, graph: &mut Graph, found: &Use, sample: usize) -> Result<ValueId> {
        let mut node = graph.nodes()[found.node].clone();
        for i in 0..node.inputs.len() {
            if self.holds[node.inputs[i].index()] == Holds::Each {
                node.inputs[i] = self.slice(graph, node.inputs[i], sample)?;
            }
        }
        for i in 0..node.outputs.len() {
            node.outputs[i] = self.slice(graph, node.outputs[i], sample)?;
        }
        let (inputs, outputs) = descs(graph, &node);
        let given = node.op.infer(&inputs);
        if !given.is_ok_and(|given| given.iter().eq(outputs.iter().copied())) {
            return Err(inseparable(graph, node.inputs[found.input], node.op.name()));
        }
        let cotangent = self.slice(graph, found.cotangent, sample)?;
        gradient(graph, &node, cotangent, found.input)
    }

    fn slice(&self, graph: &mut Graph, value: ValueId, sample: usize) -> Result<ValueId> {
        let mut dims = graph.desc(value).shape().to_vec();
        match dims.first_mut() {
            Some(first) if *first % self.samples == 0 => *first /= self.samples,
            _ => return Err(Error::Graph("samples do not lie along the first axis".into())),
        }
        let mut starts = vec![0; dims.len()];
        starts[0] = sample * dims[0];
        graph.add(Slice::at(&starts, &dims), &[value])
    }
}

fn inseparable(graph: &Graph, parameter: ValueId, op: &str) -> Error {
    let name = graph.get(parameter).name.as_deref().unwrap_or_default();
    Error::Graph(format!(
        "samples cannot be told apart in the gradient of `{name}`, for `{op}` mixes them: train \
         without it, freeze `{name}`, or clip no single samples"
    ))
}

/// The target that does not count in an op which gives the mean over those that do.
fn ignored(op: &dyn Op) -> Option<i32> {
    let op = op as &dyn std::any::Any;
    if let Some(op) = op.downcast_ref::<LinearCrossEntropy>() {
        return Some(op.ignore_index);
    }
    let mean = op.downcast_ref::<CrossEntropy>().filter(|op| op.reduction == Reduction::Mean);
    mean.map(|op| op.ignore_index)
}

/// A gradient of a mean over all targets that count as that of the mean over samples of the mean
/// over each one's own: `N / (samples N_i)` times the part of sample `i`, of whose targets `N_i`
/// count, of all `N`.
fn evened(
    graph: &mut Graph,
    gradient: ValueId,
    (targets, ignored): (ValueId, i32),
    samples: usize,
) -> Result<ValueId> {
    let targets_each = graph.desc(targets).numel() / samples.max(1);
    let targets = graph.add(Cast { dtype: DType::F32 }, &[targets])?;
    let targets = graph.add(Reshape::to(&[samples, targets_each]), &[targets])?;
    let ignored = graph.scalar(ignored as f32)?;
    let counts = graph.add(Ne, &[targets, ignored])?;
    let own = graph.add(ReduceSum { axes: vec![1], keepdims: false }, &[counts])?;
    let all = graph.add(ReduceSum { axes: vec![0], keepdims: false }, &[own])?;
    let least = graph.add(Clamp { lo: 1.0, hi: f32::INFINITY }, &[own])?;
    let share = graph.add(Recip, &[least])?;
    let share = graph.add(Mul, &[share, all])?;
    let one = graph.scalar(1.0 / samples as f32)?;
    let factors = graph.add(Mul, &[share, one])?;
    times(graph, gradient, factors, samples)
}

/// A value times a factor for each sample.
fn times(graph: &mut Graph, value: ValueId, factors: ValueId, samples: usize) -> Result<ValueId> {
    let desc = graph.desc(value).clone();
    let each = graph.add(Reshape::to(&[samples, desc.numel() / samples]), &[value])?;
    let column = graph.add(Reshape::to(&[samples, 1]), &[factors])?;
    let product = graph.add(Mul, &[each, column])?;
    graph.add(Reshape::to(desc.shape()), &[product])
}

fn vjp<'g>(graph: &'g mut Graph, node: &Node, cotangent: ValueId, input: usize) -> Vjp<'g> {
    let wants = (0..node.inputs.len()).map(|i| i == input).collect();
    Vjp::new(graph, node.inputs.clone(), node.outputs.clone(), cotangent, wants)
}

/// The gradient toward one input of a node.
fn gradient(graph: &mut Graph, node: &Node, cotangent: ValueId, input: usize) -> Result<ValueId> {
    let op: Arc<dyn Op> = node.op.clone();
    let mut cx = vjp(graph, node, cotangent, input);
    op.vjp(&mut cx)?;
    let made = cx.into_gradients().get(input).copied().flatten();
    made.ok_or(Error::NoGradient { op: op.name(), reason: "none toward this operand" })
}

/// What each value holds, in the order of the nodes. Values in `own` are each sample's own, whatever
/// they seem to be made of.
fn holds(graph: &Graph, samples: usize, own: &[ValueId]) -> Result<Vec<Holds>> {
    let mut holds = vec![Holds::None; graph.values().len()];
    let mut any = false;
    for (id, value) in graph.iter_values() {
        let is_callers = |name: &String| !name.starts_with("train.");
        let is_input = matches!(value.source, Source::Input);
        if is_input
            && value.name.as_ref().is_some_and(is_callers)
            && has_parts(&value.desc, samples)
        {
            holds[id.index()] = Holds::Each;
            any = true;
        }
    }
    if !any || samples == 0 {
        return Err(Error::Usage(format!(
            "no input has {samples} samples along its first axis: give the number that a batch has"
        )));
    }
    for node in graph.nodes() {
        for (i, &output) in node.outputs.iter().enumerate() {
            holds[output.index()] = if own.contains(&output) {
                Holds::Each
            } else {
                of(graph, node, i, &holds, samples)
            };
        }
    }
    Ok(holds)
}

/// Whether the first axis is as many equal parts.
fn has_parts(desc: &TensorDesc, samples: usize) -> bool {
    samples > 0 && desc.shape().first().is_some_and(|&d| d > 0 && d % samples == 0)
}

/// What an output of a node holds.
fn of(graph: &Graph, node: &Node, output: usize, holds: &[Holds], samples: usize) -> Holds {
    let held: Vec<Holds> = node.inputs.iter().map(|v| holds[v.index()]).collect();
    if held.iter().all(|&h| h == Holds::None) {
        return Holds::None;
    }
    if let Some(mixed) = held.iter().find(|h| matches!(h, Holds::Mixed(_))) {
        return *mixed;
    }
    let each = |i: usize| held.get(i) == Some(&Holds::Each);
    let (inputs, outputs) = descs(graph, node);
    let made = outputs[output];
    let parts = |desc: &TensorDesc| has_parts(desc, samples);
    // Operands with samples begin with the axis that the output begins with.
    let along = |desc: &TensorDesc| {
        parts(desc)
            && desc.shape().len() == made.shape().len()
            && desc.shape()[0] == made.shape()[0]
    };
    let all = |fits: &dyn Fn(usize) -> bool| (0..inputs.len()).all(|i| !each(i) || fits(i));
    let stays = match node.op.launch(&inputs, &outputs) {
        // The same elements in the same order.
        Launch::Alias => made.numel().is_multiple_of(samples) && all(&|i| i == 0),
        Launch::Unary(_)
        | Launch::Cast
        | Launch::Dropout { .. }
        | Launch::Noise { .. }
        | Launch::Quantize(_)
        | Launch::Dequantize
        | Launch::RoundTrip(_) => parts(made) && all(&|i| i == 0),
        Launch::Binary(_) | Launch::Select | Launch::Fused(_) => all(&|i| along(inputs[i])),
        Launch::Reduce { axes, .. } => !axes.contains(&0) && parts(inputs[0]),
        Launch::Move { .. } => {
            let fixed = match (&*node.op as &dyn std::any::Any).downcast_ref::<Transpose>() {
                Some(transpose) => transpose.perm.first() == Some(&0),
                None => true,
            };
            fixed && all(&|i| along(inputs[i]))
        }
        Launch::Gather => !each(0) && parts(made),
        // Other operands are tables: cosines, a mask, which no sample may decide.
        Launch::Attention(_) => parts(made) && all(&|i| i < 3 && parts(inputs[i])),
        Launch::AttentionGrad(_) => parts(made) && all(&|i| i < 6 && parts(inputs[i])),
        Launch::Row(Row::CrossEntropy { reduction, .. }) => {
            (output > 0 || reduction == Reduction::None) && parts(made)
        }
        Launch::Row(Row::CrossEntropyGrad { .. }) => parts(made) && all(&|i| i < 4),
        Launch::Row(_) => parts(made) && all(&|i| inputs[i].rows() == inputs[0].rows()),
        Launch::Gemm(_) => products(&inputs, made, &each, &parts, node),
        // The logsumexp of each row, and the gradient toward it.
        Launch::LinearLoss(_) => {
            let of_rows = [("linear_cross_entropy", 1), ("linear_cross_entropy_grad", 0)];
            !each(1) && of_rows.contains(&(node.op.name(), output)) && parts(made)
        }
        Launch::Conv(conv) => match conv {
            Conv::GradWeight(_) => false,
            // Statistics of channels: of one batch only where they are the samples'.
            Conv::Normalize { .. } if node.op.name() == "group_norm" => parts(made),
            Conv::Normalize { .. } | Conv::NormalizeGrad { .. } => {
                inputs[0].shape().first() == Some(&1)
                    && inputs[0].shape().get(1).is_some_and(|c| c.is_multiple_of(samples))
            }
            Conv::MaxPoolGrad(_) => parts(made) && all(&|i| parts(inputs[i])),
            _ => parts(made) && all(&|i| i == 0),
        },
        _ => false,
    };
    if stays { Holds::Each } else { Holds::Mixed(node.op.name()) }
}

/// Whether each row, or each matrix, of a product belongs to one sample.
fn products(
    inputs: &[&TensorDesc],
    made: &TensorDesc,
    each: &dyn Fn(usize) -> bool,
    parts: &dyn Fn(&TensorDesc) -> bool,
    node: &Node,
) -> bool {
    let trans_a = node.op.attrs().contains(&("trans_a", true.into()));
    let leads = |i: usize| {
        let (operand, made) = (inputs[i].shape(), made.shape());
        operand.len() == made.len() && operand[0] == made[0]
    };
    let rank = made.shape().len();
    let left = !each(0) || leads(0) && (rank > 2 || rank == 2 && !trans_a);
    parts(made) && left && (!each(1) || leads(1) && rank > 2) && !each(2)
}
