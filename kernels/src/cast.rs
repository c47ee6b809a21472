//! Between f32 and the types that tensors are stored in.

use half::{bf16, f16};

use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// Lanes of the widest level.
const MAX_LANES: usize = 16;

/// A type that elements are stored in and computed on as f32.
pub trait Storage: Copy + Default {
    /// Widens `LANES` elements.
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES` elements.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F;
    /// Narrows to `LANES` elements: to nearest even where the type has a fraction, toward zero and
    /// limited to its range, with NaN as 0, where it has none.
    ///
    /// # Safety
    /// `p` must be valid for writing `LANES` elements.
    unsafe fn store<S: Simd>(s: S, p: *mut Self, v: S::F);
}

impl Storage for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F {
        // SAFETY: the caller's contract; `f16` is its bits.
        unsafe { s.load_f16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut Self, v: S::F) {
        // SAFETY: as above.
        unsafe { s.store_f16(p.cast(), v) }
    }
}

impl Storage for bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F {
        // SAFETY: the caller's contract; `bf16` is its bits.
        unsafe { s.load_bf16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut Self, v: S::F) {
        // SAFETY: as above.
        unsafe { s.store_bf16(p.cast(), v) }
    }
}

/// Integers: through an array, which the compiler turns into the level's conversions.
macro_rules! integers {
    ($($int:ty)*) => {$(
        impl Storage for $int {
            #[inline(always)]
            unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F {
                let mut lanes = [0.0; MAX_LANES];
                for i in 0..S::LANES {
                    // SAFETY: the caller's contract.
                    lanes[i] = unsafe { *p.add(i) } as f32;
                }
                // SAFETY: no level has more lanes.
                unsafe { s.load(lanes.as_ptr()) }
            }
            #[inline(always)]
            unsafe fn store<S: Simd>(s: S, p: *mut Self, v: S::F) {
                let mut lanes = [0.0; MAX_LANES];
                // SAFETY: no level has more lanes.
                unsafe { s.store(lanes.as_mut_ptr(), v) };
                for i in 0..S::LANES {
                    // SAFETY: the caller's contract.
                    unsafe { *p.add(i) = lanes[i] as Self };
                }
            }
        }
    )*};
}
integers!(i8 u8 i32);

/// `y[i] = x[i]` as f32. Exact, but for integers beyond 2^24, which round to nearest even.
///
/// # Panics
/// Where the lengths differ.
pub fn widen<T: Storage>(isa: Isa, x: &[T], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    isa.run(Widen { x, y });
}

/// `y[i] = x[i]` as `T`, by [`Storage::store`]'s rules, exactly.
///
/// # Panics
/// Where the lengths differ.
pub fn narrow<T: Storage>(isa: Isa, x: &[f32], y: &mut [T]) {
    assert_eq!(x.len(), y.len());
    isa.run(Narrow { x, y });
}

/// The arguments of [`widen`].
struct Widen<'a, T> {
    x: &'a [T],
    y: &'a mut [f32],
}

impl<T: Storage> Kernel for Widen<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (mut x, mut y) = (self.x.chunks_exact(S::LANES), self.y.chunks_exact_mut(S::LANES));
        for (x, y) in x.by_ref().zip(y.by_ref()) {
            // SAFETY: both chunks have `LANES` elements.
            unsafe { s.store(y.as_mut_ptr(), T::load(s, x.as_ptr())) };
        }
        let (x, y) = (x.remainder(), y.into_remainder());
        let (mut from, mut to) = ([T::default(); MAX_LANES], [0.0; MAX_LANES]);
        from[..x.len()].copy_from_slice(x);
        // SAFETY: the arrays have at least `LANES` elements.
        unsafe { s.store(to.as_mut_ptr(), T::load(s, from.as_ptr())) };
        y.copy_from_slice(&to[..y.len()]);
    }
}

/// The arguments of [`narrow`].
struct Narrow<'a, T> {
    x: &'a [f32],
    y: &'a mut [T],
}

impl<T: Storage> Kernel for Narrow<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (mut x, mut y) = (self.x.chunks_exact(S::LANES), self.y.chunks_exact_mut(S::LANES));
        for (x, y) in x.by_ref().zip(y.by_ref()) {
            // SAFETY: both chunks have `LANES` elements.
            unsafe { T::store(s, y.as_mut_ptr(), s.load(x.as_ptr())) };
        }
        let (x, y) = (x.remainder(), y.into_remainder());
        let (mut from, mut to) = ([0.0; MAX_LANES], [T::default(); MAX_LANES]);
        from[..x.len()].copy_from_slice(x);
        // SAFETY: the arrays have at least `LANES` elements.
        unsafe { T::store(s, to.as_mut_ptr(), s.load(from.as_ptr())) };
        y.copy_from_slice(&to[..y.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Floats of all exponents, ties, and values around the ends of the integer types.
    fn floats() -> Vec<f32> {
        let mut all: Vec<f32> = (0..=u32::MAX).step_by(1_000_003).map(f32::from_bits).collect();
        all.extend((-600..600).map(|i| i as f32 * 0.5));
        all.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2.147_483_6e9, -2.147_483_6e9]);
        all
    }

    /// Checks both directions against the scalar conversions, for several lengths.
    fn check<T: Storage>(from: fn(f32) -> T, to: fn(T) -> f32) {
        let all = floats();
        for isa in Isa::available() {
            for x in [&all[..], &all[..1], &all[..0], &all[7..38], &all[4200..4219]] {
                let mut narrowed = vec![T::default(); x.len()];
                narrow(isa, x, &mut narrowed);
                let mut widened = vec![f32::NAN; x.len()];
                widen(isa, &narrowed, &mut widened);
                for (&x, (&narrowed, &widened)) in x.iter().zip(narrowed.iter().zip(&widened)) {
                    let (want, got) = (to(from(x)), to(narrowed));
                    assert!(got == want || got.is_nan() && want.is_nan(), "{x:e} became {got:e}");
                    assert!(widened == got || widened.is_nan() && got.is_nan(), "{widened:e}");
                }
            }
        }
    }

    #[test]
    fn floats_round_to_nearest_even() {
        check::<f16>(f16::from_f32_const, f16::to_f32_const);
        check::<bf16>(bf16::from_f32, bf16::to_f32);
    }

    #[test]
    fn integers_saturate() {
        check::<i8>(|x| x as i8, |x| x as f32);
        check::<u8>(|x| x as u8, |x| x as f32);
        check::<i32>(|x| x as i32, |x| x as f32);
    }
}
