//! Time and traffic of every node, for people and for trace viewers.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::{Observer, Task};

/// An [`Observer`] that notes when every node began and ended.
///
/// Where a backend works on after it has been asked to, the time is the asking's.
#[derive(Debug)]
pub struct Profile {
    origin: Instant,
    spans: Vec<Span>,
}

/// One run of one node.
#[derive(Clone, Debug)]
pub struct Span {
    /// What ran.
    pub task: Task,
    /// When it began, from the profile's beginning on.
    pub start: Duration,
    /// How long it took.
    pub duration: Duration,
}

impl Default for Profile {
    fn default() -> Self {
        Self { origin: Instant::now(), spans: Vec::new() }
    }
}

impl Observer for Profile {
    fn before(&mut self, _: usize, _: usize, task: &Task) -> ControlFlow<()> {
        let (task, duration) = (task.clone(), Duration::ZERO);
        self.spans.push(Span { task, start: self.origin.elapsed(), duration });
        ControlFlow::Continue(())
    }

    fn after(&mut self) {
        let now = self.origin.elapsed();
        if let Some(span) = self.spans.last_mut() {
            span.duration = now - span.start;
        }
    }
}

impl Profile {
    /// What ran, in order.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The profile in Chrome's trace event format, which `chrome://tracing` and Perfetto show.
    #[must_use]
    pub fn chrome_trace(&self) -> String {
        let mut out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[".to_owned();
        for (i, Span { task, start, duration }) in self.spans.iter().enumerate() {
            let seconds = duration.as_secs_f64().max(1e-9);
            // Names are of ops and descriptions of tensors: no character needs an escape.
            let _ = write!(
                out,
                "{}\n{{\"name\":\"{}\",\"ph\":\"X\",\"pid\":1,\"tid\":{},\"ts\":{:.3},\"dur\":{:.3},\
                 \"args\":{{\"operands\":\"{}\",\"bytes\":{},\"flops\":{},\"gb_per_s\":{:.2},\
                 \"gflop_per_s\":{:.2}}}}}",
                if i == 0 { "" } else { "," },
                task.op,
                task.backend,
                start.as_secs_f64() * 1e6,
                duration.as_secs_f64() * 1e6,
                task.operands,
                task.cost.bytes,
                task.cost.flops,
                task.cost.bytes / seconds / 1e9,
                task.cost.flops / seconds / 1e9,
            );
        }
        out.push_str("\n]}\n");
        out
    }
}
