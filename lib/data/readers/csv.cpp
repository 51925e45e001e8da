// CSV and TSV: RFC 4180, with line ends of either kind, any one-character delimiter, and a raw mode without quotes.
//
//     record = field *(delimiter field) line-end;   field = *plain | '"' *(plain | delimiter | line-end | '""') '"'
//
// A quote inside a field that does not begin with one is taken as it is, as the common readers do. Empty lines are no records.
#include <algorithm>
#include <cstring>

#include "base/nearest.h"
#include "data/readers/table.h"

namespace ds {
namespace {

constexpr size_t kMostFields = 4096;

class Csv : public Format {
public:
    Csv(const DataOptions& options, const Columns& columns, char delimiter)
        : columns_(columns),
          delimiter_(options.delimiter.empty() ? delimiter : options.delimiter[0]),
          quoting_(options.quoting),
          header_(options.header.value_or(!columns.all_by_index())),
          replace_(options.utf8 == "replace"),
          limit_(static_cast<size_t>(options.max_record_bytes)) {}

    Status index(const SourceFile& file, std::string_view text, std::vector<Extent>& records) override {
        const size_t before = records.size();
        bool first = true;
        size_t at = after_byte_order_mark(text);
        while (at < text.size()) {
            Extent record{at, at};
            DS_TRY(at, end_of_record(file, text, at));
            record.end = at;
            if (record.end > record.begin && text[record.end - 1] == '\r') --record.end;
            ++at;  // the line end
            if (record.begin == record.end) continue;
            if (first && header_ && at > text.size() && text.find('\r', record.begin) < record.end)
                return fail(Code::E_CORRUPT, "{}: lines end in a carriage return alone; a line feed, or both, is accepted", file.name);
            if (first) DS_CHECK(resolve(file, record, text.substr(record.begin, record.end - record.begin)));
            if (!first || !header_) records.push_back(record);
            first = false;
        }
        if (first) shapes_.push_back({});
        if (records.size() == before) return fail(Code::E_CORRUPT, "{}: has no rows{}", file.name, header_ ? " after the header" : "");
        return ok();
    }

    Result<Record> read(const SourceFile& file, Extent record, std::string text) const override {
        const FileShape& shape = shapes_[file.number];
        Record out(columns_.all().size());
        size_t count = 0;
        for_each_field(text, [&](std::string_view raw, bool quoted) {
            for (size_t i = 0; i < out.size(); ++i)
                if (shape.position[i] == count) out[i] = Cell::of(content(raw, quoted));
            ++count;
        });
        if (count != shape.width)
            return fail(Code::E_CORRUPT, "{}: found {} fields, {} are accepted, as in the {}", file.place(record.begin), count, shape.width,
                        header_ ? "header" : "first row");
        return out;
    }

private:
    struct FileShape {
        size_t width = 0;
        std::vector<size_t> position;  // of each asked column
    };

    // The place of the line end (or the file's end) that closes the record which begins at `begin`.
    Result<size_t> end_of_record(const SourceFile& file, std::string_view text, size_t begin) const {
        if (!quoting_) {
            const size_t end = std::min(text.find('\n', begin), text.size());
            if (end - begin > limit_) return too_long(file, begin);
            return end;
        }
        size_t at = begin;
        while (true) {  // once a field
            if (at < text.size() && text[at] == '"') {
                DS_TRY(at, after_quoted_field(file, text, begin, at));
            } else {
                while (at < text.size() && text[at] != delimiter_ && text[at] != '\n') ++at;
            }
            if (at - begin > limit_) return too_long(file, begin);
            if (at >= text.size() || text[at] == '\n') return at;
            ++at;
        }
    }

    // `open` is the place of a field's quote; the answer that of the delimiter or line end behind the closing one.
    Result<size_t> after_quoted_field(const SourceFile& file, std::string_view text, size_t record, size_t open) const {
        size_t at = open + 1;
        while (true) {
            const size_t reach = std::min(text.size(), record + limit_ + 1);
            const void* quote = at < reach ? std::memchr(text.data() + at, '"', reach - at) : nullptr;
            if (!quote) {
                if (reach < text.size())
                    return fail(Code::E_CORRUPT, "{}: the quote that opens here is not closed within max_record_bytes ({})",
                                file.place(open), limit_);
                return fail(Code::E_CORRUPT, "{}: the quote that opens here is never closed; a closing \" is needed, or \"quoting\": false",
                            file.place(open));
            }
            at = static_cast<size_t>(static_cast<const char*>(quote) - text.data()) + 1;
            if (at < text.size() && text[at] == '"') {
                ++at;
                continue;
            }
            if (at == text.size() || text[at] == delimiter_ || text[at] == '\n') return at;
            if (text[at] == '\r' && (at + 1 == text.size() || text[at + 1] == '\n')) return at + 1;
            return fail(Code::E_CORRUPT, "{}: found '{}' after a closing quote; the delimiter or a line end is accepted", file.place(at),
                        shown_byte(text[at]));
        }
    }

