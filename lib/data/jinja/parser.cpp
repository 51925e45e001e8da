// Recursive descent over the tokens, in the order of binding of Jinja's own parser.
#include <algorithm>
#include <charconv>

#include "data/jinja/ast.h"
#include "data/jinja/builtins.h"
#include "data/jinja/lexer.h"

namespace ds::jinja {
namespace {

using Kind = Expr::Kind;

// The first failure sticks; everything after it is parsed as the end of the template.
class Parser {
public:
    explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

    Result<Block> run() {
        Block block = block_until({});
        DS_CHECK(status_);
        return block;
    }

private:
    struct Deeper {
        explicit Deeper(Parser& p) : parser(p) {
            if (++p.depth_ > kMaxNesting) p.wrong(fmt::format("nested deeper than {}", kMaxNesting));
        }
        ~Deeper() { --parser.depth_; }
        Parser& parser;
    };

    const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
    Token take() {
        const Token t = peek();
        if (at_ + 1 < tokens_.size()) ++at_;
        return t;
    }
    bool sign(std::string_view text) const { return peek().kind == Token::Kind::sign && peek().text == text; }
    bool word(std::string_view text) const { return peek().kind == Token::Kind::name && peek().text == text; }
    bool take_sign(std::string_view text) { return sign(text) && (take(), true); }
    bool take_word(std::string_view text) { return word(text) && (take(), true); }
    void wrong(std::string_view what) {
        if (status_.ok()) status_ = fail(Code::E_CORRUPT, "line {}: {}", peek().line, what);
        at_ = tokens_.size() - 1;
    }
    static std::string shown(const Token& t) {
        switch (t.kind) {
        case Token::Kind::end: return "the end of the template";
        case Token::Kind::output_end: return "}}";
        case Token::Kind::block_end: return "%}";
        case Token::Kind::text: return "text";
        default: return "'" + t.text + "'";
        }
    }
    void expect_sign(std::string_view text) {
        if (!take_sign(text)) wrong(fmt::format("expected '{}', found {}", text, shown(peek())));
    }
    void expect(Token::Kind kind, std::string_view text) {
        if (peek().kind != kind) return wrong(fmt::format("expected {}, found {}", text, shown(peek())));
        take();
    }
    std::string name() {
        if (peek().kind != Token::Kind::name) {
            wrong(fmt::format("expected a name, found {}", shown(peek())));
            return "";
        }
        return take().text;
    }
    // One more operator, member, filter or named argument in this tag: they lie inside one another in the tree.
    void link() {
        if (++links_ > kMaxLinks) wrong(fmt::format("more than {} operators, members, filters and named arguments in one tag", kMaxLinks));
    }
    ExprPtr make(Kind kind) {
        auto e = std::make_unique<Expr>();
        e->kind = kind;
        e->line = peek().line;
        return e;
    }
    ExprPtr binary(Kind kind, std::string text, ExprPtr a, ExprPtr b) {
        ExprPtr e = make(kind);
        e->text = std::move(text);
        e->operand = std::move(a);
        e->second = std::move(b);
        return e;
    }

    // Statements up to one of these words, which is left to the caller.
    Block block_until(const std::vector<std::string_view>& ends) {
        const Deeper deeper(*this);
        Block block;
        for (;;) {
            const Token t = peek();
            links_ = 0;
            if (t.kind == Token::Kind::end) {
                if (!ends.empty() && status_.ok()) wrong(fmt::format("the template ends where {{% {} %}} was expected", ends.back()));
                return block;
            }
            if (t.kind == Token::Kind::text) {
                block.statements.push_back({.kind = Statement::Kind::text, .line = t.line, .text = take().text});
            } else if (t.kind == Token::Kind::output_begin) {
                take();
                Statement s{.kind = Statement::Kind::output, .line = t.line};
                s.value = tuple();
                expect(Token::Kind::output_end, "}}");
                block.statements.push_back(std::move(s));
            } else {
                take();
                if (peek().kind == Token::Kind::name && std::find(ends.begin(), ends.end(), peek().text) != ends.end()) return block;
                if (peek().kind != Token::Kind::name) wrong(fmt::format("expected a statement, found {}", shown(peek())));
                statement(block);
            }
        }
    }
    void end_tag() { expect(Token::Kind::block_end, "%}"); }
    Block body(std::string_view end) {
        end_tag();
        Block b = block_until({end});
        take();
        end_tag();
        return b;
    }

