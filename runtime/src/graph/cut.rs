//! Where a graph is one part of a model and others are elsewhere: values that it sends on and
//! values that it receives, with the gradients that come back for them.

use super::{Graph, ValueId};
use crate::error::{Error, Result};
use crate::ops::{Cast, Dequantize, Quantize};
use crate::tensor::{DType, TensorDesc};

/// A value that another part goes on from.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The output that gives it.
    pub name: String,
    /// The value.
    pub value: ValueId,
    /// The output: the value as it travels.
    pub wire: ValueId,
    /// The input for the gradient that comes back, as it travels; absent where none does.
    pub gradient: Option<ValueId>,
}

/// A value that another part has made.
#[derive(Clone, Debug)]
pub struct Received {
    /// The input for it.
    pub name: String,
    /// The value, in f32.
    pub value: ValueId,
    /// What its gradient travels as; absent where none is asked for.
    pub gradient: Option<DType>,
}

/// The name under which the gradient of a value goes.
#[must_use]
pub fn gradient_name(name: &str) -> String {
    format!("grad/{name}")
}

impl Graph {
    /// Sends `value`, f32, on to another part as `dtype`: the output `name`. Where `trains`, the
    /// gradient of the whole model's loss toward it comes back in the same form, and is written to
    /// the input `grad/name` between forward and backward.
    ///
    /// # Errors
    /// [`Error::Graph`] for a name that is taken; [`Error::DType`] for a type no activation travels
    /// as; [`Error::Tensor`] where the last axis is no whole number of the type's blocks.
    pub fn send(&mut self, name: &str, value: ValueId, dtype: DType, trains: bool) -> Result<()> {
        if value.index() >= self.values().len() {
            return Err(Error::Graph(format!("`{name}` sends no value of the graph")));
        }
        let mut made = self.clone();
        let wire = made.encoded(value, dtype)?;
        made.set_output(name, wire)?;
        if made.sent.iter().any(|sent| sent.name == name) {
            return Err(Error::Graph(format!("`{name}` is sent already")));
        }
        let desc = made.desc(wire).clone();
        let gradient = if trains { Some(made.input(&gradient_name(name), desc)?) } else { None };
        made.sent.push(Sent { name: name.to_owned(), value, wire, gradient });
        *self = made;
        Ok(())
    }

    /// Receives a value from another part as the input `name`, and gives it in f32. Where `trains`,
    /// a step gives the loss's gradient toward it, in the same form, as the output `grad/name`.
    ///
    /// # Errors
    /// As [`Graph::send`].
    pub fn receive(&mut self, name: &str, desc: TensorDesc, trains: bool) -> Result<ValueId> {
        let mut made = self.clone();
        let dtype = desc.dtype();
        let wire = made.input(name, desc)?;
        let value = made.decoded(wire)?;
        let gradient = trains.then_some(dtype);
        made.received.push(Received { name: name.to_owned(), value, gradient });
        *self = made;
        Ok(value)
    }

    /// Values that other parts go on from.
    #[must_use]
    pub fn sent(&self) -> &[Sent] {
        &self.sent
    }

    /// Values that other parts have made.
    #[must_use]
    pub fn received(&self) -> &[Received] {
        &self.received
    }

    /// `value`, f32, as it travels.
    pub(crate) fn encoded(&mut self, value: ValueId, dtype: DType) -> Result<ValueId> {
        let found = self.desc(value).dtype();
        if found != DType::F32 {
            let expected = "f32 (insert a cast)";
            return Err(Error::DType { op: "send", operand: 0, expected, found });
        }
        match dtype {
            DType::F32 => Ok(value),
            DType::F16 | DType::BF16 => self.add(Cast { dtype }, &[value]),
            DType::Quant(format) => self.add(Quantize { format }, &[value]),
            found => {
                let expected = "a type that activations travel as: f32, f16, bf16 or q8_0";
                Err(Error::DType { op: "send", operand: 0, expected, found })
            }
        }
    }

    /// What travelled, in f32.
    pub(crate) fn decoded(&mut self, wire: ValueId) -> Result<ValueId> {
        match self.desc(wire).dtype() {
            DType::F32 => Ok(wire),
            DType::F16 | DType::BF16 => self.add(Cast { dtype: DType::F32 }, &[wire]),
            _ => self.add(Dequantize, &[wire]),
        }
    }
}
