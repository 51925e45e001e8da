// From Oniguruma's Ruby syntax to PCRE2's.
//
// The two agree on most of what tokenizer files use. They differ in \w, \s and \b (PCRE2 10.42 knows no marks in words and counts
// U+180E as a space), \h (a hexadecimal digit, not a blank), \uXXXX, `{n,m}+`, which in Ruby repeats instead of being possessive, and
// classes within classes.
#include <algorithm>
#include <utility>
#include <vector>

#include "data/tokenizer/regex.h"

namespace ds::tokenizer {
namespace {

// Outside a class Oniguruma takes Latin-1's superscripts and fractions for parts of words, inside it does not.
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\xb2\xb3\xb9\xbc-\xbe)";
constexpr std::string_view kClassWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr std::string_view kSpace = "\\p{White_Space}";

constexpr size_t kMaxNesting = 16;

// What Oniguruma calls by a name that PCRE2 lacks or reads in another way, as the inside of a class.
constexpr std::pair<std::string_view, std::string_view> kNames[] = {
    {"alnum", R"(\p{Alphabetic}\p{Nd})"},
    {"alpha", R"(\p{Alphabetic})"},
    {"blank", R"(\p{Zs}\t)"},
    {"cntrl", R"(\p{Cc}\p{Cf}\p{Cn}\p{Co}\p{Cs})"},
    {"digit", R"(\p{Nd})"},
    {"lower", R"(\p{Lowercase})"},
    {"punct", R"(\p{P}\p{S})"},
    {"space", R"(\p{White_Space})"},
    {"upper", R"(\p{Uppercase})"},
    {"xdigit", "0-9a-fA-F"},
    {"word", kClassWord},
    {"ascii", R"(\x00-\x7f)"},
    {"any", R"(\x{0}-\x{10ffff})"},
    {"letter", R"(\p{L})"},
    {"number", R"(\p{N})"},
    {"punctuation", R"(\p{P})"},
    {"symbol", R"(\p{S})"},
    {"mark", R"(\p{M})"},
    {"separator", R"(\p{Z})"},
    {"other", R"(\p{C})"},
    {"uppercaseletter", R"(\p{Lu})"},
    {"lowercaseletter", R"(\p{Ll})"},
    {"titlecaseletter", R"(\p{Lt})"},
    {"decimalnumber", R"(\p{Nd})"},
};

// Properties that both know as more than a script.
constexpr std::string_view kProperties[] = {
    "alphabetic",    "lowercase",         "uppercase",      "whitespace",           "ideographic", "emoji", "emojipresentation",
    "emojimodifier", "emojimodifierbase", "emojicomponent", "extendedpictographic", "math",        "dash",  "hexdigit",
    "idstart",       "idcontinue",        "xidstart",       "xidcontinue"};

std::string plain_name(std::string_view name) {
    std::string plain;
    for (const char c : name) {
        if (c != '_' && c != ' ' && c != '-') plain.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c);
    }
    return plain;
}

class Translator {
public:
    Translator(std::string_view in, std::string_view place) : in_(in), place_(place) {}

    Result<std::string> run() {
        while (at_ < in_.size()) {
            const char c = in_[at_];
            if (c == '\\') {
                DS_CHECK(escape());
            } else if (c == '[') {
                begin_atom();
                DS_CHECK(char_class());
            } else if (c == '(') {
                open_group();
            } else if (c == ')') {
                if (!groups_.empty()) atom_ = groups_.back(), groups_.pop_back();
                take();
            } else if (c == '{') {
                interval();
            } else if (c == '*' || c == '+' || c == '?') {
                take();
            } else {
                begin_atom();
                take();
            }
        }
        return std::move(out_);
    }

private:
    // What a class holds, up to its end or an &&: `items` as PCRE2 has them, and classes within it.
    struct Operand {
        std::string items;
        std::vector<std::string> classes;
        std::string text() const {
            if (classes.empty()) return items.empty() ? "(?!)" : "[" + items + "]";
            return fmt::format("(?:{}{}{})", fmt::join(classes, "|"), items.empty() ? "" : "|", items.empty() ? "" : "[" + items + "]");
        }
    };

