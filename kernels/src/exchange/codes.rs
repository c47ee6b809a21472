//! Codes of few bits with a scale for each block, rounded at random.
//!
//! ```text
//! block      256 elements: a scale (f32) and 8 * bits words of 32 bits
//! word w     element j * 8 * bits + w in its bits j * bits and up, for every j below 32 / bits
//! element    scale * (code - 2^(bits - 1))
//! ```
//!
//! The largest magnitude of a block is `scale * (2^(bits - 1) - 1)`. An element is rounded up with
//! the probability that makes the mean right, to 2^-15 of a step, by bits of the generator: element
//! `i` of block `b` has those of word `64 b + i % 64`, from byte `3 - i / 64` of it on down and around.
//! Each such number is uniform; four elements share a word, and where one is decided by its second byte,
//! one in 256, another's first was the same. With a word for two elements it took a third longer (25 instead of 19 GB/s).
//! Words instead of bytes let a vector of any width take whole words and find neighbours in
//! neighbouring lanes.

use crate::isa::{Isa, Kernel};
use crate::random::Philox;
use crate::simd::Simd;

/// Elements ahead of their place from where memory is asked for.
const AHEAD: usize = 1024;

/// Elements that share a scale.
pub const BLOCK: usize = 256;

/// Random words of a block.
const WORDS: usize = BLOCK / 4;

/// Blocks whose words are made together.
const TOGETHER: usize = 2;

/// Words of a block of the longest codes.
const MOST_WORDS: usize = BLOCK / 4;

/// Bytes of a scale.
const SCALE: usize = size_of::<f32>();

/// A block whose largest magnitude is below this counts as zeros: the inverse of its scale must be
/// finite.
const LEAST: f32 = 1e-30;

/// 2^23: an integer added to it stands in the lowest bits.
const SHIFT: f32 = 8_388_608.0;

/// 1 as bits: 23 bits below it make it a number in [1, 2).
const ONE: u32 = 0x3f80_0000;

macro_rules! widths {
    ($($(#[$doc:meta])* $width:ident = $bits:literal;)*) => {
        /// Bits of a code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bits {
            $($(#[$doc])* $width = $bits,)*
        }

        impl Bits {
            /// Every width.
            pub const ALL: &[Self] = &[$(Self::$width),*];
        }

        /// [`pack`] of codes of a width.
        ///
        /// # Safety
        /// As there.
        #[inline(always)]
        unsafe fn pack_any<S: Simd, const KEEP: bool>(
            s: S,
            bits: Bits,
            x: *mut f32,
            scale: [f32; 2],
            random: &[f32],
            to: &mut [f32; MOST_WORDS],
        ) {
            match bits {
                // SAFETY: the caller's contract.
                $(Bits::$width => unsafe { pack::<S, $bits, KEEP>(s, x, scale, random, to) },)*
            }
        }

        /// [`unpack`] of codes of a width.
        ///
        /// # Safety
        /// As there.
        #[inline(always)]
        unsafe fn unpack_any<S: Simd>(
            s: S,
            bits: Bits,
            from: &[f32; MOST_WORDS],
            factor: f32,
            sum: *mut f32,
        ) {
            match bits {
                // SAFETY: the caller's contract.
                $(Bits::$width => unsafe { unpack::<S, $bits>(s, from, factor, sum) },)*
            }
        }
    };
}

widths! {
    /// -1, 0 and 1.
    Two = 2;
    /// -7 to 7.
    Four = 4;
    /// -127 to 127.
    Eight = 8;
}

impl Bits {
    /// The width of so many bits.
    #[must_use]
    pub fn from_count(bits: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|width| width.count() == bits)
    }

    /// How many bits.
    #[must_use]
    pub const fn count(self) -> u32 {
        self as u32
    }

    /// Bytes of the codes of a block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        BLOCK / 8 * self.count() as usize
    }

    /// Encodes `x + residual`, of which one may be empty, and where `residual` is not, leaves in it
    /// what the codes lack. `scales` take four bytes and `codes` [`Bits::block_bytes`] a block. The
    /// elements are those from `first`, a multiple of twice [`BLOCK`], on of what `random` rounds.
    ///
    /// Whether every element was finite; what is written is of no use otherwise.
    ///
    /// # Panics
    /// Where lengths do not fit.
    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    pub fn encode(
        self,
        isa: Isa,
        random: Philox,
        first: u64,
        x: &[f32],
        residual: &mut [f32],
        scales: &mut [u8],
        codes: &mut [u8],
    ) -> bool {
        let n = x.len().max(residual.len());
        assert!(x.is_empty() || x.len() == n);
        assert!(residual.is_empty() || residual.len() == n);
        self.check(n, scales.len(), codes.len());
        assert!(first.is_multiple_of((TOGETHER * BLOCK) as u64));
        isa.run(Encode { bits: self, random, first, n, x, residual, scales, codes })
    }

    /// Adds `weight` times what codes stand for.
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub fn add(self, isa: Isa, weight: f32, scales: &[u8], codes: &[u8], sum: &mut [f32]) {
        self.check(sum.len(), scales.len(), codes.len());
        isa.run(Add { bits: self, weight, scales, codes, sum });
    }

    fn check(self, n: usize, scales: usize, codes: usize) {
        let blocks = n.div_ceil(BLOCK);
        assert_eq!((scales, codes), (blocks * SCALE, blocks * self.block_bytes()));
    }

    /// The code of element `i` of a block, which is `x`, where the block's scale has this inverse and
    /// `word` is its random word: the reference of [`Bits::encode`].
    #[must_use]
    pub fn code(self, i: usize, x: f32, inverse: f32, word: u32) -> u32 {
        let random = match i / WORDS {
            3 => word.rotate_right(8) >> 9,
            quarter => word << (8 * quarter) >> 9,
        };
        let up = f32::from_bits(ONE | random) + (self.center() - 1.5);
        (x * inverse + up).min(self.top()).round_ties_even() as u32
    }

    /// What a code stands for in a block of scale 1.
    #[must_use]
    pub fn value(self, code: u32) -> f32 {
        code as f32 - self.center()
    }

    /// The scale of a block whose largest magnitude is given, and its inverse.
    #[inline(always)]
    #[must_use]
    pub fn scale(self, largest: f32) -> [f32; 2] {
        if largest < LEAST {
            return [0.0; 2];
        }
        let most = self.center() - 1.0;
        [largest / most, most / largest]
    }

    /// The code of 0.
    const fn center(self) -> f32 {
        (1 << (self.count() - 1)) as f32
    }

    /// The greatest code.
    const fn top(self) -> f32 {
        ((1 << self.count()) - 1) as f32
    }
}

/// The arguments of [`Bits::encode`].
struct Encode<'a> {
    bits: Bits,
    random: Philox,
    first: u64,
    n: usize,
    x: &'a [f32],
    residual: &'a mut [f32],
    scales: &'a mut [u8],
    codes: &'a mut [u8],
}

