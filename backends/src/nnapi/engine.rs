//! Graphs compiled and run by a device's driver.

use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tenon_runtime::Result;

use super::library::{Device, Library, call, check, failed};
use super::model::Model;
use super::sys;
use crate::cache::{File, folder, sum};
use crate::npu::engine::{Compiled, Description, Engine};
use crate::npu::graph::Graph;

/// See the [module](self).
pub struct Nnapi {
    library: Arc<Library>,
    device: Arc<Device>,
    level: u32,
    caches: bool,
}

impl Nnapi {
    /// The device called so, else the best that is not the CPU's reference implementation, which only
    /// `cpu` allows.
    ///
    /// # Errors
    /// [`tenon_runtime::Error::Device`] where there is none, or no NNAPI that says what it has.
    pub fn open(name: Option<&str>, cpu: bool) -> Result<Self> {
        let library = Library::open()?;
        let mut devices = library.devices()?;
        devices.sort_by_key(Device::rank);
        let known: Vec<String> = devices.iter().map(|d| d.name.clone()).collect();
        let is_wanted = |device: &Device| match name {
            Some(name) => device.name == name,
            None => cpu || !device.is_cpu(),
        };
        let device = devices
            .into_iter()
            .find(is_wanted)
            .ok_or_else(|| failed(format_args!("no device to run on but: {}", known.join(", "))))?;
        let level = device.level.min(library.level());
        Ok(Self { library, device: Arc::new(device), level, caches: true })
    }

    /// The feature level of device and system.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.level
    }
}

/// A model of the library's.
struct Made {
    library: Arc<Library>,
    handle: *mut sys::ANeuralNetworksModel,
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Ok(free) = &self.library.functions.ANeuralNetworksModel_free {
            // SAFETY: made by this library, ended once, after what was made of it.
            unsafe { free(self.handle) };
        }
    }
}

impl Made {
    /// The model, finished. `model` must outlive it: large constants stay where they are.
    fn new(library: &Arc<Library>, model: &Model) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        call!(library, ANeuralNetworksModel_create(&raw mut handle))?;
        let made = Self { library: library.clone(), handle };
        for (i, operand) in model.operands.iter().enumerate() {
            let described = sys::ANeuralNetworksOperandType {
                type_: operand.code,
                dimensionCount: operand.dims.len() as u32,
                dimensions: if operand.dims.is_empty() {
                    std::ptr::null()
                } else {
                    operand.dims.as_ptr()
                },
                scale: operand.scale,
                zeroPoint: operand.zero,
            };
            call!(library, ANeuralNetworksModel_addOperand(handle, &raw const described))?;
            let index = i as i32;
            if let Some((axis, scales)) = &operand.channels {
                let params = sys::ANeuralNetworksSymmPerChannelQuantParams {
                    channelDim: *axis,
                    scaleCount: scales.len() as u32,
                    scales: scales.as_ptr(),
                };
                call!(
                    library,
                    ANeuralNetworksModel_setOperandSymmPerChannelQuantParams(
                        handle,
                        index,
                        &raw const params
                    )
                )?;
            }
            if let Some(value) = &operand.value {
                let (at, bytes) = (value.as_ptr().cast::<c_void>(), value.len());
                call!(library, ANeuralNetworksModel_setOperandValue(handle, index, at, bytes))?;
            }
        }
        for operation in &model.operations {
            let (inputs, output) = (&operation.inputs, [operation.output]);
            call!(
                library,
                ANeuralNetworksModel_addOperation(
                    handle,
                    operation.code,
                    inputs.len() as u32,
                    inputs.as_ptr(),
                    1,
                    output.as_ptr()
                )
            )?;
        }
        let (inputs, outputs) = (&model.inputs, &model.outputs);
        call!(
            library,
            ANeuralNetworksModel_identifyInputsAndOutputs(
                handle,
                inputs.len() as u32,
                inputs.as_ptr(),
                outputs.len() as u32,
                outputs.as_ptr()
            )
        )?;
        call!(library, ANeuralNetworksModel_finish(handle))?;
        Ok(made)
    }
}

