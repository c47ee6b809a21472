//! A bridge's graph as an ML program.
//!
//! Every parameter of an operation is given, defaults too, as the format's own tools write them. What
//! the operations cannot do is composed of others: weights that are no constants are multiplied by
//! `matmul` instead of `linear`; kernels that are no constants are spread by zeros where a window has
//! dilations, and turned round where it runs backward, for `conv_transpose` before iOS 17 and dilated
//! `conv` on any system want constants.

mod conv;

use std::collections::HashMap;
use std::io::{Seek, Write};
use std::path::Path;

use half::f16;
use tenon_runtime::{Error, Result};

use crate::npu::op::{Affine, Unary};
use crate::npu::table::{self, Target};
use crate::npu::{DType, Graph, Node, Op, Source, Type, Value, ValueId};

use super::codes::{self, BLOCK, Codes};
use super::package::Package;
use super::program::{Arg, Opset, Tensor, Writer};
use super::proto::{DataType, Model};
use super::weights::Weights;

/// What decodes weights by blocks, from iOS 18 on.
const BLOCKWISE: &str = "constexpr_blockwise_shift_scale";

/// For whom a graph is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// The newest set of operations that the system has.
    pub newest: Opset,
    /// Inputs, by number, that the device keeps: f16 each. They want iOS 18.
    pub states: Vec<usize>,
}

/// Writes the package of a graph in the folder `root`. Its inputs are called `x0`, `x1` and so on, its
/// outputs `y0`, `y1`. Weights that lie on [levels](codes) are codes where the system has those.
///
/// # Errors
/// [`Error::Unsupported`] for what Core ML cannot take, [`Error::Io`].
pub fn package(graph: &Graph, options: &Options, root: &Path) -> Result<()> {
    let mut package = Package::create(root)?;
    let model = model(graph, options, &mut package.weights)?;
    package.finish(&model)
}

/// The name of an input.
#[must_use]
pub fn input_name(number: usize) -> String {
    format!("x{number}")
}

/// The name of an output.
#[must_use]
pub fn output_name(number: usize) -> String {
    format!("y{number}")
}

/// The oldest set of operations that has all that a graph needs.
fn opset(graph: &Graph, options: &Options, has_codes: bool) -> Result<Opset> {
    let is_new = has_codes || !options.states.is_empty();
    let mut opset = if is_new { Opset::Ios18 } else { Opset::Ios16 };
    for node in graph.nodes().iter().filter(|node| !is_constant(graph, node.output)) {
        opset = [Opset::Ios16, Opset::Ios18]
            .into_iter()
            .find(|&set| set >= opset && takes(graph, node, set))
            .ok_or_else(|| unsupported(graph, node))?;
    }
    if opset > options.newest {
        return Err(Error::Unsupported {
            op: "coreml",
            operands: format!("{opset:?} on {options:?}"),
        });
    }
    Ok(opset)
}

/// Codes of the constants that are weights on levels.
fn coded(graph: &Graph) -> HashMap<ValueId, Codes> {
    let weights = graph.nodes().iter().flat_map(|node| match node.op {
        Op::Linear | Op::Conv(_) => &node.inputs[1..2],
        Op::MatMul { .. } => &node.inputs[..2],
        _ => &[],
    });
    let mut found = HashMap::new();
    for &value in weights {
        let Value { ty, source: Source::Const(bytes) } = graph.value(value) else { continue };
        let fits = ty.numel() >= 1024 && ty.shape.last().is_some_and(|last| last % BLOCK == 0);
        if !fits || found.contains_key(&value) {
            continue;
        }
        let values: Vec<f32> = match ty.dtype {
            DType::F32 => {
                bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
            }
            DType::F16 => {
                bytes.as_chunks().0.iter().map(|&word| f16::from_le_bytes(word).to_f32()).collect()
            }
            _ => continue,
        };
        found.extend(codes::find(&values, ty.dtype == DType::F16).map(|codes| (value, codes)));
    }
    found
}

/// Whether a node can be written in a set of operations.
#[must_use]
pub fn takes(graph: &Graph, node: &Node, opset: Opset) -> bool {
    let window = match &node.op {
        Op::AvgPool { window, .. } => window.dilation == [1, 1],
        Op::ConvTranspose { window, size } if !is_constant(graph, node.inputs[1]) => {
            conv::turned(window, graph.shape(node.inputs[0]), graph.shape(node.inputs[1]), *size)
                .is_some()
        }
        _ => true,
    };
    window && Target::CoreMl(opset.version()).takes(graph, node)
}

