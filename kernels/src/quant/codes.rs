//! Formats whose elements are bytes or nibbles under one scale in each 32, for integer products.

use super::{BlockFormat, Format, Q4_0, Q4_1, Q4K, Q8_0};
use crate::simd::Simd;

/// A format whose blocks are parts of 32 elements `d * (q - CENTER) + m` with unsigned codes `q`.
///
/// A block of one part is `d`, then `m` where it is stored, as half floats, then the codes: nibbles
/// as [`Q4_0`] draws them, or bytes, of which bit 7 is flipped. One of more ends with nibbles as
/// [`Q4K`] draws them; its parts' `d` and `m` are the block's times whole numbers.
pub trait Codes: BlockFormat {
    /// Bits that hold any code, rounded up to what
    /// [`dot_bytes`](crate::simd::Simd::dot_bytes) tells apart: 7 or 8.
    const BITS: usize;
    /// The code of 0 where there is no minimum.
    const CENTER: u8;
    /// Whether `m` is stored; without it, `m` is 0.
    const HAS_MIN: bool;
    /// Whether codes are nibbles rather than bytes.
    const NIBBLES: bool = Self::BYTES < Self::ELEMS;
    /// Parts of a block.
    const PARTS: usize = Self::ELEMS / 32;

    /// The codes of a part, in order.
    fn codes(&self, part: usize) -> [u8; 32];
    /// The block's `d`, as bits of a half float.
    fn scale(&self) -> u16;
    /// The block's `m`, as bits of a half float.
    fn min(&self) -> u16;
    /// What a part multiplies `d` and `m` with.
    #[inline(always)]
    fn steps(&self, _part: usize) -> [u8; 2] {
        [1; 2]
    }

    /// [`Codes::steps`] in blocks at four places, of parts `2 i + 0` for `LANES / 4` successive `i`
    /// from `pair` on, then of parts `2 i + 1`: of each kind those of `d`, then of `m`, as f32; lane
    /// `4 i + c` is of the block at `p[c]`.
    ///
    /// # Safety
    /// The blocks must be readable and have the parts.
    #[inline(always)]
    unsafe fn steps_of_four<S: Simd>(s: S, _p: [*const Self; 4], _pair: usize) -> [[S::F; 2]; 2] {
        [[s.splat(1.0); 2]; 2]
    }
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
            Self::Q4K => Some(visitor.visit::<Q4K>()),
            _ => None,
        }
    }

    /// Whether blocks have [`Codes`], so that integer products take them.
    #[must_use]
    pub const fn has_codes(self) -> bool {
        matches!(self, Self::Q4_0 | Self::Q4_1 | Self::Q8_0 | Self::Q4K)
    }
}
