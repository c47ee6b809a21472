//! The operations of a bridge's graph, and the types that they give.
//!
//! They are those that accelerators have had for years: few, without gradients of their own.
//! Everything has a rank of at least 1; a scalar is `[1]`.

use std::sync::Arc;

/// How codes of 8 bits stand for numbers: `(code - zero) * scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    /// The scale of the tensor, or of each index of `axis`.
    pub scales: Arc<[f32]>,
    /// The code of 0; 0 where there is an `axis`.
    pub zero: i32,
    /// The axis that has a scale for each index.
    pub axis: Option<usize>,
}

/// The type of elements.
#[derive(Clone, Debug, PartialEq)]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// Signed 32-bit integers.
    I32,
    /// Truth values, a byte each.
    Bool,
    /// Signed bytes that stand for numbers.
    I8(Affine),
}

impl DType {
    /// Bytes of an element.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F16 => 2,
            Self::Bool | Self::I8(_) => 1,
        }
    }

    /// Whether it is a floating-point type.
    #[must_use]
    pub fn is_float(&self) -> bool {
        matches!(self, Self::F32 | Self::F16)
    }

    /// The name in dumps.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I32 => "i32",
            Self::Bool => "bool",
            Self::I8(_) => "i8",
        }
    }
}

/// The type of a value: its elements and its shape, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first; none is 0.
    pub shape: Vec<usize>,
}

impl Type {
    /// A type.
    #[must_use]
    pub fn new(dtype: DType, shape: &[usize]) -> Self {
        Self { dtype, shape: shape.to_vec() }
    }

    /// f32 of a shape.
    #[must_use]
    pub fn f32(shape: &[usize]) -> Self {
        Self::new(DType::F32, shape)
    }

    /// Elements.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.numel() * self.dtype.bytes()
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.dtype.name(), self.shape)
    }
}

/// Functions of one float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Unary {
    Neg,
    Abs,
    Sqrt,
    Rsqrt,
    Exp,
    Log,
    Sin,
    Tanh,
    Sigmoid,
    Relu,
    Floor,
    Erf,
}

/// Functions of two numbers, with broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Max,
    Min,
}

/// Comparisons of two numbers, with broadcasting; they give truth values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Compare {
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
}

/// Reductions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Reduce {
    Sum,
    Mean,
    Max,
}

/// How a window moves over rows and columns of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Steps from one position to the next.
    pub stride: [usize; 2],
    /// Steps from one tap to the next.
    pub dilation: [usize; 2],
    /// Zeros before and after, of rows and of columns.
    pub pad: [[usize; 2]; 2],
    /// Independent slices of the channels.
    pub groups: usize,
}

impl Window {
    /// Positions of a window of `kernel` taps along an axis of `input`.
    #[must_use]
    pub fn positions(&self, axis: usize, input: usize, kernel: usize) -> Option<usize> {
        let padded = input + self.pad[axis][0] + self.pad[axis][1];
        let extent = kernel.checked_sub(1)? * self.dilation[axis] + 1;
        Some(padded.checked_sub(extent)?.checked_div(self.stride[axis])? + 1)
    }
}

