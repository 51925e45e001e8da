# Generated from <dsrt/dsrt.h> by bindings/julia/gen/generate.py. Do not edit.

"The library. The environment's DSRT_LIBRARY may name another file."
const libdsrt = get(ENV, "DSRT_LIBRARY", "libdsrt.so.0")

struct ds_data_source
    struct_size::Csize_t
    user::Ptr{Cvoid}
    next::Ptr{Cvoid}
    save::Ptr{Cvoid}
    restore::Ptr{Cvoid}
    release::Ptr{Cvoid}
end

struct ds_optimizer_callbacks
    struct_size::Csize_t
    user::Ptr{Cvoid}
    floats_per_element::Int32
    update::Ptr{Cvoid}
    release::Ptr{Cvoid}
end

struct ds_communicator_callbacks
    struct_size::Csize_t
    user::Ptr{Cvoid}
    rank::Int32
    size::Int32
    send::Ptr{Cvoid}
    receive::Ptr{Cvoid}
    abort::Ptr{Cvoid}
    release::Ptr{Cvoid}
end

struct ds_op_value
    data::Ptr{Cvoid}
    dtype::Int32
    ndim::Int32
    shape::Ptr{Int64}
end

struct ds_op_callbacks
    struct_size::Csize_t
    user::Ptr{Cvoid}
    n_outputs::Int32
    shape::Ptr{Cvoid}
    forward::Ptr{Cvoid}
    backward::Ptr{Cvoid}
    release::Ptr{Cvoid}
end

struct ds_tensor end
struct ds_batch end
struct ds_engine end
struct ds_options end
struct ds_cancel end
struct ds_tokenizer end
struct ds_encoding end
struct ds_text_stream end
struct ds_data end
struct ds_graph end
struct DLManagedTensor end
struct DLManagedTensorVersioned end

const DS_WEIGHT = Int32(0)
const DS_GRAD = Int32(1)
const DS_FIRST_MOMENT = Int32(2)
const DS_SECOND_MOMENT = Int32(3)
const DS_OK = Int32(0)
const DS_SKIPPED = Int32(1)
const DS_PENDING = Int32(2)
const DS_END = Int32(3)
const DS_E_INVALID_ARGUMENT = Int32(-1)
const DS_E_CONFIG = Int32(-2)
const DS_E_NOT_FOUND = Int32(-3)
const DS_E_IO = Int32(-4)
const DS_E_CORRUPT = Int32(-5)
const DS_E_OUT_OF_MEMORY = Int32(-6)
const DS_E_UNSUPPORTED = Int32(-7)
const DS_E_STATE = Int32(-8)
const DS_E_BUSY = Int32(-9)
const DS_E_COMM = Int32(-10)
const DS_E_TIMEOUT = Int32(-11)
const DS_E_CANCELLED = Int32(-12)
const DS_E_DEVICE = Int32(-13)
const DS_E_USER = Int32(-14)
const DS_E_INTERNAL = Int32(-15)
const DS_LOG_TRACE = Int32(0)
const DS_LOG_DEBUG = Int32(1)
const DS_LOG_INFO = Int32(2)
const DS_LOG_WARN = Int32(3)
const DS_LOG_ERROR = Int32(4)
const DS_LOG_OFF = Int32(5)
const DS_F32 = Int32(0)
const DS_F16 = Int32(1)
const DS_BF16 = Int32(2)
const DS_F64 = Int32(3)
const DS_I32 = Int32(4)
const DS_I64 = Int32(5)
const DS_U8 = Int32(6)
const DS_BOOL = Int32(7)
const DS_I8 = Int32(8)
const DS_F8E4M3 = Int32(9)
const DS_F8E5M2 = Int32(10)

function ds_status_name(s)
    ccall((:ds_status_name, libdsrt), Cstring, (Int32,), s)
end

function ds_last_error()
    ccall((:ds_last_error, libdsrt), Cstring, ())
end

function ds_version()
    ccall((:ds_version, libdsrt), Cstring, ())
end

function ds_abi_version()
    ccall((:ds_abi_version, libdsrt), UInt32, ())
end

function ds_build_info()
    ccall((:ds_build_info, libdsrt), Cstring, ())
end

function ds_free(p)
    ccall((:ds_free, libdsrt), Cvoid, (Ptr{Cvoid},), p)
end

