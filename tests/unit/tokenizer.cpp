// Tokenizers against Hugging Face's: every folder of data/tokenizers holds a tokenizer and cases.json, what `tokenizers` answered.
#include "data/tokenizer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "base/file.h"
#include "base/json.h"

using namespace ds;
namespace fs = std::filesystem;

namespace {

const fs::path kData = fs::path(DSRT_TEST_DATA) / "tokenizers";

std::shared_ptr<const Tokenizer> load(const fs::path& path) {
    auto loaded = Tokenizer::load(path);
    REQUIRE_MESSAGE(loaded.ok(), loaded.status().message());
    return loaded.value();
}

Json read_json(const fs::path& path) {
    auto text = read_file(path);
    REQUIRE_MESSAGE(text.ok(), text.status().message());
    auto json = parse_json(text.value(), path.string());
    REQUIRE_MESSAGE(json.ok(), json.status().message());
    return json.value();
}

template <class T>
Json listed(const std::vector<T>& values) {
    Json list = Json::array();
    for (const T& value : values) list.push_back(value);
    return list;
}

// A case's texts are strings, or arrays of bytes where they are not UTF-8.
std::string text_of(const Json& json) {
    if (json.is_string()) return json.get<std::string>();
    std::string text;
    for (const Json& byte : json) text.push_back(static_cast<char>(byte.get<int>()));
    return text;
}

void check_encoding(const Tokenizer& tokenizer, const Json& wanted, const Encoding& got) {
    CHECK(listed(got.ids) == wanted["ids"]);
    if (wanted.contains("type_ids")) CHECK(listed(got.type_ids) == wanted["type_ids"]);
    Json offsets = Json::array();
    for (const auto& [begin, end] : got.offsets) offsets.push_back({begin, end});
    if (wanted.contains("offsets")) CHECK(offsets == wanted["offsets"]);
    if (wanted.contains("word_ids")) CHECK(listed(got.word_ids) == wanted["word_ids"]);
    if (wanted.contains("special")) CHECK(listed(got.special) == wanted["special"]);
    if (wanted.contains("sequence")) CHECK(listed(got.sequence) == wanted["sequence"]);
    for (const auto& [key, skip] : {std::pair("decoded", false), std::pair("decoded_skip_special", true)}) {
        if (!wanted.contains(key)) continue;
        auto decoded = tokenizer.decode(got.ids, skip);
        REQUIRE_MESSAGE(decoded.ok(), decoded.status().message());
        CHECK(decoded.value() == wanted[key].get<std::string>());
    }
}

void check_case(const Tokenizer& tokenizer, const Json& wanted) {
    EncodeOptions options;
    options.add_special_tokens = wanted.value("add_special_tokens", true);
    options.max_length = wanted.value("max_length", 0);
    if (wanted.contains("words")) {
        auto got = tokenizer.encode_words(wanted["words"].get<std::vector<std::string>>(), options);
        REQUIRE_MESSAGE(got.ok(), got.status().message());
        check_encoding(tokenizer, wanted, got.value());
        return;
    }
    const std::string text = text_of(wanted["text"]);
    std::optional<std::string> pair;
    if (wanted.contains("pair") && !wanted["pair"].is_null()) pair = text_of(wanted["pair"]);
    auto got = tokenizer.encode(text, pair ? std::optional<std::string_view>(*pair) : std::nullopt, options);
    REQUIRE_MESSAGE(got.ok(), got.status().message());
    check_encoding(tokenizer, wanted, got.value());
}

}  // namespace

TEST_CASE("tokenizer/equals_hugging_face_on_every_golden") {
    size_t folders = 0;
    for (const auto& entry : fs::directory_iterator(kData)) {
        if (!fs::exists(entry.path() / "cases.json")) continue;
        ++folders;
        const std::string name = entry.path().filename().string();
        CAPTURE(name);
        const auto tokenizer = load(entry.path());
        const Json cases = read_json(entry.path() / "cases.json");
        for (size_t i = 0; i < cases.size(); ++i) {
            CAPTURE(i);
            const std::string shown = cases[i].value("text", Json()).dump(-1, ' ', false, Json::error_handler_t::replace);
            CAPTURE(shown);
            check_case(*tokenizer, cases[i]);
        }
    }
    CHECK(folders >= 5);
}
