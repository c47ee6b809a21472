//! A stand-in for `libneuralnetworks.so` that is as strict as the documentation, and no faster than
//! simple loops. What it refuses it says on standard error.

#![allow(
    non_snake_case,
    unreachable_pub,
    missing_docs,
    clippy::missing_safety_doc,
    clippy::print_stderr
)]

mod device;
mod faults;
mod rules;

use std::ffi::{CStr, c_char, c_int, c_void};

use rules::{Operand, Operation};
use tenon_backends::npu::evaluate::evaluate;
use tenon_backends::npu::{Graph, ValueId};

const OK: c_int = 0;
const NULL: c_int = 3;
const BAD_DATA: c_int = 4;
const OP_FAILED: c_int = 5;
const BAD_STATE: c_int = 6;
const DEAD: c_int = 14;

/// What stands for compiled code in a cache.
const PROGRAM: [u8; 64] = [0x5a; 64];

/// Values up to this size are copied when they are set; larger ones must stay where they are.
const COPIED: usize = 128;

#[repr(C)]
pub struct OperandType {
    code: i32,
    count: u32,
    dims: *const u32,
    scale: f32,
    zero: i32,
}

#[repr(C)]
pub struct Channels {
    axis: u32,
    count: u32,
    scales: *const f32,
}

#[derive(Default)]
pub struct Model {
    operands: Vec<Operand>,
    lent: Vec<(usize, *const u8, usize)>,
    operations: Vec<Operation>,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    graph: Option<Graph>,
}

pub struct Compilation {
    graph: Graph,
    finished: bool,
    cache: Option<(String, [u8; 32])>,
    /// Whether what it was read from was not what had been written.
    damaged: bool,
}

pub struct Execution {
    compilation: *const Compilation,
    inputs: Vec<Option<Vec<u8>>>,
    from: Vec<(*const u8, usize)>,
    outputs: Vec<Option<(*mut u8, usize)>>,
    reusable: bool,
    runs: usize,
}

fn refuse(code: c_int, why: impl std::fmt::Display) -> c_int {
    eprintln!("stand-in: {why}");
    code
}

/// The object behind a handle.
macro_rules! object {
    ($handle:expr) => {
        // SAFETY: handles come from this library's functions and live until they are freed.
        match unsafe { $handle.as_mut() } {
            Some(object) => object,
            None => return refuse(NULL, "a null handle"),
        }
    };
}

/// Copies a caller's array.
unsafe fn array<T: Copy>(at: *const T, count: u32) -> Vec<T> {
    if count == 0 {
        return Vec::new();
    }
    // SAFETY: the caller's array of so many.
    unsafe { std::slice::from_raw_parts(at, count as usize) }.to_vec()
}

