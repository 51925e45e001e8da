// Text to ids and back.
// SPDX-License-Identifier: Apache-2.0
#ifndef DSRT_CPP_TOKENIZER_HPP
#define DSRT_CPP_TOKENIZER_HPP

#include <dsrt/cpp/tensor.hpp>

namespace dsrt {

struct Encoding {
    std::vector<int32_t> ids, type_ids;
    std::vector<std::pair<int64_t, int64_t>> offsets;  // in code points
};

class Tokenizer {
public:
    explicit Tokenizer(const std::string& path) : handle_(load(path)) {}
    Encoding encode(const std::string& text, const std::optional<std::string>& pair = {}, bool add_special_tokens = true) const {
        const detail::EncodingHandle owned(detail::EncodingHandle::made([&](auto out) {
            return ds_tokenizer_encode(get(), text.data(), text.size(), pair ? pair->data() : nullptr, pair ? pair->size() : 0,
                                       add_special_tokens, out);
        }));
        const ds_encoding* made = owned.get();
        Encoding out;
        size_t n = 0;
        const int32_t* ids = nullptr;
        const int64_t* ends = nullptr;
        detail::check(ds_encoding_ids(made, &ids, &n));
        out.ids.assign(ids, ids + n);
        detail::check(ds_encoding_type_ids(made, &ids, &n));
        out.type_ids.assign(ids, ids + n);
        detail::check(ds_encoding_offsets(made, &ends, &n));
        for (size_t i = 0; i < n; ++i) out.offsets.emplace_back(ends[2 * i], ends[2 * i + 1]);
        return out;
    }
    Batch encode_batch(const std::vector<std::string>& texts, const std::vector<std::string>& pairs = {},
                       const std::optional<std::string>& options_json = {}) const {
        if (!pairs.empty() && pairs.size() != texts.size()) throw Error(DS_E_INVALID_ARGUMENT, "pairs: as many as texts, or none");
        std::vector<const char*> first, second;
        for (const std::string& t : texts) first.push_back(detail::c_text(t, "texts[" + std::to_string(first.size()) + "]"));
        for (const std::string& p : pairs) second.push_back(detail::c_text(p, "pairs[" + std::to_string(second.size()) + "]"));
        Batch batch;
        detail::check(ds_tokenizer_encode_batch(get(), first.data(), pairs.empty() ? nullptr : second.data(), texts.size(),
                                                detail::or_null(options_json), batch.get()));
        return batch;
    }
    std::string apply_chat_template(const std::string& messages_json, const std::optional<std::string>& options_json = {}) const {
        return detail::text_of([&](char** out, size_t*) {
            return ds_tokenizer_apply_chat_template(get(), detail::c_text(messages_json), detail::or_null(options_json), out);
        });
    }
    std::string decode(Span<int32_t> ids, bool skip_special = true) const {
        return detail::text_of(
            [&](char** out, size_t* bytes) { return ds_tokenizer_decode(get(), ids.data(), ids.size(), skip_special, out, bytes); });
    }
    ds_tokenizer* get() const { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_tokenizer* load(const std::string& path) {
        return detail::TokenizerHandle::made([&](auto out) { return ds_tokenizer_load(detail::c_text(path), out); });
    }
    detail::TokenizerHandle handle_;
};

// Text from ids that come a few at a time; every piece is whole UTF-8.
class TextStream {
public:
    explicit TextStream(const Tokenizer& tokenizer, bool skip_special = true) : handle_(make(tokenizer, skip_special)) {}
    std::string put(Span<int32_t> ids) { return ids.size() ? piece(ids.data(), ids.size()) : std::string(); }
    std::string end() { return piece(nullptr, 0); }
    ds_text_stream* get() const { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_text_stream* make(const Tokenizer& tokenizer, bool skip_special) {
        return detail::TextStreamHandle::made([&](auto out) { return ds_text_stream_create(tokenizer.get(), skip_special, out); });
    }
    std::string piece(const int32_t* ids, size_t n) {
        return detail::text_of([&](char** out, size_t* bytes) { return ds_text_stream_put(get(), ids, n, out, bytes); });
    }
    detail::TextStreamHandle handle_;
};

}  // namespace dsrt

#endif  // DSRT_CPP_TOKENIZER_HPP
