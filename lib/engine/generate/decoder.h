// Decoder: runs a language model on a few sequences at once, token by token, and gives the logits of each one's next token.
// One keeps keys and values (graphs by passes/cache.h), one runs whole sequences again: for layouts of ranks that the first does not know,
// and as its check. A third deals out sequences over processes.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/status.h"

namespace ds {

class Engine;

class Decoder {
public:
    virtual ~Decoder() = default;
    // Sequence i begins with prompts[i], and an encoder-decoder's looks at sources[i]. After this, logits(i) are of its next token.
    virtual Status start(std::span<const std::vector<int32_t>> prompts, std::span<const std::vector<int32_t>> sources) = 0;
    // Sequence i of now on is sequence from[i] of before and ids[i]. Sequences may be continued more than once, or dropped.
    virtual Status advance(std::span<const int> from, std::span<const int32_t> ids) = 0;
    // Whether processes with different rows exchange in it, and so make each call at the same time.
    virtual bool runs_together() const { return false; }
    // For the caller to work on until the next call.
    std::span<float> logits(size_t sequence) { return std::span(logits_).subspan(sequence * width_, width_); }

protected:
    std::vector<float> logits_;
    size_t width_ = 0;
};

// How much a cache must hold: tokens of one sequence, and of all of them, beginnings that sequences share counted once; likewise of an
// encoder's.
struct DecoderSize {
    int64_t capacity = 0, tokens = 0, source_capacity = 0, source_tokens = 0;
};

std::unique_ptr<Decoder> make_cached_decoder(Engine& engine, const DecoderSize& size);
std::unique_ptr<Decoder> make_plain_decoder(Engine& engine);
// For processes with different rows: own works on this process's share of the sequences.
std::unique_ptr<Decoder> make_shared_decoder(Engine& engine, std::unique_ptr<Decoder> own);

}  // namespace ds
