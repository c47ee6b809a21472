//! What the documentation of each operation asks of its operands, and what the operation computes.
//!
//! A model becomes a graph of Tenon's, whose shapes are then inferred: an output of another type than
//! declared is an error.

use std::sync::Arc;

use tenon_backends::npu::op::{Affine, Binary, Compare, DType, Op, Reduce, Type, Unary, Window};
use tenon_backends::npu::{Graph, ValueId};

/// Element types, by NNAPI's numbers.
pub const FLOAT32: i32 = 0;
pub const INT32: i32 = 1;
pub const TENSOR_FLOAT32: i32 = 3;
pub const TENSOR_INT32: i32 = 4;
pub const BOOL: i32 = 6;
pub const TENSOR_FLOAT16: i32 = 8;
pub const TENSOR_BOOL8: i32 = 9;
pub const FLOAT16: i32 = 10;
pub const PER_CHANNEL: i32 = 11;
pub const ASYMM_SIGNED: i32 = 14;

/// An operand as the caller described it.
#[derive(Clone, Debug, Default)]
pub struct Operand {
    pub code: i32,
    pub dims: Vec<usize>,
    pub scale: f32,
    pub zero: i32,
    pub channels: Option<(usize, Vec<f32>)>,
    pub value: Option<Vec<u8>>,
    /// Whether an operation makes it.
    pub made: bool,
}

impl Operand {
    pub fn is_scalar(&self) -> bool {
        [FLOAT32, INT32, BOOL, FLOAT16].contains(&self.code)
    }

    /// Bytes of the whole.
    pub fn bytes(&self) -> usize {
        let size = match self.code {
            FLOAT32 | INT32 | TENSOR_FLOAT32 | TENSOR_INT32 => 4,
            TENSOR_FLOAT16 | FLOAT16 => 2,
            _ => 1,
        };
        size * self.dims.iter().product::<usize>()
    }

    /// Its type in a graph.
    pub fn ty(&self) -> Type {
        let dtype = match self.code {
            TENSOR_FLOAT32 => DType::F32,
            TENSOR_FLOAT16 => DType::F16,
            TENSOR_INT32 => DType::I32,
            TENSOR_BOOL8 => DType::Bool,
            PER_CHANNEL => {
                let (axis, scales) = self.channels.clone().unwrap_or_default();
                DType::I8(Affine { scales: scales.into(), zero: 0, axis: Some(axis) })
            }
            _ => DType::I8(Affine { scales: Arc::from([self.scale]), zero: self.zero, axis: None }),
        };
        Type::new(dtype, &self.dims)
    }

    fn ints(&self) -> Result<Vec<usize>, String> {
        let value = self.value.as_ref().ok_or("must be a constant")?;
        let all = value.as_chunks::<4>().0.iter().map(|&b| i32::from_le_bytes(b));
        all.map(|v| usize::try_from(v).map_err(|_| "a negative number".to_owned())).collect()
    }
}

/// An operation as the caller added it.
#[derive(Clone, Debug)]
pub struct Operation {
    pub code: i32,
    pub inputs: Vec<usize>,
    pub output: usize,
}

const FLOATS: &[i32] = &[TENSOR_FLOAT32, TENSOR_FLOAT16];
const NUMBERS: &[i32] = &[TENSOR_FLOAT32, TENSOR_FLOAT16, TENSOR_INT32];
const CODED: &[i32] = &[TENSOR_FLOAT32, TENSOR_FLOAT16, ASYMM_SIGNED];
const MOVED: &[i32] = &[TENSOR_FLOAT32, TENSOR_FLOAT16, TENSOR_INT32, ASYMM_SIGNED];
const MASKS: &[i32] = &[TENSOR_BOOL8];
const CODES: &[i32] = &[ASYMM_SIGNED, PER_CHANNEL];

/// What is asked of an operation before its shapes: number, first level, types of the first operand, and
/// the kinds of the operands after it: `t` a tensor of the first's type, `w` a filter, `b` a bias,
/// `i` an i32 tensor, `m` a tensor of any, `I`, `B`, `F` scalars; after `?` they may be left out.
struct Rule {
    code: i32,
    level: u32,
    types: &'static [i32],
    rest: &'static str,
}

