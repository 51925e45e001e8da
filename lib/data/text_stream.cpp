#include "data/text_stream.h"

namespace ds {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // what decoding makes of bytes that are no character, yet

}  // namespace

TextStream::TextStream(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {
    for (int byte = 0x80; tokenizer_ && byte < 0x100 && !bad_byte_; ++byte) {  // streams of a model without one have no text
        bad_byte_ = tokenizer_->id_of(fmt::format("<0x{:02X}>", byte));
        if (bad_byte_ && skip_special_ && tokenizer_->is_special(*bad_byte_)) bad_byte_.reset();
    }
}

Result<std::string> TextStream::put(std::span<const int32_t> ids) {
    std::string out;
    for (const int32_t id : ids) {
        ids_.push_back(id);
        auto all = decode(ids_);
        if (!all.ok()) {
            ids_.pop_back();
            return std::move(all).status();
        }
        DS_TRY(const std::string before, decode(std::span(ids_).first(told_)));
        if (all->size() <= before.size() || all->ends_with(kReplacement)) continue;
        if (bad_byte_) {
            std::vector<int32_t> spoiled = ids_;
            spoiled.push_back(*bad_byte_);
            DS_TRY(const std::string then, decode(spoiled));
            if (!then.starts_with(*all)) continue;
        }
        out += all->substr(before.size());
        ids_.erase(ids_.begin(), ids_.begin() + static_cast<int64_t>(told_));
        told_ = ids_.size();
    }
    return out;
}

Result<std::string> TextStream::held() const {
    DS_TRY(const std::string all, decode(ids_));
    DS_TRY(const std::string before, decode(std::span(ids_).first(told_)));
    return all.size() > before.size() ? all.substr(before.size()) : std::string();
}

Result<std::string> TextStream::end() {
    DS_TRY(std::string rest, held());
    ids_.clear();
    told_ = 0;
    return rest;
}

}  // namespace ds
