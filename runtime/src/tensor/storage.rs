//! Bytes of tensors: owned, mapped from a file, or lent by a caller.

use std::alloc::Layout;
use std::any::Any;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use super::file_map::FileMap;
use super::mirror::{Mirror, Mirrored};
use crate::error::{Error, Result};

/// Alignment of everything Tenon allocates, in bytes: one cache line, one AVX-512 vector.
pub const ALIGN: usize = 64;

/// Where tensor memory comes from; a caller may give its own.
pub trait Allocator: Send + Sync {
    /// `bytes` (not 0) of zeroed memory aligned to [`ALIGN`], or `None`.
    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>>;
    /// Takes back what [`Allocator::allocate`] gave.
    ///
    /// # Safety
    /// `memory` and `bytes` must be those of one earlier allocation by this allocator, not yet
    /// given back.
    unsafe fn release(&self, memory: NonNull<u8>, bytes: usize);
    /// A handle that keeps this allocator alive as long as its memory.
    fn handle(&self) -> Arc<dyn Allocator>;
}

/// The process's own allocator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemAllocator;

impl SystemAllocator {
    /// What holds `bytes` from a multiple of [`ALIGN`] on, with room for a byte before them.
    ///
    /// Of small alignment: only then is zeroed memory `calloc`'s, whose large blocks come untouched
    /// from the system, so that pages which nothing uses never become resident. Memory of larger
    /// alignment would be written with zeros, all of it.
    fn layout(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes.checked_add(ALIGN)?, align_of::<usize>()).ok()
    }
}

/// Asks for pages of 2 MiB where that is worth it. A matrix product then waits less for addresses to
/// be looked up: on Zen 5, all weights of SmolLM2 trained in f32 241 instead of 235 tokens/s, in
/// bfloat16 408 instead of 402, 1 MiB more being resident. It is advice: where it is not taken,
/// nothing changes.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
fn ask_for_huge_pages(start: NonNull<u8>, bytes: usize) {
    /// A multiple of any page that a system counts in.
    const PAGE: usize = 64 << 10;
    /// Less may not hold one of them, or hold more than it uses.
    const WORTH: usize = 8 << 20;
    if bytes < WORTH {
        return;
    }
    let skipped = start.addr().get().wrapping_neg() % PAGE;
    let len = (bytes - skipped) / PAGE * PAGE;
    // SAFETY: whole pages of fresh memory; the advice leaves what they hold.
    unsafe {
        libc::madvise(start.add(skipped).as_ptr().cast(), len, libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(miri))))]
fn ask_for_huge_pages(_: NonNull<u8>, _: usize) {}

impl Allocator for SystemAllocator {
    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: the layout's size is not 0.
        let start = NonNull::new(unsafe { std::alloc::alloc_zeroed(Self::layout(bytes)?) })?;
        ask_for_huge_pages(start, bytes);
        let skipped = ALIGN - start.addr().get() % ALIGN;
        // SAFETY: 1 to `ALIGN` bytes, by which the layout is larger than `bytes`; the byte before
        // the memory says how many for `release`.
        unsafe {
            let memory = start.add(skipped);
            memory.sub(1).write(skipped as u8);
            Some(memory)
        }
    }

    unsafe fn release(&self, memory: NonNull<u8>, bytes: usize) {
        if let Some(layout) = Self::layout(bytes) {
            // SAFETY: the caller vouches that this is one of our allocations, of this layout, before
            // which `allocate` wrote where it starts.
            unsafe {
                let skipped = memory.sub(1).read();
                std::alloc::dealloc(memory.sub(skipped.into()).as_ptr(), layout);
            }
        }
    }

    fn handle(&self) -> Arc<dyn Allocator> {
        Arc::new(*self)
    }
}

/// An allocation that goes back to its allocator when dropped.
struct Allocation {
    memory: NonNull<u8>,
    bytes: usize,
    allocator: Arc<dyn Allocator>,
}

// SAFETY: the memory is plain bytes owned by this value; allocators are Send + Sync.
unsafe impl Send for Allocation {}
// SAFETY: as above; access to the bytes is ruled by `Storage`.
unsafe impl Sync for Allocation {}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: made by this allocator with this size, released once.
        unsafe { self.allocator.release(self.memory, self.bytes) }
    }
}