impl Engine for Nnapi {
    fn describe(&self) -> Description {
        Description {
            bridge: "nnapi",
            name: self.device.name.clone(),
            build: self.device.version.clone(),
            level: self.level,
        }
    }

    fn supported(&self, graph: &Graph) -> Result<Vec<bool>> {
        let model = Model::new(graph)?;
        let made = Made::new(&self.library, &model)?;
        let mut supported = vec![false; model.operations.len()];
        let devices = [self.device.handle];
        call!(
            self.library,
            ANeuralNetworksModel_getSupportedOperationsForDevices(
                made.handle.cast_const(),
                devices.as_ptr(),
                1,
                supported.as_mut_ptr()
            )
        )?;
        let mut by_node = vec![true; graph.nodes().len()];
        for (operation, supported) in model.operations.iter().zip(supported) {
            by_node[operation.node] &= supported;
        }
        Ok(by_node)
    }

    fn compile(&self, graph: &Graph, token: &[u8; 32]) -> Result<Box<dyn Compiled>> {
        let model = Model::new(graph)?;
        let library = &self.library;
        let made = Made::new(library, &model)?;
        let mut handle = std::ptr::null_mut();
        let devices = [self.device.handle];
        call!(
            library,
            ANeuralNetworksCompilation_createForDevices(
                made.handle,
                devices.as_ptr(),
                1,
                &raw mut handle
            )
        )?;
        let mut compilation = Compilation {
            library: library.clone(),
            handle,
            burst: std::ptr::null_mut(),
            execution: std::ptr::null_mut(),
            is_reusable: self.level >= 5
                && library.functions.ANeuralNetworksExecution_setReusable.is_ok(),
            bound: Vec::new(),
            sizes: (model.inputs.len(), model.outputs.len()),
            _made: made,
            _model: model,
            _device: self.device.clone(),
        };
        let preference = sys::PREFER_SUSTAINED_SPEED as i32;
        call!(library, ANeuralNetworksCompilation_setPreference(handle, preference))?;
        let kept = self.caches.then(|| Kept::new(token)).flatten();
        if let Some(kept) = &kept {
            let at = kept.path.as_ptr();
            call!(library, ANeuralNetworksCompilation_setCaching(handle, at, token.as_ptr()))?;
        }
        call!(library, ANeuralNetworksCompilation_finish(handle))?;
        if let Some(kept) = &kept {
            kept.note();
        }
        // Devices without bursts run single executions.
        let _ = call!(library, ANeuralNetworksBurst_create(handle, &raw mut compilation.burst));
        Ok(Box::new(compilation))
    }
}

/// What the driver keeps of a graph: a folder of its own, and a sum over the files in it. Not every
/// driver looks at what it reads.
struct Kept {
    folder: PathBuf,
    path: CString,
    sum: File,
}

impl Kept {
    /// The folder, emptied where its files are not those that were there before.
    fn new(token: &[u8; 32]) -> Option<Self> {
        let (&name, _) = token.split_first_chunk::<16>()?;
        let folder = folder()?.join(format!("nnapi-{:032x}", u128::from_be_bytes(name)));
        let sum = File::new("nnapi", "sum", name);
        let is_whole = || Some(sum.read()? == sum_of(&folder)?);
        if folder.exists() && is_whole() != Some(true) {
            std::fs::remove_dir_all(&folder).ok()?;
        }
        std::fs::create_dir_all(&folder).ok()?;
        let path = CString::new(folder.to_str()?).ok()?;
        Some(Self { folder, path, sum })
    }

    /// Notes what is there now.
    fn note(&self) {
        if let Some(sum) = sum_of(&self.folder) {
            self.sum.write(&sum);
        }
    }
}

/// A sum over the names and contents of a folder's files.
fn sum_of(folder: &Path) -> Option<Vec<u8>> {
    let files = std::fs::read_dir(folder).ok()?;
    let mut files: Vec<PathBuf> =
        files.map(|file| Some(file.ok()?.path())).collect::<Option<_>>()?;
    files.sort_unstable();
    let mut all = Vec::new();
    for file in files {
        let name = file.file_name()?.to_string_lossy().into_owned();
        let content = std::fs::read(&file).ok()?;
        all.extend(sum(name.bytes()).to_le_bytes());
        all.extend(sum(content).to_le_bytes());
    }
    Some(sum(all).to_le_bytes().to_vec())
}

