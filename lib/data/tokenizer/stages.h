// The stages around the model, built from their JSON. To add one: a class in a file of its own, and a row in the .def file.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/tokenizer/pieces.h"

namespace ds::tokenizer {

// Rewrites a stretch of text.
class Normalizer {
public:
    virtual ~Normalizer() = default;
    virtual Status apply(AlignedText& text) const = 0;
};
using NormalizerPtr = std::unique_ptr<Normalizer>;

// Cuts pieces (and may rewrite them).
class PreTokenizer {
public:
    virtual ~PreTokenizer() = default;
    virtual Status apply(Pieces& pieces) const = 0;
    // Asks the last stage of a line to leave the byte-level mapping to the model; false where it does none.
    virtual bool leave_bytes() { return false; }
};
using PreTokenizerPtr = std::unique_ptr<PreTokenizer>;

// Turns token strings into text, by passing a list of strings on.
class Decoder {
public:
    virtual ~Decoder() = default;
    virtual Status apply(std::vector<std::string>& tokens) const = 0;
};
using DecoderPtr = std::unique_ptr<Decoder>;

// One row a token of a text (or of a stretch of special tokens) on its way through the post-processors.
struct Part {
    std::vector<int32_t> ids, type_ids, words;
    std::vector<std::pair<int64_t, int64_t>> offsets;
    std::vector<std::pair<uint32_t, uint32_t>> blanks;  // leading and trailing blanks of the token; kept where offsets are trimmed
    std::vector<uint8_t> special;
    std::vector<int32_t> sequence;

    size_t size() const { return ids.size(); }
    void add_special(int32_t id, int32_t type, bool front);
    void truncate(size_t length, bool left = false);  // left: the beginning goes
    void append(Part&& other);
};

class PostProcessor {
public:
    virtual ~PostProcessor() = default;
    virtual void apply(std::vector<Part>& parts, bool add_special_tokens) const = 0;
    virtual int64_t added(bool pair) const = 0;
    virtual bool trims_offsets() const { return false; }
};
using PostProcessorPtr = std::unique_ptr<PostProcessor>;

// `stage` is the object with its "type"; errors begin with `place`.
Result<NormalizerPtr> make_normalizer(const Json& stage, const std::string& place);
Result<PreTokenizerPtr> make_pre_tokenizer(const Json& stage, const std::string& place);
Result<DecoderPtr> make_decoder(const Json& stage, const std::string& place);
Result<PostProcessorPtr> make_post_processor(const Json& stage, const std::string& place);

#define DS_TOKENIZER_STAGE(name, function) Result<NormalizerPtr> function(const Json& stage, const std::string& place);
#include "data/tokenizer/normalizers.def"
#undef DS_TOKENIZER_STAGE
#define DS_TOKENIZER_STAGE(name, function) Result<PreTokenizerPtr> function(const Json& stage, const std::string& place);
#include "data/tokenizer/pre_tokenizers.def"
#undef DS_TOKENIZER_STAGE
#define DS_TOKENIZER_STAGE(name, function) Result<DecoderPtr> function(const Json& stage, const std::string& place);
#include "data/tokenizer/decoders.def"
#undef DS_TOKENIZER_STAGE
#define DS_TOKENIZER_STAGE(name, function) Result<PostProcessorPtr> function(const Json& stage, const std::string& place);
#include "data/tokenizer/post_processors.def"
#undef DS_TOKENIZER_STAGE

}  // namespace ds::tokenizer
