//! Values and nodes in static single assignment form.

mod cut;
mod dump;
mod verify;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub use cut::{Received, Sent, gradient_name};

use crate::error::{Error, Result};
use crate::ops::{self, Attr, Op};
use crate::tensor::{Tensor, TensorDesc};

/// A value: an input, a parameter, a state, a constant, or an output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub(crate) u32);

/// A node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl ValueId {
    /// The position in [`Graph::values`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl NodeId {
    /// The position in [`Graph::nodes`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Written by the caller before a run.
    Input,
    /// A weight; kept between runs.
    Parameter {
        /// Whether gradients are taken toward it.
        trainable: bool,
    },
    /// Kept between runs, first zero: optimizer moments, accumulators, running statistics.
    State,
    /// Fixed content.
    Constant(Box<Tensor>),
    /// An output of a node.
    Node {
        /// The node.
        node: NodeId,
        /// Which of its outputs.
        output: usize,
    },
}

/// A value of the graph.
#[derive(Clone, Debug)]
pub struct Value {
    /// Type and shape.
    pub desc: TensorDesc,
    /// Where it comes from.
    pub source: Source,
    /// Its name; inputs, parameters and states always have one.
    pub name: Option<String>,
}

impl Value {
    /// Whether it is kept between runs.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        matches!(self.source, Source::Parameter { .. } | Source::State)
    }

    /// Whether it is a parameter that trains.
    #[must_use]
    pub fn is_trainable(&self) -> bool {
        matches!(self.source, Source::Parameter { trainable: true })
    }
}

/// An operation on values.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Arc<dyn Op>,
    /// What it reads (and, where [`Op::mutates`] says so, overwrites).
    pub inputs: Vec<ValueId>,
    /// What it makes.
    pub outputs: Vec<ValueId>,
}

