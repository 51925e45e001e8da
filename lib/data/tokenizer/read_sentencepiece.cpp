// sentencepiece's .model files: a protocol buffer of pieces with scores and of the trainer's and the normalizer's settings, told in
// the terms of tokenizer.json as transformers' converters do for LLaMA (BPE), T5 and ALBERT (Unigram).
// Field numbers: sentencepiece_model.proto.
#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "data/tokenizer/base64.h"
#include "data/tokenizer/definition.h"
#include "data/tokenizer/fields.h"

namespace ds::tokenizer {
namespace {

constexpr const char* kMark = "▁";

// One field of a protocol buffer message: a number, or bytes.
struct Field {
    uint32_t number = 0;
    uint64_t value = 0;
    std::string_view bytes;
};

class Message {
public:
    Message(std::string_view bytes, std::string_view place) : bytes_(bytes), place_(place) {}
    bool done() const { return at_ >= bytes_.size(); }
    Result<Field> next() {
        Field field;
        const size_t begin = at_;
        DS_TRY(const uint64_t tag, varint());
        field.number = static_cast<uint32_t>(tag >> 3);
        switch (tag & 7) {
        case 0: {
            DS_TRY(field.value, varint());
            return field;
        }
        case 1: return fixed(8, field);
        case 5: return fixed(4, field);
        case 2: {
            DS_TRY(const uint64_t size, varint());
            if (size > bytes_.size() - at_)
                return fail(Code::E_CORRUPT, "{}: field {} at byte {} has {} bytes, but {} are left", place_, field.number, begin, size,
                            bytes_.size() - at_);
            field.bytes = bytes_.substr(at_, size);
            at_ += size;
            return field;
        }
        default: return fail(Code::E_CORRUPT, "{}: byte {}: wire type {} is none of a sentencepiece model", place_, begin, tag & 7);
        }
    }

private:
    Result<uint64_t> varint() {
        uint64_t value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            if (done()) return fail(Code::E_CORRUPT, "{}: ends within a number", place_);
            const auto byte = static_cast<unsigned char>(bytes_[at_++]);
            value |= static_cast<uint64_t>(byte & 0x7F) << shift;
            if (!(byte & 0x80)) return value;
        }
        return fail(Code::E_CORRUPT, "{}: byte {}: a number of more than 64 bits", place_, at_);
    }
    Result<Field> fixed(size_t size, Field field) {
        if (size > bytes_.size() - at_) return fail(Code::E_CORRUPT, "{}: ends within field {}", place_, field.number);
        std::memcpy(&field.value, bytes_.data() + at_, size);
        at_ += size;
        return field;
    }
    std::string_view bytes_, place_;
    size_t at_ = 0;
};

enum PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
enum ModelType { kUnigram = 1, kBpe = 2 };

struct SentencePiece {
    std::string_view text;
    float score = 0;
    int type = kNormal;
};

struct SentencePieceModel {
    std::vector<SentencePiece> pieces;
    int model_type = kUnigram;
    int64_t unk_id = 0;
    bool byte_fallback = false, add_dummy_prefix = true;
    std::string_view charsmap;
    std::string storage;              // the file
    std::vector<std::string> extras;  // pieces that the converter adds
};

Status read_piece(std::string_view bytes, const std::string& place, SentencePiece& piece) {
    for (Message message(bytes, place); !message.done();) {
        DS_TRY(const Field field, message.next());
        if (field.number == 1) piece.text = field.bytes;
        if (field.number == 3) piece.type = static_cast<int>(field.value);
        if (field.number == 2) {
            const auto bits = static_cast<uint32_t>(field.value);
            std::memcpy(&piece.score, &bits, sizeof bits);
        }
    }
    if (!is_utf8(piece.text)) return fail(Code::E_CORRUPT, "{}: not UTF-8", place);
    if (!(piece.score >= -1e30f && piece.score <= 1e30f))
        return fail(Code::E_CORRUPT, "{}: score {} is not a finite number", place, piece.score);
    return ok();
}

Status read_settings(std::string_view trainer, std::string_view normalizer, std::string_view place, SentencePieceModel& model) {
    for (Message message(trainer, place); !message.done();) {
        DS_TRY(const Field field, message.next());
        if (field.number == 3) model.model_type = static_cast<int>(field.value);
        if (field.number == 35) model.byte_fallback = field.value != 0;
        if (field.number == 40) model.unk_id = static_cast<int32_t>(field.value);
    }
    for (Message message(normalizer, place); !message.done();) {
        DS_TRY(const Field field, message.next());
        if (field.number == 2) model.charsmap = field.bytes;
        if (field.number == 3) model.add_dummy_prefix = field.value != 0;
    }
    if (model.model_type != kUnigram && model.model_type != kBpe)
        return fail(Code::E_UNSUPPORTED, "{}: model type {} is not built; unigram (1) and bpe (2) are", place, model.model_type);
    return ok();
}

Status read_model(std::string_view place, SentencePieceModel& model) {
    std::string_view trainer, normalizer;
    for (Message message(model.storage, place); !message.done();) {
        DS_TRY(const Field field, message.next());
        if (field.number == 1) {
            model.pieces.emplace_back();
            DS_CHECK(read_piece(field.bytes, fmt::format("{}: piece {}", place, model.pieces.size() - 1), model.pieces.back()));
            if (static_cast<int64_t>(model.pieces.size()) > kMaxIds)
                return fail(Code::E_CORRUPT, "{}: more than {} pieces", place, kMaxIds);
        }
        if (field.number == 2) trainer = field.bytes;
        if (field.number == 3) normalizer = field.bytes;
    }
    if (model.pieces.empty()) return fail(Code::E_CORRUPT, "{}: no pieces; this is no sentencepiece model", place);
    DS_CHECK(read_settings(trainer, normalizer, place, model));
    if (model.unk_id < 0 || model.unk_id >= static_cast<int64_t>(model.pieces.size()))
        return fail(Code::E_CORRUPT, "{}: unk_id {} of {} pieces", place, model.unk_id, model.pieces.size());
    return ok();
}

// Every way to join two pieces into a third, best score first: what sentencepiece's own BPE would merge.
void make_merges(const SentencePieceModel& model, ModelSpec& spec) {
    struct Merge {
        std::string_view left, right;
        float score;
        int64_t left_id, right_id;
        size_t left_length, right_length;
    };
    std::unordered_map<std::string_view, int64_t> ids;
    for (size_t i = 0; i < model.pieces.size(); ++i) ids[model.pieces[i].text] = static_cast<int64_t>(i);
    std::vector<Merge> merges;
    for (const SentencePiece& piece : model.pieces) {
        const size_t first = merges.size();
        const size_t code_points = count_code_points(piece.text);
        size_t n = 1;
        for (size_t cut = piece.text.empty() ? 0 : static_cast<size_t>(utf8_bytes(piece.text[0])); cut < piece.text.size();
             cut += static_cast<size_t>(utf8_bytes(piece.text[cut])), ++n) {
            const std::string_view left = piece.text.substr(0, cut), right = piece.text.substr(cut);
            const auto l = ids.find(left), r = ids.find(right);
            if (l != ids.end() && r != ids.end()) merges.push_back({left, right, piece.score, l->second, r->second, n, code_points - n});
        }
        std::sort(merges.begin() + static_cast<ptrdiff_t>(first), merges.end(),
                  [](const Merge& a, const Merge& b) { return std::pair(a.left_id, a.right_id) < std::pair(b.left_id, b.right_id); });
    }
    std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
        return std::tuple(a.score, a.left_length, a.right_length) > std::tuple(b.score, b.left_length, b.right_length);
    });
    for (const Merge& merge : merges) spec.merges.emplace_back(merge.left, merge.right);
}

