//! Bytes between host and device, through two staging buffers: while one is filled or emptied, the
//! device copies the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ash::vk;
use tenon_runtime::Result;

use super::device::{Device, Owned, call, failed};
use super::memory::{Piece, Pool, Purpose};

/// Bytes of a staging buffer.
const LANE: usize = 4 << 20;

/// Bytes copied so far between host and device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To the device.
    pub up: u64,
    /// To the host.
    pub down: u64,
}

/// Copies between host and device.
pub(super) struct Transfer {
    device: Arc<Device>,
    pool: Arc<Pool>,
    /// Made when first needed: where host and device see the same memory, they are not.
    lanes: Mutex<Option<[Lane; 2]>>,
    up: AtomicU64,
    down: AtomicU64,
}

/// A staging buffer and what is to be done with it.
struct Lane {
    command: Command,
    piece: Piece,
    used: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// Copies are being recorded.
    Open,
    /// The device may be copying.
    Pending,
}

/// One command buffer, and a fence that tells when it is done.
pub(super) struct Command {
    _pool: Owned<vk::CommandPool>,
    pub(super) buffer: vk::CommandBuffer,
    pub(super) fence: Owned<vk::Fence>,
}

impl Command {
    pub(super) fn new(device: &Arc<Device>) -> Result<Self> {
        let flags = vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER;
        let info =
            vk::CommandPoolCreateInfo::default().queue_family_index(device.family).flags(flags);
        // SAFETY: the queue's family; both are destroyed when their work is done.
        unsafe {
            let pool =
                device.raw.create_command_pool(&info, None).map_err(call("a command pool"))?;
            let pool = Owned::new(device, pool, |d, p| d.destroy_command_pool(p, None));
            let info = vk::CommandBufferAllocateInfo::default()
                .command_pool(*pool)
                .command_buffer_count(1);
            let buffers = device.raw.allocate_command_buffers(&info);
            let buffer = buffers.map_err(call("a command buffer"))?[0];
            let fence = device.raw.create_fence(&vk::FenceCreateInfo::default(), None);
            let fence = fence.map_err(call("a fence"))?;
            let fence = Owned::new(device, fence, |d, f| d.destroy_fence(f, None));
            Ok(Self { _pool: pool, buffer, fence })
        }
    }

    fn begin(&self, device: &Device) -> Result<()> {
        let once = vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT;
        let info = vk::CommandBufferBeginInfo::default().flags(once);
        // SAFETY: not pending: it was waited for.
        unsafe { device.raw.begin_command_buffer(self.buffer, &info) }.map_err(call("recording"))
    }

    fn submit(&self, device: &Device) -> Result<()> {
        // SAFETY: recording since `begin`; the fence was reset when it was last waited for.
        unsafe {
            device.raw.end_command_buffer(self.buffer).map_err(call("recording"))?;
            device.submit(&[self.buffer], *self.fence)
        }
    }

    fn wait(&self, device: &Device) -> Result<()> {
        device.wait(*self.fence)?;
        // SAFETY: signalled, so nothing uses it.
        unsafe { device.raw.reset_fences(&[*self.fence]) }.map_err(call("resetting a fence"))
    }
}

/// What shaders and copies do with buffers.
pub(super) const SHADER: (vk::PipelineStageFlags, vk::AccessFlags) = (
    vk::PipelineStageFlags::COMPUTE_SHADER,
    vk::AccessFlags::from_raw(
        vk::AccessFlags::SHADER_READ.as_raw() | vk::AccessFlags::SHADER_WRITE.as_raw(),
    ),
);
pub(super) const COPY: (vk::PipelineStageFlags, vk::AccessFlags) = (
    vk::PipelineStageFlags::TRANSFER,
    vk::AccessFlags::from_raw(
        vk::AccessFlags::TRANSFER_READ.as_raw() | vk::AccessFlags::TRANSFER_WRITE.as_raw(),
    ),
);
pub(super) const HOST: (vk::PipelineStageFlags, vk::AccessFlags) = (
    vk::PipelineStageFlags::HOST,
    vk::AccessFlags::from_raw(
        vk::AccessFlags::HOST_READ.as_raw() | vk::AccessFlags::HOST_WRITE.as_raw(),
    ),
);

