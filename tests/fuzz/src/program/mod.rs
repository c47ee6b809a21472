//! A random program over the C functions. It keeps the header's rules: handles are live or NULL, sizes
//! are those of what is there; all else may be wrong. No call may fail as a bug of Tenon's would, and
//! in the end all of the caller's memory must be back.

pub mod arguments;
mod exchange;
mod graphs;
mod sessions;

use std::ffi::{c_char, c_void};
use std::sync::OnceLock;

use arguments::{Heap, Laid, Texts, allocate, place, release};
use tenon::abi::{self, *};

use crate::reach::reached;
use crate::{Chosen, Unstructured, rarely, scratch};

/// A graph, the sizes of what it can be asked for, and values that it has given.
struct Graph {
    handle: *mut tn_graph,
    context: usize,
    values: Vec<tn_value>,
    losses: Vec<tn_value>,
}

/// A session, and the bytes of its inputs.
struct Session {
    handle: *mut tn_session,
    context: usize,
    inputs: Vec<(String, usize)>,
}

/// What a program has made.
pub struct Program<'a, 'b> {
    u: &'a mut Unstructured<'b>,
    texts: Texts,
    heap: Box<Heap>,
    contexts: Vec<*mut tn_context>,
    graphs: Vec<Graph>,
    models: Vec<(*mut tn_model, usize)>,
    sessions: Vec<Session>,
    /// What was shared, and its DLPack version.
    tensors: Vec<(*mut c_void, u32)>,
    messages: Vec<Vec<u8>>,
}

/// Files that models are loaded from.
fn models() -> &'static [&'static str; 3] {
    static MODELS: OnceLock<[&str; 3]> = OnceLock::new();
    MODELS.get_or_init(|| {
        let file = crate::gguf::File::llama(&mut Unstructured::new(&[])).expect("no choices left");
        let bytes = file.bytes();
        // What comes before the data is enough for a model without weights.
        for (name, len) in [("model.gguf", bytes.len()), ("head.gguf", 4000), ("not.gguf", 4)] {
            scratch::write(name, &bytes[..len]);
        }
        ["model.gguf", "head.gguf", "not.gguf"]
    })
}

/// Logs to nowhere.
unsafe extern "C" fn log(_: *mut c_void, message: *const c_char) {
    // SAFETY: the header: a text that lives during the call.
    let text = unsafe { std::ffi::CStr::from_ptr(message) };
    assert!(!text.is_empty());
}

/// Runs a program.
///
/// # Errors
/// None but those of reading choices; what was made is given back.
pub fn run(u: &mut Unstructured<'_>) -> Chosen<()> {
    let mut program = Program {
        u,
        texts: Texts::default(),
        heap: Box::default(),
        contexts: Vec::new(),
        graphs: Vec::new(),
        models: Vec::new(),
        sessions: Vec::new(),
        tensors: Vec::new(),
        messages: Vec::new(),
    };
    program.heap.left = (-1).into();
    let ran = program.body();
    program.end();
    ran
}

/// A handle of a list, or NULL.
fn pick<T>(u: &mut Unstructured<'_>, all: &[T]) -> Chosen<Option<usize>> {
    if all.is_empty() || rarely(u, 64)? { Ok(None) } else { u.choose_index(all.len()).map(Some) }
}

impl Program<'_, '_> {
    fn body(&mut self) -> Chosen<()> {
        self.context(true)?;
        for _ in 0..self.u.int_in_range(1..=40)? {
            if self.u.is_empty() {
                break;
            }
            match self.u.int_in_range(0..=15)? {
                0 => self.seldom()?,
                1..=5 => self.graph_call()?,
                6..=11 => self.session_call()?,
                _ => self.exchange_call()?,
            }
        }
        Ok(())
    }

    /// Looks at what a call came to. `context` is the one whose message tells.
    fn told(&mut self, status: tn_status, context: Option<usize>) -> bool {
        assert!((0..TN_ERROR_INTERNAL as i32).contains(&status), "status {status}");
        if status != TN_OK as i32 {
            let mut text = [0u8; 64];
            let handle = context.map_or(std::ptr::null_mut(), |at| self.contexts[at]);
            // SAFETY: a live context or NULL, and a buffer of its size.
            let size = unsafe { tn_error_message(handle, text.as_mut_ptr().cast(), text.len()) };
            assert!(text.contains(&0));
            assert!(size > 1 || handle.is_null(), "status {status} without a message");
        }
        status == TN_OK as i32
    }

    /// A context's handle and its number; NULL now and then, and where it was given back.
    fn any_context(&mut self) -> Chosen<(*mut tn_context, Option<usize>)> {
        let at = pick(self.u, &self.contexts)?.filter(|&at| !self.contexts[at].is_null());
        Ok((at.map_or(std::ptr::null_mut(), |at| self.contexts[at]), at))
    }

