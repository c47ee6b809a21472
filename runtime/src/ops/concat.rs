//! `concat`: tensors one after another along an axis.

use tenon_kernels::movement::Layout;

use super::common::{normalize_axes, shape_error};
use super::moves::{movable, scatter_from};
use super::{AttrReader, Attrs, Case, Fill, Op, OpKind, Slice, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, TensorDesc};

/// Joins any number of tensors along `axis`; all other dimensions must be alike.
#[derive(Clone, Copy, Debug)]
pub struct Concat {
    /// The axis; a negative one counts from the end.
    pub axis: i64,
}

impl Concat {
    /// The axis by its place among `rank`.
    fn axis(&self, rank: usize) -> Result<usize> {
        let axes = normalize_axes(Self::NAME, &[self.axis], rank);
        axes.map(|axes| axes[0]).map_err(|_| Error::Attr {
            op: Self::NAME.to_owned(),
            name: "axis".to_owned(),
            why: format!("is {}, of a tensor of rank {rank}", self.axis),
        })
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("axis", self.axis.into())]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let Some(first) = inputs.first() else {
            return Err(Error::Arity { op: Self::NAME, expected: "1 or more", found: 0 });
        };
        movable(Self::NAME, inputs)?;
        let axis = self.axis(first.shape().len())?;
        let mut dims = first.shape().to_vec();
        for other in &inputs[1..] {
            let shape = other.shape();
            let fits = shape.len() == dims.len()
                && (0..dims.len()).all(|i| i == axis || shape[i] == dims[i]);
            if !fits {
                let why = format!("differ in another axis than {axis}");
                return Err(shape_error(Self::NAME, inputs, why));
            }
            dims[axis] = dims[axis].saturating_add(shape[axis]);
        }
        Ok(vec![TensorDesc::new(first.dtype(), Shape::new(&dims)?)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let axis = self.axis(cx.desc(cx.output(0)).shape().len())?;
        let mut start = 0;
        for i in 0..cx.input_count() {
            let shape = *cx.desc(cx.input(i)).shape();
            if cx.wants(i) {
                let mut starts = vec![0; shape.len()];
                starts[axis] = start;
                let gradient = cx.add(Slice::at(&starts, &shape), &[cx.cotangent()])?;
                cx.set(i, gradient);
            }
            start += shape[axis];
        }
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Launch {
        let shape = outputs[0].shape();
        let axis = self.axis(shape.len()).unwrap_or_default();
        let mut to = Layout::new(0, &shape.strides());
        let mut copies = Vec::with_capacity(inputs.len());
        for (i, input) in inputs.iter().enumerate() {
            copies.push((i, scatter_from(input, &to)));
            to.offset += to.strides[axis] * input.shape()[axis];
        }
        Launch::Move { fill: None, copies }
    }
}

impl OpKind for Concat {
    const NAME: &'static str = "concat";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { axis: attrs.int_or("axis", 0)? })
    }

    fn cases() -> Vec<Case> {
        let case = |axis| Case::new(Self { axis });
        let index = Fill::Index(7);
        vec![
            case(0).f32(&[2, 3]).f32(&[1, 3]),
            case(-1).f32(&[2, 3]).f32(&[2, 1]).f32(&[2, 4]),
            case(1).f32(&[2, 3, 4]).f32(&[2, 0, 4]).f32(&[2, 2, 4]),
            case(0).f32(&[5]),
            case(0).typed(DType::I32, &[3], index.clone()).typed(DType::I32, &[4], index.clone()),
            // Rows of half a word more, and of whole words.
            case(1)
                .typed(DType::BF16, &[3, 3], Fill::Normal)
                .typed(DType::BF16, &[3, 2], Fill::Normal),
            case(0)
                .typed(DType::I8, &[3, 8], index.clone())
                .typed(DType::I8, &[2, 8], index.clone()),
            case(1).f32(&[1024, 1024]).f32(&[1024, 2048]).bench(),
        ]
    }
}
