#include "base/name_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace ds {
namespace {

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

Result<NamePattern> NamePattern::make(std::string_view expression, unsigned options) {
    int error = 0;
    PCRE2_SIZE where = 0;
    const uint32_t flags = PCRE2_UTF | (options & any_case ? PCRE2_CASELESS : 0) | (options & from_start ? PCRE2_ANCHORED : 0);
    pcre2_code* code = pcre2_compile(units(expression), expression.size(), flags, &error, &where, nullptr);
    if (!code) {
        PCRE2_UCHAR words[256] = {};
        pcre2_get_error_message(error, words, sizeof words);
        return fail(Code::E_INVALID_ARGUMENT, "{} is no regular expression: {} at {}", expression, reinterpret_cast<const char*>(words),
                    where);
    }
    NamePattern pattern;
    pattern.code_ = {code, [](const pcre2_code* p) { pcre2_code_free(const_cast<pcre2_code*>(p)); }};
    return pattern;
}

bool NamePattern::found_in(std::string_view name) const {
    const auto* code = static_cast<const pcre2_code*>(code_.get());
    const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(pcre2_match_data_create_from_pattern(code, nullptr),
                                                                              pcre2_match_data_free);
    return data && pcre2_match(code, units(name), name.size(), 0, 0, data.get(), nullptr) >= 0;
}

}  // namespace ds
