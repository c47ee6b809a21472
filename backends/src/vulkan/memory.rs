//! Device memory: one suballocator, and images of what the runtime's slots hold.
//!
//! Where host and device see the same memory, an image is the storage's own bytes; elsewhere it is a
//! copy of them, which [`super::transfer`] keeps up to date.

use std::alloc::Layout;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use ash::vk;
use tenon_runtime::tensor::{Allocator, Mirror, Storage};
use tenon_runtime::{Error, Result};

use super::device::{Device, Owned, call, failed};
use super::transfer::Transfer;

/// Size of the blocks that small pieces are cut from.
const BLOCK: usize = 32 << 20;

/// What offsets into blocks are multiples of: at least what any driver asks of bindings.
const GRAIN: usize = 256;

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What shaders work on.
    Work,
    /// What the host copies from and to.
    Staging,
}

impl Purpose {
    /// What memory for it must and should be like.
    fn flags(self) -> (vk::MemoryPropertyFlags, vk::MemoryPropertyFlags) {
        type Flags = vk::MemoryPropertyFlags;
        match self {
            Self::Work => (Flags::empty(), Flags::DEVICE_LOCAL),
            Self::Staging => (Flags::HOST_VISIBLE | Flags::HOST_COHERENT, Flags::HOST_CACHED),
        }
    }
}

/// A block of memory, one buffer over it, and what of it is free.
struct Block {
    purpose: Purpose,
    buffer: Owned<vk::Buffer>,
    // After the buffer, which is bound to it.
    _memory: Owned<vk::DeviceMemory>,
    /// Where the host sees it; null where it does not.
    host: *mut u8,
    bytes: usize,
    /// Free ranges, in order: start and end.
    free: Vec<(usize, usize)>,
}

// SAFETY: `host` is an address of memory that the block owns.
unsafe impl Send for Block {}

impl Block {
    fn new(device: &Arc<Device>, purpose: Purpose, bytes: usize) -> Result<Self> {
        let buffer = buffer(device, bytes, None)?;
        // SAFETY: a buffer of this device.
        let needs = unsafe { device.raw.get_buffer_memory_requirements(*buffer) };
        let (wanted, liked) = purpose.flags();
        let kind = device.memory_type(needs.memory_type_bits, wanted, liked);
        let kind = kind.ok_or_else(|| failed("no memory that is fit for buffers"))?;
        let info =
            vk::MemoryAllocateInfo::default().allocation_size(needs.size).memory_type_index(kind);
        let memory = device.allocate(&info)?;
        // SAFETY: new; what uses it is done before its images go.
        let memory = unsafe { Owned::new(device, memory, |d, m| d.free_memory(m, None)) };
        // SAFETY: of the required size and type, and neither is bound yet.
        unsafe { device.raw.bind_buffer_memory(*buffer, *memory, 0) }.map_err(call("binding"))?;
        let host = match purpose {
            Purpose::Work => std::ptr::null_mut(),
            // SAFETY: visible to the host, and not mapped yet.
            Purpose::Staging => unsafe {
                let flags = vk::MemoryMapFlags::empty();
                device.raw.map_memory(*memory, 0, vk::WHOLE_SIZE, flags).map_err(call("mapping"))?
            }
            .cast(),
        };
        Ok(Self { purpose, buffer, _memory: memory, host, bytes, free: vec![(0, bytes)] })
    }

    /// The start of `bytes` that were free: of the smallest range that holds them.
    fn take(&mut self, bytes: usize) -> Option<usize> {
        let fits = |(_, range): &(usize, &(usize, usize))| range.1 - range.0 >= bytes;
        let best = self.free.iter().enumerate().filter(fits).min_by_key(|(_, r)| r.1 - r.0)?.0;
        let start = self.free[best].0;
        self.free[best].0 += bytes;
        if self.free[best].0 == self.free[best].1 {
            self.free.remove(best);
        }
        Some(start)
    }

