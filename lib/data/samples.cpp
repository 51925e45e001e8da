#include "data/samples.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "data/threads.h"
#include "data/tokenizer/unicode.h"

namespace ds {
namespace {

constexpr size_t kPieceBytes = size_t{256} << 10;  // documents are tokenised in pieces of about this size
constexpr size_t kGroupBytes = size_t{8} << 20;    // pieces that are tokenised side by side

// Whether both sides of `cut` become the tokens that they are together. What a tokenizer puts before a text tells, too.
Result<bool> falls_apart(const Tokenizer& tokenizer, std::string_view text, size_t cut) {
    constexpr size_t kAround = 64;
    const auto start_of = [&](size_t byte) { return byte < text.size() ? tokenizer::previous_start(text, byte + 1) : text.size(); };
    const size_t begin = start_of(cut - std::min(cut, kAround)), end = start_of(cut + kAround);
    const auto ids = [&](size_t from, size_t to) -> Result<std::vector<int32_t>> {
        DS_TRY(Encoding encoding, tokenizer.encode(text.substr(from, to - from), std::nullopt, {.add_special_tokens = false}));
        return std::move(encoding.ids);
    };
    DS_TRY(std::vector<int32_t> parts, ids(begin, cut));
    DS_TRY(const std::vector<int32_t> behind, ids(cut, end));
    DS_TRY(const std::vector<int32_t> together, ids(begin, end));
    parts.insert(parts.end(), behind.begin(), behind.end());
    return parts == together;
}

// Cuts a long document behind line ends where no token notices. Where none is found for as long as a piece, the rest stays whole.
Result<std::vector<std::string_view>> pieces_of(std::string_view text, const Tokenizer& tokenizer) {
    std::vector<std::string_view> out;
    for (size_t cut = kPieceBytes; cut < 2 * kPieceBytes;) {
        cut = text.find('\n', cut);
        if (cut == text.npos || ++cut == text.size()) break;
        size_t next = cut;
        if (tokenizer::is_whitespace(tokenizer::next_code_point(text, next))) continue;
        DS_TRY(const bool apart, falls_apart(tokenizer, text, cut));
        if (!apart) continue;
        out.push_back(text.substr(0, cut));
        text.remove_prefix(cut);
        cut = kPieceBytes;
    }
    if (!text.empty()) out.push_back(text);
    return out;
}

uint32_t text_bytes(const Cell& value) {
    size_t bytes = value.text.size();
    for (const Cell& item : value.items) bytes += item.text.size() + 1;
    return static_cast<uint32_t>(std::min<size_t>(bytes, UINT32_MAX / 8));
}

}  // namespace

// Finding a line's number reads the file: for failures only.
Status Samples::place(Status status, int64_t row) const {
    return status.ok() ? std::move(status) : std::move(status).within(table_.place(row));
}

Result<Samples> Samples::open(Table table, std::unique_ptr<DataTask> task, const TaskSetup& setup) {
    Samples out(std::move(table), std::move(task), setup);
    DS_CHECK(out.learn_labels());
    DS_CHECK(out.select());
    out.count_ = static_cast<int64_t>(out.rows_.size());
    if (setup.options.block_length > 0) {
        DS_CHECK(out.cut_blocks());
    } else if (out.task_->counts_parts()) {
        DS_CHECK(out.count_parts());
    }
    if (out.count_ > int64_t{UINT32_MAX})
        return fail(Code::E_UNSUPPORTED, "data: {} samples, up to {} are possible", out.count_, UINT32_MAX);
    if (out.lengths_.empty() && (setup.options.tokens_per_batch > 0 || setup.options.group_by_length)) DS_CHECK(out.measure());
    return out;
}

// Over all rows, selected or not: the training and the test part of a file must agree on the classes.
Status Samples::learn_labels() {
    LabelRule* rule = task_->label_rule();
    if (!rule || !rule->learns()) return ok();
    size_t column = 0;
    while (setup_.columns.all()[column].role != "label" && setup_.columns.all()[column].role != "labels" &&
           setup_.columns.all()[column].role != "tags")
        ++column;
    for (int64_t row = 0; row < table_.size(); ++row) {
        Result<Record> record = table_.read(row);
        Status status = record.ok() ? place(rule->learn((*record)[column]), row) : record.status();
        if (!status.ok() && setup_.options.bad_rows == "error") return status;
    }
    return rule->finish_learning();
}

Status Samples::check_row(int64_t row) const {
    DS_TRY(const Record record, table_.read(row));
    return place(task_->check(record), row);
}

Status Samples::select() {
    const DataOptions& o = setup_.options;
    const bool skip_bad = o.bad_rows == "skip";
    const int64_t every = o.split.empty() ? 0 : o.split["every"].get<int64_t>();
    const bool test = every > 0 && o.split["take"] == "test";
    int64_t number = 0, left_out = 0;
    for (int64_t row = 0; row < table_.size(); ++row) {
        if (skip_bad && !check_row(row).ok()) {
            ++skipped_;
            continue;
        }
        ++number;
        if (every > 0 && (number % every == 0) != test) continue;
        if (left_out < o.skip) {
            ++left_out;
            continue;
        }
        if (o.limit > 0 && static_cast<int64_t>(rows_.size()) >= o.limit) break;
        if (o.check && !skip_bad) DS_CHECK(check_row(row));
        rows_.push_back(row);
    }
    if (rows_.empty())
        return fail(Code::E_INVALID_ARGUMENT,
                    "data: no rows are left: the files have {}, {} were skipped as bad, then split, skip ({}) and limit ({}) apply",
                    table_.size(), skipped_, o.skip, o.limit);
    return ok();
}

Status Samples::add_documents(size_t first, size_t last, const Affixes& around, std::vector<uint64_t>& starts) {
    std::vector<Record> records;
    std::vector<std::string_view> pieces;
    std::vector<std::pair<size_t, size_t>> range;  // of each document's pieces
    const std::optional<size_t> text = setup_.columns.find("text");
    std::vector<std::vector<int32_t>> ids;
    for (size_t i = first; i < last; ++i) {
        DS_TRY(Record record, table_.read(rows_[i]));
        records.push_back(std::move(record));
    }
    TaskSetup unlimited = setup_;
    unlimited.max_length = 0;
    const TextInput input(unlimited);
    for (const Record& record : records) {
        const size_t row = static_cast<size_t>(&record - records.data());
        if (Status status = input.check(record); !status.ok()) return place(std::move(status), rows_[first + row]);
        std::vector<std::string_view> cut{""};
        if (text) { DS_TRY(cut, pieces_of(record[*text].text, *setup_.tokenizer)); }
        range.emplace_back(pieces.size(), pieces.size() + cut.size());
        pieces.insert(pieces.end(), cut.begin(), cut.end());
    }
    ids.resize(pieces.size());
    const auto tokenise = [&](int64_t i) -> Status {
        const auto piece = static_cast<size_t>(i);
        if (text) {
            DS_TRY(Encoding encoding,
                   setup_.tokenizer->encode(pieces[piece], std::nullopt, {.add_special_tokens = false, .max_length = 0}));
            ids[piece] = std::move(encoding.ids);
        } else {
            DS_TRY(Sample sample, input.encode(records[piece]));
            ids[piece] = std::move(sample.ids);
        }
        return ok();
    };
    DS_CHECK(parallel_for(static_cast<int64_t>(pieces.size()), setup_.options.workers, tokenise));
    for (const auto& [begin, end] : range) {
        starts.push_back(tokens_.size());
        tokens_.insert(tokens_.end(), around.before.begin(), around.before.end());
        for (size_t piece = begin; piece < end; ++piece) tokens_.insert(tokens_.end(), ids[piece].begin(), ids[piece].end());
        tokens_.insert(tokens_.end(), around.behind.begin(), around.behind.end());
    }
    return ok();
}

Status Samples::cut_blocks() {
    const Affixes around = task_->document_affixes();
    std::vector<uint64_t> starts;  // of documents
    for (size_t first = 0; first < rows_.size();) {
        size_t bytes = 0, last = first;
        while (last < rows_.size() && bytes < kGroupBytes) bytes += table_.bytes(rows_[last++]);
        DS_CHECK(add_documents(first, last, around, starts));
        first = last;
    }
    starts.push_back(tokens_.size());
    if (setup_.options.pack) starts = {0, tokens_.size()};
    const int64_t room = setup_.options.block_length - task_->block_overhead();
    if (room < 2)
        return fail(Code::E_CONFIG, "data: block_length: found {}, {} or more is accepted", setup_.options.block_length,
                    2 + task_->block_overhead());
    // One token alone has nothing to predict from; with masking it has no context either.
    for (size_t document = 0; document + 1 < starts.size(); ++document)
        for (uint64_t at = starts[document]; at + 1 < starts[document + 1]; at += static_cast<uint64_t>(room))
            blocks_.push_back({at, std::min<uint64_t>(static_cast<uint64_t>(room), starts[document + 1] - at)});
    for (const Block& block : blocks_)
        lengths_.push_back(static_cast<uint32_t>(block.length + static_cast<uint64_t>(task_->block_overhead())));
    count_ = static_cast<int64_t>(blocks_.size());
    if (count_ == 0) return fail(Code::E_INVALID_ARGUMENT, "data: the text has {} tokens, too few for a row", tokens_.size());
    return ok();
}

Status Samples::count_parts() {
    std::vector<int64_t> parts(rows_.size());
    const auto count = [&](int64_t i) -> Status {
        const int64_t row = rows_[static_cast<size_t>(i)];
        DS_TRY(const Record record, table_.read(row));
        DS_CHECK(place(task_->check(record), row));
        Result<int64_t> found = task_->parts(record);
        if (!found.ok()) return place(std::move(found).status(), row);
        parts[static_cast<size_t>(i)] = *found;
        return ok();
    };
    DS_CHECK(parallel_for(static_cast<int64_t>(rows_.size()), setup_.options.workers, count));
    first_part_.push_back(0);
    for (const int64_t n : parts) first_part_.push_back(first_part_.back() + n);
    count_ = first_part_.back();
    return ok();
}

Status Samples::measure() {
    const bool tokens = setup_.options.tokens_per_batch > 0;
    lengths_.resize(static_cast<size_t>(count_));
    return parallel_for(count_, setup_.options.workers, [&](int64_t i) -> Status {
        uint32_t& length = lengths_[static_cast<size_t>(i)];
        if (tokens || !first_part_.empty()) {
            DS_TRY(const Sample sample, get(i));
            length = static_cast<uint32_t>(sample.ids.size() + (task_->target() == Target::sequence ? sample.labels.size() : 0));
            return ok();
        }
        DS_TRY(const Record record, table_.read(rows_[static_cast<size_t>(i)]));
        for (size_t column = 0; column < record.size(); ++column) {
            const std::string& role = setup_.columns.all()[column].role;
            if (!role.starts_with(metric_role("")) && role != "label" && role != "labels" && role != "tags")
                length += text_bytes(record[column]);
        }
        return ok();
    });
}

Result<std::vector<double>> Samples::values_of(const CurriculumMetric& metric) const {
    std::vector<double> values(static_cast<size_t>(count_));
    if (metric.name == "seqlen") {
        for (int64_t i = 0; i < count_; ++i) {
            if (!blocks_.empty()) {
                values[static_cast<size_t>(i)] = lengths_[static_cast<size_t>(i)];
                continue;
            }
            DS_TRY(const Sample sample, get(i));
            values[static_cast<size_t>(i)] = static_cast<double>(sample.ids.size());
        }
        return values;
    }
    const size_t column = *setup_.columns.find(metric_role(metric.name));
    for (int64_t i = 0; i < count_; ++i) {
        const int64_t at = first_part_.empty() ? i : std::upper_bound(first_part_.begin(), first_part_.end(), i) - first_part_.begin() - 1;
        const int64_t row = rows_[static_cast<size_t>(at)];
        DS_TRY(const Record record, table_.read(row));
        const Cell& cell = record[column];
        char* end = nullptr;
        const double value = std::strtod(cell.text.c_str(), &end);
        if ((cell.kind != Cell::Kind::number && cell.kind != Cell::Kind::text) || cell.text.empty() || *end != 0 || !std::isfinite(value))
            return place(
                fail(Code::E_INVALID_ARGUMENT, "curriculum metric {}: found {}, a number is accepted", metric.name, describe(cell)), row);
        values[static_cast<size_t>(i)] = value;
    }
    return values;
}

// A tokenizer that knows more tokens than the model would read past the model's embedding.
Status Samples::check_ids(const Sample& sample) const {
    if (setup_.vocabulary_size == 0 || sample.ids.empty()) return ok();
    const int32_t largest = *std::max_element(sample.ids.begin(), sample.ids.end());
    if (largest < setup_.vocabulary_size) return ok();
    return fail(Code::E_INVALID_ARGUMENT, "token id {} (\"{}\") is outside the model's vocabulary of {}; another tokenizer is needed",
                largest, setup_.tokenizer ? setup_.tokenizer->token_of(largest) : "", setup_.vocabulary_size);
}

int64_t Samples::row_of(int64_t index) const {
    return first_part_.empty() ? index : std::upper_bound(first_part_.begin(), first_part_.end(), index) - first_part_.begin() - 1;
}

Result<Sample> Samples::get(int64_t index) const {
    if (!blocks_.empty()) {
        const Block block = blocks_[static_cast<size_t>(index)];
        const auto begin = tokens_.begin() + static_cast<ptrdiff_t>(block.begin);
        DS_TRY(Sample sample, task_->block(std::vector<int32_t>(begin, begin + static_cast<ptrdiff_t>(block.length))));
        DS_CHECK(check_ids(sample));
        return sample;
    }
    const int64_t at = row_of(index), part = first_part_.empty() ? 0 : index - first_part_[static_cast<size_t>(at)];
    const int64_t row = rows_[static_cast<size_t>(at)];
    DS_TRY(const Record record, table_.read(row));
    if (!setup_.options.check) DS_CHECK(place(task_->check(record), row));
    Result<Sample> sample = task_->sample(record, part);
    if (!sample.ok()) return place(std::move(sample).status(), row);
    DS_CHECK(place(check_ids(*sample), row));
    return sample;
}

}  // namespace ds
