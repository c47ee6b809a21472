//! Element types.

use half::{bf16, f16};
use tenon_kernels::quant::Format;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision: what all arithmetic is done in.
    F32,
    /// IEEE half precision (storage).
    F16,
    /// bfloat16 (storage).
    BF16,
    /// Signed bytes.
    I8,
    /// Signed 32-bit integers: indices, seeds.
    I32,
    /// Unsigned bytes.
    U8,
    /// Blocks along the last axis in one of the kernels' formats; never F32, F16 or BF16, which
    /// have variants of their own ([`DType::from_format`] keeps to that).
    Quant(Format),
}

impl DType {
    /// The element type of weights stored in `format`.
    #[must_use]
    pub fn from_format(format: Format) -> Self {
        match format {
            Format::F32 => Self::F32,
            Format::F16 => Self::F16,
            Format::BF16 => Self::BF16,
            quantized => Self::Quant(quantized),
        }
    }

    /// The weight format, for the types that a matrix product can read as weights.
    #[must_use]
    pub fn format(self) -> Option<Format> {
        match self {
            Self::F32 => Some(Format::F32),
            Self::F16 => Some(Format::F16),
            Self::BF16 => Some(Format::BF16),
            Self::Quant(format) => Some(format),
            Self::I8 | Self::I32 | Self::U8 => None,
        }
    }

    /// Elements in the smallest addressable unit.
    #[must_use]
    pub fn block_elems(self) -> usize {
        match self {
            Self::Quant(format) => format.block_elems(),
            _ => 1,
        }
    }

    /// Bytes of a row of `columns` elements; `None` where that overflows or splits a block.
    #[must_use]
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let (elems, bytes) = match self {
            Self::F32 | Self::I32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::I8 | Self::U8 => (1, 1),
            Self::Quant(format) => (format.block_elems(), format.block_bytes()),
        };
        if columns.is_multiple_of(elems) { (columns / elems).checked_mul(bytes) } else { None }
    }

    /// The name used in dumps, files and the C ABI: `f32`, `q4_1`, ….
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I8 => "i8",
            Self::I32 => "i32",
            Self::U8 => "u8",
            Self::Quant(format) => format.name(),
        }
    }

    /// The type called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::BF16, Self::I8, Self::I32, Self::U8]
            .into_iter()
            .find(|t| t.name() == name)
            .or_else(|| Format::from_name(name).map(Self::from_format))
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that is a tensor's element type bit for bit.
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + 'static {
    /// The matching [`DType`].
    const DTYPE: DType;
    /// The elements' bytes.
    fn bytes_of(data: &[Self]) -> &[u8];
    /// The elements' bytes, writable.
    fn bytes_of_mut(data: &mut [Self]) -> &mut [u8];
}

macro_rules! elements {
    ($($ty:ty => $dtype:ident),*) => {$(
        impl sealed::Sealed for $ty {}
        impl Element for $ty {
            const DTYPE: DType = DType::$dtype;
            fn bytes_of(data: &[Self]) -> &[u8] {
                // SAFETY: the type has no padding and any byte of it may be read.
                unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), size_of_val(data)) }
            }
            fn bytes_of_mut(data: &mut [Self]) -> &mut [u8] {
                let len = size_of_val(data);
                // SAFETY: as above, and every bit pattern is a value of the type.
                unsafe { std::slice::from_raw_parts_mut(data.as_mut_ptr().cast(), len) }
            }
        }
    )*};
}

elements!(f32 => F32, f16 => F16, bf16 => BF16, i8 => I8, i32 => I32, u8 => U8);
