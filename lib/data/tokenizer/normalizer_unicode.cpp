// The four Unicode normalization forms (Unicode Standard Annex 15), with the trail of edits that `tokenizers` keeps: the first code
// point of a decomposition replaces, the others are inserted; a composition takes the sum of its parts' edits.
// And BERT's normalizer, whose accent stripping begins with NFD.
#include <algorithm>

#include "data/tokenizer/fields.h"
#include "data/tokenizer/stages.h"

namespace ds::tokenizer {
namespace {

struct Edit {
    char32_t c;
    int64_t change;
    int order = 0;  // combining class
};

// The full decomposition in canonical order.
std::vector<Edit> decomposed(std::string_view text, bool compatible) {
    std::vector<Edit> edits;
    edits.reserve(text.size());
    size_t pending = 0;  // where the code points since the last starter begin
    const auto sort_pending = [&] {
        std::stable_sort(edits.begin() + static_cast<ptrdiff_t>(pending), edits.end(),
                         [](const Edit& a, const Edit& b) { return a.order < b.order; });
    };
    char32_t parts[kMaxDecomposition];
    for (size_t i = 0; i < text.size();) {
        const int n = decompose(next_code_point(text, i), compatible, parts);
        for (int k = 0; k < n; ++k) {
            const int order = combining_class(parts[k]);
            if (order == 0) {
                sort_pending();
                pending = edits.size();
            }
            edits.push_back({parts[k], k == 0 ? 0 : 1, order});
            if (order == 0) pending = edits.size();
        }
    }
    sort_pending();
    return edits;
}

// The canonical composition, in place.
void compose_all(std::vector<Edit>& edits) {
    constexpr size_t kNone = SIZE_MAX;
    size_t starter = kNone, written = 0;
    int last = -1;  // combining class of the last code point kept behind the starter, -1 none
    for (const Edit edit : edits) {
        if (starter != kNone && (last < 0 || last < edit.order)) {
            if (const char32_t joined = compose(edits[starter].c, edit.c)) {
                edits[starter].c = joined;
                edits[starter].change += edit.change - 1;
                continue;
            }
        }
        if (edit.order == 0) starter = written, last = -1;
        else if (starter != kNone) last = edit.order;
        edits[written++] = edit;
    }
    edits.resize(written);
}

void normalize(AlignedText& text, bool compatible, bool compose) {
    if (text.plain || is_ascii(text.text)) return;
    std::vector<Edit> edits = decomposed(text.text, compatible);
    if (compose) compose_all(edits);
    AlignedText to;
    to.clear();
    to.text.reserve(text.text.size() + 16);
    to.at.reserve(text.text.size() + 16);
    Rewriter rewriter(text, 0, text.text.size(), to);
    for (const Edit& edit : edits) rewriter.put(edit.c, edit.change);
    text = std::move(to);
}

class Form final : public Normalizer {
public:
    Form(bool compatible, bool compose) : compatible_(compatible), compose_(compose) {}
    Status apply(AlignedText& text) const override {
        normalize(text, compatible_, compose_);
        return ok();
    }

private:
    bool compatible_, compose_;
};

class Bert final : public Normalizer {
public:
    bool clean = true, chinese = true, strip = true, lower = true;

    Status apply(AlignedText& text) const override {
        if (text.plain) return apply_ascii(text);
        if (clean || chinese) clean_and_separate(text);
        if (strip) normalize(text, false, false);
        if (strip || lower) strip_and_lower(text);
        return ok();
    }

private:
    static bool is_dropped(char32_t c) { return c == 0 || c == 0xFFFD || (c != '\t' && c != '\n' && c != '\r' && is_other(c)); }

    Status apply_ascii(AlignedText& text) const {
        bool drops = false;
        for (char& c : text.text) {
            if (clean && (static_cast<unsigned char>(c) <= ' ' || c == 0x7F)) {
                if (is_dropped(static_cast<unsigned char>(c))) drops = true;
                else c = ' ';
            } else if (lower && c >= 'A' && c <= 'Z') {
                c = static_cast<char>(c + 32);
            }
        }
        if (!drops) return ok();
        AlignedText to;
        to.clear();
        for (size_t i = 0; i < text.text.size(); ++i) {
            if (!is_dropped(static_cast<unsigned char>(text.text[i]))) to.append(text.text.substr(i, 1), static_cast<uint32_t>(i));
        }
        text = std::move(to);
        return ok();
    }

    void clean_and_separate(AlignedText& text) const {
        AlignedText to;
        to.clear();
        to.text.reserve(text.text.size() + 16);
        to.at.reserve(text.text.size() + 16);
        for (size_t i = 0; i < text.text.size();) {
            const uint32_t where = text.place(i);
            char32_t c = next_code_point(text.text, i);
            if (clean && is_dropped(c)) continue;
            if (clean && is_whitespace(c)) c = ' ';
            const bool apart = chinese && is_chinese(c);
            if (apart) to.append(U' ', where);
            to.append(c, where);
            if (apart) to.append(U' ', where);
        }
        text = std::move(to);
    }

    void strip_and_lower(AlignedText& text) const {
        AlignedText to;
        to.clear();
        to.text.reserve(text.text.size() + 16);
        to.at.reserve(text.text.size() + 16);
        for (size_t i = 0; i < text.text.size();) {
            const uint32_t where = text.place(i);
            const char32_t c = next_code_point(text.text, i);
            if (strip && is_nonspacing_mark(c)) continue;
            char32_t out[2] = {c, 0};
            const int n = lower ? lowercase(c, out) : 1;
            for (int k = 0; k < n; ++k) to.append(out[k], where);
        }
        text = std::move(to);
    }
};

}  // namespace

Result<NormalizerPtr> normalizer_nfc(const Json&, const std::string&) { return NormalizerPtr(std::make_unique<Form>(false, true)); }
Result<NormalizerPtr> normalizer_nfd(const Json&, const std::string&) { return NormalizerPtr(std::make_unique<Form>(false, false)); }
Result<NormalizerPtr> normalizer_nfkc(const Json&, const std::string&) { return NormalizerPtr(std::make_unique<Form>(true, true)); }
Result<NormalizerPtr> normalizer_nfkd(const Json&, const std::string&) { return NormalizerPtr(std::make_unique<Form>(true, false)); }

Result<NormalizerPtr> normalizer_bert(const Json& stage, const std::string& place) {
    auto bert = std::make_unique<Bert>();
    DS_TRY(bert->clean, bool_field(stage, "clean_text", place));
    DS_TRY(bert->chinese, bool_field(stage, "handle_chinese_chars", place));
    DS_TRY(bert->lower, bool_field(stage, "lowercase", place));
    DS_TRY(bert->strip, bool_field(stage, "strip_accents", place, bert->lower));
    return NormalizerPtr(std::move(bert));
}

}  // namespace ds::tokenizer
