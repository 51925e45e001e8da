// tokenizer.json. The vocabulary and the merges, nearly all of a file, are read by simdjson where they lie; the small stages around
// them become Json objects for the factories.
#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "data/tokenizer/definition.h"

namespace ds::tokenizer {
namespace {

using Element = simdjson::dom::element;
using simdjson::dom::element_type;

constexpr size_t kMaxFile = size_t{1} << 30;
constexpr size_t kMaxDepth = 64;

struct Storage {
    simdjson::dom::parser parser{kMaxFile};
    simdjson::padded_string text;
};

// Recursion is bounded: the parser refuses what is nested deeper than kMaxDepth.
Result<Json> to_json(const Element& element, const std::string& place) {
    switch (element.type()) {
    case element_type::OBJECT: {
        Json json = Json::object();
        const simdjson::dom::object object = element.get_object().value_unsafe();
        for (const auto field : object) {
            const std::string key(field.key);
            if (json.contains(key)) return fail(Code::E_CORRUPT, "{}: key \"{}\" appears twice in one object", place, key);
            DS_TRY(json[key], to_json(field.value, place));
        }
        return json;
    }
    case element_type::ARRAY: {
        Json json = Json::array();
        const simdjson::dom::array array = element.get_array().value_unsafe();
        for (const Element item : array) {
            DS_TRY(Json value, to_json(item, place));
            json.push_back(std::move(value));
        }
        return json;
    }
    case element_type::STRING: return Json(std::string(element.get_string().value_unsafe()));
    case element_type::INT64: {
        // Not negative: unsigned, as nlohmann-json reads it.
        const int64_t number = element.get_int64().value_unsafe();
        return number < 0 ? Json(number) : Json(static_cast<uint64_t>(number));
    }
    case element_type::UINT64: return Json(element.get_uint64().value_unsafe());
    case element_type::DOUBLE: return Json(element.get_double().value_unsafe());
    case element_type::BOOL: return Json(element.get_bool().value_unsafe());
    case element_type::NULL_VALUE: break;
    }
    return Json();
}

std::string excerpt(const Element& element) {
    auto json = to_json(element, "");
    return json.ok() ? json->dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 100) : "an object with a key twice";
}

Status read_vocabulary_object(const simdjson::dom::object& object, ModelSpec& spec) {
    spec.vocabulary.reserve(object.size());
    for (const auto field : object) {
        int64_t id = 0;
        if (field.value.get(id))
            return fail(Code::E_CORRUPT, "{}.vocab[\"{}\"]: must be a whole number, but is {}", spec.place, field.key.substr(0, 100),
                        excerpt(field.value));
        spec.vocabulary.emplace_back(field.key, id);
    }
    return ok();
}

// A score as upstream's reader (serde_json) gets it from its shortest decimal form: the digits as a double, times or over a power of ten,
// so that the last bit may be off. Between segmentations of equal pieces ("!!" "!" and "!" "!!") that bit decides.
double upstream_score(double score) {
    char text[32];
    char* const end = std::to_chars(text, text + sizeof text, std::abs(score), std::chars_format::scientific).ptr;
    char* const mark = std::find(text, end, 'e');
    int exponent = 0;
    std::from_chars(mark + (mark + 1 < end && mark[1] == '+' ? 2 : 1), end, exponent);
    uint64_t digits = 0;
    for (const char* c = text; c != mark; ++c) {
        if (*c == '.') exponent -= static_cast<int>(mark - c) - 1;
        else digits = digits * 10 + static_cast<uint64_t>(*c - '0');
    }
    constexpr int kExactPowers = 22;
    if (!std::isfinite(score) || std::abs(exponent) > kExactPowers) return score;
    const double power = std::pow(10.0, std::abs(exponent));
    return std::copysign(exponent < 0 ? static_cast<double>(digits) / power : static_cast<double>(digits) * power, score);
}

Status read_vocabulary_list(const simdjson::dom::array& array, ModelSpec& spec) {
    int64_t id = 0;
    for (const Element row : array) {
        simdjson::dom::array pair;
        std::string_view token;
        double score = 0;
        if (row.get(pair) || pair.size() != 2 || pair.at(0).get(token) || pair.at(1).get(score))
            return fail(Code::E_CORRUPT, "{}.vocab[{}]: must be [token, score], but is {}", spec.place, id, excerpt(row));
        spec.vocabulary.emplace_back(token, id++);
        spec.scores.push_back(upstream_score(score));
    }
    return ok();
}

Status read_vocabulary(const Element& element, ModelSpec& spec) {
    simdjson::dom::object object;
    simdjson::dom::array array;
    if (!element.get(object)) return read_vocabulary_object(object, spec);
    if (!element.get(array)) return read_vocabulary_list(array, spec);
    return fail(Code::E_CORRUPT, "{}.vocab: must be an object or a list, but is {}", spec.place, excerpt(element));
}

// "a b" or ["a", "b"].
Status read_merges(const Element& element, ModelSpec& spec) {
    simdjson::dom::array array;
    if (element.get(array)) return fail(Code::E_CORRUPT, "{}.merges: must be a list, but is {}", spec.place, excerpt(element));
    size_t row = 0;
    for (const Element merge : array) {
        simdjson::dom::array pair;
        std::string_view text, left, right;
        if (!merge.get(text)) {
            if (text.starts_with("#version")) continue;
            const size_t blank = text.find(' ');
            if (blank == text.npos || text.find(' ', blank + 1) != text.npos)
                return fail(Code::E_CORRUPT, "{}.merges[{}]: must be two tokens with a blank between, but is {}", spec.place, row,
                            excerpt(merge));
            left = text.substr(0, blank);
            right = text.substr(blank + 1);
        } else if (merge.get(pair) || pair.size() != 2 || pair.at(0).get(left) || pair.at(1).get(right)) {
            return fail(Code::E_CORRUPT, "{}.merges[{}]: must be two tokens, but is {}", spec.place, row, excerpt(merge));
        }
        spec.merges.emplace_back(left, right);
        ++row;
    }
    return ok();
}

// Files of old have no type; the fields tell.
std::string infer_type(const simdjson::dom::object& model) {
    simdjson::dom::array list;
    Element found;
    if (!model["merges"].get(found)) return "BPE";
    if (!model["vocab"].get(list)) return "Unigram";
    if (!model["max_input_chars_per_word"].get(found)) return "WordPiece";
    return "WordLevel";
}

Status read_model(const simdjson::dom::object& model, ModelSpec& spec) {
    std::string_view type;
    Element found;
    if (model["type"].get(found)) spec.type = infer_type(model);
    else if (found.get(type)) return fail(Code::E_CORRUPT, "{}.type: must be a string, but is {}", spec.place, excerpt(found));
    else spec.type = type;
    bool has_vocabulary = false, has_merges = false;
    for (const auto field : model) {
        if (field.key == "vocab") {
            if (has_vocabulary) return fail(Code::E_CORRUPT, "{}: key \"vocab\" appears twice", spec.place);
            DS_CHECK(read_vocabulary(field.value, spec));
            has_vocabulary = true;
        } else if (field.key == "merges") {
            if (has_merges) return fail(Code::E_CORRUPT, "{}: key \"merges\" appears twice", spec.place);
            DS_CHECK(read_merges(field.value, spec));
            has_merges = true;
        } else {
            DS_TRY(spec.options[std::string(field.key)], to_json(field.value, fmt::format("{}.{}", spec.place, field.key)));
        }
    }
    if (!has_vocabulary) return fail(Code::E_CORRUPT, "{}.vocab: missing", spec.place);
    if (spec.type == "BPE" && !has_merges) return fail(Code::E_CORRUPT, "{}.merges: missing", spec.place);
    if ((spec.type == "Unigram") != (spec.scores.size() == spec.vocabulary.size() && !spec.vocabulary.empty()) && !spec.vocabulary.empty())
        return fail(Code::E_CORRUPT, "{}.vocab: a {} model needs {}", spec.place, spec.type,
                    spec.type == "Unigram" ? "a list of [token, score]" : "an object of ids");
    return ok();
}

Status explain(simdjson::error_code error, std::string_view text, std::string_view place) {
    if (error == simdjson::CAPACITY) return fail(Code::E_CORRUPT, "{}: larger than {} bytes", place, kMaxFile);
    if (error == simdjson::MEMALLOC) return fail(Code::E_OUT_OF_MEMORY, "{}: no memory to parse {} bytes", place, text.size());
    // simdjson does not say where; the slower parser does.
    if (auto slow = parse_json(text, place); !slow.ok()) return std::move(slow).status();
    return fail(Code::E_CORRUPT, "{}: {}", place, simdjson::error_message(error));
}

}  // namespace

