//! Launch classes as dispatches of shaders: pure data, without a call to Vulkan.
//!
//! One function a class makes everything: whether it is supported, the scratch it needs and its
//! dispatches come from the same pass, so that they cannot disagree. `None` on the way is "not
//! supported": the CPU runs it.

mod attention;
mod broadcast;
mod bytes;
mod cast;
mod codes;
mod conv;
mod elementwise;
mod gemm;
mod index;
mod loss;
mod narrow;
mod quant;
mod reduce;
mod row;
mod update;

use std::num::NonZero;
use std::ops::Range;

use tenon_kernels::unary::Unary;
use tenon_runtime::TensorDesc;
use tenon_runtime::backend::{Launch, Signature, Step};

use super::matrices::Matrices;
use super::shader::Shader;
use super::tier::{Tier, Tiers};

/// Where bytes lie: in memory number `slot`, of which 0 is the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The memory; or [`FOUND`].
    pub(super) slot: usize,
    /// Bytes from its start, a multiple of 64.
    pub(super) offset: usize,
    /// Bytes.
    pub(super) len: usize,
}

impl Place {
    /// The bytes from `at` on; `at` must be a multiple of 64.
    pub(super) fn from(self, at: usize) -> Self {
        Self { offset: self.offset + at, len: self.len - at, ..self }
    }

    /// The first `len` bytes.
    pub(super) fn first(self, len: usize) -> Self {
        Self { len, ..self }
    }
}

/// The slot of what a program's checks find, which is no memory of the runtime's.
pub(super) const FOUND: usize = usize::MAX;

/// What a shader does with a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads it.
    Read,
    /// Writes it, all or in part.
    Write,
    /// Both.
    ReadWrite,
}

/// A storage buffer of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    /// Where it lies.
    pub(super) place: Place,
    /// What is done with it.
    pub(super) access: Access,
}

/// One dispatch of a shader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dispatch {
    /// The shader.
    pub(super) shader: Shader,
    /// Specialization constants 0 and on; constant 0 is the number of invocations.
    pub(super) constants: Vec<u32>,
    /// Push constants behind the eight offsets; at most [`MAX_PARAMS`].
    pub(super) params: Vec<u32>,
    /// Buffers 0 and on, as many as the shader declares.
    pub(super) bindings: Vec<Binding>,
    /// Workgroups.
    pub(super) groups: [u32; 3],
}

/// What is right or wrong as one: a shader, and which of its specialization constants make it another.
pub(super) type Kernel = (Shader, Vec<u32>);

impl Dispatch {
    /// What of a device it relies on. Of the baseline a shader with its constant 1, which says most of
    /// what it does, and each function of elements, in chains, too; of a tier above a shader with all
    /// constants, for what it stands in for is at hand.
    pub(super) fn kernels(&self) -> Vec<Kernel> {
        let of = |function| (Shader::Elementwise, vec![function]);
        let functions = || elementwise::functions(&self.constants).map(of);
        match self.shader {
            Shader::Elementwise => functions().collect(),
            Shader::Chain => functions().chain([(Shader::Chain, Vec::new())]).collect(),
            shader if shader.tier() == Tier::Baseline => {
                vec![(shader, self.constants.iter().skip(1).take(1).copied().collect())]
            }
            shader => vec![(shader, self.constants.clone())],
        }
    }
}

/// The kernel of `erf`.
pub(super) fn erf() -> Kernel {
    (Shader::Elementwise, vec![elementwise::function(Unary::Erf)])
}

/// Words of push constants that a shader has for itself.
pub(super) const MAX_PARAMS: usize = 24;

/// What a device allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most bytes of a binding.
    pub(super) max_binding: usize,
    /// What it can do beyond the baseline.
    pub(super) tiers: Tiers,
    /// What its subgroups multiply.
    pub(super) matrices: Option<Matrices>,
}

impl Limits {
    /// Bytes of a piece of what no binding takes as a whole: it fits wherever it begins, though
    /// bindings may have to begin up to 256 bytes before.
    fn piece(&self) -> usize {
        self.max_binding.saturating_sub(256)
    }
}

/// Ranges of `count`, each of at most so many; `None` where that is none.
fn ranges(count: usize, most: usize) -> Option<impl Iterator<Item = Range<usize>>> {
    let starts = (0..count).step_by(NonZero::new(most)?.get());
    Some(starts.map(move |start| start..count.min(start + most)))
}

/// A launch as dispatches.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// In the order in which they run; each sees what those before it wrote.
    pub(super) dispatches: Vec<Dispatch>,
    /// Scratch bytes.
    pub(super) workspace: usize,
}

/// The dispatches of a launch on operands of these descriptions, at the places of `step` where there
/// is one; `None` where it is not supported.
pub(super) fn plan(limits: &Limits, signature: Signature<'_>, step: Option<&Step>) -> Option<Plan> {
    let operands = |descs: &[&TensorDesc], of: &dyn Fn(&Step, usize) -> (usize, usize)| {
        let place = |i: usize, desc: &TensorDesc| {
            let (slot, offset) = step.map_or((0, 0), |step| of(step, i));
            Place { slot, offset, len: desc.bytes() }
        };
        descs.iter().enumerate().map(|(i, desc)| place(i, desc)).collect()
    };
    let mut job = Job {
        limits,
        signature,
        inputs: operands(signature.inputs, &|s, i| (s.inputs[i].slot, s.inputs[i].offset)),
        outputs: operands(signature.outputs, &|s, i| (s.outputs[i].slot, s.outputs[i].offset)),
        scratch: step.map_or(0, |step| step.workspace.0),
        taken: 0,
        plan: Plan::default(),
    };
    job.launch()?;
    Some(job.plan)
}