/// Lets all of `after` wait for all of `before`, and see what it wrote.
pub(super) fn barrier(
    device: &Device,
    buffer: vk::CommandBuffer,
    before: &[(vk::PipelineStageFlags, vk::AccessFlags)],
    after: &[(vk::PipelineStageFlags, vk::AccessFlags)],
) {
    let both = |all: &[(vk::PipelineStageFlags, vk::AccessFlags)]| {
        all.iter().fold(Default::default(), |(stages, accesses), &(stage, access)| {
            (stages | stage, accesses | access)
        })
    };
    let ((from, wrote), (to, uses)): (
        (vk::PipelineStageFlags, vk::AccessFlags),
        (vk::PipelineStageFlags, vk::AccessFlags),
    ) = (both(before), both(after));
    let memory = [vk::MemoryBarrier::default().src_access_mask(wrote).dst_access_mask(uses)];
    let none = vk::DependencyFlags::empty();
    // SAFETY: a command buffer that is being recorded.
    unsafe { device.raw.cmd_pipeline_barrier(buffer, from, to, none, &memory, &[], &[]) };
}

impl Lane {
    fn new(device: &Arc<Device>, pool: &Arc<Pool>) -> Result<Self> {
        let piece = pool.take(Purpose::Staging, LANE)?;
        Ok(Self { command: Command::new(device)?, piece, used: 0, state: State::Idle })
    }

    /// The staging memory from `at` on.
    fn host(&self, at: usize) -> Result<*mut u8> {
        let host = self.piece.host.ok_or_else(|| failed("staging memory that the host sees"))?;
        Ok(host.as_ptr().wrapping_add(at))
    }

    /// Waits until it can be used anew.
    fn settle(&mut self, device: &Device) -> Result<()> {
        if self.state == State::Pending {
            self.command.wait(device)?;
            self.state = State::Idle;
        }
        Ok(())
    }

    /// Begins to record copies, unless that is begun.
    fn open(&mut self, device: &Device) -> Result<()> {
        self.settle(device)?;
        if self.state == State::Idle {
            self.command.begin(device)?;
            barrier(device, self.command.buffer, &[SHADER, COPY], &[COPY]);
            (self.state, self.used) = (State::Open, 0);
        }
        Ok(())
    }

    /// Lets the device copy.
    fn submit(&mut self, device: &Device) -> Result<()> {
        if self.state == State::Open {
            barrier(device, self.command.buffer, &[COPY], &[SHADER, COPY, HOST]);
            self.state = State::Idle;
            self.command.submit(device)?;
            self.state = State::Pending;
        }
        Ok(())
    }

    /// Records a copy of `bytes` between the staging memory at `at` and a buffer.
    fn copy(&self, device: &Device, at: usize, other: (vk::Buffer, usize), bytes: usize, up: bool) {
        let staging = (self.piece.buffer, self.piece.start + at);
        let (from, to) = if up { (staging, other) } else { (other, staging) };
        let region = [vk::BufferCopy {
            src_offset: from.1 as u64,
            dst_offset: to.1 as u64,
            size: bytes as u64,
        }];
        // SAFETY: recording; both ranges lie in their buffers.
        unsafe { device.raw.cmd_copy_buffer(self.command.buffer, from.0, to.0, &region) };
    }
}

