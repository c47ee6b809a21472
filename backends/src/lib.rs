//! Tenon's devices behind one trait, [`tenon_runtime::backend::Backend`].
//!
//! | backend | what it is |
//! |---|---|
//! | [`cpu`] | the kernels over a thread pool that shares its cores well |
//! | [`coreml`] | programs for the accelerators of Apple's devices |
//! | [`null`] | plans and counts, computes nothing |
//! | [`nnapi`] | Android's accelerators, for what they take of a graph |
//! | [`vulkan`] | graphics cards, and whatever else has a Vulkan driver |
//!
//! To add a backend: a folder here, a module below, one feature, and an arm in [`Choice`].

#[cfg(any(feature = "vulkan", feature = "nnapi", feature = "coreml"))]
mod cache;
#[cfg(feature = "coreml")]
pub mod coreml;
#[cfg(feature = "cpu")]
pub mod cpu;
#[cfg(feature = "nnapi")]
pub mod nnapi;
#[cfg(any(feature = "nnapi", feature = "coreml"))]
pub mod npu;
#[cfg(feature = "null")]
pub mod null;
#[cfg(feature = "vulkan")]
pub mod vulkan;

use std::sync::Arc;

use tenon_runtime::backend::Backend;
use tenon_runtime::tensor::Allocator;
use tenon_runtime::{Error, Result};

/// What to run on. What a device does not claim runs on the CPU, op by op.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The CPU alone.
    #[default]
    Cpu,
    /// A Vulkan device; an error where there is none.
    Vulkan,
    /// Android's Neural Networks API, for what its device takes; an error where there is none.
    Nnapi,
    /// Apple's Core ML, for what it takes; an error where there is none.
    CoreMl,
    /// A graphics card where there is one, else the CPU.
    Auto,
}

impl Choice {
    /// The names, as users give them.
    pub const NAMES: &[(&str, Self)] = &[
        ("cpu", Self::Cpu),
        ("vulkan", Self::Vulkan),
        ("nnapi", Self::Nnapi),
        ("coreml", Self::CoreMl),
        ("auto", Self::Auto),
    ];

    /// The choice of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn from_name(name: &str) -> Result<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, choice)| *choice).ok_or_else(|| Error::NotFound {
            kind: "backend",
            name: name.to_owned(),
            known: Self::NAMES.iter().map(|(known, _)| (*known).to_owned()).collect(),
        })
    }

    /// What the variable `TENON_BACKEND` names, or the CPU.
    ///
    /// # Errors
    /// As [`Self::from_name`].
    pub fn from_env() -> Result<Self> {
        std::env::var("TENON_BACKEND").map_or(Ok(Self::Cpu), |name| Self::from_name(&name))
    }

    /// The backends, in order of preference; the CPU, which is given, is the last. Their memory comes
    /// from `allocator`, if there is one; `warn` is told what a device gets wrong.
    ///
    /// # Errors
    /// [`Error::Device`] where there is no such device, or it fails.
    pub fn backends(
        self,
        cpu: Arc<dyn Backend>,
        allocator: Option<Arc<dyn Allocator>>,
        warn: &mut dyn FnMut(&str),
    ) -> Result<Vec<Arc<dyn Backend>>> {
        let mut backends = self.device(&cpu, allocator, warn)?;
        backends.push(cpu);
        Ok(backends)
    }

    fn device(
        self,
        cpu: &Arc<dyn Backend>,
        allocator: Option<Arc<dyn Allocator>>,
        warn: &mut dyn FnMut(&str),
    ) -> Result<Vec<Arc<dyn Backend>>> {
        match self {
            Self::Cpu => Ok(Vec::new()),
            Self::Vulkan => vulkan_device(cpu, allocator, warn, true),
            Self::Auto => vulkan_device(cpu, allocator, warn, false),
            #[cfg(feature = "nnapi")]
            Self::Nnapi => Ok(vec![Arc::new(nnapi::open(cpu.clone(), npu::Options::from_env()?)?)]),
            #[cfg(not(feature = "nnapi"))]
            Self::Nnapi => Err(left_out("nnapi")),
            #[cfg(feature = "coreml")]
            Self::CoreMl => Ok(vec![coreml::open(cpu.clone(), npu::Options::from_env()?)?]),
            #[cfg(not(feature = "coreml"))]
            Self::CoreMl => Err(left_out("coreml")),
        }
    }
}

/// A graphics card; where none `must` be, one that is not the processor in disguise.
#[cfg(feature = "vulkan")]
fn vulkan_device(
    cpu: &Arc<dyn Backend>,
    allocator: Option<Arc<dyn Allocator>>,
    warn: &mut dyn FnMut(&str),
    must: bool,
) -> Result<Vec<Arc<dyn Backend>>> {
    let options = vulkan::Options { allocator, ..vulkan::Options::from_env()? };
    let device = match vulkan::Vulkan::new(&options) {
        Ok(device) if must || !device.is_processor() => device,
        Err(error) if must => return Err(error),
        _ => return Ok(Vec::new()),
    };
    for wrong in device.self_check(cpu)? {
        warn(&wrong);
    }
    Ok(vec![Arc::new(device)])
}

#[cfg(not(feature = "vulkan"))]
fn vulkan_device(
    _: &Arc<dyn Backend>,
    _: Option<Arc<dyn Allocator>>,
    _: &mut dyn FnMut(&str),
    must: bool,
) -> Result<Vec<Arc<dyn Backend>>> {
    if must { Err(left_out("vulkan")) } else { Ok(Vec::new()) }
}

/// The error for a backend that this build is without.
#[allow(unused, reason = "nothing may be left out")]
fn left_out(backend: &'static str) -> Error {
    Error::Device { backend, why: format!("this build is without {backend}") }
}

/// The backends to run on, in order of preference, as the variable `TENON_BACKEND` says.
///
/// # Errors
/// What a backend says of its settings, such as an unknown `TENON_ISA`, or of a device that is not
/// there.
#[cfg(feature = "cpu")]
pub fn all() -> Result<Vec<Arc<dyn Backend>>> {
    let cpu = Arc::new(cpu::Cpu::new(cpu::Options::default())?);
    Choice::from_env()?.backends(cpu, None, &mut |_| {})
}

/// Every backend of this build that finds its device here.
///
/// # Errors
/// What a backend says of its settings.
#[cfg(feature = "cpu")]
pub fn found() -> Result<Vec<Arc<dyn Backend>>> {
    let cpu: Arc<dyn Backend> = Arc::new(cpu::Cpu::new(cpu::Options::default())?);
    #[allow(unused_mut, reason = "nothing is added in a build for the CPU alone")]
    let mut found = vec![cpu.clone()];
    #[cfg(feature = "vulkan")]
    if let Ok(device) = vulkan::Vulkan::new(&vulkan::Options::from_env()?) {
        found.push(Arc::new(device));
    }
    // To be looked at: with all that it takes, and with its own answers.
    #[cfg(feature = "nnapi")]
    {
        let all =
            npu::Options { worth: npu::Worth::ALL, compare: false, ..npu::Options::from_env()? };
        if let Ok(device) = nnapi::open(cpu, all) {
            found.push(Arc::new(device));
        }
    }
    Ok(found)
}
