//! The thread pool: shares cores well, gives the same bits at any thread count.
//!
//! Work comes as numbered tasks whose split depends on shapes only. Each thread has a share of the
//! numbers, the same stretch of every launch, so that it finds in its core's cache what it wrote in
//! the launch before; whoever is done with its own claims from the others', so a thread that another
//! process slows down simply does fewer. Nobody spins without bound: a thread looks for work for a
//! while ([`LOOKS`]) and then sleeps. The caller works too and waits only for tasks that were claimed,
//! never for a thread to wake up: on a core taken by somebody else a step takes no longer than on one
//! thread.

use std::cell::LazyCell;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::thread::Thread;

/// How long a worker looks for work before it sleeps: waking a sleeper costs some 5-50 us, and the
/// gap between two launches of a step is mostly shorter. No longer, since on a core that another
/// process wants too, looking takes time away from its own tasks: with 1.5 ms and a neighbour on one
/// core a step of LoRA on SmolLM2 makes 169 tokens/s in place of 248.
const LOOKS: Duration = Duration::from_micros(60);

/// How long a caller waits for tasks that others have claimed before it sleeps: as long as tasks take.
/// With 30 us it slept in every third launch, and the worker, left without work meanwhile, in as
/// many. Of two threads of an Ice Lake guest, 10 runs each in turn: 421 at best and 229 or 271 in the
/// middle, and now 454 to 478 and 373 to 456 tokens/s; with a neighbour 248 and 251.
const WAITS: Duration = Duration::from_millis(1);

/// Turns of spinning between two looks at the clock.
const TURNS: usize = 64;

/// A body of work: called with a task number and the number of the thread that runs it.
type Body<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// A pool of threads; the calling thread is number 0 of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Thread>,
    /// One caller at a time.
    turn: Mutex<()>,
}

struct Shared {
    state: Mutex<State>,
    /// Told when there is a new job or the end.
    wake: Condvar,
    /// Told when a worker has started, and when the last one leaves a job.
    idle: Condvar,
    /// Number of the newest job, for spinning workers.
    epoch: AtomicUsize,
    /// Of each thread.
    shares: Vec<Share>,
    /// Workers inside the job.
    inside: AtomicUsize,
    panicked: AtomicBool,
}

/// The next unclaimed task of a thread's share, in a cache line (on some chips two) of its own.
#[repr(align(128))]
#[derive(Default)]
struct Share(AtomicUsize);

struct State {
    job: Option<Job>,
    epoch: usize,
    /// Workers that wait for a job, and whether a caller waits for workers: telling nobody is a call
    /// of the system too.
    asleep: usize,
    waited_for: bool,
    /// Workers that have begun to look for jobs.
    started: usize,
    stop: bool,
}

#[derive(Clone, Copy)]
struct Job {
    /// Valid while the job is in [`State`] or `inside` is not 0: [`Pool::run`] waits for both.
    body: *const (dyn Fn(usize, usize) + Sync),
    tasks: usize,
}

// SAFETY: the pointer is to a `Sync` closure that `Pool::run` keeps alive; see `Job::body`.
unsafe impl Send for Job {}

impl Pool {
    /// A pool of `threads` in all, the caller among them. Threads the system will not start are
    /// done without.
    #[must_use]
    pub fn new(threads: NonZero<usize>) -> Self {
        let state =
            State { job: None, epoch: 0, asleep: 0, waited_for: false, started: 0, stop: false };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            idle: Condvar::new(),
            epoch: AtomicUsize::new(0),
            shares: (0..threads.get()).map(|_| Share::default()).collect(),
            inside: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
        });
        let workers: Vec<_> = (1..threads.get())
            .map_while(|number| {
                let shared = shared.clone();
                Thread::start(Box::new(move || shared.work(number)))
            })
            .collect();
        // A thread allocates as it starts, and on a busy machine that could be in a step.
        let mut state = lock(&shared.state);
        while state.started < workers.len() {
            state = shared.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// Threads, the caller among them: thread numbers are below this.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(task, thread)` once for every task below `tasks`, and returns when all are
    /// done. Allocates nothing.
    ///
    /// # Panics
    /// Where a task panicked.
    pub fn run(&self, tasks: usize, body: Body<'_>) {
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(|task| body(task, 0));
            return;
        }
        let _turn = lock(&self.turn);
        self.shared.open(tasks, body);
        let closing = Closing(&self.shared);
        self.shared.claim(tasks, body, 0);
        drop(closing);
        assert!(!self.shared.panicked.swap(false, Ordering::Relaxed), "a task panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.state).stop = true;
        self.shared.epoch.fetch_add(1, Ordering::Release);
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            worker.join();
        }
    }
}

