//! What an op's gradient rule sees and does.

use std::sync::Arc;

use super::Op;
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::tensor::{Tensor, TensorDesc};

/// The context of one node's vector-Jacobian product.
pub struct Vjp<'g> {
    graph: &'g mut Graph,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    cotangent: ValueId,
    wants: Vec<bool>,
    gradients: Vec<Option<ValueId>>,
}

impl<'g> Vjp<'g> {
    pub(crate) fn new(
        graph: &'g mut Graph,
        inputs: Vec<ValueId>,
        outputs: Vec<ValueId>,
        cotangent: ValueId,
        wants: Vec<bool>,
    ) -> Self {
        let gradients = vec![None; inputs.len()];
        Self { graph, inputs, outputs, cotangent, wants, gradients }
    }

    pub(crate) fn into_gradients(self) -> Vec<Option<ValueId>> {
        self.gradients
    }

    /// Input `i`.
    #[must_use]
    pub fn input(&self, i: usize) -> ValueId {
        self.inputs[i]
    }

    /// Number of inputs.
    #[must_use]
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Output `i`.
    #[must_use]
    pub fn output(&self, i: usize) -> ValueId {
        self.outputs[i]
    }

    /// The cotangent of output 0: the gradient of the loss with respect to it.
    #[must_use]
    pub fn cotangent(&self) -> ValueId {
        self.cotangent
    }

    /// Whether anything that trains lies behind input `i`; others need no gradient and a rule
    /// should not compute one.
    #[must_use]
    pub fn wants(&self, i: usize) -> bool {
        self.wants[i]
    }

    /// The description of a value.
    #[must_use]
    pub fn desc(&self, value: ValueId) -> TensorDesc {
        self.graph.desc(value).clone()
    }

    /// Adds a node and gives its first output.
    ///
    /// # Errors
    /// As the op's inference.
    pub fn add(&mut self, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.graph.push(Arc::new(op), inputs)?[0])
    }

    /// Adds a node and gives all its outputs.
    ///
    /// # Errors
    /// As the op's inference.
    pub fn add_all(&mut self, op: impl Op, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        self.graph.push(Arc::new(op), inputs)
    }

    /// Adds a constant.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.graph.constant(tensor)
    }

    /// Sets the gradient of input `i`; it must have the input's shape.
    pub fn set(&mut self, i: usize, gradient: ValueId) {
        debug_assert_eq!(self.desc(gradient).shape(), self.desc(self.inputs[i]).shape());
        self.gradients[i] = Some(gradient);
    }
}
