// Tokenizers that are not one tokenizer.json: BERT's vocab.txt, GPT-2's vocab.json + merges.txt, and what lies in a folder. They are
// told as transformers' converters tell them, in the terms of tokenizer.json.
#include "base/file.h"
#include "data/tokenizer/build.h"
#include "data/tokenizer/fields.h"

namespace ds::tokenizer {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxConfig = size_t{64} << 20;

// Lines without their ends; the last may lack one.
std::vector<std::string_view> lines_of(std::string_view text) {
    std::vector<std::string_view> lines;
    while (!text.empty()) {
        const size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        if (line.ends_with('\r')) line.remove_suffix(1);
        lines.push_back(line);
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return lines;
}

Result<Json> read_config(const fs::path& folder, const char* name) {
    const fs::path path = folder / name;
    std::error_code error;
    if (!fs::is_regular_file(path, error)) return Json(Json::object());
    DS_TRY(const std::string text, read_file(path, kMaxConfig));
    return parse_json(text, path.string());
}

Result<Definition> read_any(const fs::path& path, const Json& config) {
    const std::string place = path.string(), name = path.filename().string();
    DS_TRY(std::string text, read_file(path));
    if (path.extension() == ".txt") return read_vocab_txt(std::move(text), config, place);
    if (path.extension() == ".model") return read_sentencepiece(text, config, place);
    if (name != "vocab.json") return read_tokenizer_json(text, place);
    DS_TRY(std::string merges, read_file(path.parent_path() / "merges.txt"));
    return read_vocab_and_merges(text, std::move(merges), config, place);
}

Json roberta_processor(const ModelSpec& model, bool prefix) {
    const auto id_of = [&](std::string_view wanted) {
        for (const auto& [token, id] : model.vocabulary) {
            if (token == wanted) return id;
        }
        return int64_t{-1};
    };
    if (id_of("<s>") < 0 || id_of("</s>") < 0 || id_of("<mask>") < 0)
        return {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}, {"use_regex", true}};
    return {{"type", "RobertaProcessing"},
            {"cls", {"<s>", id_of("<s>")}},
            {"sep", {"</s>", id_of("</s>")}},
            {"trim_offsets", true},
            {"add_prefix_space", prefix}};
}

}  // namespace

Result<Json> folder_config(const fs::path& folder) {
    DS_TRY(Json config, read_config(folder, "tokenizer_config.json"));
    DS_TRY(const Json map, read_config(folder, "special_tokens_map.json"));
    if (!config.is_object() || !map.is_object())
        return fail(Code::E_CORRUPT, "{}: tokenizer_config.json and special_tokens_map.json must hold objects", folder.string());
    for (const auto& [key, value] : map.items()) {
        if (!config.contains(key)) config[key] = value;
    }
    return config;
}

Result<Definition> read_vocab_txt(std::string text, const Json& config, std::string_view place) {
    auto storage = std::make_shared<std::string>(std::move(text));
    if (!is_utf8(*storage)) return fail(Code::E_CORRUPT, "{}: not UTF-8", place);
    Definition definition;
    definition.place = place;
    definition.storage = storage;
    definition.model.place = place;
    definition.model.type = "WordPiece";
    DS_TRY(const bool lower, bool_field(config, "do_lower_case", "tokenizer_config.json", true));
    DS_TRY(const bool chinese, bool_field(config, "tokenize_chinese_chars", "tokenizer_config.json", true));
    DS_TRY(const bool accents, bool_field(config, "strip_accents", "tokenizer_config.json", lower));
    const auto role = [&](const char* key, const char* otherwise) { return config_token(config, key).value_or(otherwise); };
    const std::string unk = role("unk_token", "[UNK]"), cls = role("cls_token", "[CLS]"), sep = role("sep_token", "[SEP]");
    definition.model.options = {{"unk_token", unk}};
    int64_t id = 0, cls_id = -1, sep_id = -1;
    for (const std::string_view line : lines_of(*storage)) {
        if (line == cls) cls_id = id;
        if (line == sep) sep_id = id;
        definition.model.vocabulary.emplace_back(line, id++);
    }
    if (cls_id < 0 || sep_id < 0) return fail(Code::E_CORRUPT, "{}: \"{}\" is not in the vocabulary", place, cls_id < 0 ? cls : sep);
    for (const std::string& token : {unk, sep, role("pad_token", "[PAD]"), cls, role("mask_token", "[MASK]")})
        definition.added_tokens.push_back(added_token(token, true));
    definition.normalizer = {{"type", "BertNormalizer"},
                             {"clean_text", true},
                             {"handle_chinese_chars", chinese},
                             {"strip_accents", accents},
                             {"lowercase", lower}};
    definition.pre_tokenizer = {{"type", "BertPreTokenizer"}};
    definition.post_processor = {{"type", "BertProcessing"}, {"cls", {cls, cls_id}}, {"sep", {sep, sep_id}}};
    definition.decoder = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
    return definition;
}

