//! `matmul`: matrix products with every transpose and batch form, and with a weight of any format
//! on the right.

use tenon_kernels::gemm::Precision;
use tenon_kernels::quant::Format;

use super::common::{arity, dtype_is, shape_error, unbroadcast};
use super::{AttrReader, Attrs, Case, Cost, Fill, Op, OpKind, Reshape, Tolerance, Transpose, Vjp};
use crate::backend::{GemmLaunch, Launch};
use crate::error::{Error, Result};
use crate::graph::ValueId;
use crate::tensor::{DType, Shape, TensorDesc};

/// `Y[..., m, n] = op(A)[..., m, k] op(B)[..., k, n]`, where `op` swaps the last two axes if asked
/// to. Leading axes broadcast. A is f32; B is f32, f16, bf16 or block-quantized, and only an f32 B
/// has a gradient.
///
/// In the precision `int8` the operands are rounded in blocks of 32 along the sums, and a B whose
/// stored codes run along them is multiplied as it is; `trans_a` is refused. Gradients go straight
/// through the rounding: the one toward A is an int8 product too, the one toward B an f32 one.
#[derive(Clone, Copy, Debug, Default)]
pub struct MatMul {
    /// Whether A is stored [..., k, m].
    pub trans_a: bool,
    /// Whether B is stored [..., n, k].
    pub trans_b: bool,
    /// What operands are rounded to.
    pub precision: Precision,
}

/// The words of the attribute `precision`.
pub(super) const PRECISIONS: &[(&str, Precision)] =
    &[("f32", Precision::F32), ("bf16", Precision::Bf16), ("int8", Precision::Int8)];

/// The word for a precision, as the attribute `precision` takes it.
#[must_use]
pub fn precision_name(precision: Precision) -> &'static str {
    PRECISIONS.iter().find(|p| p.1 == precision).map_or("f32", |p| p.0)
}

/// Refuses a right-hand side that is no weight.
pub(super) fn check_weight(op: &'static str, operand: usize, desc: &TensorDesc) -> Result<()> {
    match desc.dtype().format() {
        Some(_) => Ok(()),
        None => Err(Error::DType {
            op,
            operand,
            expected: "f32, f16, bf16 or a quantized format",
            found: desc.dtype(),
        }),
    }
}

impl MatMul {
    /// A product of a gradient, as near to this one's precision as there is.
    pub(super) fn with(self, trans_a: bool, trans_b: bool) -> Self {
        Self { trans_a, trans_b, precision: self.precision.or_f32(trans_a) }
    }

    /// Whether the leading axes of A are just more rows: B is one matrix.
    fn folds(self, a: &TensorDesc, b: &TensorDesc) -> bool {
        b.shape().len() == 2 && !self.trans_a && a.shape().len() > 2
    }

    fn vjp_a(self, cx: &mut Vjp<'_>, dy: ValueId) -> Result<ValueId> {
        let b = cx.input(1);
        if !self.trans_a {
            return cx.add(self.with(false, !self.trans_b), &[dy, b]);
        }
        if cx.desc(b).dtype() == DType::F32 {
            return cx.add(self.with(self.trans_b, true), &[b, dy]);
        }
        // A quantized matrix can only stand on the right.
        let flipped = cx.add(self.with(false, !self.trans_b), &[dy, b])?;
        let mut perm: Vec<usize> = (0..cx.desc(flipped).shape().len()).collect();
        let rank = perm.len();
        perm.swap(rank - 1, rank - 2);
        cx.add(Transpose { perm }, &[flipped])
    }

    fn vjp_b(self, cx: &mut Vjp<'_>, a: ValueId, dy: ValueId) -> Result<ValueId> {
        if self.trans_b {
            cx.add(self.with(true, self.trans_a), &[dy, a])
        } else {
            cx.add(self.with(!self.trans_a, false), &[a, dy])
        }
    }
}

/// `x` as a matrix of rows of its last axis.
pub(super) fn as_rows(cx: &mut Vjp<'_>, x: ValueId) -> Result<ValueId> {
    let desc = cx.desc(x);
    if desc.shape().len() == 2 {
        return Ok(x);
    }
    cx.add(Reshape::to(&[desc.rows(), desc.cols()]), &[x])
}

