// Cutting follows Jinja's lexer with trim_blocks (the newline after a block goes) and lstrip_blocks (blanks before a block that begins a
// line go);
// {%- and -%} take all white space away, {%+ and +%} keep it.
#include "data/jinja/lexer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

namespace ds::jinja {
namespace {

bool blank(char c) { return c == ' ' || c == '\t'; }
bool space(char c) { return blank(c) || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }
bool digit(char c) { return c >= '0' && c <= '9'; }
bool name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80; }

class Lexer {
public:
    explicit Lexer(std::string_view text) : text_(text) {}

    Result<std::vector<Token>> run() {
        while (at_ < text_.size()) {
            const size_t open = next_open();
            add_text(open);
            if (open == text_.npos) break;
            move_to(open);
            DS_CHECK(text_[at_ + 1] == '#' ? comment() : tag());
        }
        add(Token::Kind::end, "");
        return std::move(tokens_);
    }

private:
    size_t next_open() const {
        for (size_t i = at_; i + 1 < text_.size(); ++i)
            if (text_[i] == '{' && (text_[i + 1] == '{' || text_[i + 1] == '%' || text_[i + 1] == '#')) return i;
        return text_.npos;
    }
    void move_to(size_t to) {
        line_ +=
            static_cast<int>(std::count(text_.begin() + static_cast<ptrdiff_t>(at_), text_.begin() + static_cast<ptrdiff_t>(to), '\n'));
        at_ = to;
    }
    void add(Token::Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
    Status wrong(std::string_view what) const { return fail(Code::E_CORRUPT, "line {}: {}", line_, what); }

    // The text before the next opening, less what that opening and the last closing take away.
    void add_text(size_t open) {
        std::string_view part = text_.substr(at_, open == text_.npos ? text_.npos : open - at_);
        const std::string_view whole = part;
        if (strip_next_)
            while (!part.empty() && space(part.front())) part.remove_prefix(1);
        else if (trim_next_ && part.starts_with("\n")) part.remove_prefix(1);
        if (open != text_.npos) {
            const char sign = open + 2 < text_.size() ? text_[open + 2] : ' ';
            if (sign == '-')
                while (!part.empty() && space(part.back())) part.remove_suffix(1);
            else if (text_[open + 1] != '{' && sign != '+') {
                size_t end = part.size();
                while (end > 0 && blank(part[end - 1])) --end;
                // Only white space since the line began, be it in this text or before it.
                const bool begins_line =
                    end > 0 ? part[end - 1] == '\n'
                            : at_ == 0 || (whole.size() > part.size() && part.data() != whole.data() && part.data()[-1] == '\n');
                if (begins_line) part = part.substr(0, end);
            }
        }
        if (!part.empty()) add(Token::Kind::text, std::string(part));
        strip_next_ = trim_next_ = false;
    }

    Status comment() {
        const size_t end = text_.find("#}", at_ + 2);
        if (end == text_.npos) return wrong("the comment {# is not closed by #}");
        strip_next_ = end > at_ + 2 && text_[end - 1] == '-';
        trim_next_ = true;
        move_to(end + 2);
        return ok();
    }

    Status tag() {
        const bool output = text_[at_ + 1] == '{';
        add(output ? Token::Kind::output_begin : Token::Kind::block_begin, "");
        at_ += 2;
        if (at_ < text_.size() && (text_[at_] == '-' || (text_[at_] == '+' && !output))) ++at_;
        const std::string_view closing = output ? "}}" : "%}";
        int depth = 0;  // of brackets: }} may end a dict and an output
        for (;;) {
            while (at_ < text_.size() && space(text_[at_])) move_to(at_ + 1);
            if (at_ >= text_.size()) return wrong(output ? "{{ is not closed by }}" : "{% is not closed by %}");
            const std::string_view rest = text_.substr(at_);
            const bool minus = rest[0] == '-' || rest[0] == '+';
            if (depth == 0 && rest.substr(minus).starts_with(closing) && !(output && rest[0] == '+')) {
                add(output ? Token::Kind::output_end : Token::Kind::block_end, "");
                strip_next_ = rest[0] == '-';
                trim_next_ = !output && rest[0] != '+';
                at_ += 2 + minus;
                break;
            }
            DS_CHECK(token(depth));
        }
        return raw_block();
    }

    Status token(int& depth) {
        const char c = text_[at_];
        if (c == '"' || c == '\'') return string(c);
        if (digit(c)) return number();
        if (name_start(c)) {
            size_t end = at_;
            while (end < text_.size() && (name_start(text_[end]) || digit(text_[end]))) ++end;
            add(Token::Kind::name, std::string(text_.substr(at_, end - at_)));
            at_ = end;
            return ok();
        }
        static constexpr std::array<std::string_view, 6> pairs{"==", "!=", "<=", ">=", "//", "**"};
        for (const std::string_view pair : pairs)
            if (text_.substr(at_).starts_with(pair)) {
                add(Token::Kind::sign, std::string(pair));
                at_ += 2;
                return ok();
            }
        if (std::string_view("+-*/%~<>=()[]{},.:|").find(c) == std::string_view::npos)
            return wrong(fmt::format("unexpected character '{}'", c));
        if (c == '(' || c == '[' || c == '{') ++depth;
        if (c == ')' || c == ']' || c == '}') --depth;
        add(Token::Kind::sign, std::string(1, c));
        ++at_;
        return ok();
    }

    Status string(char quote) {
        std::string out;
        size_t i = at_ + 1;
        for (; i < text_.size() && text_[i] != quote; ++i) {
            if (text_[i] != '\\') {
                out += text_[i];
                continue;
            }
            if (++i >= text_.size()) break;
            DS_CHECK(escape(i, out));
        }
        if (i >= text_.size()) return wrong("a string is not closed");
        add(Token::Kind::string, std::move(out));
        move_to(i + 1);
        return ok();
    }
    // Python's escapes; i stands on the character behind the backslash, and afterwards on the last one that was used.
    Status escape(size_t& i, std::string& out) {
        const char c = text_[i];
        static constexpr std::string_view from = "nrtbfav0\\'\"", to("\n\r\t\b\f\a\v\0\\'\"", 11);
        if (const size_t k = from.find(c); k != from.npos) out += to[k];
        else if (c == '\n') {
        } else if (c == 'x' || c == 'u' || c == 'U') {
            const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
            int32_t point = 0;
            for (size_t done = 0; done < digits; ++done) {
                const char h = ++i < text_.size() ? text_[i] : ' ';
                const int value = digit(h) ? h - '0' : h >= 'a' && h <= 'f' ? h - 'a' + 10 : h >= 'A' && h <= 'F' ? h - 'A' + 10 : -1;
                if (value < 0 || point > 0x10FFFF) return wrong(fmt::format("\\{} must be followed by {} hexadecimal digits", c, digits));
                point = point * 16 + value;
            }
            utf8proc_uint8_t bytes[4];
            const auto n = utf8proc_encode_char(point, bytes);
            if (n <= 0) return wrong(fmt::format("\\{} names no character", c));
            out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n));
        } else out += '\\', out += c;
        return ok();
    }

