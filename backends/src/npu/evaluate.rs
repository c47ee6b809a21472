//! A graph computed by simple loops: the judge of lowerings on any machine, and what the stand-ins for
//! accelerators compute with. Sums are made in f64; results in half precision are rounded to it.

use half::f16;
use tenon_runtime::{Error, Result};

use super::graph::{Graph, Source, ValueId};
use super::op::{Affine, Binary, Compare, DType, Op, Reduce, Type, Unary, Window};

/// Elements of a value: floats as f32, all else as integers.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Elements {
    Floats(Vec<f32>),
    Integers(Vec<i32>),
}

/// A value with its elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its type.
    pub ty: Type,
    /// Its elements, row-major.
    pub elements: Elements,
}

impl Array {
    /// The value of these bytes.
    ///
    /// # Errors
    /// [`Error::Graph`] where their number is not the type's.
    pub fn from_bytes(ty: &Type, bytes: &[u8]) -> Result<Self> {
        if bytes.len() != ty.bytes() {
            return Err(Error::Graph(format!("{} bytes for {ty}", bytes.len())));
        }
        let elements = match ty.dtype {
            DType::F32 => {
                let words = bytes.as_chunks::<4>().0.iter();
                Elements::Floats(words.map(|&b| f32::from_le_bytes(b)).collect())
            }
            DType::F16 => {
                let words = bytes.as_chunks::<2>().0.iter();
                Elements::Floats(words.map(|&b| f16::from_le_bytes(b).to_f32()).collect())
            }
            DType::I32 => {
                let words = bytes.as_chunks::<4>().0.iter();
                Elements::Integers(words.map(|&b| i32::from_le_bytes(b)).collect())
            }
            DType::Bool => Elements::Integers(bytes.iter().map(|&b| i32::from(b != 0)).collect()),
            DType::I8(_) => {
                Elements::Integers(bytes.iter().map(|&b| i32::from(b.cast_signed())).collect())
            }
        };
        Ok(Self { ty: ty.clone(), elements })
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match (&self.elements, &self.ty.dtype) {
            (Elements::Floats(x), DType::F16) => {
                x.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
            }
            (Elements::Floats(x), _) => x.iter().flat_map(|v| v.to_le_bytes()).collect(),
            (Elements::Integers(x), DType::I32) => x.iter().flat_map(|v| v.to_le_bytes()).collect(),
            (Elements::Integers(x), _) => x.iter().map(|&v| (v as i8).cast_unsigned()).collect(),
        }
    }

    fn floats(&self) -> &[f32] {
        match &self.elements {
            Elements::Floats(x) => x,
            Elements::Integers(_) => &[],
        }
    }

    fn integers(&self) -> &[i32] {
        match &self.elements {
            Elements::Integers(x) => x,
            Elements::Floats(_) => &[],
        }
    }

    /// What codes stand for.
    fn decoded(&self) -> Vec<f32> {
        let DType::I8(affine) = &self.ty.dtype else { return self.floats().to_vec() };
        let inner: usize = affine.axis.map_or(1, |axis| self.ty.shape[axis + 1..].iter().product());
        let scale = |i: usize| match affine.axis {
            Some(axis) => affine.scales[i / inner % self.ty.shape[axis]],
            None => affine.scales[0],
        };
        let codes = self.integers().iter().enumerate();
        codes.map(|(i, &code)| (code - affine.zero) as f32 * scale(i)).collect()
    }
}

/// The outputs of a graph for inputs.
///
/// # Errors
/// [`Error::Graph`] for a graph that breaks its rules, or inputs of other sizes.
pub fn evaluate(graph: &Graph, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
    graph.verify()?;
    let mut values: Vec<Option<Array>> = vec![None; graph.values().len()];
    for (i, value) in graph.values().iter().enumerate() {
        values[i] = match &value.source {
            Source::Input(n) => {
                let bytes = inputs.get(*n).ok_or_else(|| Error::Graph("an input lacks".into()))?;
                Some(Array::from_bytes(&value.ty, bytes)?)
            }
            Source::Const(bytes) => Some(Array::from_bytes(&value.ty, bytes)?),
            Source::Node(_) => None,
        };
    }
    for node in graph.nodes() {
        let operands: Option<Vec<&Array>> =
            node.inputs.iter().map(|v| values[v.index()].as_ref()).collect();
        let operands = operands.ok_or_else(|| Error::Graph("a value lacks".into()))?;
        let made = apply(&node.op, &operands)?;
        values[node.output.index()] = Some(made);
    }
    let bytes = |v: &ValueId| values[v.index()].as_ref().map(Array::to_bytes);
    let outputs: Option<Vec<Vec<u8>>> = graph.outputs().iter().map(bytes).collect();
    outputs.ok_or_else(|| Error::Graph("an output lacks".into()))
}

