//! Contexts: backends, allocator, log.

use std::ffi::{CString, c_char, c_void};
use std::num::NonZero;
use std::ptr::NonNull;
use std::sync::Arc;

use tenon_backends::Choice;
use tenon_backends::cpu::{Cpu, Options};
use tenon_kernels::Isa;
use tenon_runtime::Result;
use tenon_runtime::backend::Backend;
use tenon_runtime::executor::Calibrated;
use tenon_runtime::tensor::{ALIGN, Allocator};

use crate::abi;
use crate::convert::optional_string;
use crate::handle::{self, Handle};
use crate::status::{Message, argument, guard};
use crate::structs::options;

/// What all handles of a context share.
pub(crate) struct Context {
    pub(crate) backends: Vec<Arc<dyn Backend>>,
    /// The last of them, for work that is no graph's.
    pub(crate) cpu: Cpu,
    pub(crate) message: Message,
    log: Option<Log>,
}

struct Log {
    call: unsafe extern "C" fn(*mut c_void, *const c_char),
    user: *mut c_void,
}

// SAFETY: the caller vouches that its log may be called from any thread that calls in.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

impl Context {
    /// The memory tensors come from.
    pub(crate) fn allocator(&self) -> &dyn Allocator {
        self.backends[0].allocator()
    }

    /// Tells the caller's log.
    pub(crate) fn log(&self, message: &str) {
        if let (Some(log), Ok(text)) = (&self.log, CString::new(message)) {
            // SAFETY: the caller gave the function and its argument.
            unsafe { (log.call)(log.user, text.as_ptr()) };
        }
    }
}

/// A handle of one. Any threads may use it at once: nothing takes it by `&mut`.
struct ContextHandle(Arc<Context>);

impl Handle for ContextHandle {
    type Opaque = abi::tn_context;
    type Beside = ();
    const NAME: &'static str = "context";

    fn context(&self) -> &Arc<Context> {
        &self.0
    }

    fn beside(&self) {}
}

/// Most threads of a context: more than any device has, fewer than break a system.
const MOST_THREADS: u32 = 1024;

/// The caller's allocator.
#[derive(Clone, Copy)]
struct Foreign {
    user: *mut c_void,
    allocate: unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void,
    release: unsafe extern "C" fn(*mut c_void, *mut c_void, usize),
}

// SAFETY: the header says that the functions are called from any thread that calls in.
unsafe impl Send for Foreign {}
// SAFETY: as above.
unsafe impl Sync for Foreign {}

impl Allocator for Foreign {
    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's function, with its own argument.
        let memory = NonNull::new(unsafe { (self.allocate)(self.user, bytes, ALIGN) })?;
        let memory = memory.cast::<u8>();
        if !memory.as_ptr().addr().is_multiple_of(ALIGN) {
            // SAFETY: just given by the same allocator.
            unsafe { self.release(memory, bytes) };
            return None;
        }
        // SAFETY: `bytes` bytes, just given.
        unsafe { memory.as_ptr().write_bytes(0, bytes) };
        Some(memory)
    }

    unsafe fn release(&self, memory: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's function; the memory is its own by this function's contract.
        unsafe { (self.release)(self.user, memory.as_ptr().cast(), bytes) }
    }

    fn handle(&self) -> Arc<dyn Allocator> {
        Arc::new(*self)
    }
}

/// Reads the caller's allocator.
unsafe fn allocator(pointer: *const abi::tn_allocator) -> Result<Option<Arc<dyn Allocator>>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the header's contract.
    let given = unsafe { options(pointer)? };
    match (given.allocate, given.release) {
        (Some(allocate), Some(release)) => {
            Ok(Some(Arc::new(Foreign { user: given.user, allocate, release })))
        }
        _ => Err(argument("an allocator needs both `allocate` and `release`")),
    }
}

/// What a context is made of.
///
/// # Safety
/// The header's contract for the options' pointers.
unsafe fn make(given: &abi::tn_context_options) -> Result<Context> {
    if given.threads > MOST_THREADS {
        return Err(argument(format!("{} threads are more than {MOST_THREADS}", given.threads)));
    }
    let threads = NonZero::new(given.threads as usize);
    // SAFETY: the caller's contract.
    let isa = unsafe { optional_string(given.isa, "isa")? };
    let isa = isa.map(Isa::from_name).transpose().map_err(|e| argument(e.to_string()))?;
    // SAFETY: the caller's contract.
    let allocator = unsafe { allocator(given.allocator)? };
    // SAFETY: the caller's contract.
    let choice = match unsafe { optional_string(given.backend, "backend")? } {
        Some(name) => Choice::from_name(name),
        None => Choice::from_env(),
    };
    let choice = choice.map_err(|e| argument(e.to_string()))?;
    let cpu = Cpu::new(Options { threads, isa, allocator: allocator.clone() })?;
    let log = given.log.map(|call| Log { call, user: given.log_user });
    let mut made = Context { backends: Vec::new(), cpu, message: Message::default(), log };
    let cpu = Arc::new(made.cpu.clone());
    let backends = choice.backends(cpu, allocator, &mut |warning| made.log(warning))?;
    made.backends = if given.calibrate != 0 { Calibrated::all(backends)? } else { backends };
    Ok(made)
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_context_create(
    given: *const abi::tn_context_options,
    context: *mut *mut abi::tn_context,
) -> abi::tn_status {
    guard(None, || {
        let create = || {
            // SAFETY: the header's contract.
            let made = unsafe { make(&options(given)?)? };
            let device = made.backends[0].describe();
            made.log(&format!(
                "tenon {}: {} ({}), {} threads",
                env!("CARGO_PKG_VERSION"),
                device.backend,
                device.level,
                device.parallelism
            ));
            Ok(ContextHandle(Arc::new(made)))
        };
        // SAFETY: the header's contract.
        unsafe { handle::give(context, create) }
    })
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_context_destroy(context: *mut abi::tn_context) {
    // SAFETY: the header's contract.
    unsafe { handle::destroy::<ContextHandle>(context) }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_error_message(
    context: *const abi::tn_context,
    text: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: NULL or a live context, which is only shared.
    match unsafe { handle::shared(context) } {
        // SAFETY: the header's contract.
        Some(ContextHandle(context)) => unsafe { context.message.copy(text, size) },
        // SAFETY: as above.
        None => unsafe { Message::default().copy(text, size) },
    }
}

/// Runs the body of an ABI function on a context, which other threads may use meanwhile.
///
/// # Safety
/// `context` is NULL or a live context.
pub(crate) unsafe fn with(
    context: *mut abi::tn_context,
    body: impl FnOnce(&Arc<Context>) -> Result<()>,
) -> abi::tn_status {
    // SAFETY: the caller's contract.
    match unsafe { handle::shared(context) } {
        None => guard(None, || Err(argument("`context` is NULL"))),
        Some(ContextHandle(context)) => {
            // A callback may give the handle back meanwhile.
            let context = context.clone();
            guard(Some(&context.message), || body(&context))
        }
    }
}