    void statement(Block& block) {
        Statement s{.kind = Statement::Kind::text, .line = peek().line};
        const std::string what = name();
        if (what == "if") if_statement(s);
        else if (what == "for") for_statement(s);
        else if (what == "set") set_statement(s);
        else if (what == "macro") macro_statement(s);
        else if (what == "generation") s.kind = Statement::Kind::generation, s.body = body("endgeneration");
        else if (what == "break" || what == "continue") {
            if (loops_ == 0) wrong(fmt::format("{{% {} %}} stands outside of a loop", what));
            s.kind = what == "break" ? Statement::Kind::break_ : Statement::Kind::continue_;
            end_tag();
        } else
            return wrong(fmt::format("{{% {} %}} is not built; there are if, for, set, macro, generation, break, continue and raw", what));
        block.statements.push_back(std::move(s));
    }

    void if_statement(Statement& s) {
        s.kind = Statement::Kind::if_;
        for (bool more = true; more;) {
            ExprPtr condition = expression();
            end_tag();
            Block b = block_until({"elif", "else", "endif"});
            s.cases.emplace_back(std::move(condition), std::move(b));
            more = take_word("elif") && status_.ok();
        }
        if (take_word("else")) {
            end_tag();
            s.cases.emplace_back(nullptr, block_until({"endif"}));
        }
        take_word("endif");
        end_tag();
    }

    void for_statement(Statement& s) {
        s.kind = Statement::Kind::for_;
        do s.targets.push_back(name());
        while (take_sign(","));
        if (!take_word("in")) wrong(fmt::format("expected 'in', found {}", shown(peek())));
        s.value = tuple(false);
        if (take_word("if")) s.condition = expression();
        if (word("recursive")) wrong("recursive loops are not built");
        end_tag();
        ++loops_;
        s.body = block_until({"else", "endfor"});
        --loops_;
        if (take_word("else")) {
            end_tag();
            s.otherwise = block_until({"endfor"});
        }
        take_word("endfor");
        end_tag();
    }

    void set_statement(Statement& s) {
        do {
            std::string target = name();
            if (take_sign(".")) target += "." + name();
            s.targets.push_back(std::move(target));
        } while (take_sign(","));
        if (take_sign("=")) {
            s.kind = Statement::Kind::set;
            s.value = tuple();
            return end_tag();
        }
        s.kind = Statement::Kind::set_block;
        if (s.targets.size() != 1) wrong("a block can be set to one name only");
        s.body = body("endset");
    }

    void macro_statement(Statement& s) {
        s.kind = Statement::Kind::macro;
        auto macro = std::make_shared<Macro>();
        macro->name = name();
        expect_sign("(");
        while (!sign(")") && status_.ok()) {
            std::string parameter = name();
            ExprPtr otherwise = take_sign("=") ? expression() : nullptr;
            macro->parameters.emplace_back(std::move(parameter), std::move(otherwise));
            if (!take_sign(",")) break;
        }
        expect_sign(")");
        const int loops = std::exchange(loops_, 0);
        macro->body = body("endmacro");
        loops_ = loops;
        s.macro = std::move(macro);
    }

    // a, b, c without brackets is a list.
    ExprPtr tuple(bool conditional = true) {
        ExprPtr first = conditional ? expression() : either();
        if (!sign(",")) return first;
        ExprPtr list = make(Kind::list);
        list->more.push_back(std::move(first));
        while (take_sign(",")) {
            if (peek().kind == Token::Kind::block_end || peek().kind == Token::Kind::output_end) break;
            list->more.push_back(conditional ? expression() : either());
        }
        return list;
    }

