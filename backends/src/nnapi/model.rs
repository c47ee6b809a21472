//! A graph as NNAPI has it: operands and operations by number. Pure data, made on any machine.
//!
//! Images go as `[batch, rows, cols, channels]` and filters as `[out, rows, cols, in]`, which all drivers
//! take: what stands otherwise is transposed, constants when the model is made.

use std::collections::HashMap;
use std::sync::Arc;

use tenon_runtime::{Error, Result};

use super::sys;
use crate::npu::evaluate::{Array, apply};
use crate::npu::graph::{Graph, Source, ValueId};
use crate::npu::op::{Affine, DType, Op, Type, Window};
use crate::npu::table;

/// Filters and images, from `[., channels, rows, cols]` and back.
const TO_LAST: [usize; 4] = [0, 2, 3, 1];
const TO_FIRST: [usize; 4] = [0, 3, 1, 2];
/// An input channel's filters to the front: for depthwise and transposed convolutions.
const TURNED: [usize; 4] = [1, 2, 3, 0];

const GROUPED_CONV_2D: i32 = 55;
const DEPTHWISE_CONV_2D: i32 = 4;

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// `TYPE_...`.
    pub code: i32,
    /// Sizes; none for a scalar.
    pub dims: Vec<u32>,
    /// Of codes.
    pub scale: f32,
    /// Of codes.
    pub zero: i32,
    /// Scales of an axis.
    pub channels: Option<(u32, Arc<[f32]>)>,
    /// The value of a constant.
    pub value: Option<Arc<[u8]>>,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its number.
    pub code: i32,
    /// Operands by number.
    pub inputs: Vec<u32>,
    /// The operand that it makes.
    pub output: u32,
    /// Of which node it is.
    pub node: usize,
}

/// See the [module](self).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// By number.
    pub operands: Vec<Operand>,
    /// In order.
    pub operations: Vec<Operation>,
    /// Operands that are given at each run.
    pub inputs: Vec<u32>,
    /// Operands that come back.
    pub outputs: Vec<u32>,
}

impl Model {
    /// The model of a graph.
    ///
    /// # Errors
    /// [`Error::Graph`] for what NNAPI has not.
    pub fn new(graph: &Graph) -> Result<Self> {
        let mut emitter = Emitter { graph, model: Self::default(), known: HashMap::new(), node: 0 };
        for &input in graph.inputs() {
            let operand = emitter.operand(graph.ty(input), None);
            emitter.known.insert(input, operand);
            emitter.model.inputs.push(operand);
        }
        for (i, node) in graph.nodes().iter().enumerate() {
            emitter.node = i;
            let made = emitter.node(&node.op, &node.inputs, graph.ty(node.output))?;
            emitter.known.insert(node.output, made);
        }
        for &output in graph.outputs() {
            let mut operand = emitter.value(output);
            // What comes back is made by an operation, and comes back once.
            let is_made = emitter.model.operations.iter().any(|o| o.output == operand);
            if !is_made || emitter.model.outputs.contains(&operand) {
                let ty = graph.ty(output);
                operand = emitter.reshaped(operand, ty, &ty.shape)?;
            }
            emitter.model.outputs.push(operand);
        }
        Ok(emitter.model)
    }
}

struct Emitter<'a> {
    graph: &'a Graph,
    model: Model,
    known: HashMap<ValueId, u32>,
    node: usize,
}

fn no<T>(why: &str) -> Result<T> {
    Err(Error::Graph(format!("NNAPI: {why}")))
}

fn bytes(numbers: &[i32]) -> Arc<[u8]> {
    numbers.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>().into()
}

fn list(numbers: &[usize]) -> Vec<i32> {
    numbers.iter().map(|&n| n as i32).collect()
}

