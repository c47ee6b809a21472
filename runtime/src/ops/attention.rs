//! `attention`: scaled dot-product attention with grouped heads.

use tenon_kernels::attention::Attention as Shape;

use super::common::{all_f32, shape_error};
use super::{
    Attr, AttrReader, Attrs, AttentionGrad, Case, Cost, Fill, Op, OpKind, Tolerance, Vjp,
};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// `softmax(scale * q k^T + mask) v` over `q [B, S, H, D]` and `k, v [B, T, Hk, D]`.
///
/// `H` is a multiple of `Hk`; query head `h` reads key-value head `h / (H / Hk)`. The optional
/// fourth operand is an f32 mask that is added to the scores, `[B|1, H|1, S|1, T]` with leading
/// ones left out at will; it gets no gradient. The first output is `[B, S, H, D]`, the second the
/// log-sum-exp of each query, `[B, H, S]`, which the gradient needs. A query that sees no key gives
/// zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attention {
    /// Hides the keys after each query, the two sequences ending together: query `i` sees keys up
    /// to `i + T - S`.
    pub causal: bool,
    /// Factor on the scores; `1 / sqrt(D)` if absent.
    pub scale: Option<f32>,
    /// Hides keys this far from the query or farther.
    pub window: Option<usize>,
}

impl Attention {
    /// The attributes, for this op and its gradient.
    pub(super) fn named(&self) -> Attrs {
        let mut attrs: Attrs = vec![("causal", self.causal.into())];
        attrs.extend(self.scale.map(|scale| ("scale", Attr::from(scale))));
        attrs.extend(self.window.map(|window| ("window", Attr::from(window))));
        attrs
    }

    /// Reads the attributes that [`Attention::named`] writes.
    ///
    /// # Errors
    /// [`Error::Attr`].
    pub(super) fn read(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let scale = attrs.float_or("scale", f64::NAN)? as f32;
        let window = attrs.usize_or("window", 0)?;
        Ok(Self {
            causal: attrs.bool_or("causal", false)?,
            scale: (!scale.is_nan()).then_some(scale),
            window: (window > 0).then_some(window),
        })
    }

    /// The kernel's view of operands that [`check`] accepted.
    pub(super) fn shape(&self, inputs: &[&TensorDesc]) -> Shape {
        let (q, k) = (inputs[0].shape(), inputs[1].shape());
        Shape {
            batch: q[0],
            queries: q[1],
            keys: k[1],
            heads: q[2],
            kv_heads: k[2],
            dim: q[3],
            causal: self.causal,
            window: self.window,
            scale: self.scale.unwrap_or(1.0 / (q[3] as f32).sqrt()),
        }
    }
}

/// Checks `q, k, v` and the mask that may follow them.
///
/// # Errors
/// [`Error::DType`], [`Error::Shape`].
pub(super) fn check(
    op: &'static str,
    inputs: &[&TensorDesc],
    mask: Option<&TensorDesc>,
) -> Result<()> {
    all_f32(op, inputs)?;
    let fail = |why: &str| Err(shape_error(op, inputs, why));
    let [q, k, v] = [inputs[0].shape(), inputs[1].shape(), inputs[2].shape()];
    if [q, k, v].iter().any(|s| s.len() != 4) {
        return fail("q, k and v must be [batch, positions, heads, dim]");
    }
    if k != v {
        return fail("k and v must have one shape");
    }
    if q[0] != k[0] || q[3] != k[3] {
        return fail("q and k must agree in batch and head dim");
    }
    if k[2] == 0 || q[2] % k[2] != 0 || q[3] == 0 {
        return fail("the heads of q must be a multiple of those of k, and no head empty");
    }
    let Some(mask) = mask.map(TensorDesc::shape) else { return Ok(()) };
    let full = [q[0], q[2], q[1], k[1]];
    let fits = mask.iter().rev().zip(full.iter().rev()).enumerate();
    let fits = fits.fold(mask.len() <= 4 && !mask.is_empty(), |fits, (axis, (&m, &n))| {
        fits && (m == n || (m == 1 && axis > 0))
    });
    if fits { Ok(()) } else { fail("the mask must broadcast to [batch, heads, queries, keys]") }
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        self.named()
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        if !(3..=4).contains(&inputs.len()) {
            return Err(Error::Arity { op: Self::NAME, expected: "3 or 4", found: inputs.len() });
        }
        check(Self::NAME, inputs, inputs.get(3).copied())?;
        let q = inputs[0].shape();
        Ok(vec![inputs[0].clone(), TensorDesc::f32(&[q[0], q[2], q[1]])?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let (out, lse) = (cx.output(0), cx.output(1));
        let mut operands =
            vec![cx.input(0), cx.input(1), cx.input(2), out, cx.cotangent(), lse];
        operands.extend((cx.input_count() > 3).then(|| cx.input(3)));
        if cx.input_count() > 3 && cx.wants(3) {
            return Err(Error::NoGradient { op: Self::NAME, reason: "masks are not trained" });
        }
        let gradients = cx.add_all(AttentionGrad(*self), &operands)?;
        for (i, gradient) in gradients.into_iter().enumerate() {
            cx.set(i, gradient);
        }
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Attention(self.shape(inputs))
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        let bytes = inputs.iter().chain(outputs).map(|d| d.bytes() as f64).sum();
        Cost { flops: self.shape(inputs).flops() as f64, bytes }
    }
}

impl OpKind for Attention {
    const NAME: &'static str = "attention";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Self::read(attrs)
    }

    fn cases() -> Vec<Case> {
        let causal = Self { causal: true, ..Self::default() };
        let qkv = |op: Self, q: [usize; 4], k: [usize; 4]| Case::new(op).f32(&q).f32(&k).f32(&k);
        let hidden = Fill::Values(vec![0.0, 0.5, f32::NEG_INFINITY, -0.5, 0.0]);
        vec![
            qkv(Self::default(), [2, 3, 4, 5], [2, 7, 2, 5]),
            qkv(causal, [1, 37, 3, 8], [1, 37, 1, 8]),
            qkv(Self { scale: Some(0.3), ..causal }, [1, 5, 2, 4], [1, 3, 2, 4]),
            qkv(Self { window: Some(4), ..causal }, [1, 9, 2, 4], [1, 11, 2, 4]),
            qkv(Self::default(), [2, 4, 2, 3], [2, 6, 2, 3]).fixed(&[2, 1, 1, 6], hidden.clone()),
            qkv(causal, [1, 4, 2, 3], [1, 6, 2, 3]).fixed(&[4, 6], hidden),
            [[1, 3, 2, 300], [1, 5, 1, 300], [1, 5, 1, 300]]
                .iter()
                .fold(Case::new(causal), |case, dims| case.fixed(dims, Fill::Normal)),
            qkv(causal, [1, 512, 9, 64], [1, 512, 3, 64]).bench(),
        ]
    }
}
