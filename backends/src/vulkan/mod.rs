//! The Vulkan backend: whole steps on a graphics card, recorded once and replayed.
//!
//! | file | what it does |
//! |---|---|
//! | `device` | finds and opens the device |
//! | `tier` | what devices can do beyond the baseline |
//! | `matrices` | which products of matrices their subgroups have |
//! | `memory` | one suballocator; what shaders see of the runtime's slots |
//! | `transfer` | bytes between host and device |
//! | `shader` | the one table of shaders |
//! | `pipeline` | shaders with their constants, made ready |
//! | `launch` | launch classes as dispatches of shaders |
//! | `indices` | errors of indices out of range |
//! | `record` | dispatches as command buffers |
//! | `times` | what steps take on the device |
//! | `check` | what a driver gets wrong |
//! | `watch`, `faults` | validation and failures, for tests |
//!
//! | variable | what it does |
//! |---|---|
//! | `TENON_VK_DEVICE` | takes the device whose name holds this |
//! | `TENON_VK_UNIFIED` | 0: copies all that shaders see, though host and device share memory |
//! | `TENON_VK_MAX_BINDING` | lets shaders see at most so many bytes of a buffer (`1M`: 2^20) |
//! | `TENON_VK_NO_F16`, `_INT8`, `_SUBGROUPS`, `_DOT`, `_COOPMAT` | switches a tier off |
//! | `TENON_CACHE` | the folder of what is kept: compiled pipelines, what the check found |
//! | `TENON_VK_TIMES` | a folder: each program leaves there what the steps of its last run took on the device |
//! | `TENON_VK_VALIDATE` | 1: what validation layers complain of is an error |

mod check;
mod device;
mod faults;
mod indices;
#[allow(dead_code, reason = "shared by classes, of which some are to come")]
mod launch;
mod matrices;
mod memory;
mod pipeline;
mod record;
#[allow(dead_code, reason = "tests and tools read the rest of the table")]
mod shader;
mod tier;
mod times;
mod transfer;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use check::Checked;
pub use faults::{Faults, Nth};
use memory::{Image, Pages, Pool};
use tenon_runtime::backend::{self, Backend, Launch, Part, Program, Signature, Speed, Step};
use tenon_runtime::ops::Cost;
use tenon_runtime::tensor::{Allocator, Storage, SystemAllocator};
use tenon_runtime::{Error, Result, TensorDesc};
pub use tier::{Tier, Tiers};
pub use transfer::Traffic;

/// How a [`Vulkan`] is set up.
#[derive(Clone, Default)]
pub struct Options {
    /// Part of the device's name; the fastest kind where `None`.
    pub device: Option<String>,
    /// Whether shaders see the host's own memory; what the device offers where `None`.
    pub unified: Option<bool>,
    /// The most bytes that a shader may see of a buffer; what the device offers where `None`.
    pub max_binding: Option<usize>,
    /// Tiers that are not used.
    pub without: Tiers,
    /// Whether what the validation layers complain of is an error.
    pub validate: bool,
    /// A folder where each program leaves, as it goes, the times that its last run's steps took on the
    /// device, for trace viewers; nothing is timed where `None`, or where the device has no clock.
    pub times: Option<PathBuf>,
    /// Where the memory comes from that the device and the host share, or copy; whole pages of the
    /// process's where `None`.
    pub allocator: Option<Arc<dyn Allocator>>,
    /// Which calls fail, for tests.
    pub faults: Option<Arc<Faults>>,
}

impl Options {
    /// What the environment says; see the [module](self).
    ///
    /// # Errors
    /// [`Error::Device`] for a value that says nothing.
    pub fn from_env() -> Result<Self> {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let flag = |name: &str| var(name).map(|value| value != "0");
        Ok(Self {
            device: var("TENON_VK_DEVICE"),
            unified: flag("TENON_VK_UNIFIED"),
            max_binding: var("TENON_VK_MAX_BINDING").map(|text| bytes(&text)).transpose()?,
            without: Tiers::switched_off(),
            validate: flag("TENON_VK_VALIDATE").unwrap_or(false),
            times: var("TENON_VK_TIMES").map(PathBuf::from),
            allocator: None,
            faults: None,
        })
    }
}

/// A number of bytes, perhaps with K, M or G behind it.
fn bytes(text: &str) -> Result<usize> {
    let (digits, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        None => (text, 1),
        Some(digits) => (
            digits,
            if text.ends_with('K') {
                1 << 10
            } else if text.ends_with('M') {
                1 << 20
            } else {
                1 << 30
            },
        ),
    };
    let number = digits.parse::<usize>().ok().and_then(|n| n.checked_mul(unit));
    number.ok_or_else(|| device::failed(format_args!("`{text}` is no number of bytes")))
}

/// See the [module](self).
#[derive(Clone)]
pub struct Vulkan {
    context: Arc<Context>,
    allocator: Arc<dyn Allocator>,
}

