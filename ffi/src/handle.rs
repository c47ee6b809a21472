//! Handles: what a caller holds without seeing.

use std::sync::Arc;

use tenon_runtime::Result;

use crate::abi;
use crate::context::Context;
use crate::convert::unique;
use crate::status::{argument, guard};

/// Something that a caller holds by an opaque pointer, used by one thread at a time.
pub(crate) trait Handle: Sized {
    /// The header's type.
    type Opaque;
    /// What the header calls an argument of it.
    const NAME: &'static str;
    /// What it shares with the other handles of its context.
    fn context(&self) -> &Arc<Context>;
}

/// Runs the body of an ABI function on the value behind a handle.
///
/// # Safety
/// `handle` is NULL or was given by [`give`], not yet taken back, and is used by no one else.
pub(crate) unsafe fn with<H: Handle>(
    handle: *mut H::Opaque,
    body: impl FnOnce(&mut H) -> Result<()>,
) -> abi::tn_status {
    // SAFETY: the caller's contract.
    match unsafe { handle.cast::<H>().as_mut() } {
        None => guard(None, || Err(argument(format!("`{}` is NULL", H::NAME)))),
        Some(value) => {
            let context = value.context().clone();
            guard(Some(&context.message), || body(value))
        }
    }
}

/// Makes a value and gives its handle to the caller. The place for it is checked first, so that
/// nothing is made in vain.
///
/// # Safety
/// `out` is NULL or valid for writing.
pub(crate) unsafe fn give<H: Handle>(
    out: *mut *mut H::Opaque,
    make: impl FnOnce() -> Result<H>,
) -> Result<()> {
    // SAFETY: the caller's contract.
    let out = unsafe { unique(out, H::NAME)? };
    *out = Box::into_raw(Box::new(make()?)).cast();
    Ok(())
}

/// Takes a handle back.
///
/// # Safety
/// As [`with`]; the handle is not used again.
pub(crate) unsafe fn destroy<H: Handle>(handle: *mut H::Opaque) {
    if !handle.is_null() {
        guard(None, || {
            // SAFETY: given by `give`, which boxed it; given back once.
            drop(unsafe { Box::from_raw(handle.cast::<H>()) });
            Ok(())
        });
    }
}
