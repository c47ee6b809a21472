//! Scratch of a launch: a part that its tasks share, then a span for each thread.

use super::args::Args;

/// Elements to round spans up to: a cache line of f32, so that threads do not share one.
const LINE: usize = 16;

/// The division of a launch's workspace, in f32.
#[derive(Clone, Copy)]
pub(super) struct Scratch {
    shared: usize,
    each: usize,
}

impl Scratch {
    /// `shared` f32 for all tasks and `each` for every thread.
    pub(super) fn new(shared: usize, each: usize) -> Self {
        Self { shared: shared.next_multiple_of(LINE), each: each.next_multiple_of(LINE) }
    }

    /// Bytes to ask of the plan.
    pub(super) fn bytes(self, threads: usize) -> usize {
        (self.shared + threads * self.each) * size_of::<f32>()
    }

    /// The address of the shared part.
    pub(super) fn shared(self, args: Args<'_>) -> *mut f32 {
        // SAFETY: only the address is kept; who goes through it answers for it.
        unsafe { args.scratch::<f32>().piece(0..self.shared) }.as_mut_ptr()
    }

    /// The span of `thread`.
    ///
    /// # Safety
    /// Only that thread may hold it, once at a time.
    pub(super) unsafe fn of_thread<'a>(self, args: Args<'a>, thread: usize) -> &'a mut [f32] {
        let start = self.shared + thread * self.each;
        // SAFETY: threads have disjoint spans; the caller vouches for the rest.
        unsafe { args.scratch::<f32>().piece(start..start + self.each) }
    }
}
