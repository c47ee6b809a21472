//! `reshape`: the same elements under another shape; no bytes move.

use super::common::{arity, shape_error};
use super::{Attr, AttrReader, Attrs, Case, Cost, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::{DType, Shape, TensorDesc};

/// Gives `x` the shape `shape`; one dimension may be -1 and is inferred.
#[derive(Clone, Debug)]
pub struct Reshape {
    /// The new dimensions.
    pub shape: Vec<i64>,
}

impl Reshape {
    /// A reshape to known dimensions.
    #[must_use]
    pub fn to(dims: &[usize]) -> Self {
        Self { shape: dims.iter().map(|&d| d as i64).collect() }
    }

    fn resolve(&self, inputs: &[&TensorDesc]) -> Result<Shape> {
        let [x] = arity(Self::NAME, inputs)?;
        let fail = |why: &str| shape_error(Self::NAME, inputs, format!("{:?} {why}", self.shape));
        let known = self.shape.iter().filter(|&&d| d != -1);
        let known = known.map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
        let known = known.map_err(|_| fail("has a negative dimension"))?;
        let product = Shape::new(&known)?.numel();
        let holes = self.shape.len() - known.len();
        let hole = match (holes, product) {
            (0, _) => 0,
            (1, p) if p > 0 && x.numel() % p == 0 => x.numel() / p,
            _ => return Err(fail("leaves no whole dimension to infer")),
        };
        let dims: Vec<_> =
            self.shape.iter().map(|&d| usize::try_from(d).unwrap_or(hole)).collect();
        let shape = Shape::new(&dims)?;
        if shape.numel() != x.numel() {
            return Err(fail("has another number of elements"));
        }
        Ok(shape)
    }
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("shape", Attr::Ints(self.shape.clone()))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let shape = self.resolve(inputs)?;
        let desc = TensorDesc::new(inputs[0].dtype(), shape)?;
        if desc.bytes() != inputs[0].bytes() {
            return Err(shape_error(Self::NAME, inputs, "would split quantized blocks"));
        }
        Ok(vec![desc])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let back = Self::to(cx.desc(cx.input(0)).shape());
        let gradient = cx.add(back, &[cx.cotangent()])?;
        cx.set(0, gradient);
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Alias
    }

    fn cost(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Cost {
        Cost::default()
    }
}

impl OpKind for Reshape {
    const NAME: &'static str = "reshape";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let shape = attrs.ints("shape")?.ok_or_else(|| attrs.error("shape", "is missing"))?;
        Ok(Self { shape })
    }

    fn cases() -> Vec<Case> {
        vec![
            Case::new(Self { shape: vec![3, -1] }).f32(&[2, 3, 4]),
            Case::new(Self { shape: vec![] }).f32(&[1, 1]),
            Case::new(Self { shape: vec![6] }).typed(DType::F16, &[2, 3], super::Fill::Normal),
        ]
    }
}