    Status too_long(const SourceFile& file, size_t begin) const {
        return fail(Code::E_CORRUPT, "{}: a record longer than max_record_bytes ({})", file.place(begin), limit_);
    }

    static std::string shown_byte(char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte >= 0x20 && byte < 0x7f ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<unsigned>(byte));
    }

    // Calls f(field without its outer quotes, whether it had them). The record was checked by index().
    template <class F>
    void for_each_field(std::string_view record, F f) const {
        for (size_t at = 0;; ++at) {
            if (quoting_ && at < record.size() && record[at] == '"') {
                const size_t begin = ++at;
                while (at < record.size() && (record[at] != '"' || (at + 1 < record.size() && record[at + 1] == '"')))
                    at += record[at] == '"' ? 2 : 1;
                f(record.substr(begin, at - begin), true);
                ++at;
            } else {
                const size_t end = std::min(record.find(delimiter_, at), record.size());
                f(record.substr(at, end - at), false);
                at = end;
            }
            if (at >= record.size()) return;
        }
    }

    std::string content(std::string_view raw, bool quoted) const {
        std::string out;
        for (size_t pair; quoted && (pair = raw.find("\"\"")) != raw.npos; raw.remove_prefix(pair + 2)) out.append(raw, 0, pair + 1);
        out.append(raw);
        if (replace_ && bad_utf8(out) != std::string_view::npos) return replace_bad_utf8(out);
        return out;
    }

    // Finds the asked columns by the file's first record.
    Status resolve(const SourceFile& file, Extent record, std::string_view text) {
        size_t count = 0;
        for_each_field(text, [&](std::string_view, bool) { ++count; });
        if (count > kMostFields)
            return fail(Code::E_CORRUPT, "{}: found {} fields, up to {} are accepted", file.place(record.begin), count, kMostFields);
        std::vector<std::string> names;
        for_each_field(text, [&](std::string_view raw, bool quoted) { names.push_back(content(raw, quoted)); });
        FileShape shape{names.size(), {}};
        for (const Column& column : columns_.all()) {
            if (const int64_t* index = std::get_if<int64_t>(&column.source)) {
                if (static_cast<size_t>(*index) >= names.size())
                    return fail(Code::E_CORRUPT, "{}: column {} for {} does not exist; the first row has {} fields, counted from 0",
                                file.place(record.begin), *index, column.role, names.size());
                shape.position.push_back(static_cast<size_t>(*index));
                continue;
            }
            const std::string& name = std::get<std::string>(column.source);
            if (!header_)
                return fail(Code::E_CONFIG,
                            "data: columns: {}: column \"{}\" is a name, but the files have no header; an index is accepted", column.role,
                            name);
            const auto found = std::find(names.begin(), names.end(), name);
            if (found == names.end())
                return fail(Code::E_NOT_FOUND, "{}: column \"{}\" for {} is not in the header; did you mean \"{}\"?",
                            file.place(record.begin), name, column.role, nearest(name, names));
            if (std::find(found + 1, names.end(), name) != names.end())
                return fail(Code::E_CORRUPT, "{}: column \"{}\" appears twice in the header; an index is accepted",
                            file.place(record.begin), name);
            shape.position.push_back(static_cast<size_t>(found - names.begin()));
        }
        shapes_.push_back(std::move(shape));
        return ok();
    }

    Columns columns_;
    char delimiter_;
    bool quoting_, header_, replace_;
    size_t limit_;
    std::vector<FileShape> shapes_;  // by file number
};

}  // namespace

std::unique_ptr<Format> make_csv(const DataOptions& options, const Columns& columns) {
    return std::make_unique<Csv>(options, columns, ',');
}
std::unique_ptr<Format> make_tsv(const DataOptions& options, const Columns& columns) {
    return std::make_unique<Csv>(options, columns, '\t');
}

}  // namespace ds