/// Closes the job when dropped, even by a panic of the caller's own task: the body must not be
/// left in other hands.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Shared {
    fn open(&self, tasks: usize, body: Body<'_>) {
        let body: *const (dyn Fn(usize, usize) + Sync) = body;
        // SAFETY: only the lifetime is erased; `close` is called before `body` ends.
        let body = unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize, usize) + Sync),
                *const (dyn Fn(usize, usize) + Sync + 'static),
            >(body)
        };
        let mut state = lock(&self.state);
        for (number, Share(next)) in self.shares.iter().enumerate() {
            next.store(self.first_of(number, tasks), Ordering::Relaxed);
        }
        state.epoch += 1;
        state.job = Some(Job { body, tasks });
        self.epoch.store(state.epoch, Ordering::Release);
        let asleep = state.asleep;
        drop(state);
        if asleep > 0 {
            self.wake.notify_all();
        }
    }

    fn close(&self) {
        lock(&self.state).job = None;
        if spin(WAITS, || self.inside.load(Ordering::Acquire) == 0) {
            return;
        }
        let mut state = lock(&self.state);
        state.waited_for = true;
        while self.inside.load(Ordering::Acquire) != 0 {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waited_for = false;
    }

    /// The first task of a thread's share.
    fn first_of(&self, thread: usize, tasks: usize) -> usize {
        tasks * thread / self.shares.len()
    }

    /// Does the tasks of a thread's share, then what the others have left of theirs.
    fn claim(&self, tasks: usize, body: Body<'_>, thread: usize) {
        let threads = self.shares.len();
        for owner in (thread..threads).chain(0..thread) {
            let (Share(next), end) = (&self.shares[owner], self.first_of(owner + 1, tasks));
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= end {
                    break;
                }
                body(task, thread);
            }
        }
    }

    /// What a worker does. It never panics: tasks are caught.
    fn work(&self, thread: usize) {
        lock(&self.state).started += 1;
        self.idle.notify_all();
        let mut seen = 0;
        while let Some((job, epoch)) = self.enter(seen) {
            seen = epoch;
            // SAFETY: the job was entered while open, so `close` waits for `leave`.
            let body = unsafe { &*job.body };
            let claimed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.claim(job.tasks, body, thread);
            }));
            if claimed.is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.leave();
        }
    }

    /// Waits for a job newer than `seen` and enters it; `None` at the end.
    fn enter(&self, seen: usize) -> Option<(Job, usize)> {
        spin(LOOKS, || self.epoch.load(Ordering::Acquire) != seen);
        let mut state = lock(&self.state);
        loop {
            if state.stop {
                return None;
            }
            match state.job {
                Some(job) if state.epoch != seen => {
                    self.inside.fetch_add(1, Ordering::AcqRel);
                    return Some((job, state.epoch));
                }
                _ => {
                    state.asleep += 1;
                    state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.asleep -= 1;
                }
            }
        }
    }

    fn leave(&self) {
        if self.inside.fetch_sub(1, Ordering::AcqRel) == 1 {
            // The lock orders this against a closer that has just looked at `inside`.
            let waited_for = lock(&self.state).waited_for;
            if waited_for {
                self.idle.notify_all();
            }
        }
    }
}

/// Waits for at most `most`; gives whether it `is` so then.
fn spin(most: Duration, is: impl Fn() -> bool) -> bool {
    let start = LazyCell::new(Instant::now);
    loop {
        for _ in 0..TURNS {
            if is() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() >= most {
            return false;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding a lock of the pool; a poisoned one still holds a whole state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_every_task_once() {
        for threads in 1..5 {
            let pool = Pool::new(NonZero::new(threads).unwrap());
            for tasks in [0, 1, 2, 7, 1000] {
                let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|task, thread| {
                    assert!(thread < pool.threads());
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn gives_each_thread_the_same_share() {
        let pool = Pool::new(NonZero::new(3).unwrap());
        for _ in 0..100 {
            // No task ends before all three have begun, so each thread has one.
            let all = std::sync::Barrier::new(3);
            let whose = [const { AtomicUsize::new(9) }; 3];
            pool.run(3, &|task, thread| {
                whose[task].store(thread, Ordering::Relaxed);
                all.wait();
            });
            assert_eq!(whose.map(AtomicUsize::into_inner), [0, 1, 2]);
        }
    }

    #[test]
    fn survives_a_panicking_task() {
        let pool = Pool::new(NonZero::new(3).unwrap());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(64, &|task, _| assert_ne!(task, 40));
        }));
        assert!(result.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(10, &|task, _| {
            sum.fetch_add(task, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }

    #[test]
    fn takes_callers_in_turn() {
        let pool = Pool::new(NonZero::new(2).unwrap());
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(8, &|_, _| {
                            sum.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 4 * 200 * 8);
    }
}