/// What all programs share.
struct Context {
    // Before the device goes, in this order.
    pipelines: pipeline::Pipelines,
    transfer: Arc<transfer::Transfer>,
    pool: Arc<Pool>,
    checked: RwLock<Checked>,
    /// The clock that steps are timed by, and the folder for that.
    times: Option<(times::Clock, PathBuf)>,
    device: Arc<device::Device>,
}

impl Vulkan {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::Device`] where there is no Vulkan here: no loader, no driver, no such device.
    pub fn new(options: &Options) -> Result<Self> {
        let device = Arc::new(device::Device::open(options)?);
        let pool = Pool::new(&device);
        let transfer = transfer::Transfer::new(&device, &pool);
        let pipelines = pipeline::Pipelines::new(&device)?;
        let allocator: Arc<dyn Allocator> = match (&options.allocator, device.facts.import_align) {
            (Some(allocator), _) => allocator.clone(),
            (None, Some(size)) if device.facts.is_unified => Arc::new(Pages { size }),
            _ => Arc::new(SystemAllocator),
        };
        let checked = RwLock::new(Checked { tiers: device.tiers, wrong: Vec::new() });
        let times = device.facts.clock.zip(options.times.clone());
        let context = Context { pipelines, transfer, pool, checked, times, device };
        Ok(Self { context: Arc::new(context), allocator })
    }

    /// Bytes copied between host and device so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.context.transfer.traffic()
    }

    /// Whether its device is a processor that only looks like a graphics card.
    #[must_use]
    pub fn is_processor(&self) -> bool {
        self.context.device.facts.is_processor
    }

    /// Whether what the validation layers complain of is an error.
    #[must_use]
    pub fn is_validated(&self) -> bool {
        self.context.device.is_validated()
    }

    /// What its device can do beyond the baseline.
    #[must_use]
    pub fn tiers(&self) -> Tiers {
        self.context.tiers()
    }
}

impl Backend for Vulkan {
    fn describe(&self) -> backend::Device {
        let facts = &self.context.device.facts;
        backend::Device {
            backend: "vulkan",
            name: facts.name.clone(),
            level: self.context.tiers().to_string(),
            parallelism: 1,
        }
    }

    fn allocator(&self) -> &dyn Allocator {
        &*self.allocator
    }

    fn supports(&self, signature: Signature<'_>) -> bool {
        self.context.claimed(signature).is_some()
    }

    fn workspace(&self, signature: Signature<'_>) -> usize {
        self.context.claimed(signature).map_or(0, |plan| plan.workspace)
    }

    fn seconds(&self, launch: &Launch, cost: Cost) -> f64 {
        self.context.speed().seconds(launch, cost)
    }

    fn has_mirrors(&self) -> bool {
        true
    }

    fn compile(&self, part: Part<'_>) -> Result<Box<dyn Program>> {
        Ok(Box::new(record::Replay::record(&self.context, &part)?))
    }
}

impl Context {
    fn limits(&self) -> launch::Limits {
        let (facts, tiers) = (&self.device.facts, self.tiers());
        let matrices = facts.matrices.filter(|_| tiers.has(Tier::Matrix));
        launch::Limits { max_binding: facts.max_binding, tiers, matrices }
    }

    /// The tiers in use.
    fn tiers(&self) -> Tiers {
        self.trusted().tiers
    }

    /// What the device is trusted with.
    fn trusted(&self) -> Checked {
        self.checked.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn trust(&self, checked: Checked) {
        *self.checked.write().unwrap_or_else(PoisonError::into_inner) = checked;
    }

    /// What shaders see of a storage.
    fn image(&self, storage: &Storage) -> Result<Arc<Image>> {
        Image::of(storage, &self.pool, &self.transfer)
    }

    /// A step as dispatches.
    fn plan(&self, step: &Step) -> Result<launch::Plan> {
        let inputs: Vec<&TensorDesc> = step.inputs.iter().map(|o| &o.desc).collect();
        let outputs: Vec<&TensorDesc> = step.outputs.iter().map(|o| &o.desc).collect();
        let signature = Signature { launch: &step.launch, inputs: &inputs, outputs: &outputs };
        launch::plan(&self.limits(), signature, Some(step)).ok_or_else(|| {
            let operands: Vec<_> = inputs.iter().map(ToString::to_string).collect();
            Error::Unsupported { op: step.op.name(), operands: operands.join(", ") }
        })
    }

    /// About how many seconds a step takes.
    fn estimate(&self, step: &Step) -> f64 {
        let inputs: Vec<&TensorDesc> = step.inputs.iter().map(|o| &o.desc).collect();
        let outputs: Vec<&TensorDesc> = step.outputs.iter().map(|o| &o.desc).collect();
        self.speed().seconds(&step.launch, step.op.cost(&inputs, &outputs))
    }

    /// About how fast a device of this kind is at worst: a submit had better be too short.
    fn speed(&self) -> Speed {
        let facts = &self.device.facts;
        if facts.is_processor {
            Speed::of(2e9, 5e9)
        } else if facts.is_discrete {
            Speed::of(100e9, 1e12)
        } else {
            Speed::of(10e9, 50e9)
        }
    }
}
