//! Dispatches become command buffers, recorded once and submitted at each run.
//!
//! One tracker of what was read and written since the last barrier puts a barrier where a dispatch
//! needs one. A command buffer ends where its estimated time is enough for one submit, so that no
//! watchdog sees a step of many seconds as one.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use ash::vk;
use tenon_runtime::Result;
use tenon_runtime::backend::{Memory, Part, Program};
use tenon_runtime::tensor::{Mirror, Storage};

use super::Context;
use super::device::{Device, Owned, call, failed};
use super::indices::Checks;
use super::launch::{Access, Binding, Dispatch, FOUND};
use super::memory::{Image, Piece, Purpose};
use super::pipeline::{BINDINGS, PUSH, Pipeline};
use super::times::Times;
use super::transfer::{COPY, HOST, SHADER, barrier};

/// Estimated seconds of a submit: far below any watchdog's, far above what a submit costs.
const SUBMIT: f64 = 0.05;

/// What was read and written since the last barrier.
#[derive(Default)]
struct Tracker {
    reads: Vec<(vk::Buffer, Range<usize>)>,
    writes: Vec<(vk::Buffer, Range<usize>)>,
}

impl Tracker {
    /// Notes a dispatch's uses, and says whether a barrier must come before them.
    fn needs_barrier(&mut self, uses: &[(vk::Buffer, Range<usize>, Access)]) -> bool {
        let meets = |all: &[(vk::Buffer, Range<usize>)], buffer, range: &Range<usize>| {
            all.iter().any(|(b, r)| *b == buffer && r.start < range.end && range.start < r.end)
        };
        let waits = uses.iter().any(|(buffer, range, access)| {
            let writes = *access != Access::Read;
            meets(&self.writes, *buffer, range) || writes && meets(&self.reads, *buffer, range)
        });
        if waits {
            *self = Self::default();
        }
        for (buffer, range, access) in uses {
            let all = if *access == Access::Read { &mut self.reads } else { &mut self.writes };
            all.push((*buffer, range.clone()));
        }
        waits
    }
}

/// A dispatch whose operands have been found.
struct Ready {
    pipeline: Pipeline,
    buffers: Vec<vk::DescriptorBufferInfo>,
    uses: Vec<(vk::Buffer, Range<usize>, Access)>,
    push: [u32; PUSH / 4],
    groups: [u32; 3],
}

/// Where buffers are found.
pub(super) struct Finder<'a> {
    context: &'a Context,
    images: &'a [Arc<Image>],
    found: Option<&'a Piece>,
}

impl Finder<'_> {
    /// Where a binding lies: its buffer, and the bytes of it.
    fn range(&self, binding: &Binding) -> (vk::Buffer, Range<usize>) {
        let (buffer, first) = match (binding.place.slot, self.found) {
            (FOUND, Some(found)) => (found.buffer, found.start),
            (slot, _) => (self.images[slot].buffer, self.images[slot].start),
        };
        let start = first + binding.place.offset;
        (buffer, start..start + binding.place.len.next_multiple_of(4).max(4))
    }

    fn ready(&self, dispatch: &Dispatch) -> Result<Ready> {
        let facts = &self.context.device.facts;
        let fits = dispatch.bindings.len() == dispatch.shader.bindings()
            && dispatch.bindings.len() <= BINDINGS
            && dispatch.params.len() <= PUSH / 4 - BINDINGS
            && dispatch.groups.iter().zip(facts.max_groups).all(|(n, most)| *n <= most)
            && self.context.tiers().has(dispatch.shader.tier());
        if !fits {
            return Err(failed(format_args!("cannot dispatch {dispatch:?}")));
        }
        let is_idle = self.context.device.is_idle(dispatch);
        let mut ready = Ready {
            pipeline: self.context.pipelines.get(dispatch.shader, &dispatch.constants)?,
            buffers: Vec::with_capacity(BINDINGS),
            uses: Vec::with_capacity(BINDINGS),
            push: [0; PUSH / 4],
            groups: if is_idle { [0; 3] } else { dispatch.groups },
        };
        for (i, binding) in dispatch.bindings.iter().enumerate() {
            let (buffer, range) = self.range(binding);
            let from = range.start / facts.offset_align * facts.offset_align;
            if range.end - from > facts.max_binding {
                return Err(failed(format_args!("a binding of {} bytes", range.len())));
            }
            ready.push[i] = ((range.start - from) / 4) as u32;
            ready.buffers.push(vk::DescriptorBufferInfo {
                buffer,
                offset: from as u64,
                range: (range.end - from) as u64,
            });
            ready.uses.push((buffer, range, binding.access));
        }
        ready.push[BINDINGS..][..dispatch.params.len()].copy_from_slice(&dispatch.params);
        Ok(ready)
    }
}

