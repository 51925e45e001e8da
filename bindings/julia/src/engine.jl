@handle Cancel ds_cancel ds_cancel_destroy
"A switch that ends running calls of the engines it was given to."
Cancel() = made(Cancel, ds_cancel, ds_cancel_create)
cancel!(c::Cancel, on::Bool = true) = (check(ds_cancel_set(c, on)); nothing)

@handle Graph ds_graph ds_graph_destroy
"A model that the host builds out of ops. Values are numbers; -1 is an optional input that is left out. Shapes are the library's, not reversed."
Graph() = made(Graph, ds_graph, ds_graph_create)
Graph(text::AbstractString) = made(Graph, ds_graph, out -> ds_graph_parse(String(text), out))

function value_of(f)
    value = Ref{Int32}(-1)
    check(f(value))
    return value[]
end
input!(g::Graph, name, ::Type{T}, shape::Integer...) where {T} =
    value_of(out -> ds_graph_input(g, name, code_of(T), length(shape), Int64[shape...], out))
param!(g::Graph, name, shape::Integer...; init = nothing) =
    value_of(out -> ds_graph_param(g, name, DS_F32, length(shape), Int64[shape...], optional(init), out))
function ops!(g::Graph, name, inputs, outputs::Integer; attributes = nothing)
    given, values = Int32[inputs...], fill(Int32(-1), outputs)
    check(ds_graph_op(g, name, given, length(given), optional(attributes), values, outputs))
    return values
end
op!(g::Graph, name, inputs::Integer...; attributes = nothing) = ops!(g, name, inputs, 1; attributes = attributes)[1]
function model!(g::Graph, folder, output, inputs::Integer...; options = nothing)
    given = Int32[inputs...]
    return value_of(out -> ds_graph_model(g, folder, optional(options), given, length(given), output, out))
end
"Makes `name` an op of this graph, for `op!`, `ops!` and `read!`. The graph, and engines made of it, keep it."
function define_op!(g::Graph, name, op::Op)
    callbacks = Ref(ds_op_callbacks(sizeof(ds_op_callbacks), lend(op), op.outputs,
        op.shapes === nothing ? C_NULL : @cfunction(on_op_shape, Int32, (Ptr{Cvoid}, Ptr{UInt8}, Ptr{ds_op_value}, Csize_t, Ptr{Int32}, Ptr{NTuple{8,Int64}})),
        @cfunction(on_op_forward, Int32, (Ptr{Cvoid}, Ptr{UInt8}, Ptr{ds_op_value}, Csize_t, Ptr{ds_op_value})),
        op.backward === nothing ? C_NULL :
            @cfunction(on_op_backward, Int32, (Ptr{Cvoid}, Ptr{UInt8}, Ptr{ds_op_value}, Csize_t, Ptr{ds_op_value}, Ptr{ds_op_value}, Ptr{ds_op_value})),
        @cfunction(release, Cvoid, (Ptr{Cvoid},))))
    status = ds_graph_define_op(g, name, callbacks)
    status < 0 && forget(op)
    check(status)
    return nothing
end
"Reads the text form into a graph without values, which may have ops of the host's own."
Base.read!(g::Graph, text::AbstractString) = (check(ds_graph_read(g, String(text))); nothing)
output!(g::Graph, name, value::Integer) = (check(ds_graph_output(g, name, value)); nothing)
"Every op of graphs with inputs, outputs and attributes, as JSON."
graph_ops() = text_of((out, _) -> ds_graph_ops_json(out))
loss!(g::Graph, value::Integer) = (check(ds_graph_loss(g, value)); nothing)

@handle Options ds_options ds_options_destroy

@handle Engine ds_engine ds_engine_destroy

