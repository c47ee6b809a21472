//! Rounds of federated training: what a session keeps of them, and when they begin and end.

use std::ffi::c_void;

use tenon_runtime::Result;
use tenon_runtime::tensor::Tensor;
use tenon_runtime::train::{Kept, Trainer};

use crate::abi;
use crate::convert::{choice, slice, slice_mut};
use crate::handle::with;
use crate::session::{Last, SessionHandle};
use crate::status::argument;

const KEPT: &[(u32, Kept)] = &[
    (abi::TN_KEPT_ANCHOR, Kept::Anchor),
    (abi::TN_KEPT_CONTROL, Kept::Control),
    (abi::TN_KEPT_SERVER_CONTROL, Kept::ServerControl),
    (abi::TN_KEPT_OUTER_MOMENTUM, Kept::OuterMomentum),
];

/// Goes through what is kept beside each parameter that trains, with its place in one buffer of
/// `size` bytes that holds all. Nothing is kept beside a parameter that no loss depends on.
fn each(
    handle: &SessionHandle,
    kept: abi::tn_kept,
    size: usize,
    mut visit: impl FnMut(Option<&Tensor>, std::ops::Range<usize>) -> Result<()>,
) -> Result<()> {
    let kind = choice(KEPT, kept, "tn_kept")?;
    handle.check_buffer(size)?;
    let trainer = &handle.trainer;
    if !handle.trainable().any(|name| trainer.tensor(&kind.of(name)).is_ok()) {
        return Err(argument(format!(
            "this session keeps no {kind:?}: the training options that need it are not set"
        )));
    }
    let mut start = 0;
    for name in handle.trainable() {
        let end = start + trainer.executor().desc(name)?.bytes();
        visit(trainer.tensor(&kind.of(name)).ok(), start..end)?;
        start = end;
    }
    Ok(())
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_get_kept(
    session: *mut abi::tn_session,
    kept: abi::tn_kept,
    data: *mut c_void,
    size: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            let data = slice_mut(data.cast::<u8>(), size, "data")?;
            each(handle, kept, size, |tensor, place| match tensor {
                Some(tensor) => tensor.storage().read(0, &mut data[place]),
                None => {
                    data[place].fill(0);
                    Ok(())
                }
            })
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_set_kept(
    session: *mut abi::tn_session,
    kept: abi::tn_kept,
    data: *const c_void,
    size: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            let data = slice(data.cast::<u8>(), size, "data")?;
            each(handle, kept, size, |tensor, place| match tensor {
                Some(tensor) => tensor.storage().write(0, &data[place]),
                None => Ok(()),
            })
        })
    }
}

/// Does something to a round, in whose course the memory of the last step's outputs is taken.
///
/// # Safety
/// As [`with`].
unsafe fn turn(
    session: *mut abi::tn_session,
    what: fn(&mut Trainer) -> Result<()>,
) -> abi::tn_status {
    // SAFETY: the caller's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            what(&mut handle.trainer)?;
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
pub(crate) unsafe extern "C" fn tn_session_begin_round(
    session: *mut abi::tn_session,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe { turn(session, Trainer::begin_round) }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_renew_control(
    session: *mut abi::tn_session,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe { turn(session, Trainer::renew_control) }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_outer_step(
    session: *mut abi::tn_session,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe { turn(session, Trainer::outer_step) }
}
