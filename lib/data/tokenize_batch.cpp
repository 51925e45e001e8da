// Many texts in one call -> padded tensors.
#include <algorithm>

#include "data/collate.h"

namespace ds {
namespace {

struct Rules {
    bool special = true, truncation = false, pads_left = false;
    std::string padding = "longest";  // "" = none
    int64_t max_length = 0, multiple = 1;
    int32_t pad_id = 0;
    EncodeOptions::Cut cut = EncodeOptions::Cut::longest_first;
    std::optional<bool> cut_left;
};

Status read_flag(const Json& options, const char* key, bool& out) {
    if (!options.contains(key)) return ok();
    if (!options[key].is_boolean())
        return fail(Code::E_INVALID_ARGUMENT, "tokenize: {}: found {}, true or false is accepted", key, excerpt(options[key].dump()));
    out = options[key].get<bool>();
    return ok();
}

Status read_count(const Json& options, const char* key, int64_t& out) {
    if (!options.contains(key)) return ok();
    const Json& value = options[key];
    const uint64_t number = whole_number(value).value_or(0);
    if (number < 1 || number > (1u << 24))
        return fail(Code::E_INVALID_ARGUMENT, "tokenize: {}: found {}, an integer from 1 to 2^24 is accepted", key, excerpt(value.dump()));
    out = static_cast<int64_t>(number);
    return ok();
}

// A word of a few, or nothing; `out` becomes its place among them.
template <class T>
Status read_word(const Json& options, const char* key, std::initializer_list<std::pair<const char*, T>> words, T& out) {
    if (!options.contains(key)) return ok();
    std::vector<std::string> names;
    for (const auto& [name, value] : words) {
        if (options[key] == name) {
            out = value;
            return ok();
        }
        names.push_back(name);
    }
    return fail(Code::E_INVALID_ARGUMENT, "tokenize: {}: found {}, accepted are \"{}\"", key, excerpt(options[key].dump()),
                fmt::join(names, "\", \""));
}

Status read_truncation(const Json& options, Rules& rules) {
    using Cut = EncodeOptions::Cut;
    rules.truncation = rules.max_length > 0;
    if (options.contains("truncation") && options["truncation"].is_string()) {
        rules.truncation = true;
        DS_CHECK(read_word<Cut>(options, "truncation",
                                {{"longest_first", Cut::longest_first}, {"only_first", Cut::only_first}, {"only_second", Cut::only_second}},
                                rules.cut));
    } else {
        DS_CHECK(read_flag(options, "truncation", rules.truncation));
    }
    return read_word<std::optional<bool>>(options, "truncation_side", {{"right", false}, {"left", true}}, rules.cut_left);
}

Status read_pad_id(const Json& options, const Tokenizer& tokenizer, Rules& rules) {
    rules.pad_id = tokenizer.pad_id().value_or(tokenizer.eos_id().value_or(0));
    if (!options.contains("pad_id")) return ok();
    const auto id = whole_number(options["pad_id"]);
    const auto limit = static_cast<uint64_t>(tokenizer.vocabulary_size());
    if (!id || *id >= limit)
        return fail(Code::E_INVALID_ARGUMENT, "tokenize: pad_id: found {}, an id of the vocabulary, 0 to {}, is accepted",
                    excerpt(options["pad_id"].dump()), limit - 1);
    rules.pad_id = static_cast<int32_t>(*id);
    return ok();
}

Result<Rules> read_rules(const Json& given, const Tokenizer& tokenizer) {
    Rules rules;
    rules.pads_left = tokenizer.pads_left();
    const Json options = given.is_null() ? Json::object() : given;
    if (!options.is_object()) return fail(Code::E_INVALID_ARGUMENT, "tokenize: found {}, an object is accepted", excerpt(options.dump()));
    if (Status s = check_keys(options, "tokenize",
                              {"padding", "padding_side", "pad_id", "truncation", "truncation_side", "max_length", "pad_to_multiple_of",
                               "add_special_tokens"});
        !s.ok())
        return Status(Code::E_INVALID_ARGUMENT, s.message());
    DS_CHECK(read_flag(options, "add_special_tokens", rules.special));
    DS_CHECK(read_count(options, "max_length", rules.max_length));
    DS_CHECK(read_truncation(options, rules));
    DS_CHECK(read_count(options, "pad_to_multiple_of", rules.multiple));
    DS_CHECK(read_word<bool>(options, "padding_side", {{"right", false}, {"left", true}}, rules.pads_left));
    DS_CHECK(read_pad_id(options, tokenizer, rules));
    const Json padding = options.value("padding", Json("longest"));
    if (padding == true || padding == "longest") rules.padding = "longest";
    else if (padding == false) rules.padding = "";
    else if (padding == "max_length") rules.padding = "max_length";
    else
        return fail(Code::E_INVALID_ARGUMENT, "tokenize: padding: found {}, accepted are \"longest\", \"max_length\" and false",
                    excerpt(padding.dump()));
    if (rules.max_length == 0 && rules.truncation) return fail(Code::E_INVALID_ARGUMENT, "tokenize: truncation: needs max_length");
    if (rules.max_length == 0 && rules.padding == "max_length")
        return fail(Code::E_INVALID_ARGUMENT, "tokenize: padding: \"max_length\" needs max_length");
    return rules;
}

}  // namespace

Result<Batch> tokenize_batch(const Tokenizer& tokenizer, std::span<const std::string_view> texts, std::span<const std::string_view> pairs,
                             const Json& options) {
    DS_TRY(const Rules rules, read_rules(options, tokenizer));
    DS_REQUIRE(!texts.empty(), "tokenize: no texts; one or more are accepted");
    DS_REQUIRE(pairs.empty() || pairs.size() == texts.size(),
               "tokenize: {} texts and {} pairs; as many pairs as texts, or none, are accepted", texts.size(), pairs.size());
    const EncodeOptions encoding_options{
        .add_special_tokens = rules.special,
        .max_length = rules.truncation ? rules.max_length : 0,
        .cut = rules.cut,
        .cut_left = rules.cut_left,
    };
    std::vector<Sample> samples;
    for (size_t i = 0; i < texts.size(); ++i) {
        const std::optional<std::string_view> pair = pairs.empty() ? std::nullopt : std::optional(pairs[i]);
        Result<Encoding> encoding = tokenizer.encode(texts[i], pair, encoding_options);
        if (!encoding.ok()) return std::move(encoding).status().within(fmt::format("tokenize: text {}", i));
        samples.push_back(to_sample(std::move(encoding).value()));
        const size_t length = samples.back().ids.size(), first = samples.front().ids.size();
        DS_REQUIRE(!rules.padding.empty() || length == first,
                   "tokenize: padding false: text {} has {} tokens, text 0 has {}; equal lengths are accepted", i, length, first);
        DS_REQUIRE(rules.padding != "max_length" || static_cast<int64_t>(length) <= rules.max_length,
                   "tokenize: text {} has {} tokens, max_length is {}; \"truncation\": true would cut it", i, length, rules.max_length);
    }
    CollateRules collating;
    collating.types = true;
    collating.pad_id = rules.pad_id;
    collating.pad_type = tokenizer.pad_type();
    collating.left = rules.pads_left;
    collating.multiple = rules.multiple;
    collating.fixed_length = rules.padding == "max_length" ? rules.max_length : 0;
    DS_REQUIRE(!rules.padding.empty() || rules.multiple == 1, "tokenize: pad_to_multiple_of {} has no effect with padding false",
               rules.multiple);
    return collate(samples, collating);
}

}  // namespace ds
