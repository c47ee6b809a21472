//! What rules build with.

use std::collections::{BTreeMap, HashMap};

use super::{Argument, Sample};
use crate::golden::{Array, Kind};
use tenon_runtime::graph::{Graph, ValueId};
use tenon_runtime::ops::Attr;
use tenon_runtime::{Error, Tensor, TensorDesc};

/// Why a sample has no answer.
#[derive(Clone, Debug)]
pub enum Stop {
    /// Tenon does not have what it asks for.
    LeftOut(String),
    /// Tenon should have answered.
    Failed(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { kind: "op", name, .. } => Self::LeftOut(format!("no op `{name}`")),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// A value, or why there is none.
pub(super) type Value = Result<ValueId, Stop>;

/// A sample's graph in the making.
pub struct Build<'a> {
    /// The graph.
    pub graph: Graph,
    /// Values toward which PyTorch gave gradients, in its order.
    pub leaves: Vec<ValueId>,
    /// Tensors to write before the run; inputs have their names.
    pub feeds: Vec<String>,
    sample: &'a Sample,
    tensors: &'a BTreeMap<String, Array>,
    values: HashMap<String, ValueId>,
}

impl<'a> Build<'a> {
    /// A graph with an input for each tensor of the sample.
    ///
    /// # Errors
    /// [`Stop::LeftOut`] for element types that Tenon does not compute in.
    pub fn new(sample: &'a Sample, tensors: &'a BTreeMap<String, Array>) -> Result<Self, Stop> {
        let mut graph = Graph::new();
        let (mut leaves, mut feeds, mut values) = (Vec::new(), Vec::new(), HashMap::new());
        for (name, differentiated) in sample.tensors() {
            let array = &tensors[&name];
            let desc = match array.kind {
                Kind::Double => return Err(Stop::LeftOut("element type f64".into())),
                Kind::Int => TensorDesc::i32(&array.dims)?,
                Kind::Float | Kind::Bool => TensorDesc::f32(&array.dims)?,
            };
            let value = graph.input(&name, desc)?;
            if differentiated {
                leaves.push(value);
            }
            feeds.push(name.clone());
            values.insert(name, value);
        }
        Ok(Self { graph, leaves, feeds, sample, tensors, values })
    }

    /// Positional argument `i` (0 is the input), or the one called `name`.
    #[must_use]
    pub fn arg(&self, i: usize, name: &str) -> &'a Argument {
        let named = || self.sample.kwargs.iter().find(|(k, _)| k == name).map(|(_, v)| v);
        self.sample.args.get(i).or_else(named).unwrap_or(&Argument::Null)
    }

