//! Weight formats: blocks of a fixed number of elements in a fixed number of bytes, as GGUF files
//! hold them, with encode and decode.
//!
//! A block is a `#[repr(C)]` struct of bytes, so that a row of a mapped file is a slice of blocks
//! with no alignment to keep. Decoding is exact: every product of a half-precision scale with an
//! integer code fits f32's 24 bits, so at most one rounding (of the final sum) happens, and every
//! instruction set and NumPy agree bit for bit.
//!
//! Layouts follow the GGUF specification; what each encoder computes is that of PyPI
//! `gguf.quants`, which can only decode the K-quants: those encoders are our own ([`fit`]).

mod bits;
mod codes;
mod fit;
mod float;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q6_k;
mod q8_0;
#[cfg(test)]
mod tests;

pub use codes::{Codes, CodesVisitor};
pub use float::{BF16, F16, F32};
pub use q4_0::Q4_0;
pub use q4_1::Q4_1;
pub use q4_k::Q4K;
pub use q5_0::Q5_0;
pub use q5_1::Q5_1;
pub use q6_k::Q6K;
pub use q8_0::Q8_0;

use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// A block as it lies in memory, with its coding.
///
/// # Safety
/// The type must be valid for any bytes and have no padding.
pub unsafe trait BlockFormat: Copy + Send + Sync + 'static {
    /// Elements in a block.
    const ELEMS: usize;
    /// Bytes in a block.
    const BYTES: usize = size_of::<Self>();
    /// The largest `|decode(encode(x)) - x|` in a block, relative to the block's largest magnitude,
    /// while the block's scales are normal half floats; measured where the encoder is a search.
    const ERROR: f32;

    /// The block nearest to `x`, which has [`BlockFormat::ELEMS`] finite elements.
    fn encode(x: &[f32]) -> Self;

    /// Element `i` as the format defines it: the reference of the decoders.
    fn element(&self, i: usize) -> f32;

    /// Writes the block's elements to `dst`.
    ///
    /// # Safety
    /// `dst` must be valid for writing [`BlockFormat::ELEMS`] f32. A block of
    /// [`F32`], [`F16`] or [`BF16`] must lie at a multiple of its size.
    unsafe fn decode_block<S: Simd>(&self, s: S, dst: *mut f32);

    /// Writes the elements of `blocks` blocks to `dst`.
    ///
    /// # Safety
    /// As [`BlockFormat::decode_block`], for each block and its place in `dst`; `src` must be valid
    /// for reading the blocks.
    #[inline(always)]
    unsafe fn decode_blocks<S: Simd>(s: S, src: *const Self, blocks: usize, dst: *mut f32) {
        for i in 0..blocks {
            // SAFETY: the caller's contract.
            unsafe { (*src.add(i)).decode_block(s, dst.add(i * Self::ELEMS)) };
        }
    }

    /// Encodes `blocks` blocks of `src` into `dst`.
    ///
    /// # Safety
    /// `src` must be valid for reading `blocks * ELEMS` f32 and `dst` for writing `blocks` blocks;
    /// alignment as for [`BlockFormat::decode_block`].
    #[inline(always)]
    unsafe fn encode_blocks<S: Simd>(_: S, src: *const f32, blocks: usize, dst: *mut Self) {
        for i in 0..blocks {
            // SAFETY: the caller's contract.
            unsafe {
                let x = std::slice::from_raw_parts(src.add(i * Self::ELEMS), Self::ELEMS);
                dst.add(i).write(Self::encode(x));
            }
        }
    }
}

/// A computation over the block types of [`Format`].
pub trait FormatVisitor {
    /// What the computation returns.
    type Out;
    /// The computation for one format.
    fn visit<B: BlockFormat>(self) -> Self::Out;
}

