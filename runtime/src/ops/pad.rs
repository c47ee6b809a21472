//! `pad`: a constant around a tensor and between its elements.

use tenon_kernels::movement::Layout;

use super::common::{all_f32, arity};
use super::moves::scatter_from;
use super::{Attr, AttrReader, Attrs, Case, Op, OpKind, Slice, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::{MAX_RANK, Shape, TensorDesc};

/// Puts `low[i]` times `value` before, `high[i]` times after and `interior[i]` times between the
/// elements of dimension `i` of an f32 tensor.
#[derive(Clone, Debug)]
pub struct Pad {
    /// Elements before each dimension.
    pub low: Vec<usize>,
    /// Elements after each dimension.
    pub high: Vec<usize>,
    /// Elements between neighbours of each dimension; empty for none.
    pub interior: Vec<usize>,
    /// What the new elements are.
    pub value: f32,
}

impl Pad {
    fn step(&self, i: usize) -> usize {
        self.interior.get(i).map_or(1, |gap| gap.saturating_add(1))
    }
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![
            ("low", Attr::from(&self.low[..])),
            ("high", Attr::from(&self.high[..])),
            ("interior", Attr::from(&self.interior[..])),
            ("value", Attr::from(self.value)),
        ]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        let rank = x.shape().len();
        let interior = if self.interior.is_empty() { rank } else { self.interior.len() };
        let lens = [("low", self.low.len()), ("high", self.high.len()), ("interior", interior)];
        if let Some((name, len)) = lens.into_iter().find(|&(_, len)| len != rank) {
            let why = format!("has {len} entries for {rank} dimensions");
            return Err(Error::Attr { op: Self::NAME.to_owned(), name: name.to_owned(), why });
        }
        let mut dims = [0usize; MAX_RANK];
        for (i, &dim) in x.shape().iter().enumerate() {
            let inner = (dim.max(1) - 1).saturating_mul(self.step(i)).saturating_add(dim.min(1));
            dims[i] = inner.saturating_add(self.low[i]).saturating_add(self.high[i]);
        }
        Ok(vec![TensorDesc::f32(&dims[..rank])?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let padded: Shape = *cx.desc(cx.output(0)).shape();
        let end = |(&dim, &high): (&usize, &usize)| (dim - high) as i64;
        let slice = Slice {
            starts: self.low.iter().map(|&low| low as i64).collect(),
            ends: padded.iter().zip(&self.high).map(end).collect(),
            steps: (0..padded.len()).map(|i| self.step(i)).collect(),
        };
        let gradient = cx.add(slice, &[cx.cotangent()])?;
        cx.set(0, gradient);
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Launch {
        let mut layout = Layout::new(0, &outputs[0].shape().strides());
        for (i, &low) in self.low.iter().enumerate() {
            layout.offset += layout.strides[i] * low;
            layout.strides[i] *= self.step(i);
        }
        let copies = vec![(0, scatter_from(inputs[0], &layout))];
        Launch::Move { fill: Some(self.value), copies }
    }
}

impl OpKind for Pad {
    const NAME: &'static str = "pad";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self {
            low: attrs.usizes("low")?,
            high: attrs.usizes("high")?,
            interior: attrs.usizes_or("interior", &[])?,
            value: attrs.bound_or("value", 0.0)? as f32,
        })
    }

    fn cases() -> Vec<Case> {
        let case = |low: &[usize], high: &[usize], interior: &[usize]| {
            let (low, high, interior) = (low.to_vec(), high.to_vec(), interior.to_vec());
            Case::new(Self { low, high, interior, value: 0.5 })
        };
        vec![
            case(&[1, 0], &[0, 2], &[]).f32(&[3, 4]),
            case(&[0, 2, 1], &[1, 0, 3], &[1, 0, 2]).f32(&[2, 3, 4]),
            case(&[], &[], &[]).f32(&[]),
            case(&[0, 0, 1, 1], &[0, 0, 1, 1], &[]).f32(&[16, 32, 64, 64]).bench(),
        ]
    }
}