    fn give_back(&mut self, start: usize, end: usize) {
        let at = self.free.partition_point(|range| range.0 < start);
        self.free.insert(at, (start, end));
        self.free.dedup_by(|next, range| {
            let touches = range.1 == next.0;
            range.1 = if touches { next.1 } else { range.1 };
            touches
        });
    }
}

/// The suballocator.
pub(super) struct Pool {
    device: Arc<Device>,
    blocks: Mutex<Vec<Block>>,
}

impl Pool {
    pub(super) fn new(device: &Arc<Device>) -> Arc<Self> {
        Arc::new(Self { device: device.clone(), blocks: Mutex::default() })
    }

    /// Memory of at least `bytes`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Device`].
    pub(super) fn take(self: &Arc<Self>, purpose: Purpose, bytes: usize) -> Result<Piece> {
        let bytes = bytes.max(1).next_multiple_of(GRAIN);
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let found = blocks.iter_mut().filter(|b| b.purpose == purpose).find_map(|block| {
            let start = block.take(bytes)?;
            Some((*block.buffer, start, block.host))
        });
        let (buffer, start, host) = match found {
            Some(found) => found,
            None => {
                // What is larger than a block has one of its own.
                let size = if bytes > BLOCK / 4 { bytes } else { BLOCK };
                let mut block = Block::new(&self.device, purpose, size)?;
                let start = block.take(bytes).unwrap_or(0);
                let found = (*block.buffer, start, block.host);
                blocks.push(block);
                found
            }
        };
        let host = NonNull::new(host.wrapping_add(start)).filter(|_| !host.is_null());
        Ok(Piece { pool: self.clone(), buffer, start, bytes, host })
    }
}

/// A piece of a block, which goes back when dropped.
pub(super) struct Piece {
    pool: Arc<Pool>,
    /// The block's buffer.
    pub(super) buffer: vk::Buffer,
    /// Where in it the piece begins.
    pub(super) start: usize,
    bytes: usize,
    /// Where the host sees it, for staging.
    pub(super) host: Option<NonNull<u8>>,
}

// SAFETY: `host` is an address of memory that the piece owns.
unsafe impl Send for Piece {}
// SAFETY: as above; nothing is written through a shared piece.
unsafe impl Sync for Piece {}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut blocks = self.pool.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = blocks.iter().position(|block| *block.buffer == self.buffer) else { return };
        blocks[at].give_back(self.start, self.start + self.bytes);
        if blocks[at].free == [(0, blocks[at].bytes)] {
            blocks.swap_remove(at);
        }
    }
}

/// A buffer for anything, over memory of the host's where `imported`.
fn buffer(
    device: &Arc<Device>,
    bytes: usize,
    imported: Option<vk::ExternalMemoryHandleTypeFlags>,
) -> Result<Owned<vk::Buffer>> {
    let mut external = vk::ExternalMemoryBufferCreateInfo::default();
    let mut info = vk::BufferCreateInfo::default().size(bytes as u64).usage(
        vk::BufferUsageFlags::STORAGE_BUFFER
            | vk::BufferUsageFlags::TRANSFER_SRC
            | vk::BufferUsageFlags::TRANSFER_DST,
    );
    if let Some(kind) = imported {
        external.handle_types = kind;
        info = info.push_next(&mut external);
    }
    // SAFETY: a size that is not 0, for one queue family.
    let made = unsafe { device.raw.create_buffer(&info, None) };
    let made = made.map_err(|_| Error::OutOfMemory(bytes))?;
    // SAFETY: new; what uses it is done before its owner goes.
    Ok(unsafe { Owned::new(device, made, |d, b| d.destroy_buffer(b, None)) })
}

/// What shaders see of a storage.
pub(super) struct Image {
    /// The buffer it lies in.
    pub(super) buffer: vk::Buffer,
    /// Where in it the storage's first byte is.
    pub(super) start: usize,
    device: Arc<Device>,
    held: Held,
}

