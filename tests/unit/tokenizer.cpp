// Tokenizers against Hugging Face's: every folder of data/tokenizers holds a tokenizer and cases.json, what `tokenizers` answered.
#include "data/tokenizer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
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

namespace {

// A tokenizer.json around a model and, where given, one more section.
std::string file_with(std::string_view model, std::string_view more = "") {
    return fmt::format(R"({{"version":"1.0","model":{}{}{}}})", model, more.empty() ? "" : ",", more);
}

constexpr std::string_view kLevel = R"({"type":"WordLevel","vocab":{"<unk>":0,"a":1},"unk_token":"<unk>"})";
constexpr std::string_view kPiece =
    R"({"type":"WordPiece","vocab":{"[UNK]":0,"a":1,"##b":2},"unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100})";

void refuses(std::string_view text, Code code, std::string_view message) {
    auto loaded = Tokenizer::from_json(text, "t.json");
    REQUIRE_FALSE(loaded.ok());
    CHECK(loaded.status().code() == code);
    CHECK_MESSAGE(loaded.status().message().find(message) != std::string::npos, loaded.status().message());
}

std::shared_ptr<const Tokenizer> parsed(std::string_view text) {
    auto loaded = Tokenizer::from_json(text, "t.json");
    REQUIRE_MESSAGE(loaded.ok(), loaded.status().message());
    return loaded.value();
}

double seconds(const std::function<void()>& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

TEST_CASE("tokenizer/refuses_damaged_json_and_says_where") {
    refuses(R"({"version":"1.0","model":{"type":"BPE","vocab":{"a":0)", Code::E_CORRUPT, "t.json: ");
    refuses("", Code::E_CORRUPT, "t.json");
    refuses("[]", Code::E_CORRUPT, "t.json: must be an object");
    refuses("{}", Code::E_CORRUPT, "t.json: model: missing");
    refuses(R"({"version":"2.0"})", Code::E_UNSUPPORTED, "version");
    refuses(R"({"model":7})", Code::E_CORRUPT, "t.json: model: must be an object, but is 7");
    refuses(std::string(5000, '['), Code::E_CORRUPT, "nested deeper than 64 levels");
    refuses(R"({"model":{"type":"Neural","vocab":{}}})", Code::E_UNSUPPORTED, "model.type: \"Neural\" is not built");
    const std::string good = file_with(kPiece);
    for (size_t cut = 0; cut < good.size(); ++cut) CHECK_FALSE(Tokenizer::from_json(std::string_view(good).substr(0, cut), "t.json").ok());
}

TEST_CASE("tokenizer/refuses_bad_vocabularies") {
    const auto level = [](std::string_view vocab) {
        return fmt::format(R"({{"model":{{"type":"WordLevel","unk_token":"a","vocab":{}}}}})", vocab);
    };
    refuses(level(R"({"a":0,"b":0})"), Code::E_CORRUPT, "model.vocab: id 0 appears twice, for tokens \"a\" and \"b\"");
    refuses(level(R"({"a":0,"a":1})"), Code::E_CORRUPT, "token \"a\" appears twice, with ids 0 and 1");
    refuses(level(R"({"a":4294967295})"), Code::E_CORRUPT, "token \"a\" has id 4294967295; ids from 0 to 4194303 are accepted");
    refuses(level(R"({"a":99999999999999999999})"), Code::E_CORRUPT, "t.json");
    refuses(level(R"({"a":-1})"), Code::E_CORRUPT, "token \"a\" has id -1");
    refuses(level(R"({"a":1.5})"), Code::E_CORRUPT, "model.vocab[\"a\"]: must be a whole number, but is 1.5");
    refuses(level(R"({"b":0})"), Code::E_CORRUPT, "model.unk_token: \"a\" is not in the vocabulary");
    refuses(level("[]"), Code::E_CORRUPT, "model.unk_token");
    refuses(level("3"), Code::E_CORRUPT, "model.vocab: must be an object or a list, but is 3");
    refuses(R"({"model":{"type":"Unigram","unk_id":5,"vocab":[["a",0.0]]}})", Code::E_CORRUPT,
            "model.unk_id: must be a whole number from 0 to 0, but is 5");
    refuses(R"({"model":{"type":"Unigram","vocab":[["a",0.0],["b"]]}})", Code::E_CORRUPT,
            "model.vocab[1]: must be [token, score], but is [\"b\"]");
    refuses(R"({"model":{"type":"Unigram","vocab":{"a":0}}})", Code::E_CORRUPT, "needs a list of [token, score]");
    refuses(R"({"model":{"type":"WordPiece","vocab":{"a":0},"unk_token":"[UNK]"}})", Code::E_CORRUPT,
            "model.unk_token: \"[UNK]\" is not in the vocabulary");
    refuses(R"({"model":{"type":"WordPiece","vocab":{"a":0},"unk_token":7}})", Code::E_CORRUPT,
            "model.unk_token: must be a string, but is 7");
}

TEST_CASE("tokenizer/refuses_bad_merges") {
    const auto bpe = [](std::string_view merges) {
        return fmt::format(R"({{"model":{{"type":"BPE","vocab":{{"a":0,"b":1,"ab":2}},"merges":{}}}}})", merges);
    };
    refuses(bpe(R"(["a b","b a"])"), Code::E_CORRUPT, "model.merges[1]: token \"ba\" is not in the vocabulary");
    refuses(bpe(R"(["a c"])"), Code::E_CORRUPT, "model.merges[0]: token \"c\" is not in the vocabulary");
    refuses(bpe(R"(["ab"])"), Code::E_CORRUPT, "model.merges[0]: must be two tokens with a blank between, but is \"ab\"");
    refuses(bpe(R"([["a"]])"), Code::E_CORRUPT, "model.merges[0]: must be two tokens, but is [\"a\"]");
    refuses(bpe("{}"), Code::E_CORRUPT, "model.merges: must be a list");
    refuses(R"({"model":{"type":"BPE","vocab":{"a":0}}})", Code::E_CORRUPT, "model.merges: missing");
    refuses(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[],"dropout":0.5}})", Code::E_UNSUPPORTED, "model.dropout: 0.5");
}

