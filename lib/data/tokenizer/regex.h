// Search patterns of tokenizer files: a literal string, or a regular expression in Oniguruma's dialect run by PCRE2.
//
// A pattern from a file is not trusted: its size, the depth of its nesting, its steps and its memory are bounded, so that a
// hostile one ends in an error that names it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "data/tokenizer/pieces.h"

namespace ds::tokenizer {

// Hand-written scanners: the end of the match that begins at `at`. Null where the expression is not one of theirs.
using Scanner = size_t (*)(std::string_view text, size_t at);
Scanner known_scanner(std::string_view expression);

class Pattern {
public:
    static Result<Pattern> literal(std::string text);
    static Result<Pattern> regex(std::string_view expression, std::string_view place);
    // {"String": "..."} or {"Regex": "..."}
    static Result<Pattern> from_json(const Json& json, std::string_view place);

    // Appends hits and the gaps between them; together they cover the text.
    Status find(std::string_view text, std::vector<Match>& matches) const;

private:
    struct Compiled;
    Status find_regex(std::string_view text, std::vector<Match>& matches) const;
    std::string text_;
    std::shared_ptr<const Compiled> code_;
    Scanner scanner_ = nullptr;  // a hand-written twin of a well-known expression
};

// Rewrites Oniguruma's (Ruby) syntax as PCRE2's where the two differ: \w \s \h \b, \uXXXX, {n,m}+.
Result<std::string> to_pcre2(std::string_view expression, std::string_view place);

}  // namespace ds::tokenizer
