//! Launches as graphs of what accelerators have.
//!
//! A step's operands and its [`Launch`] become nodes; backward classes, too: what reaches a backend is
//! differentiated already, so this is all there is to gradients on an accelerator.

mod attention;
mod batch_norm;
mod conv;
mod elementwise;
mod gemm;
mod index;
mod movement;
mod reduce;
mod row;

use tenon_runtime::backend::{Launch, Signature};
use tenon_runtime::{Error, Result, TensorDesc};

use super::graph::{Graph, Source, ValueId};
use super::op::{Binary, Compare, DType, Op, Reduce, Type, Unary};
use super::table::Target;

/// Elements of constants that a lowering may make: masks, tables of zeros, one-hot numbers.
const MOST_MADE: usize = 1 << 22;

/// An input whose integers must lie below a bound or be one number: an accelerator does not say that
/// they do not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checked {
    /// The value.
    pub value: ValueId,
    /// What they must lie below.
    pub bound: usize,
    /// What they may be besides.
    pub ignore: Option<i32>,
}

/// What a graph is made with.
pub struct Builder {
    /// The graph so far.
    pub graph: Graph,
    /// Integers to look at before a run.
    pub checked: Vec<Checked>,
    /// Inputs that are others in another shape.
    pub views: Vec<(ValueId, ValueId)>,
    target: Target,
}

/// The shape that a description has in a graph: a scalar is `[1]`.
#[must_use]
pub fn shape_of(desc: &TensorDesc) -> Vec<usize> {
    if desc.shape().is_empty() { vec![1] } else { desc.shape().to_vec() }
}

/// An error for what has no lowering.
fn no<T>(why: &str) -> Result<T> {
    Err(Error::Graph(format!("no lowering: {why}")))
}

