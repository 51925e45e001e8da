// JSON (one array of rows) and JSONL (a row a line), by simdjson. A row is an object, or an array where columns are given by index.
//
// Opening finds where rows begin and end; a row is parsed when it is read. A column's name may be a path: "answers.text".
#include <simdjson.h>

#include <algorithm>

#include "base/nearest.h"
#include "data/readers/table.h"

namespace ds {
namespace {

namespace dom = simdjson::dom;
constexpr size_t kMaxDepth = 64;
constexpr std::string_view kBlanks = " \t\r\n";

Cell to_value(dom::element e) {
    switch (e.type()) {
    case dom::element_type::STRING: return Cell::of(std::string(e.get_string().value_unsafe()));
    case dom::element_type::INT64: return {Cell::Kind::number, std::to_string(e.get_int64().value_unsafe()), {}};
    case dom::element_type::UINT64: return {Cell::Kind::number, std::to_string(e.get_uint64().value_unsafe()), {}};
    case dom::element_type::DOUBLE: return {Cell::Kind::number, fmt::format("{}", e.get_double().value_unsafe()), {}};
    case dom::element_type::BOOL: return {Cell::Kind::boolean, e.get_bool().value_unsafe() ? "true" : "false", {}};
    case dom::element_type::NULL_VALUE: return {};
    case dom::element_type::OBJECT: return {Cell::Kind::object, simdjson::minify(e), {}};
    case dom::element_type::ARRAY: break;
    }
    Cell list{Cell::Kind::list, {}, {}};
    const dom::array array = e.get_array().value_unsafe();  // a copy: the loop would outlive the temporary
    for (dom::element item : array) list.items.push_back(to_value(item));
    return list;
}

// Where the next \u escape of half a surrogate pair stands alone: JSON's grammar has it (Python writes it), text cannot hold it.
size_t lone_surrogate(std::string_view text, size_t from) {
    const auto half = [&](size_t at, char least, char most) {  // \ud800 to \udbff come first, \udc00 to \udfff second
        if (text.size() < at + 6 || text[at] != '\\' || text[at + 1] != 'u' ||
            text.find_first_not_of("0123456789abcdefABCDEF", at + 2) < at + 6)
            return false;
        const char second = static_cast<char>(text[at + 3] | 0x20);
        return (text[at + 2] | 0x20) == 'd' && second >= least && second <= most;
    };
    for (size_t at = from; (at = text.find('\\', at)) != text.npos;) {
        const bool first = half(at, '8', '9') || half(at, 'a', 'b');
        if (first && half(at + 6, 'c', 'f')) at += 12;
        else if (first || half(at, 'c', 'f')) return at;
        else at += 2;
    }
    return text.npos;
}

class JsonRows : public Format {
public:
    JsonRows(const DataOptions& options, const Columns& columns)
        : columns_(columns), replace_(options.utf8 == "replace"), limit_(static_cast<size_t>(options.max_record_bytes)) {}

    Result<Record> read(const SourceFile& file, Extent record, std::string text) const override {
        if (replace_ && bad_utf8(text) != text.npos) text = replace_bad_utf8(text);
        dom::parser parser;
        if (parser.allocate(std::max<size_t>(text.size(), 32), kMaxDepth) != simdjson::SUCCESS)
            return fail(Code::E_OUT_OF_MEMORY, "{}: no memory to parse {} bytes", file.place(record.begin), text.size());
        auto parsed = parser.parse(simdjson::padded_string(text));
        size_t half = parsed.error() == simdjson::STRING_ERROR ? lone_surrogate(text, 0) : text.npos;
        if (half != text.npos && replace_) {
            for (; half != text.npos; half = lone_surrogate(text, half)) text.replace(half + 2, 4, "fffd");
            parsed = parser.parse(simdjson::padded_string(text));
        }
        if (parsed.error()) return not_json(file, record, text, parsed.error(), half);
        Record out;
        for (const Column& column : columns_.all()) {
            Result<Cell> value = find(parsed.value_unsafe(), column);
            if (!value.ok()) return std::move(value).status().within(file.place(record.begin));
            out.push_back(std::move(value).value());
        }
        return out;
    }

protected:
    Status too_long(const SourceFile& file, size_t begin) const {
        return fail(Code::E_CORRUPT, "{}: a record longer than max_record_bytes ({})", file.place(begin), limit_);
    }

    Columns columns_;
    bool replace_;
    size_t limit_;

private:
    static Status not_json(const SourceFile& file, Extent record, const std::string& text, simdjson::error_code error, size_t half) {
        const std::string place = file.place(record.begin);
        if (error == simdjson::DEPTH_ERROR) return fail(Code::E_CORRUPT, "{}: nested deeper than {} levels", place, kMaxDepth);
        if (half != text.npos)
            return fail(Code::E_CORRUPT,
                        "{}: found {}, half of a surrogate pair, which is no character; whole pairs are accepted, or \"utf8\": \"replace\"",
                        file.place(record.begin + half), text.substr(half, 6));
        const bool cut_array = text.starts_with('[') && !text.ends_with(']');
        return fail(Code::E_CORRUPT, "{}: not valid JSON: {}; found {}{}", place, simdjson::error_message(error), excerpt(text),
                    cut_array ? "; an array over several lines is format \"json\"" : "");
    }