function ds_set_log(fn, level, user, release)
    ccall((:ds_set_log, libdsrt), Int32, (Ptr{Cvoid}, Int32, Ptr{Cvoid}, Ptr{Cvoid}), fn, level, user, release)
end

function ds_tensor_create(dtype, ndim, shape, data, bytes, out)
    ccall((:ds_tensor_create, libdsrt), Int32, (Int32, Int32, Ptr{Int64}, Ptr{Cvoid}, Csize_t, Ptr{Ptr{ds_tensor}}), dtype, ndim, shape, data, bytes, out)
end

function ds_tensor_info(t, dtype, ndim, shape)
    ccall((:ds_tensor_info, libdsrt), Int32, (Ptr{ds_tensor}, Ptr{Int32}, Ptr{Int32}, Ptr{Ptr{Int64}}), t, dtype, ndim, shape)
end

function ds_tensor_read(t, dtype, dst, bytes)
    ccall((:ds_tensor_read, libdsrt), Int32, (Ptr{ds_tensor}, Int32, Ptr{Cvoid}, Csize_t), t, dtype, dst, bytes)
end

function ds_tensor_destroy(t)
    ccall((:ds_tensor_destroy, libdsrt), Cvoid, (Ptr{ds_tensor},), t)
end

function ds_tensor_from_dlpack(src, out)
    ccall((:ds_tensor_from_dlpack, libdsrt), Int32, (Ptr{DLManagedTensorVersioned}, Ptr{Ptr{ds_tensor}}), src, out)
end

function ds_tensor_to_dlpack(t, out)
    ccall((:ds_tensor_to_dlpack, libdsrt), Int32, (Ptr{ds_tensor}, Ptr{Ptr{DLManagedTensorVersioned}}), t, out)
end

function ds_tensor_from_dlpack_legacy(src, out)
    ccall((:ds_tensor_from_dlpack_legacy, libdsrt), Int32, (Ptr{DLManagedTensor}, Ptr{Ptr{ds_tensor}}), src, out)
end

function ds_tensor_to_dlpack_legacy(t, out)
    ccall((:ds_tensor_to_dlpack_legacy, libdsrt), Int32, (Ptr{ds_tensor}, Ptr{Ptr{DLManagedTensor}}), t, out)
end

function ds_batch_create(out)
    ccall((:ds_batch_create, libdsrt), Int32, (Ptr{Ptr{ds_batch}},), out)
end

function ds_batch_set(b, name, t)
    ccall((:ds_batch_set, libdsrt), Int32, (Ptr{ds_batch}, Cstring, Ptr{ds_tensor}), b, name, t)
end

function ds_batch_get(b, name, out)
    ccall((:ds_batch_get, libdsrt), Int32, (Ptr{ds_batch}, Cstring, Ptr{Ptr{ds_tensor}}), b, name, out)
end

function ds_batch_destroy(b)
    ccall((:ds_batch_destroy, libdsrt), Cvoid, (Ptr{ds_batch},), b)
end

function ds_tokenizer_load(path, out)
    ccall((:ds_tokenizer_load, libdsrt), Int32, (Cstring, Ptr{Ptr{ds_tokenizer}}), path, out)
end

function ds_tokenizer_encode(t, text, text_bytes, pair, pair_bytes, add_special_tokens, out)
    ccall((:ds_tokenizer_encode, libdsrt), Int32, (Ptr{ds_tokenizer}, Cstring, Csize_t, Cstring, Csize_t, Int32, Ptr{Ptr{ds_encoding}}), t, text, text_bytes, pair, pair_bytes, add_special_tokens, out)
end

function ds_encoding_ids(e, ids, n)
    ccall((:ds_encoding_ids, libdsrt), Int32, (Ptr{ds_encoding}, Ptr{Ptr{Int32}}, Ptr{Csize_t}), e, ids, n)
end

function ds_encoding_type_ids(e, ids, n)
    ccall((:ds_encoding_type_ids, libdsrt), Int32, (Ptr{ds_encoding}, Ptr{Ptr{Int32}}, Ptr{Csize_t}), e, ids, n)
end

function ds_encoding_offsets(e, begin_end, n)
    ccall((:ds_encoding_offsets, libdsrt), Int32, (Ptr{ds_encoding}, Ptr{Ptr{Int64}}, Ptr{Csize_t}), e, begin_end, n)
end

function ds_encoding_destroy(e)
    ccall((:ds_encoding_destroy, libdsrt), Cvoid, (Ptr{ds_encoding},), e)
