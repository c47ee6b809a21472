//! `linear`: a layer's product with its weight, and bias.

use tenon_kernels::gemm::Precision;
use tenon_kernels::unary::Unary;

use super::common::{dtype_is, outer_norms, shape_error, sum_samples};
use super::matmul::{PRECISIONS, as_rows, check_weight, precision_name};
use super::{
    AttrReader, Attrs, Case, Cost, Fill, MatMul, Op, OpKind, ReduceSum, ReluGrad, Reshape,
    SigmoidGrad, Square, TanhGrad, Tolerance, Vjp,
};
use crate::backend::{GemmLaunch, Launch};
use crate::error::{Error, Result};
use crate::graph::ValueId;
use crate::tensor::{DType, TensorDesc};

/// `y[..., n] = f(x[..., k] W[n, k]^T + b[n])`; the bias is optional, and so is the activation `f`,
/// one of those whose gradient reads their result: the sums are not kept. `W` is f32, f16, bf16 or
/// block-quantized, and only an f32 one has a gradient. The gradient toward `x` reads the same
/// stored blocks.
///
/// The precision `int8` is that of [`MatMul`]: both products with `W` are int8, gradients go
/// straight through the rounding, and the one toward `W` is an f32 product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linear {
    /// What operands are rounded to.
    pub precision: Precision,
    /// `f`: nothing, relu, sigmoid or tanh.
    pub activation: Option<Unary>,
}

/// The words of the attribute `activation`.
const ACTIVATIONS: &[(&str, Option<Unary>)] = &[
    ("none", None),
    ("relu", Some(Unary::Relu)),
    ("sigmoid", Some(Unary::Sigmoid)),
    ("tanh", Some(Unary::Tanh)),
];

impl Linear {
    /// The layer with `op`, which reads its result, as its activation; none where it has one, or
    /// there is no such.
    pub(crate) fn followed_by(self, op: &dyn Op) -> Option<Self> {
        let &(_, activation) = ACTIVATIONS[1..].iter().find(|a| a.0 == op.name())?;
        self.activation.is_none().then_some(Self { activation, ..self })
    }

