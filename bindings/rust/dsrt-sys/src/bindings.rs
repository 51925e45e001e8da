// Generated from <dsrt/dsrt.h> by bindings/rust/generate.py. Do not edit.
use core::ffi::c_void;
use std::os::raw::c_char;

pub type ds_status = i32;
pub type ds_log_fn = Option<unsafe extern "C" fn(level: i32, component: *const c_char, message: *const c_char, user: *mut c_void)>;
pub type ds_token_fn = Option<unsafe extern "C" fn(ids: *const i32, n: usize, user: *mut c_void) -> i32>;
pub type ds_row_tokens_fn = Option<unsafe extern "C" fn(row: usize, ids: *const i32, n: usize, user: *mut c_void) -> i32>;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ds_data_source {
    pub struct_size: usize,
    pub user: *mut c_void,
    pub next: Option<unsafe extern "C" fn(user: *mut c_void, b: *mut ds_batch) -> i32>,
    pub save: Option<unsafe extern "C" fn(user: *mut c_void, json: *mut *mut c_char) -> i32>,
    pub restore: Option<unsafe extern "C" fn(user: *mut c_void, json: *const c_char) -> i32>,
    pub release: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ds_optimizer_callbacks {
    pub struct_size: usize,
    pub user: *mut c_void,
    pub floats_per_element: i32,
    pub update: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            parameter: *const c_char,
            step: i64,
            lr: f64,
            weight: *mut f32,
            gradient: *const f32,
            state: *mut f32,
            n: usize,
        ) -> i32,
    >,
    pub release: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ds_communicator_callbacks {
    pub struct_size: usize,
    pub user: *mut c_void,
    pub rank: i32,
    pub size: i32,
    pub send: Option<unsafe extern "C" fn(user: *mut c_void, to: i32, lane: u32, data: *const c_void, bytes: usize) -> i32>,
    pub receive: Option<unsafe extern "C" fn(user: *mut c_void, from: i32, lane: u32, data: *mut c_void, bytes: usize, wait_ms: i32) -> i32>,
    pub abort: Option<unsafe extern "C" fn(user: *mut c_void, why: *const c_char)>,
    pub release: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ds_op_value {
    pub data: *mut c_void,
    pub dtype: i32,
    pub ndim: i32,
    pub shape: *const i64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ds_op_callbacks {
    pub struct_size: usize,
    pub user: *mut c_void,
    pub n_outputs: i32,
    pub shape: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            attrs_json: *const c_char,
            inputs: *const ds_op_value,
            n_inputs: usize,
            ndim: *mut i32,
            shapes: *mut [i64; 8],
        ) -> i32,
    >,
    pub forward: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            attrs_json: *const c_char,
            inputs: *const ds_op_value,
            n_inputs: usize,
            outputs: *const ds_op_value,
        ) -> i32,
    >,
    pub backward: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            attrs_json: *const c_char,
            inputs: *const ds_op_value,
            n_inputs: usize,
            outputs: *const ds_op_value,
            output_gradients: *const ds_op_value,
            input_gradients: *const ds_op_value,
        ) -> i32,
    >,
    pub release: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

#[repr(C)]
pub struct ds_tensor {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct ds_batch {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct ds_engine {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct ds_options {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct ds_cancel {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct ds_tokenizer {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct ds_encoding {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct ds_text_stream {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct ds_data {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct ds_graph {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct DLManagedTensor {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct DLManagedTensorVersioned {
    _opaque: [u8; 0],
}

pub const DS_WEIGHT: i32 = 0;
pub const DS_GRAD: i32 = 1;
pub const DS_FIRST_MOMENT: i32 = 2;
pub const DS_SECOND_MOMENT: i32 = 3;
pub const DS_OK: i32 = 0;
pub const DS_SKIPPED: i32 = 1;
pub const DS_PENDING: i32 = 2;
pub const DS_END: i32 = 3;
pub const DS_E_INVALID_ARGUMENT: i32 = -1;
pub const DS_E_CONFIG: i32 = -2;
pub const DS_E_NOT_FOUND: i32 = -3;
pub const DS_E_IO: i32 = -4;
pub const DS_E_CORRUPT: i32 = -5;
pub const DS_E_OUT_OF_MEMORY: i32 = -6;
pub const DS_E_UNSUPPORTED: i32 = -7;
pub const DS_E_STATE: i32 = -8;
pub const DS_E_BUSY: i32 = -9;
pub const DS_E_COMM: i32 = -10;
pub const DS_E_TIMEOUT: i32 = -11;
pub const DS_E_CANCELLED: i32 = -12;
pub const DS_E_DEVICE: i32 = -13;
pub const DS_E_USER: i32 = -14;
pub const DS_E_INTERNAL: i32 = -15;
pub const DS_LOG_TRACE: i32 = 0;
pub const DS_LOG_DEBUG: i32 = 1;
pub const DS_LOG_INFO: i32 = 2;
pub const DS_LOG_WARN: i32 = 3;
pub const DS_LOG_ERROR: i32 = 4;
pub const DS_LOG_OFF: i32 = 5;
pub const DS_F32: i32 = 0;
pub const DS_F16: i32 = 1;
pub const DS_BF16: i32 = 2;
pub const DS_F64: i32 = 3;
pub const DS_I32: i32 = 4;
pub const DS_I64: i32 = 5;
pub const DS_U8: i32 = 6;
pub const DS_BOOL: i32 = 7;
pub const DS_I8: i32 = 8;
pub const DS_F8E4M3: i32 = 9;
pub const DS_F8E5M2: i32 = 10;

extern "C" {
    pub fn ds_status_name(s: ds_status) -> *const c_char;
    pub fn ds_last_error() -> *const c_char;
    pub fn ds_version() -> *const c_char;
    pub fn ds_abi_version() -> u32;
    pub fn ds_build_info() -> *const c_char;
    pub fn ds_free(p: *mut c_void);
    pub fn ds_set_log(fn_: ds_log_fn, level: i32, user: *mut c_void, release: Option<unsafe extern "C" fn(*mut c_void)>) -> ds_status;
    pub fn ds_tensor_create(dtype: i32, ndim: i32, shape: *const i64, data: *const c_void, bytes: usize, out: *mut *mut ds_tensor) -> ds_status;
    pub fn ds_tensor_info(t: *const ds_tensor, dtype: *mut i32, ndim: *mut i32, shape: *mut *const i64) -> ds_status;
    pub fn ds_tensor_read(t: *const ds_tensor, dtype: i32, dst: *mut c_void, bytes: usize) -> ds_status;
    pub fn ds_tensor_destroy(t: *mut ds_tensor);
    pub fn ds_tensor_from_dlpack(src: *mut DLManagedTensorVersioned, out: *mut *mut ds_tensor) -> ds_status;
    pub fn ds_tensor_to_dlpack(t: *mut ds_tensor, out: *mut *mut DLManagedTensorVersioned) -> ds_status;
    pub fn ds_tensor_from_dlpack_legacy(src: *mut DLManagedTensor, out: *mut *mut ds_tensor) -> ds_status;
    pub fn ds_tensor_to_dlpack_legacy(t: *mut ds_tensor, out: *mut *mut DLManagedTensor) -> ds_status;
    pub fn ds_batch_create(out: *mut *mut ds_batch) -> ds_status;
    pub fn ds_batch_set(b: *mut ds_batch, name: *const c_char, t: *const ds_tensor) -> ds_status;
    pub fn ds_batch_get(b: *const ds_batch, name: *const c_char, out: *mut *mut ds_tensor) -> ds_status;
    pub fn ds_batch_destroy(b: *mut ds_batch);
    pub fn ds_tokenizer_load(path: *const c_char, out: *mut *mut ds_tokenizer) -> ds_status;
    pub fn ds_tokenizer_encode(t: *const ds_tokenizer, text: *const c_char, text_bytes: usize, pair: *const c_char, pair_bytes: usize, add_special_tokens: i32, out: *mut *mut ds_encoding) -> ds_status;
    pub fn ds_encoding_ids(e: *const ds_encoding, ids: *mut *const i32, n: *mut usize) -> ds_status;
    pub fn ds_encoding_type_ids(e: *const ds_encoding, ids: *mut *const i32, n: *mut usize) -> ds_status;
    pub fn ds_encoding_offsets(e: *const ds_encoding, begin_end: *mut *const i64, n: *mut usize) -> ds_status;
    pub fn ds_encoding_destroy(e: *mut ds_encoding);
    pub fn ds_tokenizer_encode_batch(t: *const ds_tokenizer, texts: *const *const c_char, pairs: *const *const c_char, n: usize, options_json: *const c_char, out: *mut ds_batch) -> ds_status;
    pub fn ds_tokenizer_decode(t: *const ds_tokenizer, ids: *const i32, n: usize, skip_special: i32, text: *mut *mut c_char, bytes: *mut usize) -> ds_status;
    pub fn ds_tokenizer_apply_chat_template(t: *const ds_tokenizer, messages_json: *const c_char, options_json: *const c_char, text: *mut *mut c_char) -> ds_status;
    pub fn ds_text_stream_create(t: *const ds_tokenizer, skip_special: i32, out: *mut *mut ds_text_stream) -> ds_status;
    pub fn ds_text_stream_put(s: *mut ds_text_stream, ids: *const i32, n: usize, text: *mut *mut c_char, bytes: *mut usize) -> ds_status;
    pub fn ds_text_stream_destroy(s: *mut ds_text_stream);
    pub fn ds_tokenizer_destroy(t: *mut ds_tokenizer);
    pub fn ds_data_open(options_json: *const c_char, e: *mut ds_engine, out: *mut *mut ds_data) -> ds_status;
    pub fn ds_data_create(source: *const ds_data_source, e: *mut ds_engine, out: *mut *mut ds_data) -> ds_status;
    pub fn ds_data_next(d: *mut ds_data, b: *mut ds_batch) -> ds_status;
    pub fn ds_data_destroy(d: *mut ds_data);
    pub fn ds_graph_create(out: *mut *mut ds_graph) -> ds_status;
    pub fn ds_graph_input(g: *mut ds_graph, name: *const c_char, dtype: i32, ndim: i32, shape: *const i64, value: *mut i32) -> ds_status;
    pub fn ds_graph_param(g: *mut ds_graph, name: *const c_char, dtype: i32, ndim: i32, shape: *const i64, init_json: *const c_char, value: *mut i32) -> ds_status;
    pub fn ds_graph_op(g: *mut ds_graph, op: *const c_char, inputs: *const i32, n_inputs: usize, attrs_json: *const c_char, outputs: *mut i32, n_outputs: usize) -> ds_status;
    pub fn ds_graph_define_op(g: *mut ds_graph, name: *const c_char, callbacks: *const ds_op_callbacks) -> ds_status;
    pub fn ds_graph_ops_json(json: *mut *mut c_char) -> ds_status;
    pub fn ds_graph_model(g: *mut ds_graph, folder: *const c_char, options_json: *const c_char, inputs: *const i32, n_inputs: usize, output: *const c_char, value: *mut i32) -> ds_status;
    pub fn ds_graph_parse(text: *const c_char, out: *mut *mut ds_graph) -> ds_status;
    pub fn ds_graph_read(g: *mut ds_graph, text: *const c_char) -> ds_status;
    pub fn ds_graph_output(g: *mut ds_graph, name: *const c_char, value: i32) -> ds_status;
    pub fn ds_graph_loss(g: *mut ds_graph, value: i32) -> ds_status;
    pub fn ds_graph_destroy(g: *mut ds_graph);
    pub fn ds_cancel_create(out: *mut *mut ds_cancel) -> ds_status;
    pub fn ds_cancel_set(c: *mut ds_cancel, on: i32) -> ds_status;
    pub fn ds_cancel_destroy(c: *mut ds_cancel);
    pub fn ds_options_create(out: *mut *mut ds_options) -> ds_status;
    pub fn ds_options_set_graph(o: *mut ds_options, g: *mut ds_graph) -> ds_status;
    pub fn ds_options_set_cancel(o: *mut ds_options, c: *mut ds_cancel) -> ds_status;
    pub fn ds_options_set_mpi(o: *mut ds_options, fortran_comm: i32) -> ds_status;
    pub fn ds_options_set_optimizer(o: *mut ds_options, callbacks: *const ds_optimizer_callbacks) -> ds_status;
    pub fn ds_options_set_communicator(o: *mut ds_options, callbacks: *const ds_communicator_callbacks) -> ds_status;
    pub fn ds_options_destroy(o: *mut ds_options);
    pub fn ds_config_describe(text: *mut *mut c_char) -> ds_status;
    pub fn ds_plan(config: *const c_char, options: *const ds_options, report_json: *mut *mut c_char) -> ds_status;
    pub fn ds_engine_create(config: *const c_char, options: *const ds_options, out: *mut *mut ds_engine) -> ds_status;
    pub fn ds_forward(e: *mut ds_engine, b: *const ds_batch, loss: *mut f32) -> ds_status;
    pub fn ds_backward(e: *mut ds_engine) -> ds_status;
    pub fn ds_backward_from(e: *mut ds_engine, gradients: *const ds_batch) -> ds_status;
    pub fn ds_step(e: *mut ds_engine) -> ds_status;
    pub fn ds_zero_grad(e: *mut ds_engine) -> ds_status;
    pub fn ds_train_batch(e: *mut ds_engine, data: *mut ds_data, loss: *mut f32) -> ds_status;
    pub fn ds_eval(e: *mut ds_engine, b: *const ds_batch, loss: *mut f32) -> ds_status;
    pub fn ds_engine_set(e: *mut ds_engine, key: *const c_char, json: *const c_char) -> ds_status;
    pub fn ds_engine_get(e: *mut ds_engine, key: *const c_char, json: *mut *mut c_char) -> ds_status;
    pub fn ds_output(e: *mut ds_engine, name: *const c_char, out: *mut *mut ds_tensor) -> ds_status;
    pub fn ds_metric(e: *const ds_engine, name: *const c_char, value: *mut f64) -> ds_status;
    pub fn ds_param_count(e: *const ds_engine, n: *mut usize) -> ds_status;
    pub fn ds_param_name(e: *const ds_engine, i: usize, name: *mut *const c_char) -> ds_status;
    pub fn ds_param_info(e: *const ds_engine, name: *const c_char, ndim: *mut i32, shape: *mut *const i64, trainable: *mut i32) -> ds_status;
    pub fn ds_param_get(e: *mut ds_engine, name: *const c_char, what: i32, out: *mut *mut ds_tensor) -> ds_status;
    pub fn ds_param_set(e: *mut ds_engine, name: *const c_char, what: i32, t: *const ds_tensor) -> ds_status;
    pub fn ds_save(e: *mut ds_engine, dir: *const c_char, tag: *const c_char, options_json: *const c_char) -> ds_status;
    pub fn ds_load(e: *mut ds_engine, dir: *const c_char, tag: *const c_char, options_json: *const c_char) -> ds_status;
    pub fn ds_export(e: *mut ds_engine, dir: *const c_char, options_json: *const c_char) -> ds_status;
    pub fn ds_report(e: *mut ds_engine, path: *const c_char, contents_json: *const c_char) -> ds_status;
    pub fn ds_evaluate(e: *mut ds_engine, data_json: *const c_char, options_json: *const c_char, scores_json: *mut *mut c_char) -> ds_status;
    pub fn ds_score(metric: *const c_char, predictions_json: *const c_char, references_json: *const c_char, scores_json: *mut *mut c_char) -> ds_status;
    pub fn ds_generate(e: *mut ds_engine, prompt: *const i32, n: usize, options_json: *const c_char, on_token: ds_token_fn, user: *mut c_void, ids: *mut *mut i32, n_ids: *mut usize) -> ds_status;
    pub fn ds_generate_batch(e: *mut ds_engine, prompts: *const i32, lengths: *const usize, rows: usize, options_json: *const c_char, on_tokens: ds_row_tokens_fn, user: *mut c_void, ids: *mut *mut i32, n_ids: *mut *mut usize) -> ds_status;
    pub fn ds_engine_destroy(e: *mut ds_engine);
}
