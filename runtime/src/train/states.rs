//! How an update's states are stored.

use tenon_kernels::update::{BLOCK, StateFormat};

use crate::error::Result;
use crate::ops::common::{count, dtype_is, shape_error};
use crate::ops::{Attr, AttrReader};
use crate::tensor::{DType, TensorDesc};

/// How the states of the ops `sgd`, `adam` and `adamw` are stored.
///
/// A state is a tensor of the parameter's shape; with int8 a second one of f32 follows it, with the
/// scales of each [`BLOCK`] elements. What is not f32 is rounded at random, so that small changes
/// are kept in the mean: by the step's number, `stream` and the element's place, by nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct States {
    /// The format.
    pub format: StateFormat,
    /// Number of this update in its graph, which tells its random numbers apart.
    pub stream: u32,
}

impl States {
    /// Reads the attributes `state` and `stream`.
    pub(crate) fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let format = attrs.choice("state", &StateFormat::ALL)?;
        let stream = attrs.usize_or("stream", 0)?;
        let stream = u32::try_from(stream).map_err(|_| attrs.error("stream", "is too large"))?;
        Ok(Self { format, stream })
    }

    /// As attributes of the ops; none where nothing is rounded.
    pub(crate) fn attrs(self) -> Vec<(&'static str, Attr)> {
        match self.format {
            StateFormat::F32 => Vec::new(),
            format => vec![("state", format.name().into()), ("stream", self.stream.into())],
        }
    }

    /// The tensors that store one state of a parameter, each with what its name ends in.
    pub(crate) fn tensors(self, parameter: &TensorDesc) -> Result<Vec<(&'static str, TensorDesc)>> {
        let like = |dtype| Ok(("", TensorDesc::new(dtype, *parameter.shape())?));
        Ok(match self.format {
            StateFormat::F32 => vec![like(DType::F32)?],
            StateFormat::Bf16 => vec![like(DType::BF16)?],
            StateFormat::Int8 => {
                let scales = TensorDesc::f32(&[parameter.numel().div_ceil(BLOCK)])?;
                vec![like(DType::I8)?, (".scale", scales)]
            }
        })
    }

    /// Refuses operands other than an f32 parameter, its gradient, `states` states and then
    /// `scalars`.
    pub(crate) fn check(
        self,
        op: &'static str,
        inputs: &[&TensorDesc],
        states: usize,
        scalars: usize,
    ) -> Result<()> {
        let parts = if self.format == StateFormat::Int8 { 2 } else { 1 };
        count(op, inputs, 2 + states * parts + scalars)?;
        let parameter = TensorDesc::new(DType::F32, *inputs[0].shape())?;
        let mut expected = vec![parameter.clone(), parameter.clone()];
        for _ in 0..states {
            expected.extend(self.tensors(&parameter)?.into_iter().map(|(_, desc)| desc));
        }
        for (operand, desc) in inputs.iter().enumerate() {
            let wanted = expected.get(operand).map_or(DType::F32, TensorDesc::dtype);
            dtype_is(op, operand, desc, wanted, wanted.name())?;
        }
        let (tensors, scalars) = inputs.split_at(expected.len());
        if tensors.iter().zip(&expected).any(|(found, wanted)| *found != wanted)
            || scalars.iter().any(|d| d.numel() != 1)
        {
            let why = "takes the parameter, gradient and states in one shape, then scalars; int8 \
                       states are each followed by the scales of blocks of 256";
            return Err(shape_error(op, inputs, why));
        }
        Ok(())
    }

    /// Inputs that `states` states make an update overwrite, the parameter being the first.
    pub(crate) fn mutated(self, states: usize) -> &'static [usize] {
        const OVERWRITTEN: &[usize] = &[0, 2, 3, 4, 5];
        let parts = if self.format == StateFormat::Int8 { 2 } else { 1 };
        &OVERWRITTEN[..=states * parts]
    }
}
