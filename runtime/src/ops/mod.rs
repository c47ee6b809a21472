//! One op, one file: everything the runtime knows of it.
//!
//! A file here holds an op's attributes, shape and type inference, gradient, launch class, cost
//! and test cases. One row in `ops!` makes it real: autodiff, the gradient check, backend
//! conformance, benchmarks, the C ABI and the README's table all iterate over [`table`].
//!
//! To add an op: write `ops/<op>.rs`, add a row below, and if it needs a new kernel, one in the
//! kernels' family table.

mod attr;
mod case;
pub mod common;
mod elementwise;
mod moves;
mod vjp;
mod window;

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

pub use attr::{Attr, AttrReader, Attrs};
pub use case::{Case, Fill, Operand};
pub use matmul::precision_name;
pub use vjp::Vjp;
pub use window::{PoolWindow, Window};

use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::graph::ValueId;
use crate::tensor::TensorDesc;

/// Work that a node does, for the planner and for rooflines.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read and written, each operand once.
    pub bytes: f64,
}

/// How far two implementations of an op may differ: `|a - b| <= abs + rel * max(|a|, |b|)`.
///
/// `rel` is also applied to the tensor's largest magnitude where an op sums many terms
/// ([`Tolerance::scaled`]), since cancellation makes an element's own size meaningless there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Absolute bound.
    pub abs: f32,
    /// Bound relative to the element, or to the tensor where `scaled`.
    pub rel: f32,
    /// Whether `rel` is relative to the tensor's largest magnitude.
    pub scaled: bool,
}

impl Tolerance {
    /// Bits must be equal.
    pub const EXACT: Self = Self { abs: 0.0, rel: 0.0, scaled: false };

    /// Relative to each element.
    #[must_use]
    pub const fn relative(rel: f32) -> Self {
        Self { abs: 1e-7, rel, scaled: false }
    }

    /// Relative to the largest magnitude of the tensor.
    #[must_use]
    pub const fn scaled(rel: f32) -> Self {
        Self { abs: 1e-7, rel, scaled: true }
    }

    /// The largest excess over the bound among two tensors: at most 1 where they agree.
    #[must_use]
    pub fn excess(&self, a: &[f32], b: &[f32]) -> f32 {
        let largest = b.iter().filter(|v| v.is_finite()).fold(0f32, |m, v| m.max(v.abs()));
        let bound = |x: f32, y: f32| {
            self.abs + self.rel * if self.scaled { largest } else { x.abs().max(y.abs()) }
        };
        a.iter().zip(b).fold(
            if a.len() == b.len() { 0f32 } else { f32::INFINITY },
            |worst, (&x, &y)| {
                let excess =
                    match (x == y || (x.is_nan() && y.is_nan()), x.is_finite() && y.is_finite()) {
                        (true, _) => 0.0,
                        (false, false) => f32::INFINITY,
                        (false, true) if bound(x, y) == 0.0 => f32::INFINITY,
                        (false, true) => (x - y).abs() / bound(x, y),
                    };
                worst.max(excess)
            },
        )
    }
}

/// How one output of a node can be made again: [`Op::remake`].
#[derive(Clone, Debug)]
pub struct Remake {
    /// The op that makes it.
    pub op: Arc<dyn Op>,
    /// What it reads.
    pub operands: Vec<Part>,
    /// Which of its outputs it is.
    pub output: usize,
}

/// An input or an output of a node, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Part {
    Input(usize),
    Output(usize),
}

/// Whether an op has a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradient {
    /// [`Op::vjp`] builds it.
    Vjp,
    /// It has none, and why.
    None(&'static str),
}

/// A node's operation, as the graph holds it.
pub trait Op: Any + Debug + Send + Sync {
    /// The name in `ops!`.
    fn name(&self) -> &'static str;

    /// The attributes, in the names that [`OpKind::parse`] reads.
    fn attrs(&self) -> Attrs {
        Vec::new()
    }

    /// Checks the operands and gives the outputs.
    ///
    /// # Errors
    /// [`Error::Arity`], [`Error::Shape`] or [`Error::DType`] for operands the op cannot take.
    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>>;