/// A mapped file.
#[derive(Clone)]
enum Pages {
    Read(Arc<FileMap>),
    Written(Arc<memmap2::MmapRaw>),
}

/// A span of bytes that stays valid as long as any clone of it lives.
///
/// Clones share the bytes. [`Storage::read`] and [`Storage::write`] take `&self`; whoever runs a
/// graph holds it exclusively (`&mut Executor`), and that is what orders a backend's writes
/// against them.
///
/// A device may keep a [`Mirror`] of the bytes. What reads and writes them here finds and leaves them
/// up to date on both sides; an address that was handed out ([`Storage::as_ptr`]) is kept so by
/// copying the bytes to the device before each run and back after it.
#[derive(Clone)]
pub struct Storage {
    ptr: NonNull<u8>,
    len: usize,
    writable: bool,
    /// The file that the bytes are mapped from, and where they begin in it.
    map: Option<(Pages, usize)>,
    mirrored: Arc<Mirrored>,
    _owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the owner keeps the bytes alive and is Send + Sync.
unsafe impl Send for Storage {}
// SAFETY: as above; see the type's documentation for who may write when.
unsafe impl Sync for Storage {}

/// Ranges of these lengths, each of which begins at the next multiple of `align` behind the one
/// before; and the multiple behind the last.
pub(crate) fn one_behind_another(
    lens: impl Iterator<Item = usize>,
    align: usize,
) -> Result<(Vec<Range<usize>>, usize)> {
    let mut end = 0_usize;
    let range = |len: usize| {
        let start = end;
        let behind = start.checked_add(len).and_then(|end| end.checked_next_multiple_of(align));
        end = behind.ok_or(Error::OutOfMemory(usize::MAX))?;
        Ok(start..start + len)
    };
    let ranges = lens.map(range).collect::<Result<_>>()?;
    Ok((ranges, end))
}

impl Storage {
    /// `len` zero bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn zeroed(len: usize, allocator: &dyn Allocator) -> Result<Self> {
        let bytes = len.max(1);
        let memory = allocator.allocate(bytes).ok_or(Error::OutOfMemory(bytes))?;
        let owner = Arc::new(Allocation { memory, bytes, allocator: allocator.handle() });
        Ok(Self {
            ptr: memory,
            len,
            writable: true,
            map: None,
            mirrored: Arc::default(),
            _owner: owner,
        })
    }

