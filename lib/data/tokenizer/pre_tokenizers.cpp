// The pre-tokenizers of tokenizer.json: where words end.
#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/fields.h"
#include "data/tokenizer/regex.h"
#include "data/tokenizer/stages.h"

namespace ds::tokenizer {
namespace {

constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Calls body(piece, to) for every unfinished piece; what it appends to `to` becomes the piece.
template <class Body>
void rewrite_all(Pieces& pieces, Body&& body) {
    AlignedText to;
    to.clear();
    to.text.reserve(pieces.aligned.text.size() * 2);
    to.at.reserve(pieces.aligned.text.size() * 2);
    for (Piece& piece : pieces.list) {
        const auto begin = static_cast<uint32_t>(to.text.size());
        if (piece.token != kNoToken) to.append(pieces.aligned, piece.begin, piece.end);
        else body(piece, to);
        piece.begin = begin;
        piece.end = static_cast<uint32_t>(to.text.size());
    }
    pieces.aligned = std::move(to);
}

class Sequence final : public PreTokenizer {
public:
    explicit Sequence(std::vector<PreTokenizerPtr> stages) : stages_(std::move(stages)) {}
    Status apply(Pieces& pieces) const override {
        for (const auto& stage : stages_) DS_CHECK(stage->apply(pieces));
        return ok();
    }
    bool leave_bytes() override { return !stages_.empty() && stages_.back()->leave_bytes(); }

private:
    std::vector<PreTokenizerPtr> stages_;
};

// Splits at the code points for which `is` holds.
template <class Is>
class SplitAt final : public PreTokenizer {
public:
    SplitAt(Is is, SplitBehavior behavior) : is_(std::move(is)), behavior_(behavior) {}
    Status apply(Pieces& pieces) const override {
        return split_all(pieces, behavior_, false, [&](std::string_view text, std::vector<Match>& matches) {
            find_code_points(text, is_, matches);
            return ok();
        });
    }

private:
    Is is_;
    SplitBehavior behavior_;
};
template <class Is>
PreTokenizerPtr split_at(Is is, SplitBehavior behavior) {
    return std::make_unique<SplitAt<Is>>(std::move(is), behavior);
}

// Splits into runs of one class of code points; class 0 is dropped, class -1 stands alone.
template <int (*kClass)(char32_t)>
class Runs final : public PreTokenizer {
public:
    Status apply(Pieces& pieces) const override {
        std::vector<Piece> out;
        out.reserve(pieces.aligned.text.size() / 3);
        for (const Piece& piece : pieces.list) {
            if (piece.token != kNoToken) out.push_back(piece);
            else cut(pieces.aligned.text, piece, out);
        }
        pieces.list = std::move(out);
        return ok();
    }

private:
    static void cut(std::string_view text, const Piece& piece, std::vector<Piece>& out) {
        uint32_t begin = piece.begin;
        int current = 0;
        for (size_t i = piece.begin; i < piece.end;) {
            const auto at = static_cast<uint32_t>(i);
            const int next = kClass(next_code_point(text, i));
            if (next == current && next >= 0) continue;
            if (current != 0 && begin < at) out.push_back({begin, at, kNoToken});
            begin = at;
            current = next;
        }
        if (current != 0 && begin < piece.end) out.push_back({begin, piece.end, kNoToken});
    }
};

int bert_class(char32_t c) { return is_whitespace(c) ? 0 : is_punctuation(c) ? -1 : 1; }
int blank_class(char32_t c) { return is_whitespace(c) ? 0 : 1; }
int word_class(char32_t c) { return is_whitespace(c) ? 0 : is_word(c) ? 1 : 2; }

class Split final : public PreTokenizer {
public:
    Split(Pattern pattern, SplitBehavior behavior, bool invert) : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
    Status apply(Pieces& pieces) const override {
        return split_all(pieces, behavior_, invert_,
                         [&](std::string_view text, std::vector<Match>& matches) { return pattern_.find(text, matches); });
    }

private:
    Pattern pattern_;
    SplitBehavior behavior_;
    bool invert_;
};

class ByteLevel final : public PreTokenizer {
public:
    ByteLevel(std::optional<Pattern> pattern, bool prefix) : pattern_(std::move(pattern)), prefix_(prefix) {}
    Status apply(Pieces& pieces) const override {
        const auto lacks_blank = [&](const Piece& piece) {
            return piece.token == kNoToken && piece.begin < piece.end && pieces.aligned.text[piece.begin] != ' ';
        };
        bool prepend = false;
        for (const Piece& piece : pieces.list) prepend = prepend || (prefix_ && lacks_blank(piece));
        if (prepend) {
            rewrite_all(pieces, [&](const Piece& piece, AlignedText& to) {
                if (lacks_blank(piece)) to.append(" ", pieces.aligned.place(piece.begin));
                to.append(pieces.aligned, piece.begin, piece.end);
            });
        }
        if (pattern_)
            DS_CHECK(split_all(pieces, SplitBehavior::isolated, false,
                               [&](std::string_view text, std::vector<Match>& matches) { return pattern_->find(text, matches); }));
        if (leave_bytes_) {
            pieces.raw_bytes = true;
            return ok();
        }
        rewrite_all(pieces, [&](const Piece& piece, AlignedText& to) {
            for (size_t i = piece.begin; i < piece.end; ++i)
                to.append(kByteLevel[static_cast<unsigned char>(pieces.aligned.text[i])], pieces.aligned.place(i));
        });
        return ok();
    }
    bool leave_bytes() override { return leave_bytes_ = true; }

private:
    std::optional<Pattern> pattern_;
    bool prefix_, leave_bytes_ = false;
};

enum class PrependScheme { first, never, always };

class Metaspace final : public PreTokenizer {
public:
    Metaspace(std::string replacement, PrependScheme scheme, bool split) : mark_(std::move(replacement)), scheme_(scheme), split_(split) {}
    Status apply(Pieces& pieces) const override {
        std::vector<Piece> out;
        rewrite_all(pieces, [&](const Piece& piece, AlignedText& to) {
            const std::string_view text = pieces.text(piece);
            const bool marked = text.starts_with(' ') || text.starts_with(mark_);
            const bool wanted =
                scheme_ == PrependScheme::always || (scheme_ == PrependScheme::first && pieces.aligned.begin_of(piece.begin) == 0);
            if (!marked && wanted) to.append(mark_, pieces.aligned.place(piece.begin));
            for (size_t i = piece.begin; i < piece.end; ++i) {
                const char c = pieces.aligned.text[i];
                to.append(c == ' ' ? std::string_view(mark_) : std::string_view(&c, 1), pieces.aligned.place(i));
            }
        });
        if (!split_) return ok();
        out.reserve(pieces.aligned.text.size() / 4);
        for (const Piece& piece : pieces.list) {
            if (piece.token == kNoToken) cut(pieces, piece, out);
            else out.push_back(piece);
        }
        pieces.list = std::move(out);
        return ok();
    }

private:
    // A new piece begins at every mark.
    void cut(const Pieces& pieces, const Piece& piece, std::vector<Piece>& out) const {
        const std::string_view text = pieces.text(piece);
        for (size_t begin = 0; begin < text.size();) {
            const size_t end = std::min(text.find(mark_, begin + 1), text.size());
            out.push_back({static_cast<uint32_t>(piece.begin + begin), static_cast<uint32_t>(piece.begin + end), kNoToken});
            begin = end;
        }
    }

