// The decoders of tokenizer.json: each passes a list of strings on, which in the end are joined.
#include <algorithm>

#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/fields.h"
#include "data/tokenizer/regex.h"
#include "data/tokenizer/stages.h"

namespace ds::tokenizer {
namespace {

using Strings = std::vector<std::string>;

void replace_all(std::string& text, std::string_view from, std::string_view to) {
    if (from.empty()) return;
    size_t at = text.find(from);
    if (at == text.npos) return;
    std::string out;
    size_t done = 0;
    for (; at != text.npos; at = text.find(from, done)) {
        out.append(text, done, at - done).append(to);
        done = at + from.size();
    }
    text = out.append(text, done, text.npos);
}

// English contractions and marks that tokenizing set apart.
void clean_up(std::string& text) {
    static constexpr std::pair<std::string_view, std::string_view> kRules[] = {
        {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [from, to] : kRules) replace_all(text, from, to);
}

class Sequence final : public Decoder {
public:
    explicit Sequence(std::vector<DecoderPtr> stages) : stages_(std::move(stages)) {}
    Status apply(Strings& tokens) const override {
        for (const auto& stage : stages_) DS_CHECK(stage->apply(tokens));
        return ok();
    }

private:
    std::vector<DecoderPtr> stages_;
};

class ByteLevel final : public Decoder {
public:
    Status apply(Strings& tokens) const override {
        std::string bytes;
        for (const std::string& token : tokens) bytes += bytes_of_token(token).value_or(token);
        tokens.assign(1, is_utf8(bytes) ? bytes : repair_utf8(bytes));
        return ok();
    }
};

class WordPiece final : public Decoder {
public:
    WordPiece(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}
    Status apply(Strings& tokens) const override {
        for (size_t i = 0; i < tokens.size(); ++i) {
            std::string& token = tokens[i];
            if (i > 0) {
                if (token.starts_with(prefix_)) token.erase(0, prefix_.size());
                else token.insert(0, 1, ' ');
            }
            if (cleanup_) clean_up(token);
        }
        return ok();
    }

private:
    std::string prefix_;
    bool cleanup_;
};

class Metaspace final : public Decoder {
public:
    Metaspace(std::string mark, bool prepends) : mark_(std::move(mark)), prepends_(prepends) {}
    Status apply(Strings& tokens) const override {
        for (size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], mark_, i == 0 && prepends_ ? "" : " ");
        return ok();
    }

private:
    std::string mark_;
    bool prepends_;
};

class BpeSuffix final : public Decoder {
public:
    explicit BpeSuffix(std::string suffix) : suffix_(std::move(suffix)) {}
    Status apply(Strings& tokens) const override {
        for (size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], suffix_, i + 1 == tokens.size() ? "" : " ");
        return ok();
    }

private:
    std::string suffix_;
};

class ByteFallback final : public Decoder {
public:
    Status apply(Strings& tokens) const override {
        Strings out;
        std::string bytes;
        const auto flush = [&] {
            if (is_utf8(bytes)) {
                if (!bytes.empty()) out.push_back(bytes);
            } else {
                out.insert(out.end(), bytes.size(), "\xEF\xBF\xBD");
            }
            bytes.clear();
        };
        for (std::string& token : tokens) {
            if (const int byte = byte_of(token); byte >= 0) {
                bytes.push_back(static_cast<char>(byte));
            } else {
                flush();
                out.push_back(std::move(token));
            }
        }
        flush();
        tokens = std::move(out);
        return ok();
    }

private:
    static int byte_of(std::string_view token) {
        if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
        const auto digit = [](char c) {
            return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        };
        const int high = digit(token[3]), low = digit(token[4]);
        return high < 0 || low < 0 ? -1 : high * 16 + low;
    }
};

class Fuse final : public Decoder {
public:
    Status apply(Strings& tokens) const override {
        std::string joined;
        for (const std::string& token : tokens) joined += token;
        tokens.assign(1, std::move(joined));
        return ok();
    }
};

class Strip final : public Decoder {
public:
    Strip(std::string content, int64_t start, int64_t stop) : content_(std::move(content)), start_(start), stop_(stop) {}
    Status apply(Strings& tokens) const override {
        for (std::string& token : tokens) {
            std::string_view rest = token;
            for (int64_t i = 0; i < start_ && rest.starts_with(content_); ++i) rest.remove_prefix(content_.size());
            for (int64_t i = 0; i < stop_ && rest.ends_with(content_); ++i) rest.remove_suffix(content_.size());
            token = std::string(rest);
        }
        return ok();
    }

private:
    std::string content_;
    int64_t start_, stop_;
};

class Replace final : public Decoder {
public:
    Replace(Pattern pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
    Status apply(Strings& tokens) const override {
        std::vector<Match> matches;
        for (std::string& token : tokens) {
            matches.clear();
            DS_CHECK(pattern_.find(token, matches));
            std::string out;
            for (const Match& match : matches) {
                if (match.hit) out += content_;
                else out.append(token, match.begin, match.end - match.begin);
            }
            token = std::move(out);
        }
        return ok();
    }

private:
    Pattern pattern_;
    std::string content_;
};

class Ctc final : public Decoder {
public:
    Ctc(std::string pad, std::string delimiter, bool cleanup) : pad_(std::move(pad)), delimiter_(std::move(delimiter)), cleanup_(cleanup) {}
    Status apply(Strings& tokens) const override {
        tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
        for (std::string& token : tokens) {
            replace_all(token, pad_, "");
            if (cleanup_) clean_up(token), replace_all(token, delimiter_, " ");
        }
        std::erase_if(tokens, [](const std::string& token) { return token.empty(); });
        return ok();
    }

private:
    std::string pad_, delimiter_;
    bool cleanup_;
};

}  // namespace

Result<DecoderPtr> decoder_sequence(const Json& stage, const std::string& place) {
    DS_TRY(const Json* list, array_field(stage, "decoders", place));
    std::vector<DecoderPtr> stages;
    for (size_t i = 0; i < list->size(); ++i) {
        DS_TRY(DecoderPtr one, make_decoder((*list)[i], fmt::format("{}.decoders[{}]", place, i)));
        stages.push_back(std::move(one));
    }
    return DecoderPtr(std::make_unique<Sequence>(std::move(stages)));
}
Result<DecoderPtr> decoder_byte_level(const Json&, const std::string&) { return DecoderPtr(std::make_unique<ByteLevel>()); }
Result<DecoderPtr> decoder_byte_fallback(const Json&, const std::string&) { return DecoderPtr(std::make_unique<ByteFallback>()); }
Result<DecoderPtr> decoder_fuse(const Json&, const std::string&) { return DecoderPtr(std::make_unique<Fuse>()); }
Result<DecoderPtr> decoder_wordpiece(const Json& stage, const std::string& place) {
    DS_TRY(std::string prefix, string_field(stage, "prefix", place, "##"));
    DS_TRY(const bool cleanup, bool_field(stage, "cleanup", place, true));
    return DecoderPtr(std::make_unique<WordPiece>(std::move(prefix), cleanup));
}
Result<DecoderPtr> decoder_metaspace(const Json& stage, const std::string& place) {
    DS_TRY(std::string replacement, string_field(stage, "replacement", place));
    DS_TRY(const bool prefix, bool_field(stage, "add_prefix_space", place, true));
    DS_TRY(const std::string scheme, string_field(stage, "prepend_scheme", place, prefix ? "always" : "never"));
    return DecoderPtr(std::make_unique<Metaspace>(std::move(replacement), scheme != "never"));
}
Result<DecoderPtr> decoder_bpe(const Json& stage, const std::string& place) {
    DS_TRY(std::string suffix, string_field(stage, "suffix", place, "</w>"));
    return DecoderPtr(std::make_unique<BpeSuffix>(std::move(suffix)));
}
Result<DecoderPtr> decoder_strip(const Json& stage, const std::string& place) {
    DS_TRY(std::string content, string_field(stage, "content", place));
    DS_TRY(const int64_t start, int_field(stage, "start", place, 0, INT32_MAX));
    DS_TRY(const int64_t stop, int_field(stage, "stop", place, 0, INT32_MAX));
    if (count_code_points(content) != 1) return fail(Code::E_CORRUPT, "{}.content: must be one character, but is \"{}\"", place, content);
    return DecoderPtr(std::make_unique<Strip>(std::move(content), start, stop));
}
Result<DecoderPtr> decoder_replace(const Json& stage, const std::string& place) {
    DS_TRY(std::string content, string_field(stage, "content", place));
    DS_TRY(Pattern pattern, Pattern::from_json(stage.value("pattern", Json()), place + ".pattern"));
    return DecoderPtr(std::make_unique<Replace>(std::move(pattern), std::move(content)));
}
Result<DecoderPtr> decoder_ctc(const Json& stage, const std::string& place) {
    DS_TRY(std::string pad, string_field(stage, "pad_token", place, "<pad>"));
    DS_TRY(std::string delimiter, string_field(stage, "word_delimiter_token", place, "|"));
    DS_TRY(const bool cleanup, bool_field(stage, "cleanup", place, true));
    return DecoderPtr(std::make_unique<Ctc>(std::move(pad), std::move(delimiter), cleanup));
}

Result<DecoderPtr> make_decoder(const Json& stage, const std::string& place) {
    DS_TRY(const std::string type, type_of(stage, place));
#define DS_TOKENIZER_STAGE(name, function) \
    if (type == name) return function(stage, place);
#include "data/tokenizer/decoders.def"
#undef DS_TOKENIZER_STAGE
    return fail(Code::E_UNSUPPORTED, "{}.type: the decoder \"{}\" is not built", place, type);
}

}  // namespace ds::tokenizer