/// A block of elements, or random words.
#[repr(align(64))]
struct Room<const N: usize>([f32; N]);

impl Kernel for Encode<'_> {
    type Out = bool;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> bool {
        let Self { bits, random, first, n, x, residual, scales, codes } = self;
        let source = random.vectors(s);
        let mut wide = Room([0.0; TOGETHER * BLOCK]);
        let mut words = Room([0.0; TOGETHER * WORDS]);
        let mut packed = Room([0.0; MOST_WORDS]);
        let mut wrong = s.zero();
        // One operand alone is read from further ahead: 31 instead of 28 GB/s.
        let ahead = if residual.is_empty() { 2 * AHEAD } else { AHEAD };
        let blocks = n.div_ceil(BLOCK);
        // The scales of a pair before its random words, and its codes last: the words are made while a
        // scale waits for the largest of a vector and a division. 38 instead of 32 GB/s with a residual.
        for pair in (0..blocks).step_by(TOGETHER) {
            let (mut from, mut scale) = ([std::ptr::null(); TOGETHER], [[0.0; 2]; TOGETHER]);
            for i in 0..TOGETHER.min(blocks - pair) {
                let range = (pair + i) * BLOCK..n.min((pair + i + 1) * BLOCK);
                from[i] = x.as_ptr().wrapping_add(range.start);
                let ahead = from[i].wrapping_add(ahead);
                if range.len() < BLOCK || !residual.is_empty() {
                    let wide = &mut wide.0[i * BLOCK..][..BLOCK];
                    add(s, x.get(range.clone()), residual.get(range), wide);
                    from[i] = wide.as_ptr();
                }
                // SAFETY: a whole block, of `x` or of the copy.
                scale[i] = bits.scale(unsafe { largest(s, from[i], ahead, &mut wrong) });
            }
            source.fill(first / 4 + (pair * WORDS) as u64, &mut words.0);
            for i in 0..TOGETHER.min(blocks - pair) {
                let block = pair + i;
                let words = &words.0[i * WORDS..][..WORDS];
                scales[block * SCALE..][..SCALE].copy_from_slice(&scale[i][0].to_le_bytes());
                // SAFETY: a whole block, as above; where it is written, it is the copy, borrowed anew.
                unsafe {
                    if residual.is_empty() {
                        let x = from[i].cast_mut();
                        pack_any::<S, false>(s, bits, x, scale[i], words, &mut packed.0);
                    } else {
                        let x = wide.0[i * BLOCK..][..BLOCK].as_mut_ptr();
                        pack_any::<S, true>(s, bits, x, scale[i], words, &mut packed.0);
                    }
                }
                let bytes = bits.block_bytes();
                // SAFETY: f32 are bytes, and so many there are.
                let packed =
                    unsafe { std::slice::from_raw_parts(packed.0.as_ptr().cast::<u8>(), bytes) };
                codes[block * bytes..][..bytes].copy_from_slice(packed);
                if let Some(residual) = residual.get_mut(block * BLOCK..n.min((block + 1) * BLOCK))
                {
                    residual.copy_from_slice(&wide.0[i * BLOCK..][..residual.len()]);
                }
            }
        }
        s.sum(wrong) == 0.0
    }
}