impl Builder {
    /// Begins a graph.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { graph: Graph::default(), checked: Vec::new(), views: Vec::new(), target }
    }

    /// For whom the graph is made.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// Adds what a launch computes of `inputs`, which have the shapes of the signature's, and gives
    /// its outputs in their shapes.
    ///
    /// # Errors
    /// [`Error::Graph`] for what has no lowering.
    pub fn launch(&mut self, signature: Signature<'_>, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let outputs = match signature.launch {
            Launch::Unary(kind) => vec![elementwise::unary(self, *kind, inputs[0])?],
            Launch::Binary(kind) => vec![elementwise::binary(self, *kind, inputs[0], inputs[1])?],
            Launch::Select => vec![elementwise::select(self, inputs)?],
            Launch::Fused(program) => vec![elementwise::fused(self, program, inputs)?],
            Launch::Cast => vec![elementwise::cast(self, signature, inputs[0])?],
            Launch::Reduce { kind, axes } => vec![reduce::reduce(self, *kind, axes, inputs[0])?],
            Launch::Move { fill, copies } => {
                vec![movement::lower(self, *fill, copies, signature, inputs)?]
            }
            Launch::Gemm(spec) => vec![gemm::lower(self, spec, signature, inputs)?],
            Launch::Row(kind) => row::lower(self, kind, signature, inputs)?,
            Launch::Attention(shape) => attention::forward(self, shape, inputs)?,
            Launch::AttentionGrad(shape) => attention::backward(self, shape, inputs)?,
            Launch::Conv(kind) => conv::lower(self, kind, inputs)?,
            Launch::Gather => vec![index::gather(self, inputs)?],
            Launch::ScatterAdd => vec![index::scatter_add(self, signature, inputs)?],
            _ => return no("this class runs on the CPU"),
        };
        let outputs = outputs.into_iter().zip(signature.outputs);
        outputs.map(|(value, desc)| self.reshape(value, &shape_of(desc))).collect()
    }

    fn shape(&self, value: ValueId) -> Vec<usize> {
        self.graph.shape(value).to_vec()
    }

    fn unary(&mut self, kind: Unary, x: ValueId) -> Result<ValueId> {
        self.graph.add(Op::Unary(kind), &[x])
    }

    /// With broadcasting; shapes of more axes than the target takes are merged where they are alike.
    fn binary(&mut self, kind: Binary, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.broadcasting(Op::Binary(kind), x, y)
    }

    fn compare(&mut self, kind: Compare, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.broadcasting(Op::Compare(kind), x, y)
    }

    fn broadcasting(&mut self, op: Op, x: ValueId, y: ValueId) -> Result<ValueId> {
        let (a, b) = (self.shape(x), self.shape(y));
        if a.len().max(b.len()) <= self.target.rank() {
            return self.graph.add(op, &[x, y]);
        }
        let full = super::op::broadcast(&a, &b).map_err(Error::Graph)?;
        let [a, b] = merged(&a, &b);
        let (x, y) = (self.reshape(x, &a)?, self.reshape(y, &b)?);
        let z = self.graph.add(op, &[x, y])?;
        self.reshape(z, &full)
    }

    fn scalar(&mut self, value: f32) -> Result<ValueId> {
        self.graph.floats(&[1], &[value])
    }

    fn add(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.binary(Binary::Add, x, y)
    }

    fn sub(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.binary(Binary::Sub, x, y)
    }

    fn mul(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.binary(Binary::Mul, x, y)
    }

    fn add_scalar(&mut self, x: ValueId, y: f32) -> Result<ValueId> {
        let y = self.scalar(y)?;
        self.add(x, y)
    }

    fn scale(&mut self, x: ValueId, y: f32) -> Result<ValueId> {
        let y = self.scalar(y)?;
        self.mul(x, y)
    }

    /// The same elements in another shape. Integers that come from outside come in that shape: few
    /// accelerators reshape them.
    pub fn reshape(&mut self, x: ValueId, shape: &[usize]) -> Result<ValueId> {
        if self.graph.shape(x) == shape {
            return Ok(x);
        }
        if self.graph.ty(x).dtype == DType::I32 {
            match self.graph.value(x).source.clone() {
                Source::Const(bytes) => {
                    return self.graph.constant(Type::new(DType::I32, shape), bytes);
                }
                Source::Input(_) => return Ok(self.view(x, shape)),
                Source::Node(_) => {}
            }
        }
        self.graph.add(Op::Reshape(shape.to_vec()), &[x])
    }

    fn view(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        let first = self.views.iter().find(|(view, _)| *view == x).map_or(x, |(_, first)| *first);
        if self.graph.shape(first) == shape {
            return first;
        }
        let views = self.views.iter().filter(|(_, of)| *of == first);
        let known = views.map(|(view, _)| *view).find(|v| self.graph.shape(*v) == shape);
        known.unwrap_or_else(|| {
            let view = self.graph.input(Type::new(DType::I32, shape));
            self.views.push((view, first));
            view
        })
    }

    fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Result<ValueId> {
        if perm.iter().copied().eq(0..perm.len()) {
            return Ok(x);
        }
        self.graph.add(Op::Transpose(perm.to_vec()), &[x])
    }

    fn slice(&mut self, x: ValueId, begin: &[usize], size: &[usize]) -> Result<ValueId> {
        if self.graph.shape(x) == size {
            return Ok(x);
        }
        self.graph.add(Op::Slice { begin: begin.to_vec(), size: size.to_vec() }, &[x])
    }

    fn tile(&mut self, x: ValueId, times: &[usize]) -> Result<ValueId> {
        if times.iter().all(|&t| t == 1) {
            return Ok(x);
        }
        self.graph.add(Op::Tile(times.to_vec()), &[x])
    }

    fn pad(&mut self, x: ValueId, pads: &[[usize; 2]]) -> Result<ValueId> {
        if pads.iter().all(|p| *p == [0, 0]) {
            return Ok(x);
        }
        self.graph.add(Op::Pad(pads.to_vec()), &[x])
    }

    /// `x` repeated to a shape, where operations do not broadcast by themselves.
    fn spread(&mut self, x: ValueId, shape: &[usize]) -> Result<ValueId> {
        let [own, full] = merged(&self.shape(x), shape);
        let times: Vec<usize> = own.iter().zip(&full).map(|(a, b)| b / a).collect();
        let x = self.reshape(x, &own)?;
        let x = self.tile(x, &times)?;
        self.reshape(x, shape)
    }

    fn reduce(&mut self, kind: Reduce, axes: &[usize], x: ValueId) -> Result<ValueId> {
        self.graph.add(Op::Reduce { kind, axes: axes.to_vec() }, &[x])
    }

    /// A reduction of the last axis, which stays with size 1.
    fn reduce_last(&mut self, kind: Reduce, x: ValueId) -> Result<ValueId> {
        let last = self.graph.shape(x).len() - 1;
        self.reduce(kind, &[last], x)
    }

    /// A tensor of one number.
    fn filled(&mut self, shape: &[usize], value: f32) -> Result<ValueId> {
        let n: usize = shape.iter().product();
        if n > MOST_MADE {
            return no("a constant that is too large");
        }
        self.graph.floats(shape, &vec![value; n])
    }

    /// 1 where a mask holds, else 0: truth values cannot be cast.
    fn ones_where(&mut self, mask: ValueId) -> Result<ValueId> {
        let shape = self.shape(mask);
        let (one, zero) = (self.filled(&shape, 1.0)?, self.filled(&shape, 0.0)?);
        self.graph.add(Op::Select, &[mask, one, zero])
    }

    /// Rows and columns: leading axes are rows.
    fn rows(&mut self, x: ValueId) -> Result<ValueId> {
        let shape = self.shape(x);
        let cols = shape.last().copied().unwrap_or(1);
        let rows = shape.iter().product::<usize>() / cols;
        self.reshape(x, &[rows, cols])
    }

    /// A column, to meet rows of a matrix.
    fn column(&mut self, x: ValueId) -> Result<ValueId> {
        let n = self.graph.ty(x).numel();
        self.reshape(x, &[n, 1])
    }
}