/// Whether a value is known when the model is compiled: a constant, or codes of one made numbers.
fn is_constant(graph: &Graph, value: ValueId) -> bool {
    match graph.value(value).source {
        Source::Const(_) => true,
        Source::Input(_) => false,
        Source::Node(node) => {
            let node = &graph.nodes()[node];
            matches!(node.op, Op::Dequantize) && graph.is_const(node.inputs[0])
                || is_half(&node.op) && is_decoded(graph, node.inputs[0])
        }
    }
}

/// Whether a value is codes of a constant made numbers.
fn is_decoded(graph: &Graph, value: ValueId) -> bool {
    !graph.is_const(value) && is_constant(graph, value)
}

fn is_half(op: &Op) -> bool {
    *op == Op::Cast(DType::F16)
}

fn unsupported(graph: &Graph, node: &Node) -> Error {
    let types: Vec<String> = node.inputs.iter().map(|&v| graph.ty(v).to_string()).collect();
    Error::Unsupported { op: node.op.name(), operands: types.join(", ") }
}

/// The model of a graph; its constants go to `weights`.
///
/// # Errors
/// As [`package`].
pub fn model<W: Write + Seek>(
    graph: &Graph,
    options: &Options,
    weights: &mut Weights<W>,
) -> Result<Model> {
    let codes = if options.newest >= Opset::Ios18 { coded(graph) } else { HashMap::new() };
    let writer = Writer::new(opset(graph, options, !codes.is_empty())?, weights);
    let states = &options.states;
    let mut emitter = Emitter { graph, writer, names: names(graph, states), codes, made: 0 };
    emitter.inputs(states)?;
    emitter.constants()?;
    for node in graph.nodes() {
        emitter.node(node)?;
    }
    emitter.finish()
}

struct Emitter<'a, 'w, W> {
    graph: &'a Graph,
    writer: Writer<'w, W>,
    /// What the graph's values are called.
    names: Vec<String>,
    /// Codes of constants.
    codes: HashMap<ValueId, Codes>,
    /// Values that the graph does not have.
    made: usize,
}

impl<W: Write + Seek> Emitter<'_, '_, W> {
    fn inputs(&mut self, states: &[usize]) -> Result<()> {
        for (number, &value) in self.graph.inputs().iter().enumerate() {
            let (ty, given) = (self.graph.ty(value), input_name(number));
            let data_type = outside(ty)?;
            if states.contains(&number) {
                if data_type != DataType::Float16 {
                    return Err(refused(ty, "as a state, which is f16"));
                }
                self.writer.state(&given, data_type, &ty.shape);
                let inputs = [("input", Arg::Var(&given))];
                self.writer.op("read_state", &self.name(value), &inputs, (data_type, &ty.shape));
            } else {
                self.writer.input(&given, data_type, &ty.shape);
            }
        }
        Ok(())
    }