"""
    Engine(config; graph, cancel, optimizer, mpi)

config: JSON text, the path of a JSON file, or nothing for what DSRT_CONFIG or DEEPSPEED_CONFIG holds.
"""
function Engine(config::Union{AbstractString,Nothing}; parts...)
    options = options_of(; parts...)
    engine = made(Engine, ds_engine, out -> ds_engine_create(optional(config), options, out))
    close(options)
    return engine
end

function options_of(; graph = nothing, cancel = nothing, optimizer = nothing, mpi = nothing)
    options = made(Options, ds_options, ds_options_create)
    graph === nothing || check(ds_options_set_graph(options, graph))
    cancel === nothing || check(ds_options_set_cancel(options, cancel))
    mpi === nothing || check(ds_options_set_mpi(options, mpi))
    optimizer === nothing || set_optimizer(options, optimizer)
    return options
end

function set_optimizer(options::Options, o::Optimizer)
    update = @cfunction(on_update, Int32, (Ptr{Cvoid}, Ptr{UInt8}, Int64, Float64, Ptr{Float32}, Ptr{Float32}, Ptr{Float32}, Csize_t))
    callbacks = Ref(ds_optimizer_callbacks(sizeof(ds_optimizer_callbacks), lend(o), o.state_per_element, update, @cfunction(release, Cvoid, (Ptr{Cvoid},))))
    status = ds_options_set_optimizer(options, callbacks)
    status < 0 && forget(o)
    check(status)
end

"What a run of this config would need, as JSON; parts of the host's own as `Engine` takes them. Runs nothing."
function plan(config::AbstractString; parts...)
    options = options_of(; parts...)
    return text_of((out, _) -> ds_plan(String(config), options, out))
end

@handle Data ds_data ds_data_destroy

"The files that the engine's config names under \"data\"; or files with options of their own, as JSON; engine nothing: all rows."
Data(e::Engine) = made(Data, ds_data, out -> ds_data_open(C_NULL, e, out))
Data(options::AbstractString, e::Union{Engine,Nothing} = nothing) = made(Data, ds_data, out -> ds_data_open(String(options), something(e, C_NULL), out))

"""
    Data(next, engine; save, restore)

An iterator of the host's own: `next()` answers pairs of names and arrays, or nothing at the end of an epoch. `save()` gives its place as JSON text,
`restore(text)` goes back there; both are kept in checkpoints.
"""
function Data(next::Function, e::Union{Engine,Nothing}; save = nothing, restore = nothing)
    source = Source(next, save, restore)
    callbacks = Ref(ds_data_source(sizeof(ds_data_source), lend(source), @cfunction(on_next, Int32, (Ptr{Cvoid}, Ptr{ds_batch})),
        save === nothing ? C_NULL : @cfunction(on_save, Int32, (Ptr{Cvoid}, Ptr{Ptr{UInt8}})),
        restore === nothing ? C_NULL : @cfunction(on_restore, Int32, (Ptr{Cvoid}, Ptr{UInt8})), @cfunction(release, Cvoid, (Ptr{Cvoid},))))
    return made(Data, ds_data, function (out)
        status = ds_data_create(callbacks, something(e, C_NULL), out)
        status < 0 && forget(source)
        return status
    end)
end

"The next micro-batch, or nothing at the end of an epoch; the call after that starts the next one."
function next!(d::Data)
    batch = Batch()
    return check(ds_data_next(d, batch)) == DS_END ? nothing : batch
end

"The batches of one epoch."
batches(d::Data) = Channel{Batch}() do channel
    while (batch = next!(d)) !== nothing
        put!(channel, batch)
    end
end

function loss_of(f)
    loss = Ref{Float32}(0)
    check(f(loss))
    return loss[]
end