macro_rules! formats {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $gguf_id:literal, $bytes:literal;)*) => {
        /// How the elements of a weight matrix are stored.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Format {
            $($(#[$doc])* $variant,)*
        }

        // Blocks lie where a file has them: any alignment, exact size.
        $(const _: () = assert!(align_of::<$variant>() == 1 && size_of::<$variant>() == $bytes);)*

        impl Format {
            /// Every format.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in dumps, files and the C ABI.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The type number in GGUF files (`ggml_type`).
            #[must_use]
            pub const fn gguf_id(self) -> u32 {
                match self { $(Self::$variant => $gguf_id),* }
            }

            /// Runs a computation for this format's block type.
            #[inline(always)]
            pub fn visit<V: FormatVisitor>(self, visitor: V) -> V::Out {
                match self { $(Self::$variant => visitor.visit::<$variant>()),* }
            }

            /// Elements in a block.
            #[must_use]
            pub const fn block_elems(self) -> usize {
                match self { $(Self::$variant => <$variant as BlockFormat>::ELEMS),* }
            }

            /// Bytes in a block.
            #[must_use]
            pub const fn block_bytes(self) -> usize {
                match self { $(Self::$variant => $bytes),* }
            }

            /// [`BlockFormat::ERROR`].
            #[must_use]
            pub const fn error(self) -> f32 {
                match self { $(Self::$variant => <$variant as BlockFormat>::ERROR),* }
            }
        }
    };
}

formats! {
    /// IEEE single precision.
    F32 = "f32", 0, 4;
    /// IEEE half precision.
    F16 = "f16", 1, 2;
    /// bfloat16.
    BF16 = "bf16", 30, 2;
    /// 32 signed bytes with a scale.
    Q8_0 = "q8_0", 8, 34;
    /// 32 signed 4-bit codes with a scale.
    Q4_0 = "q4_0", 2, 18;
    /// 32 unsigned 4-bit codes with a scale and a minimum.
    Q4_1 = "q4_1", 3, 20;
    /// 32 signed 5-bit codes with a scale.
    Q5_0 = "q5_0", 6, 22;
    /// 32 unsigned 5-bit codes with a scale and a minimum.
    Q5_1 = "q5_1", 7, 24;
    /// 256 unsigned 4-bit codes in 8 groups with 6-bit scales and minimums.
    Q4K = "q4_k", 12, 144;
    /// 256 signed 6-bit codes in 16 groups with 8-bit scales.
    Q6K = "q6_k", 14, 210;
}

impl Format {
    /// The format called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.name() == name)
    }

    /// The format with GGUF type number `id`.
    #[must_use]
    pub fn from_gguf_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.gguf_id() == id)
    }

    /// Bytes of a row of `cols` elements; `None` where that splits a block or overflows.
    #[must_use]
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if cols.is_multiple_of(self.block_elems()) {
            (cols / self.block_elems()).checked_mul(self.block_bytes())
        } else {
            None
        }
    }

    /// What `src` must be aligned to: the element size of the float formats, 1 for the others.
    #[must_use]
    pub const fn align(self) -> usize {
        if self.block_elems() == 1 { self.block_bytes() } else { 1 }
    }

    /// Whether a block is one float rather than codes with a scale.
    #[must_use]
    pub const fn is_float(self) -> bool {
        self.block_elems() == 1
    }

    /// Writes `n` elements from the blocks at `src` to `dst`. Exact; the same bits on every level.
    ///
    /// # Safety
    /// `n` must be a multiple of [`Format::block_elems`]; `src` must be valid for reading their
    /// blocks and aligned to [`Format::align`]; `dst` must be valid for writing `n` f32 and disjoint
    /// from `src`.
    pub unsafe fn decode(self, isa: Isa, src: *const u8, n: usize, dst: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { self.decode_rows(isa, Stretch { src, stride: n, rows: 1, n }, dst, n) };
    }

    /// [`Format::decode`] of the same stretch of several rows, which become rows `dst_stride` apart.
    ///
    /// # Safety
    /// As there, for each row of the stretch.
    pub unsafe fn decode_rows(self, isa: Isa, from: Stretch, dst: *mut f32, dst_stride: usize) {
        isa.run(Decode { format: self, from, dst, dst_stride });
    }

    /// Encodes `n` elements of `src` into blocks at `dst`. The same bytes on every level.
    ///
    /// # Safety
    /// As [`Format::decode`], with `src` and `dst` changing places.
    pub unsafe fn encode(self, isa: Isa, src: *const f32, n: usize, dst: *mut u8) {
        isa.run(Encode { format: self, src, n, dst });
    }

    /// Writes what [`Format::decode`] gives of what [`Format::encode`] makes of `src`.
    ///
    /// # Safety
    /// `n` must be a multiple of [`Format::block_elems`]; `src` must be valid for reading and `dst`
    /// for writing `n` f32; the two must be equal or disjoint.
    pub unsafe fn round_trip(self, isa: Isa, src: *const f32, n: usize, dst: *mut f32) {
        isa.run(RoundTrip { format: self, src, n, dst });
    }

    /// [`BlockFormat::element`] of element `i` of the row at `src`: the reference of
    /// [`Format::decode`].
    ///
    /// # Safety
    /// `src` must be valid for reading the blocks up to that of element `i`.
    #[must_use]
    pub unsafe fn element(self, src: *const u8, i: usize) -> f32 {
        struct Element(*const u8, usize);
        impl FormatVisitor for Element {
            type Out = f32;
            fn visit<B: BlockFormat>(self) -> f32 {
                let Self(src, i) = self;
                // SAFETY: the caller's contract; blocks have no alignment to keep.
                unsafe { (*src.cast::<B>().add(i / B::ELEMS)).element(i % B::ELEMS) }
            }
        }
        self.visit(Element(src, i))
    }
}

