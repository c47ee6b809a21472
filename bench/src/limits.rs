//! The limits that kernels are compared with: what a core does when it does nothing else.

use std::hint::black_box;

use tenon_kernels::Isa;
use tenon_kernels::isa::Kernel;
use tenon_kernels::simd::{MAX_LANES, Simd};

/// The sum of all elements: as fast as memory is read.
#[derive(Debug)]
pub struct Read<'a>(pub &'a [f32]);

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
#[derive(Debug)]
pub struct Triad<'a>(pub &'a mut [f32], pub &'a [f32], pub &'a [f32]);

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

/// Independent multiply-adds in registers.
#[derive(Clone, Copy, Debug)]
pub enum MultiplyAdds {
    /// Of f32.
    Single,
    /// Of pairs of bfloat16, as products of that precision make them.
    Pairs,
    /// Of fours of bytes.
    Bytes,
}

impl MultiplyAdds {
    /// Sums in flight: more than latency times instructions a cycle, and within the registers of the
    /// level that has the fewest; on x86, those with products of bfloat16 have 32.
    const CHAINS: usize = if cfg!(target_arch = "x86_64") { 12 } else { 20 };
    const CHAINS_OF_PAIRS: usize = 20;

    /// Vectors of f32 that a call adds to each, as if all levels had the lanes of the widest.
    const LENGTH: usize = 10_000;

    /// Floating-point operations (or those of integers) of a call.
    #[must_use]
    pub const fn flops(self) -> f64 {
        let products = match self {
            Self::Single => Self::CHAINS,
            Self::Pairs => 2 * Self::CHAINS_OF_PAIRS,
            Self::Bytes => 4 * Self::CHAINS,
        };
        (2 * products * Self::LENGTH * MAX_LANES) as f64
    }

    /// One call.
    pub fn run(self, isa: Isa) {
        isa.run(self);
    }
}

/// Sums of a step each, again and again, as a macro: a closure would be compiled without the level's
/// instructions. Narrower levels take as many more steps.
macro_rules! repeat {
    ($s:ident, $chains:expr, |$other:ident, $sum:ident| $step:expr) => {{
        let mut sums = [$s.zero(); $chains];
        for _ in 0..Self::LENGTH * MAX_LANES / S::LANES {
            for i in 0..$chains {
                let ($other, $sum) = (sums[(i + 1) % $chains], sums[i]);
                sums[i] = $step;
            }
        }
        let mut out = [0f32; MAX_LANES];
        for sum in sums {
            // SAFETY: no level has more lanes.
            unsafe { $s.store(out.as_mut_ptr(), sum) };
            black_box(&mut out);
        }
    }};
}

impl Kernel for MultiplyAdds {
    type Out = ();
    const BF16: bool = true;
    const BYTES: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let x = s.splat(black_box(1.0));
        // A product's second operand is another sum, whatever its bits mean, so that what levels
        // without the instruction make of an operand is part of the work.
        match self {
            Self::Single => repeat!(s, Self::CHAINS, |_other, sum| s.fma(x, x, sum)),
            Self::Pairs => {
                repeat!(s, Self::CHAINS_OF_PAIRS, |other, sum| s.dot_bf16(x, other, sum));
            }
            Self::Bytes => repeat!(s, Self::CHAINS, |other, sum| s.dot_bytes::<7>(x, other, sum)),
        }
    }
}
