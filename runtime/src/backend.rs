//! What a device must offer, and the launch classes it is driven by.
//!
//! A backend launches by class, not by op, so op x backend does not multiply: an op says in
//! [`crate::ops::Op::launch`] which class with which parameters it is, and shapes come with the
//! operands.

use std::ops::Range;
use std::sync::Arc;

use tenon_kernels::attention::Attention;
use tenon_kernels::binary::Binary;
use tenon_kernels::conv::Conv;
use tenon_kernels::fused::Instruction;
use tenon_kernels::gemm::Precision;
use tenon_kernels::movement::StridedCopy;
use tenon_kernels::quant::Format;
use tenon_kernels::reduce::Reduce;
use tenon_kernels::row::rope::Layout;
use tenon_kernels::unary::Unary;

use crate::error::Result;
use crate::ops::{Cost, Op};
use crate::tensor::{Allocator, Storage, TensorDesc};
use crate::train::{Moments, States};

/// What a node asks of a backend.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Launch {
    /// Output 0 is input 0's bytes; nothing runs.
    Alias,
    /// `y[i] = f(x[i])`.
    Unary(Unary),
    /// `z[i] = f(x[i], y[i])` with broadcasting.
    Binary(Binary),
    /// One of inputs 1 and 2 by whether input 0 is not zero, with broadcasting.
    Select,
    /// The input's values in the output's element type.
    Cast,
    /// A chain of the three above in one pass; operands have the output's shape or one element.
    Fused(Arc<[Instruction]>),
    /// Reduction along sorted axes.
    Reduce {
        /// Which reduction.
        kind: Reduce,
        /// The axes it runs over, sorted.
        axes: Vec<usize>,
    },
    /// Boxes of inputs, by number, copied into output 0, in which all else is `fill`.
    Move {
        /// What output 0, then f32, is filled with first; absent where the copies cover it.
        fill: Option<f32>,
        /// Input numbers and what is copied of them where.
        copies: Vec<(usize, StridedCopy)>,
    },
    /// Rows of input 0, decoded, by the numbers in input 1.
    Gather,
    /// Zeros with the rows of input 0 added at the numbers in input 1.
    ScatterAdd,
    /// Input 0 encoded in a weight format.
    Quantize(Format),
    /// Input 0 decoded.
    Dequantize,
    /// Input 0 encoded and decoded again.
    RoundTrip(Format),
    /// Attention of `q, k, v` and perhaps an additive mask; gives `out, lse`.
    Attention(Attention),
    /// Its gradients `dq, dk, dv` from `q, k, v, out, dout, lse` and perhaps the mask.
    AttentionGrad(Attention),
    /// Convolution, pooling or batch statistics.
    Conv(Conv),
    /// A kernel over rows of the last axis.
    Row(Row),
    /// An optimizer's step, or an accumulation.
    Update(Update),
    /// The L2 norm of all inputs together.
    Norm,
    /// The factor that clips to a norm, from the norm and the factor so far.
    ClipScale {
        /// The largest norm.
        max_norm: f32,
    },
    /// Dropout of input 0 with seed input 1.
    Dropout {
        /// Probability that an element stays.
        keep: f32,
        /// Number of this dropout in its graph.
        stream: u32,
    },
    /// Normal numbers, by the seed and the step in input 1, added to input 0.
    Noise {
        /// Standard deviation.
        scale: f32,
        /// The seed.
        seed: u64,
        /// Number of this noise in its graph.
        stream: u32,
    },
    /// Matrix product of inputs 0 and 1, input 2 being a bias.
    Gemm(GemmLaunch),
    /// Product of int8 inputs 0 and 1 with scales 2 and 3, input 4 being a bias.
    Bytes {
        /// Whether B is stored [n, k].
        trans_b: bool,
    },
    /// Head and loss of a language model, forward or backward.
    LinearLoss(LinearLoss),
}

/// Kernels over rows; operands as in the ops of the same names.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the ops document themselves")]
pub enum Row {
    Softmax,
    SoftmaxGrad,
    LogSoftmax,
    LogSoftmaxGrad,
    LayerNorm { eps: f32 },
    LayerNormGrad,
    RmsNorm { eps: f32 },
    AddRmsNorm { eps: f32 },
    RmsNormGrad,
    Rope { layout: Layout, inverse: bool },
    CrossEntropy { ignore: i32, reduction: Reduction },
    CrossEntropyGrad { ignore: i32, reduction: Reduction },
}

/// How the losses of rows become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The mean over the rows that count.
    Mean,
    /// The sum.
    Sum,
    /// They stay apart.
    None,
}

/// Optimizer steps; operands as in the ops of the same names.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the ops document themselves")]
pub enum Update {
    Accumulate,
    Sgd { momentum: f32, nesterov: bool, weight_decay: f32, states: States },
    Adam { moments: Moments, states: States, decoupled: bool },
}

