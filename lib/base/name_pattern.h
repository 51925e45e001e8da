// Regular expressions over names of modules, parameters and ops, run by PCRE2, whose steps are bounded: expressions come from configs and
// models' folders.
#pragma once

#include <memory>
#include <string_view>

#include "base/status.h"

namespace ds {

class NamePattern {
public:
    enum Options : unsigned { as_written = 0, any_case = 1, from_start = 2 };

    // E_INVALID_ARGUMENT says what is wrong with the expression, in PCRE2's words.
    static Result<NamePattern> make(std::string_view expression, unsigned options = as_written);
    bool found_in(std::string_view name) const;

private:
    std::shared_ptr<const void> code_;
};

}  // namespace ds