fn numbers(all: Vec<u32>) -> Vec<usize> {
    all.into_iter().map(|n| n as usize).collect()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksModel_create(model: *mut *mut Model) -> c_int {
    // SAFETY: the caller's.
    unsafe { *model = Box::into_raw(Box::default()) };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksModel_free(model: *mut Model) {
    if !model.is_null() {
        // SAFETY: made by `create`, freed once.
        drop(unsafe { Box::from_raw(model) });
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksModel_addOperand(
    model: *mut Model,
    ty: *const OperandType,
) -> c_int {
    let model = object!(model);
    if model.graph.is_some() {
        return refuse(BAD_STATE, "the model is finished");
    }
    // SAFETY: the caller's.
    let Some(ty) = (unsafe { ty.as_ref() }) else { return refuse(NULL, "no type") };
    // SAFETY: as above.
    let dims = numbers(unsafe { array(ty.dims, ty.count) });
    let (code, scale, zero) = (ty.code, ty.scale, ty.zero);
    let operand = Operand { code, dims, scale, zero, ..Operand::default() };
    let known = [0, 1, 3, 4, 6, 8, 9, 10, 11, 14];
    if !known.contains(&code) {
        return refuse(BAD_DATA, format_args!("operand type {code}"));
    }
    if operand.is_scalar() != operand.dims.is_empty() {
        return refuse(BAD_DATA, "a scalar has no axes, a tensor has some");
    }
    if operand.dims.contains(&0) {
        return refuse(BAD_DATA, "a shape that is not known");
    }
    let has_scale = matches!(code, 14 | 4);
    if scale < 0.0 || code == 14 && scale <= 0.0 || !has_scale && scale != 0.0 {
        return refuse(BAD_DATA, format_args!("scale {scale} of type {code}"));
    }
    if zero != 0 && !(code == 14 && (-128..=127).contains(&zero)) {
        return refuse(BAD_DATA, format_args!("zero point {zero} of type {code}"));
    }
    model.operands.push(operand);
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksModel_setOperandSymmPerChannelQuantParams(
    model: *mut Model,
    index: i32,
    channels: *const Channels,
) -> c_int {
    let model = object!(model);
    // SAFETY: the caller's.
    let Some(channels) = (unsafe { channels.as_ref() }) else { return refuse(NULL, "no scales") };
    let Some(operand) = model.operands.get_mut(index as usize) else {
        return refuse(BAD_DATA, "no such operand");
    };
    let axis = channels.axis as usize;
    if operand.code != 11 || operand.dims.get(axis) != Some(&(channels.count as usize)) {
        return refuse(BAD_DATA, "scales that do not fit the operand");
    }
    // SAFETY: the caller's.
    operand.channels = Some((axis, unsafe { array(channels.scales, channels.count) }));
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksModel_setOperandValue(
    model: *mut Model,
    index: i32,
    at: *const u8,
    length: usize,
) -> c_int {
    let model = object!(model);
    if model.graph.is_some() {
        return refuse(BAD_STATE, "the model is finished");
    }
    let Some(operand) = model.operands.get_mut(index as usize) else {
        return refuse(BAD_DATA, "no such operand");
    };
    if operand.bytes() != length {
        return refuse(BAD_DATA, format_args!("{length} bytes for {operand:?}"));
    }
    if length <= COPIED {
        // SAFETY: the caller's bytes.
        operand.value = Some(unsafe { array(at, length as u32) });
    } else {
        operand.value = Some(Vec::new());
        model.lent.push((index as usize, at, length));
    }
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksModel_addOperation(
    model: *mut Model,
    code: i32,
    input_count: u32,
    inputs: *const u32,
    output_count: u32,
    outputs: *const u32,
) -> c_int {
    let model = object!(model);
    if model.graph.is_some() {
        return refuse(BAD_STATE, "the model is finished");
    }
    // SAFETY: the caller's arrays.
    let (inputs, outputs) =
        unsafe { (numbers(array(inputs, input_count)), numbers(array(outputs, output_count))) };
    let [output] = outputs[..] else { return refuse(BAD_DATA, "one output is made here") };
    let operation = Operation { code, inputs, output };
    if let Err(why) = rules::check(&operation, &model.operands, faults::current().level) {
        return refuse(BAD_DATA, format_args!("operation {code}: {why}"));
    }
    let made = &mut model.operands[output];
    if made.made || made.value.is_some() {
        return refuse(BAD_DATA, "an operand is made once");
    }
    made.made = true;
    model.operations.push(operation);
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksModel_identifyInputsAndOutputs(
    model: *mut Model,
    input_count: u32,
    inputs: *const u32,
    output_count: u32,
    outputs: *const u32,
) -> c_int {
    let model = object!(model);
    // SAFETY: the caller's arrays.
    let (inputs, outputs) =
        unsafe { (numbers(array(inputs, input_count)), numbers(array(outputs, output_count))) };
    if inputs.is_empty() || outputs.is_empty() {
        return refuse(BAD_DATA, "a model has inputs and outputs");
    }
    let given = |i: &usize| model.operands.get(*i).is_some_and(|o| !o.made && o.value.is_none());
    if !inputs.iter().all(given) {
        return refuse(BAD_DATA, "an input that is a constant, or made");
    }
    if !outputs.iter().all(|i| model.operands.get(*i).is_some_and(|o| o.made)) {
        return refuse(BAD_DATA, "an output that nothing makes");
    }
    (model.inputs, model.outputs) = (inputs, outputs);
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksModel_finish(model: *mut Model) -> c_int {
    let model = object!(model);
    if model.graph.is_some() || model.outputs.is_empty() {
        return refuse(BAD_STATE, "finished already, or without inputs and outputs");
    }
    for (index, at, length) in model.lent.drain(..) {
        // SAFETY: the caller keeps it.
        model.operands[index].value = Some(unsafe { array(at, length as u32) });
    }
    match graph(model) {
        Ok(graph) => model.graph = Some(graph),
        Err(why) => return refuse(BAD_DATA, why),
    }
    OK
}

fn graph(model: &Model) -> Result<Graph, String> {
    let mut graph = Graph::default();
    let mut values: Vec<Option<ValueId>> = vec![None; model.operands.len()];
    for &input in &model.inputs {
        values[input] = Some(graph.input(model.operands[input].ty()));
    }
    for (i, operand) in model.operands.iter().enumerate().filter(|(_, o)| !o.is_scalar()) {
        if let Some(value) = &operand.value {
            let made = graph.constant(operand.ty(), value.clone());
            values[i] = Some(made.map_err(|e| e.to_string())?);
        }
    }
    for operation in &model.operations {
        let about = |why: String| format!("operation {}: {why}", operation.code);
        let made = rules::add(&mut graph, operation, &model.operands, &values).map_err(about)?;
        let want = model.operands[operation.output].ty();
        if *graph.ty(made) != want {
            return Err(about(format!("makes {}, declared is {want}", graph.ty(made))));
        }
        values[operation.output] = Some(made);
    }
    for &output in &model.outputs {
        graph.output(values[output].ok_or("an output that nothing makes")?);
    }
    Ok(graph)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksModel_getSupportedOperationsForDevices(
    model: *const Model,
    _: *const *const u8,
    count: u32,
    supported: *mut bool,
) -> c_int {
    let model = object!(model.cast_mut());
    if model.graph.is_none() || count != 1 {
        return refuse(BAD_STATE, "the model is not finished");
    }
    let without = faults::current().without;
    for (i, operation) in model.operations.iter().enumerate() {
        // SAFETY: the caller has one for each operation.
        unsafe { *supported.add(i) = !without.contains(&operation.code) };
    }
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksCompilation_createForDevices(
    model: *mut Model,
    _: *const *const u8,
    count: u32,
    compilation: *mut *mut Compilation,
) -> c_int {
    let model = object!(model);
    let Some(graph) = model.graph.clone().filter(|_| count == 1) else {
        return refuse(BAD_STATE, "the model is not finished");
    };
    let made = Compilation { graph, finished: false, cache: None, damaged: false };
    // SAFETY: the caller's.
    unsafe { *compilation = Box::into_raw(Box::new(made)) };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksCompilation_free(compilation: *mut Compilation) {
    if !compilation.is_null() {
        // SAFETY: made by `create`, freed once.
        drop(unsafe { Box::from_raw(compilation) });
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksCompilation_setPreference(
    compilation: *mut Compilation,
    preference: i32,
) -> c_int {
    let compilation = object!(compilation);
    if compilation.finished || !(0..=2).contains(&preference) {
        return refuse(BAD_STATE, "too late, or no such preference");
    }
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksCompilation_setCaching(
    compilation: *mut Compilation,
    folder: *const c_char,
    token: *const u8,
) -> c_int {
    let compilation = object!(compilation);
    if compilation.finished || folder.is_null() || token.is_null() {
        return refuse(BAD_STATE, "too late, or nothing given");
    }
    // SAFETY: the caller's string and 32 bytes.
    let (folder, bytes) = unsafe { (CStr::from_ptr(folder), array(token, 32)) };
    let mut token = [0; 32];
    token.copy_from_slice(&bytes);
    compilation.cache = Some((folder.to_string_lossy().into_owned(), token));
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksCompilation_finish(compilation: *mut Compilation) -> c_int {
    let compilation = object!(compilation);
    if compilation.finished {
        return refuse(BAD_STATE, "finished already");
    }
    let faults = faults::current();
    std::thread::sleep(std::time::Duration::from_millis(faults.slow));
    if faults.refuse {
        return OP_FAILED;
    }
    if let Some((folder, token)) = &compilation.cache {
        let file = std::path::Path::new(folder).join("compiled");
        // As a careless driver: what is kept is taken if it begins with this token.
        match std::fs::read(&file) {
            Ok(bytes) if bytes.starts_with(token) => {
                compilation.damaged = bytes[token.len()..] != PROGRAM;
            }
            _ => drop(std::fs::write(file, [token, &PROGRAM[..]].concat())),
        }
    }
    compilation.finished = true;
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksExecution_create(
    compilation: *mut Compilation,
    execution: *mut *mut Execution,
) -> c_int {
    let compilation = object!(compilation);
    if !compilation.finished {
        return refuse(BAD_STATE, "the compilation is not finished");
    }
    let (inputs, outputs) = (compilation.graph.inputs().len(), compilation.graph.outputs().len());
    let made = Execution {
        compilation,
        inputs: vec![None; inputs],
        from: vec![(std::ptr::null(), 0); inputs],
        outputs: vec![None; outputs],
        reusable: false,
        runs: 0,
    };
    // SAFETY: the caller's.
    unsafe { *execution = Box::into_raw(Box::new(made)) };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksExecution_free(execution: *mut Execution) {
    if !execution.is_null() {
        // SAFETY: made by `create`, freed once.
        drop(unsafe { Box::from_raw(execution) });
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksExecution_setReusable(
    execution: *mut Execution,
    reusable: bool,
) -> c_int {
    let execution = object!(execution);
    if execution.runs > 0 || faults::current().level < 5 {
        return refuse(BAD_STATE, "too late, or of level 5");
    }
    execution.reusable = reusable;
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksExecution_setInput(
    execution: *mut Execution,
    index: i32,
    ty: *const OperandType,
    at: *const c_void,
    length: usize,
) -> c_int {
    let execution = object!(execution);
    // SAFETY: an execution ends before its compilation.
    let graph = unsafe { &(*execution.compilation).graph };
    let Some(&value) = graph.inputs().get(index as usize) else {
        return refuse(BAD_DATA, "no such input");
    };
    if execution.runs > 0 || !ty.is_null() || graph.ty(value).bytes() != length || at.is_null() {
        return refuse(BAD_DATA, format_args!("{length} bytes for {}", graph.ty(value)));
    }
    execution.from[index as usize] = (at.cast(), length);
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksExecution_setOutput(
    execution: *mut Execution,
    index: i32,
    ty: *const OperandType,
    at: *mut c_void,
    length: usize,
) -> c_int {
    let execution = object!(execution);
    // SAFETY: an execution ends before its compilation.
    let graph = unsafe { &(*execution.compilation).graph };
    let Some(&value) = graph.outputs().get(index as usize) else {
        return refuse(BAD_DATA, "no such output");
    };
    if execution.runs > 0 || !ty.is_null() || graph.ty(value).bytes() != length || at.is_null() {
        return refuse(BAD_DATA, format_args!("{length} bytes for {}", graph.ty(value)));
    }
    execution.outputs[index as usize] = Some((at.cast(), length));
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksExecution_compute(execution: *mut Execution) -> c_int {
    let execution = object!(execution);
    if execution.runs > 0 && !execution.reusable {
        return refuse(BAD_STATE, "it has run, and is not reusable");
    }
    if execution.from.iter().any(|(at, _)| at.is_null()) || execution.outputs.contains(&None) {
        return refuse(BAD_DATA, "an input or output is not set");
    }
    execution.runs += 1;
    if faults::is_lost() {
        return DEAD;
    }
    for (to, &(at, length)) in execution.inputs.iter_mut().zip(&execution.from) {
        // SAFETY: the caller keeps what it set.
        *to = Some(unsafe { array(at, length as u32) });
    }
    // SAFETY: an execution ends before its compilation.
    let graph = unsafe { &(*execution.compilation).graph };
    let inputs: Vec<&[u8]> = execution.inputs.iter().flatten().map(Vec::as_slice).collect();
    let outputs = match evaluate(graph, &inputs) {
        Ok(outputs) => outputs,
        Err(why) => return refuse(OP_FAILED, why),
    };
    // SAFETY: as above.
    let wrong = faults::current().wrong || unsafe { (*execution.compilation).damaged };
    for ((bytes, to), &value) in outputs.iter().zip(&execution.outputs).zip(graph.outputs()) {
        let Some((at, length)) = *to else { continue };
        let mut bytes = bytes.clone();
        if wrong && graph.ty(value).dtype.is_float() {
            // Another exponent for every number.
            bytes.iter_mut().skip(3).step_by(4).for_each(|byte| *byte ^= 1);
        }
        // SAFETY: the caller keeps what it set; the sizes were compared.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, length) };
    }
    OK
}

/// A burst: the compilation's.
pub struct Burst;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksBurst_create(
    compilation: *mut Compilation,
    burst: *mut *mut Burst,
) -> c_int {
    if !object!(compilation).finished {
        return refuse(BAD_STATE, "the compilation is not finished");
    }
    // SAFETY: the caller's.
    unsafe { *burst = Box::into_raw(Box::new(Burst)) };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksBurst_free(burst: *mut Burst) {
    if !burst.is_null() {
        // SAFETY: made by `create`, freed once.
        drop(unsafe { Box::from_raw(burst) });
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ANeuralNetworksExecution_burstCompute(
    execution: *mut Execution,
    burst: *mut Burst,
) -> c_int {
    let _ = object!(burst);
    // SAFETY: as the caller says.
    unsafe { ANeuralNetworksExecution_compute(execution) }
}
