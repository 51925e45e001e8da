// ds_tokenizer_*, ds_encoding_*: text to ids and back.
#include "dsrt/tokenizer.h"

#include <algorithm>

#include "api/host.h"
#include "api/objects.h"
#include "base/json_argument.h"
#include "data/chat.h"
#include "data/data.h"

namespace ds::api {
struct EncodingObject {
    Encoding encoding;
    std::vector<int64_t> begin_end;
};
}  // namespace ds::api

using namespace ds;
using namespace ds::api;

ds_status ds_tokenizer_load(const char* path, ds_tokenizer** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_TRY(const std::string place, text_argument(path, "path"));
        DS_TRY(std::shared_ptr<const Tokenizer> tokenizer, Tokenizer::load(place));
        *out = new_handle<ds_tokenizer>(std::move(tokenizer));
        return ok();
    });
}

ds_status ds_tokenizer_encode(const ds_tokenizer* t, const char* text, size_t text_bytes, const char* pair, size_t pair_bytes,
                              int32_t add_special_tokens, ds_encoding** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_USE(const auto tokenizer, t);
        DS_NOT_NULL(text);
        DS_REQUIRE(pair || pair_bytes == 0, "pair is NULL, but pair_bytes is {}", pair_bytes);
        std::optional<std::string_view> second;
        if (pair) second.emplace(pair, pair_bytes);
        DS_TRY(Encoding encoding, tokenizer->encode({text, text_bytes}, second, {.add_special_tokens = add_special_tokens != 0}));
        auto object = std::make_shared<EncodingObject>();
        for (const auto& [begin, end] : encoding.offsets) object->begin_end.insert(object->begin_end.end(), {begin, end});
        object->encoding = std::move(encoding);
        *out = new_handle<ds_encoding>(std::move(object));
        return ok();
    });
}

namespace {

// One of the arrays of an encoding; never NULL on success, whatever its length.
template <class T, class Get>
ds_status array_of(const ds_encoding* e, const T** out, size_t* n, Get get) {
    return guard([&]() -> Status {
        static constexpr T kNone{};
        DS_REQUIRE(out != nullptr, "the array's output must not be NULL");
        *out = nullptr;
        DS_NOT_NULL(n);
        *n = 0;
        DS_USE(const auto encoding, e);
        const std::vector<T>& values = get(*encoding);
        *out = values.empty() ? &kNone : values.data();
        *n = encoding->encoding.size();
        return ok();
    });
}

bool all_zero(const HostTensor& t) {
    const auto* bytes = static_cast<const char*>(t.data);
    return std::all_of(bytes, bytes + t.bytes(), [](char b) { return b == 0; });
}

}  // namespace

ds_status ds_encoding_ids(const ds_encoding* e, const int32_t** ids, size_t* n) {
    return array_of<int32_t>(e, ids, n, [](const EncodingObject& o) -> const std::vector<int32_t>& { return o.encoding.ids; });
}

ds_status ds_encoding_type_ids(const ds_encoding* e, const int32_t** ids, size_t* n) {
    return array_of<int32_t>(e, ids, n, [](const EncodingObject& o) -> const std::vector<int32_t>& { return o.encoding.type_ids; });
}

ds_status ds_encoding_offsets(const ds_encoding* e, const int64_t** begin_end, size_t* n) {
    return array_of<int64_t>(e, begin_end, n, [](const EncodingObject& o) -> const std::vector<int64_t>& { return o.begin_end; });
}

void ds_encoding_destroy(ds_encoding* e) { destroy(e); }

ds_status ds_tokenizer_encode_batch(const ds_tokenizer* t, const char* const* texts, const char* const* pairs, size_t n,
                                    const char* options_json, ds_batch* out) {
    return guard([&]() -> Status {
        DS_USE(const auto tokenizer, t);
        DS_REQUIRE(n > 0, "n must be at least 1");
        DS_NOT_NULL(texts);
        DS_USE(const auto batch, out);
        DS_TRY(const Json options, json_argument(options_json, "options_json"));
        std::vector<std::string_view> first, second;
        for (size_t i = 0; i < n; ++i) {
            DS_REQUIRE(texts[i] && (!pairs || pairs[i]), "{}[{}] must not be NULL", texts[i] ? "pairs" : "texts", i);
            first.emplace_back(texts[i]);
            if (pairs) second.emplace_back(pairs[i]);
        }
        DS_TRY(Batch made, tokenize_batch(*tokenizer, first, second, options));
        // Models without segments know no token_type_ids, and absent ones are zeros.
        const auto types = made.find("token_type_ids");
        if (types != made.end() && !pairs && all_zero(types->second)) made.erase(types);
        for (auto& [name, tensor] : batch->tensors) made.try_emplace(name, tensor);
        batch->tensors.swap(made);
        return ok();
    });
}

ds_status ds_tokenizer_decode(const ds_tokenizer* t, const int32_t* ids, size_t n, int32_t skip_special, char** text, size_t* bytes) {
    return guard([&]() -> Status {
        DS_NOT_NULL(text);
        *text = nullptr;
        if (bytes) *bytes = 0;
        DS_USE(const auto tokenizer, t);
        DS_REQUIRE(ids || n == 0, "ids must not be NULL where n is {}", n);
        DS_TRY(const std::string decoded, tokenizer->decode({ids, n}, skip_special != 0));
        DS_TRY(*text, handed_out(decoded));
        if (bytes) *bytes = decoded.size();
        return ok();
    });
}

ds_status ds_tokenizer_apply_chat_template(const ds_tokenizer* t, const char* messages_json, const char* options_json, char** text) {
    return guard([&]() -> Status {
        DS_NOT_NULL(text);
        *text = nullptr;
        DS_USE(const auto tokenizer, t);
        DS_NOT_NULL(messages_json);
        DS_TRY(const OrderedJson messages, parse_argument<OrderedJson>(messages_json, "messages_json"));  // templates show the order
        DS_TRY(const OrderedJson options, parse_argument<OrderedJson>(options_json ? options_json : "{}", "options_json"));
        DS_REQUIRE(options.is_object(), "options_json: expected a JSON object, but found {}", options.dump());
        DS_TRY(const std::string made, apply_chat_template(*tokenizer, messages, options));
        DS_TRY(*text, handed_out(made));
        return ok();
    });
}

void ds_tokenizer_destroy(ds_tokenizer* t) { destroy(t); }