Json piece_of(const char* text, int type) { return {{"Sequence", {{"id", text}, {"type_id", type}}}}; }
Json special_of(const std::string& token, int type) { return {{"SpecialToken", {{"id", token}, {"type_id", type}}}}; }

// before + $A + behind, and the same around $B (with the type ids given); names are pieces.
struct Frame {
    std::vector<std::string> before, behind, second_before, second_behind;
    int second_type = 0;
};

Result<Json> frame_processor(const Frame& frame, const SentencePieceModel& model, std::string_view place) {
    Json single = Json::array(), second = Json::array(), tokens = Json::object();
    const auto add = [&](Json& list, const std::vector<std::string>& names, int type) -> Status {
        for (const std::string& name : names) {
            const auto found =
                std::find_if(model.pieces.begin(), model.pieces.end(), [&](const SentencePiece& piece) { return piece.text == name; });
            if (found == model.pieces.end()) return fail(Code::E_CORRUPT, "{}: the piece \"{}\" is missing", place, name);
            list.push_back(special_of(name, type));
            tokens[name] = {{"id", name}, {"ids", {found - model.pieces.begin()}}, {"tokens", {name}}};
        }
        return ok();
    };
    DS_CHECK(add(single, frame.before, 0));
    single.push_back(piece_of("A", 0));
    DS_CHECK(add(single, frame.behind, 0));
    DS_CHECK(add(second, frame.second_before, frame.second_type));
    second.push_back(piece_of("B", frame.second_type));
    DS_CHECK(add(second, frame.second_behind, frame.second_type));
    Json pair = single;
    pair.insert(pair.end(), second.begin(), second.end());
    return Json{{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

Json sequence_of(const char* type, const char* list, Json stages) { return {{"type", type}, {list, std::move(stages)}}; }
Json replace(const char* kind, const char* pattern, const char* content) {
    return {{"type", "Replace"}, {"pattern", {{kind, pattern}}}, {"content", content}};
}
Json metaspace(const char* scheme, bool split) {
    return {{"type", "Metaspace"}, {"replacement", kMark}, {"prepend_scheme", scheme}, {"split", split}};
}

Status tell_llama(const SentencePieceModel& model, const Json& config, Definition& definition) {
    DS_TRY(const bool legacy, bool_field(config, "legacy", "tokenizer_config.json", true));
    DS_TRY(const bool prefix, bool_field(config, "add_prefix_space", "tokenizer_config.json", true));
    DS_TRY(const bool bos, bool_field(config, "add_bos_token", "tokenizer_config.json", true));
    DS_TRY(const bool eos, bool_field(config, "add_eos_token", "tokenizer_config.json", false));
    if (legacy) {
        Json stages = Json::array();
        if (prefix) stages.push_back({{"type", "Prepend"}, {"prepend", kMark}});
        stages.push_back(replace("String", " ", kMark));
        definition.normalizer = sequence_of("Sequence", "normalizers", stages);
    } else {
        definition.pre_tokenizer = metaspace(prefix ? "first" : "never", false);
    }
    Json stages = {replace("String", kMark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
    if (prefix) stages.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    definition.decoder = sequence_of("Sequence", "decoders", stages);
    Frame frame;
    frame.second_type = 1;
    if (bos) frame.before = frame.second_before = {config_token(config, "bos_token").value_or("<s>")};
    if (eos) frame.behind = frame.second_behind = {config_token(config, "eos_token").value_or("</s>")};
    DS_TRY(definition.post_processor, frame_processor(frame, model, definition.place));
    return ok();
}

Json charsmap_stage(const SentencePieceModel& model) {
    return {{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(model.charsmap)}};
}

Status tell_t5(const SentencePieceModel& model, Definition& definition) {
    Json stages = Json::array();
    if (!model.charsmap.empty()) stages.push_back(charsmap_stage(model));
    stages.push_back({{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}});
    stages.push_back(replace("Regex", " {2,}", kMark));
    definition.normalizer = sequence_of("Sequence", "normalizers", stages);
    definition.pre_tokenizer = metaspace("always", true);
    definition.decoder = metaspace("always", true);
    Frame frame;
    frame.behind = frame.second_behind = {"</s>"};
    DS_TRY(definition.post_processor, frame_processor(frame, model, definition.place));
    return ok();
}

Status tell_albert(const SentencePieceModel& model, const Json& config, Definition& definition) {
    DS_TRY(const bool lower, bool_field(config, "do_lower_case", "tokenizer_config.json", true));
    DS_TRY(const bool accents, bool_field(config, "keep_accents", "tokenizer_config.json", false));
    Json stages = {replace("String", "``", "\""), replace("String", "''", "\"")};
    if (!accents) stages.push_back({{"type", "NFKD"}}), stages.push_back({{"type", "StripAccents"}});
    if (lower) stages.push_back({{"type", "Lowercase"}});
    if (!model.charsmap.empty()) stages.push_back(charsmap_stage(model));
    stages.push_back(replace("Regex", " {2,}", " "));
    definition.normalizer = sequence_of("Sequence", "normalizers", stages);
    definition.pre_tokenizer = metaspace("always", true);
    definition.decoder = metaspace("always", true);
    Frame frame{{"[CLS]"}, {"[SEP]"}, {}, {"[SEP]"}, 1};
    DS_TRY(definition.post_processor, frame_processor(frame, model, definition.place));
    return ok();
}

bool has_piece(const SentencePieceModel& model, std::string_view text) {
    return std::any_of(model.pieces.begin(), model.pieces.end(), [&](const SentencePiece& piece) { return piece.text == text; });
}

void list_pieces(SentencePieceModel& model, Definition& definition) {
    for (size_t i = 0; i < model.pieces.size(); ++i) {
        const SentencePiece& piece = model.pieces[i];
        definition.model.vocabulary.emplace_back(piece.text, static_cast<int64_t>(i));
        definition.model.scores.push_back(piece.score);
        if (piece.type == kControl || piece.type == kUserDefined || piece.type == kUnknown)
            definition.added_tokens.push_back(added_token(piece.text, piece.type != kUserDefined));
    }
    // T5's sentinels, the last first.
    for (const std::string& extra : model.extras) {
        definition.model.vocabulary.emplace_back(extra, static_cast<int64_t>(definition.model.vocabulary.size()));
        definition.model.scores.push_back(0);
        definition.added_tokens.push_back(added_token(extra, true));
    }
}

}  // namespace

Result<Definition> read_sentencepiece(std::string_view bytes, const Json& config, std::string_view place) {
    auto storage = std::make_shared<SentencePieceModel>();
    SentencePieceModel& model = *storage;
    model.storage = bytes;
    DS_CHECK(read_model(place, model));
    Definition definition;
    definition.place = place;
    definition.storage = storage;
    definition.model.place = fmt::format("{}: model", place);
    const bool albert = has_piece(model, "[CLS]") && has_piece(model, "[SEP]");
    if (model.model_type == kUnigram && !albert) {
        DS_TRY(const int64_t extras, int_field(config, "extra_ids", "tokenizer_config.json", 0, 10000, 100));
        for (int64_t i = extras; i-- > 0;) model.extras.push_back(fmt::format("<extra_id_{}>", i));
    }
    list_pieces(model, definition);
    if (model.model_type == kBpe) {
        definition.model.type = "BPE";
        definition.model.options = {
            {"unk_token", model.pieces[static_cast<size_t>(model.unk_id)].text}, {"fuse_unk", true}, {"byte_fallback", true}};
        make_merges(model, definition.model);
        DS_CHECK(tell_llama(model, config, definition));
    } else {
        definition.model.type = "Unigram";
        definition.model.options = {{"unk_id", model.unk_id}, {"byte_fallback", model.byte_fallback}};
        DS_CHECK(albert ? tell_albert(model, config, definition) : tell_t5(model, definition));
    }
    return definition;
}

}  // namespace ds::tokenizer
