//! Shapes with checked arithmetic.

use std::ops::Deref;

use crate::error::{Error, Result};

/// Most dimensions a tensor may have.
pub const MAX_RANK: usize = 8;

/// Most elements and most bytes of a tensor: far more than a device has, few enough that sizes
/// computed from a handful of tensors do not overflow.
pub(super) const MOST: usize = usize::MAX >> if usize::BITS < 64 { 1 } else { 18 };

/// Dimensions of a tensor, outermost first; at most [`MAX_RANK`], with a product that fits memory.
///
/// Dereferences to a slice of dimensions. An empty shape is a scalar.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// The shape of a scalar.
    pub const SCALAR: Self = Self { dims: [0; MAX_RANK], rank: 0 };

    /// A shape of `dims`.
    ///
    /// # Errors
    /// [`Error::Tensor`] for more than [`MAX_RANK`] dimensions or a product larger than memory.
    pub fn new(dims: &[usize]) -> Result<Self> {
        if dims.len() > MAX_RANK {
            return Err(Error::Tensor(format!(
                "{} dimensions; at most {MAX_RANK} are supported",
                dims.len()
            )));
        }
        // Zero-sized dimensions must not hide an overflow of the others: strides are products too.
        dims.iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d.max(1)))
            .filter(|&n| n <= MOST)
            .ok_or_else(|| Error::Tensor(format!("{dims:?} has more elements than memory")))?;
        let mut own = [0; MAX_RANK];
        own[..dims.len()].copy_from_slice(dims);
        Ok(Self { dims: own, rank: dims.len() })
    }

    /// Number of elements.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.iter().product()
    }

    /// Row-major strides in elements.
    #[must_use]
    pub fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [1; MAX_RANK];
        for i in (0..self.rank.saturating_sub(1)).rev() {
            strides[i] = strides[i + 1] * self.dims[i + 1].max(1);
        }
        strides
    }

    /// The shape that two shapes broadcast to (NumPy's rule), if they do.
    #[must_use]
    pub fn broadcast(&self, other: &Self) -> Option<Self> {
        let rank = self.rank.max(other.rank);
        let mut dims = [0; MAX_RANK];
        for i in 0..rank {
            let at = |s: &Self| (i + s.rank).checked_sub(rank).map_or(1, |j| s.dims[j]);
            dims[i] = match (at(self), at(other)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            };
        }
        Self::new(&dims[..rank]).ok()
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank]
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_overflow_and_rank() {
        assert!(Shape::new(&[usize::MAX, 2]).is_err());
        assert!(Shape::new(&[0, usize::MAX, 2]).is_err());
        assert!(Shape::new(&[MOST]).is_ok() && Shape::new(&[MOST + 1]).is_err());
        assert!(Shape::new(&[1; MAX_RANK + 1]).is_err());
        assert_eq!(Shape::new(&[2, 0, 3]).unwrap().numel(), 0);
        assert_eq!(Shape::SCALAR.numel(), 1);
    }

    #[test]
    fn broadcasts_as_numpy() {
        let s = |d: &[usize]| Shape::new(d).unwrap();
        assert_eq!(s(&[4, 1, 3]).broadcast(&s(&[2, 1])), Some(s(&[4, 2, 3])));
        assert_eq!(s(&[]).broadcast(&s(&[5])), Some(s(&[5])));
        assert_eq!(s(&[2]).broadcast(&s(&[3])), None);
    }

    #[test]
    fn strides_are_row_major() {
        assert_eq!(&Shape::new(&[2, 3, 4]).unwrap().strides()[..3], &[12, 4, 1]);
    }
}
