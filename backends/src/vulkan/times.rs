//! What steps take on the device, where `TENON_VK_TIMES` asks for it: timestamps between the dispatches
//! of one step and the next, and at a program's end the times of its last run, for trace viewers.
//!
//! Steps that need no barrier between them may overlap: what is told then is when each was done after
//! the one before. Asking costs the device little, but not nothing.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ash::vk;
use tenon_runtime::backend::Step;
use tenon_runtime::{Result, TensorDesc};

use super::device::{Device, Owned, call};
use super::launch::Dispatch;

/// The clock of a device's queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Nanoseconds of a tick.
    pub(super) period: f64,
    /// Bits of a timestamp; never 0.
    pub(super) bits: u32,
}

impl Clock {
    /// Nanoseconds from one timestamp to a later one.
    fn between(self, from: u64, to: u64) -> f64 {
        let ones = u64::MAX >> (64 - self.bits.clamp(1, 64));
        (to.wrapping_sub(from) & ones) as f64 * self.period
    }
}

/// A program's times.
pub(super) struct Times {
    device: Arc<Device>,
    clock: Clock,
    pool: Owned<vk::QueryPool>,
    /// Of each step, what a trace says of it, and its bytes and operations.
    steps: Vec<(String, [f64; 2])>,
    /// Of each step, the number of the timestamp after it; the one before it is the one before.
    after: Vec<u32>,
    /// Timestamps so far, and those of the last run.
    used: u32,
    ticks: Vec<u64>,
    has_run: bool,
    path: PathBuf,
}

/// Programs of this process that were timed.
static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Times {
    /// Times for `steps` and their dispatches, for a file in `folder`.
    ///
    /// # Errors
    /// [`tenon_runtime::Error::Device`].
    pub(super) fn new<'a>(
        device: &Arc<Device>,
        (clock, folder): &(Clock, PathBuf),
        steps: impl Iterator<Item = (&'a Step, &'a [Dispatch])>,
    ) -> Result<Self> {
        let steps: Vec<_> = steps.map(|(step, dispatches)| told(step, dispatches)).collect();
        // Each batch begins with one, and no step is in two.
        let most = 2 * steps.len().max(1);
        let info = vk::QueryPoolCreateInfo::default()
            .query_type(vk::QueryType::TIMESTAMP)
            .query_count(most as u32);
        // SAFETY: destroyed with the command buffers that write it.
        let pool = unsafe {
            let pool = device.raw.create_query_pool(&info, None).map_err(call("timestamps"))?;
            Owned::new(device, pool, |d, p| d.destroy_query_pool(p, None))
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vulkan-{}-{number}.json", std::process::id());
        Ok(Self {
            device: device.clone(),
            clock: *clock,
            pool,
            after: Vec::with_capacity(steps.len()),
            steps,
            used: 0,
            ticks: vec![0; most],
            has_run: false,
            path: folder.join(name),
        })
    }

    /// Records the timestamp with which a batch of so many steps begins.
    pub(super) fn begin(&mut self, buffer: vk::CommandBuffer, steps: usize) {
        // SAFETY: recording, outside of any render pass; the pool has room for all batches.
        unsafe {
            self.device.raw.cmd_reset_query_pool(buffer, *self.pool, self.used, steps as u32 + 1);
        }
        self.mark(buffer);
    }

    /// Records the timestamp after a step.
    pub(super) fn end_step(&mut self, buffer: vk::CommandBuffer) {
        self.after.push(self.used);
        self.mark(buffer);
    }

    fn mark(&mut self, buffer: vk::CommandBuffer) {
        let stage = vk::PipelineStageFlags::BOTTOM_OF_PIPE;
        // SAFETY: recording; `begin` has reset it.
        unsafe { self.device.raw.cmd_write_timestamp(buffer, stage, *self.pool, self.used) };
        self.used += 1;
    }

    /// Takes the times of a run that is done.
    ///
    /// # Errors
    /// [`tenon_runtime::Error::Device`].
    pub(super) fn take(&mut self) -> Result<()> {
        let ticks = &mut self.ticks[..self.used as usize];
        let flags = vk::QueryResultFlags::TYPE_64 | vk::QueryResultFlags::WAIT;
        // SAFETY: the run has written them all.
        let taken = unsafe { self.device.raw.get_query_pool_results(*self.pool, 0, ticks, flags) };
        taken.map_err(call("timestamps"))?;
        self.has_run = true;
        Ok(())
    }

    /// The last run in Chrome's trace event format.
    fn trace(&self) -> String {
        let mut out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[".to_owned();
        for (i, ((told, [bytes, flops]), &after)) in self.steps.iter().zip(&self.after).enumerate()
        {
            let [begun, done] = [after - 1, after].map(|i| self.ticks[i as usize]);
            let start = self.clock.between(self.ticks[0], begun);
            let ns = self.clock.between(begun, done);
            let _ = write!(
                out,
                "{}\n{{{told},\"gb_per_s\":{:.2},\"gflop_per_s\":{:.2}}},\"ph\":\"X\",\
                 \"pid\":1,\"tid\":0,\"ts\":{:.3},\"dur\":{:.3}}}",
                if i == 0 { "" } else { "," },
                bytes / ns.max(1.0),
                flops / ns.max(1.0),
                start / 1e3,
                ns / 1e3,
            );
        }
        out.push_str("\n]}\n");
        out
    }
}

/// What a trace says of a step.
fn told(step: &Step, dispatches: &[Dispatch]) -> (String, [f64; 2]) {
    let inputs: Vec<&TensorDesc> = step.inputs.iter().map(|o| &o.desc).collect();
    let outputs: Vec<&TensorDesc> = step.outputs.iter().map(|o| &o.desc).collect();
    let words = |descs: &[&TensorDesc]| {
        descs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let shaders: Vec<_> = dispatches.iter().map(|dispatch| dispatch.shader.name()).collect();
    let cost = step.op.cost(&inputs, &outputs);
    // Names are of ops, shaders and descriptions of tensors: no character needs an escape.
    let told = format!(
        "\"name\":\"{}\",\"args\":{{\"operands\":\"{} -> {}\",\"shaders\":\"{}\",\"bytes\":{},\
         \"flops\":{}",
        step.op.name(),
        words(&inputs),
        words(&outputs),
        shaders.join(" "),
        cost.bytes,
        cost.flops,
    );
    (told, [cost.bytes, cost.flops])
}

impl Drop for Times {
    /// Leaves the file. There is nobody to tell of one that cannot be written.
    fn drop(&mut self) {
        if self.has_run {
            let _ = self.path.parent().map(std::fs::create_dir_all);
            let _ = std::fs::write(&self.path, self.trace());
        }
    }
}