Result<Definition> read_tokenizer_json(std::string_view text, std::string_view place) {
    auto storage = std::make_shared<Storage>();
    storage->text = simdjson::padded_string(text);
    Element root;
    auto error = storage->parser.allocate(std::max<size_t>(text.size(), 64), kMaxDepth);
    if (!error) error = storage->parser.parse(storage->text).get(root);
    if (error) return explain(error, text, place);
    simdjson::dom::object object;
    if (root.get(object)) return fail(Code::E_CORRUPT, "{}: must be an object", place);

    Definition definition;
    definition.place = place;
    definition.model.place = fmt::format("{}: model", place);
    bool has_model = false;
    for (const auto field : object) {
        const auto where = [&] { return fmt::format("{}: {}", place, field.key); };
        Json* target = field.key == "normalizer"       ? &definition.normalizer
                       : field.key == "pre_tokenizer"  ? &definition.pre_tokenizer
                       : field.key == "post_processor" ? &definition.post_processor
                       : field.key == "decoder"        ? &definition.decoder
                       : field.key == "added_tokens"   ? &definition.added_tokens
                       : field.key == "padding"        ? &definition.padding
                       : field.key == "truncation"     ? &definition.truncation
                                                       : nullptr;
        if (target) {
            DS_TRY(*target, to_json(field.value, where()));
        } else if (field.key == "model") {
            simdjson::dom::object model;
            if (field.value.get(model)) return fail(Code::E_CORRUPT, "{}: must be an object, but is {}", where(), excerpt(field.value));
            if (has_model) return fail(Code::E_CORRUPT, "{}: key \"model\" appears twice", place);
            DS_CHECK(read_model(model, definition.model));
            has_model = true;
        } else if (field.key == "version") {
            std::string_view version;
            if (field.value.get(version) || version != "1.0")
                return fail(Code::E_UNSUPPORTED, "{}: {}; \"1.0\" is what can be read", where(), excerpt(field.value));
        }
    }
    if (!has_model) return fail(Code::E_CORRUPT, "{}: model: missing", place);
    definition.storage = std::move(storage);
    return definition;
}

}  // namespace ds::tokenizer