    /// The gradient toward the sums.
    fn toward_sums(&self, cx: &mut Vjp<'_>) -> Result<ValueId> {
        let operands = [cx.output(0), cx.cotangent()];
        match self.activation {
            Some(Unary::Relu) => cx.add(ReluGrad, &operands),
            Some(Unary::Sigmoid) => cx.add(SigmoidGrad, &operands),
            Some(Unary::Tanh) => cx.add(TanhGrad, &operands),
            _ => Ok(cx.cotangent()),
        }
    }
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        let activation = self.activation.map_or("none", Unary::name);
        vec![
            ("precision", precision_name(self.precision).into()),
            ("activation", activation.into()),
        ]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let (x, w) = match inputs {
            [x, w] | [x, w, _] => (*x, *w),
            _ => {
                let found = inputs.len();
                return Err(Error::Arity { op: Self::NAME, expected: "2 or 3", found });
            }
        };
        if !ACTIVATIONS.iter().any(|a| a.1 == self.activation) {
            let why = "must be one whose gradient reads its result: relu, sigmoid or tanh";
            let (op, name) = (Self::NAME.into(), "activation".into());
            return Err(Error::Attr { op, name, why: why.into() });
        }
        dtype_is(Self::NAME, 0, x, DType::F32, "f32 (insert a cast)")?;
        check_weight(Self::NAME, 1, w)?;
        let fail = |why| shape_error(Self::NAME, inputs, why);
        let &[n, k] = &w.shape()[..] else {
            return Err(fail("takes a weight of shape [n, k]"));
        };
        if x.shape().is_empty() || x.cols() != k {
            return Err(fail("the last axis of x is not the weight's"));
        }
        if let Some(bias) = inputs.get(2) {
            dtype_is(Self::NAME, 2, bias, DType::F32, "f32 (insert a cast)")?;
            if bias.shape()[..] != [n] {
                return Err(fail("the bias is not [n]"));
            }
        }
        let mut dims = x.shape().to_vec();
        *dims.last_mut().unwrap_or(&mut 0) = n;
        Ok(vec![TensorDesc::f32(&dims)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let product = MatMul { trans_a: false, trans_b: false, precision: self.precision };
        let dy = self.toward_sums(cx)?;
        let dy = as_rows(cx, dy)?;
        if cx.wants(0) {
            let shape = *cx.desc(cx.input(0)).shape();
            let dx = cx.add(product, &[dy, cx.input(1)])?;
            let dx = cx.add(Reshape::to(&shape), &[dx])?;
            cx.set(0, dx);
        }
        if cx.wants(1) {
            let x = as_rows(cx, cx.input(0))?;
            let dw = cx.add(product.with(true, false), &[dy, x])?;
            cx.set(1, dw);
        }
        if cx.input_count() == 3 && cx.wants(2) {
            let db = cx.add(ReduceSum { axes: vec![0], keepdims: false }, &[dy])?;
            cx.set(2, db);
        }
        Ok(())
    }

    fn sample_norms(
        &self,
        cx: &mut Vjp<'_>,
        wrt: usize,
        samples: usize,
    ) -> Result<Option<ValueId>> {
        let split = |cx: &mut Vjp<'_>, x: ValueId| {
            let desc = cx.desc(x);
            let rows = desc.rows() / samples;
            cx.add(Reshape::to(&[samples, rows, desc.cols()]), &[x])
        };
        let dy = self.toward_sums(cx)?;
        let dy = split(cx, dy)?;
        Ok(match wrt {
            1 => {
                let x = split(cx, cx.input(0))?;
                Some(outer_norms(cx, dy, x)?)
            }
            2 => {
                let sum = cx.add(ReduceSum { axes: vec![1], keepdims: false }, &[dy])?;
                let square = cx.add(Square, &[sum])?;
                Some(sum_samples(cx, square)?)
            }
            _ => None,
        })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Gemm(GemmLaunch {
            trans_a: false,
            trans_b: true,
            precision: self.precision,
            fold: true,
            activation: self.activation,
        })
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        let bytes = inputs.iter().chain(outputs).map(|d| d.bytes() as f64).sum();
        Cost { flops: 2.0 * outputs[0].numel() as f64 * inputs[1].cols() as f64, bytes }
    }
}

impl OpKind for Linear {
    const NAME: &'static str = "linear";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self {
            precision: attrs.choice("precision", PRECISIONS)?,
            activation: attrs.choice("activation", ACTIVATIONS)?,
        })
    }

    fn cases() -> Vec<Case> {
        let q4 = DType::from_name("q4_1").unwrap_or(DType::F32);
        let new = || Case::new(Self::default());
        let with = |f| Case::new(Self { activation: Some(f), ..Self::default() });
        vec![
            new().f32(&[3, 5]).f32(&[4, 5]),
            new().f32(&[2, 3, 5]).f32(&[4, 5]).f32(&[4]),
            new().f32(&[5]).f32(&[4, 5]),
            new().f32(&[3, 64]).typed(q4, &[6, 64], Fill::Normal).f32(&[6]),
            // Finite differences would see the steps of the rounding.
            Case::new(Self { precision: Precision::Int8, ..Self::default() })
                .fixed(&[3, 64], Fill::Normal)
                .typed(q4, &[6, 64], Fill::Normal)
                .f32(&[6]),
            with(Unary::Relu).f32(&[3, 5]).f32(&[4, 5]).f32(&[4]),
            with(Unary::Sigmoid).f32(&[2, 3, 5]).f32(&[4, 5]).f32(&[4]),
            with(Unary::Tanh).f32(&[3, 64]).typed(q4, &[6, 64], Fill::Normal),
            with(Unary::Relu).f32(&[64, 784]).f32(&[512, 784]).f32(&[512]).bench(),
            new().f32(&[256, 576]).typed(q4, &[1536, 576], Fill::Normal).bench(),
        ]
    }
}
