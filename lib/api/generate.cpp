// ds_generate, ds_generate_batch: text from a trained model, token by token; ds_text_stream_*: as text.
#include <cstdlib>
#include <cstring>
#include <limits>

#include "api/engine.h"
#include "api/host.h"
#include "data/text_stream.h"
#include "dsrt/engine.h"

using namespace ds;
using namespace ds::api;

namespace {

template <class T>
Result<T*> copied(const std::vector<T>& values) {
    auto* copy = static_cast<T*>(std::malloc(std::max<size_t>(values.size(), 1) * sizeof(T)));
    if (!copy) return Status(Code::E_OUT_OF_MEMORY);
    if (!values.empty()) std::memcpy(copy, values.data(), values.size() * sizeof(T));
    return copy;
}

constexpr size_t kMostTokens = std::numeric_limits<int32_t>::max();  // as positions are counted

// A negative answer is remembered: it tells the callback's own failure from the library's.
template <class Call>
TokenListener listener_of(bool wanted, int& failed, Call call) {
    if (!wanted) return {};
    return [&failed, call](size_t row, std::span<const int32_t> part) {
        const int32_t code = call(row, part);
        if (code < 0) failed = code;
        return code;
    };
}

}  // namespace

ds_status ds_generate(ds_engine* e, const int32_t* prompt, size_t n, const char* options_json, ds_token_fn on_token, void* user,
                      int32_t** ids, size_t* n_ids) {
    return guard([&]() -> Status {
        DS_NOT_NULL(ids);
        *ids = nullptr;
        DS_NOT_NULL(n_ids);
        *n_ids = 0;
        DS_USE(const auto engine, e);
        DS_REQUIRE(prompt || n == 0, "prompt must not be NULL where n is {}", n);
        DS_REQUIRE(n <= kMostTokens, "n is {}, but a prompt has at most {} tokens", n, kMostTokens);
        DS_CHECK(json_argument(options_json, "options_json").status());
        int failed = 0;
        const auto hear =
            listener_of(on_token, failed, [&](size_t, std::span<const int32_t> part) { return on_token(part.data(), part.size(), user); });
        const auto result = engine->engine->generate({{prompt, prompt + n}}, options_json ? options_json : "", hear);
        if (failed) return from_callback(failed, "token callback");
        DS_CHECK(result.status());
        DS_TRY(*ids, copied(result.value()[0]));
        *n_ids = result.value()[0].size();
        return ok();
    });
}

ds_status ds_generate_batch(ds_engine* e, const int32_t* prompts, const size_t* lengths, size_t rows, const char* options_json,
                            ds_row_tokens_fn on_tokens, void* user, int32_t** ids, size_t** n_ids) {
    return guard([&]() -> Status {
        DS_NOT_NULL(ids);
        *ids = nullptr;
        DS_NOT_NULL(n_ids);
        *n_ids = nullptr;
        DS_USE(const auto engine, e);
        DS_REQUIRE(rows > 0 && rows <= kMostTokens, "rows must be from 1 to {}, are {}", kMostTokens, rows);
        DS_NOT_NULL(prompts);
        DS_NOT_NULL(lengths);
        for (size_t r = 0; r < rows; ++r)
            DS_REQUIRE(lengths[r] <= kMostTokens, "lengths[{}] is {}, but a prompt has at most {} tokens", r, lengths[r], kMostTokens);
        DS_CHECK(json_argument(options_json, "options_json").status());
        std::vector<std::vector<int32_t>> list;
        for (size_t r = 0; r < rows; prompts += lengths[r++]) list.emplace_back(prompts, prompts + lengths[r]);
        int failed = 0;
        const auto hear = listener_of(
            on_tokens, failed, [&](size_t row, std::span<const int32_t> part) { return on_tokens(row, part.data(), part.size(), user); });
        const auto result = engine->engine->generate(list, options_json ? options_json : "", hear);
        if (failed) return from_callback(failed, "token callback");
        DS_CHECK(result.status());
        std::vector<int32_t> all;
        std::vector<size_t> counts;
        for (const auto& row : result.value()) {
            all.insert(all.end(), row.begin(), row.end());
            counts.push_back(row.size());
        }
        DS_TRY(int32_t* const made, copied(all));
        auto sizes = copied(counts);
        if (!sizes.ok()) {
            std::free(made);
            return std::move(sizes).status();
        }
        *ids = made;
        *n_ids = *sizes;
        return ok();
    });
}

ds_status ds_text_stream_create(const ds_tokenizer* t, int32_t skip_special, ds_text_stream** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_USE(const auto tokenizer, t);
        *out = new_handle<ds_text_stream>(std::make_shared<TextStream>(tokenizer.retained(), skip_special != 0));
        return ok();
    });
}

ds_status ds_text_stream_put(ds_text_stream* s, const int32_t* ids, size_t n, char** text, size_t* bytes) {
    return guard([&]() -> Status {
        DS_NOT_NULL(text);
        *text = nullptr;
        if (bytes) *bytes = 0;
        DS_USE(const auto stream, s);
        DS_TRY(const std::string piece, ids ? stream->put({ids, n}) : stream->end());
        DS_TRY(*text, handed_out(piece));
        if (bytes) *bytes = piece.size();
        return ok();
    });
}

void ds_text_stream_destroy(ds_text_stream* s) { destroy(s); }
