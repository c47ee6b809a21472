//! Packages compiled, loaded and run by an Apple system. Nothing here has run on a device yet: it is
//! checked by the compiler alone.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::mpsc;

use block2::RcBlock;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::{AnyObject, NSObjectProtocol, ProtocolObject};
use objc2::{AnyThread, ClassType, available};
use objc2_core_ml::{
    MLComputePlan, MLComputeUnits, MLDictionaryFeatureProvider, MLFeatureProvider, MLFeatureValue,
    MLGPUComputeDevice, MLModel, MLModelConfiguration, MLMultiArray, MLMultiArrayDataType,
    MLNeuralEngineComputeDevice, MLPredictionOptions, MLState,
};
use objc2_foundation::{NSArray, NSDictionary, NSError, NSNumber, NSProcessInfo, NSString, NSURL};
use tenon_runtime::{Error, Result};

use crate::npu::{Compiled, DType, Description, Engine, Graph, Type};

use super::emit::{self, input_name, output_name};
use super::program::Opset;

/// Where a model may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Units {
    /// Wherever the system likes.
    #[default]
    All,
    /// The processor alone.
    Cpu,
    /// Not the neural engine.
    CpuAndGpu,
    /// Not the graphics processor.
    CpuAndNeuralEngine,
}

/// How the bridge works.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where models may run.
    pub units: Units,
    /// Inputs in half precision of at least so many bytes are states, which the device keeps: it wants
    /// iOS 18.
    pub states: Option<usize>,
    /// The folder for packages and compiled models.
    pub folder: PathBuf,
}

/// Core ML.
#[derive(Debug)]
pub struct CoreMl {
    options: Options,
}

/// How many operations prefer which device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Placement {
    pub cpu: usize,
    pub gpu: usize,
    pub neural_engine: usize,
}

impl CoreMl {
    /// The bridge, where the system is new enough.
    ///
    /// # Errors
    /// [`Error::Device`] on systems before iOS 16 and macOS 13.
    pub fn new(options: Options) -> Result<Self> {
        if !available!(ios = 16.0, macos = 13.0, tvos = 16.0, visionos = 1.0, watchos = 9.0) {
            return Err(failed("it needs iOS 16 or macOS 13".to_owned()));
        }
        Ok(Self { options })
    }

    /// The newest set of operations that this system has.
    #[must_use]
    pub fn opset() -> Opset {
        if available!(ios = 18.0, macos = 15.0, tvos = 18.0, visionos = 2.0, watchos = 11.0) {
            Opset::Ios18
        } else {
            Opset::Ios16
        }
    }

    /// Which devices the operations of a graph prefer.
    ///
    /// # Errors
    /// [`Error::Device`]; on systems before iOS 17.4 and macOS 14.4, too.
    pub fn preferences(&self, graph: &Graph, token: &[u8; 32]) -> Result<Placement> {
        if !available!(ios = 17.4, macos = 14.4, tvos = 17.4, visionos = 1.1, watchos = 10.4) {
            return Err(failed("plans need iOS 17.4 or macOS 14.4".to_owned()));
        }
        let model = self.compiled(graph, token)?;
        let (send, receive) = mpsc::channel();
        let handler = RcBlock::new(move |plan: *mut MLComputePlan, error: *mut NSError| {
            // SAFETY: the system gives one of the two, or null, alive for as long as this runs.
            let answer = match unsafe { (plan.as_ref(), error.as_ref()) } {
                (Some(plan), _) => Ok(count(plan)),
                (None, error) => Err(error.map_or_else(String::new, message)),
            };
            // Nobody waits any more where this fails.
            let _ = send.send(answer);
        });
        // SAFETY: all arguments are alive; the handler is kept by the system.
        unsafe {
            let url = url(&model);
            let configuration = self.configuration();
            MLComputePlan::loadContentsOfURL_configuration_completionHandler(
                &url,
                &configuration,
                &handler,
            );
        }
        let answer = receive.recv().map_err(|_| failed("no plan came".to_owned()))?;
        answer.map_err(failed)
    }

    fn configuration(&self) -> Retained<MLModelConfiguration> {
        let units = match self.options.units {
            Units::All => MLComputeUnits::All,
            Units::Cpu => MLComputeUnits::CPUOnly,
            Units::CpuAndGpu => MLComputeUnits::CPUAndGPU,
            Units::CpuAndNeuralEngine => MLComputeUnits::CPUAndNeuralEngine,
        };
        // SAFETY: a new object of our own.
        unsafe {
            let configuration = MLModelConfiguration::new();
            configuration.setComputeUnits(units);
            configuration
        }
    }