    /// Adds the vector-Jacobian product: for each wanted input, the gradient, from the cotangent
    /// of output 0 (further outputs are residuals without gradient), built from existing ops.
    ///
    /// # Errors
    /// [`Error::NoGradient`] where there is none.
    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()>;

    /// Adds the squared L2 norm of the gradient toward input `wrt`, a parameter, that each of
    /// `samples` samples has by itself, from the cotangent of output 0: [samples]. Samples are equal
    /// parts of the first axis. `None` where it takes no less than the gradients themselves.
    ///
    /// # Errors
    /// Only those of the ops it adds.
    fn sample_norms(
        &self,
        cx: &mut Vjp<'_>,
        wrt: usize,
        samples: usize,
    ) -> Result<Option<ValueId>> {
        let _ = (cx, wrt, samples);
        Ok(None)
    }

    /// What a backend is to run. Called only for operands that [`Op::infer`] accepted.
    fn launch(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Launch;

    /// Arithmetic and traffic. The default is one operation an output element.
    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        Cost {
            flops: outputs.iter().map(|d| d.numel() as f64).sum(),
            bytes: inputs.iter().chain(outputs).map(|d| d.bytes() as f64).sum(),
        }
    }

    /// What takes its place where a graph that trains is only evaluated; `None`: itself.
    fn evaluating(&self) -> Option<Arc<dyn Op>> {
        None
    }

    /// How output `output` can be made from the node's inputs and its other outputs, with the same
    /// bits, where that takes less than to run the node again.
    fn remake(&self, output: usize) -> Option<Remake> {
        let _ = output;
        None
    }

    /// Which inputs the op overwrites (parameters and optimizer state); such a node runs after
    /// every other reader of them.
    fn mutates(&self) -> &'static [usize] {
        &[]
    }
}

/// What is known of an op without an instance of it: its row of the table.
pub trait OpKind: Op + Sized {
    /// The name in graphs, dumps and the C ABI.
    const NAME: &'static str;
    /// Whether it has a gradient.
    const GRADIENT: Gradient = Gradient::Vjp;
    /// How far two backends or instruction-set levels may differ.
    const TOLERANCE: Tolerance;

    /// Reads the attributes of a node made by name.
    ///
    /// # Errors
    /// [`Error::Attr`] for a missing or unusable attribute.
    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self>;

    /// Operands to check and time the op with: ordinary, odd-sized and extreme.
    fn cases() -> Vec<Case>;
}

/// A row of the op table.
#[derive(Clone, Copy, Debug)]
pub struct OpEntry {
    /// [`OpKind::NAME`].
    pub name: &'static str,
    /// The file that holds it, without `.rs`.
    pub file: &'static str,
    /// [`OpKind::GRADIENT`].
    pub gradient: Gradient,
    /// [`OpKind::TOLERANCE`].
    pub tolerance: Tolerance,
    /// [`OpKind::cases`].
    pub cases: fn() -> Vec<Case>,
    parse: fn(&mut AttrReader<'_>) -> Result<Arc<dyn Op>>,
}

impl OpEntry {
    const fn of<K: OpKind>(file: &'static str) -> Self {
        Self {
            name: K::NAME,
            file,
            gradient: K::GRADIENT,
            tolerance: K::TOLERANCE,
            cases: K::cases,
            parse: |attrs| Ok(Arc::new(K::parse(attrs)?)),
        }
    }