const fn rule(code: i32, level: u32, types: &'static [i32], rest: &'static str) -> Rule {
    Rule { code, level, types, rest }
}

const RULES: &[Rule] = &[
    rule(0, 1, NUMBERS, "tI"),
    rule(1, 1, CODED, "IIIIIIIII"),
    rule(2, 1, CODED, "*I"),
    rule(3, 1, CODED, "wbIIIIIII?BII"),
    rule(4, 1, CODED, "wbIIIIIIII?BII"),
    rule(6, 1, CODES, ""),
    rule(8, 1, FLOATS, ""),
    rule(9, 1, CODED, "wbI"),
    rule(14, 1, CODED, ""),
    rule(18, 1, NUMBERS, "tI"),
    rule(19, 1, CODED, ""),
    rule(22, 1, MOVED, "i"),
    rule(25, 1, CODED, "F?I"),
    rule(28, 1, CODED, ""),
    rule(30, 2, NUMBERS, "tI"),
    rule(31, 2, CODED, "iI"),
    rule(32, 2, CODED, "i"),
    rule(36, 2, NUMBERS, "tI"),
    rule(37, 2, CODED, "i"),
    rule(38, 3, NUMBERS, ""),
    rule(45, 3, MOVED, ""),
    rule(48, 3, MOVED, "t"),
    rule(49, 3, FLOATS, ""),
    rule(51, 3, MOVED, "Ii"),
    rule(53, 3, MOVED, "t"),
    rule(54, 3, MOVED, "t"),
    rule(55, 3, CODED, "wbIIIIIIIIB"),
    rule(58, 3, MOVED, "t"),
    rule(59, 3, MOVED, "t"),
    rule(60, 3, FLOATS, ""),
    rule(65, 3, MOVED, "t"),
    rule(66, 3, MOVED, "t"),
    rule(67, 3, NUMBERS, ""),
    rule(68, 3, MOVED, "t"),
    rule(70, 3, FLOATS, "t"),
    rule(72, 3, FLOATS, ""),
    rule(77, 3, CODED, "iB"),
    rule(80, 3, FLOATS, "iB"),
    rule(83, 3, FLOATS, ""),
    rule(84, 3, MASKS, "mm"),
    rule(85, 3, FLOATS, ""),
    rule(86, 3, MOVED, "ii"),
    rule(88, 3, FLOATS, ""),
    rule(89, 3, MOVED, "i"),
    rule(91, 3, CODED, "wbIIIIIIIB"),
    rule(102, 6, FLOATS, "tBB"),
];