impl Emitter<'_> {
    fn push(&mut self, operand: Operand) -> u32 {
        // Equal constants are one operand.
        let known = match &operand.value {
            Some(_) => self.model.operands.iter().position(|o| *o == operand),
            None => None,
        };
        known.unwrap_or_else(|| {
            self.model.operands.push(operand);
            self.model.operands.len() - 1
        }) as u32
    }

    fn operand(&mut self, ty: &Type, value: Option<Arc<[u8]>>) -> u32 {
        let (mut scale, mut zero, mut channels) = (0.0, 0, None);
        let code = match &ty.dtype {
            DType::F32 => sys::TYPE_TENSOR_FLOAT32,
            DType::F16 => sys::TYPE_TENSOR_FLOAT16,
            DType::I32 => sys::TYPE_TENSOR_INT32,
            DType::Bool => sys::TYPE_TENSOR_BOOL8,
            DType::I8(Affine { scales, axis: Some(axis), .. }) => {
                channels = Some((*axis as u32, scales.clone()));
                sys::TYPE_TENSOR_QUANT8_SYMM_PER_CHANNEL
            }
            DType::I8(affine) => {
                (scale, zero) = (affine.scales[0], affine.zero);
                sys::TYPE_TENSOR_QUANT8_ASYMM_SIGNED
            }
        };
        let dims = ty.shape.iter().map(|&n| n as u32).collect();
        self.push(Operand { code: code as i32, dims, scale, zero, channels, value })
    }

    fn constant(&mut self, code: u32, dims: &[u32], value: Arc<[u8]>) -> u32 {
        let (code, dims, value) = (code as i32, dims.to_vec(), Some(value));
        self.push(Operand { code, dims, scale: 0.0, zero: 0, channels: None, value })
    }

    fn int(&mut self, value: usize) -> u32 {
        self.constant(sys::TYPE_INT32, &[], bytes(&[value as i32]))
    }

    fn flag(&mut self, value: bool) -> u32 {
        self.constant(sys::TYPE_BOOL, &[], vec![u8::from(value)].into())
    }

    fn ints(&mut self, values: &[usize]) -> u32 {
        self.constant(sys::TYPE_TENSOR_INT32, &[values.len() as u32], bytes(&list(values)))
    }

    /// The operand of a value.
    fn value(&mut self, value: ValueId) -> u32 {
        if let Some(&known) = self.known.get(&value) {
            return known;
        }
        let Source::Const(bytes) = &self.graph.value(value).source else { return u32::MAX };
        let operand = self.operand(&self.graph.ty(value).clone(), Some(bytes.clone()));
        self.known.insert(value, operand);
        operand
    }

    fn operation(&mut self, code: i32, inputs: &[u32], ty: &Type) -> u32 {
        let output = self.operand(ty, None);
        let (inputs, node) = (inputs.to_vec(), self.node);
        self.model.operations.push(Operation { code, inputs, output, node });
        output
    }

    fn reshaped(&mut self, x: u32, ty: &Type, shape: &[usize]) -> Result<u32> {
        let shape_operand = self.ints(shape);
        let code = self.code(&Op::Reshape(shape.to_vec()))?;
        Ok(self.operation(code, &[x, shape_operand], &Type::new(ty.dtype.clone(), shape)))
    }

    fn code(&self, op: &Op) -> Result<i32> {
        let nnapi = table::row(op).and_then(|row| row.nnapi);
        nnapi.map_or_else(|| no(&format!("has no {}", op.name())), |nnapi| Ok(nnapi.code))
    }

    /// A value with its axes in another order; a constant's elements are moved here.
    fn transposed(&mut self, value: ValueId, perm: [usize; 4]) -> Result<(u32, Type)> {
        let ty = self.graph.ty(value).clone();
        let op = Op::Transpose(perm.to_vec());
        let turned = op.infer(&[&ty]).map_err(Error::Graph)?;
        if let Source::Const(bytes) = &self.graph.value(value).source {
            let value = apply(&op, &[&Array::from_bytes(&ty, bytes)?])?.to_bytes();
            return Ok((self.operand(&turned, Some(value.into())), turned));
        }
        let (x, perm) = (self.value(value), self.ints(&perm));
        let code = self.code(&op)?;
        Ok((self.operation(code, &[x, perm], &turned), turned))
    }

    /// The result with channels last, brought back.
    fn first(&mut self, code: i32, inputs: &[u32], ty: &Type) -> Result<u32> {
        let last = TO_LAST.map(|i| ty.shape[i]);
        let y = self.operation(code, inputs, &Type::new(ty.dtype.clone(), &last));
        let perm = self.ints(&TO_FIRST);
        let transpose = self.code(&Op::Transpose(TO_FIRST.to_vec()))?;
        Ok(self.operation(transpose, &[y, perm], ty))
    }

    /// A bias, or zeros where there is none: NNAPI takes none without.
    fn bias(&mut self, given: Option<&ValueId>, like: (&DType, &DType), n: usize) -> Result<u32> {
        let (dtype, scale, channels) = match like {
            (DType::I8(x), DType::I8(w)) if w.axis.is_none() => {
                (DType::I32, x.scales[0] * w.scales[0], false)
            }
            (DType::I8(_), _) => (DType::I32, 0.0, true),
            (x, _) => (x.clone(), 0.0, false),
        };
        let ty = Type::new(dtype, &[n]);
        let operand = match given {
            Some(&bias) => self.value(bias),
            None => self.operand(&ty, Some(vec![0; ty.bytes()].into())),
        };
        if channels || scale == 0.0 {
            return Ok(operand);
        }
        // The scale is a part of its type.
        let scaled = Operand { scale, ..self.model.operands[operand as usize].clone() };
        if scaled.value.is_none() {
            return no("a bias in codes must be a constant");
        }
        Ok(self.push(scaled))
    }

    fn node(&mut self, op: &Op, x: &[ValueId], ty: &Type) -> Result<u32> {
        let plain = |this: &mut Self| x.iter().map(|&v| this.value(v)).collect::<Vec<u32>>();
        let mut inputs = match op {
            Op::Conv(_) | Op::ConvTranspose { .. } | Op::AvgPool { .. } => Vec::new(),
            Op::Coded(inner, _) if matches!(**inner, Op::Conv(_)) => Vec::new(),
            _ => plain(self),
        };
        let first = self.graph.ty(x[0]).clone();
        match op {
            Op::Unary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) => {}
            Op::Quantize(_) | Op::Dequantize => {}
            Op::Binary(kind) => {
                use crate::npu::op::Binary::{Max, Min, Pow};
                if !matches!(kind, Max | Min | Pow) {
                    inputs.push(self.int(0));
                }
            }
            Op::Linear => {
                let n = ty.shape[1];
                let bias = self.bias(x.get(2), (&first.dtype, &first.dtype), n)?;
                inputs = vec![inputs[0], inputs[1], bias, self.int(0)];
            }
            Op::MatMul { trans_a, trans_b } => {
                inputs.extend([self.flag(*trans_a), self.flag(*trans_b)]);
            }
            Op::Reduce { kind, axes } => {
                let keep = match kind {
                    crate::npu::op::Reduce::Mean => self.int(1),
                    _ => self.flag(true),
                };
                inputs.extend([self.ints(axes), keep]);
            }
            Op::Softmax => {
                let beta = match first.dtype {
                    DType::F16 => {
                        let one = half::f16::ONE.to_le_bytes().to_vec().into();
                        self.constant(sys::TYPE_FLOAT16, &[], one)
                    }
                    _ => {
                        let one = 1f32.to_le_bytes().to_vec().into();
                        self.constant(sys::TYPE_FLOAT32, &[], one)
                    }
                };
                inputs.push(beta);
            }
            Op::Reshape(list) | Op::Transpose(list) | Op::Tile(list) => {
                inputs.push(self.ints(list));
            }
            Op::Slice { begin, size } => inputs.extend([self.ints(begin), self.ints(size)]),
            Op::Concat(axis) => inputs.push(self.int(*axis)),
            Op::Pad(pads) => {
                let flat: Vec<i32> = pads.iter().flatten().map(|&n| n as i32).collect();
                let dims = [pads.len() as u32, 2];
                inputs.push(self.constant(sys::TYPE_TENSOR_INT32, &dims, bytes(&flat)));
            }
            Op::Gather => inputs = vec![inputs[0], self.int(0), inputs[1]],
            Op::Conv(window) => return self.conv(x, window, ty),
            Op::ConvTranspose { window, .. } => return self.conv_transpose(op, x, window, ty),
            Op::AvgPool { window, kernel } => {
                let (x, _) = self.transposed(x[0], TO_LAST)?;
                let mut inputs = vec![x];
                inputs.extend(self.paddings(window));
                inputs.extend([self.int(kernel[1]), self.int(kernel[0]), self.int(0)]);
                let code = self.code(op)?;
                return self.first(code, &inputs, ty);
            }
            Op::Coded(inner, _) => match &**inner {
                Op::Conv(window) => return self.conv(x, window, ty),
                _ => {
                    let w = self.graph.ty(x[1]).dtype.clone();
                    let bias = self.bias(x.get(2), (&first.dtype, &w), ty.shape[1])?;
                    inputs = vec![inputs[0], inputs[1], bias, self.int(0)];
                }
            },
        }
        let code = self.code(op)?;
        Ok(self.operation(code, &inputs, ty))
    }

    /// Left, right, top, bottom; strides of columns and rows.
    fn paddings(&mut self, window: &Window) -> Vec<u32> {
        let Window { stride, pad, .. } = window;
        let [top, bottom] = pad[0];
        let [left, right] = pad[1];
        let all = [left, right, top, bottom, stride[1], stride[0]];
        all.into_iter().map(|n| self.int(n)).collect()
    }

    fn conv(&mut self, x: &[ValueId], window: &Window, ty: &Type) -> Result<u32> {
        let (channels, w) = (self.graph.shape(x[0])[1], self.graph.ty(x[1]).clone());
        let is_depthwise = window.groups > 1 && window.groups == channels;
        let (image, _) = self.transposed(x[0], TO_LAST)?;
        let (filter, _) = self.transposed(x[1], if is_depthwise { TURNED } else { TO_LAST })?;
        let dtype = self.graph.ty(x[0]).dtype.clone();
        let bias = self.bias(x.get(2), (&dtype, &w.dtype), w.shape[0])?;
        let mut inputs = vec![image, filter, bias];
        inputs.extend(self.paddings(window));
        let code = match window.groups {
            1 => self.code(&Op::Conv(*window))?,
            _ if is_depthwise => DEPTHWISE_CONV_2D,
            _ => GROUPED_CONV_2D,
        };
        match code {
            DEPTHWISE_CONV_2D => inputs.push(self.int(w.shape[0] / channels)),
            GROUPED_CONV_2D => inputs.push(self.int(window.groups)),
            _ => {}
        }
        inputs.push(self.int(0));
        if code == GROUPED_CONV_2D {
            inputs.push(self.flag(false));
        }
        if window.dilation != [1, 1] {
            if code == GROUPED_CONV_2D {
                return no("no dilation in groups");
            }
            let [rows, cols] = window.dilation;
            inputs.extend([self.flag(false), self.int(cols), self.int(rows)]);
        }
        self.first(code, &inputs, ty)
    }

    fn conv_transpose(
        &mut self,
        op: &Op,
        x: &[ValueId],
        window: &Window,
        ty: &Type,
    ) -> Result<u32> {
        if window.groups != 1 || window.dilation != [1, 1] {
            return no("transposed convolutions have neither groups nor dilation");
        }
        let (image, _) = self.transposed(x[0], TO_LAST)?;
        let (filter, _) = self.transposed(x[1], TURNED)?;
        let dtype = self.graph.ty(x[0]).dtype.clone();
        let bias = self.bias(None, (&dtype, &dtype), ty.shape[1])?;
        let mut inputs = vec![image, filter, bias];
        inputs.extend(self.paddings(window));
        inputs.extend([self.int(0), self.flag(false)]);
        let code = self.code(op)?;
        self.first(code, &inputs, ty)
    }
}
