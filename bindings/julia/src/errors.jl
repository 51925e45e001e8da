"A failed call: its status, and the library's words, which name the key, file or tensor, the value found and what is accepted."
struct DSRTError <: Exception
    status::Int32
    message::String
end

"The code's name, \"DS_E_CONFIG\"."
name(e::DSRTError) = unsafe_string(ds_status_name(e.status))

Base.showerror(io::IO, e::DSRTError) = print(io, name(e), ": ", e.message)

# What a callback threw, until the call that ran it is over. A task stays on its thread between a call and `check`, since neither yields.
# The log's can't stop the call.
const thrown, logged = Dict{Int,Any}(), Dict{Int,Any}()
const thrown_lock = ReentrantLock()

keep_thrown(e, by = thrown) = lock(() -> by[Threads.threadid()] = e, thrown_lock)
take_thrown(by = thrown) = lock(() -> pop!(by, Threads.threadid(), nothing), thrown_lock)

"The status of a call; throws where it failed, and what the log threw meanwhile."
function check(status::Int32)
    status >= 0 && isempty(thrown) && isempty(logged) && return status
    message = status < 0 ? unsafe_string(ds_last_error()) : ""
    caught, by_log = take_thrown(), take_thrown(logged)
    status == DS_E_USER && caught !== nothing && throw(caught)
    status < 0 && throw(DSRTError(status, message))
    by_log === nothing || throw(by_log)
    return status
end

"The text that `call(text, bytes)` hands out."
function text_of(call)
    text, bytes = Ref{Ptr{UInt8}}(C_NULL), Ref{Csize_t}(0)
    try
        check(call(text, bytes))
        return bytes[] > 0 ? unsafe_string(text[], bytes[]) : unsafe_string(text[])
    finally
        ds_free(text[])
    end
end

optional(text::Nothing) = C_NULL
optional(text::AbstractString) = String(text)

"A type that owns one handle: freed by the garbage collector, or earlier by `close`."
macro handle(T, c, destroy)
    return esc(quote
        mutable struct $T
            ptr::Ptr{$c}
            function $T(ptr::Ptr{$c})
                handle = new(ptr)
                finalizer(close, handle)
                return handle
            end
        end
        function Base.close(handle::$T)
            ptr = handle.ptr
            handle.ptr = C_NULL
            $destroy(ptr)
            isempty(logged) || take_thrown(logged)  # a log that throws meanwhile has nobody to tell
            return nothing
        end
        function Base.unsafe_convert(::Type{Ptr{$c}}, handle::$T)
            handle.ptr == C_NULL && throw(DSRTError(DS_E_STATE, "this " * $(lowercase(string(T))) * " is closed"))
            return handle.ptr
        end
    end)
end

"Calls `make(out)` and owns the handle that it puts there."
function made(::Type{T}, ::Type{C}, make) where {T,C}
    out = Ref{Ptr{C}}(C_NULL)
    status = make(out)
    handle = T(out[])
    check(status)
    return handle
end

version() = unsafe_string(ds_version())
"Major and minor of the library's ABI."
abi_version() = (n = ds_abi_version(); (Int(n >> 16), Int(n & 0xffff)))
build_info() = unsafe_string(ds_build_info())

config_describe() = text_of((out, _) -> ds_config_describe(out))