impl Op for MatMul {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![
            ("trans_a", self.trans_a.into()),
            ("trans_b", self.trans_b.into()),
            ("precision", precision_name(self.precision).into()),
        ]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [a, b] = arity(Self::NAME, inputs)?;
        dtype_is(Self::NAME, 0, a, DType::F32, "f32 (insert a cast)")?;
        check_weight(Self::NAME, 1, b)?;
        if !self.precision.takes(self.trans_a) {
            return Err(Error::Attr {
                op: Self::NAME.into(),
                name: "precision".into(),
                why: format!("{} takes no transposed A", precision_name(self.precision)),
            });
        }
        let fail = |why: &str| shape_error(Self::NAME, inputs, why);
        let ([.., a0, a1], [.., b0, b1]) = (&a.shape()[..], &b.shape()[..]) else {
            return Err(fail("takes matrices: reshape vectors to [1, k] or [k, 1]"));
        };
        let (m, k) = if self.trans_a { (*a1, *a0) } else { (*a0, *a1) };
        let (k2, n) = if self.trans_b { (*b1, *b0) } else { (*b0, *b1) };
        if k != k2 {
            return Err(fail(&format!("sums over {k} on the left and {k2} on the right")));
        }
        let batch = |d: &TensorDesc| Shape::new(&d.shape()[..d.shape().len() - 2]);
        let batch = batch(a)?.broadcast(&batch(b)?).ok_or_else(|| fail("batches do not match"))?;
        let dims: Vec<usize> = batch.iter().copied().chain([m, n]).collect();
        Ok(vec![TensorDesc::f32(&dims)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let (a, b) = (cx.desc(cx.input(0)), cx.desc(cx.input(1)));
        let folds = self.folds(&a, &b);
        let dy = if folds { as_rows(cx, cx.cotangent())? } else { cx.cotangent() };
        if cx.wants(0) {
            let mut gradient = self.vjp_a(cx, dy)?;
            if folds {
                gradient = cx.add(Reshape::to(a.shape()), &[gradient])?;
            }
            let gradient = unbroadcast(cx, gradient, a.shape())?;
            cx.set(0, gradient);
        }
        if cx.wants(1) {
            let left = if folds { as_rows(cx, cx.input(0))? } else { cx.input(0) };
            let gradient = self.vjp_b(cx, left, dy)?;
            let gradient = unbroadcast(cx, gradient, b.shape())?;
            cx.set(1, gradient);
        }
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Gemm(GemmLaunch {
            trans_a: self.trans_a,
            trans_b: self.trans_b,
            precision: self.precision,
            activation: None,
            fold: self.folds(inputs[0], inputs[1]),
        })
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        let a = inputs[0].shape();
        let k = a[a.len() - if self.trans_a { 2 } else { 1 }];
        let bytes = inputs.iter().chain(outputs).map(|d| d.bytes() as f64).sum();
        Cost { flops: 2.0 * outputs[0].numel() as f64 * k as f64, bytes }
    }
}

impl OpKind for MatMul {
    const NAME: &'static str = "matmul";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self {
            trans_a: attrs.bool_or("trans_a", false)?,
            trans_b: attrs.bool_or("trans_b", false)?,
            precision: attrs.choice("precision", PRECISIONS)?,
        })
    }

    fn cases() -> Vec<Case> {
        let q4 = DType::from_name("q4_1").unwrap_or(DType::F32);
        let q6 = DType::from_name("q6_k").unwrap_or(DType::F32);
        let of = |a, b| Case::new(Self::default().with(a, b));
        let int8 = |b| Case::new(Self { precision: Precision::Int8, ..Self::default().with(false, b) });
        let bf16 = |a, b| Case::new(Self { precision: Precision::Bf16, ..Self::default().with(a, b) });
        let mut cases = vec![
            of(false, false).f32(&[3, 5]).f32(&[5, 4]),
            of(false, true).f32(&[3, 5]).f32(&[4, 5]),
            // A device may have a path of its own for up to eight rows.
            of(false, false).f32(&[9, 5]).f32(&[5, 4]),
            of(false, true).f32(&[9, 5]).f32(&[4, 5]),
            of(true, false).f32(&[5, 3]).f32(&[5, 4]),
            of(true, true).f32(&[5, 3]).f32(&[4, 5]),
            of(false, false).f32(&[2, 3, 5]).f32(&[5, 4]),
            of(true, true).f32(&[6, 1, 5, 3]).f32(&[2, 4, 5]),
            of(false, false).f32(&[2, 1, 3, 5]).f32(&[3, 5, 2]),
            of(false, true).f32(&[7, 64]).typed(q4, &[6, 64], Fill::Normal),
            of(false, false).f32(&[2, 3, 6]).typed(q4, &[6, 64], Fill::Normal),
            of(false, false).f32(&[3, 3, 6]).typed(q4, &[6, 64], Fill::Normal),
            of(true, true).f32(&[256, 3]).typed(q6, &[5, 256], Fill::Normal),
            // Some of them are subnormal, which a device may flush.
            of(false, true).fixed(&[7, 16], Fill::Normal).typed(
                DType::F16,
                &[6, 16],
                Fill::Uniform(-1e-4, 1e-4),
            ),
            of(false, true).f32(&[9, 16]).typed(DType::F16, &[6, 16], Fill::Normal),
            of(false, false).f32(&[3, 3, 6]).typed(DType::F16, &[6, 5], Fill::Normal),
            of(true, true).f32(&[2, 7, 3]).typed(DType::F16, &[2, 5, 7], Fill::Normal),
            // Finite differences would see the steps of the rounding.
            int8(true).fixed(&[7, 64], Fill::Normal).typed(q4, &[6, 64], Fill::Normal),
            int8(false).fixed(&[2, 3, 7], Fill::Normal).typed(q4, &[7, 64], Fill::Normal),
            int8(false).fixed(&[2, 3, 37], Fill::Normal).fixed(&[2, 37, 5], Fill::Normal),
            int8(false).fixed(&[2, 7, 37], Fill::Normal).fixed(&[2, 37, 5], Fill::Normal),
            int8(true).fixed(&[2, 7, 37], Fill::Normal).fixed(&[5, 37], Fill::Normal),
            bf16(false, true).fixed(&[7, 37], Fill::Normal).fixed(&[5, 37], Fill::Normal),
            bf16(false, true).fixed(&[9, 37], Fill::Normal).fixed(&[5, 37], Fill::Normal),
            bf16(true, false).fixed(&[37, 3], Fill::Normal).fixed(&[37, 18], Fill::Normal),
        ];
        for format in Format::ALL.iter().filter(|format| format.block_elems() > 1) {
            let weight = |case: Case| case.typed(DType::Quant(*format), &[6, 256], Fill::Normal);
            cases.push(weight(of(false, true).f32(&[9, 256])));
            cases.push(weight(of(false, false).f32(&[2, 3, 6])));
            if format.has_codes() {
                cases.push(weight(int8(true).fixed(&[9, 256], Fill::Normal)));
            }
        }
        cases.extend(sizes().into_iter().map(Case::bench));
        cases
    }
}