/// The sum of up to a block of two operands, either of which may be absent; zeros beyond.
#[inline(always)]
fn add<S: Simd>(s: S, x: Option<&[f32]>, y: Option<&[f32]>, to: &mut [f32]) {
    let (x, y) = (x.unwrap_or_default(), y.unwrap_or_default());
    for at in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: as many as there are, at most a vector; `to` is a block.
        unsafe {
            let sum = s.add(get(s, x, at), get(s, y, at));
            s.store(to.as_mut_ptr().add(at), sum);
        }
    }
}

/// Up to a vector of `x` from `at`, zeros where there is none.
#[inline(always)]
fn get<S: Simd>(s: S, x: &[f32], at: usize) -> S::F {
    let n = x.len().saturating_sub(at);
    let p = x.as_ptr().wrapping_add(at);
    // SAFETY: `n` elements are there.
    unsafe { if n >= S::LANES { s.load(p) } else { s.load_n(p, n) } }
}

/// The largest magnitude of a block, NaN aside; `wrong` is 0 as long as all are finite.
///
/// # Safety
/// `x` must be valid for reading a block.
#[inline(always)]
unsafe fn largest<S: Simd>(s: S, x: *const f32, ahead: *const f32, wrong: &mut S::F) -> f32 {
    let mut most = [s.zero(); 2];
    for at in (0..BLOCK).step_by(2 * S::LANES) {
        for i in 0..2 {
            let at = at + i * S::LANES;
            s.prefetch(ahead.wrapping_add(at));
            // SAFETY: the caller's contract; two vectors divide a block.
            let v = unsafe { s.load(x.add(at)) };
            most[i] = s.max(s.abs(v), most[i]);
            // 0, or NaN. A sum of them in place of `or` would wait for itself: a quarter of all the time.
            *wrong = s.or(*wrong, s.sub(v, v));
        }
    }
    s.max_lane(s.max(most[0], most[1]))
}

/// The random bits of a quarter of a block, in the place of an f32's fraction.
#[inline(always)]
fn fraction<S: Simd>(s: S, quarter: usize, word: S::F) -> S::F {
    let mask = |bits: u32| f32::from_bits(bits);
    match quarter {
        0 => s.shift_right::<9>(word),
        1 => s.and(s.shift_right::<1>(word), s.splat(mask(0x007f_ffff))),
        2 => s.and(s.shift_left::<7>(word), s.splat(mask(0x007f_ff80))),
        _ => {
            let upper = s.and(s.shift_left::<15>(word), s.splat(mask(0x007f_8000)));
            s.or(upper, s.shift_right::<17>(word))
        }
    }
}

/// Packs a block's codes into words; with `KEEP`, leaves in `x` what they lack.
///
/// # Safety
/// `x` must be valid for reading a block, and with `KEEP` for writing it.
#[inline(always)]
unsafe fn pack<S: Simd, const BITS: u32, const KEEP: bool>(
    s: S,
    x: *mut f32,
    scale: [f32; 2],
    random: &[f32],
    to: &mut [f32; MOST_WORDS],
) {
    let (words, fields) = (BLOCK / 32 * BITS as usize, 32 / BITS as usize);
    for word in (0..words).step_by(S::LANES) {
        // From the highest, so that each moves up by the same.
        // SAFETY: the caller's contract.
        let packed = unsafe {
            let packed = pack_quarter::<S, BITS, KEEP, 3>(s, x, scale, random, word, s.zero());
            let packed = pack_quarter::<S, BITS, KEEP, 2>(s, x, scale, random, word, packed);
            let packed = pack_quarter::<S, BITS, KEEP, 1>(s, x, scale, random, word, packed);
            pack_quarter::<S, BITS, KEEP, 0>(s, x, scale, random, word, packed)
        };
        let shifts = (0..fields).fold(0u32, |sum, field| {
            sum.wrapping_add(SHIFT.to_bits().wrapping_shl(BITS * field as u32))
        });
        let packed = s.add_i32(packed, s.splat(f32::from_bits(shifts.wrapping_neg())));
        // SAFETY: a block has at most as many words.
        unsafe { s.store(to.as_mut_ptr().add(word), packed) };
    }
}