    ExprPtr expression() {
        const Deeper deeper(*this);
        ExprPtr value = either();
        for (; take_word("if"); link()) {
            ExprPtr e = make(Kind::conditional);
            e->operand = std::move(value);
            e->second = either();
            if (take_word("else")) e->third = expression();
            value = std::move(e);
        }
        return value;
    }
    using Part = ExprPtr (Parser::*)();
    // Parts between operators that bind to the left.
    ExprPtr chain(Kind kind, std::initializer_list<std::string_view> operators, Part part) {
        ExprPtr a = (this->*part)();
        while (std::any_of(operators.begin(), operators.end(), [&](std::string_view o) { return sign(o) || word(o); })) {
            link();
            std::string op = take().text;
            a = binary(kind, std::move(op), std::move(a), (this->*part)());
        }
        return a;
    }
    ExprPtr either() { return chain(Kind::either, {"or"}, &Parser::both); }
    ExprPtr both() { return chain(Kind::both, {"and"}, &Parser::negation); }
    ExprPtr negation() {
        const Deeper deeper(*this);
        if (!word("not")) return comparison();
        ExprPtr e = make(Kind::not_);
        take();
        e->operand = negation();
        return e;
    }
    ExprPtr comparison() {
        ExprPtr a = sum();
        ExprPtr chain;
        for (;;) {
            std::string op;
            for (const std::string_view known : {"==", "!=", "<=", ">=", "<", ">"})
                if (sign(known)) op = take().text;
            if (op.empty() && word("in")) op = take().text;
            if (op.empty() && word("not") && peek(1).kind == Token::Kind::name && peek(1).text == "in") take(), take(), op = "not in";
            if (op.empty()) return chain ? std::move(chain) : std::move(a);
            if (!chain) {
                chain = make(Kind::compare);
                chain->operand = std::move(a);
            }
            chain->operators.push_back(op);
            chain->more.push_back(sum());
        }
    }
    ExprPtr sum() { return chain(Kind::binary, {"+", "-"}, &Parser::concatenation); }
    ExprPtr concatenation() { return chain(Kind::binary, {"~"}, &Parser::product); }
    ExprPtr product() { return chain(Kind::binary, {"*", "/", "//", "%"}, &Parser::power); }
    ExprPtr power() { return chain(Kind::binary, {"**"}, &Parser::filtered); }
    ExprPtr filtered() { return unary(true); }
    ExprPtr unary(bool with_filters) {
        const Deeper deeper(*this);
        ExprPtr e;
        if (sign("-") || sign("+")) {
            e = make(sign("-") ? Kind::negative : Kind::positive);
            take();
            e->operand = unary(false);
        } else e = primary();
        e = postfix(std::move(e));
        return with_filters ? filters(std::move(e)) : std::move(e);
    }

    ExprPtr primary() {
        const Token t = peek();
        ExprPtr e = make(Kind::literal);
        if (t.kind == Token::Kind::string) {
            std::string text;  // neighbouring strings are one
            while (peek().kind == Token::Kind::string) text += take().text;
            e->literal = std::move(text);
        } else if (t.kind == Token::Kind::integer) e->literal = static_cast<int64_t>(std::stoll(take().text));
        else if (t.kind == Token::Kind::number) {
            double value = 0;
            std::from_chars(t.text.data(), t.text.data() + t.text.size(), value);
            e->literal = value;
            take();
        } else if (t.kind == Token::Kind::name) name_or_constant(*e);
        else if (take_sign("(")) {
            if (take_sign(")")) e->literal = List{};
            else {
                e = tuple();
                if (sign(",")) wrong("unexpected ','");
                expect_sign(")");
            }
        } else if (take_sign("[")) {
            e->kind = Kind::list;
            while (!sign("]") && status_.ok()) {
                e->more.push_back(expression());
                if (!take_sign(",")) break;
            }
            expect_sign("]");
        } else if (take_sign("{")) {
            e->kind = Kind::dict;
            while (!sign("}") && status_.ok()) {
                e->more.push_back(expression());
                expect_sign(":");
                e->more.push_back(expression());
                if (!take_sign(",")) break;
            }
            expect_sign("}");
        } else wrong(fmt::format("expected a value, found {}", shown(t)));
        return e;
    }
    void name_or_constant(Expr& e) {
        const std::string text = take().text;
        if (text == "true" || text == "True") e.literal = true;
        else if (text == "false" || text == "False") e.literal = false;
        else if (text == "none" || text == "None") e.literal = None{};
        else e.kind = Kind::name, e.text = text;
    }

