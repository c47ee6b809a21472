//! Facts of the NNAPI ABI, as bindgen reads nnapi.h. Generated: see tests/suites/nnapi.rs.
#![allow(missing_docs, non_camel_case_types, non_snake_case, dead_code, unreachable_pub, clippy::all)]
#![allow(clippy::undocumented_unsafe_blocks, clippy::semicolon_if_nothing_returned)]
#![allow(unsafe_op_in_unsafe_fn, unused_qualifications)]

pub const TYPE_BOOL: _bindgen_ty_1 = 6;
pub const TYPE_INT32: _bindgen_ty_1 = 1;
pub const TYPE_FLOAT32: _bindgen_ty_1 = 0;
pub const TYPE_FLOAT16: _bindgen_ty_1 = 10;
pub const TYPE_TENSOR_FLOAT32: _bindgen_ty_1 = 3;
pub const TYPE_TENSOR_INT32: _bindgen_ty_1 = 4;
pub const TYPE_TENSOR_FLOAT16: _bindgen_ty_1 = 8;
pub const TYPE_TENSOR_BOOL8: _bindgen_ty_1 = 9;
pub const TYPE_TENSOR_QUANT8_SYMM_PER_CHANNEL: _bindgen_ty_1 = 11;
pub const TYPE_TENSOR_QUANT8_ASYMM_SIGNED: _bindgen_ty_1 = 14;
pub type _bindgen_ty_1 = ::core::ffi::c_uint;
pub const RESULT_NO_ERROR: _bindgen_ty_2 = 0;
pub const RESULT_OUT_OF_MEMORY: _bindgen_ty_2 = 1;
pub const RESULT_INCOMPLETE: _bindgen_ty_2 = 2;
pub const RESULT_UNEXPECTED_NULL: _bindgen_ty_2 = 3;
pub const RESULT_BAD_DATA: _bindgen_ty_2 = 4;
pub const RESULT_OP_FAILED: _bindgen_ty_2 = 5;
pub const RESULT_BAD_STATE: _bindgen_ty_2 = 6;
pub const RESULT_UNMAPPABLE: _bindgen_ty_2 = 7;
pub const RESULT_OUTPUT_INSUFFICIENT_SIZE: _bindgen_ty_2 = 8;
pub const RESULT_UNAVAILABLE_DEVICE: _bindgen_ty_2 = 9;
pub const RESULT_DEAD_OBJECT: _bindgen_ty_2 = 14;
pub type _bindgen_ty_2 = ::core::ffi::c_uint;
pub const PREFER_SUSTAINED_SPEED: _bindgen_ty_3 = 2;
pub type _bindgen_ty_3 = ::core::ffi::c_uint;
pub const DEVICE_UNKNOWN: _bindgen_ty_4 = 0;
pub const DEVICE_OTHER: _bindgen_ty_4 = 1;
pub const DEVICE_CPU: _bindgen_ty_4 = 2;
pub const DEVICE_GPU: _bindgen_ty_4 = 3;
pub const DEVICE_ACCELERATOR: _bindgen_ty_4 = 4;
pub type _bindgen_ty_4 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug)]
pub struct ANeuralNetworksModel {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct ANeuralNetworksCompilation {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct ANeuralNetworksExecution {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct ANeuralNetworksEvent {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct ANeuralNetworksBurst {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct ANeuralNetworksDevice {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ANeuralNetworksOperandType {
    pub type_: i32,
    pub dimensionCount: u32,
    pub dimensions: *const u32,
    pub scale: f32,
    pub zeroPoint: i32,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ANeuralNetworksSymmPerChannelQuantParams {
    pub channelDim: u32,
    pub scaleCount: u32,
    pub scales: *const f32,
}
pub struct Functions {
    __library: ::libloading::Library,
    pub ANeuralNetworksModel_create: Result<
        unsafe extern "C" fn(
            model: *mut *mut ANeuralNetworksModel,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksModel_free: Result<
        unsafe extern "C" fn(model: *mut ANeuralNetworksModel),
        ::libloading::Error,
    >,
    pub ANeuralNetworksModel_finish: Result<
        unsafe extern "C" fn(model: *mut ANeuralNetworksModel) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksModel_addOperand: Result<
        unsafe extern "C" fn(
            model: *mut ANeuralNetworksModel,
            type_: *const ANeuralNetworksOperandType,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksModel_setOperandValue: Result<
        unsafe extern "C" fn(
            model: *mut ANeuralNetworksModel,
            index: i32,
            buffer: *const ::core::ffi::c_void,
            length: usize,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksModel_addOperation: Result<
        unsafe extern "C" fn(
            model: *mut ANeuralNetworksModel,
            type_: i32,
            inputCount: u32,
            inputs: *const u32,
            outputCount: u32,
            outputs: *const u32,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksModel_identifyInputsAndOutputs: Result<
        unsafe extern "C" fn(
            model: *mut ANeuralNetworksModel,
            inputCount: u32,
            inputs: *const u32,
            outputCount: u32,
            outputs: *const u32,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksCompilation_create: Result<
        unsafe extern "C" fn(
            model: *mut ANeuralNetworksModel,
            compilation: *mut *mut ANeuralNetworksCompilation,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksCompilation_free: Result<
        unsafe extern "C" fn(compilation: *mut ANeuralNetworksCompilation),
        ::libloading::Error,
    >,
    pub ANeuralNetworksCompilation_setPreference: Result<
        unsafe extern "C" fn(
            compilation: *mut ANeuralNetworksCompilation,
            preference: i32,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksCompilation_finish: Result<
        unsafe extern "C" fn(
            compilation: *mut ANeuralNetworksCompilation,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksExecution_create: Result<
        unsafe extern "C" fn(
            compilation: *mut ANeuralNetworksCompilation,
            execution: *mut *mut ANeuralNetworksExecution,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksExecution_free: Result<
        unsafe extern "C" fn(execution: *mut ANeuralNetworksExecution),
        ::libloading::Error,
    >,
    pub ANeuralNetworksExecution_setInput: Result<
        unsafe extern "C" fn(
            execution: *mut ANeuralNetworksExecution,
            index: i32,
            type_: *const ANeuralNetworksOperandType,
            buffer: *const ::core::ffi::c_void,
            length: usize,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksExecution_setOutput: Result<
        unsafe extern "C" fn(
            execution: *mut ANeuralNetworksExecution,
            index: i32,
            type_: *const ANeuralNetworksOperandType,
            buffer: *mut ::core::ffi::c_void,
            length: usize,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksExecution_startCompute: Result<
        unsafe extern "C" fn(
            execution: *mut ANeuralNetworksExecution,
            event: *mut *mut ANeuralNetworksEvent,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksEvent_wait: Result<
        unsafe extern "C" fn(event: *mut ANeuralNetworksEvent) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksEvent_free: Result<
        unsafe extern "C" fn(event: *mut ANeuralNetworksEvent),
        ::libloading::Error,
    >,
    pub ANeuralNetworks_getDeviceCount: Result<
        unsafe extern "C" fn(count: *mut u32) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworks_getDevice: Result<
        unsafe extern "C" fn(
            index: u32,
            device: *mut *mut ANeuralNetworksDevice,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksDevice_getName: Result<
        unsafe extern "C" fn(
            device: *const ANeuralNetworksDevice,
            name: *mut *const ::core::ffi::c_char,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksDevice_getType: Result<
        unsafe extern "C" fn(
            device: *const ANeuralNetworksDevice,
            type_: *mut i32,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksDevice_getVersion: Result<
        unsafe extern "C" fn(
            device: *const ANeuralNetworksDevice,
            version: *mut *const ::core::ffi::c_char,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksDevice_getFeatureLevel: Result<
        unsafe extern "C" fn(
            device: *const ANeuralNetworksDevice,
            level: *mut i64,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksModel_setOperandSymmPerChannelQuantParams: Result<
        unsafe extern "C" fn(
            model: *mut ANeuralNetworksModel,
            index: i32,
            params: *const ANeuralNetworksSymmPerChannelQuantParams,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksModel_getSupportedOperationsForDevices: Result<
        unsafe extern "C" fn(
            model: *const ANeuralNetworksModel,
            devices: *const *const ANeuralNetworksDevice,
            count: u32,
            supported: *mut bool,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksCompilation_createForDevices: Result<
        unsafe extern "C" fn(
            model: *mut ANeuralNetworksModel,
            devices: *const *const ANeuralNetworksDevice,
            count: u32,
            compilation: *mut *mut ANeuralNetworksCompilation,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksCompilation_setCaching: Result<
        unsafe extern "C" fn(
            compilation: *mut ANeuralNetworksCompilation,
            folder: *const ::core::ffi::c_char,
            token: *const u8,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksExecution_compute: Result<
        unsafe extern "C" fn(
            execution: *mut ANeuralNetworksExecution,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksBurst_create: Result<
        unsafe extern "C" fn(
            compilation: *mut ANeuralNetworksCompilation,
            burst: *mut *mut ANeuralNetworksBurst,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworksBurst_free: Result<
        unsafe extern "C" fn(burst: *mut ANeuralNetworksBurst),
        ::libloading::Error,
    >,
    pub ANeuralNetworksExecution_burstCompute: Result<
        unsafe extern "C" fn(
            execution: *mut ANeuralNetworksExecution,
            burst: *mut ANeuralNetworksBurst,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
    pub ANeuralNetworks_getRuntimeFeatureLevel: Result<
        unsafe extern "C" fn() -> i64,
        ::libloading::Error,
    >,
    pub ANeuralNetworksExecution_setReusable: Result<
        unsafe extern "C" fn(
            execution: *mut ANeuralNetworksExecution,
            reusable: bool,
        ) -> ::core::ffi::c_int,
        ::libloading::Error,
    >,
}
impl Functions {
    /// # Safety
    /// As the ABI says.
    pub unsafe fn new<P>(path: P) -> Result<Self, ::libloading::Error>
    where
        P: AsRef<::std::ffi::OsStr>,
    {
        let path = path.as_ref();
        let library = ::libloading::Library::new(path)?;
        Self::from_library(library)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn from_library<L>(library: L) -> Result<Self, ::libloading::Error>
    where
        L: Into<::libloading::Library>,
    {
        let __library = library.into();
        let ANeuralNetworksModel_create = __library
            .get(b"ANeuralNetworksModel_create\0")
            .map(|sym| *sym);
        let ANeuralNetworksModel_free = __library
            .get(b"ANeuralNetworksModel_free\0")
            .map(|sym| *sym);
        let ANeuralNetworksModel_finish = __library
            .get(b"ANeuralNetworksModel_finish\0")
            .map(|sym| *sym);
        let ANeuralNetworksModel_addOperand = __library
            .get(b"ANeuralNetworksModel_addOperand\0")
            .map(|sym| *sym);
        let ANeuralNetworksModel_setOperandValue = __library
            .get(b"ANeuralNetworksModel_setOperandValue\0")
            .map(|sym| *sym);
        let ANeuralNetworksModel_addOperation = __library
            .get(b"ANeuralNetworksModel_addOperation\0")
            .map(|sym| *sym);
        let ANeuralNetworksModel_identifyInputsAndOutputs = __library
            .get(b"ANeuralNetworksModel_identifyInputsAndOutputs\0")
            .map(|sym| *sym);
        let ANeuralNetworksCompilation_create = __library
            .get(b"ANeuralNetworksCompilation_create\0")
            .map(|sym| *sym);
        let ANeuralNetworksCompilation_free = __library
            .get(b"ANeuralNetworksCompilation_free\0")
            .map(|sym| *sym);
        let ANeuralNetworksCompilation_setPreference = __library
            .get(b"ANeuralNetworksCompilation_setPreference\0")
            .map(|sym| *sym);
        let ANeuralNetworksCompilation_finish = __library
            .get(b"ANeuralNetworksCompilation_finish\0")
            .map(|sym| *sym);
        let ANeuralNetworksExecution_create = __library
            .get(b"ANeuralNetworksExecution_create\0")
            .map(|sym| *sym);
        let ANeuralNetworksExecution_free = __library
            .get(b"ANeuralNetworksExecution_free\0")
            .map(|sym| *sym);
        let ANeuralNetworksExecution_setInput = __library
            .get(b"ANeuralNetworksExecution_setInput\0")
            .map(|sym| *sym);
        let ANeuralNetworksExecution_setOutput = __library
            .get(b"ANeuralNetworksExecution_setOutput\0")
            .map(|sym| *sym);
        let ANeuralNetworksExecution_startCompute = __library
            .get(b"ANeuralNetworksExecution_startCompute\0")
            .map(|sym| *sym);
        let ANeuralNetworksEvent_wait = __library
            .get(b"ANeuralNetworksEvent_wait\0")
            .map(|sym| *sym);
        let ANeuralNetworksEvent_free = __library
            .get(b"ANeuralNetworksEvent_free\0")
            .map(|sym| *sym);
        let ANeuralNetworks_getDeviceCount = __library
            .get(b"ANeuralNetworks_getDeviceCount\0")
            .map(|sym| *sym);
        let ANeuralNetworks_getDevice = __library
            .get(b"ANeuralNetworks_getDevice\0")
            .map(|sym| *sym);
        let ANeuralNetworksDevice_getName = __library
            .get(b"ANeuralNetworksDevice_getName\0")
            .map(|sym| *sym);
        let ANeuralNetworksDevice_getType = __library
            .get(b"ANeuralNetworksDevice_getType\0")
            .map(|sym| *sym);
        let ANeuralNetworksDevice_getVersion = __library
            .get(b"ANeuralNetworksDevice_getVersion\0")
            .map(|sym| *sym);
        let ANeuralNetworksDevice_getFeatureLevel = __library
            .get(b"ANeuralNetworksDevice_getFeatureLevel\0")
            .map(|sym| *sym);
        let ANeuralNetworksModel_setOperandSymmPerChannelQuantParams = __library
            .get(b"ANeuralNetworksModel_setOperandSymmPerChannelQuantParams\0")
            .map(|sym| *sym);
        let ANeuralNetworksModel_getSupportedOperationsForDevices = __library
            .get(b"ANeuralNetworksModel_getSupportedOperationsForDevices\0")
            .map(|sym| *sym);
        let ANeuralNetworksCompilation_createForDevices = __library
            .get(b"ANeuralNetworksCompilation_createForDevices\0")
            .map(|sym| *sym);
        let ANeuralNetworksCompilation_setCaching = __library
            .get(b"ANeuralNetworksCompilation_setCaching\0")
            .map(|sym| *sym);
        let ANeuralNetworksExecution_compute = __library
            .get(b"ANeuralNetworksExecution_compute\0")
            .map(|sym| *sym);
        let ANeuralNetworksBurst_create = __library
            .get(b"ANeuralNetworksBurst_create\0")
            .map(|sym| *sym);
        let ANeuralNetworksBurst_free = __library
            .get(b"ANeuralNetworksBurst_free\0")
            .map(|sym| *sym);
        let ANeuralNetworksExecution_burstCompute = __library
            .get(b"ANeuralNetworksExecution_burstCompute\0")
            .map(|sym| *sym);
        let ANeuralNetworks_getRuntimeFeatureLevel = __library
            .get(b"ANeuralNetworks_getRuntimeFeatureLevel\0")
            .map(|sym| *sym);
        let ANeuralNetworksExecution_setReusable = __library
            .get(b"ANeuralNetworksExecution_setReusable\0")
            .map(|sym| *sym);
        Ok(Functions {
            __library,
            ANeuralNetworksModel_create,
            ANeuralNetworksModel_free,
            ANeuralNetworksModel_finish,
            ANeuralNetworksModel_addOperand,
            ANeuralNetworksModel_setOperandValue,
            ANeuralNetworksModel_addOperation,
            ANeuralNetworksModel_identifyInputsAndOutputs,
            ANeuralNetworksCompilation_create,
            ANeuralNetworksCompilation_free,
            ANeuralNetworksCompilation_setPreference,
            ANeuralNetworksCompilation_finish,
            ANeuralNetworksExecution_create,
            ANeuralNetworksExecution_free,
            ANeuralNetworksExecution_setInput,
            ANeuralNetworksExecution_setOutput,
            ANeuralNetworksExecution_startCompute,
            ANeuralNetworksEvent_wait,
            ANeuralNetworksEvent_free,
            ANeuralNetworks_getDeviceCount,
            ANeuralNetworks_getDevice,
            ANeuralNetworksDevice_getName,
            ANeuralNetworksDevice_getType,
            ANeuralNetworksDevice_getVersion,
            ANeuralNetworksDevice_getFeatureLevel,
            ANeuralNetworksModel_setOperandSymmPerChannelQuantParams,
            ANeuralNetworksModel_getSupportedOperationsForDevices,
            ANeuralNetworksCompilation_createForDevices,
            ANeuralNetworksCompilation_setCaching,
            ANeuralNetworksExecution_compute,
            ANeuralNetworksBurst_create,
            ANeuralNetworksBurst_free,
            ANeuralNetworksExecution_burstCompute,
            ANeuralNetworks_getRuntimeFeatureLevel,
            ANeuralNetworksExecution_setReusable,
        })
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksModel_create(
        &self,
        model: *mut *mut ANeuralNetworksModel,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksModel_create
            .as_ref()
            .expect("Expected function, got error."))(model)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksModel_free(&self, model: *mut ANeuralNetworksModel) {
        (self
            .ANeuralNetworksModel_free
            .as_ref()
            .expect("Expected function, got error."))(model)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksModel_finish(
        &self,
        model: *mut ANeuralNetworksModel,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksModel_finish
            .as_ref()
            .expect("Expected function, got error."))(model)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksModel_addOperand(
        &self,
        model: *mut ANeuralNetworksModel,
        type_: *const ANeuralNetworksOperandType,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksModel_addOperand
            .as_ref()
            .expect("Expected function, got error."))(model, type_)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksModel_setOperandValue(
        &self,
        model: *mut ANeuralNetworksModel,
        index: i32,
        buffer: *const ::core::ffi::c_void,
        length: usize,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksModel_setOperandValue
            .as_ref()
            .expect("Expected function, got error."))(model, index, buffer, length)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksModel_addOperation(
        &self,
        model: *mut ANeuralNetworksModel,
        type_: i32,
        inputCount: u32,
        inputs: *const u32,
        outputCount: u32,
        outputs: *const u32,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksModel_addOperation
            .as_ref()
            .expect(
                "Expected function, got error.",
            ))(model, type_, inputCount, inputs, outputCount, outputs)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksModel_identifyInputsAndOutputs(
        &self,
        model: *mut ANeuralNetworksModel,
        inputCount: u32,
        inputs: *const u32,
        outputCount: u32,
        outputs: *const u32,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksModel_identifyInputsAndOutputs
            .as_ref()
            .expect(
                "Expected function, got error.",
            ))(model, inputCount, inputs, outputCount, outputs)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksCompilation_create(
        &self,
        model: *mut ANeuralNetworksModel,
        compilation: *mut *mut ANeuralNetworksCompilation,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksCompilation_create
            .as_ref()
            .expect("Expected function, got error."))(model, compilation)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksCompilation_free(
        &self,
        compilation: *mut ANeuralNetworksCompilation,
    ) {
        (self
            .ANeuralNetworksCompilation_free
            .as_ref()
            .expect("Expected function, got error."))(compilation)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksCompilation_setPreference(
        &self,
        compilation: *mut ANeuralNetworksCompilation,
        preference: i32,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksCompilation_setPreference
            .as_ref()
            .expect("Expected function, got error."))(compilation, preference)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksCompilation_finish(
        &self,
        compilation: *mut ANeuralNetworksCompilation,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksCompilation_finish
            .as_ref()
            .expect("Expected function, got error."))(compilation)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksExecution_create(
        &self,
        compilation: *mut ANeuralNetworksCompilation,
        execution: *mut *mut ANeuralNetworksExecution,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksExecution_create
            .as_ref()
            .expect("Expected function, got error."))(compilation, execution)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksExecution_free(
        &self,
        execution: *mut ANeuralNetworksExecution,
    ) {
        (self
            .ANeuralNetworksExecution_free
            .as_ref()
            .expect("Expected function, got error."))(execution)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksExecution_setInput(
        &self,
        execution: *mut ANeuralNetworksExecution,
        index: i32,
        type_: *const ANeuralNetworksOperandType,
        buffer: *const ::core::ffi::c_void,
        length: usize,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksExecution_setInput
            .as_ref()
            .expect(
                "Expected function, got error.",
            ))(execution, index, type_, buffer, length)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksExecution_setOutput(
        &self,
        execution: *mut ANeuralNetworksExecution,
        index: i32,
        type_: *const ANeuralNetworksOperandType,
        buffer: *mut ::core::ffi::c_void,
        length: usize,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksExecution_setOutput
            .as_ref()
            .expect(
                "Expected function, got error.",
            ))(execution, index, type_, buffer, length)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksExecution_startCompute(
        &self,
        execution: *mut ANeuralNetworksExecution,
        event: *mut *mut ANeuralNetworksEvent,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksExecution_startCompute
            .as_ref()
            .expect("Expected function, got error."))(execution, event)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksEvent_wait(
        &self,
        event: *mut ANeuralNetworksEvent,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksEvent_wait
            .as_ref()
            .expect("Expected function, got error."))(event)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksEvent_free(&self, event: *mut ANeuralNetworksEvent) {
        (self
            .ANeuralNetworksEvent_free
            .as_ref()
            .expect("Expected function, got error."))(event)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworks_getDeviceCount(
        &self,
        count: *mut u32,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworks_getDeviceCount
            .as_ref()
            .expect("Expected function, got error."))(count)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworks_getDevice(
        &self,
        index: u32,
        device: *mut *mut ANeuralNetworksDevice,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworks_getDevice
            .as_ref()
            .expect("Expected function, got error."))(index, device)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksDevice_getName(
        &self,
        device: *const ANeuralNetworksDevice,
        name: *mut *const ::core::ffi::c_char,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksDevice_getName
            .as_ref()
            .expect("Expected function, got error."))(device, name)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksDevice_getType(
        &self,
        device: *const ANeuralNetworksDevice,
        type_: *mut i32,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksDevice_getType
            .as_ref()
            .expect("Expected function, got error."))(device, type_)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksDevice_getVersion(
        &self,
        device: *const ANeuralNetworksDevice,
        version: *mut *const ::core::ffi::c_char,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksDevice_getVersion
            .as_ref()
            .expect("Expected function, got error."))(device, version)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksDevice_getFeatureLevel(
        &self,
        device: *const ANeuralNetworksDevice,
        level: *mut i64,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksDevice_getFeatureLevel
            .as_ref()
            .expect("Expected function, got error."))(device, level)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksModel_setOperandSymmPerChannelQuantParams(
        &self,
        model: *mut ANeuralNetworksModel,
        index: i32,
        params: *const ANeuralNetworksSymmPerChannelQuantParams,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksModel_setOperandSymmPerChannelQuantParams
            .as_ref()
            .expect("Expected function, got error."))(model, index, params)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksModel_getSupportedOperationsForDevices(
        &self,
        model: *const ANeuralNetworksModel,
        devices: *const *const ANeuralNetworksDevice,
        count: u32,
        supported: *mut bool,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksModel_getSupportedOperationsForDevices
            .as_ref()
            .expect("Expected function, got error."))(model, devices, count, supported)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksCompilation_createForDevices(
        &self,
        model: *mut ANeuralNetworksModel,
        devices: *const *const ANeuralNetworksDevice,
        count: u32,
        compilation: *mut *mut ANeuralNetworksCompilation,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksCompilation_createForDevices
            .as_ref()
            .expect("Expected function, got error."))(model, devices, count, compilation)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksCompilation_setCaching(
        &self,
        compilation: *mut ANeuralNetworksCompilation,
        folder: *const ::core::ffi::c_char,
        token: *const u8,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksCompilation_setCaching
            .as_ref()
            .expect("Expected function, got error."))(compilation, folder, token)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksExecution_compute(
        &self,
        execution: *mut ANeuralNetworksExecution,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksExecution_compute
            .as_ref()
            .expect("Expected function, got error."))(execution)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksBurst_create(
        &self,
        compilation: *mut ANeuralNetworksCompilation,
        burst: *mut *mut ANeuralNetworksBurst,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksBurst_create
            .as_ref()
            .expect("Expected function, got error."))(compilation, burst)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksBurst_free(&self, burst: *mut ANeuralNetworksBurst) {
        (self
            .ANeuralNetworksBurst_free
            .as_ref()
            .expect("Expected function, got error."))(burst)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksExecution_burstCompute(
        &self,
        execution: *mut ANeuralNetworksExecution,
        burst: *mut ANeuralNetworksBurst,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksExecution_burstCompute
            .as_ref()
            .expect("Expected function, got error."))(execution, burst)
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworks_getRuntimeFeatureLevel(&self) -> i64 {
        (self
            .ANeuralNetworks_getRuntimeFeatureLevel
            .as_ref()
            .expect("Expected function, got error."))()
    }
    /// # Safety
    /// As the ABI says.
    pub unsafe fn ANeuralNetworksExecution_setReusable(
        &self,
        execution: *mut ANeuralNetworksExecution,
        reusable: bool,
    ) -> ::core::ffi::c_int {
        (self
            .ANeuralNetworksExecution_setReusable
            .as_ref()
            .expect("Expected function, got error."))(execution, reusable)
    }
}