    Status number() {
        size_t end = at_;
        bool real = false;
        while (end < text_.size() && (digit(text_[end]) || text_[end] == '_')) ++end;
        if (end + 1 < text_.size() && text_[end] == '.' && digit(text_[end + 1])) {
            real = true;
            for (++end; end < text_.size() && digit(text_[end]); ++end) {}
        }
        if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
            size_t digits = end + 1;
            if (digits < text_.size() && (text_[digits] == '+' || text_[digits] == '-')) ++digits;
            if (digits < text_.size() && digit(text_[digits])) {
                real = true;
                for (end = digits; end < text_.size() && digit(text_[end]); ++end) {}
            }
        }
        std::string out(text_.substr(at_, end - at_));
        std::erase(out, '_');
        if (!real && out.size() > 18) return wrong(fmt::format("the integer {} is too large", out));
        add(real ? Token::Kind::number : Token::Kind::integer, std::move(out));
        at_ = end;
        return ok();
    }

    // {% raw %}: all up to {% endraw %} is text.
    Status raw_block() {
        const size_t n = tokens_.size();
        if (n < 3 || tokens_[n - 2].kind != Token::Kind::name || tokens_[n - 2].text != "raw" ||
            tokens_[n - 3].kind != Token::Kind::block_begin)
            return ok();
        tokens_.resize(n - 3);
        for (size_t open = at_;; ++open) {
            open = text_.find("{%", open);
            if (open == text_.npos) return wrong("{% raw %} is not closed by {% endraw %}");
            size_t i = open + 2;
            const bool minus = i < text_.size() && text_[i] == '-';
            if (minus || (i < text_.size() && text_[i] == '+')) ++i;
            while (i < text_.size() && space(text_[i])) ++i;
            if (!text_.substr(i).starts_with("endraw")) continue;
            i += 6;
            while (i < text_.size() && space(text_[i])) ++i;
            const bool strip = i < text_.size() && text_[i] == '-';
            if (!text_.substr(i + strip).starts_with("%}")) continue;
            add_text(open);
            move_to(i + strip + 2);
            strip_next_ = strip;
            trim_next_ = true;
            return ok();
        }
    }

    std::string_view text_;
    size_t at_ = 0;
    int line_ = 1;
    bool strip_next_ = false, trim_next_ = false;
    std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> lex(std::string_view text) {
    // Jinja reads every kind of line end as a newline, and drops one at the very end (keep_trailing_newline is off).
    std::string lines;
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\r') lines += text[i];
        else if (!text.substr(i).starts_with("\r\n")) lines += '\n';
    }
    if (lines.ends_with('\n')) lines.pop_back();
    return Lexer(lines).run();
}

}  // namespace ds::jinja
