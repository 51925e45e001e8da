# Callbacks of Julia for C. What C refers to lies in `live` until its release; what a callback throws waits for `check`.
const live = IdDict{Any,Int}()
const live_lock = ReentrantLock()

"A pointer to the object, which lives until it was forgotten as often as it was lent."
function lend(object)
    lock(() -> live[object] = get(live, object, 0) + 1, live_lock)
    return pointer_from_objref(object)
end

function forget(object)
    lock(live_lock) do
        live[object] == 1 ? delete!(live, object) : (live[object] -= 1)
    end
end

function release(user::Ptr{Cvoid})::Cvoid
    forget(unsafe_pointer_to_objref(user))
    return nothing
end

"Runs a callback; what it throws becomes DS_E_USER."
function guarded(f)::Int32
    try
        return f()
    catch e
        keep_thrown(e)
        return DS_E_USER
    end
end

mutable struct LogSink
    f::Any
end

function on_log(level::Int32, component::Ptr{UInt8}, message::Ptr{UInt8}, user::Ptr{Cvoid})::Cvoid
    try
        (unsafe_pointer_to_objref(user)::LogSink).f(level, unsafe_string(component), unsafe_string(message))
    catch e
        keep_thrown(e, logged)
    end
    return nothing
end

"Sends messages of `level` (0 trace ... 5 off) and above to `f(level, component, message)`; nothing: back to stderr. What `f` throws
comes out of the call that logged, once that has done its work."
function set_log(f, level::Integer = DS_LOG_INFO)
    if f === nothing
        check(ds_set_log(C_NULL, level, C_NULL, C_NULL))
        return nothing
    end
    sink = LogSink(f)
    status = ds_set_log(@cfunction(on_log, Cvoid, (Int32, Ptr{UInt8}, Ptr{UInt8}, Ptr{Cvoid})), level, lend(sink), @cfunction(release, Cvoid, (Ptr{Cvoid},)))
    status < 0 && forget(sink)
    check(status)
    return nothing
end

"""
An optimizer of the host's own: `Optimizer(update, state_per_element)`; `update(parameter, step, lr, weight, gradient, state)` changes weight and
state in place. They are arrays on the library's memory, not to be kept; state has size (state_per_element, n), zeros at first, and is checkpointed.
"""
mutable struct Optimizer
    update::Any
    state_per_element::Int
end

function on_update(user::Ptr{Cvoid}, parameter::Ptr{UInt8}, step::Int64, lr::Float64, weight::Ptr{Float32}, gradient::Ptr{Float32}, state::Ptr{Float32}, n::Csize_t)::Int32
    guarded() do
        o = unsafe_pointer_to_objref(user)::Optimizer
        kept = o.state_per_element == 0 ? zeros(Float32, 0, Int(n)) : unsafe_wrap(Array, state, (o.state_per_element, Int(n)))
        o.update(unsafe_string(parameter), step, lr, unsafe_wrap(Array, weight, Int(n)), unsafe_wrap(Array, gradient, Int(n)), kept)
        return DS_OK
    end
end

mutable struct Source
    next::Any
    save::Any
    restore::Any
end

function on_next(user::Ptr{Cvoid}, b::Ptr{ds_batch})::Int32
    guarded() do
        made = (unsafe_pointer_to_objref(user)::Source).next()
        made === nothing && return DS_END
        for (name, value) in made
            check(ds_batch_set(b, String(name), value isa Tensor ? value : Tensor(value)))
        end
        return DS_OK
    end
end

function on_save(user::Ptr{Cvoid}, json::Ptr{Ptr{UInt8}})::Int32
    guarded() do
        text = String((unsafe_pointer_to_objref(user)::Source).save())
        unsafe_store!(json, ccall(:strdup, Ptr{UInt8}, (Cstring,), text))  # freed by the library
        return DS_OK
    end
end

function on_restore(user::Ptr{Cvoid}, json::Ptr{UInt8})::Int32
    guarded() do
        (unsafe_pointer_to_objref(user)::Source).restore(unsafe_string(json))
        return DS_OK
    end
