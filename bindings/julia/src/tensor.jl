const codes = Dict{DataType,Int32}(Float32 => DS_F32, Float16 => DS_F16, Float64 => DS_F64, Int32 => DS_I32, Int64 => DS_I64, UInt8 => DS_U8, Bool => DS_BOOL,
    Int8 => DS_I8)
const types = Dict{Int32,DataType}(code => T for (T, code) in codes)

code_of(::Type{T}) where {T} = get(codes, T) do
    throw(ArgumentError("elements of type $T are not known; accepted: $(join(keys(codes), ", "))"))
end

@handle Tensor ds_tensor ds_tensor_destroy

"A copy of an array, with its dimensions reversed."
function Tensor(values::Array{T}) where {T}
    shape = Int64[reverse(size(values))...]
    return made(Tensor, ds_tensor, out -> ds_tensor_create(code_of(T), length(shape), shape, values, sizeof(values), out))
end
Tensor(values::AbstractArray) = Tensor(collect(values))

function info(t::Tensor)
    dtype, ndim, shape = Ref{Int32}(0), Ref{Int32}(0), Ref{Ptr{Int64}}(C_NULL)
    check(ds_tensor_info(t, dtype, ndim, shape))
    dims = GC.@preserve t ntuple(i -> Int(unsafe_load(shape[], ndim[] + 1 - i)), ndim[])
    return dtype[], dims
end

Base.size(t::Tensor) = info(t)[2]
Base.length(t::Tensor) = prod(size(t))
Base.eltype(t::Tensor) = get(types, info(t)[1], Nothing)

"The contents as an array of T, converted as a C cast does."
function Base.Array{T}(t::Tensor) where {T}
    values = Array{T}(undef, size(t))
    check(ds_tensor_read(t, code_of(T), values, sizeof(values)))
    return values
end
Base.Array(t::Tensor) = Array{eltype(t) === Nothing ? Float32 : eltype(t)}(t)

# DLManagedTensorVersioned of DLPack 1, as far as it is needed here.
struct Managed
    version::NTuple{2,UInt32}
    manager::Ptr{Cvoid}
    deleter::Ptr{Cvoid}
    flags::UInt64
    data::Ptr{Cvoid}
    device::NTuple{2,Int32}
    ndim::Int32
    dtype::UInt32
    shape::Ptr{Int64}
    strides::Ptr{Int64}
    byte_offset::UInt64
end

"An array on the tensor's own memory, without a copy. The memory lives as long as the array."
function array(t::Tensor)
    dtype, dims = info(t)
    haskey(types, dtype) || throw(ArgumentError("Julia has no type for these elements; Array{Float32}(t) converts them"))
    out = Ref{Ptr{DLManagedTensorVersioned}}(C_NULL)
    check(ds_tensor_to_dlpack(t, out))
    managed = Ptr{Managed}(out[])
    lent = unsafe_load(managed)
    values = unsafe_wrap(Array, Ptr{types[dtype]}(lent.data + lent.byte_offset), dims)
    finalizer(_ -> ccall(lent.deleter, Cvoid, (Ptr{Managed},), managed), values)
    return values
end

@handle Batch ds_batch ds_batch_destroy

"Named tensors, by Hugging Face's names: `Batch(\"input_ids\" => ids, \"labels\" => ids)`."
function Batch(pairs::Pair...)
    batch = made(Batch, ds_batch, ds_batch_create)
    for (name, value) in pairs
        batch[String(name)] = value
    end
    return batch
end

function Base.setindex!(b::Batch, t::Tensor, name::AbstractString)
    check(ds_batch_set(b, String(name), t))
    return b
end
Base.setindex!(b::Batch, values::AbstractArray, name::AbstractString) = setindex!(b, Tensor(values), name)

"A new tensor with the contents under a name."
Base.getindex(b::Batch, name::AbstractString) = made(Tensor, ds_tensor, out -> ds_batch_get(b, String(name), out))
