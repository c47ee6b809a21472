//! Optimizer states as they are stored.
//!
//! A second moment with a decay of 0.999 changes by 0.1 % a step, less than half a step of any
//! short format: rounded to the nearest it would never move. So states are rounded at random, up
//! with the probability that makes the mean right, by 16 bits of the element's word of the
//! counter-based generator: the lower half for what has a sign, the upper for the second moment.
//!
//! | format | bytes an element | one rounding errs by less than |
//! |---|---|---|
//! | bf16 | 2 | 2^-7 of the value |
//! | int8, signed | 1 + 4/256 | 1/8 of the value, or 2^-14.8 of the block's largest |
//! | int8, second moment | 1 + 4/256 | 1/8 of the value, or 2^-30.8 of the block's largest |
//!
//! The 8-bit codes are small floats, 1 + f/8 times a power of two, with no subnormals and with 0
//! for zero: four bits of exponent and the sign, or five bits of exponent. Like the dynamic code
//! of Dettmers et al. ("8-bit optimizers via block-wise quantization", 2022) they keep the small
//! values of a block as exact as its large ones, and unlike it they are made by shifts, not by a
//! search in a table. A block's scale is a power of two: the codes' grid then stays where it is
//! while the block's largest value drifts, and what does not change is not rounded again. A second
//! moment too small for its block becomes the smallest code, never zero: it is divided by.

use half::bf16;

use crate::simd::Simd;

/// Elements that share a scale.
pub const BLOCK: usize = 256;

/// A block where it lies, or a copy in `$short` with `$fill` beyond the last one's end. All through a
/// copy on the stack, a step of 4 Mi elements took 3.7 to 5.2 ms, by where a process had its stack; so
/// it takes 3.6.
macro_rules! whole {
    ($block:expr, $short:ident, $fill:expr) => {{
        let block = $block;
        match block.try_into() {
            Ok(whole) => whole,
            Err(_) => {
                let mut copy = [$fill; BLOCK];
                copy[..block.len()].copy_from_slice(block);
                $short = copy;
                &$short
            }
        }
    }};
}

/// A block widened, or its random words.
#[repr(align(64))]
pub(super) struct Block(pub(super) [f32; BLOCK]);

pub(super) const EMPTY: Block = Block([0.0; BLOCK]);

/// Formats of states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StateFormat {
    /// As it is computed.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
    /// 8-bit codes with a scale for [`BLOCK`] elements.
    Int8,
}