    /// Inputs that are states.
    fn states(&self, graph: &Graph) -> Vec<usize> {
        let Some(least) = self.options.states.filter(|_| Self::opset() >= Opset::Ios18) else {
            return Vec::new();
        };
        let is_state = |ty: &Type| ty.dtype == DType::F16 && ty.bytes() >= least;
        let inputs = graph.inputs().iter().enumerate();
        inputs.filter(|(_, value)| is_state(graph.ty(**value))).map(|(number, _)| number).collect()
    }

    /// The folder of the compiled model; one that is there is not made again.
    fn compiled(&self, graph: &Graph, token: &[u8; 32]) -> Result<PathBuf> {
        let name: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        let model = self.options.folder.join(format!("{name}.mlmodelc"));
        if model.exists() {
            return Ok(model);
        }
        let package = self.options.folder.join(format!("{name}.mlpackage"));
        let options = emit::Options { newest: Self::opset(), states: self.states(graph) };
        emit::package(graph, &options, &package)?;
        let made = autoreleasepool(|_| {
            // SAFETY: the URL is alive. The call that waits is deprecated, but only it is as old as the
            // oldest system; a bridge compiles on a thread of its own.
            #[allow(deprecated, reason = "see above")]
            let made = unsafe { MLModel::compileModelAtURL_error(&url(&package)) };
            let made = made.map_err(|error| failed(message(&error)))?;
            let path = made.path().ok_or_else(|| failed("a model without a path".to_owned()))?;
            Ok(PathBuf::from(path.to_string()))
        });
        // What was compiled holds all that is needed.
        let _ = fs::remove_dir_all(&package);
        let made: PathBuf = made?;
        // The system's folder for temporary files may be of another volume.
        Ok(if fs::rename(&made, &model).is_ok() { model } else { made })
    }
}

impl Engine for CoreMl {
    fn describe(&self) -> Description {
        let system = NSProcessInfo::processInfo().operatingSystemVersionString();
        Description {
            bridge: "coreml",
            name: format!("Core ML on {:?} units", self.options.units),
            build: system.to_string(),
            level: Self::opset().version(),
        }
    }

    fn supported(&self, graph: &Graph) -> Result<Vec<bool>> {
        Ok(graph.nodes().iter().map(|node| emit::takes(graph, node, Self::opset())).collect())
    }

    fn placement(&self, graph: &Graph, token: &[u8; 32]) -> Option<String> {
        let Placement { cpu, gpu, neural_engine } = self.preferences(graph, token).ok()?;
        Some(format!("{neural_engine} for the neural engine, {gpu} for the GPU, {cpu} for the CPU"))
    }

    fn compile(&self, graph: &Graph, token: &[u8; 32]) -> Result<Box<dyn Compiled>> {
        let path = self.compiled(graph, token)?;
        let load = |path: &Path| {
            let configuration = self.configuration();
            // SAFETY: both arguments are alive.
            unsafe {
                MLModel::modelWithContentsOfURL_configuration_error(&url(path), &configuration)
            }
        };
        let model = load(&path).or_else(|_| {
            // What lay there may be of another system, or broken.
            let _ = fs::remove_dir_all(&path);
            let path = self.compiled(graph, token)?;
            load(&path).map_err(|error| failed(message(&error)))
        })?;
        let states = self.states(graph);
        // SAFETY: a model with states on a system that has them.
        let state = (!states.is_empty()).then(|| unsafe { model.newState() });
        let ports = |ids: &[crate::npu::ValueId], name: fn(usize) -> String| {
            let port = |(number, value): (usize, &crate::npu::ValueId)| {
                Port::new(&name(number), graph.ty(*value), states.contains(&number))
            };
            ids.iter().enumerate().map(port).collect::<Result<Vec<_>>>()
        };
        let inputs = ports(graph.inputs(), input_name)?;
        let mut outputs = ports(graph.outputs(), output_name)?;
        outputs.iter_mut().for_each(|port| port.is_state = false);
        Ok(Box::new(Loaded { model, state, inputs, outputs }))
    }
}

/// What goes in or out.
struct Port {
    name: Retained<NSString>,
    data_type: MLMultiArrayDataType,
    shape: Retained<NSArray<NSNumber>>,
    strides: Retained<NSArray<NSNumber>>,
    bytes: usize,
    is_state: bool,
}

