// Records of files, read at random: the files stay mapped, and opening finds where every record begins and ends. A file that is cut short
// while it is open is an error of the read that meets it.
//
// A format (one file in this folder, one row in formats.def) finds the records of a file and reads one of them into values, in the
// order of the asked columns. Reading is const and may happen on many threads.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "data/options.h"

namespace ds {

struct Cell {
    enum class Kind { null, text, number, boolean, list, object };
    Kind kind = Kind::null;
    std::string text;         // of numbers too, as the file spells them; "true" and "false"; of objects their JSON
    std::vector<Cell> items;  // of a list

    static Cell of(std::string text) { return {Kind::text, std::move(text), {}}; }
};
using Record = std::vector<Cell>;

std::string describe(const Cell& value);  // "the number 3", "the text \"x\""

struct Extent {
    uint64_t begin = 0, end = 0;  // bytes in the file
};

// Line numbers of a file's bytes. Line ends are counted once a block, as far as is asked; any thread may ask.
class LineNumbers {
public:
    Result<int64_t> at(const MappedFile& map, uint64_t byte);

private:
    std::mutex mutex_;
    std::vector<int64_t> first_{1};  // of each block
};

struct SourceFile {
    std::string name;   // as the options gave it
    size_t number = 0;  // in the order of reading
    MappedFile map;
    std::unique_ptr<LineNumbers> lines = std::make_unique<LineNumbers>();

    Result<std::string> text(Extent record) const;
    std::string place(uint64_t byte) const;  // "reviews.csv: line 7 (byte 312)"
};

class Format {
public:
    virtual ~Format() = default;
    // Appends the records of the file, which has this text. Called once a file, in order, before any read.
    virtual Status index(const SourceFile& file, std::string_view text, std::vector<Extent>& records) = 0;
    // `text` is the record's.
    virtual Result<Record> read(const SourceFile& file, Extent record, std::string text) const = 0;
};

using MakeFormat = std::unique_ptr<Format> (*)(const DataOptions&, const Columns&);
struct FormatRow {
    const char* name;
    MakeFormat make;
    std::vector<std::string> endings;
};
const std::vector<FormatRow>& formats();
// The options' format, else what the first file's ending says.
Result<const FormatRow*> format_of(const DataOptions& options);

class Table {
public:
    static Result<Table> open(const DataOptions& options, const Columns& columns);
    int64_t size() const { return static_cast<int64_t>(records_.size()); }
    Result<Record> read(int64_t row) const;
    std::string place(int64_t row) const;  // of the row's first byte
    uint64_t bytes(int64_t row) const { return records_[static_cast<size_t>(row)].end - records_[static_cast<size_t>(row)].begin; }

private:
    const SourceFile& file_of(int64_t row) const;
    std::vector<SourceFile> files_;
    std::vector<int64_t> first_row_;  // of each file
    std::vector<Extent> records_;
    std::unique_ptr<Format> format_;
};

// The paths that a list of paths and patterns stands for; one that matches nothing is an error.
Result<std::vector<std::string>> expand_paths(const std::vector<std::string>& patterns);

// Where the text begins after a byte order mark, which must not become part of a column's name or of the text.
inline size_t after_byte_order_mark(std::string_view text) { return text.starts_with("\xef\xbb\xbf") ? 3 : 0; }

// The first byte that is not valid UTF-8, or npos.
size_t bad_utf8(std::string_view text);
// Every maximal bad part becomes U+FFFD, as the Unicode standard recommends.
std::string replace_bad_utf8(std::string_view text);

}  // namespace ds
