//! Structs of the ABI, each as long as the header that its caller was compiled with.

use std::mem::offset_of;

use tenon_runtime::Result;

use crate::abi;
use crate::status::argument;

/// A struct of the ABI that begins with its size.
///
/// # Safety
/// The type is `repr(C)`, begins with a `usize` size, and any bytes, zeros among them, are a value.
pub(crate) unsafe trait Struct: Copy {
    /// Its name in the header.
    const NAME: &'static str;
    /// Bytes of its first version: no caller knows less of it.
    const LEAST: usize;
}

/// One row a struct, with the last field of its first version. Fields appended later stay out.
macro_rules! structs {
    ($($name:ident . $last:ident;)*) => {$(
        // SAFETY: generated from the header: repr(C), size first, numbers and nullable pointers.
        unsafe impl Struct for abi::$name {
            const NAME: &'static str = stringify!($name);
            const LEAST: usize =
                end(offset_of!(abi::$name, $last), |value: &abi::$name| &value.$last);
        }
    )*};
}

structs! {
    tn_allocator.release;
    tn_context_options.log_user;
    tn_attr.integer_count;
    tn_model_options.logits;
    tn_train_options.memory_budget;
    tn_plan.plan_ms;
    tn_run_options.progress_user;
    tn_report.step;
    tn_parameter.dims;
    tn_compression.round;
    tn_message.unused;
    tn_fixed_point.clients;
    tn_mask.unused;
    tn_axis.start;
    tn_submodel.axis_count;
}

/// Where a field ends.
const fn end<T, F>(offset: usize, _: fn(&T) -> &F) -> usize {
    offset + size_of::<F>()
}

/// Reads a struct as far as the caller knows it; what lies beyond is zero. NULL is all zeros. Where
/// the caller knows more of it than this library, the rest must be zeros.
///
/// # Safety
/// `pointer` is NULL, or valid for reading the size it states.
pub(crate) unsafe fn options<T: Struct>(pointer: *const T) -> Result<T> {
    // SAFETY: the trait's contract: zeros are a value.
    let mut own: T = unsafe { std::mem::zeroed() };
    if pointer.is_null() {
        return Ok(own);
    }
    // SAFETY: the caller's contract.
    let stated = unsafe { stated_size(pointer)? };
    let size = stated.min(size_of::<T>());
    // SAFETY: the caller's contract: its struct is as long as it states.
    let beyond =
        unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(size), stated - size) };
    // A caller of a later version asks for what this one would silently leave out.
    if beyond.iter().any(|&byte| byte != 0) {
        let (name, version) = (T::NAME, env!("CARGO_PKG_VERSION"));
        return Err(argument(format!(
            "{name} has a field set beyond the {size} bytes that version {version} knows of it"
        )));
    }
    // SAFETY: both are valid for `size` bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), (&raw mut own).cast::<u8>(), size);
    }
    Ok(own)
}

/// Reads an array of structs, which lie as far apart as the caller knows them to be long.
///
/// # Safety
/// `pointer` is NULL, or valid for reading `count` structs of the size that the first states.
pub(crate) unsafe fn array<T: Struct>(pointer: *const T, count: usize) -> Result<Vec<T>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if pointer.is_null() {
        return Err(argument(format!("the array of {} is NULL, but has {count}", T::NAME)));
    }
    // SAFETY: the caller's contract.
    let stride = unsafe { stated_size(pointer)? };
    if count > isize::MAX as usize / stride {
        return Err(argument(format!("{count} {} are more than memory holds", T::NAME)));
    }
    let read = |i: usize| {
        // SAFETY: the caller's contract.
        let element = unsafe { pointer.byte_add(i * stride) };
        // SAFETY: as above.
        if unsafe { stated_size(element)? } == stride {
            // SAFETY: as above.
            unsafe { options(element) }
        } else {
            Err(argument(format!("{} {i} of an array has a struct_size of its own", T::NAME)))
        }
    };
    (0..count).map(read).collect()
}

/// A place for a report, checked before the work whose outcome it is for.
#[derive(Clone, Copy)]
pub(crate) struct Place<T: Struct> {
    pointer: *mut T,
    size: usize,
}

impl<T: Struct> Place<T> {
    /// The place that the caller gives.
    ///
    /// # Safety
    /// `pointer` is NULL, or valid for reading and writing the size it states, until the last use
    /// of this place.
    pub(crate) unsafe fn new(pointer: *mut T) -> Result<Self> {
        if pointer.is_null() {
            return Err(argument(format!("the {} to write to is NULL", T::NAME)));
        }
        // SAFETY: the caller's contract.
        let size = unsafe { stated_size(pointer)? }.min(size_of::<T>());
        Ok(Self { pointer, size })
    }

    /// Writes a report as far as the caller knows it; its size stays as the caller set it.
    pub(crate) fn write(self, value: &T) {
        let first = size_of::<usize>();
        let from = (&raw const *value).cast::<u8>();
        // SAFETY: both are valid for `size` bytes, and `size` is above that of the size field.
        unsafe {
            let to = self.pointer.cast::<u8>().add(first);
            std::ptr::copy_nonoverlapping(from.add(first), to, self.size - first);
        }
    }
}

/// The size that a struct begins with.
///
/// # Safety
/// `pointer` is valid for reading a size.
unsafe fn stated_size<T: Struct>(pointer: *const T) -> Result<usize> {
    /// Longer than any struct will be: an uninitialised field, most likely.
    const MOST: usize = 1 << 12;
    // SAFETY: the caller's contract.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    if (T::LEAST..=MOST).contains(&size) {
        return Ok(size);
    }
    Err(argument(format!("set struct_size of {0} to sizeof({0}); it is {size}", T::NAME)))
}
