// Every key is known, of its type and in its range.
#include <set>

#include "config/keys.h"
#include "config/stages.h"

namespace ds {
namespace {

class Checker {
public:
    Checker(const WrittenAs& names, bool strict, std::vector<std::string>& warnings) : names_(names), strict_(strict), warnings_(warnings) {
        for (const Key& key : config_keys())
            if (const std::string_view path = key.path; path.find("[]") != path.npos)
                lists_.insert(std::string(path.substr(0, path.find("[]"))));
    }

    // table: the path in keys.def ("param_groups[]."), shown: the user's ("param_groups[1]."), both with their last dot.
    Status object(Json& given, const std::string& table, const std::string& shown, bool strict_section) {
        std::vector<std::string> absent;
        for (auto& item : given.items()) {
            const std::string path = table + item.key(), place = table == shown ? written(names_, path) : shown + item.key();
            const Key* key = find_key(path);
            Json& value = item.value();
            if (!key && !is_comment(item.key())) DS_CHECK(unknown(path, place));
            if (!key ||
                (strict_section && value == "auto" && key->type != KeyType::IntOrAuto && key->type != KeyType::Any && !takes_auto(*key)) ||
                (key->is_section() && value.is_null()))
                absent.push_back(item.key());
            else DS_CHECK(one(*key, value, place, strict_section));
        }
        for (const std::string& key : absent) given.erase(key);
        return ok();
    }

private:
    // What people write into JSON, which has no comments.
    static bool is_comment(std::string_view key) { return key.starts_with("//") || key.starts_with("_comment"); }

    static bool takes_auto(const Key& key) { return key.rule->choices && std::string_view(key.rule->choices).starts_with("auto"); }

    Status one(const Key& key, Json& value, const std::string& place, bool strict_section) {
        DS_CHECK(check_value(key, place, strict_section, value));
        if (key.is_section()) return object(value, std::string(key.path) + ".", place + ".", is_strict_section(key));
        if (lists_.count(key.path) == 0) return ok();
        for (size_t i = 0; i < value.size(); ++i) {
            const std::string element = fmt::format("{}[{}]", place, i);
            if (!value[i].is_object()) return fail(Code::E_CONFIG, "config: {}: must be an object, is {}", element, short_dump(value[i]));
            DS_CHECK(object(value[i], std::string(key.path) + "[].", element + ".", false));
        }
        return ok();
    }

    Status unknown(const std::string& path, const std::string& place) {
        std::string nearest = nearest_path(path);
        // Inside a list the hint keeps the element's number.
        const size_t in_list = nearest.find("[]"), number = place.find('['), end = place.find(']');
        if (in_list != nearest.npos && number != place.npos && end != place.npos && place.substr(0, number) == nearest.substr(0, in_list))
            nearest.replace(in_list, 2, place.substr(number, end - number + 1));
        std::string message = fmt::format("config: {}: unknown key; did you mean {}?", place, nearest);
        if (strict_) return Status(Code::E_CONFIG, std::move(message));
        warnings_.push_back(std::move(message));
        return ok();
    }

    const WrittenAs& names_;
    bool strict_;
    std::vector<std::string>& warnings_;
    std::set<std::string> lists_;  // keys whose elements keys.def describes
};

// Files of Hugging Face's Trainer have "auto" in several places: all of them at once, so that one look at the file is enough.
Status check_autos(const Json& given, const WrittenAs& names) {
    Status first = ok();
    std::string others;
    for (const auto& item : given.items()) {
        const Key* key = item.value() == "auto" ? find_key(item.key()) : nullptr;
        if (!key) continue;
        const std::string place = written(names, item.key());
        Json value = item.value();
        Status status = check_value(*key, place, false, value);
        if (status.ok()) continue;
        if (first.ok()) first = std::move(status);
        else others += (others.empty() ? "; so are " : ", ") + place;
    }
    return others.empty() ? first : Status(first.code(), first.message() + others);
}

}  // namespace

Status check_keys(Json& given, const WrittenAs& names, bool strict, std::vector<std::string>& warnings) {
    DS_CHECK(check_autos(given, names));
    return Checker(names, strict, warnings).object(given, "", "", false);
}

}  // namespace ds