impl StateFormat {
    /// Every format, with the name that attributes and options give it.
    pub const ALL: [(&'static str, Self); 3] =
        [("f32", Self::F32), ("bf16", Self::Bf16), ("int8", Self::Int8)];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// A state, or a part of one that begins at a multiple of [`BLOCK`]. All zeros are zero.
#[derive(Debug)]
#[allow(missing_docs, reason = "StateFormat documents them")]
pub enum State<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
    Int8 { codes: &'a mut [i8], scales: &'a mut [f32] },
}

impl State<'_> {
    /// # Panics
    /// Unless there are `n` elements.
    pub(super) fn check(&self, n: usize) {
        match self {
            Self::F32(x) => assert_eq!(x.len(), n),
            Self::Bf16(x) => assert_eq!(x.len(), n),
            Self::Int8 { codes, scales } => {
                assert_eq!((codes.len(), scales.len()), (n, n.div_ceil(BLOCK)));
            }
        }
    }

    /// Widens a block; elements beyond the end are 0.
    #[inline(always)]
    pub(super) fn widen<S: Simd, const SIGNED: bool>(&self, s: S, block: usize, to: &mut Block) {
        match self {
            Self::F32(x) => {
                let x = nth(x, block);
                to.0[..x.len()].copy_from_slice(x);
            }
            Self::Bf16(x) => {
                let short;
                let from = whole!(nth(x, block), short, bf16::ZERO);
                for at in (0..BLOCK).step_by(S::LANES) {
                    // SAFETY: both are a block long, and `bf16` is its bits.
                    unsafe {
                        let wide = s.load_bf16(from.as_ptr().add(at).cast());
                        s.store(to.0.as_mut_ptr().add(at), wide);
                    }
                }
            }
            Self::Int8 { codes, scales } => {
                let short;
                let from = whole!(nth(codes, block), short, if SIGNED { 0 } else { i8::MIN });
                let scale = s.splat(scales[block]);
                for at in (0..BLOCK).step_by(S::LANES) {
                    // SAFETY: both are a block long.
                    unsafe {
                        let code = s.load_i8(from.as_ptr().add(at));
                        let wide = s.mul(decode::<S, SIGNED>(s, code), scale);
                        s.store(to.0.as_mut_ptr().add(at), wide);
                    }
                }
            }
        }
    }

    /// Rounds a block.
    #[inline(always)]
    pub(super) fn narrow<S: Simd, const SIGNED: bool>(
        &mut self,
        s: S,
        block: usize,
        from: &Block,
        random: &Block,
    ) {
        match self {
            Self::F32(x) => {
                let x = nth_mut(x, block);
                x.copy_from_slice(&from.0[..x.len()]);
            }
            Self::Bf16(x) => {
                let x = nth_mut(x, block);
                if let Ok(x) = x.try_into() {
                    return round::<S, SIGNED>(s, from, random, x);
                }
                let mut short = [bf16::ZERO; BLOCK];
                round::<S, SIGNED>(s, from, random, &mut short);
                x.copy_from_slice(&short[..x.len()]);
            }
            Self::Int8 { codes, scales } => {
                let (codes, scale) = (nth_mut(codes, block), &mut scales[block]);
                *scale = block_scale(largest(s, from));
                if !scale.is_finite() {
                    codes.fill(0);
                    return;
                }
                let inverse = 1.0 / *scale;
                if let Ok(codes) = codes.try_into() {
                    return encode_block::<S, SIGNED>(s, from, inverse, random, codes);
                }
                let mut short = [0; BLOCK];
                encode_block::<S, SIGNED>(s, from, inverse, random, &mut short);
                codes.copy_from_slice(&short[..codes.len()]);
            }
        }
    }
}

/// A block of bf16, rounded at random.
#[inline(always)]
fn round<S: Simd, const SIGNED: bool>(s: S, from: &Block, random: &Block, to: &mut [bf16; BLOCK]) {
    for at in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: all are a block long, and `bf16` is its bits.
        unsafe {
            let x = s.load(from.0.as_ptr().add(at));
            let word = s.load(random.0.as_ptr().add(at));
            let sum = s.add_i32(x, bits::<S, SIGNED>(s, word));
            // What is left has 16 bits, or is NaN.
            let cut = s.and(sum, s.splat(f32::from_bits(0xffff_0000)));
            let cut = s.select(s.eq(x, x), cut, x);
            s.store_bf16(to.as_mut_ptr().add(at).cast(), cut);
        }
    }
}

/// The codes of a block; `inverse` is one over its scale.
#[inline(always)]
fn encode_block<S: Simd, const SIGNED: bool>(
    s: S,
    from: &Block,
    inverse: f32,
    random: &Block,
    to: &mut [i8; BLOCK],
) {
    let inverse = s.splat(inverse);
    for at in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: all are a block long.
        unsafe {
            let x = s.mul(s.load(from.0.as_ptr().add(at)), inverse);
            let word = s.load(random.0.as_ptr().add(at));
            let code = encode::<S, SIGNED>(s, x, bits::<S, SIGNED>(s, word));
            s.store_i8(to.as_mut_ptr().add(at), code);
        }
    }
}

/// Block `block` of a slice.
#[inline(always)]
fn nth<T>(x: &[T], block: usize) -> &[T] {
    &x[block * BLOCK..x.len().min((block + 1) * BLOCK)]
}