    /// Makes a context.
    fn context(&mut self, good: bool) -> Chosen<()> {
        let user = (&raw const *self.heap).cast_mut().cast();
        let mut allocator = tn_allocator {
            struct_size: size_of::<tn_allocator>(),
            user,
            allocate: Some(allocate),
            release: Some(release),
        };
        let isa = if good || !rarely(self.u, 4)? {
            std::ptr::null()
        } else {
            self.texts.give(self.u, "avx2")?
        };
        let backend = if good || !rarely(self.u, 4)? {
            std::ptr::null()
        } else {
            let name = *self.u.choose(&["cpu", "auto", "vulkan"])?;
            self.texts.give(self.u, name)?
        };
        let options = tn_context_options {
            struct_size: size_of::<tn_context_options>(),
            threads: if good { 1 } else { self.u.int_in_range(1..=2)? },
            isa,
            allocator: &raw mut allocator,
            log: Some(log),
            log_user: std::ptr::null_mut(),
            backend,
            calibrate: u32::from(!good && rarely(self.u, 64)?),
        };
        let mut made = std::ptr::null_mut();
        let status = if good {
            // SAFETY: good arguments.
            unsafe { tn_context_create(&raw const options, &raw mut made) }
        } else {
            let mut laid = Laid::new(self.u, options)?;
            let to = place(self.u, &mut made)?;
            // SAFETY: structs of their stated sizes.
            unsafe { tn_context_create(laid.pointer(), to) }
        };
        if self.told(status, None) {
            self.contexts.push(made);
        } else {
            assert!(made.is_null() && !good);
        }
        Ok(())
    }

    /// What programs do now and then.
    fn seldom(&mut self) -> Chosen<()> {
        match self.u.int_in_range(0..=9)? {
            0 if self.contexts.len() < 2 => self.context(false)?,
            1 => {
                // It stays in its place, so that numbers hold.
                let gone = rarely(self.u, 4)?;
                if let Some(at) = pick(self.u, &self.contexts)?.filter(|_| gone) {
                    let handle = std::mem::replace(&mut self.contexts[at], std::ptr::null_mut());
                    // SAFETY: given back once.
                    unsafe { tn_context_destroy(handle) };
                }
            }
            2 => {
                if let Some(at) = pick(self.u, &self.graphs)? {
                    let graph = self.graphs.swap_remove(at);
                    // SAFETY: given back once.
                    unsafe { tn_graph_destroy(graph.handle) };
                }
            }
            3 => {
                if let Some(at) = pick(self.u, &self.sessions)? {
                    let session = self.sessions.swap_remove(at);
                    // SAFETY: given back once.
                    unsafe { tn_session_destroy(session.handle) };
                }
            }
            4 => {
                if let Some(at) = pick(self.u, &self.models)? {
                    let (model, _) = self.models.swap_remove(at);
                    // SAFETY: given back once.
                    unsafe { tn_model_destroy(model) };
                }
            }
            5 => self.drop_tensor()?,
            6 => {
                let left = if rarely(self.u, 2)? { -1 } else { self.u.int_in_range(0..=30)? };
                self.heap.left.store(left, std::sync::atomic::Ordering::Relaxed);
            }
            7 => {
                let status = self.u.arbitrary()?;
                // SAFETY: any number is in order.
                assert!(!unsafe { tn_status_text(status) }.is_null());
                // SAFETY: as above.
                assert_eq!(unsafe { tn_version() }, abi::TN_VERSION);
            }
            _ => self.model()?,
        }
        Ok(())
    }

    /// Loads a model.
    fn model(&mut self) -> Chosen<()> {
        if self.models.len() > 1 {
            return Ok(());
        }
        let (context, at) = self.any_context()?;
        let path = self.u.choose(models())?;
        let path = self.texts.path(self.u, path)?;
        let mut made = std::ptr::null_mut();
        let to = place(self.u, &mut made)?;
        let is_empty = rarely(self.u, 2)?;
        // SAFETY: a live context or NULL, a text or NULL.
        let status = unsafe {
            if is_empty {
                tn_model_empty(context, path, to)
            } else {
                tn_model_load(context, path, to)
            }
        };
        if self.told(status, at) {
            reached("a model");
            self.models.push((made, at.unwrap_or_default()));
        } else {
            assert!(made.is_null());
        }
        Ok(())
    }

    fn drop_tensor(&mut self) -> Chosen<()> {
        if let Some(at) = pick(self.u, &self.tensors)? {
            let (tensor, major) = self.tensors.swap_remove(at);
            sessions::delete(tensor, major);
        }
        Ok(())
    }

    /// Gives everything back, in an order that the input chooses.
    fn end(&mut self) {
        let mut order = [0, 1, 2, 3, 4];
        for i in 0..order.len() {
            let other = self.u.choose_index(5).unwrap_or(i);
            order.swap(i, other);
        }
        for kind in order {
            // SAFETY: each is given back once; so often the header allows.
            unsafe {
                match kind {
                    0 => self.contexts.drain(..).for_each(|c| tn_context_destroy(c)),
                    1 => self.graphs.drain(..).for_each(|g| tn_graph_destroy(g.handle)),
                    2 => self.models.drain(..).for_each(|m| tn_model_destroy(m.0)),
                    3 => self.sessions.drain(..).for_each(|s| tn_session_destroy(s.handle)),
                    _ => self.tensors.drain(..).for_each(|(t, major)| sessions::delete(t, major)),
                }
            }
        }
        assert_eq!(
            self.heap.live.load(std::sync::atomic::Ordering::Relaxed),
            0,
            "bytes not given back"
        );
    }
}