    /// The argument called `name`.
    #[must_use]
    pub fn kwarg(&self, name: &str) -> &'a Argument {
        self.arg(usize::MAX, name)
    }

    /// A tensor argument, if given.
    #[must_use]
    pub fn optional(&self, i: usize, name: &str) -> Option<ValueId> {
        self.arg(i, name).name().map(|n| self.values[&n])
    }

    /// A tensor argument.
    ///
    /// # Errors
    /// [`Stop::LeftOut`] where it is none.
    pub fn tensor(&self, i: usize, name: &str) -> Value {
        self.optional(i, name)
            .ok_or_else(|| Stop::LeftOut(format!("argument `{name}` is no tensor")))
    }

    /// The input.
    ///
    /// # Errors
    /// As [`Build::tensor`].
    pub fn input(&self) -> Value {
        self.tensor(0, "input")
    }

    /// The tensors of a list argument, or a single one.
    #[must_use]
    pub fn list(&self, i: usize) -> Vec<ValueId> {
        match self.arg(i, "") {
            Argument::List(items) => {
                items.iter().filter_map(Argument::name).map(|n| self.values[&n]).collect()
            }
            single => single.name().map(|n| self.values[&n]).into_iter().collect(),
        }
    }

    /// A number argument or its default.
    #[must_use]
    pub fn number(&self, i: usize, name: &str, default: f64) -> f64 {
        self.arg(i, name).number().unwrap_or(default)
    }

    /// A flag or its default.
    #[must_use]
    pub fn flag(&self, i: usize, name: &str, default: bool) -> bool {
        self.number(i, name, f64::from(u8::from(default))) != 0.0
    }

    /// A word argument or its default.
    #[must_use]
    pub fn word(&self, i: usize, name: &str, default: &'a str) -> &'a str {
        match self.arg(i, name) {
            Argument::Word(word) => word,
            _ => default,
        }
    }

    /// The content of a tensor argument: an index or a shape, known before the graph is built.
    ///
    /// # Errors
    /// [`Stop::LeftOut`] where it is none.
    pub fn content(&self, i: usize, name: &str) -> Result<&'a Array, Stop> {
        let known = self.arg(i, name).name();
        known.map(|n| &self.tensors[&n]).ok_or_else(|| Stop::LeftOut(format!("no `{name}`")))
    }

    /// The axes of an argument, from the front; all of them where it is not given or empty.
    #[must_use]
    pub fn axes(&self, i: usize, name: &str, rank: usize) -> Vec<usize> {
        match self.arg(i, name).ints() {
            Some(axes) if !axes.is_empty() => axes.iter().map(|&a| wrap(a, rank)).collect(),
            _ => (0..rank).collect(),
        }
    }

    /// One axis, from the front.
    #[must_use]
    pub fn axis(&self, i: usize, name: &str, default: i64, rank: usize) -> usize {
        wrap(self.number(i, name, default as f64) as i64, rank)
    }

    /// Dimensions of a value.
    #[must_use]
    pub fn dims(&self, value: ValueId) -> Vec<usize> {
        self.graph.desc(value).shape().to_vec()
    }

    /// Adds an op and gives its first output.
    ///
    /// # Errors
    /// [`Stop`] as the error of [`Graph::call`].
    pub fn call(&mut self, op: &str, attrs: &[(&str, Attr)], inputs: &[ValueId]) -> Value {
        Ok(self.graph.call(op, attrs, inputs)?[0])
    }

    /// An op without attributes.
    ///
    /// # Errors
    /// As [`Build::call`].
    pub fn op(&mut self, op: &str, inputs: &[ValueId]) -> Value {
        self.call(op, &[], inputs)
    }

    /// `mul x + add`.
    ///
    /// # Errors
    /// As [`Build::call`].
    pub fn affine(&mut self, x: ValueId, mul: f64, add: f64) -> Value {
        self.call("affine", &[("mul", mul.into()), ("add", add.into())], &[x])
    }

    /// A constant.
    ///
    /// # Errors
    /// [`Stop::Failed`].
    pub fn constant(&mut self, dims: &[usize], values: &[f32]) -> Value {
        let tensor = Tensor::from_slice(dims, values)?;
        Ok(self.graph.constant(tensor))
    }

    /// A scalar constant.
    ///
    /// # Errors
    /// [`Stop::Failed`].
    pub fn scalar(&mut self, value: f64) -> Value {
        self.constant(&[], &[value as f32])
    }

    /// Another shape.
    ///
    /// # Errors
    /// As [`Build::call`].
    pub fn reshape(&mut self, x: ValueId, dims: &[usize]) -> Value {
        if self.dims(x) == dims {
            return Ok(x);
        }
        self.call("reshape", &[("shape", dims.into())], &[x])
    }

    /// Repeats along axes of one element.
    ///
    /// # Errors
    /// As [`Build::call`].
    pub fn broadcast(&mut self, x: ValueId, dims: &[usize]) -> Value {
        if self.dims(x) == dims {
            return Ok(x);
        }
        self.call("broadcast_to", &[("shape", dims.into())], &[x])
    }

    /// Other order of axes.
    ///
    /// # Errors
    /// As [`Build::call`].
    pub fn permute(&mut self, x: ValueId, axes: &[usize]) -> Value {
        if axes.iter().copied().eq(0..axes.len()) {
            return Ok(x);
        }
        self.call("transpose", &[("perm", axes.into())], &[x])
    }

    /// Elements `start..end` along an axis.
    ///
    /// # Errors
    /// As [`Build::call`].
    pub fn slice(&mut self, x: ValueId, axis: usize, start: usize, end: usize) -> Value {
        let (mut starts, mut ends) = (vec![0; self.dims(x).len()], self.dims(x));
        if (start, end) == (0, ends[axis]) {
            return Ok(x);
        }
        (starts[axis], ends[axis]) = (start, end);
        self.call("slice", &[("starts", starts[..].into()), ("ends", ends[..].into())], &[x])
    }

    /// One after the other along an axis.
    ///
    /// # Errors
    /// As [`Build::call`].
    pub fn concat(&mut self, parts: &[ValueId], axis: usize) -> Value {
        match parts {
            [one] => Ok(*one),
            _ => self.call("concat", &[("axis", axis.into())], parts),
        }
    }

    /// A reduction (`reduce_sum`, `reduce_mean`, `reduce_max`) along axes.
    ///
    /// # Errors
    /// As [`Build::call`].
    pub fn reduce(&mut self, op: &str, x: ValueId, axes: &[usize], keep: bool) -> Value {
        if axes.is_empty() || self.dims(x).is_empty() {
            return Ok(x);
        }
        self.call(op, &[("axes", axes.into()), ("keepdims", keep.into())], &[x])
    }

    /// The sum of all elements.
    ///
    /// # Errors
    /// As [`Build::call`].
    pub fn sum(&mut self, x: ValueId) -> Value {
        let axes: Vec<_> = (0..self.dims(x).len()).collect();
        self.reduce("reduce_sum", x, &axes, false)
    }

    /// A rule's result of one output.
    ///
    /// # Errors
    /// Those of `value`.
    pub fn one(value: Value) -> super::Built {
        Ok(vec![value?])
    }
}

/// An axis counted from the front; a scalar's axes are all 0.
#[must_use]
pub(super) fn wrap(axis: i64, rank: usize) -> usize {
    (if axis < 0 { axis + rank as i64 } else { axis }).max(0) as usize
}
