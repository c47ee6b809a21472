//! Few rows of A with columns of codes as they are stored: the codes never leave the registers.
//!
//! The rows of A are packed in [`Groups`]: a vector of the codes 0 to 15 of its blocks and one of
//! the others, then their scales, then what each lane's sum starts from (`-center` times its own
//! eight codes' sum) or, for the minimums, each block's `s sum p`.

use crate::isa::Kernel;
use crate::quant::{Codes, CodesVisitor};
use crate::simd::Simd;

use super::super::narrow::codes::{Groups, Multiplier, columns};
use super::super::{PackA, Run};
use super::center;
use super::round::{self, BLOCK, MAX_BLOCKS};

/// Vectors of a group of a packed row of A.
pub(in super::super) const VECTORS: usize = 4;

/// Packs the rows of A.
pub(in super::super) struct Quantize<'a>(pub(in super::super) PackA<'a>);

impl Kernel for Quantize<'_> {
    type Out = ();
    const BYTES: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        struct Of<'a, S>(S, PackA<'a>);
        impl<S: Simd> CodesVisitor for Of<'_, S> {
            type Out = ();
            #[inline(always)]
            fn visit<C: Codes>(self) {
                let Self(s, part) = self;
                let k = part.gemm.k;
                for r in part.first..part.first + part.rows {
                    // SAFETY: row `r` exists, and has its place.
                    unsafe {
                        let groups = Groups::of(part.gemm, S::LANES);
                        let to = part.shared.add(r * groups.row_len(VECTORS));
                        row::<S, C>(s, part.a.add(r * k), groups, to);
                    }
                }
            }
        }
        self.0.gemm.b_format.visit_codes(Of(s, self.0));
    }
}

/// Packs a row of A.
///
/// # Safety
/// `x` must be valid for the blocks, `dst` for the groups.
#[inline(always)]
unsafe fn row<S: Simd, C: Codes>(s: S, x: *const f32, groups: Groups, dst: *mut f32) {
    let weight = if C::HAS_MIN { 1 } else { const { center::<S, C>() } };
    let weights = s.splat(f32::from_bits(u32::from_le_bytes([weight; 4])));
    // -x is the complement of x - 1.
    let ones = s.splat(f32::from_bits(u32::MAX));
    let fours = S::LANES / 4;
    for from in (0..groups.blocks).step_by(MAX_BLOCKS) {
        let there = (groups.blocks - from).min(MAX_BLOCKS);
        let (mut codes, mut scales) = ([0f32; MAX_BLOCKS * BLOCK / 4], [0f32; MAX_BLOCKS]);
        // SAFETY: the blocks that exist; each group has its place.
        unsafe {
            let to = codes.as_mut_ptr().cast();
            round::row(s, x.add(from * BLOCK), there, to, scales.as_mut_ptr(), 1);
            for group in (0..there).step_by(fours) {
                let dst = dst.add((from + group) / fours * VECTORS * S::LANES);
                dst.write_bytes(0, VECTORS * S::LANES);
                let here = (there - group).min(fours);
                for b in 0..here {
                    let block = groups.block(group, b);
                    let codes = codes.as_ptr().add(block * BLOCK / 4);
                    let dst = dst.add(4 * (b + groups.skipped(here)));
                    codes.copy_to(dst, 4);
                    codes.add(4).copy_to(dst.add(S::LANES), 4);
                    dst.add(2 * S::LANES).cast::<[f32; 4]>().write([scales[block]; 4]);
                }
                let (low, high) = (s.load(dst), s.load(dst.add(S::LANES)));
                let sum = if C::HAS_MIN { s.zero() } else { ones };
                let sum = s.dot_bytes::<8>(weights, low, sum);
                let sum = s.dot_bytes::<8>(weights, high, sum);
                let starts = dst.add(3 * S::LANES);
                s.store(starts, if C::HAS_MIN { sum } else { s.xor(sum, ones) });
                for b in 0..if C::HAS_MIN { fours } else { 0 } {
                    let four = &mut *starts.cast::<[f32; 4]>().add(b);
                    let sum: i32 = four.iter().map(|x| x.to_bits().cast_signed()).sum();
                    four.fill(sum as f32 * *dst.add(2 * S::LANES + 4 * b));
                }
            }
        }
    }
}

/// Computes columns of C.
pub(in super::super) struct Multiply<'a>(pub(in super::super) Run<'a>);

impl Kernel for Multiply<'_> {
    type Out = ();
    const BYTES: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the contract of `Gemm::run`.
        unsafe { columns::<S, Bytes>(s, &self.0) };
    }
}

/// Multiplies codes with codes.
struct Bytes;

impl Multiplier for Bytes {
    const VECTORS: usize = VECTORS;

    #[inline(always)]
    unsafe fn scales<S: Simd>(s: S, x: *const f32, scales: S::F) -> S::F {
        // SAFETY: the vectors of a group.
        s.mul(scales, unsafe { s.load(x.add(2 * S::LANES)) })
    }

    #[inline(always)]
    unsafe fn dots<S: Simd, C: Codes, const R: usize>(
        s: S,
        mut codes: [S::F; 2],
        x: [*const f32; R],
    ) -> [S::F; R] {
        if !C::NIBBLES && !S::SIGNED_BYTES {
            let flip = s.splat(f32::from_bits(0x8080_8080));
            codes = [s.xor(codes[0], flip), s.xor(codes[1], flip)];
        }
        let mut dots = [s.zero(); R];
        for r in 0..R {
            // SAFETY: the vectors of a group.
            let (low, high, start) = unsafe {
                let x = x[r];
                (s.load(x), s.load(x.add(S::LANES)), s.load(x.add(3 * S::LANES)))
            };
            let mut dot = if C::HAS_MIN { s.zero() } else { start };
            for (codes, x) in [(codes[0], low), (codes[1], high)] {
                dot = match C::BITS {
                    ..=7 => s.dot_bytes::<7>(codes, x, dot),
                    _ => s.dot_bytes::<8>(codes, x, dot),
                };
            }
            dots[r] = s.convert_i32(dot);
        }
        dots
    }
}
