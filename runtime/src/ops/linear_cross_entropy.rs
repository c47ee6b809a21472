//! `linear_cross_entropy`: a language model's head and loss in one, without the logits.

use tenon_kernels::gemm::Precision;

use super::common::{arity, dtype_is, shape_error};
use super::matmul::{PRECISIONS, check_weight, precision_name};
use super::{
    AttrReader, Attrs, Case, Cost, Fill, LinearCrossEntropyGrad, Op, OpKind, Tolerance, Vjp,
};
use crate::backend::{Launch, LinearLoss, LossPart};
use crate::error::Result;
use crate::tensor::{DType, TensorDesc};

/// The mean over rows of `logsumexp(W x) - (W x)[target]` for `x` [rows, k], `W` [vocab, k] of any
/// format and i32 targets [rows]; rows whose target is `ignore_index` do not count (the loss of no
/// counted row is 0). Output 1 is each row's logsumexp.
///
/// The logits exist only as a strip of [`LinearLoss::STRIP`] columns at a time; the sums run over
/// the strips in order, as in online softmax (Milakov and Gimelshein 2018).
///
/// The precision `int8` is that of [`super::MatMul`]: the products with `W` are int8, the gradient
/// toward `W` is an f32 product.
#[derive(Clone, Copy, Debug)]
pub struct LinearCrossEntropy {
    /// Targets that do not count.
    pub ignore_index: i32,
    /// What operands are rounded to.
    pub precision: Precision,
}

impl Default for LinearCrossEntropy {
    fn default() -> Self {
        Self { ignore_index: -100, precision: Precision::F32 }
    }
}

/// Checks `x`, `W` and the targets.
pub(super) fn check(op: &'static str, inputs: &[&TensorDesc]) -> Result<()> {
    let (x, w, targets) = (inputs[0], inputs[1], inputs[2]);
    dtype_is(op, 0, x, DType::F32, "f32 (insert a cast)")?;
    check_weight(op, 1, w)?;
    dtype_is(op, 2, targets, DType::I32, "i32")?;
    let fits = matches!(
        (&x.shape()[..], &w.shape()[..], &targets.shape()[..]),
        ([r, k], [_, k2], [r2]) if r == r2 && k == k2
    );
    if fits { Ok(()) } else { Err(shape_error(op, inputs, "takes x [r, k], W [v, k], targets [r]")) }
}

/// Cost of `products` products of the size of the logits.
pub(super) fn cost(products: f64, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
    let bytes = inputs.iter().chain(outputs).map(|d| d.bytes() as f64).sum();
    let logits = inputs[0].rows() as f64 * inputs[1].rows() as f64;
    Cost { flops: products * 2.0 * logits * inputs[0].cols() as f64, bytes }
}

impl Op for LinearCrossEntropy {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![
            ("ignore_index", self.ignore_index.into()),
            ("precision", precision_name(self.precision).into()),
        ]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        arity::<3>(Self::NAME, inputs)?;
        check(Self::NAME, inputs)?;
        Ok(vec![TensorDesc::f32(&[])?, TensorDesc::f32(&[inputs[0].rows()])?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let op = LinearCrossEntropyGrad {
            ignore_index: self.ignore_index,
            precision: self.precision,
            wants_weight: cx.wants(1),
        };
        let inputs = [cx.input(0), cx.input(1), cx.input(2), cx.output(1), cx.cotangent()];
        let gradients = cx.add_all(op, &inputs)?;
        if cx.wants(0) {
            cx.set(0, gradients[0]);
        }
        if cx.wants(1) {
            cx.set(1, gradients[1]);
        }
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::LinearLoss(LinearLoss {
            ignore_index: self.ignore_index,
            precision: self.precision,
            part: LossPart::Forward,
        })
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        cost(1.0, inputs, outputs)
    }
}

impl OpKind for LinearCrossEntropy {
    const NAME: &'static str = "linear_cross_entropy";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self {
            ignore_index: attrs.int_or("ignore_index", -100)? as i32,
            precision: attrs.choice("precision", PRECISIONS)?,
        })
    }

    fn cases() -> Vec<Case> {
        let q4 = DType::from_name("q4_1").unwrap_or(DType::F32);
        let new = || Case::new(Self::default());
        let ignoring = Case::new(Self { ignore_index: 2, ..Self::default() });
        vec![
            new().f32(&[5, 7]).f32(&[11, 7]).index(&[5], 11),
            ignoring.f32(&[9, 4]).f32(&[3, 4]).index(&[9], 3),
            new().f32(&[3, 64]).typed(q4, &[2500, 64], Fill::Normal).index(&[3], 2500),
            // Finite differences would see the steps of the rounding.
            Case::new(Self { precision: Precision::Int8, ..Self::default() })
                .fixed(&[3, 64], Fill::Normal)
                .typed(q4, &[2500, 64], Fill::Normal)
                .index(&[3], 2500),
            new().f32(&[256, 576]).typed(q4, &[16_384, 576], Fill::Normal).index(&[256], 16_384).bench(),
        ]
    }
}
