//! The parameters of a session: what there are, and all that train as one buffer.

use std::ffi::c_void;

use tenon_runtime::{Error, Result};

use crate::abi;
use crate::convert::{dtype_code, slice, slice_mut, unique};
use crate::handle::with;
use crate::session::SessionHandle;
use crate::status::argument;
use crate::structs::Place;

impl SessionHandle {
    /// Bytes of all trainable parameters.
    fn trainable_size(&self) -> Result<usize> {
        let executor = self.trainer.executor();
        self.trainable().map(|name| Ok(executor.desc(name)?.bytes())).sum()
    }

    /// Refuses a buffer of another size.
    pub(crate) fn check_buffer(&self, size: usize) -> Result<()> {
        match self.trainable_size()? {
            needed if needed == size => Ok(()),
            needed => {
                Err(argument(format!("all trainable parameters take {needed} bytes, not {size}")))
            }
        }
    }

    /// Copies all trainable parameters, or with `prefix` what goes by that and their names, into
    /// one buffer of their size; zeros for what there is not.
    fn gather(&self, prefix: &str, mut data: &mut [u8]) -> Result<()> {
        let executor = self.trainer.executor();
        for name in self.trainable() {
            let (part, rest) = data.split_at_mut(executor.desc(name)?.bytes());
            match executor.view(&format!("{prefix}{name}")) {
                Ok((_, storage, offset)) => storage.read(offset, part)?,
                Err(Error::NotFound { .. }) => part.fill(0),
                Err(error) => return Err(error),
            }
            data = rest;
        }
        Ok(())
    }

    /// Copies all trainable parameters in.
    fn scatter(&mut self, mut data: &[u8]) -> Result<()> {
        for name in self.trainable() {
            let tensor = self.trainer.executor().tensor(name)?;
            let (part, rest) = data.split_at(tensor.desc().bytes());
            tensor.storage().write(0, part)?;
            data = rest;
        }
        Ok(())
    }

    /// The report on parameter `index`.
    fn parameter(&self, index: usize) -> Result<abi::tn_parameter> {
        let (kept, name) = self.name(index)?;
        let desc = self.trainer.executor().desc(name)?;
        let mut dims = [0; abi::TN_MAX_RANK as usize];
        for (to, &dim) in dims.iter_mut().zip(desc.shape().iter()) {
            // Shapes fit isize.
            *to = dim as i64;
        }
        Ok(abi::tn_parameter {
            struct_size: size_of::<abi::tn_parameter>(),
            name: kept.as_ptr(),
            dtype: dtype_code(desc.dtype()),
            trainable: i32::from(index < self.counts().1),
            size: desc.bytes() as u64,
            rank: desc.shape().len(),
            dims,
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_parameter_count(
    session: *mut abi::tn_session,
    count: *mut usize,
    trainable: *mut usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            let counts = handle.counts();
            if let Some(count) = count.as_mut() {
                *count = counts.0;
            }
            if let Some(trainable) = trainable.as_mut() {
                *trainable = counts.1;
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
pub(crate) unsafe extern "C" fn tn_session_parameter(
    session: *mut abi::tn_session,
    index: usize,
    parameter: *mut abi::tn_parameter,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            Place::new(parameter)?.write(&handle.parameter(index)?);
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_trainable_size(
    session: *mut abi::tn_session,
    size: *mut usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            *unique(size, "size")? = handle.trainable_size()?;
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_get_trainable(
    session: *mut abi::tn_session,
    data: *mut c_void,
    size: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            handle.check_buffer(size)?;
            handle.gather("", slice_mut(data.cast(), size, "data")?)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_set_trainable(
    session: *mut abi::tn_session,
    data: *const c_void,
    size: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            handle.check_buffer(size)?;
            handle.scatter(slice(data.cast(), size, "data")?)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_get_gradients(
    session: *mut abi::tn_session,
    data: *mut c_void,
    size: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            if !handle.trainer.options().keep_gradients {
                return Err(argument(
                    "gradients are not kept: set keep_gradients when making the session",
                ));
            }
            handle.check_stepped()?;
            handle.check_buffer(size)?;
            handle.gather("grad/", slice_mut(data.cast(), size, "data")?)
        })
    }
}
