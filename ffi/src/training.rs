//! Sessions at work: inputs, steps, outputs, checkpoints.

use std::ffi::{CString, c_char, c_void};
use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tenon_runtime::executor::{Observer, Profile, Task};
use tenon_runtime::{Error, Result};

use crate::abi;
use crate::context::Context;
use crate::convert::{optional_string, slice, slice_mut, string, unique};
use crate::handle::{Handle, beside, with};
use crate::session::{Last, SessionHandle};
use crate::status::argument;
use crate::structs::{Place, options};

/// What a caller wants to know of a run.
struct Run {
    options: abi::tn_run_options,
    /// The profile, and the file that it goes to.
    trace: Option<(PathBuf, File, Profile)>,
    /// When progress was told of last; at first, when the run began.
    told: Instant,
}

impl Run {
    /// # Safety
    /// The header's contract of `tn_run_options`.
    unsafe fn new(given: *const abi::tn_run_options) -> Result<Self> {
        // SAFETY: the caller's contract.
        let options = unsafe { options(given)? };
        // SAFETY: the caller's contract.
        let trace = unsafe { optional_string(options.trace_file, "trace_file")? };
        let trace = match trace.map(PathBuf::from) {
            None => None,
            // Before the run, so that a path that cannot be written changes nothing.
            Some(path) => match File::create(&path) {
                Ok(file) => Some((path, file, Profile::default())),
                Err(error) => return Err(Error::io(path, error)),
            },
        };
        Ok(Self { options, trace, told: Instant::now() })
    }

    /// Whether progress is to be told of now. A clock is read only where the caller asks for a pause.
    fn is_due(&mut self) -> bool {
        let pause = Duration::from_millis(self.options.progress_ms.into());
        let due = pause.is_zero() || self.told.elapsed() >= pause;
        if due && !pause.is_zero() {
            self.told = Instant::now();
        }
        due
    }

    /// Writes the profile. The run has counted by now, so a disk that is full is told of by the log.
    fn finish(self, context: &Context) {
        let Some((path, mut file, profile)) = self.trace else { return };
        if let Err(error) = file.write_all(profile.chrome_trace().as_bytes()) {
            context.log(&Error::io(path, error).to_string());
        }
    }
}

impl Observer for Run {
    fn before(&mut self, done: usize, total: usize, task: &Task) -> ControlFlow<()> {
        if let Some(call) = self.options.progress
            && self.is_due()
        {
            // SAFETY: the caller gave the function and its argument.
            let stop = unsafe { call(self.options.progress_user, done as u64, total as u64) };
            if stop != 0 {
                return ControlFlow::Break(());
            }
        }
        match &mut self.trace {
            Some((_, _, profile)) => profile.before(done, total, task),
            None => ControlFlow::Continue(()),
        }
    }

    fn after(&mut self) {
        if let Some((_, _, profile)) = &mut self.trace {
            profile.after();
        }
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
            handle.mark_written(name);
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

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_stage(
    session: *mut abi::tn_session,
    name: *const c_char,
    data: *const c_void,
    size: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        beside::<SessionHandle>(session, |staging| {
            let name = string(name, "name")?;
            let why = "set stage_inputs of tn_train_options to stage inputs of the session";
            let staging = staging.as_ref().ok_or_else(|| argument(why))?;
            staging.write(name, slice(data.cast::<u8>(), size, "data")?)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_take(session: *mut abi::tn_session) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            let unwritten = &mut handle.unwritten;
            handle.trainer.take_staged(|name| {
                unwritten.remove(name);
            })
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
            let place = if out.is_null() { None } else { Some(Place::new(out)?) };
            handle.check_written()?;
            handle.check_returned()?;
            let mut run = Run::new(given)?;
            handle.last = Last::Nothing;
            let made = handle.trainer.step(&mut run);
            run.finish(handle.context());
            let made = made?;
            handle.last = Last::Step;
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
pub(crate) unsafe extern "C" fn tn_session_forward(
    session: *mut abi::tn_session,
    given: *const abi::tn_run_options,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            handle.check_written()?;
            if !handle.trainer.executor().has_wait() {
                return Err(argument(
                    "this session sends nothing that a gradient comes back for: call \
                     tn_session_step",
                ));
            }
            let mut run = Run::new(given)?;
            handle.last = Last::Nothing;
            handle.await_gradients();
            let ran = handle.trainer.forward(&mut run);
            run.finish(handle.context());
            ran?;
            handle.last = Last::Forward;
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
            let loss = unique(loss, "loss")?;
            handle.check_written()?;
            let mut run = Run::new(given)?;
            // It runs in the memory that the step's outputs lie in.
            handle.last = Last::Nothing;
            let found = handle.trainer.evaluate(&mut run);
            run.finish(handle.context());
            *loss = found?;
            handle.last = Last::Evaluation;
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_set_memory_budget(
    session: *mut abi::tn_session,
    memory_budget: u64,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            let budget = crate::options::budget(memory_budget)?;
            handle.trainer.set_memory_budget(budget)?;
            handle.last = Last::Nothing;
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
            let resumed = handle.trainer.resume(Path::new(string(path, "path")?))?;
            if let Some(damage) = resumed.damaged {
                handle.context().log(&format!("{damage}; continuing from the save before it"));
            }
            handle.note = CString::new(resumed.note).unwrap_or_default();
            if let Some(note) = note.as_mut() {
                *note = handle.note.as_ptr();
            }
            Ok(())
        })
    }
}
