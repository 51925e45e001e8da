// Streams of text: of every tokenizer and text, ids that come one by one or a few at a time give whole UTF-8 only, and together the decoded
// text.
#include <doctest/doctest.h>

#include <filesystem>
#include <random>

#include "base/file.h"
#include "base/json.h"
#include "data/text_stream.h"

using namespace ds;

namespace {

bool whole_utf8(std::string_view s) {
    for (size_t i = 0; i < s.size();) {
        const auto c = static_cast<unsigned char>(s[i]);
        const size_t n = c < 0x80 ? 1 : c >= 0xC2 && c < 0xE0 ? 2 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xF0 && c < 0xF5 ? 4 : 0;
        if (n == 0 || i + n > s.size()) return false;
        for (size_t k = 1; k < n; ++k)
            if ((static_cast<unsigned char>(s[i + k]) & 0xC0) != 0x80) return false;
        i += n;
    }
    return true;
}

std::shared_ptr<const Tokenizer> load(const char* name) {
    auto t = Tokenizer::load(std::filesystem::path(DSRT_TEST_DATA) / "tokenizers" / name);
    REQUIRE_MESSAGE(t.ok(), t.status().message());
    return *t;
}

std::vector<int32_t> encode(const Tokenizer& t, std::string_view text) {
    auto e = t.encode(text, {}, {.add_special_tokens = false});
    REQUIRE(e.ok());
    return e->ids;
}

}  // namespace

TEST_CASE("text_stream/pieces are whole and make the decoded text") {
    std::mt19937 rng(3);
    int texts = 0;
    for (const char* name : {"gpt2", "llama2", "llama3", "qwen2", "o200k", "roberta", "some_bytes"}) {
        const auto tokenizer = load(name);
        for (const std::string text :
             {"The quick brown fox.", " leading and  double spaces", "naïve café — “quotes”", "日本語のテキスト",
              "emoji 👩‍👩‍👧‍👦 and 🇩🇪 flags", "mixed עברית and العربية", "line\nbreaks\t\ttabs", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "a"}) {
            const auto ids = encode(*tokenizer, text);
            const auto wanted = tokenizer->decode(ids, true);
            REQUIRE(wanted.ok());
            for (const bool one_by_one : {true, false}) {
                TextStream stream(tokenizer, true);
                std::string all;
                for (size_t at = 0; at < ids.size();) {
                    const size_t n = one_by_one ? 1 : std::min<size_t>(1 + rng() % 4, ids.size() - at);
                    const auto piece = stream.put(std::span(ids).subspan(at, n));
                    REQUIRE(piece.ok());
                    CHECK_MESSAGE(whole_utf8(*piece), name << ": " << text);
                    all += *piece;
                    at += n;
                }
                const auto rest = stream.end();
                REQUIRE(rest.ok());
                all += *rest;
                CHECK_MESSAGE(all == *wanted, name << ": " << text);
                ++texts;
            }
        }
    }
    CHECK(texts == 126);
}

TEST_CASE("text_stream/any ids at all make the decoded text") {
    std::mt19937 rng(5);
    for (const char* name : {"gpt2", "llama2", "some_bytes", "t5", "bert"}) {
        const auto tokenizer = load(name);
        std::vector<int32_t> bytes;
        for (int byte = 0; byte < 256; ++byte)
            if (const auto id = tokenizer->id_of(fmt::format("<0x{:02X}>", byte))) bytes.push_back(*id);
        for (int round = 0; round < 2000; ++round) {
            const bool skip_special = rng() % 2;
            std::vector<int32_t> ids(1 + rng() % 8);
            for (int32_t& id : ids)
                id = !bytes.empty() && rng() % 2 ? bytes[rng() % bytes.size()]
                                                 : static_cast<int32_t>(rng() % static_cast<uint32_t>(tokenizer->vocabulary_size()));
            TextStream stream(tokenizer, skip_special);
            std::string all;
            for (const int32_t& id : ids) {
                const auto piece = stream.put(std::span(&id, 1));
                REQUIRE(piece.ok());
                REQUIRE_MESSAGE(whole_utf8(*piece), name << ": " << fmt::format("{}", fmt::join(ids, " ")));
                all += *piece;
            }
            all += *stream.end();
            REQUIRE_MESSAGE(all == *tokenizer->decode(ids, skip_special), name << ": " << fmt::format("{}", fmt::join(ids, " ")));
        }
    }
}

TEST_CASE("text_stream/a run of byte tokens is held back to its end, and nothing else") {
    const auto tokenizer = load("some_bytes");
    const auto id = [&](const char* token) { return tokenizer->id_of(token).value(); };
    TextStream stream(tokenizer, false);
    const auto put = [&](int32_t one) { return *stream.put(std::span(&one, 1)); };
    CHECK(put(id("\u2581th")) == "th");
    CHECK(put(id("<0x0A>")) == "");
    CHECK(*stream.held() == "\n");
    CHECK(put(static_cast<int32_t>(tokenizer->vocabulary_size())) == "");  // no token: the run goes on
    CHECK(put(id("\u2581th")) == "\n th");
    CHECK(*stream.held() == "");
    CHECK(put(id("<0x0A>")) == "");
    CHECK(put(id("<0xBF>")) == "");
    CHECK(*stream.end() == "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST_CASE("text_stream/half a character is held back") {
    const auto tokenizer = load("gpt2");
    auto ids = encode(*tokenizer, "x😀");
    REQUIRE(ids.size() > 2);
    ids.pop_back();
    TextStream stream(tokenizer, true);
    const auto said = stream.put(ids);
    REQUIRE(said.ok());
    CHECK(*said == "x");
    const auto rest = stream.end();
    REQUIRE(rest.ok());
    CHECK(rest->find("\xEF\xBF\xBD") == 0);
    CHECK(*stream.put(encode(*tokenizer, "again")) == "again");
}
