// The line of stages: added tokens, normalizer, pre-tokenizer, model, post-processor; and back through the decoder.
#include "data/tokenizer.h"

#include <algorithm>

#include "data/tokenizer/build.h"

namespace ds {

using tokenizer::AlignedText;
using tokenizer::Part;
using tokenizer::Piece;
using tokenizer::Pieces;

namespace {

constexpr size_t kMaxText = size_t{1} << 31;  // places are kept in 31 bits

// The text cut at added tokens, normalised, and cut into words.
Status split_into_words(const tokenizer::Parts& parts, std::string_view text, Pieces& pieces) {
    AlignedText original = AlignedText::of(text);
    std::vector<Piece> list;
    parts.added.split_original(text, list);
    if (!parts.normalizer && !parts.added.has_normalized()) {
        pieces.aligned = std::move(original);
        pieces.list = std::move(list);
    } else if (list.size() == 1 && list[0].token == tokenizer::kNoToken) {
        if (parts.normalizer) DS_CHECK(parts.normalizer->apply(original));
        pieces.aligned = std::move(original);
        parts.added.split_normalized(pieces.aligned.text, pieces.list);
    } else {
        pieces.aligned.clear();
        for (const Piece& piece : list) {
            const auto base = static_cast<uint32_t>(pieces.aligned.text.size());
            AlignedText stretch;
            stretch.clear();
            stretch.append(original, piece.begin, piece.end);
            const size_t first = pieces.list.size();
            if (piece.token == tokenizer::kNoToken) {
                if (parts.normalizer) DS_CHECK(parts.normalizer->apply(stretch));
                std::replace(stretch.at.begin(), stretch.at.end(), tokenizer::kFront, original.place(piece.begin) | tokenizer::kEmptyPlace);
                parts.added.split_normalized(stretch.text, pieces.list);
            } else {
                pieces.list.push_back({0, piece.end - piece.begin, piece.token});
            }
            for (size_t i = first; i < pieces.list.size(); ++i) pieces.list[i].begin += base, pieces.list[i].end += base;
            pieces.aligned.append(stretch, 0, stretch.text.size());
        }
    }
    if (pieces.aligned.text.size() >= kMaxText)
        return fail(Code::E_INVALID_ARGUMENT, "tokenizer: the normalised text has {} bytes; at most {} are accepted",
                    pieces.aligned.text.size(), kMaxText);
    return parts.pre_tokenizer ? parts.pre_tokenizer->apply(pieces) : ok();
}

// Counts the blanks that a token's text begins and ends with; "Ġ" stands for one.
std::pair<uint32_t, uint32_t> blanks_of(std::string_view token) {
    const auto is_blank = [](char32_t c) { return c == 0x120 || tokenizer::is_whitespace(c); };
    uint32_t leading = 0, trailing = 0;
    for (size_t i = 0; i < token.size() && is_blank(tokenizer::next_code_point(token, i));) ++leading;
    for (size_t end = token.size(); end > 0; ++trailing) {
        const size_t start = tokenizer::previous_start(token, end);
        size_t i = start;
        if (!is_blank(tokenizer::next_code_point(token, i))) break;
        end = start;
    }
    return {leading, trailing};
}

// Appends the text's tokens. word < 0: words are numbered; else all are part of that one.
Status encode_text(const tokenizer::Parts& parts, std::string_view text, int32_t sequence, int32_t word, Part& part) {
    if (text.size() >= kMaxText)
        return fail(Code::E_INVALID_ARGUMENT, "tokenizer: a text of {} bytes; at most {} are accepted", text.size(), kMaxText);
    if (text.empty()) return ok();
    std::string repaired;
    if (!tokenizer::is_utf8(text)) text = repaired = tokenizer::repair_utf8(text);
    Pieces pieces;
    DS_CHECK(split_into_words(parts, text, pieces));

    std::vector<tokenizer::Token> tokens;
    const size_t first = part.size(), estimate = first + pieces.list.size() * 2;
    part.ids.reserve(estimate), part.offsets.reserve(estimate), part.words.reserve(estimate);
    const AlignedText& aligned = pieces.aligned;
    for (size_t i = 0; i < pieces.list.size(); ++i) {
        const Piece& piece = pieces.list[i];
        tokens.clear();
        const std::string_view bytes = pieces.text(piece);
        if (piece.token != tokenizer::kNoToken) tokens.push_back({piece.token, 0, piece.end - piece.begin});
        else DS_CHECK(pieces.raw_bytes ? parts.model->tokenize_bytes(bytes, tokens) : parts.model->tokenize(bytes, tokens));
        for (const tokenizer::Token& token : tokens) {
            const uint32_t begin = std::min(piece.begin + token.begin, piece.end - 1), end = std::min(piece.begin + token.end, piece.end);
            part.ids.push_back(token.id);
            part.offsets.emplace_back(aligned.begin_of(begin), aligned.end_of(std::max(end, begin + 1) - 1));
            part.words.push_back(word < 0 ? static_cast<int32_t>(i) : word);
            if (!parts.trims_offsets) continue;
            const bool own_text =
                piece.token != tokenizer::kNoToken || (parts.model->unknown_is_text() && token.id == parts.model->unknown());
            part.blanks.push_back(
                blanks_of(own_text ? bytes.substr(token.begin, token.end - token.begin) : parts.model->vocabulary().token_of(token.id)));
        }
    }
    part.type_ids.resize(part.size(), sequence);
    part.special.resize(part.size(), 0);
    part.sequence.resize(part.size(), sequence);
    return ok();
}

// Cuts one end of one text, or of the longer one first, until both fit.
Status truncate(Part& first, Part* second, size_t room, EncodeOptions::Cut cut, bool left) {
    const size_t total = first.size() + (second ? second->size() : 0);
    if (total <= room) return ok();
    if (cut != EncodeOptions::Cut::longest_first) {
        Part* target = cut == EncodeOptions::Cut::only_first ? &first : second;
        if (!target) return fail(Code::E_INVALID_ARGUMENT, "tokenizer: truncation of the second text only, but there is no second text");
        if (target->size() <= total - room)
            return fail(Code::E_INVALID_ARGUMENT, "tokenizer: {} tokens are too many, but the {} text, which alone may be cut, has only {}",
                        total - room, target == &first ? "first" : "second", target->size());
        target->truncate(target->size() - (total - room), left);
        return ok();
    }
    if (!second) {
        first.truncate(room, left);
        return ok();
    }
    size_t shorter = std::min(first.size(), second->size());
    size_t longer = shorter > room ? shorter : std::max(shorter, room - shorter);
    if (shorter + longer > room) {
        shorter = room / 2;
        longer = shorter + room % 2;
    }
    const bool swapped = first.size() > second->size();
    first.truncate(swapped ? longer : shorter, left);
    second->truncate(swapped ? shorter : longer, left);
    return ok();
}

Result<Encoding> finish(const tokenizer::Parts& parts, Part first, std::optional<Part> second, const EncodeOptions& options) {
    if (options.max_length < 0)
        return fail(Code::E_INVALID_ARGUMENT, "tokenizer: max_length must not be negative, but is {}", options.max_length);
    if (options.max_length > 0) {
        const int64_t added = options.add_special_tokens && parts.post_processor ? parts.post_processor->added(second.has_value()) : 0;
        if (added > options.max_length)
            return fail(Code::E_INVALID_ARGUMENT, "tokenizer: max_length {} leaves no room: {} special tokens are added",
                        options.max_length, added);
        DS_CHECK(truncate(first, second ? &*second : nullptr, static_cast<size_t>(options.max_length - added), options.cut,
                          options.cut_left.value_or(parts.sides.cuts_left)));
    }
    std::vector<Part> all;
    all.push_back(std::move(first));
    if (second) all.push_back(std::move(*second));
    if (parts.post_processor) parts.post_processor->apply(all, options.add_special_tokens);
    Part joined;
    for (Part& part : all) joined.append(std::move(part));
    return Encoding{std::move(joined.ids),     std::move(joined.type_ids), std::move(joined.offsets),
                    std::move(joined.special), std::move(joined.words),    std::move(joined.sequence)};
}

}  // namespace

struct Tokenizer::Impl : tokenizer::Parts {
    explicit Impl(tokenizer::Parts parts) : Parts(std::move(parts)) {}
};

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Result<std::shared_ptr<const Tokenizer>> Tokenizer::load(const std::filesystem::path& path) {
    DS_TRY(tokenizer::Parts parts, tokenizer::load(path));
    return std::shared_ptr<const Tokenizer>(new Tokenizer(std::make_unique<const Impl>(std::move(parts))));
}

Result<std::shared_ptr<const Tokenizer>> Tokenizer::from_json(std::string_view text, std::string_view place) {
    DS_TRY(tokenizer::Definition definition, tokenizer::read_tokenizer_json(text, place));
    DS_TRY(tokenizer::Parts parts, tokenizer::build(definition, Json::object()));
    return std::shared_ptr<const Tokenizer>(new Tokenizer(std::make_unique<const Impl>(std::move(parts))));
}

Result<Encoding> Tokenizer::encode(std::string_view text, std::optional<std::string_view> pair, const EncodeOptions& options) const {
    Part first;
    DS_CHECK(encode_text(*impl_, text, 0, -1, first));
    std::optional<Part> second;
    if (pair) {
        second.emplace();
        DS_CHECK(encode_text(*impl_, *pair, 1, -1, *second));
    }
    return finish(*impl_, std::move(first), std::move(second), options);
}

Result<Encoding> Tokenizer::encode_words(std::span<const std::string> words, const EncodeOptions& options) const {
    Part part;
    for (size_t i = 0; i < words.size(); ++i) DS_CHECK(encode_text(*impl_, words[i], 0, static_cast<int32_t>(i), part));
    return finish(*impl_, std::move(part), std::nullopt, options);
}

Result<std::string> Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
    std::vector<std::string> tokens;
    tokens.reserve(ids.size());
    for (const int32_t id : ids) {
        if (const tokenizer::AddedToken* added = impl_->added.find(id)) {
            if (!skip_special || !impl_->special.contains(added->normal_form)) tokens.push_back(added->normal_form);
        } else if (impl_->model->vocabulary().has(id)) {
            tokens.emplace_back(impl_->model->vocabulary().token_of(id));
        }
    }
    if (impl_->decoder && !tokens.empty()) DS_CHECK(impl_->decoder->apply(tokens));
    std::string text;
    for (size_t i = 0; i < tokens.size(); ++i) {
        if (i > 0 && !impl_->decoder) text += ' ';
        text += tokens[i];
    }
    return text;
}

