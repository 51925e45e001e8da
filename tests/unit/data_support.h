// What the tests of readers and batching share: files in a folder of their own, and a WordPiece tokenizer small enough to read.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "data/data.h"

namespace data_support {

using namespace ds;

struct Folder {
    std::filesystem::path path;
    Folder() {
        static int count = 0;
        path = std::filesystem::temp_directory_path() / fmt::format("dsrt-data-{}-{}", ::getpid(), count++);
        std::filesystem::create_directories(path);
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    std::string write(const std::string& name, const std::string& contents) const {
        std::ofstream(path / name, std::ios::binary) << contents;
        return (path / name).string();
    }
};

// Ids: 0 [PAD] 1 [UNK] 2 [CLS] 3 [SEP] 4 [MASK], then a..z as 5..30, ##a..##z as 31..56, then words from 57 on.
inline std::shared_ptr<const Tokenizer> tokenizer() {
    std::string vocabulary, added;
    int id = 0;
    const auto add = [&](const std::string& token) { vocabulary += fmt::format("{}\"{}\": {}", id ? ", " : "", token, id), ++id; };
    for (const char* special : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
        added += fmt::format(R"({}{{"id": {}, "content": "{}", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}})",
                             id ? ", " : "", id, special);
        add(special);
    }
    for (char c = 'a'; c <= 'z'; ++c) add(std::string(1, c));
    for (char c = 'a'; c <= 'z'; ++c) add("##" + std::string(1, c));
    for (const char* word : {"good", "bad", "film", "the", "##ing", ".", "?", "paris", "who"}) add(word);
    const std::string cls = R"({"SpecialToken": {"id": "[CLS]", "type_id": 0}})";
    const auto sep = [](int type) { return fmt::format(R"({{"SpecialToken": {{"id": "[SEP]", "type_id": {}}}}})", type); };
    const auto text = [](char name, int type) { return fmt::format(R"({{"Sequence": {{"id": "{}", "type_id": {}}}}})", name, type); };
    const std::string file = fmt::format(
        R"({{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [{}],
             "normalizer": {{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                             "lowercase": true}},
             "pre_tokenizer": {{"type": "BertPreTokenizer"}},
             "post_processor": {{"type": "TemplateProcessing", "single": [{}, {}, {}], "pair": [{}, {}, {}, {}, {}],
                 "special_tokens": {{"[CLS]": {{"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}},
                                     "[SEP]": {{"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}}}}},
             "decoder": {{"type": "WordPiece", "prefix": "##", "cleanup": true}},
             "model": {{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                        "vocab": {{{}}}}}}})",
        added, cls, text('A', 0), sep(0), cls, text('A', 0), sep(0), text('B', 1), sep(1), vocabulary);
    auto loaded = Tokenizer::from_json(file, "test tokenizer");
    REQUIRE_MESSAGE(loaded.ok(), loaded.status().message());
    return *loaded;
}

inline DataContext context(const std::string& task = "", int64_t labels = 0) {
    DataContext out;
    static const std::shared_ptr<const Tokenizer> shared = tokenizer();
    out.tokenizer = shared;
    out.rows_per_batch = 2;
    out.seed = 7;
    out.task = task;
    out.num_labels = labels;
    return out;
}

// The whole first epoch, in file order.
inline std::vector<Batch> batches(Json options, const DataContext& with) {
    if (!options.contains("shuffle")) options["shuffle"] = false;
    auto opened = open_data(options, with);
    REQUIRE_MESSAGE(opened.ok(), opened.status().message());
    std::vector<Batch> out;
    while (true) {
        Batch batch;
        const Status status = (*opened)->next(batch);
        REQUIRE_MESSAGE(status.ok(), status.message());
        if (status.code() == Code::END) return out;
        out.push_back(std::move(batch));
    }
}

// What opening (or else the first epoch) fails with.
inline std::string failure(Json options, const DataContext& with) {
    auto opened = open_data(options, with);
    if (!opened.ok()) return opened.status().message();
    while (true) {
        Batch batch;
        const Status status = (*opened)->next(batch);
        if (!status.ok()) return status.message();
        if (status.code() == Code::END) return "";
    }
}

inline std::vector<int64_t> ints(const Batch& batch, const std::string& name) {
    REQUIRE_MESSAGE(batch.contains(name), name);
    const HostTensor t = batch.at(name).to(DType::i64);
    const auto values = t.as<int64_t>();
    return {values.begin(), values.end()};
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

}  // namespace data_support

#define CHECK_SAYS(text, part) CHECK_MESSAGE(data_support::contains(text, part), (text))
