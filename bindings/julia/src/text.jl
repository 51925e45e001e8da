@handle Tokenizer ds_tokenizer ds_tokenizer_destroy

"Reads a tokenizer.json, a vocab.txt, a sentencepiece model, or a folder that holds one. Any number of threads may use it."
Tokenizer(path::AbstractString) = made(Tokenizer, ds_tokenizer, out -> ds_tokenizer_load(String(path), out))

"One tokenised text. Offsets are begin and end of each token, in code points from 0."
struct Encoding
    ids::Vector{Int32}
    type_ids::Vector{Int32}
    offsets::Vector{NTuple{2,Int64}}
end

function encode(t::Tokenizer, text::AbstractString, pair::Union{AbstractString,Nothing} = nothing; special_tokens::Bool = true)
    first, second = String(text), pair === nothing ? nothing : String(pair)
    out = Ref{Ptr{ds_encoding}}(C_NULL)
    check(ds_tokenizer_encode(t, first, sizeof(first), optional(second), second === nothing ? 0 : sizeof(second), special_tokens, out))
    ids, type_ids, ends, n = Ref{Ptr{Int32}}(C_NULL), Ref{Ptr{Int32}}(C_NULL), Ref{Ptr{Int64}}(C_NULL), Ref{Csize_t}(0)
    ds_encoding_ids(out[], ids, n)
    ds_encoding_type_ids(out[], type_ids, n)
    ds_encoding_offsets(out[], ends, n)
    count = Int(n[])
    encoding = Encoding([unsafe_load(ids[], i) for i in 1:count], [unsafe_load(type_ids[], i) for i in 1:count],
        [(unsafe_load(ends[], 2i - 1), unsafe_load(ends[], 2i)) for i in 1:count])
    ds_encoding_destroy(out[])
    return encoding
end

"input_ids, attention_mask and, with pairs, token_type_ids. options: JSON, as in transformers (max_length ...)."
function encode_batch(t::Tokenizer, texts, pairs = nothing; options = nothing)
    first, second = String.(texts), pairs === nothing ? String[] : String.(pairs)
    pairs === nothing || length(second) == length(first) || throw(ArgumentError("pairs: as many as texts, or none"))
    batch = Batch()
    GC.@preserve first second begin
        firsts, seconds = Cstring[Cstring(pointer(s)) for s in first], Cstring[Cstring(pointer(s)) for s in second]
        check(ds_tokenizer_encode_batch(t, firsts, pairs === nothing ? C_NULL : seconds, length(first), optional(options), batch))
    end
    return batch
end

function decode(t::Tokenizer, ids::AbstractVector{<:Integer}; skip_special::Bool = true)
    given, text, bytes = Vector{Int32}(ids), Ref{Ptr{UInt8}}(C_NULL), Ref{Csize_t}(0)
    check(ds_tokenizer_decode(t, given, length(given), skip_special, text, bytes))
    decoded = unsafe_string(text[], bytes[])
    ds_free(text[])
    return decoded
end