/// Invocations of a workgroup where nothing else is chosen.
pub(super) const LANES: u32 = 256;

/// A launch on its way to dispatches.
struct Job<'a> {
    limits: &'a Limits,
    signature: Signature<'a>,
    inputs: Vec<Place>,
    outputs: Vec<Place>,
    /// Where in the arena the scratch begins.
    scratch: usize,
    /// Bytes of it that are taken at the moment.
    taken: usize,
    plan: Plan,
}

impl Job<'_> {
    /// One arm a launch class.
    fn launch(&mut self) -> Option<()> {
        match self.signature.launch {
            Launch::Unary(op) => elementwise::unary(self, *op),
            Launch::Binary(op) => elementwise::binary(self, *op),
            Launch::Select => elementwise::select(self),
            Launch::Fused(program) => elementwise::fused(self, program),
            Launch::Cast => cast::launch(self),
            Launch::Dropout { keep, stream } => cast::dropout(self, *keep, *stream),
            Launch::Noise { scale, seed, stream } => cast::noise(self, *scale, *seed, *stream),
            Launch::Reduce { kind, axes } => reduce::launch(self, *kind, axes),
            Launch::Norm => reduce::norm(self),
            Launch::ClipScale { max_norm } => reduce::clip_scale(self, *max_norm),
            Launch::Move { fill, copies } => index::movement(self, *fill, copies),
            Launch::Gather => index::gather(self),
            Launch::ScatterAdd => index::scatter_add(self),
            Launch::Dequantize => index::dequantize(self),
            Launch::Update(kind) => update::launch(self, kind),
            Launch::Conv(conv) => conv::launch(self, conv),
            Launch::Bytes { trans_b } => bytes::launch(self, *trans_b),
            Launch::Quantize(format) => quant::encode(self, *format),
            Launch::RoundTrip(format) => quant::round_trip(self, *format),
            Launch::Row(kind) => row::launch(self, kind),
            Launch::Gemm(spec) => gemm::launch(self, spec),
            Launch::LinearLoss(spec) => loss::linear(self, spec),
            Launch::Attention(shape) => attention::launch(self, shape),
            Launch::AttentionGrad(shape) => attention::grad(self, shape),
            _ => None,
        }
    }

    /// Input `i`'s description.
    fn input(&self, i: usize) -> &TensorDesc {
        self.signature.inputs[i]
    }

    /// Output `i`'s description.
    fn output(&self, i: usize) -> &TensorDesc {
        self.signature.outputs[i]
    }

    /// Reads input `i`.
    fn reads(&self, i: usize) -> Binding {
        read(self.inputs[i])
    }

    /// Writes output `i`.
    fn writes(&self, i: usize) -> Binding {
        write(self.outputs[i])
    }

    /// Takes so many words of scratch.
    fn scratch(&mut self, words: usize) -> Place {
        let offset = self.scratch + self.taken;
        self.taken += (words * 4).next_multiple_of(64);
        self.plan.workspace = self.plan.workspace.max(self.taken);
        Place { slot: 0, offset, len: words * 4 }
    }

    /// Adds a dispatch of `groups` workgroups, folded into two dimensions.
    fn run(
        &mut self,
        shader: Shader,
        constants: &[u32],
        params: &[u32],
        bindings: &[Binding],
        groups: usize,
    ) -> Option<()> {
        const MOST: usize = 65535;
        let down = groups.div_ceil(MOST).max(1);
        let groups = [groups.div_ceil(down), down, 1];
        self.grid(shader, constants, params, bindings, groups)
    }

    /// Adds a dispatch, of what stands in for the shader on this device.
    fn grid(
        &mut self,
        shader: Shader,
        constants: &[u32],
        params: &[u32],
        bindings: &[Binding],
        groups: [usize; 3],
    ) -> Option<()> {
        let shader = shader.on(self.limits.tiers);
        debug_assert!(bindings.len() <= shader.bindings() && params.len() <= MAX_PARAMS);
        let mut bindings = bindings.to_vec();
        // What a shader declares must be bound, used or not.
        let spare = *bindings.iter().find(|b| b.access != Access::Read).unwrap_or(&bindings[0]);
        bindings.resize(shader.bindings(), spare);
        for (i, binding) in bindings.iter_mut().enumerate() {
            if binding.access == Access::Read && shader.may_write(i) {
                binding.access = Access::ReadWrite;
            }
        }
        let fits = |n: &usize| *n <= 65535;
        if bindings.iter().any(|b| b.place.len > self.limits.max_binding)
            || !groups.iter().all(fits)
        {
            return None;
        }
        if groups.contains(&0) {
            return Some(());
        }
        self.plan.dispatches.push(Dispatch {
            shader,
            constants: constants.to_vec(),
            params: params.to_vec(),
            bindings,
            groups: groups.map(|n| n as u32),
        });
        Some(())
    }
}

/// A binding that is read.
fn read(place: Place) -> Binding {
    Binding { place, access: Access::Read }
}

/// A binding that is written.
fn write(place: Place) -> Binding {
    Binding { place, access: Access::Write }
}

/// A binding that is read and written.
fn update(place: Place) -> Binding {
    Binding { place, access: Access::ReadWrite }
}

/// A count as a parameter.
fn word(n: usize) -> Option<u32> {
    u32::try_from(n).ok()
}