/// Memory that the host sees, to which a program copies what others need of it as it ends: the device
/// does that while the host works on, and nobody has to ask for it.
struct Returns {
    piece: Piece,
    /// Bytes of the arena, and where they are in the piece.
    ranges: Vec<(Range<usize>, usize)>,
}

impl Returns {
    /// Memory for these bytes of the arena; none where there are none.
    fn new(context: &Context, taken: &[Range<usize>]) -> Result<Option<Self>> {
        let mut bytes = 0;
        let place = |range: &Range<usize>| {
            let at = bytes;
            bytes += range.len().next_multiple_of(64);
            (range.clone(), at)
        };
        let ranges: Vec<_> = taken.iter().map(place).collect();
        if bytes == 0 {
            return Ok(None);
        }
        let piece = context.pool.take(Purpose::Staging, bytes)?;
        Ok(Some(Self { piece, ranges }))
    }

    /// Records the copies, after everything recorded so far.
    fn record(&self, device: &Device, buffer: vk::CommandBuffer, arena: &Image) {
        let region = |(range, at): &(Range<usize>, usize)| vk::BufferCopy {
            src_offset: (arena.start + range.start) as u64,
            dst_offset: (self.piece.start + at) as u64,
            size: range.len() as u64,
        };
        let regions: Vec<_> = self.ranges.iter().map(region).collect();
        // SAFETY: recording; all ranges lie in their buffers.
        unsafe { device.raw.cmd_copy_buffer(buffer, arena.buffer, self.piece.buffer, &regions) };
        barrier(device, buffer, &[COPY], &[COPY, HOST]);
    }

    /// Brings the bytes to the host's arena, and says how many.
    ///
    /// # Safety
    /// The program is done, and `arena` is the host's, which nothing else uses.
    unsafe fn give(&self, arena: *mut u8) -> Result<usize> {
        let from = self.piece.host.ok_or_else(|| failed("staging memory that the host sees"))?;
        for (range, at) in &self.ranges {
            // SAFETY: the caller's contract; both are as long.
            unsafe {
                let to = arena.add(range.start);
                to.copy_from_nonoverlapping(from.as_ptr().add(*at), range.len());
            }
        }
        Ok(self.ranges.iter().map(|(range, _)| range.len()).sum())
    }
}

/// A command buffer, its first step, and the one with which it is complete.
struct Batch {
    buffer: vk::CommandBuffer,
    first: usize,
    last: usize,
}

/// Steps that were recorded.
pub(super) struct Replay {
    context: Arc<Context>,
    batches: Vec<Batch>,
    /// Which of them is submitted next.
    next: usize,
    /// Signalled by the last of them, or by [`Program::sync`] where that was not submitted.
    fence: Owned<vk::Fence>,
    is_pending: bool,
    will_signal: bool,
    /// Bytes of the arena that are copied before, where it is copied, and those after.
    brought: Vec<Range<usize>>,
    returns: Option<Returns>,
    checks: Checks,
    times: Option<Times>,
    arena: Arc<Image>,
    _commands: Owned<vk::CommandPool>,
    _descriptors: Owned<vk::DescriptorPool>,
    _images: Vec<Arc<Image>>,
    // After the images, which may be the storages' own bytes.
    storages: Vec<Storage>,
}

impl Replay {
    /// Records steps.
    ///
    /// # Errors
    /// [`tenon_runtime::Error::Unsupported`]; [`tenon_runtime::Error::Device`];
    /// [`tenon_runtime::Error::OutOfMemory`].
    pub(super) fn record(context: &Arc<Context>, part: &Part<'_>) -> Result<Self> {
        let device = &context.device;
        let images = part.storages.iter().map(|storage| context.image(storage));
        let images = images.collect::<Result<Vec<_>>>()?;
        let checks = Checks::new(context, &part.steps, &part.brought)?;
        let finder = Finder { context, images: &images, found: checks.found() };
        let mut steps = Vec::with_capacity(part.steps.len());
        let mut planned = Vec::with_capacity(part.steps.len());
        for (number, step) in part.steps.iter().enumerate() {
            let mut dispatches = context.plan(step)?.dispatches;
            dispatches.splice(0..0, checks.before(number));
            let ready = dispatches.iter().map(|d| finder.ready(d)).collect::<Result<Vec<_>>>()?;
            steps.push((ready, context.estimate(step)));
            planned.push(dispatches);
        }
        let timed = part.steps.iter().zip(planned.iter().map(Vec::as_slice));
        let times = context.times.as_ref();
        let mut times = times.map(|times| Times::new(device, times, timed)).transpose()?;
        let (descriptors, sets) = descriptors(device, steps.iter().flat_map(|(ready, _)| ready))?;
        let is_copied = !images[0].is_same();
        let returns = if is_copied { Returns::new(context, &part.taken)? } else { None };
        let end = returns.as_ref().map(|returns| (returns, &*images[0]));
        let (commands, batches) = commands(device, &steps, &sets, &checks, end, &mut times)?;
        // SAFETY: unsignalled, and waited for before it goes.
        let fence = unsafe {
            let fence = device.raw.create_fence(&vk::FenceCreateInfo::default(), None);
            Owned::new(device, fence.map_err(call("a fence"))?, |d, f| d.destroy_fence(f, None))
        };
        context.pipelines.keep(false);
        device.check()?;
        Ok(Self {
            context: context.clone(),
            batches,
            next: 0,
            fence,
            is_pending: false,
            will_signal: false,
            brought: if is_copied { part.brought.clone() } else { Vec::new() },
            returns,
            checks,
            times,
            arena: images[0].clone(),
            _commands: commands,
            _descriptors: descriptors,
            _images: images,
            storages: part.storages.to_vec(),
        })
    }
}