/// Sizes to time: square ones, LoRA of rank 8, and a layer of SmolLM2-135M with the formats of weights
/// forward, backward and for one row.
fn sizes() -> Vec<Case> {
    let of = |precision, a, b| Case::new(MatMul { precision, ..MatMul::default().with(a, b) });
    let mut cases = Vec::new();
    for precision in [Precision::F32, Precision::Bf16] {
        for (a, b) in [(false, false), (false, true), (true, false)] {
            cases.push(of(precision, a, b).f32(&[1024, 1024]).f32(&[1024, 1024]));
        }
    }
    let single = |a, b| of(Precision::F32, a, b);
    cases.extend([
        single(false, true).f32(&[256, 576]).f32(&[8, 576]),
        single(false, true).f32(&[256, 8]).f32(&[576, 8]),
        single(true, false).f32(&[256, 8]).f32(&[256, 576]),
    ]);
    for name in ["f32", "bf16", "q8_0", "q4_0", "q4_1"] {
        let dtype = DType::from_name(name).unwrap_or(DType::F32);
        let weight = |case: Case| case.typed(dtype, &[1536, 576], Fill::Normal);
        cases.extend([
            weight(single(false, true).f32(&[256, 576])),
            weight(single(false, false).f32(&[256, 1536])),
            weight(single(false, true).f32(&[1, 576])),
        ]);
        if matches!(dtype, DType::Quant(_)) {
            cases.push(weight(of(Precision::Int8, false, true).f32(&[256, 576])));
            cases.push(weight(of(Precision::Int8, false, false).f32(&[256, 1536])));
        }
    }
    cases
}
