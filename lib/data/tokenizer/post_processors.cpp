// The post-processors of tokenizer.json: special tokens around the texts, type ids, offsets without blanks.
#include <algorithm>
#include <iterator>

#include "data/tokenizer/fields.h"
#include "data/tokenizer/stages.h"
#include "data/tokenizer/vocabulary.h"

namespace ds::tokenizer {

void Part::add_special(int32_t id, int32_t type, bool front) {
    const auto add = [front](auto& list, auto value) { list.insert(front ? list.begin() : list.end(), value); };
    add(ids, id);
    add(type_ids, type);
    add(words, -1);
    add(offsets, std::pair<int64_t, int64_t>(0, 0));
    add(blanks, std::pair<uint32_t, uint32_t>(0, 0));
    add(special, uint8_t{1});
    add(sequence, -1);
}

void Part::truncate(size_t length, bool left) {
    if (length >= size()) return;
    const size_t first = left ? size() - length : 0;
    const auto keep = [&](auto& values) {
        if (values.empty()) return;  // blanks are not always kept
        values.erase(values.begin() + static_cast<ptrdiff_t>(first + length), values.end());
        values.erase(values.begin(), values.begin() + static_cast<ptrdiff_t>(first));
    };
    keep(ids), keep(type_ids), keep(words), keep(offsets), keep(blanks), keep(special), keep(sequence);
}

void Part::append(Part&& other) {
    if (ids.empty()) {
        *this = std::move(other);
        return;
    }
    const auto join = [](auto& to, auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    join(ids, other.ids), join(type_ids, other.type_ids), join(words, other.words), join(offsets, other.offsets),
        join(blanks, other.blanks);
    join(special, other.special), join(sequence, other.sequence);
}

namespace {

void trim_offsets(Part& part, bool add_prefix_space) {
    for (size_t i = 0; i < part.size() && i < part.blanks.size(); ++i) {
        auto [leading, trailing] = part.blanks[i];
        auto& [begin, end] = part.offsets[i];
        if (leading > 0) {
            // One blank at the beginning may be the one that was put in front.
            if ((i == 0 || begin == 0) && add_prefix_space && leading == 1) leading = 0;
            begin = std::min(begin + leading, end);
        }
        if (trailing > 0 && end >= trailing) end = std::max(end - trailing, begin);
    }
}

class Sequence final : public PostProcessor {
public:
    explicit Sequence(std::vector<PostProcessorPtr> stages) : stages_(std::move(stages)) {}
    void apply(std::vector<Part>& parts, bool add_special_tokens) const override {
        for (const auto& stage : stages_) stage->apply(parts, add_special_tokens);
    }
    int64_t added(bool pair) const override {
        int64_t n = 0;
        for (const auto& stage : stages_) n += stage->added(pair);
        return n;
    }
    bool trims_offsets() const override {
        return std::any_of(stages_.begin(), stages_.end(), [](const auto& stage) { return stage->trims_offsets(); });
    }

private:
    std::vector<PostProcessorPtr> stages_;
};

class ByteLevel final : public PostProcessor {
public:
    ByteLevel(bool trim, bool prefix) : trim_(trim), prefix_(prefix) {}
    void apply(std::vector<Part>& parts, bool) const override {
        if (!trim_) return;
        for (Part& part : parts) trim_offsets(part, prefix_);
    }
    int64_t added(bool) const override { return 0; }
    bool trims_offsets() const override { return trim_; }

private:
    bool trim_, prefix_;
};

class Bert final : public PostProcessor {
public:
    Bert(int32_t cls, int32_t sep) : cls_(cls), sep_(sep) {}
    void apply(std::vector<Part>& parts, bool add_special_tokens) const override {
        for (size_t i = 0; add_special_tokens && i < parts.size(); ++i) {
            if (i == 0) parts[i].add_special(cls_, 0, true);
            parts[i].add_special(sep_, i == 0 ? 0 : 1, false);
        }
    }
    int64_t added(bool pair) const override { return pair ? 3 : 2; }

private:
    int32_t cls_, sep_;
};

class Roberta final : public PostProcessor {
public:
    Roberta(int32_t cls, int32_t sep, bool trim, bool prefix) : cls_(cls), sep_(sep), trim_(trim), prefix_(prefix) {}
    void apply(std::vector<Part>& parts, bool add_special_tokens) const override {
        for (size_t i = 0; i < parts.size(); ++i) {
            if (trim_) trim_offsets(parts[i], prefix_);
            std::fill(parts[i].type_ids.begin(), parts[i].type_ids.end(), 0);
            if (!add_special_tokens) continue;
            parts[i].add_special(i == 0 ? cls_ : sep_, 0, true);
            parts[i].add_special(sep_, 0, false);
        }
    }
    int64_t added(bool pair) const override { return pair ? 4 : 2; }
    bool trims_offsets() const override { return trim_; }

private:
    int32_t cls_, sep_;
    bool trim_, prefix_;
};

struct TemplatePiece {
    int text = -1;             // 0 or 1; -1: special tokens
    std::vector<int32_t> ids;  // of the special tokens
    int32_t type = 0;
};

class Template final : public PostProcessor {
public:
    Template(std::vector<TemplatePiece> single, std::vector<TemplatePiece> pair) : single_(std::move(single)), pair_(std::move(pair)) {}
    void apply(std::vector<Part>& parts, bool add_special_tokens) const override {
        if (parts.empty() || parts.size() > 2) return;  // after another template there is nothing left to fill in
        const std::vector<TemplatePiece>& pieces = parts.size() == 2 ? pair_ : single_;
        std::vector<Part> out;
        for (const TemplatePiece& piece : pieces) {
            Part part;
            if (piece.text >= 0) {
                part = parts[static_cast<size_t>(piece.text)];
                std::fill(part.type_ids.begin(), part.type_ids.end(), piece.type);
            } else if (add_special_tokens) {
                for (const int32_t id : piece.ids) part.add_special(id, piece.type, false);
            } else {
                continue;
            }
            out.push_back(std::move(part));
        }
        parts = std::move(out);
    }
    int64_t added(bool pair) const override {
        int64_t n = 0;
        for (const TemplatePiece& piece : pair ? pair_ : single_) n += static_cast<int64_t>(piece.ids.size());
        return n;
    }

private:
    std::vector<TemplatePiece> single_, pair_;
};

bool is_id(const Json& json) { return json.is_number_integer() && json >= 0 && json < kMaxIds; }

Result<std::vector<int32_t>> special_ids(const Json& stage, const std::string& name, const std::string& place) {
    const Json tokens = stage.value("special_tokens", Json::object());
    const auto found = tokens.is_object() ? tokens.find(name) : tokens.end();
    if (!tokens.is_object() || found == tokens.end())
        return fail(Code::E_CORRUPT, "{}.special_tokens: \"{}\", which the template uses, is missing", place, name);
    const std::string where = fmt::format("{}.special_tokens[\"{}\"]", place, name);
    DS_TRY(const Json* list, array_field(*found, "ids", where));
    std::vector<int32_t> ids;
    for (const Json& id : *list) {
        if (!is_id(id)) return fail(Code::E_CORRUPT, "{}.ids: {}; ids from 0 to {} are accepted", where, id.dump(), kMaxIds - 1);
        ids.push_back(id.get<int32_t>());
    }
    return ids;
}

Result<std::vector<TemplatePiece>> template_pieces(const Json& stage, const char* name, bool pair, const std::string& place) {
    DS_TRY(const Json* list, array_field(stage, name, place));
    std::vector<TemplatePiece> pieces;
    for (size_t i = 0; i < list->size(); ++i) {
        const Json& item = (*list)[i];
        const std::string where = fmt::format("{}.{}[{}]", place, name, i);
        if (!item.is_object() || item.size() != 1)
            return fail(Code::E_CORRUPT, "{}: must be {{\"Sequence\": ...}} or {{\"SpecialToken\": ...}}", where);
        const auto only = item.begin();
        const std::string& kind = only.key();
        const Json& body = only.value();
        TemplatePiece piece;
        DS_TRY(const std::string id, string_field(body, "id", where));
        DS_TRY(const int64_t type, int_field(body, "type_id", where, 0, INT32_MAX));
        piece.type = static_cast<int32_t>(type);
        if (kind == "Sequence" && (id == "A" || (id == "B" && pair))) {
            piece.text = id == "A" ? 0 : 1;
        } else if (kind == "SpecialToken") {
            DS_TRY(piece.ids, special_ids(stage, id, place));
        } else {
            return fail(Code::E_CORRUPT, "{}: {} \"{}\"; accepted are SpecialToken and Sequence {}", where, kind, id,
                        pair ? "A or B" : "A");
        }
        pieces.push_back(std::move(piece));
    }
    return pieces;
}

// ["[SEP]", 102]
Result<int32_t> token_pair(const Json& stage, const char* name, const std::string& place) {
    DS_TRY(const Json* pair, array_field(stage, name, place));
    if (pair->size() != 2 || !is_id((*pair)[1]))
        return fail(Code::E_CORRUPT, "{}.{}: must be [token, id], but is {}", place, name, pair->dump().substr(0, 100));
    return (*pair)[1].get<int32_t>();
}

}  // namespace

Result<PostProcessorPtr> post_processor_sequence(const Json& stage, const std::string& place) {
    DS_TRY(const Json* list, array_field(stage, "processors", place));
    std::vector<PostProcessorPtr> stages;
    for (size_t i = 0; i < list->size(); ++i) {
        DS_TRY(PostProcessorPtr one, make_post_processor((*list)[i], fmt::format("{}.processors[{}]", place, i)));
        stages.push_back(std::move(one));
    }
    return PostProcessorPtr(std::make_unique<Sequence>(std::move(stages)));
}
Result<PostProcessorPtr> post_processor_byte_level(const Json& stage, const std::string& place) {
    DS_TRY(const bool trim, bool_field(stage, "trim_offsets", place, true));
    DS_TRY(const bool prefix, bool_field(stage, "add_prefix_space", place, true));
    return PostProcessorPtr(std::make_unique<ByteLevel>(trim, prefix));
}
Result<PostProcessorPtr> post_processor_bert(const Json& stage, const std::string& place) {
    DS_TRY(const int32_t cls, token_pair(stage, "cls", place));
    DS_TRY(const int32_t sep, token_pair(stage, "sep", place));
    return PostProcessorPtr(std::make_unique<Bert>(cls, sep));
}
Result<PostProcessorPtr> post_processor_roberta(const Json& stage, const std::string& place) {
    DS_TRY(const int32_t cls, token_pair(stage, "cls", place));
    DS_TRY(const int32_t sep, token_pair(stage, "sep", place));
    DS_TRY(const bool trim, bool_field(stage, "trim_offsets", place, true));
    DS_TRY(const bool prefix, bool_field(stage, "add_prefix_space", place, true));
    return PostProcessorPtr(std::make_unique<Roberta>(cls, sep, trim, prefix));
}
Result<PostProcessorPtr> post_processor_template(const Json& stage, const std::string& place) {
    DS_TRY(std::vector<TemplatePiece> single, template_pieces(stage, "single", false, place));
    DS_TRY(std::vector<TemplatePiece> pair, template_pieces(stage, "pair", true, place));
    return PostProcessorPtr(std::make_unique<Template>(std::move(single), std::move(pair)));
}

Result<PostProcessorPtr> make_post_processor(const Json& stage, const std::string& place) {
    DS_TRY(const std::string type, type_of(stage, place));
#define DS_TOKENIZER_STAGE(name, function) \
    if (type == name) return function(stage, place);
#include "data/tokenizer/post_processors.def"
#undef DS_TOKENIZER_STAGE
    return fail(Code::E_UNSUPPORTED, "{}.type: the post-processor \"{}\" is not built", place, type);
}

}  // namespace ds::tokenizer