/// What a node computes. Operands are in the order in which they are named.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `f(x)`.
    Unary(Unary),
    /// `f(x, y)`.
    Binary(Binary),
    /// `x ? y`.
    Compare(Compare),
    /// `x` where `mask` holds, else `y`: `mask, x, y`, all of one shape.
    Select,
    /// Numbers in another type; truth values cannot be cast.
    Cast(DType),
    /// `x w^T + bias`: `x` [m, k], `w` [n, k], perhaps `bias` [n].
    Linear,
    /// Products of matrices: `a` [b, m, k] and `b` [b, k, n], each perhaps transposed.
    MatMul {
        /// Whether `a` is stored [b, k, m].
        trans_a: bool,
        /// Whether `b` is stored [b, n, k].
        trans_b: bool,
    },
    /// Along sorted axes, which stay with size 1.
    Reduce {
        /// Which one.
        kind: Reduce,
        /// The axes.
        axes: Vec<usize>,
    },
    /// Softmax along the last axis.
    Softmax,
    /// The same elements in another shape.
    Reshape(Vec<usize>),
    /// Axis `i` of the result is axis `perm[i]` of `x`.
    Transpose(Vec<usize>),
    /// A box of `x`.
    Slice {
        /// Its first corner.
        begin: Vec<usize>,
        /// Its sizes.
        size: Vec<usize>,
    },
    /// All operands one after the other along an axis.
    Concat(usize),
    /// Zeros around `x`: how many before and after, by axis.
    Pad(Vec<[usize; 2]>),
    /// `x` repeated so many times, by axis.
    Tile(Vec<usize>),
    /// Rows of `table` (its first axis) by the numbers in `ids` (i32, one axis): `table, ids`.
    Gather,
    /// `x` [b, c, h, w], `w` [o, c / groups, kh, kw], perhaps `bias` [o].
    Conv(Window),
    /// What [`Op::Conv`] of that window made of it, turned back: `x` [b, o, oh, ow] and the same `w`
    /// give [b, c, h, w].
    ConvTranspose {
        /// The window of the convolution.
        window: Window,
        /// Rows and columns of the result.
        size: [usize; 2],
    },
    /// Means over the cells of each window that lie inside `x` [b, c, h, w].
    AvgPool {
        /// The window.
        window: Window,
        /// Its taps.
        kernel: [usize; 2],
    },
    /// Codes of numbers.
    Quantize(Affine),
    /// Numbers of codes, f32.
    Dequantize,
    /// As [`Op::Linear`] and [`Op::Conv`] on codes: `x`, `w` and perhaps `bias` (i32, of scale
    /// `x.scale * w.scale`) give codes.
    Coded(Box<Op>, Affine),
}

