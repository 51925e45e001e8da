// Unigram language model: the segmentation with the highest sum of log probabilities, found by Viterbi over a trie of the pieces.
// Kudo 2018 (arXiv 1804.10959). A code point that is no piece costs the lowest score of all minus 10; unknown ones in a row join.
#include <algorithm>
#include <array>
#include <limits>

#include "data/tokenizer/fields.h"
#include "data/tokenizer/model.h"
#include "data/tokenizer/trie.h"
#include "data/tokenizer/unicode.h"

namespace ds::tokenizer {
namespace {

constexpr double kUnknownPenalty = 10;

class Unigram final : public Model {
public:
    Status load(const ModelSpec& spec) {
        double lowest = std::numeric_limits<double>::infinity();
        std::vector<std::pair<std::string_view, int32_t>> entries;
        for (const auto& [token, id] : spec.vocabulary) DS_CHECK(vocabulary_.add_or_replace(token, id).within(spec.place + ".vocab"));
        for (size_t i = 0; i < spec.vocabulary.size(); ++i) {
            entries.emplace_back(spec.vocabulary[i].first, static_cast<int32_t>(i));
            lowest = std::min(lowest, spec.scores[i]);
        }
        scores_ = spec.scores;
        unknown_score_ = lowest - kUnknownPenalty;
        trie_ = Trie(std::move(entries));
        if (const auto unk = spec.options.find("unk_id"); unk != spec.options.end() && !unk->is_null()) {
            const int64_t last = static_cast<int64_t>(scores_.size()) - 1;
            DS_TRY(unknown_, int_field(spec.options, "unk_id", spec.place, 0, std::max<int64_t>(last, 0)));
            if (last < 0) return fail(Code::E_CORRUPT, "{}.unk_id: the vocabulary is empty", spec.place);
        }
        DS_TRY(byte_fallback_, bool_field(spec.options, "byte_fallback", spec.place, false));
        for (size_t b = 0; b < 256; ++b) byte_tokens_[b] = vocabulary_.id_of(fmt::format("<0x{:02X}>", b)).value_or(-1);
        return ok();
    }

    Status tokenize(std::string_view word, std::vector<Token>& out) const override {
        if (word.size() < kSmall) {
            Node small[kSmall];
            return viterbi(word, small, out);
        }
        std::vector<Node> nodes(word.size() + 1);
        return viterbi(word, nodes.data(), out);
    }

    int64_t rows() const override { return static_cast<int64_t>(scores_.size()); }
    bool unknown_is_text() const override { return true; }
    std::optional<int32_t> unknown() const override { return unknown_ < 0 ? std::nullopt : std::optional(static_cast<int32_t>(unknown_)); }

private:
    static constexpr uint32_t kUnreached = 0xFFFFFFFFu;
    static constexpr size_t kSmall = 64;
    struct Node {  // the best path that ends here
        double score = 0;
        uint32_t begin = kUnreached;
        int32_t id = -1;
    };

    static void relax(Node& node, double score, size_t begin, int64_t id) {
        if (node.begin == kUnreached || score > node.score) node = {score, static_cast<uint32_t>(begin), static_cast<int32_t>(id)};
    }

    Status viterbi(std::string_view word, Node* nodes, std::vector<Token>& out) const {
        for (size_t begin = 0; begin < word.size();) {
            const auto one = static_cast<size_t>(utf8_bytes(word[begin]));
            const double before = nodes[begin].score;
            bool single = false;
            uint32_t state = trie_.empty() ? 0 : trie_.root();
            for (size_t i = begin; i < word.size() && !trie_.empty(); ++i) {
                state = trie_.step(state, word[i]);
                if (state == 0) break;
                const int32_t id = trie_.value(state);
                if (id == Trie::kNone) continue;
                relax(nodes[i + 1], scores_[static_cast<size_t>(id)] + before, begin, id);
                single = single || i + 1 - begin == one;
            }
            if (!single) {
                Node& next = nodes[begin + one];
                const bool better = next.begin == kUnreached || unknown_score_ + before > next.score;
                if (better && unknown_ < 0)
                    return fail(Code::E_CORRUPT, "tokenizer: a Unigram vocabulary without unk_id, and \"{}\" is not in it",
                                word.substr(begin, one));
                relax(next, unknown_score_ + before, begin, unknown_);
            }
            begin += one;
        }
        emit(word, nodes, out);
        return ok();
    }

    void emit(std::string_view word, const Node* nodes, std::vector<Token>& out) const {
        const size_t first = out.size();
        for (size_t end = word.size(); end > 0; end = nodes[end].begin) {
            const Node& node = nodes[end];
            if (node.id == unknown_ && out.size() > first && out.back().id == unknown_) out.back().begin = node.begin;
            else out.push_back({node.id, node.begin, static_cast<uint32_t>(end)});
        }
        std::reverse(out.begin() + static_cast<ptrdiff_t>(first), out.end());
        if (unknown_ >= 0) resolve_unknown(word, first, out);
    }

    // An unknown stretch may, joined, be a piece after all; else its bytes stand for it where the file wants that.
    void resolve_unknown(std::string_view word, size_t first, std::vector<Token>& out) const {
        const auto is_unknown = [&](const Token& token) { return token.id == unknown_; };
        if (std::none_of(out.begin() + static_cast<ptrdiff_t>(first), out.end(), is_unknown)) return;
        std::vector<Token> resolved;
        for (size_t i = first; i < out.size(); ++i) {
            Token token = out[i];
            const std::string_view text = word.substr(token.begin, token.end - token.begin);
            const auto has_byte = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)] >= 0; };
            if (!is_unknown(token)) {
                resolved.push_back(token);
            } else if (const auto id = vocabulary_.id_of(text)) {
                token.id = *id;
                resolved.push_back(token);
            } else if (byte_fallback_ && std::all_of(text.begin(), text.end(), has_byte)) {
                for (const char byte : text) resolved.push_back({byte_tokens_[static_cast<unsigned char>(byte)], token.begin, token.end});
            } else {
                resolved.push_back(token);
            }
        }
        out.resize(first);
        out.insert(out.end(), resolved.begin(), resolved.end());
    }

    Trie trie_;
    std::vector<double> scores_;
    double unknown_score_ = 0;
    int64_t unknown_ = -1;
    bool byte_fallback_ = false;
    std::array<int32_t, 256> byte_tokens_{};
};

}  // namespace

Result<std::unique_ptr<Model>> make_unigram(const ModelSpec& spec) {
    auto model = std::make_unique<Unigram>();
    DS_CHECK(model->load(spec));
    return std::unique_ptr<Model>(std::move(model));
}

}  // namespace ds::tokenizer