"Runs one micro-batch in training mode; the mean loss over unignored labels. With `loss = false` labels are not needed."
forward!(e::Engine, b::Batch; loss::Bool = true) = loss ? loss_of(out -> ds_forward(e, b, out)) : (check(ds_forward(e, b, C_NULL)); nothing)
backward!(e::Engine) = (check(ds_backward(e)); nothing)
"The gradient of a loss of the host's own, by output name."
backward!(e::Engine, gradients::Batch) = (check(ds_backward_from(e, gradients)); nothing)
"DS_OK (updated), DS_SKIPPED (an fp16 gradient overflowed) or DS_PENDING (more micro-batches are needed)."
step!(e::Engine) = check(ds_step(e))
zero_grad!(e::Engine) = (check(ds_zero_grad(e)); nothing)

"One step of `train_batch!`."
struct Step
    number::Int
    loss::Float32
    skipped::Bool
end

"Forward, backward and step over one global batch; nothing at the end of an epoch."
function train_batch!(e::Engine, d::Data)
    loss = Ref{Float32}(0)
    status = check(ds_train_batch(e, d, loss))
    return status == DS_END ? nothing : Step(Int(metric(e, "global_steps")), loss[], status == DS_SKIPPED)
end

struct Epoch
    engine::Engine
    data::Data
end
"Steps to the end of an epoch: `for step in epoch(engine, data)`."
epoch(e::Engine, d::Data) = Epoch(e, d)
Base.iterate(x::Epoch, _ = nothing) = (step = train_batch!(x.engine, x.data); step === nothing ? nothing : (step, nothing))
Base.IteratorSize(::Type{Epoch}) = Base.SizeUnknown()
Base.eltype(::Type{Epoch}) = Step

"The loss without dropout; a pending forward and gradients stay."
evaluate(e::Engine, b::Batch) = loss_of(out -> ds_eval(e, b, out))
"The scores of the model's task on rows, as JSON; data: options of Data as JSON, nothing: what the config's split keeps from training."
scores(e::Engine; data = nothing, options = nothing) = text_of((out, _) -> ds_evaluate(e, optional(data), optional(options), out))
"Scores of predictions (spans, squad, bleu); all of it JSON."
score(metric, predictions::AbstractString, references::AbstractString) =
    text_of((out, _) -> ds_score(String(metric), String(predictions), String(references), out))
"An output without dropout, labels or loss."
function predict(e::Engine, b::Batch, name = "logits")
    check(ds_eval(e, b, C_NULL))
    return output(e, name)
end
"An output of the later of the last forward and the last eval, a snapshot."
output(e::Engine, name) = made(Tensor, ds_tensor, out -> ds_output(e, name, out))

"loss, lr, grad_norm, global_steps, tokens_per_second ... at any time, from any thread."
function metric(e::Engine, name)
    value = Ref{Float64}(0)
    check(ds_metric(e, name, value))
    return value[]
end
"Changes at run time what can be; json is the key's new value."
setting!(e::Engine, key, json) = (check(ds_engine_set(e, key, string(json))); nothing)
"The effective value of a key, as JSON; \"\" is the whole effective config."
setting(e::Engine, key = "") = text_of((out, _) -> ds_engine_get(e, key, out))

"A parameter, by its name in model.safetensors; its size is reversed."
struct ParamInfo
    name::String
    size::Vector{Int}
    trainable::Bool
end
function parameters(e::Engine)
    n = Ref{Csize_t}(0)
    check(ds_param_count(e, n))
    return map(0:Int(n[])-1) do i
        name, ndim, shape, trainable = Ref{Cstring}(), Ref{Int32}(0), Ref{Ptr{Int64}}(C_NULL), Ref{Int32}(0)
        check(ds_param_name(e, i, name))
        text = unsafe_string(name[])
        check(ds_param_info(e, text, ndim, shape, trainable))
        GC.@preserve e ParamInfo(text, reverse(Int[unsafe_load(shape[], d) for d in 1:ndim[]]), trainable[] != 0)
    end
end
"A whole parameter in f32; what: DSRT.DS_WEIGHT, DS_GRAD, DS_FIRST_MOMENT, DS_SECOND_MOMENT."
parameter(e::Engine, name, what = DS_WEIGHT) = made(Tensor, ds_tensor, out -> ds_param_get(e, name, what, out))
parameter!(e::Engine, name, t::Tensor, what = DS_WEIGHT) = (check(ds_param_set(e, name, what, t)); nothing)

