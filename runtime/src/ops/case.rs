//! Test cases that an op brings along: one list for gradient checks, conformance and benches.

use std::sync::Arc;

use super::Op;
use crate::error::Result;
use crate::tensor::{DType, Shape, TensorDesc};

/// What an operand's elements are drawn from.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// Standard normal.
    Normal,
    /// Uniform in the range.
    Uniform(f32, f32),
    /// Normal, but no closer to 0 than 0.1: for functions with a kink or pole there.
    AwayFromZero,
    /// Values at least 0.05 apart in random order: for maxima.
    Distinct,
    /// Whole numbers below the bound (i32 operands).
    Index(usize),
    /// These values, repeated as needed.
    Values(Vec<f32>),
}

/// One operand of a case.
#[derive(Clone, Debug)]
pub struct Operand {
    /// Its type and shape.
    pub desc: TensorDesc,
    /// Its elements. Quantized operands are encoded from them.
    pub fill: Fill,
    /// Whether the gradient toward it is checked; only f32 operands can be.
    pub differentiate: bool,
}

/// An op with operands.
#[derive(Clone, Debug)]
pub struct Case {
    /// The op.
    pub op: Arc<dyn Op>,
    /// Its operands.
    pub operands: Vec<Operand>,
    /// Whether this is a size to time rather than to check by finite differences.
    pub bench: bool,
    /// Whether that size's first axis may be any, for all rows of it are alike.
    pub rows: bool,
}

impl Case {
    /// A case of `op` without operands yet.
    #[must_use]
    pub fn new(op: impl Op) -> Self {
        Self { op: Arc::new(op), operands: Vec::new(), bench: false, rows: false }
    }

    /// Adds a normal f32 operand that is differentiated.
    #[must_use]
    pub fn f32(self, dims: &[usize]) -> Self {
        self.filled(dims, Fill::Normal)
    }

    /// Adds an f32 operand that is differentiated.
    #[must_use]
    pub fn filled(self, dims: &[usize], fill: Fill) -> Self {
        self.operand(DType::F32, dims, fill, true)
    }

    /// Adds an f32 operand that is not differentiated.
    #[must_use]
    pub fn fixed(self, dims: &[usize], fill: Fill) -> Self {
        self.operand(DType::F32, dims, fill, false)
    }

    /// Adds an i32 operand of indices below `bound`.
    #[must_use]
    pub fn index(self, dims: &[usize], bound: usize) -> Self {
        self.operand(DType::I32, dims, Fill::Index(bound), false)
    }

    /// Adds a frozen operand of any type.
    #[must_use]
    pub fn typed(self, dtype: DType, dims: &[usize], fill: Fill) -> Self {
        self.operand(dtype, dims, fill, false)
    }

    /// Marks the case as one to time.
    #[must_use]
    pub fn bench(mut self) -> Self {
        self.bench = true;
        self
    }

    /// As [`Case::bench`], of which [`Case::fitting`] may take a part.
    #[must_use]
    pub fn bench_rows(self) -> Self {
        Self { rows: true, ..self.bench() }
    }

    /// The case with `len` elements in the last axis of its first operand, and of those that have as
    /// many there; `None` where the op has no such case.
    #[must_use]
    pub fn with_row(&self, len: usize) -> Option<Self> {
        self.with_axis(<[usize]>::last_mut, len)
    }

    /// The case with its rows, where they may be any number, halved until operands and outputs take at
    /// most `bytes`.
    #[must_use]
    pub fn fitting(&self, bytes: usize) -> Self {
        let all = self.operands.first().and_then(|x| x.desc.shape().first().copied());
        let (mut case, mut rows) = (self.clone(), all.filter(|_| self.rows).unwrap_or(1));
        while rows > 1 && case.bytes().is_some_and(|taken| taken > bytes) {
            rows /= 2;
            match self.with_axis(<[usize]>::first_mut, rows) {
                Some(fewer) => case = fewer,
                None => break,
            }
        }
        case
    }

    /// Bytes of operands and outputs.
    fn bytes(&self) -> Option<usize> {
        let (operands, outputs) = (self.descs(), self.op.infer(&self.descs()).ok()?);
        Some(operands.into_iter().chain(&outputs).map(TensorDesc::bytes).sum())
    }

    /// The case with `len` elements in an axis of its first operand, more than one, and of those that
    /// have as many there.
    fn with_axis(&self, axis: fn(&mut [usize]) -> Option<&mut usize>, len: usize) -> Option<Self> {
        let mut own = self.operands.first()?.desc.shape().to_vec();
        let own = *axis(&mut own).filter(|own| **own > 1)?;
        let mut case = self.clone();
        for operand in &mut case.operands {
            let mut dims = operand.desc.shape().to_vec();
            if let Some(dim) = axis(&mut dims).filter(|dim| **dim == own) {
                *dim = len;
                let shape = Shape::new(&dims).ok()?;
                operand.desc = TensorDesc::new(operand.desc.dtype(), shape).ok()?;
            }
        }
        case.op.infer(&case.descs()).is_ok().then_some(case)
    }

    /// The operands' descriptions.
    #[must_use]
    pub fn descs(&self) -> Vec<&TensorDesc> {
        self.operands.iter().map(|o| &o.desc).collect()
    }

    /// The type that names the case: that of its first operand of a type of note, such as a weight
    /// format or bf16, or else of its first operand.
    #[must_use]
    pub fn dtype(&self) -> DType {
        let types = self.operands.iter().map(|operand| operand.desc.dtype());
        let of_note = |dtype: &DType| !matches!(dtype, DType::F32 | DType::I32);
        types.clone().find(of_note).or(types.clone().next()).unwrap_or(DType::F32)
    }

    /// A line that names the case.
    #[must_use]
    pub fn label(&self) -> String {
        let attrs: Vec<_> = self.op.attrs().iter().map(|(n, v)| format!("{n}={v}")).collect();
        let operands: Vec<_> = self.operands.iter().map(|o| o.desc.to_string()).collect();
        format!("{}({}){{{}}}", self.op.name(), operands.join(", "), attrs.join(", "))
    }

    fn operand(mut self, dtype: DType, dims: &[usize], fill: Fill, differentiate: bool) -> Self {
        let desc: Result<_> = Shape::new(dims).and_then(|s| TensorDesc::new(dtype, s));
        // Cases are literals in op files; a wrong one is a bug that every test run meets.
        let desc = desc.expect("a case's operand has a valid shape");
        self.operands.push(Operand { desc, fill, differentiate });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BroadcastTo, CrossEntropy, Op, OpKind, Transpose};
    use super::*;

    fn timed<O: OpKind + Op>() -> Case {
        O::cases().into_iter().find(|case| case.bench).expect("a case to time")
    }

    #[test]
    fn rows_are_halved_together_until_they_fit() {
        let whole = timed::<CrossEntropy>();
        let part = whole.fitting(768 << 10);
        assert_eq!(part.operands[0].desc.shape()[..], [32, 4096]);
        assert_eq!(part.operands[1].desc.shape()[..], [32]);
        assert_eq!(whole.fitting(usize::MAX).descs(), whole.descs());
        assert_eq!(whole.fitting(0).operands[0].desc.shape()[..], [1, 4096]);
    }

    #[test]
    fn what_is_not_rows_stays() {
        for case in [timed::<Transpose>(), timed::<BroadcastTo>()] {
            assert_eq!(case.fitting(1).descs(), case.descs());
        }
    }
}