impl Transfer {
    pub(super) fn new(device: &Arc<Device>, pool: &Arc<Pool>) -> Arc<Self> {
        Arc::new(Self {
            device: device.clone(),
            pool: pool.clone(),
            lanes: Mutex::default(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
        })
    }

    /// What was copied so far.
    pub(super) fn traffic(&self) -> Traffic {
        Traffic { up: self.up.load(Ordering::Relaxed), down: self.down.load(Ordering::Relaxed) }
    }

    /// Counts what came to the host by other means.
    pub(super) fn note_down(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Copies the host's bytes to a buffer, before what is submitted after the next [`Self::flush`].
    /// They may be written again at once.
    ///
    /// # Errors
    /// [`tenon_runtime::Error::Device`]; [`tenon_runtime::Error::OutOfMemory`].
    ///
    /// # Safety
    /// `host` must be valid for `bytes`, and the buffer from `start` on.
    pub(super) unsafe fn upload(
        &self,
        host: *const u8,
        buffer: vk::Buffer,
        start: usize,
        bytes: usize,
    ) -> Result<()> {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
        self.with_lanes(|lanes| {
            let mut done = 0;
            while done < bytes {
                lanes[0].open(&self.device)?;
                let lane = &mut lanes[0];
                let n = (bytes - done).min(LANE - lane.used);
                // SAFETY: the caller's contract; the lane has room, and no one else uses it.
                unsafe { lane.host(lane.used)?.copy_from_nonoverlapping(host.add(done), n) };
                lane.copy(&self.device, lane.used, (buffer, start + done), n, true);
                lane.used += n.next_multiple_of(64);
                done += n;
                if lane.used >= LANE {
                    lane.submit(&self.device)?;
                    lanes.swap(0, 1);
                }
            }
            Ok(())
        })
    }

    /// Copies a buffer's bytes to the host, after everything submitted so far.
    ///
    /// # Errors
    /// As [`Self::upload`].
    ///
    /// # Safety
    /// As [`Self::upload`], for writing.
    pub(super) unsafe fn download(
        &self,
        host: *mut u8,
        buffer: vk::Buffer,
        start: usize,
        bytes: usize,
    ) -> Result<()> {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
        self.with_lanes(|lanes| {
            lanes[0].submit(&self.device)?;
            lanes.iter_mut().try_for_each(|lane| lane.settle(&self.device))?;
            // One more round than there are pieces: each empties what the one before asked for.
            for piece in 0..=bytes.div_ceil(LANE) {
                let at = piece * LANE;
                if at < bytes {
                    let lane = &mut lanes[piece % 2];
                    lane.open(&self.device)?;
                    lane.copy(&self.device, 0, (buffer, start + at), LANE.min(bytes - at), false);
                    lane.submit(&self.device)?;
                }
                let Some(at) = at.checked_sub(LANE) else { continue };
                let lane = &mut lanes[(piece + 1) % 2];
                lane.settle(&self.device)?;
                let n = LANE.min(bytes - at);
                // SAFETY: the caller's contract; the device has written these bytes and is done.
                unsafe { host.add(at).copy_from_nonoverlapping(lane.host(0)?, n) };
            }
            Ok(())
        })
    }

    /// Submits what is to be brought to the device.
    ///
    /// # Errors
    /// [`tenon_runtime::Error::Device`].
    pub(super) fn flush(&self) -> Result<()> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *lanes {
            Some(lanes) if lanes[0].state == State::Open => {
                lanes[0].submit(&self.device)?;
                lanes.swap(0, 1);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn with_lanes(&self, body: impl FnOnce(&mut [Lane; 2]) -> Result<()>) -> Result<()> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.is_none() {
            let lane = || Lane::new(&self.device, &self.pool);
            *lanes = Some([lane()?, lane()?]);
        }
        lanes.as_mut().map_or(Ok(()), body)
    }
}

impl Drop for Transfer {
    /// What is still being copied must be done before its buffers go.
    fn drop(&mut self) {
        let lanes = self.lanes.get_mut().unwrap_or_else(PoisonError::into_inner);
        for lane in lanes.iter_mut().flatten() {
            let _ = lane.settle(&self.device);
        }
    }
}