/// What holds an image's memory.
enum Held {
    /// The storage's own bytes, seen by the device.
    Imported { _buffer: Owned<vk::Buffer>, _memory: Owned<vk::DeviceMemory> },
    /// A copy.
    Copied { _piece: Piece, transfer: Arc<Transfer> },
}

const HOST: vk::ExternalMemoryHandleTypeFlags =
    vk::ExternalMemoryHandleTypeFlags::HOST_ALLOCATION_EXT;

impl Image {
    /// The image of a storage: the one it has, or a new one.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Usage`] where the storage has a mirror on another device.
    pub(super) fn of(
        storage: &Storage,
        pool: &Arc<Pool>,
        transfer: &Arc<Transfer>,
    ) -> Result<Arc<Self>> {
        let device = &pool.device;
        if let Some(mirror) = storage.mirror() {
            let mirror: Arc<dyn std::any::Any + Send + Sync> = mirror;
            let image = mirror.downcast::<Self>().ok();
            if let Some(image) = image.filter(|image| Arc::ptr_eq(&image.device, device)) {
                return Ok(image);
            }
        }
        // What a word holds beyond the storage may be somebody else's: a copy has room for it.
        let imported = if device.facts.is_unified && storage.len().is_multiple_of(4) {
            Self::import(device, storage)?
        } else {
            None
        };
        let image = Arc::new(match imported {
            Some(image) => image,
            None => Self::copied(storage, pool, transfer)?,
        });
        storage.set_mirror(image.clone())?;
        Ok(image)
    }

    fn copied(storage: &Storage, pool: &Arc<Pool>, transfer: &Arc<Transfer>) -> Result<Self> {
        let piece = pool.take(Purpose::Work, storage.len())?;
        Ok(Self {
            buffer: piece.buffer,
            start: piece.start,
            device: pool.device.clone(),
            held: Held::Copied { _piece: piece, transfer: transfer.clone() },
        })
    }

    /// The storage's own bytes, with the pages they lie in; `None` where the driver does not take
    /// them, such as those of a file that is only read.
    fn import(device: &Arc<Device>, storage: &Storage) -> Result<Option<Self>> {
        let (Some(extension), Some(align)) = (&device.import, device.facts.import_align) else {
            return Ok(None);
        };
        let host = storage.host();
        let start = host.addr() % align;
        let bytes = (start + storage.len().max(1)).next_multiple_of(align);
        let first = host.wrapping_sub(start);
        let mut kinds = vk::MemoryHostPointerPropertiesEXT::default();
        // SAFETY: whole pages, each of which holds a byte of the storage.
        let known = unsafe {
            let ask = extension.fp().get_memory_host_pointer_properties_ext;
            ask(device.raw.handle(), HOST, first.cast(), &mut kinds)
        };
        if known != vk::Result::SUCCESS {
            return Ok(None);
        }
        let buffer = buffer(device, bytes, Some(HOST))?;
        // SAFETY: a buffer of this device.
        let needs = unsafe { device.raw.get_buffer_memory_requirements(*buffer) };
        let coherent =
            vk::MemoryPropertyFlags::HOST_COHERENT | vk::MemoryPropertyFlags::HOST_VISIBLE;
        let among = kinds.memory_type_bits & needs.memory_type_bits;
        let kind = device.memory_type(among, coherent, vk::MemoryPropertyFlags::HOST_CACHED);
        let Some(kind) = kind.filter(|_| needs.size <= bytes as u64) else { return Ok(None) };
        let mut import = vk::ImportMemoryHostPointerInfoEXT::default().handle_type(HOST);
        import.p_host_pointer = first.cast();
        let info = vk::MemoryAllocateInfo::default()
            .allocation_size(bytes as u64)
            .memory_type_index(kind)
            .push_next(&mut import);
        let memory = match device.allocate(&info) {
            Ok(memory) => memory,
            Err(Error::OutOfMemory(bytes)) => return Err(Error::OutOfMemory(bytes)),
            Err(_) => return Ok(None),
        };
        // SAFETY: new; what uses it is done before its image goes, which the storage outlives.
        let memory = unsafe { Owned::new(device, memory, |d, m| d.free_memory(m, None)) };
        // SAFETY: of a size and type that the buffer takes; neither is bound yet.
        unsafe { device.raw.bind_buffer_memory(*buffer, *memory, 0) }.map_err(call("binding"))?;
        Ok(Some(Self {
            buffer: *buffer,
            start,
            device: device.clone(),
            held: Held::Imported { _buffer: buffer, _memory: memory },
        }))
    }
}

