//! A device's own copy of a storage's bytes, and which of the two is newer.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// A copy of a storage's bytes that a device keeps in memory of its own.
///
/// It is made by [`crate::backend::Backend::compile`], shared by all clones of the storage, and lives
/// as long as they do.
pub trait Mirror: std::any::Any + Send + Sync {
    /// Brings the host's bytes to the device, before anything that is launched from now on.
    ///
    /// # Errors
    /// [`Error::Device`].
    ///
    /// # Safety
    /// `host` must be valid for `bytes`, the storage's size; nothing writes them meanwhile.
    unsafe fn upload(&self, host: *const u8, bytes: usize) -> Result<()>;

    /// Brings the device's bytes to the host, after everything launched so far.
    ///
    /// # Errors
    /// [`Error::Device`].
    ///
    /// # Safety
    /// `host` must be valid for writing `bytes`, the storage's size; nothing else uses them meanwhile.
    unsafe fn download(&self, host: *mut u8, bytes: usize) -> Result<()>;

    /// Whether the device works on the storage's own bytes, so that there is nothing to copy.
    fn is_same(&self) -> bool;
}

/// Which bytes are newer.
const HOST: u8 = 0;
const SAME: u8 = 1;
const DEVICE: u8 = 2;

/// Where a storage's bytes are besides on the host.
#[derive(Default)]
pub(super) struct Mirrored {
    mirror: Mutex<Option<Arc<dyn Mirror>>>,
    newer: AtomicU8,
    /// Whether someone else has an address, through which the host may write between runs.
    is_lent: AtomicBool,
}

impl Mirrored {
    /// That of bytes to which someone else has an address.
    pub(super) fn lent() -> Self {
        Self { is_lent: true.into(), ..Self::default() }
    }

    /// The mirror, if there is one.
    pub(super) fn get(&self) -> Option<Arc<dyn Mirror>> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives a storage its mirror, in the place of one that nobody uses any more.
    ///
    /// # Safety
    /// As [`Mirror::download`], for the old one.
    pub(super) unsafe fn set(
        &self,
        mirror: Arc<dyn Mirror>,
        host: *mut u8,
        bytes: usize,
    ) -> Result<()> {
        // SAFETY: the caller's contract.
        unsafe { self.to_host(host, bytes)? };
        let mut kept = self.mirror.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            // Both see the host's own bytes: there is nothing to keep up to date.
            Some(old) if old.is_same() && mirror.is_same() => return Ok(()),
            Some(old) if Arc::strong_count(old) > 1 => {
                let why = "a tensor can be in the memory of one device at a time";
                return Err(Error::Usage(why.into()));
            }
            _ => *kept = Some(mirror),
        }
        self.newer.store(HOST, Ordering::Release);
        Ok(())
    }

    /// The mirror, where it is a copy.
    fn copy(&self) -> Option<Arc<dyn Mirror>> {
        self.get().filter(|mirror| !mirror.is_same())
    }

    /// Whether bytes have to be copied between host and device.
    pub(super) fn is_copied(&self) -> bool {
        self.copy().is_some()
    }

    /// Notes that someone else has an address of the bytes.
    pub(super) fn lend(&self) {
        self.is_lent.store(true, Ordering::Relaxed);
    }

    /// Brings the host's bytes up to date.
    ///
    /// # Safety
    /// As [`Mirror::download`].
    pub(super) unsafe fn to_host(&self, host: *mut u8, bytes: usize) -> Result<()> {
        let Some(mirror) = self.copy() else { return Ok(()) };
        if self.newer.load(Ordering::Acquire) == DEVICE {
            // SAFETY: the caller's contract.
            unsafe { mirror.download(host, bytes)? };
            self.newer.store(SAME, Ordering::Release);
        }
        Ok(())
    }

    /// Brings the device's bytes up to date.
    ///
    /// # Safety
    /// As [`Mirror::upload`].
    pub(super) unsafe fn to_device(&self, host: *const u8, bytes: usize) -> Result<()> {
        let Some(mirror) = self.copy() else { return Ok(()) };
        let newer = self.newer.load(Ordering::Acquire);
        if newer == HOST || newer == SAME && self.is_lent.load(Ordering::Relaxed) {
            // SAFETY: the caller's contract.
            unsafe { mirror.upload(host, bytes)? };
            self.newer.store(SAME, Ordering::Release);
        }
        Ok(())
    }

    /// Notes that the host's bytes change; they must be up to date.
    pub(super) fn changed_on_host(&self) {
        self.newer.store(HOST, Ordering::Release);
    }

    /// Notes that the device's bytes change; where an address was handed out, they come back at once.
    ///
    /// # Safety
    /// As [`Mirror::download`].
    pub(super) unsafe fn changed_on_device(&self, host: *mut u8, bytes: usize) -> Result<()> {
        if !self.is_copied() {
            return Ok(());
        }
        self.newer.store(DEVICE, Ordering::Release);
        if self.is_lent.load(Ordering::Relaxed) {
            // SAFETY: the caller's contract.
            unsafe { self.to_host(host, bytes)? };
        }
        Ok(())
    }
}
