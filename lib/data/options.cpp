#include "data/options.h"

#include <algorithm>
#include <sstream>

#include "base/nearest.h"
#include "data/data.h"

namespace ds {
namespace {

using namespace option_types;

constexpr int64_t kLargest = int64_t{1} << 40;

Status wrong_type(const char* name, const Json& value, const char* accepted) {
    return fail(Code::E_CONFIG, "data: {}: found {}, {} is accepted", name, excerpt(value.dump()), accepted);
}

Status read(const char* name, const Json& value, std::string& out) {
    if (!value.is_string()) return wrong_type(name, value, "a string");
    out = value.get<std::string>();
    return ok();
}
Status read(const char* name, const Json& value, int64_t& out) {
    const std::optional<uint64_t> number = whole_number(value);
    if (!number || *number > static_cast<uint64_t>(kLargest)) return wrong_type(name, value, "an integer from 0 to 2^40");
    out = static_cast<int64_t>(*number);
    return ok();
}
Status read(const char* name, const Json& value, bool& out) {
    if (!value.is_boolean()) return wrong_type(name, value, "true or false");
    out = value.get<bool>();
    return ok();
}
Status read(const char* name, const Json& value, double& out) {
    if (!value.is_number() || value.get<double>() < 0 || value.get<double>() > 1) return wrong_type(name, value, "a number from 0 to 1");
    out = value.get<double>();
    return ok();
}
Status read(const char* name, const Json& value, Json& out) {
    if (!value.is_object()) return wrong_type(name, value, "an object");
    out = value;
    return ok();
}
template <class T>
Status read(const char* name, const Json& value, std::optional<T>& out) {
    if (value.is_null()) return ok();
    return read(name, value, out.emplace());
}
Status read(const char* name, const Json& value, Paths& out) {
    const Json list = value.is_string() ? Json::array({value}) : value;
    if (!list.is_array()) return wrong_type(name, value, "a path or a list of paths");
    for (const Json& path : list) {
        if (!path.is_string() || path.get_ref<const std::string&>().empty()) return wrong_type(name, value, "a path or a list of paths");
        out.push_back(path.get<std::string>());
    }
    return ok();
}

struct KeyRow {
    const char* name;
    const char* type;
    const char* standard;
    const char* applies;
    const char* meaning;
};
constexpr KeyRow kKeys[] = {
#define DS_DATA_KEY(type, name, standard, applies, meaning) {#name, #type, #standard, applies, meaning},
#include "data/data.def"
};
struct NameRow {
    const char* name;
    const char* meaning;
};
constexpr NameRow kRoles[] = {
#define DS_DATA_ROLE(name, meaning) {#name, meaning},
#include "data/data.def"
};
constexpr NameRow kRules[] = {
#define DS_DATA_RULE(name, meaning) {#name, meaning},
#include "data/data.def"
};

template <class Rows>
std::vector<std::string> names(const Rows& rows) {
    std::vector<std::string> out;
    for (const auto& row : rows) out.emplace_back(row.name);
    return out;
}

Status one_of(const char* name, const std::string& value, std::vector<std::string> accepted) {
    if (std::find(accepted.begin(), accepted.end(), value) != accepted.end()) return ok();
    return fail(Code::E_CONFIG, "data: {}: found \"{}\", accepted are {}", name, value,
                fmt::format("\"{}\"", fmt::join(accepted, "\", \"")));
}

Status check_pair(const Json& object, const std::string& place, const char* number, const char* other) {
    if (object.empty()) return ok();
    DS_CHECK(check_keys(object, place, {number, other}));
    for (const char* key : {number, other})
        if (!object.contains(key)) return fail(Code::E_CONFIG, "{}: {} is missing; both {} and {} are needed", place, key, number, other);
    if (!whole_number(object[number]))
        return fail(Code::E_CONFIG, "{}: {}: found {}, an integer from 0 is accepted", place, number, excerpt(object[number].dump()));
    return ok();
}

Status check_choices(const DataOptions& o) {
    DS_CHECK(one_of("utf8", o.utf8, {"error", "replace"}));
    DS_CHECK(one_of("bad_rows", o.bad_rows, {"error", "skip"}));
    DS_CHECK(one_of("padding", o.padding, {"longest", "max_length"}));
    DS_CHECK(one_of("dtype", o.dtype, {"i64", "i32"}));
    DS_CHECK(one_of("align", o.align, {"first", "all"}));
    if (o.bad_rows == "skip" && !o.check) return fail(Code::E_CONFIG, "data: bad_rows: \"skip\" needs \"check\": true");
    if (o.delimiter.size() > 1 || o.delimiter == "\"" || o.delimiter == "\n" || o.delimiter == "\r")
        return fail(Code::E_CONFIG, "data: delimiter: found {}, one character other than a quote or a line end is accepted",
                    excerpt(Json(o.delimiter).dump()));
    if (o.document.empty())
        return fail(Code::E_CONFIG, "data: document: empty, \"file\", \"line\", \"paragraph\" or a separator is accepted");
    if (o.pad_to_multiple_of < 1) return fail(Code::E_CONFIG, "data: pad_to_multiple_of: found 0, 1 or more is accepted");
    if (o.group_batches < 1) return fail(Code::E_CONFIG, "data: group_batches: found 0, 1 or more is accepted");
    if (o.max_record_bytes < 1) return fail(Code::E_CONFIG, "data: max_record_bytes: found 0, 1 or more is accepted");
    if (o.workers > 256) return fail(Code::E_CONFIG, "data: workers: found {}, 0 to 256 is accepted", o.workers);
    if (o.prefetch < 1 || o.prefetch > 4096) return fail(Code::E_CONFIG, "data: prefetch: found {}, 1 to 4096 is accepted", o.prefetch);
    if (o.mask_replace + o.mask_random > 1)
        return fail(Code::E_CONFIG, "data: mask_replace {} and mask_random {} add up to more than 1", o.mask_replace, o.mask_random);
    if (o.tokens_per_batch && o.batch_size)
        return fail(Code::E_CONFIG, "data: batch_size {} and tokens_per_batch {}: give one of them", o.batch_size, o.tokens_per_batch);
    return ok();
}

Status check_objects(const DataOptions& o) {
    DS_CHECK(check_pair(o.split, "data: split", "every", "take"));
    if (!o.split.empty()) {
        if (o.split["every"].get<uint64_t>() < 2)
            return fail(Code::E_CONFIG, "data: split: every: found {}, 2 or more is accepted", o.split["every"].get<uint64_t>());
        if (!o.split["take"].is_string()) return wrong_type("split: take", o.split["take"], "\"train\" or \"test\"");
        DS_CHECK(one_of("split: take", o.split["take"].get<std::string>(), {"train", "test"}));
    }
    DS_CHECK(check_pair(o.shard, "data: shard", "rank", "count"));
    if (!o.shard.empty()) {
        const uint64_t count = whole_number(o.shard["count"]).value_or(0);
        if (count > (1u << 20) || *whole_number(o.shard["rank"]) >= count)
            return fail(Code::E_CONFIG, "data: shard: rank {} of count {}: a rank from 0 to count - 1 is accepted", o.shard["rank"].dump(),
                        o.shard["count"].dump());
    }
    return ok();
}

}  // namespace

std::optional<uint64_t> whole_number(const Json& value) {
    if (value.is_number_unsigned()) return value.get<uint64_t>();
    if (value.is_number_integer() && value.get<int64_t>() >= 0) return static_cast<uint64_t>(value.get<int64_t>());
    return std::nullopt;
}

std::string excerpt(std::string_view text) {
    if (text.size() <= 60) return std::string(text);
    size_t end = 57;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
    return std::string(text.substr(0, end)) + "...";
}

Status check_keys(const Json& object, const std::string& place, const std::vector<std::string>& known) {
    for (const auto& [key, value] : object.items()) {
        if (std::find(known.begin(), known.end(), key) != known.end()) continue;
        return fail(Code::E_CONFIG, "{}: {}: unknown key; did you mean {}?", place, key, nearest(key, known));
    }
    return ok();
}

Result<DataOptions> parse_data_options(const Json& options) {
    if (!options.is_object()) return fail(Code::E_CONFIG, "data: found {}, an object is accepted", excerpt(options.dump()));
    DS_CHECK(check_keys(options, "data", names(kKeys)));
    DataOptions out;
#define DS_DATA_KEY(type, name, standard, applies, meaning) \
    if (options.contains(#name)) DS_CHECK(read(#name, options[#name], out.name));
#include "data/data.def"
    if (out.files.empty()) return fail(Code::E_CONFIG, "data: files: missing; a path, a list of paths or a pattern is needed");
    if (options.contains("group_batches") && !out.group_by_length)
        return fail(Code::E_CONFIG, "data: group_batches: has no effect without \"group_by_length\": true");
    if (options.contains("prefetch") && out.workers == 0) return fail(Code::E_CONFIG, "data: prefetch: has no effect with \"workers\": 0");
    DS_CHECK(check_choices(out));
    DS_CHECK(check_objects(out));
    return out;
}

Status check_options_apply(const Json& options, const std::string& format, const std::string& task) {
    for (const KeyRow& row : kKeys) {
        if (!options.contains(row.name) || !*row.applies) continue;
        std::istringstream words{std::string(row.applies)};
        std::string kind, word;
        words >> kind;
        const std::string& actual = kind == "format" ? format : task;
        bool listed = false;
        while (words >> word) listed |= word == actual;
        if (!listed)
            return fail(Code::E_CONFIG, "data: {}: has no effect with {} \"{}\"; it belongs to {}", row.name, kind, actual, row.applies);
    }
    return ok();
}

std::string Column::source_text() const {
    if (const int64_t* index = std::get_if<int64_t>(&source)) return std::to_string(*index);
    return "\"" + std::get<std::string>(source) + "\"";
}

Result<Columns> Columns::parse(const Json& columns) {
    DS_CHECK(check_keys(columns, "data: columns", names(kRoles)));
    Columns out;
    for (const auto& [role, value] : columns.items()) {
        Column column{role, int64_t{0}, Json::object()};
        const Json* source = &value;
        if (value.is_object()) {
            std::vector<std::string> known = names(kRules);
            known.emplace_back("column");
            DS_CHECK(check_keys(value, "data: columns: " + role, known));
            if (!value.contains("column"))
                return fail(Code::E_CONFIG, "data: columns: {}: column is missing; a name or an index is needed", role);
            source = &value["column"];
            column.rule = value;
            column.rule.erase("column");
        }
        if (whole_number(*source).value_or(4096) < 4096) column.source = source->get<int64_t>();
        else if (source->is_string()) column.source = source->get<std::string>();
        else
            return fail(Code::E_CONFIG, "data: columns: {}: found {}, a name or an index from 0 to 4095 is accepted", role,
                        excerpt(source->dump()));
        out.add(std::move(column));
    }
    return out;
}

std::optional<size_t> Columns::find(std::string_view role) const {
    for (size_t i = 0; i < columns_.size(); ++i)
        if (columns_[i].role == role) return i;
    return std::nullopt;
}

bool Columns::all_by_index() const {
    return std::all_of(columns_.begin(), columns_.end(), [](const Column& c) { return std::holds_alternative<int64_t>(c.source); });
}

Json describe_data_options() {
    Json out = Json::array();
    for (const KeyRow& row : kKeys)
        out.push_back(
            {{"name", row.name}, {"type", row.type}, {"default", row.standard}, {"applies", row.applies}, {"meaning", row.meaning}});
    for (const NameRow& row : kRoles)
        out.push_back({{"name", std::string("columns.") + row.name}, {"type", "Column"}, {"meaning", row.meaning}});
    for (const NameRow& row : kRules)
        out.push_back({{"name", std::string("columns.<role>.") + row.name}, {"type", "Rule"}, {"meaning", row.meaning}});
    return out;
}

}  // namespace ds