/// Whether the operands fit the operation, at a feature level.
pub fn check(operation: &Operation, operands: &[Operand], level: u32) -> Result<(), String> {
    let of = |i: &usize| operands.get(*i).ok_or_else(|| format!("operand {i} is not there"));
    let inputs: Vec<&Operand> = operation.inputs.iter().map(of).collect::<Result<_, _>>()?;
    let output = of(&operation.output)?;
    let rule = RULES.iter().find(|r| r.code == operation.code).ok_or("an unknown operation")?;
    if level < rule.level {
        return Err(format!("of feature level {}, this is {level}", rule.level));
    }
    let first = *inputs.first().ok_or("no operands")?;
    if !rule.types.contains(&first.code) {
        return Err(format!("the first operand has type {}", first.code));
    }
    if first.code == TENSOR_FLOAT16 && level < 3 || first.code == ASYMM_SIGNED && level < 4 {
        return Err("a type of a later level".into());
    }
    if first.code == TENSOR_INT32 && rule.code == 22 && level < 6 {
        return Err("integers are reshaped from level 6 on".into());
    }
    if first.code == TENSOR_INT32 && [0, 18, 30, 36].contains(&rule.code) && level < 4 {
        return Err("integers of a later level".into());
    }
    let all = inputs.iter().chain([&output]);
    if let Some(deep) = all.into_iter().find(|o| o.dims.len() > 4) {
        return Err(format!("{} axes", deep.dims.len()));
    }
    // What transposed convolutions, filters and the like ask of each.
    let kinds: Vec<char> = match rule.rest.strip_prefix('*') {
        Some(rest) => {
            let same = inputs.len().checked_sub(1 + rest.len()).ok_or("too few operands")?;
            std::iter::repeat_n('t', same).chain(rest.chars()).collect()
        }
        None => rule.rest.chars().filter(|c| *c != '?').collect(),
    };
    let least = 1 + rule.rest.find('?').unwrap_or(kinds.len());
    if !(least..=1 + kinds.len()).contains(&inputs.len()) {
        return Err(format!("{} operands", inputs.len()));
    }
    for (kind, operand) in kinds.iter().zip(&inputs[1..]) {
        let fits = match kind {
            't' => operand.code == first.code,
            'w' if first.code == ASYMM_SIGNED => {
                operand.code == ASYMM_SIGNED || operand.code == PER_CHANNEL && rule.code != 9
            }
            'w' => operand.code == first.code,
            'b' if first.code == ASYMM_SIGNED => operand.code == TENSOR_INT32,
            'b' => operand.code == first.code,
            'i' => operand.code == TENSOR_INT32,
            'm' => operand.code != BOOL && !operand.is_scalar(),
            'I' => operand.code == INT32,
            'B' => operand.code == BOOL,
            'F' => operand.code == if first.code == TENSOR_FLOAT16 { FLOAT16 } else { FLOAT32 },
            _ => false,
        };
        if !fits {
            return Err(format!("an operand of type {} where `{kind}` is asked", operand.code));
        }
        if matches!(kind, 'I' | 'B' | 'F') && operand.value.is_none() {
            return Err("a scalar without a value".into());
        }
    }
    // Scales of biases follow from those of the others.
    if first.code == ASYMM_SIGNED && kinds.get(1) == Some(&'b') {
        let want = if inputs[1].code == PER_CHANNEL { 0.0 } else { first.scale * inputs[1].scale };
        if (inputs[2].scale - want).abs() > 1e-6 * want || inputs[2].zero != 0 {
            return Err(format!("a bias of scale {} instead of {want}", inputs[2].scale));
        }
    }
    Ok(())
}