    /// Zero bytes of each of these lengths, one behind the other in one allocation: what is too small
    /// for a page of 2 MiB of its own shares them there. AdamW reads its moments before it writes
    /// them, which is two faults for each page, the second of which interrupts the other threads.
    /// Two steps over all weights of SmolLM2 in f32, on two threads of an Ice Lake guest: 11 instead
    /// of 520 thousand faults, 2.3 instead of 7 s in the system, 4.7 instead of 7.5 s in all; 4 MB
    /// more are resident.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn zeroed_together(lens: &[usize], allocator: &dyn Allocator) -> Result<Vec<Self>> {
        if lens.is_empty() {
            return Ok(Vec::new());
        }
        let (ranges, total) = one_behind_another(lens.iter().copied(), ALIGN)?;
        let whole = Self::zeroed(total, allocator)?;
        let part = |range: Range<usize>| {
            // SAFETY: each part lies inside the whole.
            let ptr = unsafe { whole.ptr.add(range.start) };
            Self { ptr, len: range.len(), mirrored: Arc::default(), ..whole.clone() }
        };
        Ok(ranges.into_iter().map(part).collect())
    }

    /// A copy of `bytes`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn copied(bytes: &[u8], allocator: &dyn Allocator) -> Result<Self> {
        let storage = Self::zeroed(bytes.len(), allocator)?;
        storage.write(0, bytes)?;
        Ok(storage)
    }

    /// The same bytes, to be read only through what is given.
    pub(crate) fn read_only(self) -> Self {
        Self { writable: false, ..self }
    }

    /// A read-only range of a mapped file.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the range leaves the file.
    pub fn mapped(map: Arc<FileMap>, range: Range<usize>) -> Result<Self> {
        let bytes = map.get(range.clone()).ok_or_else(|| {
            Error::Tensor(format!("bytes {range:?} lie outside a file of {}", map.len()))
        })?;
        let (ptr, len) = (NonNull::from(bytes).cast(), bytes.len());
        let from = Some((Pages::Read(map.clone()), range.start));
        Ok(Self { ptr, len, writable: false, map: from, mirrored: Arc::default(), _owner: map })
    }

    /// A range of a mapped file that is written, too.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the range leaves the file.
    pub(crate) fn spilled(map: Arc<memmap2::MmapRaw>, range: Range<usize>) -> Result<Self> {
        let fits = range.start <= range.end && range.end <= map.len();
        let ptr = NonNull::new(map.as_mut_ptr().wrapping_add(range.start)).filter(|_| fits);
        let ptr = ptr.ok_or_else(|| {
            Error::Tensor(format!("bytes {range:?} lie outside a file of {}", map.len()))
        })?;
        let from = Some((Pages::Written(map.clone()), range.start));
        Ok(Self {
            ptr,
            len: range.len(),
            writable: true,
            map: from,
            mirrored: Arc::default(),
            _owner: map,
        })
    }

    /// Bytes lent by a caller.
    ///
    /// # Safety
    /// `ptr` must be valid for `len` bytes (for writes too where `writable`) until `owner` is
    /// dropped.
    #[must_use]
    pub unsafe fn lent(
        ptr: NonNull<u8>,
        len: usize,
        writable: bool,
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self { ptr, len, writable, map: None, mirrored: Arc::new(Mirrored::lent()), _owner: owner }
    }

    /// Size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the bytes may be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// The first byte's address, for who keeps it: from now on the bytes there are up to date
    /// whenever nothing runs, and may be written then.
    ///
    /// # Errors
    /// [`Error::Device`] where they were on a device, which failed.
    pub fn as_ptr(&self) -> Result<*mut u8> {
        self.update_host()?;
        self.mirrored.lend();
        Ok(self.host())
    }

    /// The first byte's address, whether or not the bytes there are up to date: for who runs graphs.
    #[must_use]
    pub fn host(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// The mirror that a device keeps.
    #[must_use]
    pub fn mirror(&self) -> Option<Arc<dyn Mirror>> {
        self.mirrored.get()
    }

    /// Gives the bytes a mirror; they are the newer ones.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is another that is in use.
    pub fn set_mirror(&self, mirror: Arc<dyn Mirror>) -> Result<()> {
        // SAFETY: as in `update_host`.
        unsafe { self.mirrored.set(mirror, self.host(), self.len) }
    }

    /// Whether bytes are copied to a device and back.
    pub(crate) fn is_copied(&self) -> bool {
        self.mirrored.is_copied()
    }

    /// Brings the bytes here up to date.
    pub(crate) fn update_host(&self) -> Result<()> {
        // SAFETY: valid for `len`; who runs a graph holds it exclusively, see the type.
        unsafe { self.mirrored.to_host(self.host(), self.len) }
    }

    /// Brings a device's bytes up to date.
    pub(crate) fn update_device(&self) -> Result<()> {
        // SAFETY: as in `update_host`.
        unsafe { self.mirrored.to_device(self.host(), self.len) }
    }

    /// Notes that the bytes here change.
    pub(crate) fn changed_on_host(&self) {
        self.mirrored.changed_on_host();
    }

    /// Notes that a device's bytes changed.
    pub(crate) fn changed_on_device(&self) -> Result<()> {
        // SAFETY: as in `update_host`.
        unsafe { self.mirrored.changed_on_device(self.host(), self.len) }
    }

    /// Whether the bytes are mapped from a file.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.map.is_some()
    }

    /// Lets the system take back the pages of `range` of a mapped file; whoever reads them next
    /// finds them in the system's cache, or the file. Does nothing to other memory.
    pub fn release(&self, range: Range<usize>) {
        let Some((map, start)) = &self.map else { return };
        let (from, to) = (range.start.min(self.len), range.end.min(self.len));
        let range = start + from..start + to.max(from);
        match map {
            Pages::Read(map) => map.release(range),
            #[cfg(unix)]
            Pages::Written(map) => {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                // SAFETY: the map is shared with its file, which keeps what was written.
                let _ = unsafe { map.unchecked_advise_range(advice, range.start, range.len()) };
            }
            #[cfg(not(unix))]
            Pages::Written(_) => {}
        }
    }

    /// Copies bytes out, from `offset`.
    ///
    /// # Errors
    /// [`Error::Usage`] where the range leaves the storage.
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        self.check(offset, out.len())?;
        self.update_host()?;
        // SAFETY: in range; `copy` allows overlap.
        unsafe { std::ptr::copy(self.host().add(offset), out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    /// Copies bytes in, at `offset`.
    ///
    /// # Errors
    /// [`Error::Usage`] where the range leaves the storage or it is read-only.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        if !self.writable {
            return Err(Error::Usage("this tensor is read-only (of a file)".into()));
        }
        if bytes.len() < self.len {
            self.update_host()?;
        }
        self.changed_on_host();
        // SAFETY: in range and writable; `copy` allows overlap.
        unsafe { std::ptr::copy(bytes.as_ptr(), self.host().add(offset), bytes.len()) };
        Ok(())
    }

    /// The bytes, in place.
    ///
    /// # Errors
    /// [`Error::Device`] where they were on a device, which failed.
    ///
    /// # Safety
    /// Nothing may write them while the slice lives.
    pub unsafe fn bytes(&self) -> Result<&[u8]> {
        self.update_host()?;
        // SAFETY: valid for `len` as long as `self`; the caller excludes writers.
        Ok(unsafe { std::slice::from_raw_parts(self.host(), self.len) })
    }

    /// The bytes, in place, to be written.
    ///
    /// # Errors
    /// As [`Storage::bytes`].
    ///
    /// # Safety
    /// The storage must be writable, and nothing else may use it while the slice lives.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn bytes_mut(&self) -> Result<&mut [u8]> {
        self.update_host()?;
        self.changed_on_host();
        // SAFETY: valid for `len` as long as `self`; the caller excludes others.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.host(), self.len) })
    }

    fn check(&self, offset: usize, len: usize) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(Error::Usage(format!(
                "{len} bytes at {offset} do not fit a tensor of {} bytes",
                self.len
            ))),
        }
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Storage({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_zero_and_given_back_whole() {
        let longest = if cfg!(miri) { 500 } else { 1 << 20 };
        for len in [1, 7, 16, 64, 100, longest] {
            let all: Vec<_> = (0..9).map(|_| Storage::zeroed(len, &SystemAllocator)).collect();
            for storage in all {
                let storage = storage.unwrap();
                assert!(storage.host().addr().is_multiple_of(ALIGN));
                let mut bytes = vec![7; len];
                storage.read(0, &mut bytes).unwrap();
                assert!(bytes.iter().all(|&b| b == 0));
                storage.write(0, &vec![255; len]).unwrap();
            }
        }
        assert!(SystemAllocator.allocate(usize::MAX).is_none());
    }

    #[test]
    fn memory_that_is_shared_is_each_its_own() {
        let lens = [3, 0, 64, 65];
        let all = Storage::zeroed_together(&lens, &SystemAllocator).unwrap();
        for (i, (storage, len)) in all.iter().zip(lens).enumerate() {
            assert!(storage.len() == len && storage.host().addr().is_multiple_of(ALIGN));
            let mut bytes = vec![7; len];
            storage.read(0, &mut bytes).unwrap();
            assert!(bytes.iter().all(|&b| b == 0), "what came before wrote here");
            storage.write(0, &vec![1 + i as u8; len]).unwrap();
            assert!(storage.write(1, &vec![0; len]).is_err());
        }
        // Each keeps the allocation alive.
        let last = all.into_iter().next_back().unwrap();
        let mut bytes = [0; 65];
        last.read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [4; 65]);
        for lens in [[usize::MAX, 1], [usize::MAX / 2 + 1; 2], [1 << 62, 1 << 61]] {
            let all = Storage::zeroed_together(&lens, &SystemAllocator);
            assert!(matches!(all, Err(Error::OutOfMemory(_))), "{lens:?}");
        }
    }

    /// Moments of an optimizer, say, that no step has used yet.
    #[cfg(target_os = "linux")]
    #[test]
    fn memory_is_not_resident_before_it_is_used() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
        };
        let (before, len) = (resident(), 1 << 30);
        let storage = Storage::zeroed(len, &SystemAllocator).unwrap();
        storage.write(len - 4, &[1; 4]).unwrap();
        // Other tests use memory meanwhile.
        let grown = resident().saturating_sub(before);
        assert!(grown < len / 2, "{grown} of {len} bytes are resident");
    }
}
