//! Handles: what a caller holds without seeing.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

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
    /// What any threads may use while a call is with the handle.
    type Beside: Send + Sync;
    /// What it shares with the other handles of its context.
    fn context(&self) -> &Arc<Context>;
    /// What any threads may use of it.
    fn beside(&self) -> Self::Beside;
}

/// What a handle points to. A callback, or by mistake another thread, may use a handle that a call is
/// in already: that is seen here, before there are two who change one value.
struct Held<H: Handle> {
    state: AtomicU8,
    context: Arc<Context>,
    beside: H::Beside,
    value: UnsafeCell<H>,
}

/// No call is in it.
const FREE: u8 = 0;
/// A call is in it.
const BUSY: u8 = 1;
/// A call is in it, in whose course it was given back: it goes when that returns.
const GONE: u8 = 2;

/// Runs the body of an ABI function on the value behind a handle.
///
/// # Safety
/// `handle` is NULL or was given by [`give`] and not yet taken back.
pub(crate) unsafe fn with<H: Handle>(
    handle: *mut H::Opaque,
    body: impl FnOnce(&mut H) -> Result<()>,
) -> abi::tn_status {
    let place = handle.cast::<Held<H>>();
    // SAFETY: the caller's contract.
    let Some(held) = (unsafe { place.as_ref() }) else {
        return guard(None, || Err(argument(format!("`{}` is NULL", H::NAME))));
    };
    let context = held.context.clone();
    if held.state.compare_exchange(FREE, BUSY, Ordering::Acquire, Ordering::Relaxed).is_err() {
        let why = "is in use by another call: call from one thread at a time, and from no callback";
        return guard(Some(&context.message), || Err(argument(format!("the {} {why}", H::NAME))));
    }
    // SAFETY: whoever made it busy is the only one to use the value.
    let status = guard(Some(&context.message), || body(unsafe { &mut *held.value.get() }));
    if held.state.swap(FREE, Ordering::Release) == GONE {
        // SAFETY: given back while this call was in it, which left the rest to this.
        unsafe { release(place) };
    }
    status
}

/// The value behind a handle that any threads may use at once.
///
/// # Safety
/// `handle` is NULL or was given by [`give`], and is not taken back for `'a`; nothing takes it by [`with`].
pub(crate) unsafe fn shared<'a, H: Handle>(handle: *const H::Opaque) -> Option<&'a H> {
    // SAFETY: the caller's contract.
    unsafe { handle.cast::<Held<H>>().as_ref().map(|held| &*held.value.get()) }
}

/// Runs the body of an ABI function on what any threads may use of a handle, whoever uses the handle.
///
/// # Safety
/// `handle` is NULL or was given by [`give`], and is not taken back before this returns.
pub(crate) unsafe fn beside<H: Handle>(
    handle: *mut H::Opaque,
    body: impl FnOnce(&H::Beside) -> Result<()>,
) -> abi::tn_status {
    // SAFETY: the caller's contract; the value itself is not touched.
    let Some(held) = (unsafe { handle.cast::<Held<H>>().as_ref() }) else {
        return guard(None, || Err(argument(format!("`{}` is NULL", H::NAME))));
    };
    guard(Some(&held.context.message), || body(&held.beside))
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
    let value = make()?;
    let (state, context) = (AtomicU8::new(FREE), value.context().clone());
    let beside = value.beside();
    let held = Held { state, context, beside, value: UnsafeCell::new(value) };
    *out = Box::into_raw(Box::new(held)).cast();
    Ok(())
}

/// Takes a handle back.
///
/// # Safety
/// As [`with`]; the handle is not used again.
pub(crate) unsafe fn destroy<H: Handle>(handle: *mut H::Opaque) {
    let place = handle.cast::<Held<H>>();
    // SAFETY: the caller's contract.
    let Some(held) = (unsafe { place.as_ref() }) else { return };
    let busy = held.state.compare_exchange(BUSY, GONE, Ordering::AcqRel, Ordering::Acquire);
    if busy.is_err() {
        // SAFETY: given by `give`, which boxed it; given back once, and no call is in it.
        unsafe { release(place) };
    }
}

/// Frees what a handle points to.
///
/// # Safety
/// `place` was boxed by [`give`], and nothing uses it any more.
unsafe fn release<H: Handle>(place: *mut Held<H>) {
    guard(None, || {
        // SAFETY: the caller's contract.
        drop(unsafe { Box::from_raw(place) });
        Ok(())
    });
}
