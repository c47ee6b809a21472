//! `libneuralnetworks.so`, loaded at run time: which functions it has tells its age.

use std::ffi::{CStr, c_char, c_int};
use std::sync::Arc;

use tenon_runtime::{Error, Result};

use super::sys;

/// An error of this backend.
pub(super) fn failed(why: impl std::fmt::Display) -> Error {
    Error::Device { backend: "nnapi", why: why.to_string() }
}

/// What a function's result means.
pub(super) fn check(what: &str, code: c_int) -> Result<()> {
    let name = match code.cast_unsigned() {
        sys::RESULT_NO_ERROR => return Ok(()),
        sys::RESULT_OUT_OF_MEMORY => "out of memory",
        sys::RESULT_INCOMPLETE => "incomplete",
        sys::RESULT_UNEXPECTED_NULL => "unexpected null",
        sys::RESULT_BAD_DATA => "bad data",
        sys::RESULT_OP_FAILED => "the operation failed",
        sys::RESULT_BAD_STATE => "bad state",
        sys::RESULT_UNMAPPABLE => "unmappable",
        sys::RESULT_OUTPUT_INSUFFICIENT_SIZE => "output of insufficient size",
        sys::RESULT_UNAVAILABLE_DEVICE => "the device is not available",
        sys::RESULT_DEAD_OBJECT => "the device is lost",
        _ => "an error",
    };
    Err(failed(format_args!("{what}: {name} ({code})")))
}

/// Calls a function of the library, if it is there, and checks what it returns.
macro_rules! call {
    ($library:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match &$library.functions.$function {
            // SAFETY: the function has the type that the ABI says; the caller of this macro vouches
            // for the arguments: handles that live, and addresses that are valid for their lengths.
            Ok(function) => check(stringify!($function), unsafe { function($($argument),*) }),
            Err(_) => Err(failed(concat!("this Android has no ", stringify!($function)))),
        }
    };
}
pub(super) use call;

/// The library.
pub(super) struct Library {
    pub(super) functions: sys::Functions,
}

// SAFETY: addresses of functions that may be called from any thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// The system's, or what `TENON_NNAPI_LIBRARY` names.
    pub(super) fn open() -> Result<Arc<Self>> {
        let name = std::env::var_os("TENON_NNAPI_LIBRARY");
        let name = name.unwrap_or_else(|| "libneuralnetworks.so".into());
        // SAFETY: the system's own library, or one that the user vouches for; its functions are called
        // as the ABI says.
        let functions = unsafe { sys::Functions::new(&name) };
        let functions = functions.map_err(|e| failed(format_args!("no NNAPI here: {e}")))?;
        Ok(Arc::new(Self { functions }))
    }

    /// The feature level of the system: 1 to 5 by Android's versions, then by number.
    pub(super) fn level(&self) -> u32 {
        let functions = &self.functions;
        if let Ok(level) = &functions.ANeuralNetworks_getRuntimeFeatureLevel {
            // SAFETY: takes nothing.
            return level_of(unsafe { level() });
        }
        match functions.ANeuralNetworks_getDeviceCount {
            Ok(_) => 4,
            Err(_) => 2,
        }
    }

    /// All devices.
    pub(super) fn devices(self: &Arc<Self>) -> Result<Vec<Device>> {
        let mut count = 0;
        call!(self, ANeuralNetworks_getDeviceCount(&raw mut count))?;
        (0..count).map(|number| Device::new(self, number)).collect()
    }
}

/// Levels as NNAPI numbers them: 27 to 31, and 1000006 and so on.
fn level_of(number: i64) -> u32 {
    let level = if number > 1_000_000 { number - 1_000_000 } else { number - 26 };
    u32::try_from(level.clamp(0, 100)).unwrap_or(0)
}

/// A device of the library's.
pub(super) struct Device {
    pub(super) handle: *const sys::ANeuralNetworksDevice,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) kind: u32,
    pub(super) level: u32,
}

// SAFETY: the handle is the library's, which never ends it, and may be used from any thread.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    fn new(library: &Library, number: u32) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        call!(library, ANeuralNetworks_getDevice(number, &raw mut handle))?;
        let (mut name, mut version) = (std::ptr::null(), std::ptr::null());
        let (mut kind, mut level) = (0, 0);
        call!(library, ANeuralNetworksDevice_getName(handle, &raw mut name))?;
        call!(library, ANeuralNetworksDevice_getVersion(handle, &raw mut version))?;
        call!(library, ANeuralNetworksDevice_getType(handle, &raw mut kind))?;
        call!(library, ANeuralNetworksDevice_getFeatureLevel(handle, &raw mut level))?;
        Ok(Self {
            handle,
            name: text(name),
            version: text(version),
            kind: kind.cast_unsigned(),
            level: level_of(level),
        })
    }

    /// Whether it is the CPU's reference implementation.
    pub(super) fn is_cpu(&self) -> bool {
        self.kind == sys::DEVICE_CPU || self.name == "nnapi-reference"
    }

    /// Which of several to take: accelerators first.
    pub(super) fn rank(&self) -> u32 {
        match self.kind {
            sys::DEVICE_ACCELERATOR => 0,
            sys::DEVICE_GPU => 1,
            sys::DEVICE_CPU => 3,
            _ => 2,
        }
    }
}

fn text(address: *const c_char) -> String {
    if address.is_null() {
        return String::new();
    }
    // SAFETY: a string of the library's, which lives as long as its device.
    unsafe { CStr::from_ptr(address) }.to_string_lossy().into_owned()
}
