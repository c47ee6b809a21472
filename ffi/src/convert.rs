//! C arguments as Rust values, checked.

use std::ffi::{CStr, c_char};
use std::ops::Range;

use tenon_kernels::quant::Format;
use tenon_runtime::{DType, Result, Shape, TensorDesc};

use crate::abi;
use crate::status::argument;

/// Element types on both sides.
const DTYPES: &[(u32, DType)] = &[
    (abi::TN_F32, DType::F32),
    (abi::TN_F16, DType::F16),
    (abi::TN_BF16, DType::BF16),
    (abi::TN_I8, DType::I8),
    (abi::TN_I32, DType::I32),
    (abi::TN_U8, DType::U8),
    (abi::TN_Q8_0, DType::Quant(Format::Q8_0)),
    (abi::TN_Q4_0, DType::Quant(Format::Q4_0)),
    (abi::TN_Q4_1, DType::Quant(Format::Q4_1)),
    (abi::TN_Q5_0, DType::Quant(Format::Q5_0)),
    (abi::TN_Q5_1, DType::Quant(Format::Q5_1)),
    (abi::TN_Q4_K, DType::Quant(Format::Q4K)),
    (abi::TN_Q6_K, DType::Quant(Format::Q6K)),
];

/// What a code of one of the header's enumerations stands for.
pub(crate) fn choice<T: Copy>(choices: &[(u32, T)], code: i32, name: &str) -> Result<T> {
    choices
        .iter()
        .find(|(known, _)| i64::from(*known) == i64::from(code))
        .map(|choice| choice.1)
        .ok_or_else(|| argument(format!("{code} is no {name}")))
}

/// The code of an element type.
pub(crate) fn dtype_code(dtype: DType) -> abi::tn_dtype {
    DTYPES.iter().find(|d| d.1 == dtype).map_or(-1, |d| d.0 as abi::tn_dtype)
}

/// A unique reference from a pointer that must not be NULL.
///
/// # Safety
/// `pointer` is NULL or valid for `'a`, and no one else uses what it points to meanwhile.
pub(crate) unsafe fn unique<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut T> {
    // SAFETY: the caller's contract.
    unsafe { pointer.as_mut() }.ok_or_else(|| argument(format!("`{name}` is NULL")))
}

/// A slice from a pointer that may be NULL only where `len` is 0.
///
/// # Safety
/// `pointer` is NULL or valid for reading `len` elements for `'a`.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, len: usize, name: &str) -> Result<&'a [T]> {
    match (pointer.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(argument(format!("`{name}` is NULL, but its length is {len}"))),
        _ if !pointer.is_aligned() || len > isize::MAX as usize / size_of::<T>().max(1) => {
            Err(argument(format!("`{name}` is misaligned or longer than memory")))
        }
        // SAFETY: not NULL, aligned; the caller's contract for the rest.
        _ => Ok(unsafe { std::slice::from_raw_parts(pointer, len) }),
    }
}

/// A writable slice from a pointer that may be NULL only where `len` is 0.
///
/// # Safety
/// `pointer` is NULL or valid for writing `len` elements for `'a`, and no one else uses them.
pub(crate) unsafe fn slice_mut<'a, T>(
    pointer: *mut T,
    len: usize,
    name: &str,
) -> Result<&'a mut [T]> {
    // SAFETY: the same contract; this checks the pointer.
    unsafe { slice(pointer.cast_const(), len, name)? };
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: checked above; the caller's contract.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, len) })
}

/// The addresses of `count` elements, for [`apart`].
pub(crate) fn span<T>(pointer: *const T, count: usize) -> Range<usize> {
    let start = pointer.addr();
    start..start.saturating_add(count.saturating_mul(size_of::<T>()))
}

/// Refuses vectors that share memory, before there is a reference to any of them.
pub(crate) fn apart<const N: usize>(spans: &[Range<usize>; N]) -> Result<()> {
    let shares = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
    let is_clear = |i: usize| !spans[..i].iter().any(|other| shares(other, &spans[i]));
    match (0..N).all(is_clear) {
        true => Ok(()),
        false => Err(argument("two vectors of this call share memory: give each its own")),
    }
}

/// A string that must not be NULL.
///
/// # Safety
/// `pointer` is NULL or a string that ends in NUL and lives for `'a`.
pub(crate) unsafe fn string<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(argument(format!("`{name}` is NULL")));
    }
    // SAFETY: the caller's contract.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| argument(format!("`{name}` is not UTF-8")))
}

/// A string or NULL.
///
/// # Safety
/// As [`string`].
pub(crate) unsafe fn optional_string<'a>(
    pointer: *const c_char,
    name: &str,
) -> Result<Option<&'a str>> {
    // SAFETY: the caller's contract.
    if pointer.is_null() { Ok(None) } else { unsafe { string(pointer, name) }.map(Some) }
}

/// An element type.
pub(crate) fn dtype(code: abi::tn_dtype) -> Result<DType> {
    choice(DTYPES, code, "tn_dtype")
}

/// A tensor's description.
///
/// # Safety
/// As [`slice`] for `dims`.
pub(crate) unsafe fn desc(
    code: abi::tn_dtype,
    dims: *const i64,
    rank: usize,
) -> Result<TensorDesc> {
    if rank > abi::TN_MAX_RANK as usize {
        return Err(argument(format!("rank {rank} is above {}", abi::TN_MAX_RANK)));
    }
    // SAFETY: the caller's contract.
    let dims = unsafe { slice(dims, rank, "dims")? };
    let dims = dims
        .iter()
        .map(|&d| usize::try_from(d))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| argument(format!("dims {dims:?} hold a negative one")))?;
    TensorDesc::new(dtype(code)?, Shape::new(&dims)?)
}
