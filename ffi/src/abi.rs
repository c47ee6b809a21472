//! The header's types and functions, as bindgen reads them. Generated: see tests/suites/abi.rs.
#![allow(missing_docs, non_camel_case_types, dead_code, unreachable_pub, clippy::all)]

pub const TN_VERSION: u32 = 100;
pub const TN_MAX_RANK: u32 = 8;
pub const TN_NO_VALUE: u32 = 4294967295;
pub type tn_status = i32;
pub const TN_OK: _bindgen_ty_1 = 0;
pub const TN_ERROR_ARGUMENT: _bindgen_ty_1 = 1;
pub const TN_ERROR_SHAPE: _bindgen_ty_1 = 2;
pub const TN_ERROR_NOT_FOUND: _bindgen_ty_1 = 3;
pub const TN_ERROR_GRAPH: _bindgen_ty_1 = 4;
pub const TN_ERROR_IO: _bindgen_ty_1 = 5;
pub const TN_ERROR_FORMAT: _bindgen_ty_1 = 6;
pub const TN_ERROR_MEMORY: _bindgen_ty_1 = 7;
pub const TN_ERROR_UNSUPPORTED: _bindgen_ty_1 = 8;
pub const TN_ERROR_CANCELLED: _bindgen_ty_1 = 9;
pub const TN_ERROR_DEVICE: _bindgen_ty_1 = 10;
pub const TN_ERROR_INTERNAL: _bindgen_ty_1 = 11;
pub type _bindgen_ty_1 = ::core::ffi::c_uint;
pub type tn_dtype = i32;
pub const TN_F32: _bindgen_ty_2 = 0;
pub const TN_F16: _bindgen_ty_2 = 1;
pub const TN_BF16: _bindgen_ty_2 = 2;
pub const TN_I8: _bindgen_ty_2 = 3;
pub const TN_I32: _bindgen_ty_2 = 4;
pub const TN_U8: _bindgen_ty_2 = 5;
pub const TN_Q8_0: _bindgen_ty_2 = 16;
pub const TN_Q4_0: _bindgen_ty_2 = 17;
pub const TN_Q4_1: _bindgen_ty_2 = 18;
pub const TN_Q5_0: _bindgen_ty_2 = 19;
pub const TN_Q5_1: _bindgen_ty_2 = 20;
pub const TN_Q4_K: _bindgen_ty_2 = 21;
pub const TN_Q6_K: _bindgen_ty_2 = 22;
pub type _bindgen_ty_2 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug)]
pub struct tn_context {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct tn_graph {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct tn_model {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct tn_session {
    _unused: [u8; 0],
}
pub type tn_value = u32;
unsafe extern "C" {
    pub fn tn_version() -> u32;
}
unsafe extern "C" {
    pub fn tn_status_text(status: tn_status) -> *const ::core::ffi::c_char;
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_allocator {
    pub struct_size: usize,
    pub user: *mut ::core::ffi::c_void,
    pub allocate: ::core::option::Option<
        unsafe extern "C" fn(
            user: *mut ::core::ffi::c_void,
            size: usize,
            alignment: usize,
        ) -> *mut ::core::ffi::c_void,
    >,
    pub release: ::core::option::Option<
        unsafe extern "C" fn(
            user: *mut ::core::ffi::c_void,
            memory: *mut ::core::ffi::c_void,
            size: usize,
        ),
    >,
}
pub type tn_log = ::core::option::Option<
    unsafe extern "C" fn(
        user: *mut ::core::ffi::c_void,
        message: *const ::core::ffi::c_char,
    ),
>;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_context_options {
    pub struct_size: usize,
    pub threads: u32,
    pub isa: *const ::core::ffi::c_char,
    pub allocator: *const tn_allocator,
    pub log: tn_log,
    pub log_user: *mut ::core::ffi::c_void,
    pub backend: *const ::core::ffi::c_char,
    pub calibrate: u32,
}
unsafe extern "C" {
    pub fn tn_context_create(
        options: *const tn_context_options,
        context: *mut *mut tn_context,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_context_destroy(context: *mut tn_context);
}
unsafe extern "C" {
    pub fn tn_error_message(
        context: *const tn_context,
        text: *mut ::core::ffi::c_char,
        size: usize,
    ) -> usize;
}
unsafe extern "C" {
    pub fn tn_graph_create(
        context: *mut tn_context,
        graph: *mut *mut tn_graph,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_graph_destroy(graph: *mut tn_graph);
}
unsafe extern "C" {
    pub fn tn_graph_input(
        graph: *mut tn_graph,
        name: *const ::core::ffi::c_char,
        dtype: tn_dtype,
        dims: *const i64,
        rank: usize,
        value: *mut tn_value,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_graph_parameter(
        graph: *mut tn_graph,
        name: *const ::core::ffi::c_char,
        dtype: tn_dtype,
        dims: *const i64,
        rank: usize,
        data: *const ::core::ffi::c_void,
        size: usize,
        trainable: i32,
        value: *mut tn_value,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_graph_parameter_dlpack(
        graph: *mut tn_graph,
        name: *const ::core::ffi::c_char,
        major: u32,
        tensor: *mut ::core::ffi::c_void,
        trainable: i32,
        value: *mut tn_value,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_graph_state(
        graph: *mut tn_graph,
        name: *const ::core::ffi::c_char,
        dtype: tn_dtype,
        dims: *const i64,
        rank: usize,
        value: *mut tn_value,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_graph_constant(
        graph: *mut tn_graph,
        dtype: tn_dtype,
        dims: *const i64,
        rank: usize,
        data: *const ::core::ffi::c_void,
        size: usize,
        value: *mut tn_value,
    ) -> tn_status;
}
pub type tn_attr_kind = i32;
pub const TN_ATTR_INT: _bindgen_ty_3 = 0;
pub const TN_ATTR_FLOAT: _bindgen_ty_3 = 1;
pub const TN_ATTR_BOOL: _bindgen_ty_3 = 2;
pub const TN_ATTR_STRING: _bindgen_ty_3 = 3;
pub const TN_ATTR_INTS: _bindgen_ty_3 = 4;
pub type _bindgen_ty_3 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_attr {
    pub struct_size: usize,
    pub name: *const ::core::ffi::c_char,
    pub kind: tn_attr_kind,
    pub integer: i64,
    pub number: f64,
    pub string: *const ::core::ffi::c_char,
    pub integers: *const i64,
    pub integer_count: usize,
}
unsafe extern "C" {
    pub fn tn_graph_add(
        graph: *mut tn_graph,
        op: *const ::core::ffi::c_char,
        attrs: *const tn_attr,
        attr_count: usize,
        inputs: *const tn_value,
        input_count: usize,
        outputs: *mut tn_value,
        output_capacity: usize,
        output_count: *mut usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_graph_output(
        graph: *mut tn_graph,
        name: *const ::core::ffi::c_char,
        value: tn_value,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_graph_set_trainable(
        graph: *mut tn_graph,
        parameter: tn_value,
        trainable: i32,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_graph_shape(
        graph: *mut tn_graph,
        value: tn_value,
        dims: *mut i64,
        rank: *mut usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_graph_dump(
        graph: *mut tn_graph,
        text: *mut *const ::core::ffi::c_char,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_graph_graphviz(
        graph: *mut tn_graph,
        text: *mut *const ::core::ffi::c_char,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_model_load(
        context: *mut tn_context,
        path: *const ::core::ffi::c_char,
        model: *mut *mut tn_model,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_model_destroy(model: *mut tn_model);
}
pub type tn_trains = i32;
pub const TN_TRAIN_LORA: _bindgen_ty_4 = 0;
pub const TN_TRAIN_EVERYTHING: _bindgen_ty_4 = 1;
pub const TN_TRAIN_NOTHING: _bindgen_ty_4 = 2;
pub type _bindgen_ty_4 = ::core::ffi::c_uint;
pub type tn_precision = i32;
pub const TN_PRECISION_F32: _bindgen_ty_5 = 0;
pub const TN_PRECISION_BF16: _bindgen_ty_5 = 1;
pub const TN_PRECISION_INT8: _bindgen_ty_5 = 2;
pub type _bindgen_ty_5 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_model_options {
    pub struct_size: usize,
    pub batch: u32,
    pub seq: u32,
    pub trains: tn_trains,
    pub lora_rank: u32,
    pub lora_alpha: f32,
    pub lora_targets: *const ::core::ffi::c_char,
    pub precision: tn_precision,
    pub seed: u64,
    pub logits: i32,
    pub unused: i32,
    pub exits: *const ::core::ffi::c_char,
    pub first_layer: u32,
    pub end_layer: u32,
    pub wire: tn_dtype,
    pub unused_too: i32,
}
pub type tn_optimizer = i32;
pub const TN_ADAMW: _bindgen_ty_6 = 0;
pub const TN_ADAM: _bindgen_ty_6 = 1;
pub const TN_SGD: _bindgen_ty_6 = 2;
pub type _bindgen_ty_6 = ::core::ffi::c_uint;
pub type tn_schedule = i32;
pub const TN_SCHEDULE_CONSTANT: _bindgen_ty_7 = 0;
pub const TN_SCHEDULE_LINEAR: _bindgen_ty_7 = 1;
pub const TN_SCHEDULE_COSINE: _bindgen_ty_7 = 2;
pub type _bindgen_ty_7 = ::core::ffi::c_uint;
pub type tn_clipping = i32;
pub const TN_CLIP_EXACT: _bindgen_ty_8 = 0;
pub const TN_CLIP_TWO_PASS: _bindgen_ty_8 = 1;
pub const TN_CLIP_RUNNING: _bindgen_ty_8 = 2;
pub type _bindgen_ty_8 = ::core::ffi::c_uint;
pub type tn_state = i32;
pub const TN_STATE_F32: _bindgen_ty_9 = 0;
pub const TN_STATE_BF16: _bindgen_ty_9 = 1;
pub const TN_STATE_INT8: _bindgen_ty_9 = 2;
pub type _bindgen_ty_9 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_train_options {
    pub struct_size: usize,
    pub optimizer: tn_optimizer,
    pub lr: f32,
    pub weight_decay: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    pub momentum: f32,
    pub nesterov: i32,
    pub schedule: tn_schedule,
    pub warmup_steps: u64,
    pub total_steps: u64,
    pub clip_norm: f32,
    pub accumulation: u32,
    pub keep_gradients: i32,
    pub memory_budget: u64,
    pub state: tn_state,
    pub stage_inputs: i32,
    pub clipping: tn_clipping,
    pub spill_folder: *const ::core::ffi::c_char,
    pub proximal: f32,
    pub control_variates: i32,
    pub outer_lr: f32,
    pub outer_momentum: f32,
    pub sample_clip_norm: f32,
    pub noise_multiplier: f32,
    pub noise_seed: u64,
    pub samples: u32,
    pub unused_too: i32,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_plan {
    pub struct_size: usize,
    pub nodes: u64,
    pub planned_peak_bytes: u64,
    pub lower_bound_bytes: u64,
    pub arena_bytes: u64,
    pub owned_bytes: u64,
    pub plan_ms: f64,
    pub recomputed_nodes: u64,
    pub slowdown: f64,
    pub spilled_bytes: u64,
}
unsafe extern "C" {
    pub fn tn_plan_graph(
        graph: *mut tn_graph,
        loss: tn_value,
        options: *const tn_train_options,
        plan: *mut tn_plan,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_plan_model(
        model: *mut tn_model,
        model_options: *const tn_model_options,
        options: *const tn_train_options,
        plan: *mut tn_plan,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_create(
        graph: *mut tn_graph,
        loss: tn_value,
        options: *const tn_train_options,
        session: *mut *mut tn_session,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_from_model(
        model: *mut tn_model,
        model_options: *const tn_model_options,
        options: *const tn_train_options,
        session: *mut *mut tn_session,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_destroy(session: *mut tn_session);
}
unsafe extern "C" {
    pub fn tn_session_plan(session: *mut tn_session, plan: *mut tn_plan) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_set_memory_budget(
        session: *mut tn_session,
        memory_budget: u64,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_write(
        session: *mut tn_session,
        name: *const ::core::ffi::c_char,
        data: *const ::core::ffi::c_void,
        size: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_stage(
        session: *mut tn_session,
        name: *const ::core::ffi::c_char,
        data: *const ::core::ffi::c_void,
        size: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_take(session: *mut tn_session) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_read(
        session: *mut tn_session,
        name: *const ::core::ffi::c_char,
        data: *mut ::core::ffi::c_void,
        size: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_dlpack(
        session: *mut tn_session,
        name: *const ::core::ffi::c_char,
        major: u32,
        tensor: *mut *mut ::core::ffi::c_void,
    ) -> tn_status;
}
pub type tn_progress = ::core::option::Option<
    unsafe extern "C" fn(user: *mut ::core::ffi::c_void, done: u64, total: u64) -> i32,
>;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_run_options {
    pub struct_size: usize,
    pub progress: tn_progress,
    pub progress_user: *mut ::core::ffi::c_void,
    pub trace_file: *const ::core::ffi::c_char,
    pub progress_ms: u32,
    pub unused: u32,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_report {
    pub struct_size: usize,
    pub loss: f32,
    pub lr: f32,
    pub grad_norm: f32,
    pub unused: f32,
    pub step: u64,
}
unsafe extern "C" {
    pub fn tn_session_step(
        session: *mut tn_session,
        options: *const tn_run_options,
        report: *mut tn_report,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_evaluate(
        session: *mut tn_session,
        options: *const tn_run_options,
        loss: *mut f32,
    ) -> tn_status;
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_parameter {
    pub struct_size: usize,
    pub name: *const ::core::ffi::c_char,
    pub dtype: tn_dtype,
    pub trainable: i32,
    pub size: u64,
    pub rank: usize,
    pub dims: [i64; 8usize],
}
unsafe extern "C" {
    pub fn tn_session_parameter_count(
        session: *mut tn_session,
        count: *mut usize,
        trainable: *mut usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_parameter(
        session: *mut tn_session,
        index: usize,
        parameter: *mut tn_parameter,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_trainable_size(
        session: *mut tn_session,
        size: *mut usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_get_trainable(
        session: *mut tn_session,
        data: *mut ::core::ffi::c_void,
        size: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_set_trainable(
        session: *mut tn_session,
        data: *const ::core::ffi::c_void,
        size: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_get_gradients(
        session: *mut tn_session,
        data: *mut ::core::ffi::c_void,
        size: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_save(
        session: *mut tn_session,
        path: *const ::core::ffi::c_char,
        note: *const ::core::ffi::c_char,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_load(
        session: *mut tn_session,
        path: *const ::core::ffi::c_char,
        note: *mut *const ::core::ffi::c_char,
    ) -> tn_status;
}
pub type tn_kept = i32;
pub const TN_KEPT_ANCHOR: _bindgen_ty_10 = 0;
pub const TN_KEPT_CONTROL: _bindgen_ty_10 = 1;
pub const TN_KEPT_SERVER_CONTROL: _bindgen_ty_10 = 2;
pub const TN_KEPT_OUTER_MOMENTUM: _bindgen_ty_10 = 3;
pub type _bindgen_ty_10 = ::core::ffi::c_uint;
unsafe extern "C" {
    pub fn tn_session_get_kept(
        session: *mut tn_session,
        kept: tn_kept,
        data: *mut ::core::ffi::c_void,
        size: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_set_kept(
        session: *mut tn_session,
        kept: tn_kept,
        data: *const ::core::ffi::c_void,
        size: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_begin_round(session: *mut tn_session) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_renew_control(session: *mut tn_session) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_outer_step(session: *mut tn_session) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_graph_send(
        graph: *mut tn_graph,
        name: *const ::core::ffi::c_char,
        dtype: tn_dtype,
        value: tn_value,
        trains: i32,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_graph_receive(
        graph: *mut tn_graph,
        name: *const ::core::ffi::c_char,
        dtype: tn_dtype,
        dims: *const i64,
        rank: usize,
        trains: i32,
        value: *mut tn_value,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_session_forward(
        session: *mut tn_session,
        options: *const tn_run_options,
    ) -> tn_status;
}
pub type tn_set = i32;
pub const TN_SET_TRAINABLE: _bindgen_ty_11 = 0;
pub const TN_SET_ALL: _bindgen_ty_11 = 1;
pub const TN_SET_ADAPTERS: _bindgen_ty_11 = 2;
pub type _bindgen_ty_11 = ::core::ffi::c_uint;
unsafe extern "C" {
    pub fn tn_model_empty(
        context: *mut tn_context,
        path: *const ::core::ffi::c_char,
        model: *mut *mut tn_model,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_parameters_count(
        session: *mut tn_session,
        set: tn_set,
        parameters: *mut usize,
        elements: *mut usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_parameters_read(
        session: *mut tn_session,
        set: tn_set,
        data: *mut f32,
        count: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_parameters_write(
        session: *mut tn_session,
        set: tn_set,
        data: *const f32,
        count: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_parameters_difference(
        session: *mut tn_session,
        set: tn_set,
        start: *const f32,
        update: *mut f32,
        count: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_parameters_add(
        session: *mut tn_session,
        set: tn_set,
        factor: f32,
        update: *const f32,
        count: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_update_accumulate(
        context: *mut tn_context,
        weight: f32,
        update: *const f32,
        sum: *mut f32,
        count: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_update_average(
        context: *mut tn_context,
        weights: *const f32,
        sum: *mut f32,
        count: usize,
    ) -> tn_status;
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_compression {
    pub struct_size: usize,
    pub keep: u64,
    pub bits: u32,
    pub unused: u32,
    pub seed: u64,
    pub round: u64,
}
unsafe extern "C" {
    pub fn tn_update_bound(
        context: *mut tn_context,
        how: *const tn_compression,
        count: usize,
        size: *mut usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_update_compress(
        context: *mut tn_context,
        how: *const tn_compression,
        update: *const f32,
        residual: *mut f32,
        count: usize,
        bytes: *mut ::core::ffi::c_void,
        capacity: usize,
        size: *mut usize,
    ) -> tn_status;
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_message {
    pub struct_size: usize,
    pub count: u64,
    pub kept: u64,
    pub bits: u32,
    pub unused: u32,
}
unsafe extern "C" {
    pub fn tn_update_inspect(
        context: *mut tn_context,
        bytes: *const ::core::ffi::c_void,
        size: usize,
        message: *mut tn_message,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_update_add(
        context: *mut tn_context,
        weight: f32,
        bytes: *const ::core::ffi::c_void,
        size: usize,
        sum: *mut f32,
        count: usize,
    ) -> tn_status;
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_fixed_point {
    pub struct_size: usize,
    pub clip: f32,
    pub clients: u32,
}
unsafe extern "C" {
    pub fn tn_secure_encode(
        context: *mut tn_context,
        fixed: *const tn_fixed_point,
        weight: f32,
        x: *const f32,
        words: *mut u32,
        count: usize,
    ) -> tn_status;
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_mask {
    pub struct_size: usize,
    pub seed: u64,
    pub round: u64,
    pub negative: i32,
    pub unused: i32,
}
unsafe extern "C" {
    pub fn tn_secure_mask(
        context: *mut tn_context,
        masks: *const tn_mask,
        mask_count: usize,
        words: *mut u32,
        count: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_secure_add(
        context: *mut tn_context,
        words: *const u32,
        sum: *mut u32,
        count: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_secure_decode(
        context: *mut tn_context,
        fixed: *const tn_fixed_point,
        factor: f32,
        words: *const u32,
        x: *mut f32,
        count: usize,
    ) -> tn_status;
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_axis {
    pub struct_size: usize,
    pub parameters: *const ::core::ffi::c_char,
    pub axis: u32,
    pub unit: u32,
    pub length: u64,
    pub start: u64,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct tn_submodel {
    pub struct_size: usize,
    pub parameters: *const tn_parameter,
    pub parameter_count: usize,
    pub axes: *const tn_axis,
    pub axis_count: usize,
}
unsafe extern "C" {
    pub fn tn_submodel_count(
        context: *mut tn_context,
        submodel: *const tn_submodel,
        count: *mut usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_submodel_extract(
        context: *mut tn_context,
        submodel: *const tn_submodel,
        whole: *const f32,
        whole_count: usize,
        part: *mut f32,
        part_count: usize,
    ) -> tn_status;
}
unsafe extern "C" {
    pub fn tn_submodel_add(
        context: *mut tn_context,
        submodel: *const tn_submodel,
        weight: f32,
        part: *const f32,
        part_count: usize,
        sum: *mut f32,
        weights: *mut f32,
        whole_count: usize,
    ) -> tn_status;
}