/// As [`nth`].
#[inline(always)]
fn nth_mut<T>(x: &mut [T], block: usize) -> &mut [T] {
    let end = x.len().min((block + 1) * BLOCK);
    &mut x[block * BLOCK..end]
}

/// The state's 16 bits of a random word, as an integer.
#[inline(always)]
fn bits<S: Simd, const SIGNED: bool>(s: S, word: S::F) -> S::F {
    if SIGNED { s.and(word, s.splat(f32::from_bits(0xffff))) } else { s.shift_right::<16>(word) }
}

/// Bits of an f32's fraction that a code drops.
const DROPPED: u32 = 20;

/// The exponent's distance from the block's scale at code 0, which itself stands for zero.
const fn depth(signed: bool) -> u32 {
    if signed { 15 } else { 31 }
}

/// The integer that a code's bits begin to count from in an f32's.
const fn origin(signed: bool) -> u32 {
    (127 - depth(signed)) << (23 - DROPPED)
}

/// The value of a code, as an integer in f32, for a scale of 1.
#[inline(always)]
fn decode<S: Simd, const SIGNED: bool>(s: S, code: S::F) -> S::F {
    let size = if SIGNED { s.abs(code) } else { s.add(code, s.splat(128.0)) };
    // 2^23 leaves the integer in the lowest bits, and is shifted out.
    let shifted = s.shift_left::<DROPPED>(s.add(size, s.splat(8_388_608.0)));
    let value = s.add_i32(shifted, s.splat(f32::from_bits(origin(SIGNED) << DROPPED)));
    let value = s.select(s.eq(size, s.zero()), s.zero(), value);
    if SIGNED { s.or(value, s.and(code, s.splat(-0.0))) } else { value }
}

/// The code of `x`, given for a scale of 1, as an integer in f32; `random` are 16 bits.
#[inline(always)]
fn encode<S: Simd, const SIGNED: bool>(s: S, x: S::F, random: S::F) -> S::F {
    let size = s.abs(x);
    let sum = s.add_i32(size, s.shift_left::<{ DROPPED - 16 }>(random));
    let whole = s.convert_i32(s.shift_right::<DROPPED>(sum));
    let code = s.sub(whole, s.splat(origin(SIGNED) as f32));
    let code = s.min(code, s.splat(if SIGNED { 127.0 } else { 255.0 }));
    let least = f32::from_bits((origin(SIGNED) + 1) << DROPPED);
    let one = s.splat(1.0);
    if SIGNED {
        let draw = s.mul(s.convert_i32(random), s.splat(least / 65536.0));
        let small = s.select(s.lt(draw, size), one, s.zero());
        let code = s.select(s.lt(size, s.splat(least)), small, code);
        s.or(code, s.and(x, s.splat(-0.0)))
    } else {
        let code = s.select(s.eq(size, s.zero()), s.zero(), s.max(code, one));
        s.sub(code, s.splat(128.0))
    }
}

/// The largest magnitude of a block; NaN where any is not finite.
#[inline(always)]
fn largest<S: Simd>(s: S, block: &Block) -> f32 {
    let (mut most, mut wrong) = (s.zero(), s.zero());
    for at in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: it is a block long.
        let x = unsafe { s.load(block.0.as_ptr().add(at)) };
        most = s.max(s.abs(x), most);
        wrong = s.or(wrong, s.sub(x, x));
    }
    if s.sum(wrong) == 0.0 { s.max_lane(most) } else { f32::NAN }
}

/// The power of two that is the scale of a block whose largest magnitude is given.
#[inline(always)]
fn block_scale(largest: f32) -> f32 {
    if largest.is_nan() {
        return largest;
    }
    // Of what it may be rounded up to; both ends leave room for the codes and for the inverse.
    let exponent = (largest.to_bits() + (1 << DROPPED)) >> 23;
    f32::from_bits(exponent.clamp(1 + depth(false), 253) << 23)
}
