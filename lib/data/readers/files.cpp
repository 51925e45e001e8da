// Opening tables: paths and patterns, the format by file ending, byte order marks, NUL bytes and UTF-8.
#include <glob.h>

#include <algorithm>
#include <cstring>

#include "data/readers/table.h"

namespace ds {

#define DS_FORMAT(name, maker, ...) std::unique_ptr<Format> maker(const DataOptions&, const Columns&);
#include "data/readers/formats.def"

const std::vector<FormatRow>& formats() {
    static const std::vector<FormatRow> rows = {
#define DS_FORMAT(name, maker, ...) {#name, maker, {__VA_ARGS__}},
#include "data/readers/formats.def"
    };
    return rows;
}

namespace {

std::string format_names() {
    std::string out;
    for (const FormatRow& row : formats()) out += (out.empty() ? "" : ", ") + std::string(row.name);
    return out;
}

Status check_bytes(const SourceFile& file, std::string_view whole, bool replace) {
    if (whole.starts_with("\xff\xfe") || whole.starts_with("\xfe\xff"))
        return fail(Code::E_CORRUPT, "{}: begins with the byte order mark of UTF-16; UTF-8 is accepted", file.name);
    if (whole.empty()) return ok();
    if (const void* nul = std::memchr(whole.data(), 0, whole.size()))
        return fail(Code::E_CORRUPT, "{}: found a NUL byte; text in UTF-8 is accepted",
                    file.place(static_cast<uint64_t>(static_cast<const char*>(nul) - whole.data())));
    if (replace) return ok();
    if (const size_t bad = bad_utf8(whole); bad != whole.npos)
        return fail(Code::E_CORRUPT, "{}: found byte 0x{:02x}, which is not UTF-8 here; UTF-8 is accepted, or \"utf8\": \"replace\"",
                    file.place(bad), static_cast<unsigned>(static_cast<unsigned char>(whole[bad])));
    return ok();
}

}  // namespace

Result<const FormatRow*> format_of(const DataOptions& options) {
    const std::string path = options.files.empty() ? "" : options.files[0];
    for (const FormatRow& row : formats()) {
        if (!options.format.empty()) {
            if (options.format == row.name) return &row;
            continue;
        }
        for (const std::string& ending : row.endings)
            if (path.size() > ending.size() && path.ends_with(ending)) return &row;
    }
    if (!options.format.empty()) return fail(Code::E_CONFIG, "data: format: found \"{}\", accepted are {}", options.format, format_names());
    return fail(Code::E_CONFIG, "data: format: missing, and the ending of {} does not tell it; accepted are {}", path, format_names());
}

std::string describe(const Cell& value) {
    switch (value.kind) {
    case Cell::Kind::null: return "null";
    case Cell::Kind::text: return value.text.empty() ? "an empty text" : "the text \"" + excerpt(value.text) + "\"";
    case Cell::Kind::number: return "the number " + excerpt(value.text);
    case Cell::Kind::boolean: return value.text;
    case Cell::Kind::list: return fmt::format("a list of {} items", value.items.size());
    case Cell::Kind::object: return "an object";
    }
    return "";
}

Result<std::string> SourceFile::text(Extent record) const {
    Result<std::string> text = map.copy(record.begin, record.end - record.begin);
    if (!text.ok()) return std::move(text).status().within(name);
    // The rest of the last page reads as zeros, and opening has found no NUL.
    if (text.value().find('\0') != std::string::npos)
        return fail(Code::E_IO, "{}: was changed after it was opened: there are NUL bytes behind byte {}", name, record.begin);
    return text;
}

Result<int64_t> LineNumbers::at(const MappedFile& map, uint64_t byte) {
    constexpr uint64_t kBlock = 1 << 16;
    const auto line_ends = [&](uint64_t begin, uint64_t end) -> Result<int64_t> {
        DS_TRY(const std::string bytes, map.copy(begin, end - begin));
        return std::count(bytes.begin(), bytes.end(), '\n');
    };
    const std::lock_guard lock(mutex_);
    while (first_.size() <= byte / kBlock) {
        DS_TRY(const int64_t more, line_ends((first_.size() - 1) * kBlock, first_.size() * kBlock));
        first_.push_back(first_.back() + more);
    }
    DS_TRY(const int64_t more, line_ends(byte / kBlock * kBlock, byte));
    return first_[byte / kBlock] + more;
}

std::string SourceFile::place(uint64_t byte) const {
    const Result<int64_t> line = lines->at(map, std::min<uint64_t>(byte, map.bytes().size()));
    if (!line.ok()) return fmt::format("{}: byte {}", name, byte);
    return fmt::format("{}: line {} (byte {})", name, *line, byte);
}

Result<std::vector<std::string>> expand_paths(const std::vector<std::string>& patterns) {
    std::vector<std::string> out;
    for (const std::string& pattern : patterns) {
        if (pattern.find_first_of("*?[") == pattern.npos) {
            out.push_back(pattern);
            continue;
        }
        // glob's own order follows the locale; ours must not.
        glob_t found{};
        const int rc = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
        std::vector<std::string> matches(found.gl_pathv, found.gl_pathv + (rc == 0 ? found.gl_pathc : 0));
        ::globfree(&found);
        if (rc == GLOB_NOSPACE) return fail(Code::E_OUT_OF_MEMORY, "data: files: {}: no memory for the matches", pattern);
        if (matches.empty()) return fail(Code::E_NOT_FOUND, "data: files: {}: matches no file", pattern);
        std::sort(matches.begin(), matches.end());
        out.insert(out.end(), matches.begin(), matches.end());
    }
    return out;
}

Result<Table> Table::open(const DataOptions& options, const Columns& columns) {
    DS_TRY(const std::vector<std::string> paths, expand_paths(options.files));
    if (paths.empty()) return fail(Code::E_CONFIG, "data: files: an empty list; at least one path is needed");
    DS_TRY(const FormatRow* row, format_of(options));
    Table table;
    table.format_ = row->make(options, columns);
    table.files_.reserve(paths.size());
    for (const std::string& path : paths) {
        DS_TRY(MappedFile map, MappedFile::open(path));
        const SourceFile& file = table.files_.emplace_back(SourceFile{.name = path, .number = table.files_.size(), .map = std::move(map)});
        DS_CHECK(check_bytes(file, file.map.text(), options.utf8 == "replace"));
        table.first_row_.push_back(table.size());
        DS_CHECK(table.format_->index(file, file.map.text(), table.records_));
    }
    return table;
}

const SourceFile& Table::file_of(int64_t row) const {
    const auto after = std::upper_bound(first_row_.begin(), first_row_.end(), row);
    return files_[static_cast<size_t>(after - first_row_.begin()) - 1];
}

std::string Table::place(int64_t row) const { return file_of(row).place(records_[static_cast<size_t>(row)].begin); }

Result<Record> Table::read(int64_t row) const {
    const SourceFile& file = file_of(row);
    const Extent record = records_[static_cast<size_t>(row)];
    DS_TRY(std::string text, file.text(record));
    return format_->read(file, record, std::move(text));
}

}  // namespace ds
