"A failed call: its status, and the library's words, which name the key, file or tensor, the value found and what is accepted."
struct DSRTError <: Exception
    status::Int32
    message::String
end

"The code's name, \"DS_E_CONFIG\"."
name(e::DSRTError) = unsafe_string(ds_status_name(e.status))

Base.showerror(io::IO, e::DSRTError) = print(io, name(e), ": ", e.message)

# What a callback threw, until the call that ran it is over. A task stays on its thread between a call and `check`, since neither yields.
const thrown = Dict{Int,Any}()
const thrown_lock = ReentrantLock()

keep_thrown(e) = lock(() -> thrown[Threads.threadid()] = e, thrown_lock)
take_thrown() = lock(() -> pop!(thrown, Threads.threadid(), nothing), thrown_lock)

"The status of a call; throws where it failed."
function check(status::Int32)
    status >= 0 && isempty(thrown) && return status
    message = status < 0 ? unsafe_string(ds_last_error()) : ""
    caught = take_thrown()
    status >= 0 && return status
    status == DS_E_USER && caught !== nothing && throw(caught)
    throw(DSRTError(status, message))
end

"A text that the library handed out."
function take_text(text::Ptr{UInt8})
    copied = unsafe_string(text)
    ds_free(text)
    return copied
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
            return nothing
        end
        Base.unsafe_convert(::Type{Ptr{$c}}, handle::$T) = handle.ptr
    end)
end

"Calls `make(out)` and owns the handle that it puts there."
function made(::Type{T}, ::Type{C}, make) where {T,C}
    out = Ref{Ptr{C}}(C_NULL)
    check(make(out))
    return T(out[])
end

version() = unsafe_string(ds_version())
build_info() = unsafe_string(ds_build_info())

function config_describe()
    out = Ref{Ptr{UInt8}}(C_NULL)
    check(ds_config_describe(out))
    return take_text(out[])
end
