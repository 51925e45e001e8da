#include "base/json.h"

#include <set>
#include <vector>

namespace ds {
namespace {

constexpr int kMaxDepth = 64;

// Watches the events of a parse, which the built-in tree builder takes silently: depth and duplicate keys.
template <class J>
struct Watch {
    using Event = typename J::parse_event_t;
    std::vector<std::set<std::string>> keys;
    std::string fault;
    bool operator()(int depth, Event event, J& parsed) {
        if (!fault.empty()) return false;
        switch (event) {
        case Event::object_start: keys.emplace_back(); [[fallthrough]];
        case Event::array_start:
            if (depth >= kMaxDepth) fault = fmt::format("nested deeper than {} levels", kMaxDepth);
            break;
        case Event::object_end: keys.pop_back(); break;
        case Event::key:
            if (!keys.back().insert(parsed.template get<std::string>()).second)
                fault = fmt::format("key \"{}\" appears twice in one object", parsed.template get<std::string>());
            break;
        default: break;
        }
        return true;
    }
};

bool too_deep(std::string_view text) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') ++i;
            else if (c == '"') in_string = false;
        } else if (c == '"') in_string = true;
        else if (c == '{' || c == '[') {
            if (++depth > kMaxDepth) return true;
        } else if (c == '}' || c == ']') --depth;
    }
    return false;
}

}  // namespace

template <class J>
Result<J> parse_json(std::string_view text, std::string_view place) {
    if (too_deep(text)) return fail(Code::E_CORRUPT, "{}: nested deeper than {} levels", place, kMaxDepth);
    Watch<J> watch;
    try {
        J parsed = J::parse(text, std::ref(watch), true, true);
        if (!watch.fault.empty()) return fail(Code::E_CORRUPT, "{}: {}", place, watch.fault);
        return parsed;
    } catch (const typename J::exception& error) {
        std::string_view what = error.what();
        if (const size_t end = what.find("] "); end != what.npos) what.remove_prefix(end + 2);
        return fail(Code::E_CORRUPT, "{}: {}", place, what);
    }
}

template Result<Json> parse_json(std::string_view text, std::string_view place);
template Result<OrderedJson> parse_json(std::string_view text, std::string_view place);

}  // namespace ds