impl Replay {
    /// Waits for the steps before number `end`, and looks at what their checks found.
    fn look(&mut self, end: usize) -> Result<()> {
        self.sync()?;
        // SAFETY: they are done.
        unsafe { self.checks.check_made(end) }
    }
}

impl Program for Replay {
    /// Submits the command buffer that ends with this step, if one does.
    unsafe fn launch(&mut self, index: usize, memory: &Memory) -> Result<()> {
        if index == 0 {
            self.next = 0;
            // SAFETY: the caller's contract.
            unsafe { self.checks.check_given(memory)? };
            for range in &self.brought {
                // SAFETY: the caller's contract; the image has the arena's layout.
                unsafe { self.arena.upload_range(memory.at(0, 0), range)? };
            }
            self.context.transfer.flush()?;
        }
        let Some(batch) = self.batches.get(self.next).filter(|batch| batch.last == index) else {
            return Ok(());
        };
        let (buffer, first) = (batch.buffer, batch.first);
        if self.checks.holds(first) {
            self.look(first)?;
        }
        self.next += 1;
        self.is_pending = true;
        let is_last = self.next == self.batches.len();
        let fence = if is_last { *self.fence } else { vk::Fence::null() };
        // SAFETY: recorded, and done since the last `sync`; what it uses is kept by `self`. The fence
        // was reset there.
        unsafe { self.context.device.submit(&[buffer], fence)? };
        self.will_signal = is_last;
        if is_last && self.checks.holds_end() { self.look(index + 1) } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_pending) {
            return Ok(());
        }
        let device = &self.context.device;
        let is_done = std::mem::take(&mut self.will_signal);
        // SAFETY: not pending: each wait resets it.
        unsafe {
            if !is_done {
                device.submit(&[], *self.fence)?;
            }
            device.wait(*self.fence)?;
            device.raw.reset_fences(&[*self.fence]).map_err(call("resetting a fence"))?;
        }
        if let Some(times) = self.times.as_mut().filter(|_| is_done) {
            times.take()?;
        }
        // A part of a program leaves nothing to take: the run was stopped.
        if let Some(returns) = self.returns.as_ref().filter(|_| is_done) {
            // SAFETY: the storages are kept; nothing else uses them before the run is over.
            let bytes = unsafe { returns.give(self.storages[0].host())? };
            self.context.transfer.note_down(bytes);
        }
        device.check()
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        let _ = self.sync();
    }
}

/// Sets of descriptors for all dispatches, equal ones once.
type Sets = HashMap<(vk::DescriptorSetLayout, Vec<[u64; 3]>), vk::DescriptorSet>;

fn key(ready: &Ready) -> (vk::DescriptorSetLayout, Vec<[u64; 3]>) {
    use vk::Handle;
    let buffers = ready.buffers.iter().map(|b| [b.buffer.as_raw(), b.offset, b.range]);
    (ready.pipeline.sets, buffers.collect())
}

