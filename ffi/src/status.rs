//! Statuses, messages, and the wall that panics do not cross.

use std::any::Any;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use tenon_runtime::{Error, Result};

use crate::abi;

/// The message of the last failing call.
#[derive(Default)]
pub(crate) struct Message(Mutex<CString>);

impl Message {
    fn set(&self, text: &str) {
        // A NUL inside would cut the message; none of ours has one, a name from outside may.
        let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Copies what fits into `size` bytes, NUL at the end, and gives the size of the whole.
    ///
    /// # Safety
    /// `text` is NULL or valid for writing `size` bytes.
    pub(crate) unsafe fn copy(&self, text: *mut c_char, size: usize) -> usize {
        let message = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = message.as_bytes();
        if !text.is_null() && size > 0 {
            // Cut where a character ends.
            let fits =
                std::str::from_utf8(bytes).map_or(0, |whole| whole.floor_char_boundary(size - 1));
            // SAFETY: `fits` is below `size`, and the caller's contract.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), text.cast::<u8>(), fits);
                text.add(fits).write(0);
            }
        }
        bytes.len() + 1
    }
}

/// Runs the body of an ABI function: its error becomes a status, and a message where there is a
/// place for one; a panic becomes [`abi::TN_ERROR_INTERNAL`].
pub(crate) fn guard(
    message: Option<&Message>,
    body: impl FnOnce() -> Result<()>,
) -> abi::tn_status {
    let mut body = Some(body);
    wall(message, &mut || body.take().map_or(Ok(()), |body| body()))
}

/// [`guard`] once for all bodies, because the wall is more code than most of them.
#[inline(never)]
fn wall(message: Option<&Message>, body: &mut dyn FnMut() -> Result<()>) -> abi::tn_status {
    let (status, text) = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return abi::TN_OK as abi::tn_status,
        Ok(Err(error)) => (status(&error), error.to_string()),
        Err(panic) => (abi::TN_ERROR_INTERNAL, panic_text(&*panic)),
    };
    if let Some(message) = message {
        message.set(&text);
    }
    status as abi::tn_status
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a bug in Tenon: {}", text.unwrap_or("unknown"))
}

fn status(error: &Error) -> u32 {
    match error {
        Error::Shape { .. } | Error::DType { .. } | Error::Tensor(_) | Error::Index { .. } => {
            abi::TN_ERROR_SHAPE
        }
        Error::NotFound { .. } => abi::TN_ERROR_NOT_FOUND,
        Error::Graph(_) | Error::NoGradient { .. } => abi::TN_ERROR_GRAPH,
        Error::Io { .. } => abi::TN_ERROR_IO,
        Error::Format { .. } => abi::TN_ERROR_FORMAT,
        Error::Budget { .. } | Error::OutOfMemory(_) => abi::TN_ERROR_MEMORY,
        Error::Unsupported { .. } => abi::TN_ERROR_UNSUPPORTED,
        Error::Cancelled => abi::TN_ERROR_CANCELLED,
        Error::Device { .. } => abi::TN_ERROR_DEVICE,
        // Arity, attributes, usage, and what later versions add.
        _ => abi::TN_ERROR_ARGUMENT,
    }
}

/// An argument that cannot be used.
pub(crate) fn argument(why: impl Into<String>) -> Error {
    Error::Usage(why.into())
}

/// See the header.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn tn_version() -> u32 {
    abi::TN_VERSION
}

/// See the header.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn tn_status_text(status: abi::tn_status) -> *const c_char {
    let text: &CStr = match u32::try_from(status).unwrap_or(u32::MAX) {
        abi::TN_OK => c"ok",
        abi::TN_ERROR_ARGUMENT => c"bad argument",
        abi::TN_ERROR_SHAPE => c"shapes or types do not fit",
        abi::TN_ERROR_NOT_FOUND => c"no such name",
        abi::TN_ERROR_GRAPH => c"bad graph",
        abi::TN_ERROR_IO => c"file operation failed",
        abi::TN_ERROR_FORMAT => c"bad file",
        abi::TN_ERROR_MEMORY => c"not enough memory",
        abi::TN_ERROR_UNSUPPORTED => c"not supported",
        abi::TN_ERROR_CANCELLED => c"cancelled",
        abi::TN_ERROR_DEVICE => c"device failed",
        abi::TN_ERROR_INTERNAL => c"internal error",
        _ => c"unknown status",
    };
    text.as_ptr()
}
