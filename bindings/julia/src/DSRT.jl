"""
Training of large language models on libdsrt.

    using DSRT
    engine = Engine("config.json")
    data = Data(engine)
    for step in epoch(engine, data)
        println(step.loss)
    end
    export_model(engine, "tuned")

A failed call throws a `DSRTError`; what a callback throws comes out of the call that ran it. Handles free themselves, or earlier by `close`.
Dimensions are reversed: a matrix of size (length, rows) is the library's rows x length, with the same memory.
"""
module DSRT

include("capi.jl")
include("errors.jl")
include("tensor.jl")
include("callbacks.jl")
include("engine.jl")
include("text.jl")

export DSRTError, Tensor, Batch, Tokenizer, TextStream, Encoding, Graph, Cancel, Data, Engine, Optimizer, Op, Step, ParamInfo
export array, encode, decode, encode_batch, next!, batches, epoch, forward!, backward!, step!, zero_grad!, train_batch!, evaluate, predict, output, metric,
    setting, setting!, parameters, parameter, parameter!, save, load!, export_model, report, generate, generate_batch, generate_text, chat_text, finish!, scores, score, input!, param!, op!, ops!, define_op!, graph_ops, model!, output!, loss!,
    cancel!, set_log, plan, config_describe, build_info, version, abi_version

end