/// The same stretch of several rows of a stored matrix.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// The stretch's first block of the first row.
    pub src: *const u8,
    /// Elements from row to row, in whole blocks.
    pub stride: usize,
    /// Rows.
    pub rows: usize,
    /// Elements of each, in whole blocks.
    pub n: usize,
}

/// The arguments of [`Format::decode_rows`].
struct Decode {
    format: Format,
    from: Stretch,
    dst: *mut f32,
    dst_stride: usize,
}

impl Kernel for Decode {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        struct Of<S>(S, Decode);
        impl<S: Simd> FormatVisitor for Of<S> {
            type Out = ();
            #[inline(always)]
            fn visit<B: BlockFormat>(self) {
                let Self(s, Decode { from, dst, dst_stride, .. }) = self;
                let (blocks, step) = (from.n / B::ELEMS, from.stride / B::ELEMS);
                for r in 0..from.rows {
                    // SAFETY: `Format::decode_rows`'s contract.
                    unsafe {
                        let src = from.src.cast::<B>().add(r * step);
                        B::decode_blocks(s, src, blocks, dst.add(r * dst_stride));
                    }
                }
            }
        }
        self.format.visit(Of(s, self));
    }
}

/// The arguments of [`Format::encode`].
struct Encode {
    format: Format,
    src: *const f32,
    n: usize,
    dst: *mut u8,
}

impl Kernel for Encode {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        struct Of<S>(S, *const f32, usize, *mut u8);
        impl<S: Simd> FormatVisitor for Of<S> {
            type Out = ();
            #[inline(always)]
            fn visit<B: BlockFormat>(self) {
                let Self(s, src, n, dst) = self;
                // SAFETY: `Format::encode`'s contract.
                unsafe { B::encode_blocks(s, src, n / B::ELEMS, dst.cast()) };
            }
        }
        self.format.visit(Of(s, self.src, self.n, self.dst));
    }
}

/// The arguments of [`Format::round_trip`].
struct RoundTrip {
    format: Format,
    src: *const f32,
    n: usize,
    dst: *mut f32,
}

impl Kernel for RoundTrip {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        struct Of<S>(S, *const f32, usize, *mut f32);
        impl<S: Simd> FormatVisitor for Of<S> {
            type Out = ();
            #[inline(always)]
            fn visit<B: BlockFormat>(self) {
                let Self(s, src, n, dst) = self;
                for i in (0..n).step_by(B::ELEMS) {
                    // SAFETY: `Format::round_trip`'s contract; a block is read before it is written.
                    unsafe {
                        let x = std::slice::from_raw_parts(src.add(i), B::ELEMS);
                        let block = B::encode(x);
                        block.decode_block(s, dst.add(i));
                    }
                }
            }
        }
        self.format.visit(Of(s, self.src, self.n, self.dst));
    }
}