/// Adds a node to a graph, or, where its operands are constants, what it makes of them.
///
/// # Errors
/// As [`apply`] and [`Graph::add`].
pub fn computed(graph: &mut Graph, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
    let mut known = Vec::new();
    for &input in inputs {
        match &graph.value(input).source {
            Source::Const(bytes) => known.push(Array::from_bytes(graph.ty(input), bytes)?),
            _ => return graph.add(op, inputs),
        }
    }
    let made = apply(&op, &known.iter().collect::<Vec<_>>())?;
    graph.constant(made.ty.clone(), made.to_bytes())
}

/// What an operation makes of operands.
///
/// # Errors
/// [`Error::Graph`] for operands that it cannot take.
pub fn apply(op: &Op, x: &[&Array]) -> Result<Array> {
    let types: Vec<&Type> = x.iter().map(|a| &a.ty).collect();
    let ty = op.infer(&types).map_err(|why| Error::Graph(format!("{}: {why}", op.name())))?;
    let floats = |i: usize| x[i].floats();
    let elements = match op {
        Op::Unary(kind) => Elements::Floats(floats(0).iter().map(|&v| unary(*kind, v)).collect()),
        Op::Binary(kind) => {
            let [a, b] = broadcast(x, &ty.shape);
            let pairs = a.iter().zip(&b);
            match (&x[0].elements, &x[1].elements) {
                (Elements::Integers(p), Elements::Integers(q)) => {
                    Elements::Integers(pairs.map(|(&i, &j)| integer(*kind, p[i], q[j])).collect())
                }
                _ => {
                    let (p, q) = (floats(0), floats(1));
                    Elements::Floats(pairs.map(|(&i, &j)| binary(*kind, p[i], q[j])).collect())
                }
            }
        }
        Op::Compare(kind) => {
            let [a, b] = broadcast(x, &ty.shape);
            let pairs = a.iter().zip(&b);
            let holds = match (&x[0].elements, &x[1].elements) {
                (Elements::Integers(p), Elements::Integers(q)) => {
                    pairs.map(|(&i, &j)| i32::from(compare(*kind, &p[i], &q[j]))).collect()
                }
                _ => {
                    let (p, q) = (floats(0), floats(1));
                    pairs.map(|(&i, &j)| i32::from(compare(*kind, &p[i], &q[j]))).collect()
                }
            };
            Elements::Integers(holds)
        }
        Op::Select => {
            let from = |i: usize| if x[0].integers()[i] != 0 { x[1] } else { x[2] };
            let picked: Vec<(usize, &Array)> = (0..ty.numel()).map(|i| (i, from(i))).collect();
            take(&picked)
        }
        Op::Cast(to) => match (&x[0].elements, to.is_float()) {
            (Elements::Floats(v), true) => Elements::Floats(v.clone()),
            (Elements::Floats(v), false) => {
                Elements::Integers(v.iter().map(|&v| v as i32).collect())
            }
            (Elements::Integers(v), true) => {
                Elements::Floats(v.iter().map(|&v| v as f32).collect())
            }
            (Elements::Integers(v), false) => Elements::Integers(v.clone()),
        },
        Op::Linear => {
            Elements::Floats(linear(x, floats(0), floats(1), x.get(2).map(|b| b.floats())))
        }
        Op::MatMul { trans_a, trans_b } => Elements::Floats(matmul(x, *trans_a, *trans_b, &ty)),
        Op::Reduce { kind, axes } => Elements::Floats(reduce(*kind, axes, x[0], &ty)),
        Op::Softmax => Elements::Floats(softmax(floats(0), ty.shape[ty.shape.len() - 1])),
        Op::Reshape(_) => x[0].elements.clone(),
        Op::Gather => {
            let row = x[0].ty.numel() / x[0].ty.shape[0];
            let ids = x[1].integers();
            if ids.iter().any(|&id| usize::try_from(id).map_or(true, |id| id >= x[0].ty.shape[0])) {
                return Err(Error::Graph("gather: a number outside the table".into()));
            }
            let all = ids.iter().flat_map(|&id| (0..row).map(move |i| id as usize * row + i));
            take(&all.map(|i| (i, x[0])).collect::<Vec<_>>())
        }
        Op::Transpose(perm) => {
            let (own, from) = (strides(&x[0].ty.shape), &ty.shape);
            let at = |i: &[usize]| perm.iter().zip(i).map(|(&p, i)| own[p] * i).sum();
            take(&indices(from).map(|i| (at(&i), x[0])).collect::<Vec<_>>())
        }
        Op::Slice { begin, .. } => {
            let own = strides(&x[0].ty.shape);
            let at = |i: &[usize]| (0..i.len()).map(|a| own[a] * (begin[a] + i[a])).sum();
            take(&indices(&ty.shape).map(|i| (at(&i), x[0])).collect::<Vec<_>>())
        }
        Op::Tile(_) => {
            let (own, shape) = (strides(&x[0].ty.shape), &x[0].ty.shape);
            let at = |i: &[usize]| (0..i.len()).map(|a| own[a] * (i[a] % shape[a])).sum();
            take(&indices(&ty.shape).map(|i| (at(&i), x[0])).collect::<Vec<_>>())
        }
        Op::Concat(axis) => {
            let outer: usize = ty.shape[..*axis].iter().product();
            let mut all = Vec::with_capacity(ty.numel());
            for o in 0..outer {
                for part in x {
                    let chunk = part.ty.numel() / outer;
                    all.extend((o * chunk..(o + 1) * chunk).map(|i| (i, *part)));
                }
            }
            take(&all)
        }
        Op::Pad(pads) => {
            let (own, mut y) = (strides(&ty.shape), vec![0.0; ty.numel()]);
            for (i, v) in indices(&x[0].ty.shape).zip(floats(0)) {
                y[(0..i.len()).map(|a| own[a] * (i[a] + pads[a][0])).sum::<usize>()] = *v;
            }
            Elements::Floats(y)
        }
        Op::Conv(window) => Elements::Floats(conv(
            x,
            floats(0),
            floats(1),
            x.get(2).map(|b| b.floats()),
            window,
            &ty,
        )),
        Op::ConvTranspose { window, .. } => Elements::Floats(conv_transpose(x, window, &ty)),
        Op::AvgPool { window, kernel } => Elements::Floats(avg_pool(x[0], window, *kernel, &ty)),
        Op::Quantize(affine) => Elements::Integers(encode(floats(0), affine)),
        Op::Dequantize => Elements::Floats(x[0].decoded()),
        Op::Coded(op, affine) => {
            let (a, w) = (x[0].decoded(), x[1].decoded());
            let bias = x.get(2).map(|bias| coded_bias(x, bias));
            let y = match &**op {
                Op::Conv(window) => conv(x, &a, &w, bias.as_deref(), window, &ty),
                _ => linear(x, &a, &w, bias.as_deref()),
            };
            Elements::Integers(encode(&y, affine))
        }
    };
    Ok(Array { elements: rounded(elements, &ty.dtype), ty })
}

