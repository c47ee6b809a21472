//! `matmul_int8`: products of operands that are int8 already.

use tenon_kernels::gemm::bytes::Bytes;

use super::common::{dtype_is, shape_error};
use super::{AttrReader, Attrs, Case, Cost, Fill, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::{DType, TensorDesc};

/// `y[..., n] = scale_a scale_b (A[..., k] op(B)) + bias[n]`, with the sums exact. Operands: A and B
/// of i8; the scale of A, one or one a row (A's shape without its last axis); that of B, one or one a
/// column ([n]); and a bias, which is optional. B is stored [n, k] as a layer's
/// weight is, or [k, n].
///
/// It runs a model whose activations have one scale a tensor and whose weights have one a channel.
/// Activations come to i8 by `mul` with the inverse scale, `round` and `cast`. To train through
/// int8 products, use the precision `int8` of [`super::Linear`] and [`super::MatMul`].
#[derive(Clone, Copy, Debug)]
pub struct MatMulInt8 {
    /// Whether B is stored [n, k].
    pub trans_b: bool,
}

impl Op for MatMulInt8 {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("trans_b", self.trans_b.into())]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let (4 | 5, &[a, b, ..]) = (inputs.len(), inputs) else {
            let found = inputs.len();
            return Err(Error::Arity { op: Self::NAME, expected: "4 or 5", found });
        };
        for (operand, desc) in inputs.iter().enumerate() {
            let wanted = if operand < 2 { DType::I8 } else { DType::F32 };
            dtype_is(Self::NAME, operand, desc, wanted, wanted.name())?;
        }
        let fail = |why: &str| shape_error(Self::NAME, inputs, why);
        let (&[.., k], &[b0, b1]) = (&a.shape()[..], &b.shape()[..]) else {
            return Err(fail("takes A of [..., k] and B of [n, k] or [k, n]"));
        };
        let (n, own) = if self.trans_b { (b0, b1) } else { (b1, b0) };
        if own != k {
            return Err(fail("sums over different lengths on the left and on the right"));
        }
        if k > Bytes::MOST_K {
            return Err(fail(&format!("sums over at most {} bytes", Bytes::MOST_K)));
        }
        let (rows, axes) = (&a.shape()[..a.shape().len() - 1], [n]);
        for (scale, each) in inputs[2..4].iter().zip([rows, &axes]) {
            if scale.numel() != 1 && scale.shape()[..] != *each {
                return Err(fail("a scale is neither one nor one a row or column"));
            }
        }
        if inputs.get(4).is_some_and(|bias| bias.shape()[..] != axes) {
            return Err(fail("the bias is not [n]"));
        }
        Ok(vec![TensorDesc::f32(&[rows, &axes].concat())?])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: REASON })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Bytes { trans_b: self.trans_b }
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        let bytes = inputs.iter().chain(outputs).map(|d| d.bytes() as f64).sum();
        Cost { flops: 2.0 * outputs[0].numel() as f64 * inputs[0].cols() as f64, bytes }
    }
}

/// Why there is no gradient.
const REASON: &str = "its operands are integers; to train, use the precision int8 of linear";

impl OpKind for MatMulInt8 {
    const NAME: &'static str = "matmul_int8";
    const GRADIENT: Gradient = Gradient::None(REASON);
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { trans_b: attrs.bool_or("trans_b", true)? })
    }

    fn cases() -> Vec<Case> {
        let of = |trans_b, a: &[usize], b: &[usize]| {
            let case = Case::new(Self { trans_b });
            let codes = || Fill::Uniform(-128.9, 127.9);
            case.typed(DType::I8, a, codes()).typed(DType::I8, b, codes())
        };
        let scale = || Fill::Uniform(0.5, 2.0);
        vec![
            of(true, &[3, 5], &[4, 5]).fixed(&[], scale()).fixed(&[4], scale()),
            of(true, &[2, 3, 70], &[4, 70])
                .fixed(&[2, 3], scale())
                .fixed(&[1], scale())
                .fixed(&[4], Fill::Normal),
            of(false, &[37, 33], &[33, 70]).fixed(&[37], scale()).fixed(&[70], scale()),
            of(false, &[2, 131], &[131, 67]).fixed(&[2], scale()).fixed(&[67], scale()),
            of(true, &[256, 576], &[1536, 576]).fixed(&[], scale()).fixed(&[1536], scale()).bench(),
        ]
    }
}