impl Port {
    fn new(name: &str, ty: &Type, is_state: bool) -> Result<Self> {
        let data_type = match ty.dtype {
            DType::F32 => MLMultiArrayDataType::Float32,
            DType::F16 => MLMultiArrayDataType::Float16,
            DType::I32 => MLMultiArrayDataType::Int32,
            _ => return Err(failed(format!("{ty} goes neither in nor out"))),
        };
        let numbers = |sizes: &[usize]| {
            let numbers: Vec<_> = sizes.iter().map(|&size| NSNumber::new_usize(size)).collect();
            NSArray::from_retained_slice(&numbers)
        };
        let mut strides = vec![1; ty.shape.len()];
        for axis in (1..ty.shape.len()).rev() {
            strides[axis - 1] = strides[axis] * ty.shape[axis];
        }
        Ok(Self {
            name: NSString::from_str(name),
            data_type,
            shape: numbers(&ty.shape),
            strides: numbers(&strides),
            bytes: ty.bytes(),
            is_state,
        })
    }

    /// An array over memory, which is not copied.
    ///
    /// # Safety
    /// The memory must have the port's size, and outlive the array.
    unsafe fn array(&self, memory: *mut u8) -> Result<Retained<MLMultiArray>> {
        let memory = NonNull::new(memory).ok_or_else(|| failed("no memory".to_owned()))?;
        // SAFETY: shape and strides are those of this many bytes; none is freed.
        let array = unsafe {
            MLMultiArray::initWithDataPointer_shape_dataType_strides_deallocator_error(
                MLMultiArray::alloc(),
                memory.cast(),
                &self.shape,
                self.data_type,
                &self.strides,
                None,
            )
        };
        array.map_err(|error| failed(message(&error)))
    }
}

/// A model in memory.
struct Loaded {
    model: Retained<MLModel>,
    state: Option<Retained<MLState>>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

// SAFETY: Core ML's models may be used from any thread, by one at a time (MLModel.h); all else is
// immutable, and the state goes with the model.
unsafe impl Send for Loaded {}

impl Loaded {
    /// Copies what is a state to where the device keeps it.
    fn write_state(&self, port: &Port, bytes: &[u8]) -> Result<()> {
        let Some(state) = &self.state else { return Err(failed("no state".to_owned())) };
        let written = Cell::new(false);
        let handler = RcBlock::new(|array: NonNull<MLMultiArray>| {
            // SAFETY: the array is alive while this runs, and nothing else touches it.
            let array = unsafe { array.as_ref() };
            let copy = |to: NonNull<_>, size: isize, strides: NonNull<NSArray<NSNumber>>| {
                // SAFETY: as above.
                let is_dense = unsafe { strides.as_ref() }.isEqualToArray(&port.strides);
                if is_dense && size as usize >= bytes.len() {
                    let to: NonNull<u8> = to.cast();
                    // SAFETY: `size` bytes lie there, and no memory of ours is among them.
                    unsafe {
                        to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
                    }
                    written.set(true);
                }
            };
            let copy = RcBlock::new(copy);
            // SAFETY: the handler runs before the call returns.
            unsafe { array.getMutableBytesWithHandler(&copy) };
        });
        // SAFETY: the model has a state of that name; the handler runs before the call returns.
        unsafe { state.getMultiArrayForStateNamed_handler(&port.name, &handler) };
        if written.get() { Ok(()) } else { Err(failed("a state has gaps".to_owned())) }
    }