/// A bias in codes of the operands' scales.
fn coded_bias(x: &[&Array], bias: &Array) -> Vec<f32> {
    let scale = |a: &Array, i: usize| match &a.ty.dtype {
        DType::I8(affine) => affine.scales[if affine.axis.is_some() { i } else { 0 }],
        _ => 1.0,
    };
    let codes = bias.integers().iter().enumerate();
    codes.map(|(i, &c)| c as f32 * scale(x[0], 0) * scale(x[1], i)).collect()
}

fn rounded(elements: Elements, dtype: &DType) -> Elements {
    match (elements, dtype) {
        (Elements::Floats(x), DType::F16) => {
            Elements::Floats(x.iter().map(|&v| f16::from_f32(v).to_f32()).collect())
        }
        (other, _) => other,
    }
}

fn encode(x: &[f32], affine: &Affine) -> Vec<i32> {
    let code =
        |v: f32| ((v / affine.scales[0]).round_ties_even() as i32).saturating_add(affine.zero);
    x.iter().map(|&v| code(v).clamp(-128, 127)).collect()
}

fn unary(kind: Unary, x: f32) -> f32 {
    let wide = f64::from(x);
    match kind {
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => (1.0 / wide.sqrt()) as f32,
        Unary::Exp => wide.exp() as f32,
        Unary::Log => wide.ln() as f32,
        Unary::Sin => wide.sin() as f32,
        Unary::Tanh => wide.tanh() as f32,
        Unary::Sigmoid => (1.0 / (1.0 + (-wide).exp())) as f32,
        // A NaN stays.
        Unary::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Unary::Floor => x.floor(),
        Unary::Erf => erf(wide) as f32,
    }
}