    std::string mark_;
    PrependScheme scheme_;
    bool split_;
};

class FixedLength final : public PreTokenizer {
public:
    explicit FixedLength(int64_t length) : length_(length) {}
    Status apply(Pieces& pieces) const override {
        return split_all(pieces, SplitBehavior::isolated, false, [&](std::string_view text, std::vector<Match>& matches) {
            for (size_t i = 0; i < text.size();) {
                const auto begin = static_cast<uint32_t>(i);
                for (int64_t n = 0; n < length_ && i < text.size(); ++n) i += static_cast<size_t>(utf8_bytes(text[i]));
                matches.push_back({begin, static_cast<uint32_t>(i), true});
            }
            return ok();
        });
    }

private:
    int64_t length_;
};

// Words end where the script changes. Blanks and unassigned code points have none: they go with what is before them, and are dropped where
// nothing is. Japanese counts as one script.
constexpr const char* kScripts[] = {"Latin",
                                    "Common",
                                    "Cyrillic",
                                    "Greek",
                                    "Arabic",
                                    "Hebrew",
                                    "Hangul",
                                    "Thai",
                                    "Devanagari",
                                    "Inherited",
                                    "Adlam",
                                    "Ahom",
                                    "Anatolian_Hieroglyphs",
                                    "Armenian",
                                    "Avestan",
                                    "Balinese",
                                    "Bamum",
                                    "Bassa_Vah",
                                    "Batak",
                                    "Bengali",
                                    "Bhaiksuki",
                                    "Bopomofo",
                                    "Brahmi",
                                    "Braille",
                                    "Buginese",
                                    "Buhid",
                                    "Canadian_Aboriginal",
                                    "Carian",
                                    "Caucasian_Albanian",
                                    "Chakma",
                                    "Cham",
                                    "Cherokee",
                                    "Coptic",
                                    "Cuneiform",
                                    "Cypriot",
                                    "Deseret",
                                    "Duployan",
                                    "Egyptian_Hieroglyphs",
                                    "Elbasan",
                                    "Ethiopic",
                                    "Georgian",
                                    "Glagolitic",
                                    "Gothic",
                                    "Grantha",
                                    "Gujarati",
                                    "Gurmukhi",
                                    "Hanunoo",
                                    "Hatran",
                                    "Imperial_Aramaic",
                                    "Inscriptional_Pahlavi",
                                    "Inscriptional_Parthian",
                                    "Javanese",
                                    "Kaithi",
                                    "Kannada",
                                    "Kayah_Li",
                                    "Kharoshthi",
                                    "Khmer",
                                    "Khojki",
                                    "Khudawadi",
                                    "Lao",
                                    "Lepcha",
                                    "Limbu",
                                    "Linear_A",
                                    "Linear_B",
                                    "Lisu",
                                    "Lycian",
                                    "Lydian",
                                    "Mahajani",
                                    "Malayalam",
                                    "Mandaic",
                                    "Manichaean",
                                    "Marchen",
                                    "Meetei_Mayek",
                                    "Mende_Kikakui",
                                    "Meroitic_Cursive",
                                    "Meroitic_Hieroglyphs",
                                    "Miao",
                                    "Modi",
                                    "Mongolian",
                                    "Mro",
                                    "Multani",
                                    "Myanmar",
                                    "Nabataean",
                                    "Newa",
                                    "New_Tai_Lue",
                                    "Nko",
                                    "Ogham",
                                    "Ol_Chiki",
                                    "Old_Hungarian",
                                    "Old_Italic",
                                    "Old_North_Arabian",
                                    "Old_Permic",
                                    "Old_Persian",
                                    "Old_South_Arabian",
                                    "Old_Turkic",
                                    "Oriya",
                                    "Osage",
                                    "Osmanya",
                                    "Pahawh_Hmong",
                                    "Palmyrene",
                                    "Pau_Cin_Hau",
                                    "Phags_Pa",
                                    "Phoenician",
                                    "Psalter_Pahlavi",
                                    "Rejang",
                                    "Runic",
                                    "Samaritan",
                                    "Saurashtra",
                                    "Sharada",
                                    "Shavian",
                                    "Siddham",
                                    "SignWriting",
                                    "Sinhala",
                                    "Sora_Sompeng",
                                    "Sundanese",
                                    "Syloti_Nagri",
                                    "Syriac",
                                    "Tagalog",
                                    "Tagbanwa",
                                    "Tai_Le",
                                    "Tai_Tham",
                                    "Tai_Viet",
                                    "Takri",
                                    "Tamil",
                                    "Tangut",
                                    "Telugu",
                                    "Thaana",
                                    "Tibetan",
                                    "Tifinagh",
                                    "Tirhuta",
                                    "Ugaritic",
                                    "Vai",
                                    "Warang_Citi",
                                    "Yi"};

std::string script_runs() {
    constexpr std::string_view japanese = R"(\p{Han}\p{Hiragana}\p{Katakana}\x{30FC})", none = R"( \p{Unknown})";
    std::string runs = fmt::format("[{0}][{0}{1}]*", japanese, none);
    for (const char* script : kScripts) {
        const bool common = std::string_view(script) == "Common";
        const std::string_view but = common ? R"((?![ \x{30FC}]))" : "";
        runs += fmt::format(R"(|{0}\p{{{1}}}(?:{0}\p{{{1}}}|[{2}])*)", but, script, none);
    }
    return runs;
}

Result<SplitBehavior> behavior_field(const Json& stage, const std::string& place, std::optional<std::string> otherwise = {}) {
    DS_TRY(const std::string name, string_field(stage, "behavior", place, std::move(otherwise)));
    if (name == "Removed") return SplitBehavior::removed;
    if (name == "Isolated") return SplitBehavior::isolated;
    if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
    if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
    if (name == "Contiguous") return SplitBehavior::contiguous;
    return fail(Code::E_CORRUPT, "{}.behavior: \"{}\"; accepted are Removed, Isolated, MergedWithPrevious, MergedWithNext and Contiguous",
                place, name);
}

Result<std::string> one_code_point(const Json& stage, const char* name, const std::string& place) {
    DS_TRY(std::string text, string_field(stage, name, place));
    if (count_code_points(text) != 1) return fail(Code::E_CORRUPT, "{}.{}: must be one character, but is \"{}\"", place, name, text);
    return text;
}

}  // namespace

Result<PreTokenizerPtr> pre_tokenizer_sequence(const Json& stage, const std::string& place) {
    DS_TRY(const Json* list, array_field(stage, "pretokenizers", place));
    std::vector<PreTokenizerPtr> stages;
    for (size_t i = 0; i < list->size(); ++i) {
        DS_TRY(PreTokenizerPtr one, make_pre_tokenizer((*list)[i], fmt::format("{}.pretokenizers[{}]", place, i)));
        stages.push_back(std::move(one));
    }
    return PreTokenizerPtr(std::make_unique<Sequence>(std::move(stages)));
}

Result<PreTokenizerPtr> pre_tokenizer_bert(const Json&, const std::string&) {
    return PreTokenizerPtr(std::make_unique<Runs<bert_class>>());
}
Result<PreTokenizerPtr> pre_tokenizer_whitespace(const Json&, const std::string&) {
    return PreTokenizerPtr(std::make_unique<Runs<word_class>>());
}
Result<PreTokenizerPtr> pre_tokenizer_whitespace_split(const Json&, const std::string&) {
    return PreTokenizerPtr(std::make_unique<Runs<blank_class>>());
}

Result<PreTokenizerPtr> pre_tokenizer_byte_level(const Json& stage, const std::string& place) {
    DS_TRY(const bool prefix, bool_field(stage, "add_prefix_space", place));
    DS_TRY(const bool use_regex, bool_field(stage, "use_regex", place, true));
    std::optional<Pattern> pattern;
    if (use_regex) { DS_TRY(pattern, Pattern::regex(kGpt2, place)); }
    return PreTokenizerPtr(std::make_unique<ByteLevel>(std::move(pattern), prefix));
}

Result<PreTokenizerPtr> pre_tokenizer_split(const Json& stage, const std::string& place) {
    DS_TRY(Pattern pattern, Pattern::from_json(stage.value("pattern", Json()), place + ".pattern"));
    DS_TRY(const SplitBehavior behavior, behavior_field(stage, place));
    DS_TRY(const bool invert, bool_field(stage, "invert", place, false));
    return PreTokenizerPtr(std::make_unique<Split>(std::move(pattern), behavior, invert));
}

Result<PreTokenizerPtr> pre_tokenizer_scripts(const Json&, const std::string& place) {
    DS_TRY(Pattern pattern, Pattern::regex(script_runs(), place));
    return PreTokenizerPtr(std::make_unique<Split>(std::move(pattern), SplitBehavior::removed, true));
}

Result<PreTokenizerPtr> pre_tokenizer_metaspace(const Json& stage, const std::string& place) {
    DS_TRY(std::string replacement, one_code_point(stage, "replacement", place));
    DS_TRY(const bool prefix, bool_field(stage, "add_prefix_space", place, true));
    DS_TRY(const std::string scheme, string_field(stage, "prepend_scheme", place, prefix ? "always" : "never"));
    DS_TRY(const bool split, bool_field(stage, "split", place, true));
    if (scheme != "first" && scheme != "never" && scheme != "always")
        return fail(Code::E_CORRUPT, "{}.prepend_scheme: \"{}\"; accepted are first, never and always", place, scheme);
    const PrependScheme parsed = scheme == "first"   ? PrependScheme::first
                                 : scheme == "never" ? PrependScheme::never
                                                     : PrependScheme::always;
    return PreTokenizerPtr(std::make_unique<Metaspace>(std::move(replacement), parsed, split));
}

Result<PreTokenizerPtr> pre_tokenizer_punctuation(const Json& stage, const std::string& place) {
    DS_TRY(const SplitBehavior behavior, behavior_field(stage, place, "Isolated"));
    return split_at(is_punctuation, behavior);
}

Result<PreTokenizerPtr> pre_tokenizer_digits(const Json& stage, const std::string& place) {
    DS_TRY(const bool individual, bool_field(stage, "individual_digits", place));
    return split_at(is_number, individual ? SplitBehavior::isolated : SplitBehavior::contiguous);
}

Result<PreTokenizerPtr> pre_tokenizer_delimiter(const Json& stage, const std::string& place) {
    DS_TRY(const std::string delimiter, one_code_point(stage, "delimiter", place));
    size_t zero = 0;
    const char32_t wanted = next_code_point(delimiter, zero);
    return split_at([wanted](char32_t c) { return c == wanted; }, SplitBehavior::removed);
}

Result<PreTokenizerPtr> pre_tokenizer_fixed_length(const Json& stage, const std::string& place) {
    DS_TRY(const int64_t length, int_field(stage, "length", place, 1, INT32_MAX, 5));
    return PreTokenizerPtr(std::make_unique<FixedLength>(length));
}

Result<PreTokenizerPtr> make_pre_tokenizer(const Json& stage, const std::string& place) {
    DS_TRY(const std::string type, type_of(stage, place));
#define DS_TOKENIZER_STAGE(name, function) \
    if (type == name) return function(stage, place);
#include "data/tokenizer/pre_tokenizers.def"
#undef DS_TOKENIZER_STAGE
    return fail(Code::E_UNSUPPORTED, "{}.type: the pre-tokenizer \"{}\" is not built", place, type);
}

}  // namespace ds::tokenizer
