//! What federated clients send and their server sums.
//!
//! | part | what it computes |
//! |---|---|
//! | [`Stream`] | `y[i] = f(y[i], x[i])`: weighted sums, means, fixed point and back, modular sums |
//! | [`add_masks`] | words of the counter-based generator, added or taken away modulo 2^32 |
//! | [`Bits`] | codes of 2, 4 or 8 bits with a scale a block, rounded at random, and their sums |
//! | [`survey`] | how many elements reach a magnitude, and those that reach another |
//! | [`collect`], [`add_and_collect`] | the elements of large magnitude, of a vector or of a sum that is made |
//!
//! There is no fused multiplication and addition in any of it, which the portable level lacks, so
//! that every level and every machine computes the same bits: each is exactly its scalar reference,
//! with no tolerance.

mod codes;
mod elementwise;
mod mask;
mod select;
#[cfg(test)]
mod tests;

pub use codes::{BLOCK, Bits};
pub use mask::{Mask, add_masks};
pub use select::{Surveyed, add_and_collect, collect, survey};

use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// A function of what stands there and what comes, both 32 bits.
pub trait StreamOp: Copy {
    /// Whether the result depends on what stands there.
    const READS: bool;
    /// The function on vectors; integers are the bits of their lanes.
    fn eval<S: Simd>(self, s: S, y: S::F, x: S::F) -> S::F;
    /// The function on the bits of one element: the result is exactly this.
    fn reference(self, y: u32, x: u32) -> u32;
}

/// A computation over the operation types of [`Stream`].
pub trait StreamVisitor {
    /// What the computation returns.
    type Out;
    /// The computation for one operation.
    fn visit<O: StreamOp>(self, op: O) -> Self::Out;
}

family! {
    /// Passes over two streams of 32-bit elements, of which the first is overwritten.
    pub enum Stream visited by StreamVisitor {
        /// `y + weight * x` of f32.
        AddScaled {
            /// The factor.
            weight: 0.3
        } = "add_scaled", elementwise::AddScaled;
        /// `y / x` of f32, and 0 where `x` is 0.
        Mean = "mean", elementwise::Mean;
        /// The f32 `factor * x` as an integer modulo 2^32: what is beyond `limit` is cut to it,
        /// the rest rounded to the nearest; NaN becomes 0.
        ToFixed {
            /// Units of the integer in 1, and a weight.
            factor: 1048576.0,
            /// The largest magnitude, below 2^31.
            limit: 1e9
        } = "to_fixed", elementwise::ToFixed;
        /// The integer `x`, in two's complement, times `factor`, as f32.
        FromFixed {
            /// What a unit is worth.
            factor: 1e-6
        } = "from_fixed", elementwise::FromFixed;
        /// `y + x` of integers modulo 2^32.
        AddWords = "add_words", elementwise::AddWords;
    }
}

/// What a stream is of.
pub trait Word: Copy + Send + Sync + sealed::Word {}
impl Word for f32 {}
impl Word for u32 {}

mod sealed {
    pub trait Word {}
    impl Word for f32 {}
    impl Word for u32 {}
}

impl Stream {
    /// `y[i] = op(y[i], x[i])`, where `Y` and `X` are what the operation is of.
    ///
    /// # Panics
    /// Where lengths differ.
    pub fn run<Y: Word, X: Word>(self, isa: Isa, y: &mut [Y], x: &[X]) {
        const { assert!(size_of::<Y>() == 4 && size_of::<X>() == 4) }
        assert_eq!(y.len(), x.len());
        isa.run(Pass { op: self, y: y.as_mut_ptr().cast(), x: x.as_ptr().cast(), n: x.len() });
    }
}

/// Elements ahead of their place from where memory is asked for, as in `update`.
const AHEAD: usize = 512;

/// The arguments of [`Stream::run`].
struct Pass {
    op: Stream,
    y: *mut f32,
    x: *const f32,
    n: usize,
}

impl Kernel for Pass {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        struct Of<S>(S, Pass);
        impl<S: Simd> StreamVisitor for Of<S> {
            type Out = ();
            #[inline(always)]
            fn visit<O: StreamOp>(self, op: O) {
                let Self(s, Pass { y, x, n, .. }) = self;
                let whole = n - n % S::LANES;
                for at in (0..whole).step_by(S::LANES) {
                    // SAFETY: both hold `n` elements; any address may be asked for.
                    unsafe {
                        let (to, from) = (y.add(at), x.add(at));
                        s.prefetch(to.wrapping_add(AHEAD));
                        s.prefetch(from.wrapping_add(AHEAD));
                        let old = if O::READS { s.load(to) } else { s.zero() };
                        s.store(to, op.eval(s, old, s.load(from)));
                    }
                }
                let rest = n - whole;
                if rest > 0 {
                    // SAFETY: as above.
                    unsafe {
                        let (to, from) = (y.add(whole), x.add(whole));
                        s.store_n(to, op.eval(s, s.load_n(to, rest), s.load_n(from, rest)), rest);
                    }
                }
            }
        }
        self.op.visit(Of(s, self));
    }
}
