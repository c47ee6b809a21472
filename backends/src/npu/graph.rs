//! The graph that bridges hand to accelerators: forward only, static shapes, each value made once.

use std::fmt;
use std::sync::Arc;

use tenon_runtime::{Error, Result};

use super::op::{DType, Op, Type};

/// A value of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    /// Its number.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The input of this number: given at each run.
    Input(usize),
    /// The elements' bytes, little-endian: part of what is compiled.
    Const(Arc<[u8]>),
    /// The node of this number.
    Node(usize),
}

/// A value: its type, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Type and shape.
    pub ty: Type,
    /// Where it comes from.
    pub source: Source,
}

/// A node: what it computes, of what. It makes one value.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Of what.
    pub inputs: Vec<ValueId>,
    /// What it makes.
    pub output: ValueId,
}

/// See the [module](self). Nodes stand in an order in which they can run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    values: Vec<Value>,
    nodes: Vec<Node>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
}

impl Graph {
    /// An input.
    pub fn input(&mut self, ty: Type) -> ValueId {
        let id = self.push(ty, Source::Input(self.inputs.len()));
        self.inputs.push(id);
        id
    }

    /// A constant of these bytes. Equal ones are one value.
    ///
    /// # Errors
    /// [`Error::Graph`] where their number is not the type's.
    pub fn constant(&mut self, ty: Type, bytes: impl Into<Arc<[u8]>>) -> Result<ValueId> {
        let bytes: Arc<[u8]> = bytes.into();
        if bytes.len() != ty.bytes() {
            return Err(Error::Graph(format!("{} bytes for a constant {ty}", bytes.len())));
        }
        let source = Source::Const(bytes);
        let known = self.values.iter().position(|v| v.ty == ty && v.source == source);
        Ok(known.map_or_else(|| self.push(ty, source), |i| ValueId(i as u32)))
    }

    /// A constant of f32.
    ///
    /// # Errors
    /// As [`Graph::constant`].
    pub fn floats(&mut self, shape: &[usize], data: &[f32]) -> Result<ValueId> {
        let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(Type::f32(shape), bytes)
    }

    /// A constant of i32.
    ///
    /// # Errors
    /// As [`Graph::constant`].
    pub fn integers(&mut self, shape: &[usize], data: &[i32]) -> Result<ValueId> {
        let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(Type::new(DType::I32, shape), bytes)
    }

    /// A node, and the value that it makes. A node that is there already is not made twice.
    ///
    /// # Errors
    /// [`Error::Graph`] for operands that the operation cannot take.
    pub fn add(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
        if let Some(node) = self.nodes.iter().find(|n| n.op == op && n.inputs == inputs) {
            return Ok(node.output);
        }
        let ty = self.infer(&op, inputs)?;
        let output = self.push(ty, Source::Node(self.nodes.len()));
        self.nodes.push(Node { op, inputs: inputs.to_vec(), output });
        Ok(output)
    }

    /// Lets the caller have a value; gives the output's number.
    pub fn output(&mut self, value: ValueId) -> usize {
        self.outputs.push(value);
        self.outputs.len() - 1
    }

    fn push(&mut self, ty: Type, source: Source) -> ValueId {
        self.values.push(Value { ty, source });
        ValueId(self.values.len() as u32 - 1)
    }

    fn infer(&self, op: &Op, inputs: &[ValueId]) -> Result<Type> {
        let types: Vec<&Type> = inputs.iter().map(|&v| self.ty(v)).collect();
        op.infer(&types).map_err(|why| {
            let types = types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Error::Graph(format!("{} of {types}: {why}", op.name()))
        })
    }

    /// The type of a value.
    #[must_use]
    pub fn ty(&self, value: ValueId) -> &Type {
        &self.values[value.index()].ty
    }

    /// The shape of a value.
    #[must_use]
    pub fn shape(&self, value: ValueId) -> &[usize] {
        &self.ty(value).shape
    }

    /// A value.
    #[must_use]
    pub fn value(&self, value: ValueId) -> &Value {
        &self.values[value.index()]
    }

