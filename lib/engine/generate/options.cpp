#include "engine/generate/options.h"

#include <algorithm>
#include <functional>
#include <iterator>

#include "base/json_argument.h"

namespace ds {
namespace {

using Read = bool (*)(const Json& value, GenerateOptions& o);
struct Option {
    const char *name, *accepted;
    Read read;
};

template <auto member>
bool count(const Json& v, GenerateOptions& o) {
    return v.is_number_integer() && v.get<int64_t>() >= 0 && v.get<int64_t>() <= INT32_MAX && (o.*member = v.get<int64_t>(), true);
}
template <auto member>
bool at_least_one(const Json& v, GenerateOptions& o) {
    return count<member>(v, o) && o.*member >= 1;
}
template <auto member>
bool number(const Json& v, GenerateOptions& o) {
    return v.is_number() && (o.*member = v.get<double>(), true);
}
template <auto member>
bool not_negative(const Json& v, GenerateOptions& o) {
    return number<member>(v, o) && o.*member >= 0;
}

bool ids(const Json& v, GenerateOptions& o) {
    o.eos.clear();
    for (const Json& id : v.is_array() ? v : Json::array({v})) {
        if (!id.is_number_integer() || id.get<int64_t>() < -1 || id.get<int64_t>() > INT32_MAX) return false;
        if (id.get<int64_t>() >= 0) o.eos.push_back(id.get<int32_t>());
    }
    return true;
}

bool strings(const Json& v, GenerateOptions& o) {
    for (const Json& s : v.is_array() ? v : Json::array({v})) {
        if (!s.is_string() || s.get<std::string>().empty()) return false;
        o.stop_strings.push_back(s.get<std::string>());
    }
    return true;
}

template <auto member>
bool one_id(const Json& v, GenerateOptions& o) {
    const Json id = v.is_array() && v.size() == 1 ? v[0] : v;  // as some folders have it
    (o.*member).reset();
    if (!id.is_number_integer() || id.get<int64_t>() < -1 || id.get<int64_t>() > INT32_MAX) return false;
    if (id.get<int64_t>() >= 0) o.*member = id.get<int32_t>();
    return true;
}

bool words(const Json& v, GenerateOptions& o) {
    o.bad_words.clear();
    if (!v.is_array()) return false;
    for (const Json& word : v) {
        if (!word.is_array() || word.empty()) return false;
        o.bad_words.emplace_back();
        for (const Json& id : word) {
            if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX) return false;
            o.bad_words.back().push_back(id.get<int32_t>());
        }
    }
    return true;
}

bool early(const Json& v, GenerateOptions& o) {
    using E = GenerateOptions::EarlyStopping;
    if (v.is_boolean()) return o.early_stopping = v.get<bool>() ? E::yes : E::no, true;
    return v == "never" && (o.early_stopping = E::never, true);
}

constexpr Option kOptions[] = {
    {"max_new_tokens", "a non-negative integer", count<&GenerateOptions::max_new_tokens>},
    {"max_length", "a positive integer, the prompt counted too", at_least_one<&GenerateOptions::max_length>},
    {"min_new_tokens", "a non-negative integer", count<&GenerateOptions::min_new_tokens>},
    {"temperature", "a number of at least 0 (0: greedy)", not_negative<&GenerateOptions::temperature>},
    {"top_k", "a non-negative integer (0: all)", count<&GenerateOptions::top_k>},
    {"top_p", "a number in (0, 1]",
     [](const Json& v, GenerateOptions& o) { return number<&GenerateOptions::top_p>(v, o) && o.top_p > 0 && o.top_p <= 1; }},
    {"min_p", "a number in [0, 1]",
     [](const Json& v, GenerateOptions& o) { return not_negative<&GenerateOptions::min_p>(v, o) && o.min_p <= 1; }},
    {"repetition_penalty", "a positive number",
     [](const Json& v, GenerateOptions& o) { return number<&GenerateOptions::repetition_penalty>(v, o) && o.repetition_penalty > 0; }},
    {"seed", "a non-negative integer",
     [](const Json& v, GenerateOptions& o) { return v.is_number_integer() && v.get<int64_t>() >= 0 && (o.seed = v.get<int64_t>(), true); }},
    {"num_beams", "a positive integer", at_least_one<&GenerateOptions::num_beams>},
    {"length_penalty", "a number", number<&GenerateOptions::length_penalty>},
    {"early_stopping", "true, false or \"never\"", early},
    {"eos_id", "an id, a list of ids, or -1 for none", ids},
    {"eos_token_id", "an id, a list of ids, or -1 for none", ids},
    {"decoder_start_token_id", "an id, or -1 for config.json's", one_id<&GenerateOptions::decoder_start>},
    {"forced_bos_token_id", "an id, or -1 for none", one_id<&GenerateOptions::forced_bos>},
    {"forced_eos_token_id", "an id, or -1 for none", one_id<&GenerateOptions::forced_eos>},
    {"bad_words_ids", "a list of lists of ids, none empty", words},
    {"no_repeat_ngram_size", "a non-negative integer (0: runs of ids may come again)", count<&GenerateOptions::no_repeat_ngram>},
    {"stop_strings", "a text or a list of texts, none empty", strings},
    {"use_cache", "true or false", [](const Json& v, GenerateOptions& o) { return v.is_boolean() && (o.use_cache = v.get<bool>(), true); }},
    {"do_sample", "true or false", [](const Json& v, GenerateOptions&) { return v.is_boolean(); }},
};

}  // namespace