    ExprPtr postfix(ExprPtr e) {
        for (;; link()) {
            if (take_sign(".")) {
                ExprPtr member = make(Kind::member);
                member->operand = std::move(e);
                if (peek().kind == Token::Kind::integer) {
                    member->kind = Kind::index;
                    member->second = make(Kind::literal);
                    member->second->literal = static_cast<int64_t>(std::stoll(take().text));
                } else member->text = name();
                e = std::move(member);
            } else if (take_sign("[")) e = subscript(std::move(e));
            else if (sign("(")) e = call(std::move(e));
            else return e;
        }
    }
    ExprPtr subscript(ExprPtr of) {
        ExprPtr e = make(Kind::index);
        e->operand = std::move(of);
        if (!sign(":")) e->second = expression();
        if (take_sign(":")) {
            e->kind = Kind::slice;
            if (!sign("]") && !sign(":")) e->third = expression();
            if (take_sign(":") && !sign("]")) e->fourth = expression();
        }
        expect_sign("]");
        return e;
    }
    ExprPtr call(ExprPtr of) {
        ExprPtr e = make(Kind::call);
        e->operand = std::move(of);
        arguments(*e);
        return e;
    }
    void arguments(Expr& e) {
        expect_sign("(");
        while (!sign(")") && status_.ok()) {
            if (sign("*") || sign("**")) wrong("* and ** in calls are not built");
            Argument a;
            if (peek().kind == Token::Kind::name && peek(1).kind == Token::Kind::sign && peek(1).text == "=")
                link(), a.name = take().text, take();
            a.value = expression();
            e.arguments.push_back(std::move(a));
            if (!take_sign(",")) break;
        }
        expect_sign(")");
    }

    // Filters and tests bind to what stands right before them.
    ExprPtr filters(ExprPtr e) {
        for (;; link()) {
            if (take_sign("|")) {
                ExprPtr f = make(Kind::filter);
                f->text = name();
                if (status_.ok() && !is_filter(f->text)) wrong(fmt::format("there is no filter {}; there are {}", f->text, filter_names()));
                f->operand = std::move(e);
                if (sign("(")) arguments(*f);
                e = std::move(f);
            } else if (take_word("is")) e = test(std::move(e));
            else if (sign("(")) e = call(std::move(e));
            else return e;
        }
    }
    ExprPtr test(ExprPtr of) {
        ExprPtr e = make(Kind::test);
        e->negated = take_word("not");
        e->text = name();
        if (status_.ok() && !is_test(e->text)) wrong(fmt::format("there is no test {}; there are {}", e->text, test_names()));
        e->operand = std::move(of);
        const Token& t = peek();
        const bool operand = t.kind == Token::Kind::string || t.kind == Token::Kind::integer || t.kind == Token::Kind::number ||
                             sign("[") || sign("{") ||
                             (t.kind == Token::Kind::name && !word("else") && !word("or") && !word("and") && !word("is") && !word("if") &&
                              !word("in") && !word("not"));
        if (sign("(")) arguments(*e);
        else if (operand) {
            Argument a;
            a.value = postfix(primary());
            e->arguments.push_back(std::move(a));
        }
        return e;
    }

    std::vector<Token> tokens_;
    size_t at_ = 0;
    int depth_ = 0, loops_ = 0, links_ = 0;
    Status status_;
};

}  // namespace

Result<Block> parse_template(std::string_view text) {
    DS_TRY(std::vector<Token> tokens, lex(text));
    return Parser(std::move(tokens)).run();
}

}  // namespace ds::jinja
