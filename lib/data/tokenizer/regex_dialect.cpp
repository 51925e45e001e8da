// From Oniguruma's Ruby syntax to PCRE2's.
//
// The two agree on most of what tokenizer files use. They differ in \w, \s and \b (PCRE2 10.42 knows no marks in words and counts
// U+180E as a space), \h (a hexadecimal digit, not a blank), \uXXXX, and `{n,m}+`, which in Ruby repeats instead of being possessive.
#include <vector>

#include "data/tokenizer/regex.h"

namespace ds::tokenizer {
namespace {

constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
constexpr std::string_view kSpace = "\\p{White_Space}";

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
        if (range[1] == ',') range.insert(1, "0");
        out_ += range;
        at_ = end + 1;
        if (peek() != '+') return;
        out_.insert(atom_, "(?:");
        out_ += ")+";
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
        default: return plain_escape();
        }
    }

    Status put(std::string_view text) {
        out_ += text;
        at_ += 2;
        return ok();
    }

    Status plain_escape() {
        take();
        const bool property = (peek() == 'p' || peek() == 'P') && peek(1) == '{';
        take();
        while (property && at_ < in_.size() && in_[at_ - 1] != '}') take();
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
        take();
        if (peek() == '^') take();
        if (peek() == ']') out_ += "\\]", ++at_;
        while (at_ < in_.size() && in_[at_] != ']') {
            if (in_[at_] == '[' && peek(1) == ':') {
                const size_t end = in_.find(":]", at_);
                if (end == in_.npos) return fail(Code::E_CORRUPT, "{}: regular expression \"{}\": [: without :]", place_, in_.substr(0, 200));
                while (at_ < end + 2) take();
            } else if (in_[at_] == '[' || (in_[at_] == '&' && peek(1) == '&')) {
                return fail(Code::E_UNSUPPORTED, "{}: regular expression \"{}\": nested classes and && are not built", place_, in_.substr(0, 200));
            } else if (in_[at_] == '\\') {
                DS_CHECK(class_escape());
            } else {
                take();
            }
        }
        if (at_ < in_.size()) take();
        return ok();
    }

    Status class_escape() {
        switch (peek(1)) {
        case 'w': return put(kWord);
        case 's': return put(kSpace);
        case 'S': return put("\\P{White_Space}");
        case 'h': return put("0-9a-fA-F");
        case 'W': return put(not_word());
        case 'H': return fail(Code::E_UNSUPPORTED, "{}: regular expression \"{}\": \\H in a class is not built", place_, in_.substr(0, 200));
        case 'u': return code_point();
        case '\0': return fail(Code::E_CORRUPT, "{}: regular expression \"{}\" ends in a backslash", place_, in_.substr(0, 200));
        default: return plain_escape();
        }
    }

    // A class can't hold a complement, so list it.
    static std::string not_word() {
        std::string ranges;
        for (char32_t c = 0; c < 0x110000;) {
            if (is_word(c)) {
                ++c;
                continue;
            }
            const char32_t begin = c;
            while (c < 0x110000 && !is_word(c)) ++c;
            ranges += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", static_cast<uint32_t>(begin), static_cast<uint32_t>(c - 1));
        }
        return ranges;
    }

    std::string_view in_, place_;
    size_t at_ = 0, atom_ = 0;
    std::string out_;
    std::vector<size_t> groups_;
};

}  // namespace

Result<std::string> to_pcre2(std::string_view expression, std::string_view place) { return Translator(expression, place).run(); }

}  // namespace ds::tokenizer