int64_t Tokenizer::vocabulary_size() const { return impl_->ids; }

std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
    if (const auto added = impl_->added.id_of(token)) return added;
    return impl_->model->vocabulary().id_of(token);
}

std::string Tokenizer::token_of(int32_t id) const {
    if (const tokenizer::AddedToken* added = impl_->added.find(id)) return added->content;
    return std::string(impl_->model->vocabulary().token_of(id));
}

bool Tokenizer::is_special(int32_t id) const {
    const tokenizer::AddedToken* added = impl_->added.find(id);
    return added && added->special;
}

bool Tokenizer::continues_word(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < impl_->continues.size() && impl_->continues[static_cast<size_t>(id)];
}

std::optional<int32_t> Tokenizer::pad_id() const { return impl_->roles.pad; }
std::optional<int32_t> Tokenizer::mask_id() const { return impl_->roles.mask; }
std::optional<int32_t> Tokenizer::cls_id() const { return impl_->roles.cls; }
std::optional<int32_t> Tokenizer::sep_id() const { return impl_->roles.sep; }
std::optional<int32_t> Tokenizer::bos_id() const { return impl_->roles.bos; }
std::optional<int32_t> Tokenizer::eos_id() const { return impl_->roles.eos; }
std::optional<int32_t> Tokenizer::unk_id() const { return impl_->roles.unk; }
bool Tokenizer::pads_left() const { return impl_->sides.pads_left; }
int32_t Tokenizer::pad_type() const { return impl_->sides.pad_type; }
int64_t Tokenizer::special_tokens_added(bool pair) const { return impl_->post_processor ? impl_->post_processor->added(pair) : 0; }
const std::filesystem::path& Tokenizer::folder() const { return impl_->folder; }

}  // namespace ds
