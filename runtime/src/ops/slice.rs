//! `slice`: a box of a tensor, with steps.

use tenon_kernels::movement::Layout;

use super::common::arity;
use super::moves::{gather_to, movable};
use super::{Attr, AttrReader, Attrs, Case, Fill, Op, OpKind, Pad, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::{DType, MAX_RANK, Shape, TensorDesc};

/// The elements `starts[i] + k * steps[i] < ends[i]` along every dimension `i`.
///
/// Negative starts and ends count from the end of the dimension; what lies outside is cut off, as
/// in Python. Steps are at least 1, and all 1 where absent.
#[derive(Clone, Debug)]
pub struct Slice {
    /// First element of each dimension.
    pub starts: Vec<i64>,
    /// End of each dimension, not itself taken.
    pub ends: Vec<i64>,
    /// Step of each dimension; empty for all 1.
    pub steps: Vec<usize>,
}

/// What is taken of a dimension.
#[derive(Clone, Copy, Default)]
struct Taken {
    start: usize,
    step: usize,
    count: usize,
}

impl Slice {
    /// The box that begins at `starts` and has `dims` elements.
    #[must_use]
    pub fn at(starts: &[usize], dims: &[usize]) -> Self {
        let ends = starts.iter().zip(dims).map(|(&s, &d)| (s + d) as i64).collect();
        Self { starts: starts.iter().map(|&s| s as i64).collect(), ends, steps: Vec::new() }
    }

    fn taken(&self, shape: &Shape) -> [Taken; MAX_RANK] {
        let mut all = [Taken::default(); MAX_RANK];
        for (i, &dim) in shape.iter().enumerate() {
            let place = |at: i64| {
                let from_end = if at < 0 { at.saturating_add(dim as i64) } else { at };
                from_end.clamp(0, dim as i64) as usize
            };
            let (start, end) = (place(self.starts[i]), place(self.ends[i]));
            let step = self.steps.get(i).copied().unwrap_or(1);
            all[i] = Taken { start, step, count: end.saturating_sub(start).div_ceil(step) };
        }
        all
    }
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![
            ("starts", Attr::Ints(self.starts.clone())),
            ("ends", Attr::Ints(self.ends.clone())),
            ("steps", Attr::from(&self.steps[..])),
        ]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x] = arity(Self::NAME, inputs)?;
        movable(Self::NAME, inputs)?;
        let rank = x.shape().len();
        let fail = |name: &str, why: String| {
            Err(Error::Attr { op: Self::NAME.to_owned(), name: name.to_owned(), why })
        };
        let lens = [("starts", self.starts.len()), ("ends", self.ends.len())];
        if let Some((name, len)) = lens.into_iter().find(|&(_, len)| len != rank) {
            return fail(name, format!("has {len} entries for {rank} dimensions"));
        }
        if !(self.steps.is_empty() || self.steps.len() == rank) || self.steps.contains(&0) {
            return fail("steps", format!("must be {rank} numbers from 1, is {:?}", self.steps));
        }
        let taken = self.taken(x.shape()).map(|t| t.count);
        Ok(vec![TensorDesc::new(x.dtype(), Shape::new(&taken[..rank])?)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let shape = *cx.desc(cx.input(0)).shape();
        let taken = &self.taken(&shape)[..shape.len()];
        let span = |t: &Taken| (t.count.max(1) - 1) * t.step + t.count.min(1);
        let after = |(t, &dim): (&Taken, &usize)| dim - t.start - span(t);
        let pad = Pad {
            low: taken.iter().map(|t| t.start).collect(),
            high: taken.iter().zip(shape.iter()).map(after).collect(),
            interior: taken.iter().map(|t| t.step - 1).collect(),
            value: 0.0,
        };
        let gradient = cx.add(pad, &[cx.cotangent()])?;
        cx.set(0, gradient);
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Launch {
        let shape = inputs[0].shape();
        let mut layout = Layout::new(0, &shape.strides());
        for (stride, taken) in layout.strides.iter_mut().zip(&self.taken(shape)[..shape.len()]) {
            layout.offset += *stride * taken.start;
            *stride *= taken.step;
        }
        gather_to(outputs[0], &layout)
    }
}

impl OpKind for Slice {
    const NAME: &'static str = "slice";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let ints = |v: Option<Vec<i64>>, attrs: &AttrReader<'_>, name| {
            v.ok_or_else(|| attrs.error(name, "is missing"))
        };
        let starts = attrs.ints("starts")?;
        let ends = attrs.ints("ends")?;
        Ok(Self {
            starts: ints(starts, attrs, "starts")?,
            ends: ints(ends, attrs, "ends")?,
            steps: attrs.usizes_or("steps", &[])?,
        })
    }

    fn cases() -> Vec<Case> {
        let case = |starts: &[i64], ends: &[i64], steps: &[usize]| {
            let (starts, ends, steps) = (starts.to_vec(), ends.to_vec(), steps.to_vec());
            Case::new(Self { starts, ends, steps })
        };
        vec![
            case(&[1, 0], &[3, 4], &[]).f32(&[4, 5]),
            case(&[-3, 1], &[i64::MAX, -1], &[2, 3]).f32(&[5, 9]),
            case(&[0, 2, 0], &[2, 3, 4], &[]).f32(&[2, 3, 4]),
            case(&[0, 0], &[4, 5], &[3, 2]).f32(&[4, 5]),
            case(&[3], &[9], &[]).typed(DType::I32, &[12], Fill::Index(50)),
            case(&[0, 1], &[3, 6], &[]).typed(DType::F16, &[3, 7], Fill::Normal),
            case(&[0, 512], &[4096, 1024], &[]).f32(&[4096, 1536]).bench(),
        ]
    }
}