TEST_CASE("tokenizer/refuses_bad_stages") {
    const auto with = [](std::string_view more) { return file_with(kLevel, more); };
    refuses(with(R"("normalizer":{"type":"Shout"})"), Code::E_UNSUPPORTED,
            "t.json: normalizer.type: the normalizer \"Shout\" is not built");
    refuses(with(R"("normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{}]})"), Code::E_CORRUPT,
            "normalizer.normalizers[1].type: missing; must be a string");
    refuses(with(R"("normalizer":{"type":"Precompiled","precompiled_charsmap":"AAA?"})"), Code::E_CORRUPT,
            "precompiled_charsmap: not base64");
    refuses(with(R"("normalizer":{"type":"Precompiled","precompiled_charsmap":"////fwAA"})"), Code::E_CORRUPT,
            "precompiled_charsmap: a trie of 2147483647 bytes in a map of 6");
    refuses(with(R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a"},"behavior":"Isolated","invert":false})"), Code::E_CORRUPT,
            "pre_tokenizer.pattern: regular expression \"(a\": missing closing parenthesis");
    refuses(with(R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":"a"},"behavior":"Sideways","invert":false})"), Code::E_CORRUPT,
            "pre_tokenizer.behavior: \"Sideways\"");
    refuses(with(fmt::format(R"("pre_tokenizer":{{"type":"Split","pattern":{{"Regex":"{}"}},"behavior":"Isolated","invert":false}})",
                             std::string(3000, '('))),
            Code::E_CORRUPT, "too deeply");
    refuses(with(R"("pre_tokenizer":{"type":"Metaspace","replacement":"ab"})"), Code::E_CORRUPT,
            "pre_tokenizer.replacement: must be one character, but is \"ab\"");
    refuses(with(R"("post_processor":{"type":"BertProcessing","sep":["x"],"cls":["y",1]})"), Code::E_CORRUPT,
            "post_processor.sep: must be [token, id]");
    refuses(with(R"("post_processor":{"type":"BertProcessing","cls":["y",1]})"), Code::E_CORRUPT, "post_processor.sep: missing");
    refuses(
        with(
            R"("post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"X","type_id":0}}],"pair":[],"special_tokens":{}})"),
        Code::E_CORRUPT, "post_processor.special_tokens: \"X\", which the template uses, is missing");
    refuses(
        with(
            R"("post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"B","type_id":0}}],"pair":[],"special_tokens":{}})"),
        Code::E_CORRUPT, "post_processor.single[0]");
    refuses(with(R"("decoder":{"type":"Strip","content":"xy","start":0,"stop":0})"), Code::E_CORRUPT,
            "decoder.content: must be one character");
    refuses(with(R"("added_tokens":[{"id":0}])"), Code::E_CORRUPT, "t.json: added_tokens[0].content: missing");
    refuses(with(R"("added_tokens":[{"id":-4,"content":"x"}])"), Code::E_CORRUPT,
            "added_tokens[0].id: must be a whole number from 0 to 4194303, but is -4");
    refuses(with(R"("added_tokens":"x")"), Code::E_CORRUPT, "added_tokens: must be a list");
}

