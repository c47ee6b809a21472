//! How the elements of operands of different shapes meet.

use std::fmt;
use std::ops::Range;

/// Greatest number of dimensions that remain after merging.
pub const MAX_DIMS: usize = 8;

/// The walk over the broadcast of `N` contiguous row-major operands, by NumPy's rules: shapes are
/// aligned at their last dimension, and a dimension of one is repeated.
///
/// Neighbouring dimensions that every operand walks alike are merged, so a row is as long as it can
/// be; within a row an operand either steps by one or stays. Making a plan allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broadcast<const N: usize> {
    /// Dimensions in use, the innermost first.
    dims: usize,
    shape: [usize; MAX_DIMS],
    /// Elements that each operand moves for a step of each dimension.
    strides: [[usize; N]; MAX_DIMS],
    len: usize,
}

/// Why shapes have no broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BroadcastError {
    /// Two operands differ in a dimension where neither is one.
    Mismatch {
        /// The dimension, counted from the last.
        from_last: usize,
        /// One extent.
        left: usize,
        /// The other.
        right: usize,
    },
    /// More than [`MAX_DIMS`] dimensions remain after merging.
    TooManyDims,
    /// The result has more elements than memory can.
    TooLarge,
}

impl fmt::Display for BroadcastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch { from_last, left, right } => {
                write!(
                    f,
                    "extents {left} and {right} differ in dimension {from_last} from the last"
                )
            }
            Self::TooManyDims => write!(f, "more than {MAX_DIMS} dimensions after merging"),
            Self::TooLarge => write!(f, "the result has more elements than memory can hold"),
        }
    }
}

impl std::error::Error for BroadcastError {}

/// A run of consecutive result elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<const N: usize> {
    /// First element of the result.
    pub out: usize,
    /// Element of each operand that meets it.
    pub operands: [usize; N],
    /// Elements in the run.
    pub len: usize,
}

impl<const N: usize> Broadcast<N> {
    /// The plan for operands of these shapes.
    ///
    /// # Errors
    /// [`BroadcastError`] where the shapes do not fit together.
    pub fn new(shapes: [&[usize]; N]) -> Result<Self, BroadcastError> {
        let mut plan = Self { dims: 0, shape: [1; MAX_DIMS], strides: [[0; N]; MAX_DIMS], len: 1 };
        let mut next_stride = [1usize; N];
        let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
        for from_last in 0..rank {
            let extents = shapes.map(|s| s.len().checked_sub(from_last + 1).map_or(1, |d| s[d]));
            let extent = common_extent(&extents, from_last)?;
            let mut strides = [0; N];
            for k in 0..N {
                if extents[k] != 1 {
                    strides[k] = next_stride[k];
                    next_stride[k] = next_stride[k].saturating_mul(extents[k]);
                }
            }
            plan.push(extent, strides)?;
        }
        plan.dims = plan.dims.max(1);
        Ok(plan)
    }

    /// The plan for a single row of `len` elements, in which some operands step and the others stay.
    #[must_use]
    pub fn row(steps: [bool; N], len: usize) -> Self {
        let mut plan = Self { dims: 1, shape: [1; MAX_DIMS], strides: [[0; N]; MAX_DIMS], len };
        plan.shape[0] = len;
        plan.strides[0] = steps.map(usize::from);
        plan
    }

    /// Adds the next dimension outwards, merging it into the last one where every operand allows.
    fn push(&mut self, extent: usize, strides: [usize; N]) -> Result<(), BroadcastError> {
        self.len = self.len.checked_mul(extent).ok_or(BroadcastError::TooLarge)?;
        if extent == 1 {
            return Ok(());
        }
        if let Some(last) = self.dims.checked_sub(1) {
            let whole = self.shape[last];
            if strides == self.strides[last].map(|s| s.saturating_mul(whole)) {
                self.shape[last] = whole * extent;
                return Ok(());
            }
        }
        if self.dims == MAX_DIMS {
            return Err(BroadcastError::TooManyDims);
        }
        self.shape[self.dims] = extent;
        self.strides[self.dims] = strides;
        self.dims += 1;
        Ok(())
    }

    /// Elements of the result.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the result has no element.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether each operand steps along a row; the others stay.
    #[must_use]
    pub fn steps(&self) -> [bool; N] {
        self.strides[0].map(|stride| stride == 1)
    }

    /// The rows that make up `range` of the result, the first and last possibly in part.
    ///
    /// # Panics
    /// Where `range` reaches beyond [`Broadcast::len`].
    #[must_use]
    pub fn rows(&self, range: Range<usize>) -> Rows<'_, N> {
        assert!(range.end <= self.len, "{range:?} of {} elements", self.len);
        let mut rows = Rows {
            plan: self,
            index: [0; MAX_DIMS],
            next: Row { out: range.start, operands: [0; N], len: 0 },
            end: range.end,
        };
        if range.is_empty() {
            return rows;
        }
        let mut rest = range.start;
        for d in 0..self.dims {
            rows.index[d] = rest % self.shape[d];
            rest /= self.shape[d];
            for k in 0..N {
                rows.next.operands[k] += rows.index[d] * self.strides[d][k];
            }
        }
        rows
    }
}

/// The extent that all operands agree on, where one repeats.
fn common_extent(extents: &[usize], from_last: usize) -> Result<usize, BroadcastError> {
    let mut common = 1;
    for &extent in extents {
        if common == 1 {
            common = extent;
        } else if extent != 1 && extent != common {
            return Err(BroadcastError::Mismatch { from_last, left: common, right: extent });
        }
    }
    Ok(common)
}

