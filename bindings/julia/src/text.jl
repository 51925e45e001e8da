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
    for (name, all) in (("texts", first), ("pairs", second)), (i, s) in enumerate(all)
        at = findfirst(isequal('\0'), s)
        at === nothing || throw(ArgumentError("$(name)[$i] holds a NUL at byte $(at - 1)"))  # C would end it there
    end
    batch = Batch()
    GC.@preserve first second begin
        firsts, seconds = Cstring[Cstring(pointer(s)) for s in first], Cstring[Cstring(pointer(s)) for s in second]
        check(ds_tokenizer_encode_batch(t, firsts, pairs === nothing ? C_NULL : seconds, length(first), optional(options), batch))
    end
    return batch
end

function decode(t::Tokenizer, ids::AbstractVector{<:Integer}; skip_special::Bool = true)
    given = Vector{Int32}(ids)
    return text_of((text, bytes) -> ds_tokenizer_decode(t, given, length(given), skip_special, text, bytes))
end

"A conversation (JSON: [{\"role\": ..., \"content\": ...}]) as its model wants it, by the tokenizer's chat template. options: JSON (add_generation_prompt ...).
Encode the text with `special_tokens = false`."
chat_text(t::Tokenizer, messages::AbstractString; options = nothing) =
    text_of((text, _) -> ds_tokenizer_apply_chat_template(t, String(messages), optional(options), text))

@handle TextStream ds_text_stream ds_text_stream_destroy
"Text from ids that come a few at a time: every piece is whole, and all together are what `decode` makes of all ids."
TextStream(t::Tokenizer; skip_special::Bool = true) = made(TextStream, ds_text_stream, out -> ds_text_stream_create(t, skip_special, out))

"The text that more ids have made certain, often empty."
function Base.put!(s::TextStream, ids::AbstractVector{<:Integer})
    isempty(ids) && return ""
    given = Vector{Int32}(ids)
    return text_of((text, bytes) -> ds_text_stream_put(s, given, length(given), text, bytes))
end
"What was held back, U+FFFD for half a character. The stream may be used anew."
finish!(s::TextStream) = text_of((text, bytes) -> ds_text_stream_put(s, C_NULL, 0, text, bytes))