/// Adds what the operation computes.
pub fn add(
    graph: &mut Graph,
    operation: &Operation,
    operands: &[Operand],
    values: &[Option<ValueId>],
) -> Result<ValueId, String> {
    let operand = |i: usize| &operands[operation.inputs[i]];
    let value = |i: usize| values[operation.inputs[i]].ok_or("an operand that nothing makes");
    let int = |i: usize| operand(i).ints().map(|v| v[0]);
    let flag = |i: usize| operand(i).value.as_ref().is_some_and(|v| v[0] != 0);
    let x = value(0)?;
    let output = &operands[operation.output];
    let simple = |graph: &mut Graph, op: Op, inputs: &[ValueId]| {
        graph.add(op, inputs).map_err(|e| e.to_string())
    };
    let none = |fuse: usize| if fuse == 0 { Ok(()) } else { Err("no fused activations here") };
    let unary = |kind| Op::Unary(kind);
    let op = match operation.code {
        0 | 18 | 30 | 36 => {
            none(int(2)?)?;
            let kind = match operation.code {
                0 => Binary::Add,
                18 => Binary::Mul,
                30 => Binary::Div,
                _ => Binary::Sub,
            };
            return simple(graph, Op::Binary(kind), &[x, value(1)?]);
        }
        65 | 66 | 70 => {
            let kind = match operation.code {
                65 => Binary::Max,
                66 => Binary::Min,
                _ => Binary::Pow,
            };
            return simple(graph, Op::Binary(kind), &[x, value(1)?]);
        }
        48 | 53 | 54 | 58 | 59 | 68 => {
            let kind = match operation.code {
                48 => Compare::Eq,
                53 => Compare::Gt,
                54 => Compare::Ge,
                58 => Compare::Lt,
                59 => Compare::Le,
                _ => Compare::Ne,
            };
            return simple(graph, Op::Compare(kind), &[x, value(1)?]);
        }
        84 => return simple(graph, Op::Select, &[x, value(1)?, value(2)?]),
        102 => {
            let op = Op::MatMul { trans_a: flag(2), trans_b: flag(3) };
            return simple(graph, op, &[x, value(1)?]);
        }
        9 => {
            none(int(3)?)?;
            let op = coded(Op::Linear, operand(0), output);
            return simple(graph, op, &[x, value(1)?, value(2)?]);
        }
        2 => {
            let last = operation.inputs.len() - 1;
            let parts = (0..last).map(value).collect::<Result<Vec<_>, _>>()?;
            return simple(graph, Op::Concat(int(last)?), &parts);
        }
        51 => {
            if int(1)? != 0 {
                return Err("only rows are gathered here".into());
            }
            return simple(graph, Op::Gather, &[x, value(2)?]);
        }
        3 | 4 | 55 => return conv(graph, operation, operands, values),
        91 => return conv_transpose(graph, operation, operands, values),
        1 => {
            let window = window(&[1, 2, 3, 4, 5, 6].map(int), [1, 1], 1)?;
            let kernel = [int(8)?, int(7)?];
            none(int(9)?)?;
            let first = simple(graph, Op::Transpose(vec![0, 3, 1, 2]), &[x])?;
            let pooled = simple(graph, Op::AvgPool { window, kernel }, &[first])?;
            return simple(graph, Op::Transpose(vec![0, 2, 3, 1]), &[pooled]);
        }
        6 => Op::Dequantize,
        72 => Op::Quantize(affine(output)),
        8 => unary(Unary::Floor),
        14 => unary(Unary::Sigmoid),
        19 => unary(Unary::Relu),
        28 => unary(Unary::Tanh),
        38 => unary(Unary::Abs),
        49 => unary(Unary::Exp),
        60 => unary(Unary::Log),
        67 => unary(Unary::Neg),
        83 => unary(Unary::Rsqrt),
        85 => unary(Unary::Sin),
        88 => unary(Unary::Sqrt),
        45 => {
            if output.code == TENSOR_BOOL8 {
                return Err("truth values are not cast".into());
            }
            Op::Cast(output.ty().dtype)
        }
        22 => Op::Reshape(operand(1).ints()?),
        37 => Op::Transpose(operand(1).ints()?),
        89 => Op::Tile(operand(1).ints()?),
        86 => Op::Slice { begin: operand(1).ints()?, size: operand(2).ints()? },
        32 => {
            if operand(1).dims != [operand(0).dims.len(), 2] {
                return Err("paddings must be [rank, 2]".into());
            }
            Op::Pad(operand(1).ints()?.as_chunks::<2>().0.to_vec())
        }
        25 => Op::Softmax,
        31 | 77 | 80 => {
            let keeps = if operation.code == 31 { int(2)? > 0 } else { flag(2) };
            if !keeps {
                return Err("axes are kept here".into());
            }
            let kind = match operation.code {
                31 => Reduce::Mean,
                77 => Reduce::Max,
                _ => Reduce::Sum,
            };
            Op::Reduce { kind, axes: operand(1).ints()? }
        }
        code => return Err(format!("operation {code} is not computed here")),
    };
    simple(graph, op, &[x])
}

fn affine(operand: &Operand) -> Affine {
    Affine { scales: Arc::from([operand.scale]), zero: operand.zero, axis: None }
}

fn coded(op: Op, first: &Operand, output: &Operand) -> Op {
    if first.code == ASYMM_SIGNED { Op::Coded(Box::new(op), affine(output)) } else { op }
}

/// Of left, right, top, bottom, and strides of columns and rows.
fn window(
    given: &[Result<usize, String>; 6],
    dilation: [usize; 2],
    groups: usize,
) -> Result<Window, String> {
    let mut all = [0; 6];
    for (to, from) in all.iter_mut().zip(given) {
        *to = from.clone()?;
    }
    let [left, right, top, bottom, columns, rows] = all;
    if rows == 0 || columns == 0 {
        return Err("strides begin at 1".into());
    }
    Ok(Window { stride: [rows, columns], dilation, pad: [[top, bottom], [left, right]], groups })
}

fn turned(graph: &mut Graph, value: ValueId, perm: [usize; 4]) -> Result<ValueId, String> {
    graph.add(Op::Transpose(perm.to_vec()), &[value]).map_err(|e| e.to_string())
}