int64_t GenerateOptions::most_new(int64_t prompt, int64_t max_positions) const {
    int64_t most = max_length ? std::max<int64_t>(max_length - prompt, 0) : max_new_tokens;
    if (max_positions) most = std::min(most, max_positions - prompt + 1);  // the last one is not fed back
    return most;
}

Result<GenerateOptions> generate_options(std::string_view text, const Json& defaults, int64_t vocabulary, std::string_view call) {
    std::vector<std::string_view> known;
    for (const Option& option : kOptions) known.push_back(option.name);
    DS_TRY(const Json given, options_of(text, call, known));
    GenerateOptions o;
    for (const Option& option : kOptions)
        if (const auto found = defaults.find(option.name); found != defaults.end() && !found->is_null())
            DS_REQUIRE(option.read(*found, o), "{}: the model's folder: {} must be {}, not {}", call, option.name, option.accepted,
                       found->dump());
    for (const auto& [key, value] : given.items()) {
        const Option& option =
            *std::find_if(std::begin(kOptions), std::end(kOptions), [&name = key](const Option& each) { return each.name == name; });
        DS_REQUIRE(option.read(value, o), "{}: {} must be {}, not {}", call, key, option.accepted, value.dump());
    }
    if (given.contains("do_sample")) {
        if (!given["do_sample"].get<bool>()) o.temperature = 0;
        else if (o.temperature == 0) o.temperature = given.contains("temperature") ? o.temperature : 1;
        DS_REQUIRE(!given["do_sample"].get<bool>() || o.temperature > 0, "{}: do_sample true needs a temperature above 0", call);
    }
    if (given.contains("max_new_tokens")) o.max_length = 0;
    for (const int32_t id : o.eos)
        DS_REQUIRE(id < vocabulary || !(given.contains("eos_id") || given.contains("eos_token_id")),
                   "{}: eos_id {} is outside the vocabulary 0..{}", call, id, vocabulary - 1);
    const auto inside = [&](int32_t id) { return id < vocabulary; };
    for (const auto& [name, id] : {std::pair{"decoder_start_token_id", o.decoder_start},
                                   {"forced_bos_token_id", o.forced_bos},
                                   {"forced_eos_token_id", o.forced_eos}})
        DS_REQUIRE(!id || inside(*id), "{}: {} {} is outside the vocabulary 0..{}", call, name, *id, vocabulary - 1);
    std::erase_if(o.bad_words, [&](const auto& word) {
        return word.size() == 1 && std::count(o.eos.begin(), o.eos.end(), word[0]);
    });  // as transformers: an end is none
    for (const auto& word : o.bad_words)
        for (const int32_t id : word)
            DS_REQUIRE(inside(id), "{}: bad_words_ids: {} is outside the vocabulary 0..{}", call, id, vocabulary - 1);
    DS_REQUIRE(o.num_beams == 1 || !o.samples(), "{}: num_beams {} searches, temperature {} samples; one of them must be 1 or 0", call,
               o.num_beams, o.temperature);
    return o;
}

}  // namespace ds
