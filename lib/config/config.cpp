#include "config/config.h"

#include <cstdlib>

#include "base/file.h"
#include "config/keys.h"
#include "config/stages.h"

namespace ds {
namespace {

constexpr size_t kLargestFile = size_t{16} << 20;

// The text from its first byte that is neither blank nor in a comment.
std::string_view skip_blanks(std::string_view text) {
    if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
    while (true) {
        text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
        const char* end = text.starts_with("//") ? "\n" : text.starts_with("/*") ? "*/" : nullptr;
        if (!end) return text;
        const size_t at = text.find(end, 2);
        text.remove_prefix(at == text.npos ? text.size() : at + std::string_view(end).size());
    }
}

bool is_inline(std::string_view text) { return skip_blanks(text).starts_with('{'); }

Result<Config> configure(Json given, const Launched& launched) {
    WrittenAs names;
    DS_CHECK(respell(given, names));
    const auto strict = given.find("strict");
    Config config;
    DS_CHECK(check_keys(given, names, strict == given.end() || *strict != false, config.warnings));
    config.given = std::move(given);
    config.launched = launched;
    DS_CHECK(fill(config));
    DS_CHECK(check_combinations(config, names));
    DS_CHECK(check_support(config, names, config.notes));
    return config;
}

// Reading of a text: what is wrong with it is wrong with the configuration.
Result<Config> configure_text(std::string_view text, const std::string& place, const Launched& launched) {
    auto given = parse_json(text, place);
    if (!given.ok()) return Status(Code::E_CONFIG, given.status().message());
    if (!given->is_object()) return fail(Code::E_CONFIG, "{}: must be an object, is {}", place, short_dump(*given));
    return configure(std::move(given).value(), launched);
}

std::string canonical(std::string key) {
    for (const Spelling& spelling : config_spellings()) {
        const std::string older = spelling.older;
        if (key == older || key.starts_with(older + ".")) return spelling.path + key.substr(older.size());
    }
    return key;
}

// The row of a key, or of the map that it lies in: "optimizer.params.lr" belongs to optimizer.params.
const Key* row_of(std::string_view path) {
    if (const Key* key = find_key(path)) return key;
    for (size_t dot = path.rfind('.'); dot != path.npos && dot > 0; dot = path.rfind('.', dot - 1))
        if (const Key* key = find_key(path.substr(0, dot))) return key->type == KeyType::Map || key->type == KeyType::Any ? key : nullptr;
    return nullptr;
}

Status unknown(std::string_view key) {
    return fail(Code::E_CONFIG, "config: {}: unknown key; did you mean {}?", key, nearest_path(std::string(key)));
}

}  // namespace

Result<Config> parse_config(std::string_view text_or_path, const Launched& launched) {
    if (is_inline(text_or_path)) return configure_text(text_or_path, "config", launched);
    if (skip_blanks(text_or_path).empty())
        return fail(Code::E_CONFIG, "config: empty; must be JSON text that begins with {{, or the path of a JSON file");
    if (text_or_path.find_first_of(std::string_view("\0\n{", 3)) != text_or_path.npos || text_or_path.size() > 4096)
        return fail(
            Code::E_CONFIG,
            "config: neither JSON text, whose first character after blanks and comments is {{, nor the path of a file; it begins with {}",
            short_dump(Json(std::string(text_or_path.substr(0, 40)))));
    auto text = read_file(std::string(text_or_path), kLargestFile);
    if (!text.ok()) return std::move(text).status().within("config");
    return configure_text(*text, std::string(text_or_path), launched);
}

Result<Config> config_from_environment(const Launched& launched) {
    for (const char* name : {"DSRT_CONFIG", "DEEPSPEED_CONFIG"}) {
        const char* value = std::getenv(name);
        if (!value || !*value) continue;
        auto config = parse_config(value, launched);
        if (!config.ok()) return std::move(config).status().within(name);
        return config;
    }
    return fail(Code::E_CONFIG, "config: NULL, and neither DSRT_CONFIG nor DEEPSPEED_CONFIG holds one");
}

std::string describe_config() {
    OrderedJson keys = OrderedJson::object();
    for (const Key& key : config_keys())
        keys[key.path] = {{"type", type_name(key.type)},
                          {"default", key.default_value()},
                          {"accepted", accepted_values(key)},
                          {"status", key.support->name},
                          {"meaning", key.meaning}};
    for (const Spelling& spelling : config_spellings()) {
        const Key* key = find_key(spelling.path);
        OrderedJson row = keys[key ? spelling.path : "logger"];
        row["meaning"] = fmt::format("older spelling of {}", spelling.path);
        row["spelling_of"] = spelling.path;
        keys[spelling.older] = std::move(row);
    }
    return keys.dump(1);
}

Result<Json> get(const Config& config, std::string_view key) {
    const std::string path = canonical(std::string(key));
    if (const Json* value = at_path(config.effective, path)) return *value;
    const Key* row = row_of(path);
    if (!row) return unknown(key);
    if (row->path == path) return Json();  // a key of a section that is off
    return fail(Code::E_NOT_FOUND, "config: {}: not given", key);
}

Status set(Config& config, std::string_view key, const Json& value) {
    const std::string path = canonical(std::string(key));
    const Key* row = row_of(path);
    if (!row) return unknown(key);
    if (row->support->kind != KeySupport::runtime) {
        std::string others;
        for (const Key& other : config_keys())
            if (other.support->kind == KeySupport::runtime) others += (others.empty() ? "" : ", ") + std::string(other.path);
        return fail(Code::E_UNSUPPORTED, "config: {}: can't change at run time; what can: {}", key, others);
    }
    if (path == "optimizer.params.lr" && (!value.is_number() || !(value.get<double>() >= 0)))
        return fail(Code::E_CONFIG, "config: {}: must be a number of at least 0, is {}", key, short_dump(value));
    if (path.starts_with("optimizer.") && config.optimizer.type.empty())
        return fail(Code::E_CONFIG, "config: {}: the configuration names no optimizer", key);
    Json given = config.given;
    set_path(given, path, value);
    DS_TRY(config, configure(std::move(given), Launched(config.launched)));
    return ok();
}

}  // namespace ds
