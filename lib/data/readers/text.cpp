// Plain text: a record is a document, and its only column the text. Documents are files, lines, paragraphs, or what a separator cuts.
#include <algorithm>

#include "data/readers/table.h"

namespace ds {
namespace {

class PlainText : public Format {
public:
    explicit PlainText(const DataOptions& options) : document_(options.document), replace_(options.utf8 == "replace") {}

    Status index(const SourceFile& file, std::string_view text, std::vector<Extent>& records) override {
        const size_t before = records.size();
        if (document_ == "paragraph") paragraphs(text, records);
        else if (document_ == "file") add(text, after_byte_order_mark(text), text.size(), records);
        else {
            const std::string_view separator = document_ == "line" ? "\n" : std::string_view(document_);
            for (size_t at = after_byte_order_mark(text); at < text.size();) {
                const size_t end = std::min(text.find(separator, at), text.size());
                add(text, at, end, records);
                at = end + separator.size();
            }
        }
        if (records.size() == before) return fail(Code::E_CORRUPT, "{}: has no text", file.name);
        return ok();
    }

    Result<Record> read(const SourceFile&, Extent, std::string text) const override {
        if (replace_ && bad_utf8(text) != text.npos) text = replace_bad_utf8(text);
        return Record{Cell::of(std::move(text))};
    }

private:
    // Documents of blanks only are none.
    static void add(std::string_view text, size_t begin, size_t end, std::vector<Extent>& records) {
        if (end > begin && text[end - 1] == '\r') --end;
        if (text.substr(begin, end - begin).find_first_not_of(" \t\r\n") != text.npos) records.push_back({begin, end});
    }

    static void paragraphs(std::string_view text, std::vector<Extent>& records) {
        size_t begin = after_byte_order_mark(text), end = begin;
        for (size_t at = begin; at < text.size();) {
            const size_t line_end = std::min(text.find('\n', at), text.size());
            if (text.substr(at, line_end - at).find_first_not_of(" \t\r") == text.npos) {
                add(text, begin, end, records);
                begin = end = line_end + 1;
            } else {
                end = line_end;
            }
            at = line_end + 1;
        }
        if (begin < text.size()) add(text, begin, end, records);
    }

    std::string document_;
    bool replace_;
};

}  // namespace

std::unique_ptr<Format> make_text(const DataOptions& options, const Columns&) { return std::make_unique<PlainText>(options); }

}  // namespace ds
