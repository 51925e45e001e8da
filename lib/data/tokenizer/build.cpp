#include "data/tokenizer/build.h"

#include <algorithm>

#include "data/tokenizer/fields.h"

namespace ds::tokenizer {
namespace {

Result<std::vector<AddedToken>> added_tokens(const Json& list, const std::string& place) {
    std::vector<AddedToken> tokens;
    if (list.is_null()) return tokens;
    if (!list.is_array()) return fail(Code::E_CORRUPT, "{}: must be a list", place);
    for (size_t i = 0; i < list.size(); ++i) {
        const std::string where = fmt::format("{}[{}]", place, i);
        if (!list[i].is_object()) return fail(Code::E_CORRUPT, "{}: must be an object", where);
        AddedToken token;
        DS_TRY(token.content, string_field(list[i], "content", where));
        DS_TRY(token.single_word, bool_field(list[i], "single_word", where, false));
        DS_TRY(token.lstrip, bool_field(list[i], "lstrip", where, false));
        DS_TRY(token.rstrip, bool_field(list[i], "rstrip", where, false));
        DS_TRY(token.special, bool_field(list[i], "special", where, false));
        DS_TRY(token.normalized, bool_field(list[i], "normalized", where, !token.special));
        DS_TRY(const int64_t id, int_field(list[i], "id", where, 0, kMaxIds - 1, 0));
        static_cast<void>(id);  // checked, but the vocabulary and the order decide, as upstream
        tokens.push_back(std::move(token));
    }
    return tokens;
}

Status build_stages(const Definition& definition, Parts& parts) {
    const auto where = [&](const char* stage) { return fmt::format("{}: {}", definition.place, stage); };
    if (!definition.normalizer.is_null()) { DS_TRY(parts.normalizer, make_normalizer(definition.normalizer, where("normalizer"))); }
    if (!definition.pre_tokenizer.is_null()) {
        DS_TRY(parts.pre_tokenizer, make_pre_tokenizer(definition.pre_tokenizer, where("pre_tokenizer")));
    }
    if (!definition.post_processor.is_null()) {
        DS_TRY(parts.post_processor, make_post_processor(definition.post_processor, where("post_processor")));
    }
    if (!definition.decoder.is_null()) { DS_TRY(parts.decoder, make_decoder(definition.decoder, where("decoder"))); }
    return ok();
}

// Tokens that continue a word: marked by a prefix ("##"), or not marked by the blank in front ("Ġ", "▁").
void find_continuing(const Definition& definition, Parts& parts) {
    const std::string_view prefix = parts.model->continuing_prefix();
    std::string_view mark;
    if (prefix.empty()) {
        const std::string stages = definition.normalizer.dump() + definition.pre_tokenizer.dump();
        if (stages.find("\"ByteLevel\"") != stages.npos) mark = "Ġ";
        else if (stages.find("▁") != stages.npos) mark = "▁";
        else return;
    }
    parts.continues.resize(static_cast<size_t>(parts.ids));
    for (int64_t i = 0; i < parts.model->vocabulary().end(); ++i) {
        const auto id = static_cast<int32_t>(i);
        if (!parts.model->vocabulary().has(id) || parts.added.find(id)) continue;
        const std::string_view token = parts.model->vocabulary().token_of(id);
        parts.continues[static_cast<size_t>(i)] =
            prefix.empty() ? !token.starts_with(mark) : token.starts_with(prefix) && token.size() > prefix.size();
    }
}

void find_roles(const Json& config, const Json& padding, Parts& parts) {
    const auto id_of = [&](std::string_view token) {
        const auto added = parts.added.id_of(token);
        return added ? added : parts.model->vocabulary().id_of(token);
    };
    const auto role = [&](const char* key, std::initializer_list<std::string_view> names) -> std::optional<int32_t> {
        if (const auto named = config_token(config, key)) return id_of(*named);
        if (config.is_object() && config.contains(key)) return std::nullopt;  // null: there is none
        if (const auto named = config_token(padding, key)) return id_of(*named);
        for (const std::string_view name : names) {
            if (const auto id = id_of(name)) return id;
        }
        return std::nullopt;
    };
    parts.roles.pad = role("pad_token", {"[PAD]", "<pad>", "<|pad|>", "<|finetune_right_pad_id|>"});
    parts.roles.mask = role("mask_token", {"[MASK]", "<mask>", "<|mask|>"});
    parts.roles.cls = role("cls_token", {"[CLS]", "<cls>"});
    parts.roles.sep = role("sep_token", {"[SEP]", "<sep>"});
    parts.roles.bos = role("bos_token", {"<s>", "<bos>", "[BOS]", "<|begin_of_text|>", "<|startoftext|>", "<|endoftext|>"});
    parts.roles.eos = role("eos_token", {"</s>", "<eos>", "[EOS]", "<|end_of_text|>", "<|endoftext|>"});
    parts.roles.unk = role("unk_token", {"[UNK]", "<unk>"});
    if (!parts.roles.unk) parts.roles.unk = parts.model->unknown();
}

Result<bool> is_left(const Json& object, const char* key, const std::string& place, bool otherwise) {
    const Result<std::string> side = string_field(object, key, place, otherwise ? "left" : "right");
    if (!side.ok()) return side.status();
    if (*side == "left" || *side == "Left") return true;
    if (*side == "right" || *side == "Right") return false;
    return fail(Code::E_CORRUPT, "{}.{}: must be \"left\" or \"right\", but is \"{}\"", place, key, side->substr(0, 100));
}

Status find_sides(const Definition& definition, const Json& config, Parts& parts) {
    const std::string padding = definition.place + ": padding", truncation = definition.place + ": truncation",
                      beside = "tokenizer_config.json";
    DS_TRY(parts.sides.pads_left, is_left(definition.padding, "direction", padding, false));
    DS_TRY(parts.sides.pads_left, is_left(config, "padding_side", beside, parts.sides.pads_left));
    DS_TRY(parts.sides.cuts_left, is_left(definition.truncation, "direction", truncation, false));
    DS_TRY(parts.sides.cuts_left, is_left(config, "truncation_side", beside, parts.sides.cuts_left));
    DS_TRY(const int64_t type, int_field(definition.padding, "pad_type_id", padding, 0, kMaxIds, 0));
    parts.sides.pad_type = static_cast<int32_t>(type);  // transformers does not read tokenizer_config.json's pad_token_type_id
    return ok();
}

}  // namespace

std::optional<std::string> config_token(const Json& config, const char* role) {
    if (!config.is_object()) return std::nullopt;
    const auto found = config.find(role);
    if (found == config.end()) return std::nullopt;
    if (found->is_string()) return found->get<std::string>();
    if (found->is_object() && found->contains("content") && (*found)["content"].is_string()) return (*found)["content"].get<std::string>();
    return std::nullopt;
}

Json added_token(std::string_view content, bool special, bool lstrip) {
    return {{"content", content}, {"single_word", false}, {"lstrip", lstrip},
            {"rstrip", false},    {"normalized", false},  {"special", special}};
}

Result<Parts> build(const Definition& definition, const Json& config) {
    Parts parts;
    DS_TRY(parts.model, make_model(definition.model));
    DS_CHECK(build_stages(definition, parts));
    DS_TRY(std::vector<AddedToken> tokens, added_tokens(definition.added_tokens, definition.place + ": added_tokens"));
    DS_CHECK(parts.added.load(std::move(tokens), *parts.model, parts.normalizer.get(), definition.place + ": added_tokens"));
    parts.model->prepare(parts.model->reads_bytes() && parts.pre_tokenizer && parts.pre_tokenizer->leave_bytes());
    parts.trims_offsets = parts.post_processor && parts.post_processor->trims_offsets();
    parts.ids = parts.model->vocabulary().end();
    for (const AddedToken& token : parts.added.all()) {
        parts.ids = std::max<int64_t>(parts.ids, token.id + 1);
        if (token.special) parts.special.insert(token.content);
    }
    find_continuing(definition, parts);
    find_roles(config, definition.padding, parts);
    DS_CHECK(find_sides(definition, config, parts));
    return parts;
}

}  // namespace ds::tokenizer
