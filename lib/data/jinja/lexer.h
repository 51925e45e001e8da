// A template cut into text, and the tokens of its {{ }} and {% %}.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace ds::jinja {

struct Token {
    enum class Kind { text, output_begin, output_end, block_begin, block_end, name, string, integer, number, sign, end };
    Kind kind;
    std::string text;  // of strings: unescaped
    int line;
};

Result<std::vector<Token>> lex(std::string_view text);

}  // namespace ds::jinja