/// By its series where that converges fast, else by the continued fraction of `erfc` (Abramowitz and
/// Stegun 7.1.6, 7.1.14).
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 3.0 {
        let mut sum = a;
        let mut term = a;
        for n in 1..80 {
            term *= 2.0 * a * a / f64::from(2 * n + 1);
            sum += term;
        }
        sum * (-a * a).exp() * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..60).rev().fold(a, |f, n| a + f64::from(n) / 2.0 / f);
        1.0 - (-a * a).exp() / fraction / std::f64::consts::PI.sqrt()
    };
    value.copysign(x)
}

fn binary(kind: Binary, x: f32, y: f32) -> f32 {
    let nan = x.is_nan() || y.is_nan();
    match kind {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
        Binary::Pow => f64::from(x).powf(f64::from(y)) as f32,
        Binary::Max => {
            if nan {
                f32::NAN
            } else {
                x.max(y)
            }
        }
        Binary::Min => {
            if nan {
                f32::NAN
            } else {
                x.min(y)
            }
        }
    }
}

fn integer(kind: Binary, x: i32, y: i32) -> i32 {
    match kind {
        Binary::Add => x.wrapping_add(y),
        Binary::Sub => x.wrapping_sub(y),
        Binary::Mul => x.wrapping_mul(y),
        Binary::Div => x.checked_div(y).unwrap_or(0),
        Binary::Pow => x.wrapping_pow(y.max(0).cast_unsigned()),
        Binary::Max => x.max(y),
        Binary::Min => x.min(y),
    }
}

fn compare<T: PartialOrd>(kind: Compare, x: &T, y: &T) -> bool {
    match kind {
        Compare::Lt => x < y,
        Compare::Le => x <= y,
        Compare::Gt => x > y,
        Compare::Ge => x >= y,
        Compare::Eq => x == y,
        Compare::Ne => x != y,
    }
}

fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect()
}

/// All positions in a shape, row-major.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    let own = strides(shape);
    let n: usize = shape.iter().product();
    (0..n).map(move |i| own.iter().zip(shape).map(|(s, n)| i / s % n).collect())
}

/// Which elements of two operands meet.
fn broadcast(x: &[&Array], shape: &[usize]) -> [Vec<usize>; 2] {
    [0, 1].map(|which| {
        let own = &x[which].ty.shape;
        let steps = strides(own);
        let skipped = shape.len() - own.len();
        let step = |axis: usize| if own[axis] == 1 { 0 } else { steps[axis] };
        let at = |i: Vec<usize>| (0..own.len()).map(|a| step(a) * i[a + skipped]).sum();
        indices(shape).map(at).collect()
    })
}

fn take(picked: &[(usize, &Array)]) -> Elements {
    match picked.first().map(|(_, a)| &a.elements) {
        Some(Elements::Integers(_)) => {
            Elements::Integers(picked.iter().map(|&(i, a)| a.integers()[i]).collect())
        }
        _ => Elements::Floats(picked.iter().map(|&(i, a)| a.floats()[i]).collect()),
    }
}

fn linear(x: &[&Array], a: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let k = x[0].ty.shape[1];
    let row = |row: &[f32]| -> Vec<f32> {
        let cols = w.chunks_exact(k).enumerate();
        let dot = |col: &[f32]| {
            row.iter().zip(col).map(|(&p, &q)| f64::from(p) * f64::from(q)).sum::<f64>()
        };
        cols.map(|(j, col)| (dot(col) + bias.map_or(0.0, |b| f64::from(b[j]))) as f32).collect()
    };
    a.chunks_exact(k).flat_map(row).collect()
}

fn matmul(x: &[&Array], trans_a: bool, trans_b: bool, ty: &Type) -> Vec<f32> {
    let &[batch, m, n] = &ty.shape[..] else { return Vec::new() };
    let k = x[0].ty.numel() / (batch * m);
    let (a, b) = (x[0].floats(), x[1].floats());
    let mut y = vec![0.0; ty.numel()];
    for s in 0..batch {
        for i in 0..m {
            for j in 0..n {
                let mut sum = 0.0;
                for l in 0..k {
                    let p = a[s * m * k + if trans_a { l * m + i } else { i * k + l }];
                    let q = b[s * k * n + if trans_b { j * k + l } else { l * n + j }];
                    sum += f64::from(p) * f64::from(q);
                }
                y[(s * m + i) * n + j] = sum as f32;
            }
        }
    }
    y
}

