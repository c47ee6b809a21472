//! Floats as blocks of one: weight formats without codes.
//!
//! Rows of these must be aligned to their element, and are decoded a vector at a time.

use half::{bf16, f16};

use super::BlockFormat;
use crate::simd::Simd;

macro_rules! floats {
    ($(
        $(#[$doc:meta])*
        $block:ident = $bits:ty, $error:expr, |$x:ident| $from:expr, |$b:ident| $to:expr,
        $load:ident, $store:ident;
    )*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct $block {
            bits: [u8; size_of::<$bits>()],
        }

        // SAFETY: bytes only.
        unsafe impl BlockFormat for $block {
            const ELEMS: usize = 1;
            const ERROR: f32 = $error;

            #[inline(always)]
            fn encode(x: &[f32]) -> Self {
                let $x = x[0];
                Self { bits: $from }
            }

            #[inline(always)]
            fn element(&self, _: usize) -> f32 {
                let $b = self.bits;
                $to
            }

            #[inline(always)]
            unsafe fn decode_block<S: Simd>(&self, _: S, dst: *mut f32) {
                // SAFETY: the caller's contract.
                unsafe { dst.write(self.element(0)) };
            }

            #[inline(always)]
            unsafe fn decode_blocks<S: Simd>(s: S, src: *const Self, n: usize, dst: *mut f32) {
                let whole = n - n % S::LANES;
                for i in (0..whole).step_by(S::LANES) {
                    // SAFETY: `i + LANES <= n`; the caller's contract, alignment included.
                    unsafe { s.store(dst.add(i), s.$load(src.add(i).cast())) };
                }
                for i in whole..n {
                    // SAFETY: `i < n`; the caller's contract.
                    unsafe { dst.add(i).write((*src.add(i)).element(0)) };
                }
            }

            #[inline(always)]
            unsafe fn encode_blocks<S: Simd>(s: S, src: *const f32, n: usize, dst: *mut Self) {
                let whole = n - n % S::LANES;
                for i in (0..whole).step_by(S::LANES) {
                    // SAFETY: `i + LANES <= n`; the caller's contract, alignment included.
                    unsafe { s.$store(dst.add(i).cast(), s.load(src.add(i))) };
                }
                for i in whole..n {
                    // SAFETY: `i < n`; the caller's contract.
                    unsafe { dst.add(i).write(Self::encode(&[*src.add(i)])) };
                }
            }
        }
    )*};
}

floats! {
    /// IEEE single precision: `seeeeeee efffffff ffffffff ffffffff`, least significant byte first.
    F32 = f32, 0.0, |x| x.to_le_bytes(), |b| f32::from_le_bytes(b), load, store;
    /// IEEE half precision: `seeeeeff ffffffff`, least significant byte first.
    F16 = f16, 1.0 / 2048.0, |x| f16::from_f32(x).to_le_bytes(),
        |b| f16::from_le_bytes(b).to_f32(), load_f16, store_f16;
    /// bfloat16, the upper half of single precision: `seeeeeee efffffff`, least significant byte
    /// first.
    BF16 = bf16, 1.0 / 256.0, |x| bf16::from_f32(x).to_le_bytes(),
        |b| bf16::from_le_bytes(b).to_f32(), load_bf16, store_bf16;
}
