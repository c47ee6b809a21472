//! Threads that leave nothing on the thread that starts them.
//!
//! `std::thread` gives the thread that calls it a thread-local value with a destructor (its spawn
//! hooks). While one waits, glibc keeps the library that it belongs to mapped: a program that made a
//! context on its main thread could never unload libtenon. So on Unix the system itself is asked.

#[cfg(unix)]
pub(super) use unix::Thread;

#[cfg(not(unix))]
pub(super) use other::Thread;

/// What a thread does.
type Body = Box<dyn FnOnce() + Send>;

#[cfg(unix)]
mod unix {
    use std::ffi::{CStr, c_void};
    use std::mem::MaybeUninit;
    use std::ptr::{null, null_mut};

    use super::Body;

    /// As many bytes as `std` gives: some systems' own choice is too small for a kernel's tiles.
    const STACK: usize = 2 << 20;

    /// A thread that was started.
    pub(in crate::cpu) struct Thread(libc::pthread_t);

    // SAFETY: it names a thread, which any other may wait for; `join` takes it, so one does.
    unsafe impl Send for Thread {}
    // SAFETY: nothing can be done through a shared one.
    unsafe impl Sync for Thread {}

    impl Thread {
        /// Starts a thread; `None` where the system has none left. The body must not panic.
        pub(in crate::cpu) fn start(body: Body) -> Option<Self> {
            // A pointer to a trait object is two words, and the system hands on one.
            let body = Box::into_raw(Box::new(body));
            let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
            let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
            // SAFETY: attributes are made, used and given back; `run` takes the body.
            let started = unsafe {
                let with = if libc::pthread_attr_init(attributes.as_mut_ptr()) == 0 {
                    libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK);
                    attributes.as_ptr()
                } else {
                    null()
                };
                let code = libc::pthread_create(thread.as_mut_ptr(), with, run, body.cast());
                if !with.is_null() {
                    libc::pthread_attr_destroy(attributes.as_mut_ptr());
                }
                code == 0
            };
            if !started {
                // SAFETY: nobody else has it: the thread did not start.
                drop(unsafe { Box::from_raw(body) });
                return None;
            }
            // SAFETY: written where the thread was started.
            Some(Self(unsafe { thread.assume_init() }))
        }

        /// Waits for its end.
        pub(in crate::cpu) fn join(self) {
            // SAFETY: started, and joined here alone. It fails for a thread that joins itself, which
            // no worker does.
            unsafe { libc::pthread_join(self.0, null_mut()) };
        }
    }

    extern "C" fn run(body: *mut c_void) -> *mut c_void {
        name(c"tenon");
        // SAFETY: the box that `start` gave away.
        let body = unsafe { Box::from_raw(body.cast::<Body>()) };
        body();
        null_mut()
    }

    /// Names the running thread, for debuggers and `top`.
    fn name(name: &CStr) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        // SAFETY: the thread itself, and a text.
        unsafe {
            libc::pthread_setname_np(libc::pthread_self(), name.as_ptr());
        }
        #[cfg(target_vendor = "apple")]
        // SAFETY: a text.
        unsafe {
            libc::pthread_setname_np(name.as_ptr());
        }
        let _ = name;
    }
}

#[cfg(not(unix))]
mod other {
    use super::Body;

    /// A thread that was started.
    pub(in crate::cpu) struct Thread(std::thread::JoinHandle<()>);

    impl Thread {
        /// Starts a thread; `None` where the system has none left. The body must not panic.
        pub(in crate::cpu) fn start(body: Body) -> Option<Self> {
            std::thread::Builder::new().name("tenon".to_owned()).spawn(body).ok().map(Self)
        }

        /// Waits for its end.
        pub(in crate::cpu) fn join(self) {
            // It does not panic; there would be nothing left to save.
            let _ = self.0.join();
        }
    }
}
