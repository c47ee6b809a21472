//! Sessions at work: inputs, steps, outputs, checkpoints.

use std::ffi::{CString, c_char, c_void};
use std::ops::ControlFlow;
use std::path::Path;

use tenon_runtime::Result;
use tenon_runtime::executor::{Observer, Task};

use crate::abi;
use crate::convert::{optional_string, slice, slice_mut, string, unique};
use crate::handle::with;
use crate::session::SessionHandle;
use crate::status::argument;
use crate::structs::{Place, options};

/// The caller's progress callback.
struct Progress(abi::tn_run_options);

impl Observer for Progress {
    fn before(&mut self, done: usize, total: usize, _: &Task) -> ControlFlow<()> {
        let Some(call) = self.0.progress else { return ControlFlow::Continue(()) };
        // SAFETY: the caller gave the function and its argument.
        let stop = unsafe { call(self.0.progress_user, done as u64, total as u64) };
        if stop == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_write(
    session: *mut abi::tn_session,
    name: *const c_char,
    data: *const c_void,
    size: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            let name = string(name, "name")?;
            let tensor = handle.trainer.executor().writable(name)?;
            check_size(name, tensor.desc().bytes(), size)?;
            tensor.storage().write(0, slice(data.cast::<u8>(), size, "data")?)?;
            handle.unwritten.remove(name);
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_read(
    session: *mut abi::tn_session,
    name: *const c_char,
    data: *mut c_void,
    size: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            let name = string(name, "name")?;
            let (desc, storage, offset) = handle.source(name)?.view(name)?;
            check_size(name, desc.bytes(), size)?;
            storage.read(offset, slice_mut(data.cast::<u8>(), size, "data")?)
        })
    }
}

fn check_size(name: &str, needed: usize, size: usize) -> Result<()> {
    if needed == size {
        Ok(())
    } else {
        Err(argument(format!("`{name}` takes {needed} bytes, not {size}")))
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_step(
    session: *mut abi::tn_session,
    given: *const abi::tn_run_options,
    out: *mut abi::tn_report,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            let mut progress = Progress(options(given)?);
            let place = if out.is_null() { None } else { Some(Place::new(out)?) };
            handle.check_written()?;
            handle.stepped = false;
            let made = handle.trainer.step(&mut progress)?;
            (handle.stepped, handle.evaluated) = (true, false);
            if let Some(place) = place {
                place.write(&crate::options::report(&made));
            }
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_evaluate(
    session: *mut abi::tn_session,
    given: *const abi::tn_run_options,
    loss: *mut f32,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            let (mut progress, loss) = (Progress(options(given)?), unique(loss, "loss")?);
            handle.check_written()?;
            *loss = handle.trainer.evaluate(&mut progress)?;
            handle.evaluated = true;
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_save(
    session: *mut abi::tn_session,
    path: *const c_char,
    note: *const c_char,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            let (path, note) = (string(path, "path")?, optional_string(note, "note")?);
            handle.trainer.save(Path::new(path), note.unwrap_or_default())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_load(
    session: *mut abi::tn_session,
    path: *const c_char,
    note: *mut *const c_char,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            let kept = handle.trainer.resume(Path::new(string(path, "path")?))?;
            handle.note = CString::new(kept).unwrap_or_default();
            if let Some(note) = note.as_mut() {
                *note = handle.note.as_ptr();
            }
            Ok(())
        })
    }
}