end

function ds_tokenizer_encode_batch(t, texts, pairs, n, options_json, out)
    ccall((:ds_tokenizer_encode_batch, libdsrt), Int32, (Ptr{ds_tokenizer}, Ptr{Cstring}, Ptr{Cstring}, Csize_t, Cstring, Ptr{ds_batch}), t, texts, pairs, n, options_json, out)
end

function ds_tokenizer_decode(t, ids, n, skip_special, text, bytes)
    ccall((:ds_tokenizer_decode, libdsrt), Int32, (Ptr{ds_tokenizer}, Ptr{Int32}, Csize_t, Int32, Ptr{Ptr{UInt8}}, Ptr{Csize_t}), t, ids, n, skip_special, text, bytes)
end

function ds_tokenizer_apply_chat_template(t, messages_json, options_json, text)
    ccall((:ds_tokenizer_apply_chat_template, libdsrt), Int32, (Ptr{ds_tokenizer}, Cstring, Cstring, Ptr{Ptr{UInt8}}), t, messages_json, options_json, text)
end

function ds_text_stream_create(t, skip_special, out)
    ccall((:ds_text_stream_create, libdsrt), Int32, (Ptr{ds_tokenizer}, Int32, Ptr{Ptr{ds_text_stream}}), t, skip_special, out)
end

function ds_text_stream_put(s, ids, n, text, bytes)
    ccall((:ds_text_stream_put, libdsrt), Int32, (Ptr{ds_text_stream}, Ptr{Int32}, Csize_t, Ptr{Ptr{UInt8}}, Ptr{Csize_t}), s, ids, n, text, bytes)
end

function ds_text_stream_destroy(s)
    ccall((:ds_text_stream_destroy, libdsrt), Cvoid, (Ptr{ds_text_stream},), s)
end

function ds_tokenizer_destroy(t)
    ccall((:ds_tokenizer_destroy, libdsrt), Cvoid, (Ptr{ds_tokenizer},), t)
end

function ds_data_open(options_json, e, out)
    ccall((:ds_data_open, libdsrt), Int32, (Cstring, Ptr{ds_engine}, Ptr{Ptr{ds_data}}), options_json, e, out)
end

function ds_data_create(source, e, out)
    ccall((:ds_data_create, libdsrt), Int32, (Ptr{ds_data_source}, Ptr{ds_engine}, Ptr{Ptr{ds_data}}), source, e, out)
end

function ds_data_next(d, b)
    ccall((:ds_data_next, libdsrt), Int32, (Ptr{ds_data}, Ptr{ds_batch}), d, b)
end

function ds_data_destroy(d)
    ccall((:ds_data_destroy, libdsrt), Cvoid, (Ptr{ds_data},), d)
end

function ds_graph_create(out)
    ccall((:ds_graph_create, libdsrt), Int32, (Ptr{Ptr{ds_graph}},), out)
end

function ds_graph_input(g, name, dtype, ndim, shape, value)
    ccall((:ds_graph_input, libdsrt), Int32, (Ptr{ds_graph}, Cstring, Int32, Int32, Ptr{Int64}, Ptr{Int32}), g, name, dtype, ndim, shape, value)
end

function ds_graph_param(g, name, dtype, ndim, shape, init_json, value)
    ccall((:ds_graph_param, libdsrt), Int32, (Ptr{ds_graph}, Cstring, Int32, Int32, Ptr{Int64}, Cstring, Ptr{Int32}), g, name, dtype, ndim, shape, init_json, value)
end

function ds_graph_op(g, op, inputs, n_inputs, attrs_json, outputs, n_outputs)
    ccall((:ds_graph_op, libdsrt), Int32, (Ptr{ds_graph}, Cstring, Ptr{Int32}, Csize_t, Cstring, Ptr{Int32}, Csize_t), g, op, inputs, n_inputs, attrs_json, outputs, n_outputs)
end

function ds_graph_define_op(g, name, callbacks)
    ccall((:ds_graph_define_op, libdsrt), Int32, (Ptr{ds_graph}, Cstring, Ptr{ds_op_callbacks}), g, name, callbacks)
end

function ds_graph_ops_json(json)
    ccall((:ds_graph_ops_json, libdsrt), Int32, (Ptr{Ptr{UInt8}},), json)
end