fn conv(
    graph: &mut Graph,
    operation: &Operation,
    operands: &[Operand],
    values: &[Option<ValueId>],
) -> Result<ValueId, String> {
    let operand = |i: usize| &operands[operation.inputs[i]];
    let value = |i: usize| values[operation.inputs[i]].ok_or("an operand that nothing makes");
    let int = |i: usize| operand(i).ints().map(|v| v[0]);
    let flag = |i: usize| operand(i).value.as_ref().is_some_and(|v| v[0] != 0);
    if operand(0).dims.len() != 4 || operand(1).dims.len() != 4 {
        return Err("images and filters have 4 axes".into());
    }
    let channels = operand(0).dims[3];
    let extra = usize::from(operation.code != 3);
    let fuse = 9 + extra;
    let groups = match operation.code {
        3 => 1,
        4 => channels,
        _ => int(9)?,
    };
    if operation.code == 4 && operand(1).dims[0] != 1 {
        return Err("a depthwise filter is [1, rows, cols, channels]".into());
    }
    if operation.code == 4 && operand(1).dims[3] != channels * int(9)? {
        return Err("the multiplier is another".into());
    }
    if int(fuse)? != 0 {
        return Err("no fused activations here".into());
    }
    let mut dilation = [1, 1];
    if operation.inputs.len() > fuse + 1 {
        if flag(fuse + 1) {
            return Err("channels come last here".into());
        }
        if operation.inputs.len() > fuse + 3 {
            dilation = [int(fuse + 3)?, int(fuse + 2)?];
        }
    }
    let window = window(&[3, 4, 5, 6, 7, 8].map(int), dilation, groups)?;
    // Scales of channels are those of the axis of outputs.
    if let Some((axis, _)) = &operand(1).channels
        && *axis != if operation.code == 4 { 3 } else { 0 }
    {
        return Err("scales of another axis".into());
    }
    let image = turned(graph, value(0)?, [0, 3, 1, 2])?;
    let to_first = if operation.code == 4 { [3, 0, 1, 2] } else { [0, 3, 1, 2] };
    let filter = turned(graph, value(1)?, to_first)?;
    let op = coded(Op::Conv(window), operand(0), &operands[operation.output]);
    let y = graph.add(op, &[image, filter, value(2)?]).map_err(|e| e.to_string())?;
    turned(graph, y, [0, 2, 3, 1])
}

fn conv_transpose(
    graph: &mut Graph,
    operation: &Operation,
    operands: &[Operand],
    values: &[Option<ValueId>],
) -> Result<ValueId, String> {
    let operand = |i: usize| &operands[operation.inputs[i]];
    let value = |i: usize| values[operation.inputs[i]].ok_or("an operand that nothing makes");
    let int = |i: usize| operand(i).ints().map(|v| v[0]);
    if operation.inputs.len() != 11 || operand(0).dims.len() != 4 {
        return Err("takes 11 operands, the image of 4 axes".into());
    }
    if int(9)? != 0 || operand(10).value.as_ref().is_none_or(|v| v[0] != 0) {
        return Err("no fused activations here, and channels last".into());
    }
    let window = window(&[3, 4, 5, 6, 7, 8].map(int), [1, 1], 1)?;
    let (image, filter) = (&operand(0).dims, &operand(1).dims);
    let size = |axis: usize| {
        let [before, after] = window.pad[axis];
        let full = (image[1 + axis] - 1) * window.stride[axis] + filter[1 + axis];
        full.checked_sub(before + after).ok_or("more padding than there is")
    };
    let op = Op::ConvTranspose { window, size: [size(0)?, size(1)?] };
    let x = turned(graph, value(0)?, [0, 3, 1, 2])?;
    let w = turned(graph, value(1)?, [3, 0, 1, 2])?;
    let y = graph.add(op, &[x, w]).map_err(|e| e.to_string())?;
    let y = turned(graph, y, [0, 2, 3, 1])?;
    graph.add(Op::Binary(Binary::Add), &[y, value(2)?]).map_err(|e| e.to_string())
}