Result<Definition> read_vocab_and_merges(const std::string& vocab, std::string merges, const Json& config, std::string_view place) {
    struct Storage {
        Json vocab;
        std::string merges;
    };
    auto storage = std::make_shared<Storage>();
    DS_TRY(storage->vocab, parse_json(vocab, place));
    storage->merges = std::move(merges);
    if (!storage->vocab.is_object()) return fail(Code::E_CORRUPT, "{}: must be an object of token: id", place);
    if (!is_utf8(storage->merges)) return fail(Code::E_CORRUPT, "{}: merges.txt is not UTF-8", place);
    Definition definition;
    definition.place = place;
    definition.storage = storage;
    definition.model.place = place;
    definition.model.type = "BPE";
    for (const auto& [token, id] : storage->vocab.items()) {
        if (!id.is_number_integer())
            return fail(Code::E_CORRUPT, "{}: [\"{}\"]: must be a whole number, but is {}", place, token, id.dump());
    }
    for (auto it = storage->vocab.begin(); it != storage->vocab.end(); ++it)
        definition.model.vocabulary.emplace_back(it.key(), it->get<int64_t>());
    size_t number = 0;
    for (const std::string_view line : lines_of(storage->merges)) {
        ++number;
        if (line.empty() || line.starts_with("#version")) continue;
        const size_t blank = line.find(' ');
        if (blank == line.npos || line.find(' ', blank + 1) != line.npos)
            return fail(Code::E_CORRUPT, "merges.txt: line {}: must be two tokens with a blank between, but is \"{}\"", number,
                        line.substr(0, 100));
        definition.model.merges.emplace_back(line.substr(0, blank), line.substr(blank + 1));
    }
    DS_TRY(const bool prefix, bool_field(config, "add_prefix_space", "tokenizer_config.json", false));
    definition.pre_tokenizer = {{"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"trim_offsets", true}, {"use_regex", true}};
    definition.decoder = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
    definition.post_processor = roberta_processor(definition.model, prefix);
    for (const char* token : {"<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"}) {
        if (storage->vocab.contains(token))
            definition.added_tokens.push_back(added_token(token, true, std::string_view(token) == "<mask>"));
    }
    return definition;
}

Result<Parts> load(const fs::path& path) {
    std::error_code error;
    const bool is_folder = fs::is_directory(path, error);
    const fs::path folder = is_folder ? path : path.parent_path();
    DS_TRY(const Json config, folder_config(folder.empty() ? fs::path(".") : folder));
    fs::path file = path;
    if (is_folder) {
        file.clear();
        for (const char* name : {"tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model"}) {
            if (file.empty() && fs::is_regular_file(folder / name, error)) file = folder / name;
        }
        if (file.empty())
            return fail(Code::E_NOT_FOUND, "{}: no tokenizer.json, vocab.txt, vocab.json, spiece.model or tokenizer.model in this folder",
                        path.string());
    }
    DS_TRY(const Definition definition, read_any(file, config));
    DS_TRY(Parts parts, build(definition, config));
    parts.folder = folder;
    return parts;
}

}  // namespace ds::tokenizer