save(e::Engine, dir; tag = nothing, options = nothing) = (check(ds_save(e, dir, optional(tag), optional(options))); nothing)
load!(e::Engine, dir; tag = nothing, options = nothing) = (check(ds_load(e, dir, optional(tag), optional(options))); nothing)
"Writes a Hugging Face folder. options: JSON (dtype, adapter ...)."
export_model(e::Engine, dir; options = nothing) = (check(ds_export(e, dir, optional(options))); nothing)
report(e::Engine, path; contents = nothing) = (check(ds_report(e, path, optional(contents))); nothing)

"""
    generate(engine, prompt; options, on_tokens)

Continues a prompt; the new ids. options: JSON (max_new_tokens, temperature ...). `on_tokens(ids)` hears of ids as they come, and stops by `false`.
"""
function generate(e::Engine, prompt::AbstractVector{<:Integer}; options = nothing, on_tokens = nothing)
    given, user = Vector{Int32}(prompt), Ref{Any}(on_tokens)
    ids, n = Ref{Ptr{Int32}}(C_NULL), Ref{Csize_t}(0)
    hear = on_tokens === nothing ? C_NULL : @cfunction(hear_tokens, Int32, (Ptr{Int32}, Csize_t, Ptr{Cvoid}))
    GC.@preserve user check(ds_generate(e, given, length(given), optional(options), hear, pointer_from_objref(user), ids, n))
    made = copy(unsafe_wrap(Array, ids[], Int(n[])))
    ds_free(ids[])
    return made
end

"""
    generate_batch(engine, prompts; options, on_tokens)

Several prompts at once, of any lengths, which is much faster than one by one; the new ids of each. `on_tokens(row, ids)` hears of new ids of a row,
counted from 1, and ends that row by `false`.
"""
function generate_batch(e::Engine, prompts; options = nothing, on_tokens = nothing)
    all, lengths, user = Int32[id for prompt in prompts for id in prompt], Csize_t[length(prompt) for prompt in prompts], Ref{Any}(on_tokens)
    ids, counts = Ref{Ptr{Int32}}(C_NULL), Ref{Ptr{Csize_t}}(C_NULL)
    hear = on_tokens === nothing ? C_NULL : @cfunction(hear_row_tokens, Int32, (Csize_t, Ptr{Int32}, Csize_t, Ptr{Cvoid}))
    try
        GC.@preserve user check(ds_generate_batch(e, all, lengths, length(lengths), optional(options), hear, pointer_from_objref(user), ids, counts))
        at = 0
        return map(1:length(lengths)) do row
            n = Int(unsafe_load(counts[], row))
            made = Int32[unsafe_load(ids[], at + i) for i in 1:n]
            at += n
            made
        end
    finally
        ds_free(ids[])
        ds_free(counts[])
    end
end

"""
    generate_text(engine, tokenizer, prompt; options, special_tokens, on_text)

From text to text. `on_text(piece)` hears of the new text as it becomes certain, in whole characters, and stops by `false`. `special_tokens = false`:
the prompt has them already, as a chat template's text.
"""
function generate_text(e::Engine, t, prompt::AbstractString; options = nothing, special_tokens::Bool = true, on_text = nothing)
    stream, pieces, on = TextStream(t), IOBuffer(), Ref(true)
    function heard(piece)
        print(pieces, piece)
        on[] && on_text !== nothing && !isempty(piece) && (on[] = on_text(piece) !== false)
        return on[]
    end
    generate(e, encode(t, prompt; special_tokens = special_tokens).ids; options = options, on_tokens = ids -> heard(put!(stream, ids)))
    heard(finish!(stream))
    close(stream)
    return String(take!(pieces))
end