fn reduce(kind: Reduce, axes: &[usize], x: &Array, ty: &Type) -> Vec<f32> {
    let start = if kind == Reduce::Max { f64::NEG_INFINITY } else { 0.0 };
    let (own, mut y) = (strides(&ty.shape), vec![start; ty.numel()]);
    for (i, &v) in indices(&x.ty.shape).zip(x.floats()) {
        let at = |a: usize| if axes.contains(&a) { 0 } else { own[a] * i[a] };
        let to = &mut y[(0..i.len()).map(at).sum::<usize>()];
        *to = if kind == Reduce::Max { to.max(f64::from(v)) } else { *to + f64::from(v) };
    }
    let terms = (x.ty.numel() / ty.numel()) as f64;
    let scale = if kind == Reduce::Mean { terms } else { 1.0 };
    y.iter().map(|v| (v / scale) as f32).collect()
}

fn softmax(x: &[f32], cols: usize) -> Vec<f32> {
    let row = |row: &[f32]| -> Vec<f32> {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let e: Vec<f64> = row.iter().map(|&v| f64::from(v - max).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.iter().map(|v| (v / sum) as f32).collect()
    };
    x.chunks_exact(cols).flat_map(row).collect()
}

/// The input position of a tap, if it lies inside.
fn tap(window: &Window, axis: usize, at: usize, k: usize, input: usize) -> Option<usize> {
    let from =
        (at * window.stride[axis] + k * window.dilation[axis]).checked_sub(window.pad[axis][0])?;
    (from < input).then_some(from)
}

/// Calls `f` with the numbers of an element of `x`, of `w` and of `y` that meet in a convolution.
fn meet(
    window: &Window,
    x: &[usize],
    w: &[usize],
    y: &[usize],
    mut f: impl FnMut(usize, usize, usize),
) {
    let (group_in, group_out) = (w[1], w[0] / window.groups);
    for b in 0..y[0] {
        for o in 0..y[1] {
            for (i, j) in (0..y[2]).flat_map(|i| (0..y[3]).map(move |j| (i, j))) {
                let to = ((b * y[1] + o) * y[2] + i) * y[3] + j;
                for c in 0..group_in {
                    let channel = o / group_out * group_in + c;
                    for k in 0..w[2] {
                        let Some(row) = tap(window, 0, i, k, x[2]) else { continue };
                        for l in 0..w[3] {
                            let Some(col) = tap(window, 1, j, l, x[3]) else { continue };
                            let from = ((b * x[1] + channel) * x[2] + row) * x[3] + col;
                            f(from, ((o * w[1] + c) * w[2] + k) * w[3] + l, to);
                        }
                    }
                }
            }
        }
    }
}

fn conv(
    x: &[&Array],
    a: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    window: &Window,
    ty: &Type,
) -> Vec<f32> {
    let plane = ty.shape[2] * ty.shape[3];
    let start = |i: usize| bias.map_or(0.0, |b| f64::from(b[i / plane % ty.shape[1]]));
    let mut y: Vec<f64> = (0..ty.numel()).map(start).collect();
    meet(window, &x[0].ty.shape, &x[1].ty.shape, &ty.shape, |from, tap, to| {
        y[to] += f64::from(a[from]) * f64::from(w[tap]);
    });
    y.iter().map(|&v| v as f32).collect()
}

fn conv_transpose(x: &[&Array], window: &Window, ty: &Type) -> Vec<f32> {
    let (a, w) = (x[0].floats(), x[1].floats());
    let mut y = vec![0f64; ty.numel()];
    meet(window, &ty.shape, &x[1].ty.shape, &x[0].ty.shape, |to, tap, from| {
        y[to] += f64::from(a[from]) * f64::from(w[tap]);
    });
    y.iter().map(|&v| v as f32).collect()
}

fn avg_pool(x: &Array, window: &Window, kernel: [usize; 2], ty: &Type) -> Vec<f32> {
    let (shape, a) = (&x.ty.shape, x.floats());
    let mut y = Vec::with_capacity(ty.numel());
    for plane in 0..ty.shape[0] * ty.shape[1] {
        for (i, j) in (0..ty.shape[2]).flat_map(|i| (0..ty.shape[3]).map(move |j| (i, j))) {
            let (mut sum, mut cells) = (0f64, 0);
            for (k, l) in (0..kernel[0]).flat_map(|k| (0..kernel[1]).map(move |l| (k, l))) {
                let at = (tap(window, 0, i, k, shape[2]), tap(window, 1, j, l, shape[3]));
                if let (Some(row), Some(col)) = at {
                    sum += f64::from(a[(plane * shape[2] + row) * shape[3] + col]);
                    cells += 1;
                }
            }
            y.push((sum / f64::from(cells)) as f32);
        }
    }
    y
}
