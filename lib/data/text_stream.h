// Ids that come a few at a time, as text: only what later ids can't change, so always whole UTF-8.
#pragma once

#include <memory>
#include <vector>

#include "data/tokenizer.h"

namespace ds {

class TextStream {
public:
    TextStream(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special)
        : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}
    // The text that these ids make certain. A character whose bytes are spread over tokens comes with its last byte.
    Result<std::string> put(std::span<const int32_t> ids);
    // What was held back: U+FFFD for a character that never became whole. The stream begins anew.
    Result<std::string> end();

private:
    std::shared_ptr<const Tokenizer> tokenizer_;
    bool skip_special_;
    // Decoding some tokens alone is not the same as the end of decoding all of them (spaces between words, half characters), so those of
    // the last piece are decoded again with each new one: [0, told_) gave text that was told.
    std::vector<int32_t> ids_;
    size_t told_ = 0;
};

}  // namespace ds