    fn constants(&mut self) -> Result<()> {
        for (number, value) in self.graph.values().iter().enumerate() {
            let (id, Type { dtype, shape }) = (ValueId(number as u32), &value.ty);
            let (to, Source::Const(bytes)) = (self.name(id), &value.source) else { continue };
            let written = match (self.codes.get(&id), dtype) {
                // They are written where they are made numbers.
                (_, DType::I8(_)) => continue,
                (Some(codes), _) => {
                    let mut blocks = shape.clone();
                    if let Some(last) = blocks.last_mut() {
                        *last /= BLOCK;
                    }
                    let float = data_type(dtype);
                    let (scales, offsets) =
                        (floats(float, &codes.scales), floats(float, &codes.offsets));
                    let data =
                        Tensor { data_type: codes.data_type, dims: shape, data: &codes.codes };
                    let inputs = [
                        ("data", data),
                        ("scale", Tensor { data_type: float, dims: &blocks, data: &scales }),
                        ("offset", Tensor { data_type: float, dims: &blocks, data: &offsets }),
                    ];
                    self.writer.constexpr(BLOCKWISE, &to, &inputs, (float, shape))
                }
                (None, _) => {
                    let tensor = Tensor { data_type: data_type(dtype), dims: shape, data: bytes };
                    self.writer.constant(&to, tensor)
                }
            };
            written.map_err(io)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Model> {
        let mut outputs = Vec::new();
        for (number, &value) in self.graph.outputs().iter().enumerate() {
            let ty = self.graph.ty(value);
            let data_type = outside(ty)?;
            let (given, made) = (output_name(number), self.name(value));
            if made != given {
                let inputs = [("x", Arg::Var(&made))];
                self.writer.op("identity", &given, &inputs, (data_type, &ty.shape));
            }
            outputs.push((given, data_type, &ty.shape[..]));
        }
        let outputs: Vec<_> =
            outputs.iter().map(|(given, kind, dims)| (&given[..], *kind, *dims)).collect();
        Ok(self.writer.finish(&outputs))
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        if is_constant(self.graph, node.output) {
            return self.decoded(node);
        }
        let x: Vec<String> = node.inputs.iter().map(|&v| self.name(v)).collect();
        let to = self.name(node.output);
        let of = self.graph.ty(node.output);
        let first = self.graph.ty(node.inputs[0]);
        let float = data_type(&first.dtype);
        let var = |i: usize| Arg::Var(&x[i]);
        let kind = table::row(&node.op)
            .and_then(|row| row.mil)
            .ok_or_else(|| unsupported(self.graph, node))?;
        let opset = self.writer.opset();
        let mut op = |inputs: &[(&str, Arg<'_>)]| {
            self.writer.op(kind.name, &to, inputs, (data_type(&of.dtype), &of.shape));
        };
        match &node.op {
            Op::Unary(Unary::Neg) => op(&[("x", var(0)), ("y", Arg::Float(float, -1.0))]),
            // What is added to the operand.
            Op::Unary(Unary::Log | Unary::Rsqrt) => {
                op(&[("x", var(0)), ("epsilon", Arg::Float(float, 0.0))]);
            }
            Op::Unary(_) => op(&[("x", var(0))]),
            Op::Binary(_) | Op::Compare(_) => op(&[("x", var(0)), ("y", var(1))]),
            Op::Select => op(&[("cond", var(0)), ("a", var(1)), ("b", var(2))]),
            Op::Cast(_) => op(&[("x", var(0)), ("dtype", Arg::Word(word(&of.dtype)))]),
            Op::Linear => self.linear(node),
            Op::MatMul { trans_a, trans_b } => op(&[
                ("x", var(0)),
                ("y", var(1)),
                ("transpose_x", Arg::Bool(*trans_a)),
                ("transpose_y", Arg::Bool(*trans_b)),
            ]),
            Op::Reduce { axes, .. } => {
                op(&[
                    ("x", var(0)),
                    ("axes", Arg::Ints(&ints(axes))),
                    ("keep_dims", Arg::Bool(true)),
                ]);
            }
            Op::Softmax => op(&[("x", var(0)), ("axis", Arg::Int(-1))]),
            Op::Reshape(shape) => op(&[("x", var(0)), ("shape", Arg::Ints(&ints(shape)))]),
            Op::Transpose(perm) => op(&[("x", var(0)), ("perm", Arg::Ints(&ints(perm)))]),
            Op::Slice { begin, size } => {
                let (begin, size) = (ints(begin), ints(size));
                op(&[("x", var(0)), ("begin", Arg::Ints(&begin)), ("size", Arg::Ints(&size))]);
            }
            Op::Concat(axis) => op(&[
                ("values", Arg::Vars(&x)),
                ("axis", Arg::Int(*axis as i32)),
                ("interleave", Arg::Bool(false)),
            ]),
            Op::Pad(pads) => op(&[
                ("x", var(0)),
                ("pad", Arg::Ints(&ints(pads.as_flattened()))),
                ("mode", Arg::Word("constant")),
                ("constant_val", Arg::Float(float, 0.0)),
            ]),
            Op::Tile(times) => op(&[("x", var(0)), ("reps", Arg::Ints(&ints(times)))]),
            Op::Gather => {
                let mut inputs = vec![
                    ("x", var(0)),
                    ("indices", var(1)),
                    ("axis", Arg::Int(0)),
                    ("batch_dims", Arg::Int(0)),
                ];
                if opset >= Opset::Ios18 {
                    inputs.push(("validate_indices", Arg::Bool(false)));
                }
                op(&inputs);
            }
            Op::Conv(window) => self.conv(node, window),
            Op::ConvTranspose { window, size } => self.conv_transpose(node, window, *size)?,
            Op::AvgPool { window, kernel } => op(&[
                ("x", var(0)),
                ("kernel_sizes", Arg::Ints(&ints(kernel))),
                ("strides", Arg::Ints(&ints(&window.stride))),
                ("pad_type", Arg::Word("custom")),
                ("pad", Arg::Ints(&ints(window.pad.as_flattened()))),
                ("exclude_padding_from_average", Arg::Bool(true)),
                ("ceil_mode", Arg::Bool(false)),
            ]),
            Op::Quantize(affine) => {
                let coding = Coding::new(affine, float);
                let mut inputs = coding.args();
                inputs.extend([("input", var(0)), ("output_dtype", Arg::Word("int8"))]);
                op(&inputs);
            }
            Op::Dequantize => {
                let DType::I8(affine) = &first.dtype else {
                    return Err(unsupported(self.graph, node));
                };
                let coding = Coding::new(affine, DataType::Float32);
                let mut inputs = coding.args();
                inputs.push(("input", var(0)));
                op(&inputs);
            }
            Op::Coded(..) => return Err(unsupported(self.graph, node)),
        }
        Ok(())
    }

    /// Codes of a constant as numbers: decoded when the model is compiled, or as it runs.
    fn decoded(&mut self, node: &Node) -> Result<()> {
        let graph = self.graph;
        let mut codes = node.inputs[0];
        if let Source::Node(dequantize) = graph.value(codes).source {
            codes = graph.nodes()[dequantize].inputs[0];
        } else if self.is_read_as_half_only(node.output) {
            return Ok(());
        }
        let (Source::Const(bytes), DType::I8(affine)) =
            (&graph.value(codes).source, &graph.ty(codes).dtype)
        else {
            return Err(unsupported(graph, node));
        };
        let (from, of) = (graph.ty(codes), graph.ty(node.output));
        let float = data_type(&of.dtype);
        let data = Tensor { data_type: DataType::Int8, dims: &from.shape, data: bytes };
        let coding = Coding::new(affine, float);
        let to = self.name(node.output);
        if self.writer.opset() < Opset::Ios18 {
            let axis = (affine.axis.unwrap_or(0) as i32).to_le_bytes();
            let inputs = [
                ("quantized_data", data),
                ("zero_point", Tensor { data_type: DataType::Int8, dims: &[], data: &coding.zero }),
                ("scale", coding.scale()),
                ("axis", Tensor { data_type: DataType::Int32, dims: &[], data: &axis }),
            ];
            self.writer.constexpr("constexpr_affine_dequantize", &to, &inputs, (float, &of.shape))
        } else {
            let mut dims = vec![1; from.shape.len()];
            if let Some(axis) = affine.axis {
                dims[axis] = from.shape[axis];
            }
            let zeros = vec![coding.zero[0]; affine.scales.len()];
            let mut inputs =
                vec![("data", data), ("scale", Tensor { dims: &dims, ..coding.scale() })];
            if affine.zero != 0 {
                inputs.push((
                    "offset",
                    Tensor { data_type: DataType::Int8, dims: &dims, data: &zeros },
                ));
            }
            self.writer.constexpr(BLOCKWISE, &to, &inputs, (float, &of.shape))
        }
        .map_err(io)
    }

    fn is_read_as_half_only(&self, value: ValueId) -> bool {
        let mut readers = self.graph.nodes().iter().filter(|node| node.inputs.contains(&value));
        !self.graph.outputs().contains(&value) && readers.all(|node| is_half(&node.op))
    }

    /// `x w^T + bias`. The operation for it wants constants.
    fn linear(&mut self, node: &Node) {
        let [x, w] = [self.name(node.inputs[0]), self.name(node.inputs[1])];
        let bias = node.inputs.get(2);
        let of = self.graph.ty(node.output);
        let typed = (data_type(&of.dtype), &of.shape[..]);
        let to = self.name(node.output);
        let has_constants = is_constant(self.graph, node.inputs[1])
            && bias.is_none_or(|&bias| self.graph.is_const(bias));
        if has_constants {
            let bias = bias.map(|&bias| self.name(bias));
            let mut inputs = vec![("x", Arg::Var(&x)), ("weight", Arg::Var(&w))];
            inputs.extend(bias.as_ref().map(|bias| ("bias", Arg::Var(bias))));
            return self.writer.op("linear", &to, &inputs, typed);
        }
        let product = if bias.is_some() { self.fresh() } else { to.clone() };
        let flags = [("transpose_x", Arg::Bool(false)), ("transpose_y", Arg::Bool(true))];
        let inputs = [[("x", Arg::Var(&x)), ("y", Arg::Var(&w))], flags].concat();
        self.writer.op("matmul", &product, &inputs, typed);
        if let Some(&bias) = bias {
            self.writer.op(
                "add",
                &to,
                &[("x", Arg::Var(&product)), ("y", Arg::Var(&self.name(bias)))],
                typed,
            );
        }
    }

    fn reshape(&mut self, to: &str, x: &str, data_type: DataType, shape: &[usize]) {
        let inputs = [("x", Arg::Var(x)), ("shape", Arg::Ints(&ints(shape)))];
        self.writer.op("reshape", to, &inputs, (data_type, shape));
    }

    fn name(&self, value: ValueId) -> String {
        self.names[value.index()].clone()
    }

    /// A name for a value that the graph does not have.
    fn fresh(&mut self) -> String {
        self.made += 1;
        format!("t{}", self.made)
    }
}

/// Scales of codes in the type that is computed in, and their zero.
struct Coding {
    float: DataType,
    dims: Vec<usize>,
    scales: Vec<u8>,
    zero: [u8; 1],
    axis: Option<usize>,
}

impl Coding {
    fn new(affine: &Affine, float: DataType) -> Self {
        Self {
            float,
            dims: affine.axis.map(|_| affine.scales.len()).into_iter().collect(),
            scales: floats(float, &affine.scales),
            zero: [affine.zero as u8],
            axis: affine.axis,
        }
    }

    fn scale(&self) -> Tensor<'_> {
        Tensor { data_type: self.float, dims: &self.dims, data: &self.scales }
    }

    /// The parameters of `quantize` and `dequantize`.
    fn args(&self) -> Vec<(&str, Arg<'_>)> {
        let mut args = vec![("scale", Arg::Tensor(self.scale()))];
        if self.zero != [0] {
            let zero = Tensor { data_type: DataType::Int8, dims: &[], data: &self.zero };
            args.push(("zero_point", Arg::Tensor(zero)));
        }
        args.extend(self.axis.map(|axis| ("axis", Arg::Int(axis as i32))));
        args
    }
}

/// What a graph's values are called: what goes in and out by its number, the rest by the value's.
fn names(graph: &Graph, states: &[usize]) -> Vec<String> {
    let mut names: Vec<String> =
        (0..graph.values().len()).map(|value| format!("v{value}")).collect();
    for (number, value) in graph.outputs().iter().enumerate().rev() {
        if matches!(graph.value(*value).source, Source::Node(_)) {
            names[value.index()] = output_name(number);
        }
    }
    for (number, value) in graph.inputs().iter().enumerate() {
        if !states.contains(&number) {
            names[value.index()] = input_name(number);
        }
    }
    names
}

fn ints(sizes: &[usize]) -> Vec<i32> {
    sizes.iter().map(|&size| size as i32).collect()
}

fn data_type(dtype: &DType) -> DataType {
    match dtype {
        DType::F32 => DataType::Float32,
        DType::F16 => DataType::Float16,
        DType::I32 => DataType::Int32,
        DType::Bool => DataType::Bool,
        DType::I8(_) => DataType::Int8,
    }
}

/// A type as `cast` calls it.
fn word(dtype: &DType) -> &'static str {
    match dtype {
        DType::F32 => "fp32",
        DType::F16 => "fp16",
        DType::I32 => "int32",
        DType::Bool => "bool",
        DType::I8(_) => "int8",
    }
}

/// The type of what goes in or out.
fn outside(ty: &Type) -> Result<DataType> {
    match data_type(&ty.dtype) {
        DataType::Bool | DataType::Int8 => Err(refused(ty, "in or out")),
        other => Ok(other),
    }
}

fn refused(ty: &Type, why: &str) -> Error {
    Error::Unsupported { op: "coreml", operands: format!("{ty} {why}") }
}

/// Scales in the type that is computed in.
fn floats(float: DataType, values: &[f32]) -> Vec<u8> {
    match float {
        DataType::Float16 => {
            values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
        }
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

fn io(source: std::io::Error) -> Error {
    Error::Io { path: "weight.bin".into(), source }
}
