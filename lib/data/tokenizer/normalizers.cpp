// The normalizers of tokenizer.json, each a rewrite of the text that says where its code points came from.
#include <algorithm>

#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/fields.h"
#include "data/tokenizer/regex.h"
#include "data/tokenizer/stages.h"

namespace ds::tokenizer {
namespace {

// Calls body(code point, its first byte) for each; `to` then replaces the text.
template <class Body>
void rewrite(AlignedText& text, Body&& body) {
    AlignedText to;
    to.clear();
    to.text.reserve(text.text.size() + 16);
    to.at.reserve(text.text.size() + 16);
    for (size_t i = 0; i < text.text.size();) {
        const uint32_t where = text.place(i);
        body(next_code_point(text.text, i), where, to);
    }
    text = std::move(to);
}

class Sequence final : public Normalizer {
public:
    explicit Sequence(std::vector<NormalizerPtr> stages) : stages_(std::move(stages)) {}
    Status apply(AlignedText& text) const override {
        for (const auto& stage : stages_) DS_CHECK(stage->apply(text));
        return ok();
    }

private:
    std::vector<NormalizerPtr> stages_;
};

class Lowercase final : public Normalizer {
public:
    Status apply(AlignedText& text) const override {
        if (text.plain) {
            for (char& c : text.text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
            return ok();
        }
        rewrite(text, [](char32_t c, uint32_t where, AlignedText& to) {
            char32_t lower[2];
            const int n = lowercase(c, lower);
            for (int i = 0; i < n; ++i) to.append(lower[i], where);
        });
        return ok();
    }
};

class Strip final : public Normalizer {
public:
    Strip(bool left, bool right) : left_(left), right_(right) {}
    Status apply(AlignedText& text) const override {
        size_t begin = 0, end = text.text.size();
        for (size_t i = begin; left_ && i < text.text.size() && is_whitespace(next_code_point(text.text, i));) begin = i;
        while (right_ && end > begin) {
            const size_t start = previous_start(text.text, end);
            size_t i = start;
            if (!is_whitespace(next_code_point(text.text, i))) break;
            end = start;
        }
        if (begin == 0 && end == text.text.size()) return ok();
        AlignedText to;
        to.clear();
        to.append(text, begin, end);
        text = std::move(to);
        return ok();
    }

private:
    bool left_, right_;
};

class StripAccents final : public Normalizer {
public:
    Status apply(AlignedText& text) const override {
        if (text.plain) return ok();
        rewrite(text, [](char32_t c, uint32_t where, AlignedText& to) {
            if (!is_mark(c)) to.append(c, where);
        });
        return ok();
    }
};

class Replace final : public Normalizer {
public:
    Replace(Pattern pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
    Status apply(AlignedText& text) const override {
        std::vector<Match> matches;
        DS_CHECK(pattern_.find(text.text, matches));
        if (std::none_of(matches.begin(), matches.end(), [](const Match& match) { return match.hit; })) return ok();
        AlignedText to;
        to.clear();
        for (const Match& match : matches) {
            // What is put in belongs to the last code point that it replaces.
            if (!match.hit) to.append(text, match.begin, match.end);
            else to.append(content_, match.end > 0 ? text.place(match.end - 1) : kFront);
        }
        text = std::move(to);
        return ok();
    }

private:
    Pattern pattern_;
    std::string content_;
};

class Prepend final : public Normalizer {
public:
    explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
    Status apply(AlignedText& text) const override {
        if (text.text.empty() || prefix_.empty()) return ok();
        AlignedText to;
        to.clear();
        to.append(prefix_, text.place(0));
        to.append(text, 0, text.text.size());
        text = std::move(to);
        return ok();
    }

private:
    std::string prefix_;
};

class ByteLevel final : public Normalizer {
public:
    Status apply(AlignedText& text) const override {
        AlignedText to;
        to.clear();
        for (size_t i = 0; i < text.text.size(); ++i) to.append(kByteLevel[static_cast<unsigned char>(text.text[i])], text.place(i));
        text = std::move(to);
        return ok();
    }
};

// The cleaning that sentencepiece's nmt rules begin with.
class Nmt final : public Normalizer {
public:
    Status apply(AlignedText& text) const override {
        rewrite(text, [](char32_t c, uint32_t where, AlignedText& to) {
            const bool control = (c >= 1 && c <= 8) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
            if (control) return;
            const bool blank = c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 ||
                               c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
            to.append(blank ? U' ' : c, where);
        });
        return ok();
    }
};

}  // namespace

Result<NormalizerPtr> normalizer_sequence(const Json& stage, const std::string& place) {
    DS_TRY(const Json* list, array_field(stage, "normalizers", place));
    std::vector<NormalizerPtr> stages;
    for (size_t i = 0; i < list->size(); ++i) {
        DS_TRY(NormalizerPtr one, make_normalizer((*list)[i], fmt::format("{}.normalizers[{}]", place, i)));
        stages.push_back(std::move(one));
    }
    return NormalizerPtr(std::make_unique<Sequence>(std::move(stages)));
}
Result<NormalizerPtr> normalizer_lowercase(const Json&, const std::string&) { return NormalizerPtr(std::make_unique<Lowercase>()); }
Result<NormalizerPtr> normalizer_strip_accents(const Json&, const std::string&) { return NormalizerPtr(std::make_unique<StripAccents>()); }
Result<NormalizerPtr> normalizer_byte_level(const Json&, const std::string&) { return NormalizerPtr(std::make_unique<ByteLevel>()); }
Result<NormalizerPtr> normalizer_nmt(const Json&, const std::string&) { return NormalizerPtr(std::make_unique<Nmt>()); }
Result<NormalizerPtr> normalizer_strip(const Json& stage, const std::string& place) {
    DS_TRY(const bool left, bool_field(stage, "strip_left", place));
    DS_TRY(const bool right, bool_field(stage, "strip_right", place));
    return NormalizerPtr(std::make_unique<Strip>(left, right));
}
Result<NormalizerPtr> normalizer_replace(const Json& stage, const std::string& place) {
    DS_TRY(std::string content, string_field(stage, "content", place));
    DS_TRY(Pattern pattern, Pattern::from_json(stage.value("pattern", Json()), place + ".pattern"));
    return NormalizerPtr(std::make_unique<Replace>(std::move(pattern), std::move(content)));
}
Result<NormalizerPtr> normalizer_prepend(const Json& stage, const std::string& place) {
    DS_TRY(std::string prefix, string_field(stage, "prepend", place));
    return NormalizerPtr(std::make_unique<Prepend>(std::move(prefix)));
}

Result<NormalizerPtr> make_normalizer(const Json& stage, const std::string& place) {
    DS_TRY(const std::string type, type_of(stage, place));
#define DS_TOKENIZER_STAGE(name, function) \
    if (type == name) return function(stage, place);
#include "data/tokenizer/normalizers.def"
#undef DS_TOKENIZER_STAGE
    return fail(Code::E_UNSUPPORTED, "{}.type: the normalizer \"{}\" is not built", place, type);
}

}  // namespace ds::tokenizer