/// A computation: nodes in an order that respects their inputs.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    values: Vec<Value>,
    nodes: Vec<Node>,
    outputs: Vec<(String, ValueId)>,
    sent: Vec<Sent>,
    received: Vec<Received>,
    names: HashMap<String, ValueId>,
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A value that the caller writes before each run.
    ///
    /// # Errors
    /// [`Error::Graph`] where the name is empty or taken.
    pub fn input(&mut self, name: &str, desc: TensorDesc) -> Result<ValueId> {
        self.named(name, desc, Source::Input)
    }

    /// A weight.
    ///
    /// # Errors
    /// [`Error::Graph`] where the name is empty or taken, or a trainable weight is not f32.
    pub fn parameter(&mut self, name: &str, desc: TensorDesc, trainable: bool) -> Result<ValueId> {
        self.check_trainable(name, &desc, trainable)?;
        self.named(name, desc, Source::Parameter { trainable })
    }

    /// A value kept between runs, zero at first.
    ///
    /// # Errors
    /// [`Error::Graph`] where the name is empty or taken.
    pub fn state(&mut self, name: &str, desc: TensorDesc) -> Result<ValueId> {
        self.named(name, desc, Source::State)
    }

    /// A fixed tensor.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        let desc = tensor.desc().clone();
        self.value(Value { desc, source: Source::Constant(Box::new(tensor)), name: None })
    }

    /// A fixed f32 scalar.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn scalar(&mut self, value: f32) -> Result<ValueId> {
        Ok(self.constant(Tensor::from_slice(&[], &[value])?))
    }

    /// Adds a node and gives its first output.
    ///
    /// # Errors
    /// What the op's inference says of the operands.
    pub fn add(&mut self, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        self.first(Arc::new(op), inputs)
    }

    /// Adds a node by op name and attributes, and gives all its outputs.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown op, [`Error::Attr`], and as [`Graph::add`].
    pub fn call(
        &mut self,
        op: &str,
        attrs: &[(&str, Attr)],
        inputs: &[ValueId],
    ) -> Result<Vec<ValueId>> {
        self.push(ops::find(op)?.make(attrs)?, inputs)
    }

    /// Adds a node and gives all its outputs.
    ///
    /// # Errors
    /// What the op's inference says of the operands; [`Error::Graph`] for unknown values or a
    /// write to something that is not kept between runs.
    pub fn push(&mut self, op: Arc<dyn Op>, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let node = self.make(op, inputs)?;
        let outputs = node.outputs.clone();
        let id = NodeId(self.nodes.len() as u32);
        for (output, value) in outputs.iter().enumerate() {
            self.values[value.index()].source = Source::Node { node: id, output };
        }
        self.nodes.push(node);
        Ok(outputs)
    }

    /// A node with values for its outputs, to be put where it belongs by [`Graph::set_nodes`].
    pub(crate) fn make(&mut self, op: Arc<dyn Op>, inputs: &[ValueId]) -> Result<Node> {
        if let Some(unknown) = inputs.iter().find(|v| v.index() >= self.values.len()) {
            return Err(Error::Graph(format!("{}: no value {}", op.name(), unknown.0)));
        }
        let descs: Vec<_> = inputs.iter().map(|&v| self.desc(v)).collect();
        let made = op.infer(&descs)?;
        for &i in op.mutates() {
            if !self.values[inputs[i].index()].is_persistent() {
                return Err(Error::Graph(format!(
                    "{}: operand {i} is overwritten, so it must be a parameter or a state",
                    op.name()
                )));
            }
        }
        let nowhere = Source::Node { node: NodeId(u32::MAX), output: 0 };
        let outputs = made
            .into_iter()
            .map(|desc| self.value(Value { desc, source: nowhere.clone(), name: None }))
            .collect();
        Ok(Node { op, inputs: inputs.to_vec(), outputs })
    }

    /// Asks for a value under `name` after each run. Naming the same output again replaces it.
    ///
    /// # Errors
    /// [`Error::Graph`] for an unknown value, or where the name is empty, or an input's,
    /// parameter's or state's.
    pub fn set_output(&mut self, name: &str, value: ValueId) -> Result<()> {
        if value.index() >= self.values.len() {
            return Err(Error::Graph(format!("output `{name}`: no value {}", value.0)));
        }
        if name.is_empty() || self.names.contains_key(name) {
            return Err(Error::Graph(format!("the output name `{name}` is empty or taken")));
        }
        self.outputs.retain(|(n, _)| n != name);
        self.outputs.push((name.to_owned(), value));
        Ok(())
    }

    /// Makes a parameter train, or freezes it.
    ///
    /// # Errors
    /// [`Error::Graph`] where `value` is no parameter or its type cannot train.
    pub fn set_trainable(&mut self, value: ValueId, on: bool) -> Result<()> {
        let known = self.values.get(value.index()).cloned();
        let Some(Value { desc, source: Source::Parameter { .. }, name }) = known else {
            return Err(Error::Graph(format!("value {} is no parameter", value.0)));
        };
        self.check_trainable(name.as_deref().unwrap_or_default(), &desc, on)?;
        self.values[value.index()].source = Source::Parameter { trainable: on };
        Ok(())
    }

    /// All values, by [`ValueId::index`].
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// All nodes, by [`NodeId::index`], each after those it reads from.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The values asked for, with their names.
    #[must_use]
    pub fn outputs(&self) -> &[(String, ValueId)] {
        &self.outputs
    }

    /// One value.
    #[must_use]
    pub fn get(&self, value: ValueId) -> &Value {
        &self.values[value.index()]
    }

    /// The description of a value.
    #[must_use]
    pub fn desc(&self, value: ValueId) -> &TensorDesc {
        &self.values[value.index()].desc
    }

    /// The input, parameter, state or output called `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.names
            .get(name)
            .copied()
            .or_else(|| self.outputs.iter().find(|(n, _)| n == name).map(|&(_, v)| v))
    }

    /// The value at position `index` of [`Graph::values`].
    #[must_use]
    pub fn value_id(&self, index: usize) -> Option<ValueId> {
        (index < self.values.len()).then_some(ValueId(index as u32))
    }

    /// Every value with its id.
    pub fn iter_values(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        self.values.iter().enumerate().map(|(i, v)| (ValueId(i as u32), v))
    }

    /// Every node with its id.
    pub fn iter_nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(i, n)| (NodeId(i as u32), n))
    }

    /// Parameters that train, in the order they were added.
    #[must_use]
    pub fn trainable(&self) -> Vec<ValueId> {
        self.iter_values().filter(|(_, v)| v.is_trainable()).map(|(id, _)| id).collect()
    }

    /// Values that some node overwrites: no other value may stand for them, and no reader of theirs
    /// may move behind the write.
    pub(crate) fn overwritten(&self) -> HashSet<ValueId> {
        let written = |n: &Node| n.op.mutates().iter().map(|&i| n.inputs[i]).collect::<Vec<_>>();
        self.nodes.iter().flat_map(written).collect()
    }

    /// Takes the nodes out so that a pass can rewrite them; values stay as they are until
    /// [`Graph::set_nodes`] renumbers them.
    pub(crate) fn take_nodes(&mut self) -> Vec<Node> {
        std::mem::take(&mut self.nodes)
    }

    /// Puts rewritten nodes back. Every value a node makes must exist already; this renews which
    /// node each comes from.
    pub(crate) fn set_nodes(&mut self, nodes: Vec<Node>) {
        for (i, node) in nodes.iter().enumerate() {
            for (output, &value) in node.outputs.iter().enumerate() {
                self.values[value.index()].source = Source::Node { node: NodeId(i as u32), output };
            }
        }
        self.nodes = nodes;
    }

    /// Puts in place of each op what evaluates it without training.
    pub(crate) fn evaluate_only(&mut self) {
        for node in &mut self.nodes {
            if let Some(op) = node.op.evaluating() {
                node.op = op;
            }
        }
    }

    /// Asks for nothing any more.
    pub(crate) fn clear_outputs(&mut self) {
        self.outputs.clear();
    }

    /// Redirects asked-for outputs after a pass replaced values.
    pub(crate) fn map_outputs(&mut self, map: impl Fn(ValueId) -> ValueId) {
        for (_, value) in &mut self.outputs {
            *value = map(*value);
        }
    }

    /// Turns a value into a constant; the node that made it is to be dropped by the caller.
    pub(crate) fn freeze(&mut self, value: ValueId, tensor: Tensor) {
        self.values[value.index()].source = Source::Constant(Box::new(tensor));
    }

    /// Gives back memory that growing took in advance: for a graph of 2,500 nodes 1 MB.
    pub(crate) fn shrink(&mut self) {
        self.values.shrink_to_fit();
        self.nodes.shrink_to_fit();
    }

    /// Forgets a constant that nothing reads any more.
    pub(crate) fn bury(&mut self, value: ValueId) {
        self.values[value.index()].source = Source::Node { node: NodeId(u32::MAX), output: 0 };
    }

    fn first(&mut self, op: Arc<dyn Op>, inputs: &[ValueId]) -> Result<ValueId> {
        let name = op.name();
        self.push(op, inputs)?
            .first()
            .copied()
            .ok_or_else(|| Error::Graph(format!("{name} has no output")))
    }

    fn check_trainable(&self, name: &str, desc: &TensorDesc, on: bool) -> Result<()> {
        if on && desc.dtype() != crate::tensor::DType::F32 {
            return Err(Error::Graph(format!(
                "parameter `{name}` is {}; only f32 parameters train (freeze it and train a LoRA \
                 adapter, or load it as f32)",
                desc.dtype()
            )));
        }
        Ok(())
    }

    fn named(&mut self, name: &str, desc: TensorDesc, source: Source) -> Result<ValueId> {
        if name.is_empty() {
            return Err(Error::Graph("inputs, parameters and states need a name".into()));
        }
        if self.find(name).is_some() {
            return Err(Error::Graph(format!("the name `{name}` is taken")));
        }
        let id = self.value(Value { desc, source, name: Some(name.to_owned()) });
        self.names.insert(name.to_owned(), id);
        Ok(id)
    }

    fn value(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId(self.values.len() as u32 - 1)
    }
}