    void take() { out_.push_back(in_[at_++]); }
    void begin_atom() { atom_ = out_.size(); }
    char peek(size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }

    void open_group() {
        begin_atom();
        groups_.push_back(atom_);
        take();
        if (peek() != '?') return;
        // Ruby's (?m) is "dot matches newline", which PCRE2 calls s.
        take();
        while (peek() == 'i' || peek() == 'm' || peek() == 'x' || peek() == '-') {
            out_.push_back(peek() == 'm' ? 's' : peek());
            ++at_;
        }
        while (peek() == '<' || peek() == '=' || peek() == '!' || peek() == '>' || peek() == ':') take();
    }

    // {n,m}+ : the atom and its interval, repeated.
    void interval() {
        size_t end = at_ + 1;
        while (end < in_.size() && ((in_[end] >= '0' && in_[end] <= '9') || in_[end] == ',')) ++end;
        if (end >= in_.size() || in_[end] != '}' || end == at_ + 1) {
            begin_atom();
            out_ += "\\{";
            ++at_;
            return;
        }
        std::string range(in_.substr(at_, end + 1 - at_));
        if (range[1] == ',') range = "{0" + range.substr(1);
        out_ += range;
        at_ = end + 1;
        if (peek() != '+') return;
        out_ = fmt::format("{}(?:{})+", out_.substr(0, atom_), out_.substr(atom_));
        ++at_;
    }