/// Parameters of [`Launch::Gemm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GemmLaunch {
    /// Whether A is stored [..., k, m].
    pub trans_a: bool,
    /// Whether B is stored [..., n, k].
    pub trans_b: bool,
    /// What operands are rounded to.
    pub precision: Precision,
    /// Whether the leading axes of A are just more rows of one matrix.
    pub fold: bool,
    /// What is done to each element of the product in the end.
    pub activation: Option<Unary>,
}

/// Parameters of [`Launch::LinearLoss`]; operands as in the ops that [`LossPart`] names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearLoss {
    /// Targets that do not count.
    pub ignore_index: i32,
    /// What operands are rounded to.
    pub precision: Precision,
    /// Which of the ops it is.
    pub part: LossPart,
}

/// Which part of head and loss runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossPart {
    /// `linear_cross_entropy`: the loss.
    Forward,
    /// `linear_cross_entropy_grad`: the gradients, from the rows' logsumexp.
    Backward,
    /// `linear_cross_entropy_both` toward x: loss and gradient in one pass over the strips.
    Both,
    /// `linear_cross_entropy_both` toward x and W: the logits of so many rows wait for their sums.
    Blocks {
        /// Rows of a block.
        rows: usize,
    },
}

impl LinearLoss {
    /// Columns of the logits that exist at a time.
    pub const STRIP: usize = 2048;

    /// Rows of [`LossPart::Blocks`]: at most half of them, but not fewer than 64, for each block
    /// passes over all of W and dW; at most 256, so that its memory has a bound.
    #[must_use]
    pub fn kept_rows(rows: usize) -> usize {
        let blocks = rows.div_ceil(256).max(usize::from(rows > 64) + 1);
        rows.div_ceil(blocks).max(1)
    }
}

impl Launch {
    /// Inputs, among those there are, whose memory output 0 may overwrite, if it has the same size and
    /// nothing else still needs it.
    #[must_use]
    pub fn in_place(&self) -> &'static [usize] {
        match self {
            Self::Unary(_) | Self::RoundTrip(_) => &[0],
            Self::Binary(_) => &[0, 1],
            Self::Select => &[0, 1, 2],
            Self::ScatterAdd => &[2],
            Self::Fused(_) => &[0, 1, 2, 3, 4, 5, 6, 7],
            _ => &[],
        }
    }
}

/// A launch with the descriptions of its operands.
#[derive(Clone, Copy, Debug)]
pub struct Signature<'a> {
    /// The class and its parameters.
    pub launch: &'a Launch,
    /// Input descriptions.
    pub inputs: &'a [&'a TensorDesc],
    /// Output descriptions.
    pub outputs: &'a [&'a TensorDesc],
}

/// Where an operand lies: `offset` bytes into memory number `slot` of the [`Memory`].
#[derive(Clone, Debug)]
pub struct Operand {
    /// Which memory: 0 is the arena, the rest are parameters, states, inputs and constants.
    pub slot: usize,
    /// Bytes from its start; a multiple of [`crate::tensor::ALIGN`].
    pub offset: usize,
    /// Type and shape.
    pub desc: TensorDesc,
    /// What is mapped from a file and not read again soon: its pages are to be let go of
    /// ([`Storage::release`]) once they are read.
    pub release: Option<Box<Storage>>,
}

/// One node as a backend runs it.
#[derive(Clone, Debug)]
pub struct Step {
    /// The op, for names and messages.
    pub op: Arc<dyn Op>,
    /// What to run.
    pub launch: Launch,
    /// Inputs.
    pub inputs: Vec<Operand>,
    /// Outputs. One may be the same memory as an input ([`Launch::in_place`]); otherwise all are
    /// disjoint.
    pub outputs: Vec<Operand>,
    /// Scratch in the arena: offset and size in bytes, as [`Backend::workspace`] asked.
    pub workspace: (usize, usize),
}

/// Base addresses of all memories, by slot.
///
/// The executor keeps what lies behind them alive, of the planned sizes, and out of other hands
/// while a program runs.
#[derive(Debug)]
pub struct Memory {
    pub(crate) bases: Vec<*mut u8>,
}

// SAFETY: addresses of storages that are Send + Sync themselves; see the type's contract.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// The address of an operand.
    #[must_use]
    pub fn address(&self, operand: &Operand) -> *mut u8 {
        self.at(operand.slot, operand.offset)
    }

    /// The address `offset` bytes into memory `slot`.
    #[must_use]
    pub fn at(&self, slot: usize, offset: usize) -> *mut u8 {
        self.bases[slot].wrapping_add(offset)
    }
}

/// A run of nodes for one backend.
#[derive(Debug)]
pub struct Part<'a> {
    /// The nodes, in order.
    pub steps: Vec<Step>,
    /// What the slots of their operands are, the arena first. They stay the same as long as the
    /// program lives.
    pub storages: &'a [Storage],
    /// Of each slot, whether its bytes stay the same as long as the program lives: constants, and
    /// parameters that do not train.
    pub frozen: &'a [bool],
    /// Bytes of the arena that the host has newer ones of when the program begins.
    pub brought: Vec<Range<usize>>,
    /// Bytes of the arena that the host is to have when the program is done.
    pub taken: Vec<Range<usize>>,
}

