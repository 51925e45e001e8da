#include "data/tasks/task.h"

#include <algorithm>
#include <sstream>

#include "base/nearest.h"

namespace ds {

#define DS_TASK(name, maker, needs, also) Result<std::unique_ptr<DataTask>> maker(TaskSetup);
#include "data/tasks/tasks.def"

namespace {

const TaskRow kTasks[] = {
#define DS_TASK(name, maker, needs, also) {#name, maker, needs, also},
#include "data/tasks/tasks.def"
};

std::vector<std::string> split(std::string text, char separator) {
    std::vector<std::string> out;
    std::istringstream stream(std::move(text));
    for (std::string word; std::getline(stream, word, separator);) out.push_back(word);
    return out;
}

const char* suggested(const Columns& columns) {
    if (columns.has("words")) return "token_classification";
    if (columns.has("question")) return "question_answering";
    if (columns.has("source")) return "seq2seq";
    if (columns.has("response") || columns.has("messages")) return "causal";
    if (columns.has("label") || columns.has("labels")) return "sequence_classification";
    return "inputs";
}

bool takes_rules(const std::string& role) { return role == "label" || role == "labels" || role == "tags"; }
bool is_list(const std::string& role) { return role == "labels" || role == "tags" || role == "words" || role == "input_ids"; }

}  // namespace

Result<const TaskRow*> task_row(const std::string& name, const Columns& columns) {
    const std::string wanted = name.empty() ? suggested(columns) : name;
    std::vector<std::string> names;
    for (const TaskRow& row : kTasks) {
        if (wanted == row.name) return &row;
        names.emplace_back(row.name);
    }
    return fail(Code::E_CONFIG, "data: task: found \"{}\"; did you mean \"{}\"? accepted are {}", wanted, nearest(wanted, names),
                fmt::join(names, ", "));
}

Status check_roles(const TaskRow& row, const Columns& columns) {
    std::vector<std::string> known = split(row.also, ' ');
    for (const std::string& need : split(row.needs, ' ')) {
        const std::vector<std::string> choices = split(need, '|');
        known.insert(known.end(), choices.begin(), choices.end());
        const auto given = std::count_if(choices.begin(), choices.end(), [&](const std::string& role) { return columns.has(role); });
        if (given == 0) return fail(Code::E_CONFIG, "data: columns: task {} needs a column for {}", row.name, fmt::join(choices, " or "));
        if (given > 1) return fail(Code::E_CONFIG, "data: columns: task {} takes only one of {}", row.name, fmt::join(choices, ", "));
    }
    for (const Column& column : columns.all()) {
        if (std::find(known.begin(), known.end(), column.role) == known.end())
            return fail(Code::E_CONFIG, "data: columns: {}: task {} has no use for it; its columns are {}", column.role, row.name,
                        fmt::join(known, ", "));
        for (const auto& [rule, value] : column.rule.items()) {
            if (rule == "separator" ? is_list(column.role) : takes_rules(column.role)) continue;
            return fail(Code::E_CONFIG, "data: columns: {}: {} has no effect on this column", column.role, rule);
        }
    }
    return ok();
}

Result<std::string_view> text_of(const Cell& value, std::string_view role) {
    if (value.kind != Cell::Kind::text) return fail(Code::E_CORRUPT, "column {}: found {}, a text is accepted", role, describe(value));
    return std::string_view(value.text);
}

Result<std::string_view> filled_text_of(const Cell& value, std::string_view role) {
    DS_TRY(const std::string_view text, text_of(value, role));
    if (text.find_first_not_of(" \t\r\n") == text.npos)
        return fail(Code::E_CORRUPT, "column {}: found an empty text, a text is accepted", role);
    return text;
}

Sample to_sample(Encoding encoding) {
    Sample out;
    out.ids = std::move(encoding.ids);
    out.types = std::move(encoding.type_ids);
    out.special = std::move(encoding.special);
    out.words = std::move(encoding.word_ids);
    // The words of a pair are counted from 0 again; as groups for masking they must differ from the text's.
    for (size_t i = 0; i < out.words.size(); ++i)
        if (encoding.sequence[i] == 1 && out.words[i] >= 0) out.words[i] += 1 << 30;
    return out;
}

Result<Affixes> affixes(const Tokenizer& tokenizer) {
    DS_TRY(const Encoding encoding, tokenizer.encode("a", std::nullopt, {}));
    Affixes out;
    size_t begin = 0, end = encoding.size();
    while (begin < end && encoding.special[begin]) out.before.push_back(encoding.ids[begin++]);
    while (end > begin && encoding.special[end - 1]) --end;
    out.behind.assign(encoding.ids.begin() + static_cast<ptrdiff_t>(end), encoding.ids.end());
    return out;
}

TextInput::TextInput(const TaskSetup& setup)
    : tokenizer_(setup.tokenizer),
      text_(setup.columns.find("text")),
      pair_(setup.columns.find("pair")),
      ids_(setup.columns.find("input_ids")),
      max_length_(setup.max_length),
      vocabulary_size_(setup.vocabulary_size) {
    if (ids_) separator_ = setup.columns.all()[*ids_].rule.value("separator", ",");
}

Status TextInput::check(const Record& record) const {
    if (ids_) return given_ids(record[*ids_]).status();
    if (text_) DS_CHECK(text_of(record[*text_], "text").status());
    if (pair_) DS_CHECK(text_of(record[*pair_], "pair").status());
    return ok();
}

Result<std::vector<int32_t>> TextInput::given_ids(const Cell& value) const {
    DS_TRY(const std::vector<std::string> items, text_items(value, "input_ids", separator_));
    std::vector<int32_t> out;
    const int64_t limit = vocabulary_size_ > 0 ? vocabulary_size_ : int64_t{1} << 31;
    for (const std::string& item : items) {
        const std::optional<int64_t> id = integer_of(item);
        if (!id || *id < 0 || *id >= limit)
            return fail(Code::E_CORRUPT, "column input_ids: found {}, integers from 0 to {} are accepted", excerpt(item), limit - 1);
        out.push_back(static_cast<int32_t>(*id));
    }
    if (out.empty()) return fail(Code::E_CORRUPT, "column input_ids: the list is empty");
    return out;
}

Result<Sample> TextInput::encode(const Record& record) const {
    if (ids_) {
        Sample out;
        DS_TRY(out.ids, given_ids(record[*ids_]));
        if (max_length_ > 0 && static_cast<int64_t>(out.ids.size()) > max_length_) out.ids.resize(static_cast<size_t>(max_length_));
        out.types.assign(out.ids.size(), 0);
        if (tokenizer_)
            for (const int32_t id : out.ids) out.special.push_back(tokenizer_->is_special(id));
        return out;
    }
    DS_TRY(const std::string_view text, text_of(record[*text_], "text"));
    std::optional<std::string_view> pair;
    if (pair_) { DS_TRY(pair, text_of(record[*pair_], "pair")); }
    DS_TRY(Encoding encoding, tokenizer_->encode(text, pair, {.add_special_tokens = true, .max_length = max_length_}));
    return to_sample(std::move(encoding));
}

}  // namespace ds
