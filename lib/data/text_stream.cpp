#include "data/text_stream.h"

namespace ds {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // what decoding makes of bytes that are no character, yet

}  // namespace

Result<std::string> TextStream::put(std::span<const int32_t> ids) {
    std::string out;
    for (const int32_t id : ids) {
        ids_.push_back(id);
        auto all = tokenizer_->decode(ids_, skip_special_);
        if (!all.ok()) {
            ids_.pop_back();
            return std::move(all).status();
        }
        DS_TRY(const std::string before, tokenizer_->decode(std::span(ids_).first(told_), skip_special_));
        if (all->size() <= before.size() || all->ends_with(kReplacement)) continue;
        out += all->substr(before.size());
        ids_.erase(ids_.begin(), ids_.begin() + static_cast<int64_t>(told_));
        told_ = ids_.size();
    }
    return out;
}

Result<std::string> TextStream::end() {
    DS_TRY(const std::string all, tokenizer_->decode(ids_, skip_special_));
    DS_TRY(const std::string before, tokenizer_->decode(std::span(ids_).first(told_), skip_special_));
    ids_.clear();
    told_ = 0;
    return all.size() > before.size() ? all.substr(before.size()) : std::string();
}

}  // namespace ds
