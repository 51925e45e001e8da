// A parsed template.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/jinja/value.h"

namespace ds::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;
struct Argument {
    std::string name;
    ExprPtr value;
};  // name "": by position

struct Expr {
    enum class Kind {
        literal,
        name,
        list,
        dict,    // dict: keys and values in turn
        member,  // operand.text
        index,   // operand[second]
        slice,   // operand[second:third:fourth], each may be null
        call,    // operand(arguments)
        filter,
        test,  // operand | text(arguments), operand is text(arguments); negated: is not
        negative,
        positive,
        not_,
        binary,  // operand text second
        both,
        either,       // and, or
        compare,      // operand, then for each of `operators` an operand in `more`
        conditional,  // operand if second else third
    };
    Kind kind;
    int line = 0;
    Value literal;
    std::string text;
    bool negated = false;
    ExprPtr operand, second, third, fourth;
    std::vector<std::string> operators;
    std::vector<ExprPtr> more;  // elements of lists and dicts, operands of comparisons
    std::vector<Argument> arguments;
};

struct Statement;
struct Block {
    std::vector<Statement> statements;
};

struct Macro {
    std::string name;
    std::vector<std::pair<std::string, ExprPtr>> parameters;  // with the default, or null
    Block body;
};

struct Statement {
    enum class Kind { text, output, if_, for_, set, set_block, macro, generation, break_, continue_ };
    Kind kind;
    int line = 0;
    std::string text;
    std::vector<std::string> targets;              // for, set: names; ns.member as it stands
    ExprPtr value, condition;                      // output, set; for: over value, if condition
    std::vector<std::pair<ExprPtr, Block>> cases;  // if: conditions, the last may be null
    Block body, otherwise;
    std::shared_ptr<const Macro> macro;
};

// The most expressions and blocks inside one another, and operators in one tag, which bound the stack of parsing and rendering.
inline constexpr int kMaxNesting = 100, kMaxLinks = 500;

Result<Block> parse_template(std::string_view text);  // errors begin with the line

}  // namespace ds::jinja