    /// All values, by number.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// All nodes, in the order they run.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What is given at each run.
    #[must_use]
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// What the caller gets.
    #[must_use]
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Whether a value is a constant.
    #[must_use]
    pub fn is_const(&self, value: ValueId) -> bool {
        matches!(self.value(value).source, Source::Const(_))
    }

    /// The numbers of the nodes that some output needs.
    #[must_use]
    pub fn kept_nodes(&self) -> Vec<usize> {
        let is_needed = self.needed();
        (0..self.nodes.len()).filter(|&i| is_needed[self.nodes[i].output.index()]).collect()
    }

    /// Of each value, whether some output needs it.
    fn needed(&self) -> Vec<bool> {
        let mut is_needed = vec![false; self.values.len()];
        self.outputs.iter().for_each(|v| is_needed[v.index()] = true);
        for node in self.nodes.iter().rev() {
            if is_needed[node.output.index()] {
                node.inputs.iter().for_each(|v| is_needed[v.index()] = true);
            }
        }
        is_needed
    }

    /// The same graph without what no output needs, and the numbers that the inputs left had.
    #[must_use]
    pub fn pruned(&self) -> (Self, Vec<usize>) {
        let is_needed = self.needed();
        let (mut pruned, mut new) = (Self::default(), vec![ValueId(0); self.values.len()]);
        for (i, value) in self.values.iter().enumerate().filter(|(i, _)| is_needed[*i]) {
            new[i] = pruned.push(value.ty.clone(), value.source.clone());
        }
        for node in self.nodes.iter().filter(|n| is_needed[n.output.index()]) {
            let output = new[node.output.index()];
            pruned.values[output.index()].source = Source::Node(pruned.nodes.len());
            let inputs = node.inputs.iter().map(|v| new[v.index()]).collect();
            pruned.nodes.push(Node { op: node.op.clone(), inputs, output });
        }
        let kept = (0..self.inputs.len()).filter(|&i| is_needed[self.inputs[i].index()]);
        let kept: Vec<usize> = kept.collect();
        pruned.inputs = kept.iter().map(|&i| new[self.inputs[i].index()]).collect();
        for (i, input) in pruned.inputs.clone().into_iter().enumerate() {
            pruned.values[input.index()].source = Source::Input(i);
        }
        pruned.outputs = self.outputs.iter().map(|v| new[v.index()]).collect();
        (pruned, kept)
    }

    /// Checks that each node's operands are made before it and its type is what it gives.
    ///
    /// # Errors
    /// [`Error::Graph`].
    pub fn verify(&self) -> Result<()> {
        let bad = |why: String| Err(Error::Graph(why));
        for (i, value) in self.values.iter().enumerate() {
            if value.ty.shape.is_empty() || value.ty.shape.contains(&0) {
                return bad(format!("value {i} is {}", value.ty));
            }
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let late = |v: &ValueId| matches!(self.value(*v).source, Source::Node(n) if n >= i);
            if node.inputs.iter().any(late) {
                return bad(format!("node {i} reads what is not made yet"));
            }
            if self.infer(&node.op, &node.inputs)? != *self.ty(node.output) {
                return bad(format!("node {i}, {}, makes another type", node.op.name()));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &[ValueId]| {
            ids.iter().map(|v| format!("%{}", v.0)).collect::<Vec<_>>().join(", ")
        };
        for &input in &self.inputs {
            writeln!(f, "%{} = input {}", input.0, self.ty(input))?;
        }
        for (i, value) in self.values.iter().enumerate() {
            if let Source::Const(_) = value.source {
                writeln!(f, "%{i} = const {}", value.ty)?;
            }
        }
        for node in &self.nodes {
            let (name, inputs) = (node.op.name(), list(&node.inputs));
            writeln!(f, "%{} = {name} {inputs} : {}", node.output.0, self.ty(node.output))?;
        }
        writeln!(f, "return {}", list(&self.outputs))
    }
}