fn descriptors<'a>(
    device: &Arc<Device>,
    all: impl Iterator<Item = &'a Ready> + Clone,
) -> Result<(Owned<vk::DescriptorPool>, Sets)> {
    let mut sets: Sets = all.clone().map(|ready| (key(ready), vk::DescriptorSet::null())).collect();
    let buffers: usize = sets.keys().map(|(_, buffers)| buffers.len()).sum();
    let sizes = [vk::DescriptorPoolSize {
        ty: vk::DescriptorType::STORAGE_BUFFER,
        descriptor_count: buffers.max(1) as u32,
    }];
    let info = vk::DescriptorPoolCreateInfo::default()
        .max_sets(sets.len().max(1) as u32)
        .pool_sizes(&sizes);
    // SAFETY: destroyed with the command buffers that use its sets.
    let pool = unsafe {
        let pool = device.raw.create_descriptor_pool(&info, None).map_err(call("descriptors"))?;
        Owned::new(device, pool, |d, p| d.destroy_descriptor_pool(p, None))
    };
    for ready in all {
        let Some(set) = sets.get_mut(&key(ready)).filter(|s| **s == vk::DescriptorSet::null())
        else {
            continue;
        };
        let layouts = [ready.pipeline.sets];
        let info =
            vk::DescriptorSetAllocateInfo::default().descriptor_pool(*pool).set_layouts(&layouts);
        // SAFETY: the pool has room for it; it is written before anything uses it.
        unsafe {
            *set = device.raw.allocate_descriptor_sets(&info).map_err(call("descriptors"))?[0];
            let write = vk::WriteDescriptorSet::default()
                .dst_set(*set)
                .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                .buffer_info(&ready.buffers);
            device.raw.update_descriptor_sets(&[write], &[]);
        }
    }
    Ok((pool, sets))
}

/// Records steps in command buffers; in the last, what the host is to have of an image.
fn commands(
    device: &Arc<Device>,
    steps: &[(Vec<Ready>, f64)],
    sets: &Sets,
    checks: &Checks,
    end: Option<(&Returns, &Image)>,
    times: &mut Option<Times>,
) -> Result<(Owned<vk::CommandPool>, Vec<Batch>)> {
    let info = vk::CommandPoolCreateInfo::default().queue_family_index(device.family);
    // SAFETY: destroyed when what was recorded is done.
    let pool = unsafe {
        let pool = device.raw.create_command_pool(&info, None).map_err(call("a command pool"))?;
        Owned::new(device, pool, |d, p| d.destroy_command_pool(p, None))
    };
    let (mut batches, mut from, mut seconds) = (Vec::new(), 0, 0.0);
    for (i, (_, step)) in steps.iter().enumerate() {
        seconds += step;
        if seconds >= SUBMIT || i + 1 == steps.len() || checks.holds(i + 1) {
            let end = end.filter(|_| i + 1 == steps.len());
            let buffer = batch(device, *pool, &steps[from..=i], sets, end, times)?;
            batches.push(Batch { buffer, first: from, last: i });
            (from, seconds) = (i + 1, 0.0);
        }
    }
    Ok((pool, batches))
}

fn batch(
    device: &Device,
    pool: vk::CommandPool,
    steps: &[(Vec<Ready>, f64)],
    sets: &Sets,
    end: Option<(&Returns, &Image)>,
    times: &mut Option<Times>,
) -> Result<vk::CommandBuffer> {
    let info = vk::CommandBufferAllocateInfo::default().command_pool(pool).command_buffer_count(1);
    let begin = vk::CommandBufferBeginInfo::default();
    // SAFETY: a new command buffer.
    let buffer = unsafe {
        let buffer =
            device.raw.allocate_command_buffers(&info).map_err(call("a command buffer"))?[0];
        device.raw.begin_command_buffer(buffer, &begin).map_err(call("recording"))?;
        buffer
    };
    barrier(device, buffer, &[SHADER, COPY, HOST], &[SHADER]);
    let (mut tracker, mut bound) = (Tracker::default(), vk::Pipeline::null());
    if let Some(times) = times {
        times.begin(buffer, steps.len());
    }
    for (dispatches, _) in steps {
        for ready in dispatches {
            if tracker.needs_barrier(&ready.uses) && !device.lacks_barriers() {
                barrier(device, buffer, &[SHADER], &[SHADER]);
            }
            let Pipeline { handle, layout, .. } = ready.pipeline;
            let set = [sets[&key(ready)]];
            let compute = vk::PipelineBindPoint::COMPUTE;
            // SAFETY: recording; the set is of the pipeline's layout, and the push constants fill its
            // range.
            unsafe {
                if std::mem::replace(&mut bound, handle) != handle {
                    device.raw.cmd_bind_pipeline(buffer, compute, handle);
                }
                device.raw.cmd_bind_descriptor_sets(buffer, compute, layout, 0, &set, &[]);
                let push = ready.push.map(u32::to_ne_bytes);
                let stage = vk::ShaderStageFlags::COMPUTE;
                device.raw.cmd_push_constants(buffer, layout, stage, 0, push.as_flattened());
                let [x, y, z] = ready.groups;
                device.raw.cmd_dispatch(buffer, x, y, z);
            }
        }
        if let Some(times) = times {
            times.end_step(buffer);
        }
    }
    barrier(device, buffer, &[SHADER], &[COPY, HOST]);
    if let Some((returns, arena)) = end {
        returns.record(device, buffer, arena);
    }
    // SAFETY: recording.
    unsafe { device.raw.end_command_buffer(buffer) }.map_err(call("recording"))?;
    Ok(buffer)
}