    static Result<Cell> find(dom::element row, const Column& column) {
        if (const int64_t* index = std::get_if<int64_t>(&column.source)) {
            if (!row.is_array())
                return fail(Code::E_CORRUPT, "column {} for {} is an index, but the row is not an array; a name is accepted", *index,
                            column.role);
            const dom::array array = row.get_array().value_unsafe();
            if (static_cast<size_t>(*index) >= array.size())
                return fail(Code::E_CORRUPT, "column {} for {} does not exist; the row has {} items", *index, column.role, array.size());
            return to_value(array.at(static_cast<size_t>(*index)).value_unsafe());
        }
        const std::string& name = std::get<std::string>(column.source);
        if (!row.is_object()) return fail(Code::E_CORRUPT, "found {}, an object is accepted", describe(to_value(row)));
        return follow(row, name, column);
    }

    // The key itself, else the part before its first dot and then the rest inside.
    static Result<Cell> follow(dom::element object, std::string_view name, const Column& column) {
        DS_TRY(const auto whole, lookup(object, name, column));
        if (whole) return to_value(*whole);
        if (const size_t dot = name.find('.'); dot != name.npos) {
            DS_TRY(const auto outer, lookup(object, name.substr(0, dot), column));
            if (outer && outer->is_object()) return follow(*outer, name.substr(dot + 1), column);
        }
        std::vector<std::string> keys;
        const dom::object fields = object.get_object().value_unsafe();
        for (const auto field : fields) keys.emplace_back(field.key);
        if (keys.empty())
            return fail(Code::E_CORRUPT, "column {} for {} is missing; the object is empty", column.source_text(), column.role);
        return fail(Code::E_CORRUPT, "column {} for {} is missing; did you mean \"{}\"?", column.source_text(), column.role,
                    nearest(name, keys));
    }

    static Result<std::optional<dom::element>> lookup(dom::element object, std::string_view name, const Column& column) {
        std::optional<dom::element> found;
        const dom::object fields = object.get_object().value_unsafe();
        for (const auto field : fields) {
            if (field.key != name) continue;
            if (found) return fail(Code::E_CORRUPT, "key \"{}\" for {} appears twice in one object", name, column.role);
            found = field.value;
        }
        return found;
    }
};

class JsonLines : public JsonRows {
public:
    using JsonRows::JsonRows;
    Status index(const SourceFile& file, std::string_view text, std::vector<Extent>& records) override {
        const size_t before = records.size();
        for (size_t at = after_byte_order_mark(text); at < text.size();) {
            const size_t end = std::min(text.find('\n', at), text.size());
            if (end - at > limit_) return too_long(file, at);
            if (text.substr(at, end - at).find_first_not_of(kBlanks) != text.npos) records.push_back({at, end});
            at = end + 1;
        }
        if (records.size() == before) return fail(Code::E_CORRUPT, "{}: has no rows", file.name);
        return ok();
    }
};

class JsonArray : public JsonRows {
public:
    using JsonRows::JsonRows;
    Status index(const SourceFile& file, std::string_view text, std::vector<Extent>& records) override {
        const auto skip_blanks = [&](size_t at) { return std::min(text.find_first_not_of(kBlanks, at), text.size()); };
        const auto expected = [&](size_t at, const char* what) {
            if (at >= text.size()) return fail(Code::E_CORRUPT, "{}: ends where {} is accepted", file.place(at), what);
            return fail(Code::E_CORRUPT, "{}: found '{}', {} is accepted", file.place(at), excerpt(text.substr(at, 1)), what);
        };
        size_t at = skip_blanks(after_byte_order_mark(text));
        if (at < text.size() && text[at] == '{')
            return fail(Code::E_CORRUPT, "{}: found '{{', an array of rows is accepted; objects on lines of their own are format \"jsonl\"",
                        file.place(at));
        if (at >= text.size() || text[at] != '[') return expected(at, "'['");
        at = skip_blanks(at + 1);
        if (at < text.size() && text[at] == ']') return fail(Code::E_CORRUPT, "{}: has no rows", file.name);
        while (true) {
            if (at >= text.size() || (text[at] != '{' && text[at] != '[')) return expected(at, "an object");
            DS_TRY(const size_t end, end_of_value(file, text, at));
            records.push_back({at, end});
            at = skip_blanks(end);
            if (at < text.size() && text[at] == ',') {
                at = skip_blanks(at + 1);
                continue;
            }
            if (at >= text.size() || text[at] != ']') return expected(at, "',' or ']'");
            at = skip_blanks(at + 1);
            if (at < text.size()) return expected(at, "the file's end");
            return ok();
        }
    }

private:
    // Behind the bracket that closes the one at `begin`. What lies between is checked when the row is read.
    Result<size_t> end_of_value(const SourceFile& file, std::string_view text, size_t begin) const {
        size_t depth = 0;
        for (size_t at = begin; at < text.size(); ++at) {
            if (at - begin > limit_) return too_long(file, begin);
            const char c = text[at];
            if (c == '"') {
                for (++at; at < text.size() && text[at] != '"'; ++at) {
                    if (at - begin > limit_) return too_long(file, begin);
                    at += text[at] == '\\';
                }
            } else if (c == '{' || c == '[') {
                if (++depth > kMaxDepth) return fail(Code::E_CORRUPT, "{}: nested deeper than {} levels", file.place(begin), kMaxDepth);
            } else if ((c == '}' || c == ']') && --depth == 0) {
                return at + 1;
            }
        }
        return fail(Code::E_CORRUPT, "{}: the row that begins here does not end", file.place(begin));
    }
};

}  // namespace

std::unique_ptr<Format> make_json(const DataOptions& options, const Columns& columns) {
    return std::make_unique<JsonArray>(options, columns);
}
std::unique_ptr<Format> make_jsonl(const DataOptions& options, const Columns& columns) {
    return std::make_unique<JsonLines>(options, columns);
}

}  // namespace ds