end

function hear_tokens(ids::Ptr{Int32}, n::Csize_t, user::Ptr{Cvoid})::Int32
    guarded() do
        (unsafe_pointer_to_objref(user)::Base.RefValue{Any})[](copy(unsafe_wrap(Array, ids, Int(n)))) === false ? Int32(1) : Int32(0)
    end
end

function hear_row_tokens(row::Csize_t, ids::Ptr{Int32}, n::Csize_t, user::Ptr{Cvoid})::Int32
    guarded() do
        heard = copy(unsafe_wrap(Array, ids, Int(n)))
        (unsafe_pointer_to_objref(user)::Base.RefValue{Any})[](Int(row) + 1, heard) === false ? Int32(1) : Int32(0)
    end
end

"""
An op of the host's own: `Op(forward; backward, shapes, outputs = 1)`, for `define_op!`. `forward(inputs, outputs; attributes)` writes the outputs,
`backward(inputs, outputs, output_gradients, input_gradients; attributes)` the inputs' gradients; one that nobody wants is nothing. They are arrays on the
library's memory, with dimensions reversed, not to be kept: Float32 (ids Int32, masks UInt8). `attributes` is the JSON text that the graph gave.
`shapes(inputs; attributes)` gets and answers tuples of sizes, the library's way round, one an output; without it each output is shaped as the first input.
"""
mutable struct Op
    forward::Any
    backward::Any
    shapes::Any
    outputs::Int
end
Op(forward; backward = nothing, shapes = nothing, outputs::Integer = 1) = Op(forward, backward, shapes, outputs)

shape_of(v::ds_op_value) = ntuple(d -> Int(unsafe_load(v.shape, d)), v.ndim)
array_of(v::ds_op_value) = v.data == C_NULL ? nothing : unsafe_wrap(Array, Ptr{types[v.dtype]}(v.data), reverse(shape_of(v)))
arrays(values::Ptr{ds_op_value}, n::Integer) = [array_of(unsafe_load(values, i)) for i in 1:n]

function on_op_shape(user::Ptr{Cvoid}, attributes::Ptr{UInt8}, inputs::Ptr{ds_op_value}, n::Csize_t, ndim::Ptr{Int32}, shapes::Ptr{NTuple{8,Int64}})::Int32
    guarded() do
        op = unsafe_pointer_to_objref(user)::Op
        made = collect(op.shapes([shape_of(unsafe_load(inputs, i)) for i in 1:Int(n)]; attributes = unsafe_string(attributes)))
        length(made) == op.outputs && all(s -> length(s) <= 8, made) || throw(ArgumentError("shapes gives $made; accepted: $(op.outputs) of at most 8 dimensions"))
        for (i, shape) in enumerate(made)
            unsafe_store!(ndim, length(shape), i)
            unsafe_store!(shapes, ntuple(d -> d <= length(shape) ? Int64(shape[d]) : Int64(0), 8), i)
        end
        return DS_OK
    end
end

function on_op_forward(user::Ptr{Cvoid}, attributes::Ptr{UInt8}, inputs::Ptr{ds_op_value}, n::Csize_t, outputs::Ptr{ds_op_value})::Int32
    guarded() do
        op = unsafe_pointer_to_objref(user)::Op
        op.forward(arrays(inputs, n), arrays(outputs, op.outputs); attributes = unsafe_string(attributes))
        return DS_OK
    end
end

function on_op_backward(user::Ptr{Cvoid}, attributes::Ptr{UInt8}, inputs::Ptr{ds_op_value}, n::Csize_t, outputs::Ptr{ds_op_value}, output_gradients::Ptr{ds_op_value}, input_gradients::Ptr{ds_op_value})::Int32
    guarded() do
        op = unsafe_pointer_to_objref(user)::Op
        op.backward(arrays(inputs, n), arrays(outputs, op.outputs), arrays(output_gradients, op.outputs), arrays(input_gradients, n); attributes = unsafe_string(attributes))
        return DS_OK
    end
end