/// Iterator over the rows of a range.
#[derive(Clone, Debug)]
pub struct Rows<'a, const N: usize> {
    plan: &'a Broadcast<N>,
    index: [usize; MAX_DIMS],
    next: Row<N>,
    end: usize,
}

impl<const N: usize> Iterator for Rows<'_, N> {
    type Item = Row<N>;

    #[inline]
    fn next(&mut self) -> Option<Row<N>> {
        if self.next.out >= self.end {
            return None;
        }
        let len = (self.plan.shape[0] - self.index[0]).min(self.end - self.next.out);
        let row = Row { len, ..self.next };
        self.next.out += len;
        self.advance();
        Some(row)
    }
}

impl<const N: usize> Rows<'_, N> {
    /// Moves the operands to the start of the next row.
    #[inline]
    fn advance(&mut self) {
        let Broadcast { dims, shape, strides, .. } = self.plan;
        let operands = &mut self.next.operands;
        for k in 0..N {
            operands[k] -= self.index[0] * strides[0][k];
        }
        self.index[0] = 0;
        for d in 1..*dims {
            self.index[d] += 1;
            for k in 0..N {
                operands[k] += strides[d][k];
            }
            if self.index[d] < shape[d] {
                break;
            }
            for k in 0..N {
                operands[k] -= shape[d] * strides[d][k];
            }
            self.index[d] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The operand element that meets result element `out`, by the definition.
    fn element(shape: &[usize], result: &[usize], mut out: usize) -> usize {
        let (mut element, mut stride) = (0, 1);
        for from_last in 0..result.len() {
            let extent = result[result.len() - 1 - from_last];
            if let Some(d) = shape.len().checked_sub(from_last + 1) {
                if shape[d] != 1 {
                    element += out % extent * stride;
                }
                stride *= shape[d];
            }
            out /= extent;
        }
        element
    }

    proptest! {
        #[test]
        fn rows_meet_the_definition(
            result in prop::collection::vec(1usize..4, 0..7),
            repeat in prop::array::uniform3(prop::collection::vec(any::<bool>(), 7)),
            drop in prop::array::uniform3(0usize..7),
            cut in (0.0..1.0f64, 0.0..1.0f64),
        ) {
            let shapes: Vec<Vec<usize>> = (0..3).map(|k| {
                let all = result.iter().zip(&repeat[k]);
                let shape: Vec<usize> = all.map(|(&n, &one)| if one { 1 } else { n }).collect();
                // One operand keeps the whole shape, so that the result is known.
                if k == 0 { result.clone() } else { shape[drop[k].min(shape.len())..].to_vec() }
            }).collect();
            let plan = Broadcast::new([&shapes[0][..], &shapes[1][..], &shapes[2][..]]).unwrap();
            let len: usize = result.iter().product();
            prop_assert_eq!(plan.len(), len);
            let start = (cut.0 * len as f64) as usize;
            let end = start + (cut.1 * (len - start) as f64).ceil() as usize;
            let mut seen = start;
            for row in plan.rows(start..end) {
                prop_assert_eq!(row.out, seen);
                for i in 0..row.len {
                    for k in 0..3 {
                        let step = usize::from(plan.steps()[k]);
                        prop_assert_eq!(
                            row.operands[k] + i * step, element(&shapes[k], &result, row.out + i)
                        );
                    }
                }
                seen += row.len;
            }
            prop_assert_eq!(seen, end);
        }
    }

    #[test]
    fn equal_shapes_make_one_row() {
        let plan = Broadcast::new([&[4, 5, 6][..], &[4, 5, 6][..]]).unwrap();
        assert_eq!(plan.rows(0..120).count(), 1);
        assert_eq!(plan.steps(), [true, true]);
    }

    #[test]
    fn a_bias_makes_a_row_for_each_vector() {
        let plan = Broadcast::new([&[4, 5, 6][..], &[6][..]]).unwrap();
        assert_eq!(plan.rows(0..120).count(), 20);
    }

    #[test]
    fn a_row_is_the_plan_of_its_shapes() {
        let plan = Broadcast::new([&[9][..], &[1][..]]).unwrap();
        assert_eq!(Broadcast::row([true, false], 9), plan);
    }

    #[test]
    fn scalars_and_empty_shapes() {
        let plan = Broadcast::new([&[][..], &[][..]]).unwrap();
        assert_eq!(plan.rows(0..1).collect::<Vec<_>>(), [Row { out: 0, operands: [0, 0], len: 1 }]);
        let plan = Broadcast::new([&[3, 0][..], &[1, 1][..]]).unwrap();
        assert!(plan.is_empty() && plan.rows(0..0).next().is_none());
    }

    #[test]
    fn misfits_are_errors() {
        let error = Broadcast::new([&[2, 3][..], &[2, 4][..]]).unwrap_err();
        assert_eq!(error, BroadcastError::Mismatch { from_last: 0, left: 3, right: 4 });
        let huge = [usize::MAX, 2];
        assert_eq!(Broadcast::new([&huge[..], &huge[..]]), Err(BroadcastError::TooLarge));
        let (zigzag, ones) = ([2; 10], [1, 2, 1, 2, 1, 2, 1, 2, 1, 2]);
        assert_eq!(Broadcast::new([&zigzag[..], &ones[..]]), Err(BroadcastError::TooManyDims));
    }
}
