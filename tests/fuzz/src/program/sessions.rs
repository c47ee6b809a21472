//! Calls that plan, make and run sessions.

use std::ffi::{CStr, c_char, c_void};

use tenon::abi::*;

use super::arguments::{Buffer, Laid, place};
use super::{Program, Session, pick};
use crate::reach::reached;
use crate::{Chosen, SIZES, rarely};

/// What DLPack 1.0 puts before the tensor, and what was before it behind the tensor.
#[repr(C)]
struct Versioned {
    version: [u32; 2],
    manager: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut c_void)>,
}

#[repr(C)]
struct Unversioned {
    tensor: [u64; 6],
    manager: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut c_void)>,
}

/// Gives a shared tensor back.
pub(super) fn delete(tensor: *mut c_void, major: u32) {
    // SAFETY: a struct of that version by `tn_session_dlpack`, given back once.
    unsafe {
        let deleter = if major == 1 {
            (*tensor.cast::<Versioned>()).deleter
        } else {
            (*tensor.cast::<Unversioned>()).deleter
        };
        deleter.expect("Tenon's have one")(tensor);
    }
}

/// What `progress` is told of by its caller.
struct Watcher {
    context: *mut tn_context,
    left: i64,
}

/// Stops the run after so many calls; calls back into the context, which is allowed.
unsafe extern "C" fn progress(user: *mut c_void, done: u64, total: u64) -> i32 {
    assert!(done < total);
    // SAFETY: a watcher, as told.
    let watcher = unsafe { &mut *user.cast::<Watcher>() };
    let (mut sum, update) = ([1.0f32; 3], [2.0f32; 3]);
    // SAFETY: a live context or NULL, vectors of the length told.
    let status = unsafe {
        tn_update_accumulate(watcher.context, 1.0, update.as_ptr(), sum.as_mut_ptr(), sum.len())
    };
    assert_eq!(status == TN_OK as i32, !watcher.context.is_null());
    watcher.left -= 1;
    i32::from(watcher.left == 0)
}

impl Program<'_, '_> {
    /// A session's number, handle and context; NULL now and then.
    pub(super) fn any_session(
        &mut self,
    ) -> Chosen<(Option<usize>, *mut tn_session, Option<usize>)> {
        let at = pick(self.u, &self.sessions)?;
        let session = at.map(|at| &self.sessions[at]);
        let handle = session.map_or(std::ptr::null_mut(), |session| session.handle);
        Ok((at, handle, session.map(|session| session.context)))
    }

    fn train_options(&mut self) -> Chosen<Laid> {
        let u = &mut *self.u;
        // SAFETY: zeros are a value.
        let mut o: tn_train_options = unsafe { std::mem::zeroed() };
        o.struct_size = size_of::<tn_train_options>();
        for _ in 0..u.int_in_range(0..=4)? {
            let number = if rarely(u, 16)? { u.arbitrary()? } else { 0.5f32 };
            let small = if rarely(u, 16)? { u.arbitrary()? } else { u.int_in_range(0..=2)? };
            match u.int_in_range(0..=23)? {
                0 => o.optimizer = small,
                1 => o.lr = number,
                2 => o.weight_decay = number,
                3 => o.beta1 = number,
                4 => o.eps = number,
                5 => o.momentum = number,
                6 => o.nesterov = small,
                7 => o.schedule = small,
                8 => (o.warmup_steps, o.total_steps) = (u.arbitrary()?, u.arbitrary()?),
                9 | 10 => o.clip_norm = number,
                11 => o.accumulation = u.int_in_range(0..=3)?,
                12 => o.keep_gradients = small,
                13 => o.memory_budget = *u.choose(SIZES)?,
                14 => o.state = small,
                15 => o.clipping = small,
                16 => {
                    o.memory_budget = u.int_in_range(200..=9000)?;
                    o.spill_folder = self.texts.path(u, "")?;
                }
                17 => o.proximal = number,
                18 => o.control_variates = small,
                19 => o.outer_lr = number,
                20 => o.outer_momentum = number,
                21 => {
                    (o.sample_clip_norm, o.noise_multiplier, o.noise_seed) = (number, number, 3);
                    o.samples = u.int_in_range(0..=4)?;
                }
                22 => o.stage_inputs = small,
                _ => o.accumulation = u.arbitrary()?,
            }
        }
        Laid::new(u, o)
    }