    /// Makes the op from named attributes.
    ///
    /// # Errors
    /// [`Error::Attr`] for a missing, unknown or unusable attribute.
    pub fn make(&self, attrs: &[(&str, Attr)]) -> Result<Arc<dyn Op>> {
        let mut reader = AttrReader::new(self.name, attrs);
        let op = (self.parse)(&mut reader)?;
        reader.finish()?;
        Ok(op)
    }
}

macro_rules! ops {
    ($($file:ident::$kind:ident),* $(,)?) => {
        $(mod $file; pub use $file::$kind;)*
        const TABLE: &[OpEntry] = &[$(OpEntry::of::<$kind>(stringify!($file))),*];
    };
}

ops! {
    abs::Abs,
    accumulate::Accumulate,
    adam::Adam,
    adamw::AdamW,
    add::Add,
    add_rms_norm::AddRmsNorm,
    affine::Affine,
    after::After,
    attention::Attention,
    attention_grad::AttentionGrad,
    avg_pool2d::AvgPool2d,
    avg_pool2d_grad::AvgPool2dGrad,
    batch_norm::BatchNorm,
    batch_norm_grad::BatchNormGrad,
    broadcast_to::BroadcastTo,
    cast::Cast,
    clamp::Clamp,
    clip_scale::ClipScale,
    concat::Concat,
    conv2d::Conv2d,
    conv2d_grad_weight::Conv2dGradWeight,
    conv_transpose2d::ConvTranspose2d,
    cos::Cos,
    cross_entropy::CrossEntropy,
    cross_entropy_grad::CrossEntropyGrad,
    dequantize::Dequantize,
    div::Div,
    dropout::Dropout,
    embedding::Embedding,
    embedding_grad::EmbeddingGrad,
    eq::Eq,
    erf::Erf,
    exp::Exp,
    floor::Floor,
    fused::Fused,
    ge::Ge,
    gelu::Gelu,
    gelu_grad::GeluGrad,
    gelu_tanh::GeluTanh,
    gelu_tanh_grad::GeluTanhGrad,
    grad_norm::GradNorm,
    group_norm::GroupNorm,
    gt::Gt,
    layer_norm::LayerNorm,
    layer_norm_grad::LayerNormGrad,
    le::Le,
    linear::Linear,
    linear_cross_entropy::LinearCrossEntropy,
    linear_cross_entropy_both::LinearCrossEntropyBoth,
    linear_cross_entropy_grad::LinearCrossEntropyGrad,
    log::Log,
    log_softmax::LogSoftmax,
    log_softmax_grad::LogSoftmaxGrad,
    lt::Lt,
    matmul::MatMul,
    matmul_int8::MatMulInt8,
    max_pool2d::MaxPool2d,
    max_pool2d_grad::MaxPool2dGrad,
    maximum::Maximum,
    minimum::Minimum,
    mul::Mul,
    ne::Ne,
    neg::Neg,
    noise::Noise,
    pad::Pad,
    pow::Pow,
    pow_scalar::PowScalar,
    quantize::Quantize,
    quantize_ste::QuantizeSte,
    recip::Recip,
    reduce_max::ReduceMax,
    reduce_mean::ReduceMean,
    reduce_sum::ReduceSum,
    relu::Relu,
    relu_grad::ReluGrad,
    reshape::Reshape,
    rms_norm::RmsNorm,
    rms_norm_grad::RmsNormGrad,
    rope::Rope,
    round::Round,
    rsqrt::Rsqrt,
    select::Select,
    sgd::Sgd,
    sigmoid::Sigmoid,
    sigmoid_grad::SigmoidGrad,
    sign::Sign,
    silu::Silu,
    silu_grad::SiluGrad,
    silu_mul::SiluMul,
    sin::Sin,
    slice::Slice,
    softmax::Softmax,
    softmax_grad::SoftmaxGrad,
    softplus::Softplus,
    sqrt::Sqrt,
    square::Square,
    sub::Sub,
    tanh::Tanh,
    tanh_grad::TanhGrad,
    transpose::Transpose,
    trunc::Trunc,
}

/// Every op, in the order of `ops!`.
#[must_use]
pub fn table() -> &'static [OpEntry] {
    TABLE
}

/// The op called `name`.
///
/// # Errors
/// [`Error::NotFound`] with the names that come closest.
pub fn find(name: &str) -> Result<&'static OpEntry> {
    TABLE.iter().find(|e| e.name == name).ok_or_else(|| Error::NotFound {
        kind: "op",
        name: name.to_owned(),
        known: TABLE
            .iter()
            .filter(|e| name.split('_').any(|part| part.len() > 2 && e.name.contains(part)))
            .map(|e| e.name.to_owned())
            .collect(),
    })
}