    Status escape() {
        begin_atom();
        const char c = peek(1);
        switch (c) {
        case '\0': return fail(Code::E_CORRUPT, "{}: regular expression \"{}\" ends in a backslash", place_, in_.substr(0, 200));
        case 'w': return put(fmt::format("[{}]", kWord));
        case 'W': return put(fmt::format("[^{}]", kWord));
        case 's': return put(kSpace);
        case 'S': return put("\\P{White_Space}");
        case 'h': return put("[0-9a-fA-F]");
        case 'H': return put("[^0-9a-fA-F]");
        case 'b': return put(fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", kWord));
        case 'B': return put(fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", kWord));
        case 'u': return code_point();
        default: return plain_escape(nullptr);
        }
    }

    Status put(std::string_view text) {
        out_ += text;
        at_ += 2;
        return ok();
    }

    // operand: of the class that it stands in.
    Status plain_escape(Operand* operand) {
        if ((peek(1) == 'p' || peek(1) == 'P') && peek(2) == '{') return property(operand);
        take();
        take();
        return ok();
    }

    // \p{Name}, \p{^Name}, \P{Name}
    Status property(Operand* operand) {
        const size_t end = in_.find('}', at_);
        if (end == in_.npos) return fail(Code::E_CORRUPT, "{}: regular expression \"{}\": \\p{{ without }}", place_, in_.substr(0, 200));
        bool negative = peek(1) == 'P';
        std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
        if (name.starts_with('^')) negative = !negative, name.remove_prefix(1);
        at_ = end + 1;
        const std::string plain = plain_name(name);
        const auto named = std::find_if(std::begin(kNames), std::end(kNames), [&](const auto& row) { return row.first == plain; });
        if (named != std::end(kNames)) {
            if (operand && negative) operand->classes.push_back(fmt::format("[^{}]", named->second));
            else out_ += operand ? std::string(named->second) : fmt::format("[{}{}]", negative ? "^" : "", named->second);
            return ok();
        }
        // A script's name alone means, to PCRE2, the scripts that share the code point too.
        const bool script = plain.size() > 2 && name.find_first_of("=:&") == name.npos &&
                            std::find(std::begin(kProperties), std::end(kProperties), plain) == std::end(kProperties);
        out_ += fmt::format("\\{}{{{}{}}}", negative ? 'P' : 'p', script ? "sc:" : "", name);
        return ok();
    }

    Status code_point() {
        const std::string_view digits = in_.substr(at_ + 2, 4);
        if (digits.size() != 4 || digits.find_first_not_of("0123456789abcdefABCDEF") != digits.npos)
            return fail(Code::E_CORRUPT, "{}: regular expression \"{}\": \\u needs four hexadecimal digits", place_, in_.substr(0, 200));
        out_ += fmt::format("\\x{{{}}}", digits);
        at_ += 6;
        return ok();
    }

    Status char_class() {
        DS_TRY(const std::string made, one_class());
        out_ += made;
        return ok();
    }

    // PCRE2 has neither classes within classes nor &&: these become alternatives, and looks ahead at the code point.
    Result<std::string> one_class() {
        if (++nesting_ > kMaxNesting) return refuse("classes nested too deep");
        std::string outer = std::exchange(out_, "");
        std::vector<Operand> operands(1);
        const bool negative = peek(1) == '^';
        at_ += negative ? 2 : 1;
        if (peek() == ']') out_ += "\\]", ++at_;
        while (at_ < in_.size() && in_[at_] != ']') {
            if (in_[at_] == '&' && peek(1) == '&') {
                operands.back().items = std::exchange(out_, "");
                operands.emplace_back();
                at_ += 2;
            } else {
                DS_CHECK(class_item(operands.back()));
            }
        }
        if (at_ == in_.size()) return refuse("[ without ]");
        ++at_;
        --nesting_;
        operands.back().items = std::exchange(out_, std::move(outer));
        if (operands.size() == 1 && operands[0].items.empty() && operands[0].classes.empty()) return refuse("an empty class");
        if (operands.size() == 1 && operands[0].classes.empty()) return fmt::format("[{}{}]", negative ? "^" : "", operands[0].items);
        std::string all;
        for (size_t i = 0; i + 1 < operands.size(); ++i) all += fmt::format("(?={})", operands[i].text());
        all += operands.back().text();
        return negative ? fmt::format("(?:(?!{})(?s:.))", all) : fmt::format("(?:{})", all);
    }

    Status class_item(Operand& operand) {
        if (in_[at_] == '[' && peek(1) == ':') {
            const size_t end = in_.find(":]", at_);
            if (end == in_.npos) return refuse("[: without :]");
            DS_CHECK(posix_name(in_.substr(at_ + 2, end - at_ - 2), operand));
            at_ = end + 2;
        } else if (in_[at_] == '[') {
            DS_TRY(std::string inner, one_class());
            operand.classes.push_back(std::move(inner));
        } else if (in_[at_] == '\\') {
            return class_escape(operand);
        } else {
            take();
        }
        return ok();
    }

    Status refuse(std::string_view what) const {
        return fail(Code::E_CORRUPT, "{}: regular expression \"{}\": {}", place_, in_.substr(0, 200), what);
    }

    Status posix_name(std::string_view name, Operand& operand) {
        const bool negative = name.starts_with('^');
        const auto named =
            std::find_if(std::begin(kNames), std::end(kNames), [&](const auto& row) { return row.first == name.substr(negative); });
        if (named == std::end(kNames)) out_ += fmt::format("[:{}:]", name);
        else if (negative) operand.classes.push_back(fmt::format("[^{}]", named->second));
        else out_ += named->second;
        return ok();
    }

    Status class_escape(Operand& operand) {
        switch (peek(1)) {
        case 'w': return put(kClassWord);
        case 's': return put(kSpace);
        case 'S': return put("\\P{White_Space}");
        case 'h': return put("0-9a-fA-F");
        case 'W': operand.classes.push_back(fmt::format("[^{}]", kClassWord)); return put("");
        case 'H': operand.classes.push_back("[^0-9a-fA-F]"); return put("");
        case 'u': return code_point();
        case '\0': return fail(Code::E_CORRUPT, "{}: regular expression \"{}\" ends in a backslash", place_, in_.substr(0, 200));
        default: return plain_escape(&operand);
        }
    }

    std::string_view in_, place_;
    size_t at_ = 0, atom_ = 0, nesting_ = 0;
    std::string out_;
    std::vector<size_t> groups_;
};

}  // namespace

Result<std::string> to_pcre2(std::string_view expression, std::string_view place) { return Translator(expression, place).run(); }

}  // namespace ds::tokenizer
