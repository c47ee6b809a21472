//! The one device that there is.

use std::ffi::{c_char, c_int};

use super::{BAD_DATA, OK, faults, refuse};

#[unsafe(no_mangle)]
pub extern "C" fn ANeuralNetworks_getRuntimeFeatureLevel() -> i64 {
    level_number(8)
}

fn level_number(level: u32) -> i64 {
    if level > 5 { 1_000_000 + i64::from(level) } else { 26 + i64::from(level) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworks_getDeviceCount(count: *mut u32) -> c_int {
    faults::read();
    // SAFETY: the caller's.
    unsafe { *count = 1 };
    OK
}

/// There is one device, at this address.
static DEVICE: u8 = 0;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworks_getDevice(index: u32, device: *mut *const u8) -> c_int {
    if index != 0 {
        return refuse(BAD_DATA, "no such device");
    }
    // SAFETY: the caller's.
    unsafe { *device = &raw const DEVICE };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksDevice_getName(
    _: *const u8,
    name: *mut *const c_char,
) -> c_int {
    let text = if faults::current().cpu { c"nnapi-reference" } else { c"stand-in" };
    // SAFETY: the caller's.
    unsafe { *name = text.as_ptr() };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksDevice_getVersion(
    _: *const u8,
    version: *mut *const c_char,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { *version = c"1".as_ptr() };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksDevice_getType(_: *const u8, kind: *mut i32) -> c_int {
    // SAFETY: the caller's.
    unsafe { *kind = if faults::current().cpu { 2 } else { 4 } };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksDevice_getFeatureLevel(
    _: *const u8,
    level: *mut i64,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { *level = level_number(faults::current().level) };
    OK
}