impl Op {
    /// The name in dumps and in the [table](super::table).
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unary(kind) => match kind {
                Unary::Neg => "neg",
                Unary::Abs => "abs",
                Unary::Sqrt => "sqrt",
                Unary::Rsqrt => "rsqrt",
                Unary::Exp => "exp",
                Unary::Log => "log",
                Unary::Sin => "sin",
                Unary::Tanh => "tanh",
                Unary::Sigmoid => "sigmoid",
                Unary::Relu => "relu",
                Unary::Floor => "floor",
                Unary::Erf => "erf",
            },
            Self::Binary(kind) => match kind {
                Binary::Add => "add",
                Binary::Sub => "sub",
                Binary::Mul => "mul",
                Binary::Div => "div",
                Binary::Pow => "pow",
                Binary::Max => "max",
                Binary::Min => "min",
            },
            Self::Compare(kind) => match kind {
                Compare::Lt => "lt",
                Compare::Le => "le",
                Compare::Gt => "gt",
                Compare::Ge => "ge",
                Compare::Eq => "eq",
                Compare::Ne => "ne",
            },
            Self::Reduce { kind, .. } => match kind {
                Reduce::Sum => "reduce_sum",
                Reduce::Mean => "reduce_mean",
                Reduce::Max => "reduce_max",
            },
            Self::Select => "select",
            Self::Cast(_) => "cast",
            Self::Linear => "linear",
            Self::MatMul { .. } => "matmul",
            Self::Softmax => "softmax",
            Self::Reshape(_) => "reshape",
            Self::Transpose(_) => "transpose",
            Self::Slice { .. } => "slice",
            Self::Concat(_) => "concat",
            Self::Pad(_) => "pad",
            Self::Tile(_) => "tile",
            Self::Gather => "gather",
            Self::Conv(_) => "conv",
            Self::ConvTranspose { .. } => "conv_transpose",
            Self::AvgPool { .. } => "avg_pool",
            Self::Quantize(_) => "quantize",
            Self::Dequantize => "dequantize",
            Self::Coded(op, _) => match **op {
                Self::Linear => "coded_linear",
                _ => "coded_conv",
            },
        }
    }

    /// The type that it gives for operands of these types, or what is wrong with them.
    ///
    /// # Errors
    /// In words.
    pub fn infer(&self, x: &[&Type]) -> Result<Type, String> {
        self.arity(x.len())?;
        let same = |shape: &[usize]| Type::new(x[0].dtype.clone(), shape);
        let first = &x[0].shape;
        match self {
            Self::Unary(_) => floats(x).map(|()| same(first)),
            Self::Binary(_) => numbers(x).and_then(|()| Ok(same(&broadcast(first, &x[1].shape)?))),
            Self::Compare(_) => {
                numbers(x)?;
                Ok(Type::new(DType::Bool, &broadcast(first, &x[1].shape)?))
            }
            Self::Select => {
                need(x[0].dtype == DType::Bool, "the mask must be of truth values")?;
                need(x[1] == x[2] && x[1].shape == *first, "all must have one shape")?;
                Ok(x[1].clone())
            }
            Self::Cast(to) => {
                let plain = |t: &DType| t.is_float() || *t == DType::I32;
                need(plain(&x[0].dtype) && plain(to), "only numbers can be cast")?;
                Ok(Type::new(to.clone(), first))
            }
            Self::Linear => {
                floats(x)?;
                let shape = linear(x)?;
                need(x.get(2).is_none_or(|b| b.dtype == x[0].dtype), "bias of another type")?;
                Ok(same(&shape))
            }
            Self::MatMul { trans_a, trans_b } => {
                floats(x)?;
                let [&[a, p, q], &[b, r, s]] = [&first[..], &x[1].shape[..]] else {
                    return Err("both must have 3 axes".to_owned());
                };
                let (m, k) = if *trans_a { (q, p) } else { (p, q) };
                let (inner, n) = if *trans_b { (s, r) } else { (r, s) };
                need(a == b && k == inner, "the sizes do not meet")?;
                Ok(same(&[a, m, n]))
            }
            Self::Reduce { axes, .. } => {
                floats(x)?;
                need(axes.is_sorted_by(|a, b| a < b), "axes must be sorted")?;
                need(axes.iter().all(|&a| a < first.len()), "no such axis")?;
                let size = |(i, &n): (usize, &usize)| if axes.contains(&i) { 1 } else { n };
                Ok(same(&first.iter().enumerate().map(size).collect::<Vec<_>>()))
            }
            Self::Softmax => floats(x).map(|()| same(first)),
            Self::Reshape(shape) => {
                let fits = !shape.is_empty() && shape.iter().product::<usize>() == x[0].numel();
                need(fits, "the number of elements differs").map(|()| same(shape))
            }
            Self::Transpose(perm) => {
                let mut sorted = perm.clone();
                sorted.sort_unstable();
                need(sorted.iter().copied().eq(0..first.len()), "no permutation of the axes")?;
                let mut turned = same(&perm.iter().map(|&i| first[i]).collect::<Vec<_>>());
                if let DType::I8(Affine { axis: Some(axis), .. }) = &mut turned.dtype {
                    *axis = perm.iter().position(|p| p == axis).unwrap_or(0);
                }
                Ok(turned)
            }
            Self::Slice { begin, size } => {
                let ranks = begin.len() == first.len() && size.len() == first.len();
                let inside = |i: usize| size[i] > 0 && begin[i] + size[i] <= first[i];
                need(ranks && (0..first.len()).all(inside), "the box leaves the operand")?;
                Ok(same(size))
            }
            Self::Concat(axis) => concat(x, *axis),
            Self::Pad(pads) => {
                floats(x)?;
                need(pads.len() == first.len(), "one pair for each axis")?;
                let sizes = first.iter().zip(pads).map(|(n, [before, after])| n + before + after);
                Ok(same(&sizes.collect::<Vec<_>>()))
            }
            Self::Tile(times) => {
                need(times.len() == first.len() && !times.contains(&0), "one count for each axis")?;
                Ok(same(&first.iter().zip(times).map(|(n, t)| n * t).collect::<Vec<_>>()))
            }
            Self::Gather => {
                let ids = x[1].dtype == DType::I32 && x[1].shape.len() == 1;
                need(ids, "the numbers must be i32 of one axis")?;
                let mut shape = first.clone();
                shape[0] = x[1].shape[0];
                Ok(same(&shape))
            }
            Self::Conv(window) => {
                floats(x)?;
                need(x.get(2).is_none_or(|b| b.dtype == x[0].dtype), "bias of another type")?;
                Ok(same(&conv(x, window)?))
            }
            Self::ConvTranspose { window, size } => {
                floats(x)?;
                let [&[b, o, oh, ow], &[wo, wc, kh, kw]] = [&first[..], &x[1].shape[..]] else {
                    return Err("both must have 4 axes".to_owned());
                };
                need(o == wo && o % window.groups == 0, "the channels do not meet")?;
                let there = [(0, size[0], kh, oh), (1, size[1], kw, ow)];
                let fits = |&(axis, n, k, out): &_| window.positions(axis, n, k) == Some(out);
                need(there.iter().all(fits), "no convolution of that window makes this shape")?;
                Ok(same(&[b, wc * window.groups, size[0], size[1]]))
            }
            Self::AvgPool { window, kernel } => {
                floats(x)?;
                let &[b, c, h, w] = &first[..] else { return Err("needs 4 axes".to_owned()) };
                let rows = window.positions(0, h, kernel[0]).ok_or("the window does not fit")?;
                let cols = window.positions(1, w, kernel[1]).ok_or("the window does not fit")?;
                Ok(same(&[b, c, rows, cols]))
            }
            Self::Quantize(affine) => {
                floats(x)?;
                need(affine.axis.is_none() && affine.scales.len() == 1, "one scale")?;
                Ok(Type::new(DType::I8(affine.clone()), first))
            }
            Self::Dequantize => {
                need(matches!(x[0].dtype, DType::I8(_)), "must be codes")?;
                Ok(Type::f32(first))
            }
            Self::Coded(op, affine) => {
                let codes = |t: &&Type| matches!(t.dtype, DType::I8(_));
                need(x[..2].iter().all(codes), "operands must be codes")?;
                need(x.get(2).is_none_or(|b| b.dtype == DType::I32), "the bias must be i32")?;
                let shape = match &**op {
                    Self::Conv(window) => conv(x, window)?,
                    Self::Linear => linear(x)?,
                    _ => return Err("only linear and conv".to_owned()),
                };
                Ok(Type::new(DType::I8(affine.clone()), &shape))
            }
        }
    }

    fn arity(&self, given: usize) -> Result<(), String> {
        let range = match self {
            Self::Linear | Self::Conv(_) | Self::Coded(..) => 2..=3,
            Self::Select => 3..=3,
            Self::Concat(_) => 1..=usize::MAX,
            Self::Binary(_)
            | Self::Compare(_)
            | Self::MatMul { .. }
            | Self::Gather
            | Self::ConvTranspose { .. } => 2..=2,
            _ => 1..=1,
        };
        need(range.contains(&given), "another number of operands")
    }
}