TEST_CASE("tokenizer/hostile_patterns_end_in_an_error_soon") {
    for (const char* pattern : {"(a+)+$", "(a|a)*c", "(a*)*c", "(.*?,){11}P"}) {
        CAPTURE(pattern);
        const auto tokenizer = parsed(file_with(
            kLevel,
            fmt::format(R"("pre_tokenizer":{{"type":"Split","pattern":{{"Regex":"{}"}},"behavior":"Isolated","invert":false}})", pattern)));
        const std::string text = std::string(40, 'a') + std::string(200, ',') + "b";
        Status answer;
        const double took = seconds([&] {
            auto got = tokenizer->encode(text, std::nullopt, {});
            if (!got.ok()) answer = got.status();
        });
        CHECK(took < 10);
        if (!answer.ok())
            CHECK_MESSAGE(answer.message().find(fmt::format("regular expression \"{}\" gives up", pattern)) != std::string::npos,
                          answer.message());
    }
}

TEST_CASE("tokenizer/long_pathological_texts_take_linear_time") {
    const std::string same(1 << 20, 'a'), blanks(1 << 20, ' ');
    std::string mixed;
    for (int i = 0; i < 1 << 17; ++i) mixed += "e\xCC\x81\xE4\xB8\xAD";
    for (const char* name : {"bert", "gpt2", "llama2", "llama3", "unigram", "t5", "o200k"}) {
        CAPTURE(name);
        const auto tokenizer = load(kData / name);
        for (const std::string* text : std::initializer_list<const std::string*>{&same, &blanks, &mixed}) {
            CHECK(seconds([&] { CHECK(tokenizer->encode(*text, std::nullopt, {}).ok()); }) < 20);
        }
    }
}

TEST_CASE("tokenizer/an_unknown_that_the_model_lacks_is_an_error_only_where_needed") {
    const auto bpe = parsed(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"<unk>"}})");
    CHECK(bpe->encode("aa", std::nullopt, {}).ok());
    CHECK(bpe->encode("ab", std::nullopt, {}).status().message() ==
          "tokenizer: the unknown token \"<unk>\" is needed, but is not in the vocabulary");
    const auto unigram = parsed(R"({"model":{"type":"Unigram","vocab":[["a",-1.0]]}})");
    CHECK(unigram->encode("aa", std::nullopt, {}).ok());
    CHECK(unigram->encode("ab", std::nullopt, {}).status().message() ==
          "tokenizer: a Unigram vocabulary without unk_id, and \"b\" is not in it");
    const auto joined =
        parsed(R"({"model":{"type":"Unigram","vocab":[["a",-1.0],["ab",-1.0]]}})");  // "b" alone is not in it, and not needed
    CHECK(joined->encode("ab", std::nullopt, {}).ok());
}

TEST_CASE("tokenizer/truncation_leaves_room_for_special_tokens_or_says_so") {
    const auto tokenizer = load(kData / "bert");
    const auto cut = tokenizer->encode("one two three four five six", "seven", EncodeOptions{true, 7});
    REQUIRE(cut.ok());
    CHECK(cut.value().size() == 7);
    CHECK(tokenizer->encode("one", "two", EncodeOptions{true, 3}).value().size() == 3);
    CHECK(tokenizer->encode("one", "two", EncodeOptions{true, 2}).status().message() ==
          "tokenizer: max_length 2 leaves no room: 3 special tokens are added");
    CHECK(tokenizer->encode("one", std::nullopt, EncodeOptions{true, -1}).status().code() == Code::E_INVALID_ARGUMENT);
}