    fn model_options(&mut self) -> Chosen<(Laid, usize)> {
        let u = &mut *self.u;
        // SAFETY: zeros are a value.
        let mut o: tn_model_options = unsafe { std::mem::zeroed() };
        o.struct_size = size_of::<tn_model_options>();
        (o.batch, o.seq) = (u.int_in_range(1..=2)?, u.int_in_range(1..=4)?);
        for _ in 0..u.int_in_range(0..=3)? {
            let small = if rarely(u, 16)? { u.arbitrary()? } else { u.int_in_range(0..=2)? };
            match u.int_in_range(0..=9)? {
                0 => o.trains = small,
                1 => o.lora_rank = u.int_in_range(0..=5)?,
                2 => o.lora_alpha = u.arbitrary()?,
                3 => o.lora_targets = self.texts.give(u, "q_proj, down_proj")?,
                4 => o.precision = small,
                5 => o.logits = small,
                6 => o.exits = self.texts.give(u, "1")?,
                7 => {
                    (o.first_layer, o.end_layer) = (u.int_in_range(0..=1)?, u.int_in_range(0..=2)?)
                }
                8 => o.wire = u.int_in_range(0..=17)?,
                _ => (o.batch, o.seq) = (*u.choose(SIZES)? as u32, *u.choose(SIZES)? as u32),
            }
        }
        let tokens = (o.batch as usize).saturating_mul(o.seq as usize);
        Ok((Laid::new(u, o)?, tokens.min(1 << 10)))
    }

    pub(super) fn session_call(&mut self) -> Chosen<()> {
        if self.sessions.is_empty() {
            return self.make();
        }
        match self.u.int_in_range(0..=19)? {
            0 | 1 => self.make(),
            2 | 3 => {
                let at = self.u.choose_index(self.sessions.len())?;
                self.feed(at)
            }
            4..=7 => self.run(),
            8 => self.budget(),
            9..=11 => self.copy(),
            12 => self.share(),
            13 => self.describe(),
            14 | 15 => self.all(),
            16 | 17 => self.round(),
            _ => self.file(),
        }
    }

    /// A session of a graph or a model, or the plan of one.
    fn make(&mut self) -> Chosen<()> {
        if self.models.is_empty() && rarely(self.u, 2)? {
            self.model()?;
        }
        let only_plan = rarely(self.u, 8)? || self.sessions.len() > 3;
        // SAFETY: zeros are a value.
        let mut plan = Laid::new(self.u, unsafe { std::mem::zeroed::<tn_plan>() })?;
        let mut made = std::ptr::null_mut();
        let to = place(self.u, &mut made)?;
        let mut options = self.train_options()?;
        let mut inputs = Vec::new();
        let (status, context) = if rarely(self.u, 2)? {
            let at = pick(self.u, &self.models)?;
            let context = at.map(|at| self.models[at].1);
            let model = at.map_or(std::ptr::null_mut(), |at| self.models[at].0);
            let (mut how, tokens) = self.model_options()?;
            inputs.extend(["tokens", "targets"].map(|name| (name.to_owned(), 4 * tokens)));
            inputs.push(("hidden/1".to_owned(), 4 * 32 * tokens));
            // SAFETY: a live model or NULL, structs of the sizes they state.
            let status = unsafe {
                if only_plan {
                    tn_plan_model(model, how.pointer(), options.pointer(), plan.pointer())
                } else {
                    tn_session_from_model(model, how.pointer(), options.pointer(), to)
                }
            };
            (status, context)
        } else {
            let at = pick(self.u, &self.graphs)?;
            let graph = at.map(|at| &self.graphs[at]);
            let losses = graph.map_or(&[][..], |graph| &graph.losses[..]);
            let loss = match self.u.int_in_range(0..=15)? {
                15 => TN_NO_VALUE,
                14 => self.u.int_in_range(0..=20)?,
                _ => losses.first().copied().unwrap_or(0),
            };
            let context = graph.map(|graph| graph.context);
            let handle = graph.map_or(std::ptr::null_mut(), |graph| graph.handle);
            // SAFETY: a live graph or NULL, structs of the sizes they state.
            let status = unsafe {
                if only_plan {
                    tn_plan_graph(handle, loss, options.pointer(), plan.pointer())
                } else {
                    tn_session_create(handle, loss, options.pointer(), to)
                }
            };
            (status, context)
        };
        if self.told(status, context) && !only_plan {
            reached("a session");
            let context = context.unwrap_or_default();
            self.sessions.push(Session { handle: made, context, inputs });
            // Without, there is little that it does.
            if !rarely(self.u, 8)? {
                self.feed(self.sessions.len() - 1)?;
            }
        } else {
            assert!(made.is_null());
        }
        Ok(())
    }

