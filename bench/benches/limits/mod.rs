//! The limits that kernels bounded by memory are compared with.

use tenon_kernels::isa::Kernel;
use tenon_kernels::simd::Simd;

/// The sum of all elements: as fast as memory is read.
pub(crate) struct Read<'a>(pub(crate) &'a [f32]);

impl Kernel for Read<'_> {
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sums = [s.zero(); 4];
        for part in self.0.chunks_exact(4 * S::LANES) {
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the part holds four vectors.
                *sum = s.add(*sum, unsafe { s.load(part.as_ptr().add(i * S::LANES)) });
            }
        }
        sums.map(|sum| s.sum(sum)).iter().sum()
    }
}

/// STREAM's `a = b + s c`.
pub(crate) struct Triad<'a>(pub(crate) &'a mut [f32], pub(crate) &'a [f32], pub(crate) &'a [f32]);

impl Kernel for Triad<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let parts = self.1.chunks_exact(S::LANES).zip(self.2.chunks_exact(S::LANES));
        for (a, (b, c)) in self.0.chunks_exact_mut(S::LANES).zip(parts) {
            // SAFETY: each part is a vector.
            unsafe {
                let sum = s.fma(s.load(c.as_ptr()), s.splat(0.5), s.load(b.as_ptr()));
                s.store(a.as_mut_ptr(), sum);
            }
        }
    }
}