function ds_graph_model(g, folder, options_json, inputs, n_inputs, output, value)
    ccall((:ds_graph_model, libdsrt), Int32, (Ptr{ds_graph}, Cstring, Cstring, Ptr{Int32}, Csize_t, Cstring, Ptr{Int32}), g, folder, options_json, inputs, n_inputs, output, value)
end

function ds_graph_parse(text, out)
    ccall((:ds_graph_parse, libdsrt), Int32, (Cstring, Ptr{Ptr{ds_graph}}), text, out)
end

function ds_graph_read(g, text)
    ccall((:ds_graph_read, libdsrt), Int32, (Ptr{ds_graph}, Cstring), g, text)
end

function ds_graph_output(g, name, value)
    ccall((:ds_graph_output, libdsrt), Int32, (Ptr{ds_graph}, Cstring, Int32), g, name, value)
end

function ds_graph_loss(g, value)
    ccall((:ds_graph_loss, libdsrt), Int32, (Ptr{ds_graph}, Int32), g, value)
end

function ds_graph_destroy(g)
    ccall((:ds_graph_destroy, libdsrt), Cvoid, (Ptr{ds_graph},), g)
end

function ds_cancel_create(out)
    ccall((:ds_cancel_create, libdsrt), Int32, (Ptr{Ptr{ds_cancel}},), out)
end

function ds_cancel_set(c, on)
    ccall((:ds_cancel_set, libdsrt), Int32, (Ptr{ds_cancel}, Int32), c, on)
end

function ds_cancel_destroy(c)
    ccall((:ds_cancel_destroy, libdsrt), Cvoid, (Ptr{ds_cancel},), c)
end

function ds_options_create(out)
    ccall((:ds_options_create, libdsrt), Int32, (Ptr{Ptr{ds_options}},), out)
end

function ds_options_set_graph(o, g)
    ccall((:ds_options_set_graph, libdsrt), Int32, (Ptr{ds_options}, Ptr{ds_graph}), o, g)
end

function ds_options_set_cancel(o, c)
    ccall((:ds_options_set_cancel, libdsrt), Int32, (Ptr{ds_options}, Ptr{ds_cancel}), o, c)
end

function ds_options_set_mpi(o, fortran_comm)
    ccall((:ds_options_set_mpi, libdsrt), Int32, (Ptr{ds_options}, Int32), o, fortran_comm)
end

function ds_options_set_optimizer(o, callbacks)
    ccall((:ds_options_set_optimizer, libdsrt), Int32, (Ptr{ds_options}, Ptr{ds_optimizer_callbacks}), o, callbacks)
end

function ds_options_set_communicator(o, callbacks)
    ccall((:ds_options_set_communicator, libdsrt), Int32, (Ptr{ds_options}, Ptr{ds_communicator_callbacks}), o, callbacks)
end

function ds_options_destroy(o)
    ccall((:ds_options_destroy, libdsrt), Cvoid, (Ptr{ds_options},), o)
end

function ds_config_describe(text)
    ccall((:ds_config_describe, libdsrt), Int32, (Ptr{Ptr{UInt8}},), text)
end

function ds_plan(config, options, report_json)
    ccall((:ds_plan, libdsrt), Int32, (Cstring, Ptr{ds_options}, Ptr{Ptr{UInt8}}), config, options, report_json)
end

function ds_engine_create(config, options, out)
    ccall((:ds_engine_create, libdsrt), Int32, (Cstring, Ptr{ds_options}, Ptr{Ptr{ds_engine}}), config, options, out)
end

function ds_forward(e, b, loss)
    ccall((:ds_forward, libdsrt), Int32, (Ptr{ds_engine}, Ptr{ds_batch}, Ptr{Float32}), e, b, loss)
end

function ds_backward(e)
    ccall((:ds_backward, libdsrt), Int32, (Ptr{ds_engine},), e)
end

function ds_backward_from(e, gradients)
    ccall((:ds_backward_from, libdsrt), Int32, (Ptr{ds_engine}, Ptr{ds_batch}), e, gradients)
end

function ds_step(e)
    ccall((:ds_step, libdsrt), Int32, (Ptr{ds_engine},), e)
end

function ds_zero_grad(e)
    ccall((:ds_zero_grad, libdsrt), Int32, (Ptr{ds_engine},), e)
end

function ds_train_batch(e, data, loss)
    ccall((:ds_train_batch, libdsrt), Int32, (Ptr{ds_engine}, Ptr{ds_data}, Ptr{Float32}), e, data, loss)