/// What a backend says of its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The backend's name.
    pub backend: &'static str,
    /// The device, in words.
    pub name: String,
    /// Instruction set or tier in use.
    pub level: String,
    /// Threads or queues that work at once.
    pub parallelism: usize,
}

/// How fast a device works, for estimates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Bytes a second that kernels bound by memory move.
    pub bytes: f64,
    /// Floating-point operations a second of matrix products, in f32, bf16 and int8.
    pub products: [f64; 3],
}

impl Speed {
    /// What a launch costs before it does anything.
    const START: f64 = 1e-6;

    /// Of a device that moves `bytes` and multiplies `products` a second in f32, and in other
    /// precisions as much faster as a core with AVX-512 is.
    #[must_use]
    pub const fn of(bytes: f64, products: f64) -> Self {
        Self { bytes, products: [products, 1.8 * products, 2.3 * products] }
    }

    /// About how long a launch takes.
    #[must_use]
    pub fn seconds(self, launch: &Launch, cost: Cost) -> f64 {
        let [f32, bf16, int8] = self.products;
        let rate = match launch {
            Launch::Gemm(GemmLaunch { precision, .. })
            | Launch::LinearLoss(LinearLoss { precision, .. }) => match precision {
                Precision::F32 => f32,
                Precision::Bf16 => bf16,
                Precision::Int8 => int8,
            },
            // Without scales by block.
            Launch::Bytes { .. } => 1.7 * int8,
            // They reach a good half of the rate of large products.
            Launch::Attention(_) | Launch::AttentionGrad(_) | Launch::Conv(_) => 0.6 * f32,
            _ => f64::INFINITY,
        };
        Self::START + (cost.flops / rate).max(cost.bytes / self.bytes)
    }
}

/// What became of some steps that a device could run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many they are.
    pub steps: usize,
    /// Whether they run there; else on the CPU.
    pub accelerated: bool,
    /// Why not, or what they are.
    pub why: String,
}

/// A device that runs launches.
pub trait Backend: Send + Sync {
    /// The device.
    fn describe(&self) -> Device;

    /// Where the memory it works on comes from.
    fn allocator(&self) -> &dyn Allocator;

    /// Whether it runs this launch on these operands.
    fn supports(&self, signature: Signature<'_>) -> bool;

    /// Scratch bytes that the launch needs; the plan provides them.
    fn workspace(&self, signature: Signature<'_>) -> usize;

    /// About how long a launch takes, in seconds, for plans that trade time against memory: what
    /// counts is how launches compare. The default is of a device that moves 20 GB/s and multiplies
    /// 100 GFLOP/s.
    fn seconds(&self, launch: &Launch, cost: Cost) -> f64 {
        Speed::of(20e9, 100e9).seconds(launch, cost)
    }

    /// What became of the steps that it was given, of backends that leave some to the CPU by
    /// themselves, in the order in which it was decided.
    fn outcomes(&self) -> Vec<Outcome> {
        Vec::new()
    }

    /// What a loss is to be multiplied by on the way back, a power of two: more than 1 where it
    /// computes in half precision, in which small gradients vanish (Micikevicius et al., "Mixed
    /// Precision Training", 2018). In f32 that changes no bit.
    fn loss_scale(&self) -> f32 {
        1.0
    }

    /// Whether its programs work on [`crate::tensor::Mirror`]s, which they give to the storages they
    /// are compiled for.
    fn has_mirrors(&self) -> bool {
        false
    }

    /// Whether its programs run as one: of what their steps make, only [`Part::taken`] need be in
    /// memory when they are done, and it is there only then.
    fn runs_whole(&self) -> bool {
        false
    }

    /// Prepares steps; [`Program::launch`] then runs them by number, in order.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for a step it does not support, [`crate::Error::Device`].
    fn compile(&self, part: Part<'_>) -> Result<Box<dyn Program>>;

    /// Prepares all of an executor's parts that are this backend's, for those that choose among them.
    ///
    /// # Errors
    /// As [`Backend::compile`].
    fn compile_all(&self, parts: Vec<Part<'_>>) -> Result<Vec<Box<dyn Program>>> {
        parts.into_iter().map(|part| self.compile(part)).collect()
    }
}

/// Steps prepared by [`Backend::compile`].
pub trait Program: Send {
    /// Runs step `index`; later steps see its results. Allocates nothing. A program that was recorded
    /// may let steps wait for later ones of its own, with which they are submitted; if a run is
    /// stopped before those, they have not run.
    ///
    /// # Errors
    /// [`crate::Error::Index`] for indices out of range, [`crate::Error::Device`].
    ///
    /// # Safety
    /// `memory` must hold what the steps were planned with: every operand inside its slot, and no
    /// one else touching it until [`Program::sync`] returns.
    unsafe fn launch(&mut self, index: usize, memory: &Memory) -> Result<()>;

    /// Waits until everything launched is done, and the host has what it is to have of it.
    ///
    /// # Errors
    /// [`crate::Error::Device`].
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}