/// A compiled model.
struct Compilation {
    library: Arc<Library>,
    handle: *mut sys::ANeuralNetworksCompilation,
    /// Null where there are none.
    burst: *mut sys::ANeuralNetworksBurst,
    /// What can be run again with the same memory; else null.
    execution: *mut sys::ANeuralNetworksExecution,
    /// Whether executions can be run again: from level 5 on.
    is_reusable: bool,
    /// The addresses that it was bound to.
    bound: Vec<usize>,
    sizes: (usize, usize),
    _made: Made,
    /// Holds the constants.
    _model: Model,
    _device: Arc<Device>,
}

// SAFETY: handles of the library's, which only this value uses; NNAPI's objects may move between threads.
unsafe impl Send for Compilation {}

impl Drop for Compilation {
    fn drop(&mut self) {
        self.end_execution();
        let functions = &self.library.functions;
        if let (false, Ok(free)) = (self.burst.is_null(), &functions.ANeuralNetworksBurst_free) {
            // SAFETY: made by this library, ended once.
            unsafe { free(self.burst) };
        }
        if let Ok(free) = &functions.ANeuralNetworksCompilation_free {
            // SAFETY: as above.
            unsafe { free(self.handle) };
        }
    }
}

impl Compilation {
    fn end_execution(&mut self) {
        let free = &self.library.functions.ANeuralNetworksExecution_free;
        if let (false, Ok(free)) = (self.execution.is_null(), free) {
            // SAFETY: made by this library, ended once; it does not run.
            unsafe { free(self.execution) };
        }
        self.execution = std::ptr::null_mut();
    }

    /// An execution bound to this memory; kept where it can be run again.
    fn bind(&mut self, inputs: &[Vec<u8>], outputs: &mut [Vec<u8>]) -> Result<bool> {
        let all = inputs.iter().chain(outputs.iter()).map(|memory| memory.as_ptr().addr());
        let is_bound = all.eq(self.bound.iter().copied());
        if !self.execution.is_null() && is_bound {
            return Ok(true);
        }
        self.end_execution();
        let (library, no_type) = (&self.library, std::ptr::null());
        call!(library, ANeuralNetworksExecution_create(self.handle, &raw mut self.execution))?;
        let execution = self.execution;
        let reusable = self.is_reusable
            && call!(library, ANeuralNetworksExecution_setReusable(execution, true)).is_ok();
        for (i, input) in inputs.iter().enumerate() {
            let (at, bytes) = (input.as_ptr().cast(), input.len());
            let i = i as i32;
            call!(library, ANeuralNetworksExecution_setInput(execution, i, no_type, at, bytes))?;
        }
        for (i, output) in outputs.iter_mut().enumerate() {
            let (at, bytes) = (output.as_mut_ptr().cast(), output.len());
            let i = i as i32;
            call!(library, ANeuralNetworksExecution_setOutput(execution, i, no_type, at, bytes))?;
        }
        self.bound.clear();
        let all = inputs.iter().chain(outputs.iter()).map(|memory| memory.as_ptr().addr());
        self.bound.extend(all);
        Ok(reusable)
    }
}

impl Compiled for Compilation {
    fn run(&mut self, inputs: &[Vec<u8>], outputs: &mut [Vec<u8>]) -> Result<()> {
        if (inputs.len(), outputs.len()) != self.sizes {
            return Err(failed("another number of inputs or outputs"));
        }
        let reusable = self.bind(inputs, outputs)?;
        let (library, execution) = (&self.library, self.execution);
        let ran = if self.burst.is_null() {
            call!(library, ANeuralNetworksExecution_compute(execution))
        } else {
            call!(library, ANeuralNetworksExecution_burstCompute(execution, self.burst))
        };
        if !reusable || ran.is_err() {
            self.end_execution();
        }
        ran
    }
}