end

function ds_eval(e, b, loss)
    ccall((:ds_eval, libdsrt), Int32, (Ptr{ds_engine}, Ptr{ds_batch}, Ptr{Float32}), e, b, loss)
end

function ds_engine_set(e, key, json)
    ccall((:ds_engine_set, libdsrt), Int32, (Ptr{ds_engine}, Cstring, Cstring), e, key, json)
end

function ds_engine_get(e, key, json)
    ccall((:ds_engine_get, libdsrt), Int32, (Ptr{ds_engine}, Cstring, Ptr{Ptr{UInt8}}), e, key, json)
end

function ds_output(e, name, out)
    ccall((:ds_output, libdsrt), Int32, (Ptr{ds_engine}, Cstring, Ptr{Ptr{ds_tensor}}), e, name, out)
end

function ds_metric(e, name, value)
    ccall((:ds_metric, libdsrt), Int32, (Ptr{ds_engine}, Cstring, Ptr{Float64}), e, name, value)
end

function ds_param_count(e, n)
    ccall((:ds_param_count, libdsrt), Int32, (Ptr{ds_engine}, Ptr{Csize_t}), e, n)
end

function ds_param_name(e, i, name)
    ccall((:ds_param_name, libdsrt), Int32, (Ptr{ds_engine}, Csize_t, Ptr{Cstring}), e, i, name)
end

function ds_param_info(e, name, ndim, shape, trainable)
    ccall((:ds_param_info, libdsrt), Int32, (Ptr{ds_engine}, Cstring, Ptr{Int32}, Ptr{Ptr{Int64}}, Ptr{Int32}), e, name, ndim, shape, trainable)
end

function ds_param_get(e, name, what, out)
    ccall((:ds_param_get, libdsrt), Int32, (Ptr{ds_engine}, Cstring, Int32, Ptr{Ptr{ds_tensor}}), e, name, what, out)
end

function ds_param_set(e, name, what, t)
    ccall((:ds_param_set, libdsrt), Int32, (Ptr{ds_engine}, Cstring, Int32, Ptr{ds_tensor}), e, name, what, t)
end

function ds_save(e, dir, tag, options_json)
    ccall((:ds_save, libdsrt), Int32, (Ptr{ds_engine}, Cstring, Cstring, Cstring), e, dir, tag, options_json)
end

function ds_load(e, dir, tag, options_json)
    ccall((:ds_load, libdsrt), Int32, (Ptr{ds_engine}, Cstring, Cstring, Cstring), e, dir, tag, options_json)
end

function ds_export(e, dir, options_json)
    ccall((:ds_export, libdsrt), Int32, (Ptr{ds_engine}, Cstring, Cstring), e, dir, options_json)
end

function ds_report(e, path, contents_json)
    ccall((:ds_report, libdsrt), Int32, (Ptr{ds_engine}, Cstring, Cstring), e, path, contents_json)
end

function ds_evaluate(e, data_json, options_json, scores_json)
    ccall((:ds_evaluate, libdsrt), Int32, (Ptr{ds_engine}, Cstring, Cstring, Ptr{Ptr{UInt8}}), e, data_json, options_json, scores_json)
end

function ds_score(metric, predictions_json, references_json, scores_json)
    ccall((:ds_score, libdsrt), Int32, (Cstring, Cstring, Cstring, Ptr{Ptr{UInt8}}), metric, predictions_json, references_json, scores_json)
end

function ds_generate(e, prompt, n, options_json, on_token, user, ids, n_ids)
    ccall((:ds_generate, libdsrt), Int32, (Ptr{ds_engine}, Ptr{Int32}, Csize_t, Cstring, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Ptr{Int32}}, Ptr{Csize_t}), e, prompt, n, options_json, on_token, user, ids, n_ids)
end

function ds_generate_batch(e, prompts, lengths, rows, options_json, on_tokens, user, ids, n_ids)
    ccall((:ds_generate_batch, libdsrt), Int32, (Ptr{ds_engine}, Ptr{Int32}, Ptr{Csize_t}, Csize_t, Cstring, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Ptr{Int32}}, Ptr{Ptr{Csize_t}}), e, prompts, lengths, rows, options_json, on_tokens, user, ids, n_ids)
end

function ds_engine_destroy(e)
    ccall((:ds_engine_destroy, libdsrt), Cvoid, (Ptr{ds_engine},), e)
end