fn need(holds: bool, why: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why.to_owned()) }
}

/// Of one floating-point type; a third operand is looked at by the caller.
fn floats(x: &[&Type]) -> Result<(), String> {
    let one = x.iter().take(2).all(|t| t.dtype == x[0].dtype);
    need(x[0].dtype.is_float() && one, "must be floats of one type")
}

fn numbers(x: &[&Type]) -> Result<(), String> {
    let plain = x[0].dtype.is_float() || x[0].dtype == DType::I32;
    need(plain && x[0].dtype == x[1].dtype, "must be numbers of one type")
}

/// The shape that two broadcast to, by NumPy's rule.
///
/// # Errors
/// In words, where they do not.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    let meet = |i| match (at(a, i), at(b, i)) {
        (x, y) if x == y || y == 1 => Ok(x),
        (1, y) => Ok(y),
        _ => Err(format!("{a:?} and {b:?} do not broadcast")),
    };
    (0..rank).map(meet).collect()
}

fn concat(x: &[&Type], axis: usize) -> Result<Type, String> {
    let mut shape = x[0].shape.clone();
    need(axis < shape.len(), "no such axis")?;
    for other in &x[1..] {
        let meets = |(i, (a, b)): (usize, (&usize, &usize))| i == axis || a == b;
        let alike = other.dtype == x[0].dtype && other.shape.len() == shape.len();
        need(alike && shape.iter().zip(&other.shape).enumerate().all(meets), "shapes do not meet")?;
        shape[axis] += other.shape[axis];
    }
    Ok(Type::new(x[0].dtype.clone(), &shape))
}

fn linear(x: &[&Type]) -> Result<Vec<usize>, String> {
    let [&[m, k], &[n, inner]] = [&x[0].shape[..], &x[1].shape[..]] else {
        return Err("both must have 2 axes".to_owned());
    };
    need(k == inner, "the sizes do not meet")?;
    need(x.get(2).is_none_or(|b| b.shape == [n]), "a bias for each column")?;
    Ok(vec![m, n])
}

fn conv(x: &[&Type], window: &Window) -> Result<Vec<usize>, String> {
    let [&[b, c, h, w], &[o, wc, kh, kw]] = [&x[0].shape[..], &x[1].shape[..]] else {
        return Err("both must have 4 axes".to_owned());
    };
    let groups = window.groups;
    need(groups > 0 && c == wc * groups && o % groups == 0, "the channels do not meet")?;
    need(x.get(2).is_none_or(|b| b.shape == [o]), "a bias for each channel")?;
    let rows = window.positions(0, h, kh).ok_or("the window does not fit")?;
    let cols = window.positions(1, w, kw).ok_or("the window does not fit")?;
    Ok(vec![b, o, rows, cols])
}
