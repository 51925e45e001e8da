// The options of data.def as a struct, checked: unknown keys, types, choices, and options that the format or task has no use for.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace ds {

namespace option_types {
using Text = std::string;
using Int = int64_t;
using Bool = bool;
using Real = double;
using Paths = std::vector<std::string>;
using Object = Json;
using OptionalBool = std::optional<bool>;
using OptionalInt = std::optional<int64_t>;

struct Options {
#define DS_DATA_KEY(type, name, standard, applies, meaning) type name = standard;
#include "data/data.def"
};
}  // namespace option_types

using DataOptions = option_types::Options;

// Parses and checks everything that does not need the files.
Result<DataOptions> parse_data_options(const Json& options);
// An error for a given option that neither `format` nor `task` uses.
Status check_options_apply(const Json& options, const std::string& format, const std::string& task);

// Where a role's value comes from.
struct Column {
    std::string role;
    std::variant<int64_t, std::string> source;  // index from 0, or name
    Json rule = Json::object();                 // the other keys of a column object
    std::string source_text() const;            // "3" or "\"text\""
};

// The columns that a record is read into; values keep this order.
class Columns {
public:
    static Result<Columns> parse(const Json& columns);
    std::optional<size_t> find(std::string_view role) const;
    bool has(std::string_view role) const { return find(role).has_value(); }
    const std::vector<Column>& all() const { return columns_; }
    void add(Column column) { columns_.push_back(std::move(column)); }
    bool all_by_index() const;

private:
    std::vector<Column> columns_;
};

// "data: colums: unknown key; did you mean columns?" unless every key of `object` is known. place: "data", "data: split" ...
Status check_keys(const Json& object, const std::string& place, const std::vector<std::string>& known);
// A number without sign, fraction or exponent; JSON made by a program may hold it as a signed integer.
std::optional<uint64_t> whole_number(const Json& value);
// "found true", "found \"x\"": a value in an error message, cut to a readable length.
std::string excerpt(std::string_view text);

}  // namespace ds