/// [`pack`] of the fields that lie in quarter `Q` of a block, above which `packed` holds the others. Of
/// a constant quarter, for one loop over all of them is not unrolled where much is in it, and then
/// asks for each which bits are random: 2.4 times as long.
///
/// # Safety
/// As [`pack`].
#[inline(always)]
unsafe fn pack_quarter<S: Simd, const BITS: u32, const KEEP: bool, const Q: usize>(
    s: S,
    x: *mut f32,
    [scale, inverse]: [f32; 2],
    random: &[f32],
    word: usize,
    mut packed: S::F,
) -> S::F {
    let (words, fields) = (BLOCK / 32 * BITS as usize, 8 / BITS as usize);
    let center = (1u32 << (BITS - 1)) as f32;
    let (inverse, scale) = (s.splat(inverse), s.splat(scale));
    let (offset, top) = (s.splat(center - 1.5), s.splat(((1u32 << BITS) - 1) as f32));
    let one = s.splat(f32::from_bits(ONE));
    for field in (0..fields).rev() {
        let at = field * words + word;
        // SAFETY: `at` and a vector lie in a quarter, which has as many random words.
        unsafe {
            let random = fraction(s, Q, s.load(random.as_ptr().add(at)));
            let x = x.add(Q * WORDS + at);
            let up = s.add(s.or(random, one), offset);
            let v = s.load(x);
            let code = s.min(s.add(s.mul(v, inverse), up), top);
            let code = s.add(code, s.splat(SHIFT));
            if KEEP {
                let value = s.mul(s.sub(code, s.splat(SHIFT + center)), scale);
                s.store(x, s.sub(v, value));
            }
            packed = s.add_i32(s.shift_left::<BITS>(packed), code);
        }
    }
    packed
}

/// The arguments of [`Bits::add`].
struct Add<'a> {
    bits: Bits,
    weight: f32,
    scales: &'a [u8],
    codes: &'a [u8],
    sum: &'a mut [f32],
}

impl Kernel for Add<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let bytes = self.bits.block_bytes();
        let blocks = self.codes.chunks_exact(bytes).zip(self.scales.chunks_exact(SCALE));
        let mut words = Room([0.0; MOST_WORDS]);
        for (sum, (codes, scale)) in self.sum.chunks_mut(BLOCK).zip(blocks) {
            let factor = self.weight * f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]);
            // SAFETY: disjoint; f32 are bytes, and a block has at most as many words.
            unsafe {
                codes.as_ptr().copy_to_nonoverlapping(words.0.as_mut_ptr().cast::<u8>(), bytes);
            }
            let (mut wide, len) = ([0.0; BLOCK], sum.len());
            let mut to = sum.as_mut_ptr();
            if len < BLOCK {
                wide[..len].copy_from_slice(sum);
                to = wide.as_mut_ptr();
            }
            // SAFETY: a whole block, of `sum` or of the copy.
            unsafe { unpack_any(s, self.bits, &words.0, factor, to) };
            if len < BLOCK {
                sum.copy_from_slice(&wide[..len]);
            }
        }
    }
}

/// Adds `factor` times the value of each code to a block.
///
/// # Safety
/// `sum` must be valid for reading and writing a block.
#[inline(always)]
unsafe fn unpack<S: Simd, const BITS: u32>(
    s: S,
    from: &[f32; MOST_WORDS],
    factor: f32,
    sum: *mut f32,
) {
    let (words, fields) = (BLOCK / 32 * BITS as usize, 32 / BITS as usize);
    let center = s.splat(SHIFT + (1u32 << (BITS - 1)) as f32);
    let (low, shift) = (s.splat(f32::from_bits((1 << BITS) - 1)), s.splat(SHIFT));
    let factor = s.splat(factor);
    for word in (0..words).step_by(S::LANES) {
        // SAFETY: a block has at most as many words.
        let mut packed = unsafe { s.load(from.as_ptr().add(word)) };
        for field in 0..fields {
            let value = s.sub(s.or(s.and(packed, low), shift), center);
            // SAFETY: the caller's contract; it lies in a block.
            unsafe {
                let to = sum.add(field * words + word);
                s.prefetch(to.wrapping_add(AHEAD));
                s.store(to, s.add(s.load(to), s.mul(value, factor)));
            }
            packed = s.shift_right::<BITS>(packed);
        }
    }
}
