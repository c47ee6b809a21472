//! Formats whose elements are bytes or nibbles under one scale, for integer products.

use super::{BlockFormat, Format, Q4_0, Q4_1, Q8_0};

/// A format whose blocks are 32 elements `d * (q - CENTER) + m` with unsigned codes `q`.
///
/// A block is `d`, then `m` where it is stored, as half floats, then the codes: nibbles as
/// [`Q4_0`] draws them, or bytes, of which bit 7 is flipped.
pub trait Codes: BlockFormat {
    /// Bits that hold any code, rounded up to what
    /// [`dot_bytes`](crate::simd::Simd::dot_bytes) tells apart: 7 or 8.
    const BITS: usize;
    /// The code of 0 where there is no minimum.
    const CENTER: u8;
    /// Whether `m` is stored; without it, `m` is 0.
    const HAS_MIN: bool;
    /// Whether codes are nibbles rather than bytes.
    const NIBBLES: bool = Self::BYTES < 32;

    /// The codes in order.
    fn codes(&self) -> [u8; 32];
    /// `d`, as bits of a half float.
    fn scale(&self) -> u16;
    /// `m`, as bits of a half float.
    fn min(&self) -> u16;
}

/// A computation over the block types of [`Codes`].
pub trait CodesVisitor {
    /// What the computation returns.
    type Out;
    /// The computation for one format.
    fn visit<C: Codes>(self) -> Self::Out;
}

impl Format {
    /// Runs a computation for this format's block type, if that has [`Codes`].
    #[inline(always)]
    pub fn visit_codes<V: CodesVisitor>(self, visitor: V) -> Option<V::Out> {
        match self {
            Self::Q4_0 => Some(visitor.visit::<Q4_0>()),
            Self::Q4_1 => Some(visitor.visit::<Q4_1>()),
            Self::Q8_0 => Some(visitor.visit::<Q8_0>()),
            _ => None,
        }
    }

    /// Whether blocks have [`Codes`], so that integer products take them.
    #[must_use]
    pub const fn has_codes(self) -> bool {
        matches!(self, Self::Q4_0 | Self::Q4_1 | Self::Q8_0)
    }
}