impl Image {
    /// Brings a range of the storage, which begins at `host`, to the device.
    ///
    /// # Errors
    /// As [`Transfer::upload`].
    ///
    /// # Safety
    /// `host` must be the storage's bytes, which nothing writes meanwhile; `range` must lie in it.
    pub(super) unsafe fn upload_range(&self, host: *const u8, range: &Range<usize>) -> Result<()> {
        match &self.held {
            Held::Imported { .. } => Ok(()),
            // SAFETY: the caller's contract.
            Held::Copied { transfer, .. } => unsafe {
                let (host, start) = (host.add(range.start), self.start + range.start);
                transfer.upload(host, self.buffer, start, range.len())
            },
        }
    }
}

impl Mirror for Image {
    unsafe fn upload(&self, host: *const u8, bytes: usize) -> Result<()> {
        // SAFETY: the caller's contract.
        unsafe { self.upload_range(host, &(0..bytes)) }
    }

    unsafe fn download(&self, host: *mut u8, bytes: usize) -> Result<()> {
        match &self.held {
            Held::Imported { .. } => Ok(()),
            // SAFETY: the caller's contract.
            Held::Copied { transfer, .. } => unsafe {
                transfer.download(host, self.buffer, self.start, bytes)
            },
        }
    }

    fn is_same(&self) -> bool {
        matches!(self.held, Held::Imported { .. })
    }
}

/// Whole pages of the host's, so that a device can be shown them without any of their neighbours.
#[derive(Clone, Copy)]
pub(super) struct Pages {
    /// Bytes of a page.
    pub(super) size: usize,
}

impl Pages {
    /// Room for `bytes` in whole pages from the first that begins in it. Of small alignment, as
    /// [`tenon_runtime::tensor::SystemAllocator`] has it: what is never used is never resident then.
    fn layout(self, bytes: usize) -> Option<Layout> {
        let bytes = bytes.checked_next_multiple_of(self.size)?.checked_add(self.size)?;
        Layout::from_size_align(bytes, align_of::<usize>()).ok()
    }
}

impl Allocator for Pages {
    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: the layout's size is not 0.
        let start = NonNull::new(unsafe { std::alloc::alloc_zeroed(self.layout(bytes)?) })?;
        // At least a word, by the layout's alignment.
        let skipped = self.size - start.addr().get() % self.size;
        // SAFETY: the layout is larger by a page; the word before the memory is for `release`.
        unsafe {
            let memory = start.add(skipped);
            memory.cast::<usize>().sub(1).write(skipped);
            Some(memory)
        }
    }

    unsafe fn release(&self, memory: NonNull<u8>, bytes: usize) {
        if let Some(layout) = self.layout(bytes) {
            // SAFETY: the caller vouches that this is one of ours, of this size, before which
            // `allocate` wrote where it starts.
            unsafe {
                let skipped = memory.cast::<usize>().sub(1).read();
                std::alloc::dealloc(memory.sub(skipped).as_ptr(), layout);
            }
        }
    }

    fn handle(&self) -> Arc<dyn Allocator> {
        Arc::new(*self)
    }
}