    fn predict(&mut self, inputs: &[*mut u8], outputs: &[*mut u8]) -> Result<()> {
        let mut names: Vec<&NSString> = Vec::new();
        let mut values: Vec<Retained<AnyObject>> = Vec::new();
        for (port, &memory) in self.inputs.iter().zip(inputs).filter(|(port, _)| !port.is_state) {
            // SAFETY: the caller's memory is of the port's size and outlives this call.
            let array = unsafe { port.array(memory)? };
            // SAFETY: the value keeps the array.
            let value = unsafe { MLFeatureValue::featureValueWithMultiArray(&array) };
            names.push(&port.name);
            values.push(value.into_super().into());
        }
        let features = NSDictionary::from_retained_objects(&names, &values);
        let mut names: Vec<&NSString> = Vec::new();
        let mut backings: Vec<Retained<MLMultiArray>> = Vec::new();
        for (port, &memory) in self.outputs.iter().zip(outputs) {
            names.push(&port.name);
            // SAFETY: as above.
            backings.push(unsafe { port.array(memory)? });
        }
        let objects: Vec<Retained<AnyObject>> =
            backings.iter().map(|array| array.clone().into_super().into()).collect();
        let objects = NSDictionary::from_retained_objects(&names, &objects);
        // SAFETY: all objects are alive, of the types that the calls ask for.
        let answer = unsafe {
            let features = MLDictionaryFeatureProvider::initWithDictionary_error(
                MLDictionaryFeatureProvider::alloc(),
                &features,
            )
            .map_err(|error| failed(message(&error)))?;
            let features: &ProtocolObject<dyn MLFeatureProvider> =
                ProtocolObject::from_ref(&*features);
            let options = MLPredictionOptions::new();
            options.setOutputBackings(&objects);
            match &self.state {
                Some(state) => self
                    .model
                    .predictionFromFeatures_usingState_options_error(features, state, &options),
                None => self.model.predictionFromFeatures_options_error(features, &options),
            }
        };
        let answer = answer.map_err(|error| failed(message(&error)))?;
        for ((port, backing), &memory) in self.outputs.iter().zip(&backings).zip(outputs) {
            // SAFETY: the provider is alive.
            let array = unsafe { answer.featureValueForName(&port.name) }
                .and_then(|value| unsafe { value.multiArrayValue() })
                .ok_or_else(|| failed(format!("no output {}", port.name)))?;
            // The system may have an array of its own instead.
            if array != *backing {
                copy(&array, port, memory)?;
            }
        }
        Ok(())
    }
}

/// Copies a dense array to `memory` of the port's size.
fn copy(array: &MLMultiArray, port: &Port, memory: *mut u8) -> Result<()> {
    // SAFETY: the array is alive.
    if !unsafe { array.strides() }.isEqualToArray(&port.strides) {
        return Err(failed(format!("output {} has gaps", port.name)));
    }
    let copied = Cell::new(false);
    let handler = RcBlock::new(|from: NonNull<_>, size: isize| {
        if size as usize >= port.bytes {
            // SAFETY: `size` bytes lie there; `memory` is the caller's, of the port's size.
            unsafe { from.cast::<u8>().as_ptr().copy_to_nonoverlapping(memory, port.bytes) };
            copied.set(true);
        }
    });
    // SAFETY: the handler runs before the call returns.
    unsafe { array.getBytesWithHandler(&handler) };
    if copied.get() { Ok(()) } else { Err(failed(format!("output {} is too short", port.name))) }
}

impl Compiled for Loaded {
    fn run(&mut self, inputs: &[Vec<u8>], outputs: &mut [Vec<u8>]) -> Result<()> {
        let given = inputs.iter().map(Vec::len);
        let asked = outputs.iter().map(Vec::len);
        let fits = given.eq(self.inputs.iter().map(|port| port.bytes))
            && asked.eq(self.outputs.iter().map(|port| port.bytes));
        if !fits {
            return Err(failed("memory of other sizes than the graph's".to_owned()));
        }
        autoreleasepool(|_| {
            for (port, bytes) in self.inputs.iter().zip(inputs).filter(|(port, _)| port.is_state) {
                self.write_state(port, bytes)?;
            }
            let inputs: Vec<*mut u8> =
                inputs.iter().map(|bytes| bytes.as_ptr().cast_mut()).collect();
            let outputs: Vec<*mut u8> = outputs.iter_mut().map(Vec::as_mut_ptr).collect();
            self.predict(&inputs, &outputs)
        })
    }
}

/// Counts the operations of a plan by the device that each prefers; constants have none.
fn count(plan: &MLComputePlan) -> Placement {
    let mut placement = Placement::default();
    // SAFETY: the plan and all it gives are alive and immutable.
    unsafe {
        let Some(program) = plan.modelStructure().program() else { return placement };
        for function in program.functions().allValues() {
            for operation in function.block().operations() {
                let Some(usage) = plan.computeDeviceUsageForMLProgramOperation(&operation) else {
                    continue;
                };
                let device = usage.preferredComputeDevice();
                *if device.isKindOfClass(MLNeuralEngineComputeDevice::class()) {
                    &mut placement.neural_engine
                } else if device.isKindOfClass(MLGPUComputeDevice::class()) {
                    &mut placement.gpu
                } else {
                    &mut placement.cpu
                } += 1;
            }
        }
    }
    placement
}

fn url(path: &Path) -> Retained<NSURL> {
    NSURL::fileURLWithPath(&NSString::from_str(&path.to_string_lossy()))
}

fn message(error: &NSError) -> String {
    error.localizedDescription().to_string()
}

fn failed(why: String) -> Error {
    Error::Device { backend: "coreml", why }
}
