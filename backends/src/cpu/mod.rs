//! The CPU backend: kernels over a thread pool.
//!
//! One file a launch class. A launcher cuts its work into tasks by shape alone, so the bits are
//! the same at any thread count.

mod args;
mod attention;
mod binary;
mod bytes;
mod caches;
mod cast;
mod conv;
mod dropout;
mod fused;
mod gemm;
mod index;
mod linear_loss;
mod movement;
mod noise;
mod pool;
mod quant;
mod reduce;
mod row;
mod scratch;
mod select;
mod thread;
mod unary;
mod update;

use std::num::NonZero;
use std::sync::Arc;

use args::Args;
pub use caches::detect as caches;
pub use pool::Pool;
use tenon_kernels::Isa;
use tenon_kernels::gemm::Caches;
use tenon_runtime::backend::{Backend, Device, Launch, Memory, Part, Program, Signature, Step};
use tenon_runtime::federated::Workers;
use tenon_runtime::tensor::{Allocator, SystemAllocator};
use tenon_runtime::{Error, Result};

/// How a [`Cpu`] is set up.
#[derive(Clone, Default)]
pub struct Options {
    /// Threads, the caller among them; the machine's cores where `None`.
    pub threads: Option<NonZero<usize>>,
    /// Instruction-set level; `TENON_ISA` or the best where `None`.
    pub isa: Option<Isa>,
    /// Where tensor memory comes from; the process's allocator where `None`.
    pub allocator: Option<Arc<dyn Allocator>>,
}

/// See the [module](self).
#[derive(Clone)]
pub struct Cpu {
    context: Arc<Context>,
    allocator: Arc<dyn Allocator>,
}

/// What every launcher has at hand.
struct Context {
    isa: Isa,
    caches: Caches,
    pool: Pool,
}

impl Cpu {
    /// A CPU backend.
    ///
    /// # Errors
    /// [`Error::Device`] where `TENON_ISA` names a level that is not there.
    pub fn new(options: Options) -> Result<Self> {
        let isa = match options.isa {
            Some(isa) => isa,
            None => Isa::from_env()
                .map_err(|e| Error::Device { backend: "cpu", why: format!("TENON_ISA: {e}") })?,
        };
        let threads = options.threads.unwrap_or_else(|| {
            std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
        });
        Ok(Self {
            context: Arc::new(Context { isa, caches: caches(), pool: Pool::new(threads) }),
            allocator: options.allocator.unwrap_or_else(|| Arc::new(SystemAllocator)),
        })
    }

    /// The instruction-set level in use.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.context.isa
    }
}

impl Workers for Cpu {
    fn isa(&self) -> Isa {
        self.context.isa
    }

    fn run(&self, tasks: usize, body: &(dyn Fn(usize) + Sync)) {
        self.context.pool.run(tasks, &|task, _| body(task));
    }
}

impl Backend for Cpu {
    fn describe(&self) -> Device {
        Device {
            backend: "cpu",
            name: std::env::consts::ARCH.to_owned(),
            level: self.context.isa.name().to_owned(),
            parallelism: self.context.pool.threads(),
        }
    }

    fn allocator(&self) -> &dyn Allocator {
        &*self.allocator
    }

    fn supports(&self, signature: Signature<'_>) -> bool {
        self.context.supports(signature)
    }

    fn workspace(&self, signature: Signature<'_>) -> usize {
        self.context.workspace(signature)
    }

    fn compile(&self, part: Part<'_>) -> Result<Box<dyn Program>> {
        Ok(Box::new(Steps { context: self.context.clone(), steps: part.steps }))
    }
}

struct Steps {
    context: Arc<Context>,
    steps: Vec<Step>,
}

impl Program for Steps {
    unsafe fn launch(&mut self, index: usize, memory: &Memory) -> Result<()> {
        let step = &self.steps[index];
        // SAFETY: the caller's contract is the same.
        let args = unsafe { Args::new(step, memory) };
        let done = self.context.launch(&step.launch, args);
        for i in 0..args.inputs() {
            args.release(i, 0..usize::MAX);
        }
        done
    }
}

impl Context {
    /// One arm a launch class; `unary::launch` and its like live in the class's file.
    fn launch(&self, launch: &Launch, args: Args<'_>) -> Result<()> {
        match *launch {
            Launch::Unary(op) => unary::launch(self, op, args),
            Launch::Binary(op) => return binary::launch(self, op, args),
            Launch::Select => return select::launch(self, args),
            Launch::Cast => return cast::launch(self, args),
            Launch::Fused(ref program) => fused::launch(self, program, args),
            Launch::Attention(ref shape) => attention::launch(self, shape, args),
            Launch::AttentionGrad(ref shape) => attention::launch_grad(self, shape, args),
            Launch::Conv(ref conv) => conv::launch(self, conv, args),
            Launch::Row(ref kind) => return row::launch(self, kind, args),
            Launch::Reduce { kind, ref axes } => reduce::launch(self, kind, axes, args),
            Launch::Norm => reduce::norm(self, args),
            Launch::ClipScale { max_norm } => reduce::clip_scale(max_norm, args),
            Launch::Update(ref kind) => update::launch(self, kind, args),
            Launch::Dropout { keep, stream } => dropout::launch(self, keep, stream, args),
            Launch::Noise { scale, seed, stream } => noise::launch(self, scale, seed, stream, args),
            Launch::Gemm(ref spec) => gemm::launch(self, spec, args),
            Launch::Bytes { trans_b } => bytes::launch(self, trans_b, args),
            Launch::LinearLoss(ref spec) => return linear_loss::launch(self, spec, args),
            Launch::Move { fill, ref copies } => movement::launch(self, fill, copies, args),
            Launch::Gather => return index::gather(self, args),
            Launch::ScatterAdd => return index::scatter_add(self, args),
            Launch::Quantize(format) => quant::encode(self, format, args),
            Launch::Dequantize => return quant::decode(self, args),
            Launch::RoundTrip(format) => quant::round_trip(self, format, args),
            _ => return Err(args.unsupported(&format_args!("{launch:?}"))),
        }
        Ok(())
    }

    /// The CPU takes everything: it is what other backends fall back to.
    fn supports(&self, _: Signature<'_>) -> bool {
        true
    }

    /// Scratch bytes a launch needs; one arm a class that needs any.
    fn workspace(&self, signature: Signature<'_>) -> usize {
        match signature.launch {
            Launch::Attention(shape) => attention::workspace(self, shape),
            Launch::AttentionGrad(shape) => attention::workspace_grad(self, shape),
            Launch::Conv(conv) => conv::workspace(self, conv),
            Launch::Fused(program) => fused::workspace(self, program),
            Launch::Row(kind) => row::workspace(kind, signature),
            Launch::Norm => reduce::norm_workspace(signature),
            Launch::Gemm(spec) => gemm::workspace(self, spec, signature),
            Launch::Bytes { trans_b } => bytes::workspace(self, *trans_b, signature),
            Launch::LinearLoss(spec) => linear_loss::workspace(self, spec, signature),
            _ => 0,
        }
    }
}