/// Two shapes that broadcast, with as few axes as will do: neighbours that both walk alike are one.
fn merged(a: &[usize], b: &[usize]) -> [Vec<usize>; 2] {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    let mut out = [Vec::new(), Vec::new()];
    let mut last = None;
    for (x, y) in (0..rank).map(|i| (at(a, i), at(b, i))).filter(|pair| *pair != (1, 1)) {
        let how = x.cmp(&y);
        if last == Some(how) {
            let end = out[0].len() - 1;
            out[0][end] *= x;
            out[1][end] *= y;
        } else {
            out[0].push(x);
            out[1].push(y);
        }
        last = Some(how);
    }
    if out[0].is_empty() { [vec![1], vec![1]] } else { out }
}

/// Whether a target runs a launch on such operands: whether there is a lowering, of nodes that it takes.
#[must_use]
pub fn is_taken(target: Target, signature: Signature<'_>) -> bool {
    let operands = || signature.inputs.iter().chain(signature.outputs);
    if operands().any(|desc| desc.numel() == 0) || signature.outputs.iter().any(|d| is_encoded(d)) {
        return false;
    }
    // Weights in blocks are read by products alone, and decoded when a graph is made.
    let is_weight = |i: usize| i == 1 && matches!(signature.launch, Launch::Gemm(_));
    if signature.inputs.iter().enumerate().any(|(i, d)| is_encoded(d) && !is_weight(i)) {
        return false;
    }
    let mut builder = Builder::new(target);
    let bound: Option<Vec<_>> =
        signature.inputs.iter().map(|desc| Some(builder.graph.input(type_of(desc)?))).collect();
    let Some(inputs) = bound else { return false };
    let lowered = builder.launch(signature, &inputs).is_ok();
    let graph = &builder.graph;
    lowered
        && !graph.nodes().is_empty()
        && graph.nodes().iter().all(|node| target.takes(graph, node))
}

/// The type of an operand in a graph; weights in blocks are decoded. `None` for what has none.
#[must_use]
pub fn type_of(desc: &TensorDesc) -> Option<Type> {
    use tenon_runtime::DType as From;
    let dtype = match desc.dtype() {
        From::F32 | From::Quant(_) | From::F16 | From::BF16 => DType::F32,
        From::I32 => DType::I32,
        From::I8 | From::U8 => return None,
    };
    Some(Type::new(dtype, &shape_of(desc)))
}

/// Whether an operand can be no input, but only a constant: what trains is f32.
#[must_use]
pub fn is_encoded(desc: &TensorDesc) -> bool {
    use tenon_runtime::DType as From;
    !matches!(desc.dtype(), From::F32 | From::I32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_that_are_alike_are_one_axis() {
        assert_eq!(merged(&[2, 3, 4], &[2, 3, 4]), [vec![24], vec![24]]);
        assert_eq!(merged(&[2, 3, 4, 5], &[4, 1]), [vec![6, 4, 5], vec![1, 4, 1]]);
        assert_eq!(merged(&[1], &[1, 1]), [vec![1], vec![1]]);
    }
}
