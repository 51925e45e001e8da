#include "data/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstring>

namespace ds::tokenizer {
namespace {

constexpr size_t kMaxExpression = 64 * 1024;
// Steps of one match: harmless expressions step back over a long run once, hostile ones many times.
constexpr size_t kMaxSteps = 1'000'000, kMaxStepsPerByte = 16;
constexpr uint32_t kMaxHeapKib = 64 * 1024;
constexpr uint32_t kMaxNesting = 100;
constexpr size_t kJitStack = 512 * 1024;

std::string pcre2_message(int code) {
    PCRE2_UCHAR text[256];
    return pcre2_get_error_message(code, text, sizeof text) < 0 ? fmt::format("error {}", code) : reinterpret_cast<const char*>(text);
}

struct MatchDataFree {
    void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
struct MatchContextFree {
    void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
};
struct JitStackFree {
    void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};
struct CompileContextFree {
    void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
};

void add_gap(std::vector<Match>& matches, size_t begin, size_t end) {
    if (begin < end) matches.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end), false});
}

// Calls search(from, &begin, &end) -> found, and skips an empty match right behind the last one, as Oniguruma's iterator does.
template <class Search>
Status iterate(std::string_view text, std::vector<Match>& matches, Search&& search) {
    size_t from = 0, previous = 0;
    bool any = false;
    while (from <= text.size()) {
        size_t begin = 0, end = 0;
        DS_TRY(const bool found, search(from, begin, end));
        if (!found) break;
        if (begin == end && any && previous == end) {
            from += from < text.size() ? static_cast<size_t>(utf8_bytes(text[from])) : 1;
            continue;
        }
        add_gap(matches, previous, begin);
        matches.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end), true});
        from = previous = end;
        any = true;
    }
    add_gap(matches, previous, text.size());
    return ok();
}

}  // namespace

struct Pattern::Compiled {
    pcre2_code* code = nullptr;
    bool jit = false;
    std::string expression;
    Compiled() = default;
    Compiled(const Compiled&) = delete;
    Compiled& operator=(const Compiled&) = delete;
    ~Compiled() { pcre2_code_free(code); }
};

Result<Pattern> Pattern::literal(std::string text) {
    Pattern pattern;
    pattern.text_ = std::move(text);
    return pattern;
}

Result<Pattern> Pattern::regex(std::string_view expression, std::string_view place) {
    if (expression.size() > kMaxExpression)
        return fail(Code::E_CORRUPT, "{}: a regular expression of {} bytes; at most {} are accepted", place, expression.size(),
                    kMaxExpression);
    Pattern pattern;
    pattern.scanner_ = known_scanner(expression);
    if (pattern.scanner_) return pattern;
    DS_TRY(const std::string translated, to_pcre2(expression, place));
    auto code = std::make_shared<Compiled>();
    code->expression = expression;
    std::unique_ptr<pcre2_compile_context, CompileContextFree> context(pcre2_compile_context_create(nullptr));
    pcre2_set_parens_nest_limit(context.get(), kMaxNesting);
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    int error = 0;
    size_t where = 0;
    // Ruby's ^ and $ match at every line.
    const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_UTF_CHECK;
    code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), options, &error, &where, context.get());
    if (!code->code) {
        return fail(Code::E_CORRUPT, "{}: regular expression \"{}\": {} (at {} of \"{}\")", place, expression.substr(0, 200),
                    pcre2_message(error), where, translated.substr(0, 200));
    }
    code->jit = pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE) == 0;
    pattern.code_ = std::move(code);
    return pattern;
}

Result<Pattern> Pattern::from_json(const Json& json, std::string_view place) {
    if (json.is_object() && json.size() == 1 && json.begin()->is_string()) {
        if (json.begin().key() == "String") return literal(json.begin()->get<std::string>());
        if (json.begin().key() == "Regex") return regex(json.begin()->get_ref<const std::string&>(), place);
    }
    if (json.is_string()) return literal(json.get<std::string>());
    return fail(Code::E_CORRUPT, "{}: must be {{\"String\": text}} or {{\"Regex\": expression}}", place);
}

Status Pattern::find(std::string_view text, std::vector<Match>& matches) const {
    if (text.empty()) return ok();
    if (scanner_) {  // these expressions match everywhere, so there are no gaps
        for (size_t at = 0; at < text.size();) {
            const size_t end = scanner_(text, at);
            matches.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(end), true});
            at = end;
        }
        return ok();
    }
    if (code_) return find_regex(text, matches);
    return iterate(text, matches, [&](size_t from, size_t& begin, size_t& end) -> Result<bool> {
        begin = text.find(text_, from);
        end = begin + text_.size();
        return begin != text.npos;
    });
}

Status Pattern::find_regex(std::string_view text, std::vector<Match>& matches) const {
    const std::unique_ptr<pcre2_match_data, MatchDataFree> data(pcre2_match_data_create(1, nullptr));
    const std::unique_ptr<pcre2_match_context, MatchContextFree> context(pcre2_match_context_create(nullptr));
    if (!data || !context) return fail(Code::E_OUT_OF_MEMORY, "regular expression: no memory to match");
    const auto steps = static_cast<uint32_t>(std::min<size_t>(kMaxSteps + kMaxStepsPerByte * text.size(), UINT32_MAX));
    pcre2_set_match_limit(context.get(), steps);
    pcre2_set_depth_limit(context.get(), steps);
    pcre2_set_heap_limit(context.get(), kMaxHeapKib);
    std::unique_ptr<pcre2_jit_stack, JitStackFree> stack;
    return iterate(text, matches, [&](size_t from, size_t& begin, size_t& end) -> Result<bool> {
        const auto match = [&](uint32_t options) {
            return pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from, options, data.get(),
                               context.get());
        };
        int rc = match(PCRE2_NO_UTF_CHECK);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !stack) {
            stack.reset(pcre2_jit_stack_create(32 * 1024, kJitStack, nullptr));
            pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
            rc = match(PCRE2_NO_UTF_CHECK);
        }
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT) rc = match(PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT);
        if (rc == PCRE2_ERROR_NOMATCH) return false;
        if (rc < 0) {
            return fail(Code::E_CORRUPT, "tokenizer: regular expression \"{}\" gives up on a text of {} bytes at byte {}: {}",
                        std::string_view(code_->expression).substr(0, 200), text.size(), from, pcre2_message(rc));
        }
        const size_t* range = pcre2_get_ovector_pointer(data.get());
        begin = range[0];
        end = range[1];
        // \K may put the beginning behind the end or before the place of search.
        if (end < begin || begin < from)
            return fail(Code::E_CORRUPT, "tokenizer: regular expression \"{}\" matches backwards", code_->expression.substr(0, 200));
        return true;
    });
}

}  // namespace ds::tokenizer