    /// Writes inputs, all of a good size for the most part.
    fn feed(&mut self, at: usize) -> Chosen<()> {
        let Session { handle: session, context, ref inputs } = self.sessions[at];
        let mut inputs = inputs.clone();
        if inputs.is_empty() {
            inputs = self.sizes(session);
        }
        for (name, size) in inputs {
            let name = self.texts.give(self.u, &name)?;
            let mut data = Buffer::new(self.u, size, 1)?;
            let staged = rarely(self.u, 4)?;
            let call = if staged { tn_session_stage } else { tn_session_write };
            // SAFETY: a live session or NULL, as many bytes as told.
            let status = unsafe { call(session, name, data.pointer(), data.len()) };
            self.told(status, Some(context));
            if staged {
                // SAFETY: as above.
                let status = unsafe { tn_session_take(session) };
                self.told(status, Some(context));
            }
        }
        Ok(())
    }

    /// Names and bytes of a network's inputs, by DLPack.
    fn sizes(&mut self, session: *mut tn_session) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        for name in [c"x", c"targets"] {
            let mut tensor = std::ptr::null_mut();
            // SAFETY: a live session or NULL.
            let status = unsafe { tn_session_dlpack(session, name.as_ptr(), 0, &raw mut tensor) };
            if status != TN_OK as i32 {
                continue;
            }
            // SAFETY: a tensor of four-byte elements, of version 0: its rank lies behind data and device.
            let size = unsafe {
                let words = (*tensor.cast::<Unversioned>()).tensor;
                let (rank, dims) = ((words[2] as u32) as usize, words[3] as *const i64);
                4 * std::slice::from_raw_parts(dims, rank).iter().product::<i64>() as usize
            };
            delete(tensor, 0);
            found.push((name.to_string_lossy().into_owned(), size));
        }
        found
    }

    /// A step, an evaluation, or the first part of a step.
    fn run(&mut self) -> Chosen<()> {
        let (_, session, context) = self.any_session()?;
        let handle = context.map_or(std::ptr::null_mut(), |at| self.contexts[at]);
        let left = if rarely(self.u, 4)? { self.u.int_in_range(1..=9)? } else { -1 };
        let mut watcher = Watcher { context: handle, left };
        // SAFETY: zeros are a value.
        let mut options: tn_run_options = unsafe { std::mem::zeroed() };
        options.struct_size = size_of::<tn_run_options>();
        if rarely(self.u, 2)? {
            options.progress = Some(progress);
            options.progress_user = (&raw mut watcher).cast();
        }
        if rarely(self.u, 16)? {
            options.trace_file = self.texts.path(self.u, "trace")?;
        }
        let mut options = Laid::new(self.u, options)?;
        let mut loss = 0f32;
        let to = place(self.u, &mut loss)?;
        // SAFETY: zeros are a value.
        let mut report = Laid::new(self.u, unsafe { std::mem::zeroed::<tn_report>() })?;
        // SAFETY: a live session or NULL, structs of the sizes they state.
        let (status, what) = unsafe {
            match self.u.int_in_range(0..=3)? {
                3 => (tn_session_forward(session, options.pointer()), "a first part"),
                2 => (tn_session_evaluate(session, options.pointer(), to), "an evaluation"),
                _ => (tn_session_step(session, options.pointer(), report.pointer()), "a step"),
            }
        };
        if self.told(status, context) {
            reached(what);
        }
        Ok(())
    }

    fn budget(&mut self) -> Chosen<()> {
        let (_, session, context) = self.any_session()?;
        let budget = if rarely(self.u, 4)? {
            *self.u.choose(SIZES)?
        } else {
            self.u.int_in_range(0..=9000)?
        };
        // SAFETY: a live session or NULL.
        let status = unsafe { tn_session_set_memory_budget(session, budget) };
        if self.told(status, context) {
            reached("another budget");
        }
        Ok(())
    }

    /// Reads or writes something by name.
    fn copy(&mut self) -> Chosen<()> {
        let (_, session, context) = self.any_session()?;
        let mut sizes = vec![("loss".to_owned(), 4), ("train.lr".to_owned(), 4)];
        sizes.extend(self.sizes(session));
        let (name, size) = self.u.choose(&sizes)?.clone();
        let name = if rarely(self.u, 4)? {
            self.texts.name(self.u)?
        } else {
            self.texts.give(self.u, &name)?
        };
        let mut data = Buffer::new(self.u, size, 1)?;
        // SAFETY: a live session or NULL, as many bytes as told.
        let status = unsafe {
            if rarely(self.u, 4)? {
                tn_session_write(session, name, data.pointer(), data.len())
            } else {
                tn_session_read(session, name, data.pointer(), data.len())
            }
        };
        self.told(status, context);
        Ok(())
    }

    fn share(&mut self) -> Chosen<()> {
        let (_, session, context) = self.any_session()?;
        let name = self.texts.name(self.u)?;
        let major = self.u.int_in_range(0..=2)?;
        let mut tensor = std::ptr::null_mut();
        let to = place(self.u, &mut tensor)?;
        // SAFETY: a live session or NULL.
        let status = unsafe { tn_session_dlpack(session, name, major, to) };
        if self.told(status, context) {
            reached("a tensor shared");
            self.tensors.push((tensor, major));
        } else {
            assert!(tensor.is_null());
        }
        Ok(())
    }

    fn describe(&mut self) -> Chosen<()> {
        let (_, session, context) = self.any_session()?;
        let (mut count, mut trains) = (0, 0);
        let (to, trains_to) = (place(self.u, &mut count)?, place(self.u, &mut trains)?);
        // SAFETY: a live session or NULL.
        let status = unsafe { tn_session_parameter_count(session, to, trains_to) };
        self.told(status, context);
        // SAFETY: zeros are a value.
        let mut plan = Laid::new(self.u, unsafe { std::mem::zeroed::<tn_plan>() })?;
        // SAFETY: a live session or NULL, a struct of the size it states.
        let status = unsafe { tn_session_plan(session, plan.pointer()) };
        self.told(status, context);
        let index = self.u.int_in_range(0..=count)?;
        // SAFETY: zeros are a value.
        let mut known: tn_parameter = unsafe { std::mem::zeroed() };
        known.struct_size = size_of::<tn_parameter>();
        // SAFETY: as above.
        let status = unsafe { tn_session_parameter(session, index, &raw mut known) };
        if self.told(status, context) {
            // SAFETY: it belongs to the session.
            let name = unsafe { CStr::from_ptr(known.name) }.to_string_lossy().into_owned();
            let name = self.texts.give(self.u, &name)?;
            let mut data = Buffer::new(self.u, known.size as usize, 1)?;
            // SAFETY: as many bytes as told.
            let status = unsafe { tn_session_read(session, name, data.pointer(), data.len()) };
            self.told(status, context);
        }
        Ok(())
    }

    /// All that trains, or what is kept beside it, as one buffer.
    fn all(&mut self) -> Chosen<()> {
        let (_, session, context) = self.any_session()?;
        let mut size = 0;
        let to = place(self.u, &mut size)?;
        // SAFETY: a live session or NULL.
        let status = unsafe { tn_session_trainable_size(session, to) };
        self.told(status, context);
        let mut data = Buffer::new(self.u, size, 1)?;
        let (pointer, len) = (data.pointer::<c_void>(), data.len());
        let kept = self.u.int_in_range(-1..=4)?;
        // SAFETY: as many bytes as told.
        let status = unsafe {
            match self.u.int_in_range(0..=4)? {
                0 => tn_session_get_trainable(session, pointer, len),
                1 => tn_session_set_trainable(session, pointer, len),
                2 => tn_session_get_gradients(session, pointer, len),
                3 => tn_session_get_kept(session, kept, pointer, len),
                _ => tn_session_set_kept(session, kept, pointer, len),
            }
        };
        self.told(status, context);
        Ok(())
    }

    fn round(&mut self) -> Chosen<()> {
        let (_, session, context) = self.any_session()?;
        // SAFETY: a live session or NULL.
        let status = unsafe {
            match self.u.int_in_range(0..=2)? {
                0 => tn_session_begin_round(session),
                1 => tn_session_renew_control(session),
                _ => tn_session_outer_step(session),
            }
        };
        if self.told(status, context) {
            reached("a round");
        }
        Ok(())
    }

    /// Saves, or loads what some session has saved.
    fn file(&mut self) -> Chosen<()> {
        let (_, session, context) = self.any_session()?;
        let name = *self.u.choose(&["saved", "saved too", "none/here"])?;
        let path = self.texts.path(self.u, name)?;
        if rarely(self.u, 2)? {
            let mut note: *const c_char = std::ptr::null();
            let to = place(self.u, &mut note)?;
            // SAFETY: a live session or NULL.
            let status = unsafe { tn_session_load(session, path, to) };
            if self.told(status, context) {
                reached("a load");
            }
            if !note.is_null() {
                // SAFETY: it belongs to the session.
                std::hint::black_box(unsafe { CStr::from_ptr(note) }.to_bytes().len());
            }
        } else {
            let note = self.texts.name(self.u)?;
            // SAFETY: as above.
            let status = unsafe { tn_session_save(session, path, note) };
            self.told(status, context);
        }
        Ok(())
    }
}