TEST_CASE("tokenizer/roles_come_from_the_names_of_special_tokens") {
    const auto bert = load(kData / "bert");
    CHECK(bert->pad_id() == bert->id_of("[PAD]"));
    CHECK(bert->mask_id() == bert->id_of("[MASK]"));
    CHECK(bert->cls_id() == bert->id_of("[CLS]"));
    CHECK(bert->sep_id() == bert->id_of("[SEP]"));
    CHECK(bert->unk_id() == bert->id_of("[UNK]"));
    CHECK_FALSE(bert->bos_id().has_value());
    CHECK(bert->is_special(*bert->cls_id()));
    CHECK(bert->special_tokens_added(false) == 2);
    CHECK(bert->special_tokens_added(true) == 3);
    CHECK(bert->token_of(*bert->mask_id()) == "[MASK]");
    CHECK(bert->token_of(1 << 30).empty());
    const auto words = bert->encode("tokenizers", std::nullopt, EncodeOptions{false, 0});
    for (size_t i = 0; i < words.value().size(); ++i) CHECK(bert->continues_word(words.value().ids[i]) == (i > 0));
    const auto llama = load(kData / "llama2");
    CHECK(llama->bos_id() == 1);
    CHECK(llama->eos_id() == 2);
    CHECK(load(kData / "files_albert")->pad_id() == 0);
}

TEST_CASE("tokenizer/refuses_damaged_vocabulary_files") {
    const fs::path folder = fs::temp_directory_path() / fmt::format("dsrt_tokenizer_{}", static_cast<const void*>(&kData));
    fs::create_directories(folder);
    const auto answer = [&](const char* name, std::string_view contents) {
        REQUIRE(write_file_atomically(folder / name, contents).ok());
        auto loaded = Tokenizer::load(folder / name);
        return loaded.ok() ? std::string("loaded") : loaded.status().message();
    };
    const auto says = [](const std::string& message, std::string_view part) {
        CHECK_MESSAGE(message.find(part) != std::string::npos, message);
    };
    says(Tokenizer::load(folder).status().message(),
         "no tokenizer.json, vocab.txt, vocab.json, spiece.model or tokenizer.model in this folder");
    says(answer("vocab.txt", "[UNK]\n[CLS]\na\n"), "vocab.txt: \"[SEP]\" is not in the vocabulary");
    says(answer("vocab.txt", "[CLS]\n[SEP]\na\n"), "unk_token: \"[UNK]\" is not in the vocabulary");
    says(answer("vocab.txt", "[CLS]\n\xff\n"), "vocab.txt: not UTF-8");
    says(answer("x.model", "not a model"), "x.model");
    says(answer("x.model", ""), "no pieces; this is no sentencepiece model");
    const auto good = read_file(kData / "files_llama" / "tokenizer.model");
    REQUIRE(good.ok());
    for (size_t cut = 0; cut < good.value().size(); cut += 97)
        static_cast<void>(answer("x.model", std::string_view(good.value()).substr(0, cut)));
    for (size_t i = 0; i < good.value().size(); i += 61) {  // bent bytes load or are refused; they never crash
        std::string bent = good.value();
        bent[i] = static_cast<char>(bent[i] ^ 0x55);
        static_cast<void>(answer("x.model", bent));
    }
    fs::remove_all(folder);
}

TEST_CASE("tokenizer/one_tokenizer_serves_many_threads") {
    const auto tokenizer = load(kData / "gpt2");
    const std::string text = "The quick brown fox jumps over 1234 lazy dogs; naïve café 中文.";
    const auto wanted = tokenizer->encode(text, std::nullopt, {}).value().ids;
    std::vector<std::thread> threads;
    std::vector<int> equal(4, 0);
    for (size_t t = 0; t < equal.size(); ++t) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < 200; ++i) equal[t] += tokenizer->encode(text, std::nullopt, {}).value().ids == wanted;
        });
    }
    for (auto& thread : threads) thread.join();
    for (const int n : equal) CHECK(n == 200);
}
