// Ids that come a few at a time, as text: only what later ids can't change, so always whole UTF-8.
#pragma once

#include <memory>
#include <vector>

#include "data/tokenizer.h"

namespace ds {

class TextStream {
public:
    TextStream(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special);
    // The text that these ids make certain. A character whose bytes are spread over tokens comes with its last byte, the text of a run of
    // byte tokens ("<0x0A>") with the token behind it: one bad byte would turn all of the run into U+FFFD.
    Result<std::string> put(std::span<const int32_t> ids);
    // What is held back, as if the ids ended here: U+FFFD for a character that is not whole.
    Result<std::string> held() const;
    // That, and the stream begins anew.
    Result<std::string> end();

private:
    Result<std::string> decode(std::span<const int32_t> ids) const { return tokenizer_->decode(ids, skip_special_); }

    std::shared_ptr<const Tokenizer> tokenizer_;
    bool skip_special_;
    // Decoding some tokens alone is not the same as the end of decoding all of them (spaces between words, half characters), so those of
    // the last piece are decoded again with each new one: [0, told_) gave text that was told.
    std::vector<int32_t> ids_;
    size_t told_ = 0;
    std::optional<int32_t> bad_byte_;  // a byte token that spoils the run it is put behind
};

}  // namespace ds
