// Templates in the Jinja language (jinja.palletsprojects.com, version 3), as chat templates of Hugging Face folders are written, with the
// settings transformers renders them with: trim_blocks, lstrip_blocks, loop controls, an immutable sandbox, and its {% generation %} block.
//
// Bounded and safe: a template comes from a file that somebody else wrote. It sees the variables it is given and nothing else, changes
// nothing, and ends: steps, nesting, and the bytes it makes are limited. Tuples are lists here, also where they are printed. What is not
// built (import, include, extends, filters of HTML) is an error that names it when the template is parsed.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace ds {

namespace jinja {
struct Block;
}

struct Rendered {
    std::string text;
    std::vector<std::pair<size_t, size_t>> generated;  // bytes [begin, end) that {% generation %} blocks made
};

class JinjaTemplate {
public:
    // place: named at the beginning of every error, as "tokenizer_config.json: chat_template".
    static Result<JinjaTemplate> parse(std::string_view text, std::string_view place);
    // variables: an object, whose members the template sees by name. What raise_exception says is DS_E_INVALID_ARGUMENT.
    Result<Rendered> render(const OrderedJson& variables) const;

private:
    std::shared_ptr<const jinja::Block> body_;
    std::string place_;
};

}  // namespace ds
