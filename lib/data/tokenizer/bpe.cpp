// Byte pair encoding: a word begins as its code points (or bytes) and the pair of neighbours with the lowest rank is merged, leftmost
// first, until no pair has a rank. Sennrich, Haddow, Birch 2016 (arXiv 1508.07909).
//
// Short words merge by scanning an array; long ones through a heap of (rank, place), so that a text without blanks stays n log n.
#include <algorithm>
#include <array>
#include <set>

#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/fields.h"
#include "data/tokenizer/model.h"
#include "data/tokenizer/word_table.h"

namespace ds::tokenizer {
namespace {

constexpr uint32_t kNoRank = 0xFFFFFFFFu;
constexpr std::string_view kMark = "▁";

// (left id, right id) -> rank and the merged id.
class MergeTable {
public:
    struct Merge {
        uint32_t rank = kNoRank;
        int32_t id = -1;
    };
    void reserve(size_t n) {
        size_t slots = 64;
        while (slots < n + n / 2) slots *= 2;
        slots_.assign(slots, Slot{});
        shift_ = 64 - __builtin_ctzll(slots);
    }
    void add(int32_t left, int32_t right, Merge merge) { slots_[find(key(left, right))] = {key(left, right), merge}; }
    Merge operator()(int32_t left, int32_t right) const { return slots_[find(key(left, right))].merge; }

private:
    static constexpr uint64_t kFree = ~uint64_t{0};
    struct Slot {
        uint64_t key = kFree;
        Merge merge;
    };
    static uint64_t key(int32_t left, int32_t right) {
        return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
    }
    size_t find(uint64_t wanted) const {
        size_t i = (wanted ^ (wanted >> 29)) * 0x9E3779B97F4A7C15u >> shift_;
        while (slots_[i].key != wanted && slots_[i].key != kFree) i = (i + 1) & (slots_.size() - 1);
        return i;
    }
    std::vector<Slot> slots_ = std::vector<Slot>(64);
    int shift_ = 58;
};

struct Symbol {
    int32_t id;
    uint32_t length;         // bytes
    MergeTable::Merge pair;  // with the symbol behind it
};

class Bpe final : public Model {
public:
    Status load(const ModelSpec& spec);
    Status tokenize(std::string_view word, std::vector<Token>& out) const override;
    Status tokenize_bytes(std::string_view word, std::vector<Token>& out) const override;
    bool reads_bytes() const override { return reads_bytes_; }
    std::optional<int32_t> unknown() const override { return unk_ ? vocabulary_.id_of(*unk_) : std::nullopt; }
    std::string_view continuing_prefix() const override { return prefix_; }

private:
    static constexpr size_t kSmall = 64;
    Status load_merges(const ModelSpec& spec);
    void index_code_points();
    void prepare(bool bytes) override;
    void index_token(int32_t id, std::vector<Token>& tokens);
    void index_bytes(int32_t id, std::vector<Token>& tokens);
    template <class Symbols>
    Status begin(std::string_view word, Symbols& symbols) const;
    Status unknown_symbol(std::optional<Symbol>& pending, uint32_t length, const auto& flush) const;
    bool fall_back(std::string_view text, const auto& add) const;
    void merge_and_emit(Symbol* symbols, size_t n, std::vector<Token>& out) const;
    size_t merge_small(Symbol* symbols, size_t n) const;
    void merge_long(Symbol* symbols, size_t n, std::vector<Token>& out) const;
    Status tokenize_stretch(std::string_view text, size_t base, std::vector<Token>& out) const;
    void index_mark();
    bool cuts_before_mark(std::string_view word, size_t at) const;
    bool whole_word(std::string_view word, const WordTable& words, const Vocabulary& long_words, std::vector<Token>& out) const;

    MergeTable merges_;
    std::optional<std::string> unk_;
    std::string prefix_, suffix_;
    bool fuse_unk_ = false, byte_fallback_ = false, ignore_merges_ = false, reads_bytes_ = false;
    std::array<int32_t, 128> ascii_{};        // id of a code point without affixes, or -1
    std::array<int32_t, 256> byte_tokens_{};  // id of "<0x..>", or -1
    std::array<int32_t, 256> bytes_{};        // id of a byte's stand-in, or -1
    int32_t mark_ = -1;                       // id of "▁", where words may be cut before it
    std::set<char32_t> joined_to_mark_;       // code points that some token has right before a "▁"
    WordTable words_, byte_words_;            // words whose encoding is one token
    Vocabulary long_byte_words_;              // ignore_merges: tokens too long for the table, as bytes
};

Status Bpe::load(const ModelSpec& spec) {
    for (const auto& [token, id] : spec.vocabulary) DS_CHECK(vocabulary_.add(token, id).within(spec.place + ".vocab"));
    const Json& options = spec.options;
    DS_TRY(unk_, optional_string(options, "unk_token", spec.place));
    DS_TRY(prefix_, string_field(options, "continuing_subword_prefix", spec.place, ""));
    DS_TRY(suffix_, string_field(options, "end_of_word_suffix", spec.place, ""));
    DS_TRY(fuse_unk_, bool_field(options, "fuse_unk", spec.place, false));
    DS_TRY(byte_fallback_, bool_field(options, "byte_fallback", spec.place, false));
    DS_TRY(ignore_merges_, bool_field(options, "ignore_merges", spec.place, false));
    if (const auto dropout = options.find("dropout"); dropout != options.end() && !dropout->is_null()) {
        if (!dropout->is_number()) return fail(Code::E_CORRUPT, "{}.dropout: must be a number or null", spec.place);
        if (dropout->get<double>() != 0)
            return fail(Code::E_UNSUPPORTED, "{}.dropout: {} would make encoding random, which is not built; 0 or null are", spec.place,
                        dropout->get<double>());
    }
    DS_CHECK(load_merges(spec));
    index_code_points();
    index_mark();
    return ok();
}

Status Bpe::load_merges(const ModelSpec& spec) {
    merges_.reserve(spec.merges.size());
    std::string joined;
    for (size_t i = 0; i < spec.merges.size(); ++i) {
        const auto& [left, right] = spec.merges[i];
        const auto a = vocabulary_.id_of(left), b = vocabulary_.id_of(right);
        const auto missing = [&](std::string_view token) {
            return fail(Code::E_CORRUPT, "{}.merges[{}]: token \"{}\" is not in the vocabulary", spec.place, i, token.substr(0, 100));
        };
        if (!a) return missing(left);
        if (!b) return missing(right);
        if (right.size() < prefix_.size())
            return fail(Code::E_CORRUPT, "{}.merges[{}]: \"{}\" is shorter than the prefix \"{}\"", spec.place, i, right, prefix_);
        joined.assign(left);
        joined += right.substr(prefix_.size());
        const auto merged = vocabulary_.id_of(joined);
        if (!merged) return missing(joined);
        merges_.add(*a, *b, {static_cast<uint32_t>(i), *merged});
    }
    return ok();
}

void Bpe::index_code_points() {
    for (size_t c = 0; c < 128; ++c) ascii_[c] = vocabulary_.id_of(std::string(1, static_cast<char>(c))).value_or(-1);
    for (size_t b = 0; b < 256; ++b) {
        byte_tokens_[b] = vocabulary_.id_of(fmt::format("<0x{:02X}>", b)).value_or(-1);
        std::string stand_in;
        append_utf8(stand_in, kByteLevel[b]);
        bytes_[b] = vocabulary_.id_of(stand_in).value_or(-1);
    }
    // With a byte missing, the unknown token and its offsets need the general way.
    reads_bytes_ = prefix_.empty() && suffix_.empty() && std::none_of(bytes_.begin(), bytes_.end(), [](int32_t id) { return id < 0; });
}

void Bpe::prepare(bool bytes) {
    (bytes ? byte_words_ : words_).reserve(static_cast<size_t>(vocabulary_.size()));
    std::vector<Token> tokens;
    for (int64_t i = 0; i < vocabulary_.end(); ++i) {
        tokens.clear();
        if (bytes) index_bytes(static_cast<int32_t>(i), tokens);
        else index_token(static_cast<int32_t>(i), tokens);
    }
}

// Most tokens of a vocabulary are what the merges make of their own text, so that no merging is needed where one is a whole word.
void Bpe::index_token(int32_t id, std::vector<Token>& tokens) {
    const std::string_view token = vocabulary_.token_of(id);
    if (token.empty() || token.size() > WordTable::kMaxLength) return;
    if (ignore_merges_ || (tokenize(token, tokens).ok() && tokens.size() == 1 && tokens[0].id == id))
        words_.add(WordTable::key_of(token), id);
}

void Bpe::index_bytes(int32_t id, std::vector<Token>& tokens) {
    const auto bytes = bytes_of_token(vocabulary_.token_of(id));
    if (!bytes || bytes->empty()) return;
    if (bytes->size() > WordTable::kMaxLength) {
        if (ignore_merges_) static_cast<void>(long_byte_words_.add_or_replace(*bytes, id));
    } else if (ignore_merges_ || (tokenize_bytes(*bytes, tokens).ok() && tokens.size() == 1 && tokens[0].id == id)) {
        byte_words_.add(WordTable::key_of(*bytes), id);
    }
}

bool Bpe::whole_word(std::string_view word, const WordTable& words, const Vocabulary& long_words, std::vector<Token>& out) const {
    int32_t id = -1;
    if (word.size() <= WordTable::kMaxLength) id = words[WordTable::key_of(word)];
    else if (ignore_merges_) id = long_words.id_of(word).value_or(-1);
    if (id < 0) return false;
    out.push_back({id, 0, static_cast<uint32_t>(word.size())});
    return true;
}

bool Bpe::fall_back(std::string_view text, const auto& add) const {
    if (!byte_fallback_) return false;
    for (const char byte : text) {
        if (byte_tokens_[static_cast<unsigned char>(byte)] < 0) return false;
    }
    for (const char byte : text) add(byte_tokens_[static_cast<unsigned char>(byte)], 1);
    return true;
}

Status Bpe::unknown_symbol(std::optional<Symbol>& pending, uint32_t length, const auto& flush) const {
    if (!unk_) return ok();  // a code point that the vocabulary lacks vanishes, as it does upstream
    if (pending && fuse_unk_) {
        pending->length += length;
        return ok();
    }
    flush();
    const auto id = vocabulary_.id_of(*unk_);
    if (!id) return fail(Code::E_CORRUPT, "tokenizer: the unknown token \"{}\" is needed, but is not in the vocabulary", *unk_);
    pending = Symbol{*id, length, {}};
    return ok();
}

// The word's code points as symbols.
template <class Symbols>
Status Bpe::begin(std::string_view word, Symbols& symbols) const {
    const bool affixes = !prefix_.empty() || !suffix_.empty();
    std::optional<Symbol> pending;
    const auto add = [&](int32_t id, uint32_t length) { symbols.push_back({id, length, {}}); };
    const auto flush = [&] {
        if (pending) symbols.push_back(*pending);
        pending.reset();
    };
    std::string dressed;
    for (size_t i = 0; i < word.size();) {
        const auto length = static_cast<uint32_t>(utf8_bytes(word[i]));
        std::string_view text = word.substr(i, length);
        if (affixes) {
            dressed = i > 0 ? prefix_ : std::string();
            dressed += text;
            if (i + length == word.size()) dressed += suffix_;
            text = dressed;
        }
        int32_t id = -1;
        if (text.size() == 1 && !(text[0] & 0x80)) id = ascii_[static_cast<size_t>(text[0])];
        else if (mark_ >= 0 && text == kMark) id = mark_;
        else id = vocabulary_.id_of(text).value_or(-1);
        i += length;
        if (id >= 0) {
            flush();
            add(id, length);
        } else if (!fall_back(text, add)) {
            DS_CHECK(unknown_symbol(pending, length, flush));
        }
    }
    flush();
    return ok();
}

size_t Bpe::merge_small(Symbol* s, size_t n) const {
    for (size_t i = 0; i + 1 < n; ++i) s[i].pair = merges_(s[i].id, s[i + 1].id);
    s[n - 1].pair = {};
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; ++i) {
            if (s[i].pair.rank < s[best].pair.rank) best = i;
        }
        if (s[best].pair.rank == kNoRank) break;
        s[best].id = s[best].pair.id;
        s[best].length += s[best + 1].length;
        std::copy(s + best + 2, s + n, s + best + 1);
        --n;
        s[best].pair = best + 1 < n ? merges_(s[best].id, s[best + 1].id) : MergeTable::Merge{};
        if (best > 0) s[best - 1].pair = merges_(s[best - 1].id, s[best].id);
    }
    return n;
}

void Bpe::merge_long(Symbol* s, size_t n, std::vector<Token>& out) const {
    std::vector<uint32_t> next(n), previous(n);
    const auto none = static_cast<uint32_t>(n);
    std::vector<uint64_t> heap;  // rank << 32 | place: the smallest rank, the leftmost of equals
    heap.reserve(n);
    for (size_t i = 0; i < n; ++i) {
        next[i] = static_cast<uint32_t>(i + 1);
        previous[i] = i > 0 ? static_cast<uint32_t>(i - 1) : none;
        s[i].pair = i + 1 < n ? merges_(s[i].id, s[i + 1].id) : MergeTable::Merge{};
        if (s[i].pair.rank != kNoRank) heap.push_back(static_cast<uint64_t>(s[i].pair.rank) << 32 | i);
    }
    std::make_heap(heap.begin(), heap.end(), std::greater<>());
    const auto form = [&](uint32_t i) {
        s[i].pair = next[i] != none ? merges_(s[i].id, s[next[i]].id) : MergeTable::Merge{};
        if (s[i].pair.rank == kNoRank) return;
        heap.push_back(static_cast<uint64_t>(s[i].pair.rank) << 32 | i);
        std::push_heap(heap.begin(), heap.end(), std::greater<>());
    };
    while (!heap.empty()) {
        const uint64_t top = heap.front();
        std::pop_heap(heap.begin(), heap.end(), std::greater<>());
        heap.pop_back();
        const auto i = static_cast<uint32_t>(top);
        if (s[i].length == 0 || s[i].pair.rank != static_cast<uint32_t>(top >> 32)) continue;  // its pair has changed since
        const uint32_t right = next[i];
        s[i].id = s[i].pair.id;
        s[i].length += s[right].length;
        s[right].length = 0;
        next[i] = next[right];
        if (next[i] != none) previous[next[i]] = i;
        form(i);
        if (previous[i] != none) form(previous[i]);
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i != none; i = next[i]) {
        out.push_back({s[i].id, at, at + s[i].length});
        at += s[i].length;
    }
}

void Bpe::merge_and_emit(Symbol* symbols, size_t n, std::vector<Token>& out) const {
    if (n == 0) return;
    if (n > kSmall) return merge_long(symbols, n, out);
    n = merge_small(symbols, n);
    uint32_t at = 0;
    for (size_t i = 0; i < n; ++i) {
        out.push_back({symbols[i].id, at, at + symbols[i].length});
        at += symbols[i].length;
    }
}

// Where no token holds a "▁" behind this code point, no merge can join the two: the word may be cut there, and sentencepiece's models,
// which see a whole text as one word, work word by word.
void Bpe::index_mark() {
    if (!prefix_.empty() || !suffix_.empty()) return;
    mark_ = vocabulary_.id_of(kMark).value_or(-1);
    for (int64_t id = 0; mark_ >= 0 && id < vocabulary_.end(); ++id) {
        const std::string_view token = vocabulary_.token_of(static_cast<int32_t>(id));
        for (size_t at = token.find(kMark, 1); at < token.size(); at = token.find(kMark, at + 1)) {
            size_t before = previous_start(token, at);
            joined_to_mark_.insert(next_code_point(token, before));
        }
    }
}

bool Bpe::cuts_before_mark(std::string_view word, size_t at) const {
    size_t before = previous_start(word, at);
    const std::string_view text = word.substr(before, at - before);
    // A code point that is unknown, or is spelled in bytes, is left to the general way.
    if (text.size() == 1 ? ascii_[static_cast<size_t>(text[0])] < 0 : !vocabulary_.id_of(text)) return false;
    return !joined_to_mark_.contains(next_code_point(word, before));
}

Status Bpe::tokenize(std::string_view word, std::vector<Token>& out) const {
    if (whole_word(word, words_, vocabulary_, out)) return ok();
    // Upstream counts a token's place from the tokens before it, so that a code point that vanished shifts those behind it.
    const size_t first = out.size();
    const auto reached = [&] { return out.size() > first ? size_t{out.back().end} : 0; };
    size_t begin = 0;
    for (size_t at = mark_ < 0 ? word.npos : word.find(kMark, 1); at < word.size(); at = word.find(kMark, at + 1)) {
        if (!cuts_before_mark(word, at)) continue;
        DS_CHECK(tokenize_stretch(word.substr(begin, at - begin), reached(), out));
        begin = at;
    }
    return tokenize_stretch(word.substr(begin), reached(), out);
}

Status Bpe::tokenize_stretch(std::string_view text, size_t base, std::vector<Token>& out) const {
    struct Few {
        Symbol symbols[kSmall];
        size_t n = 0;
        void push_back(const Symbol& symbol) { symbols[n++] = symbol; }
    };
    const size_t first = out.size();
    const bool known = !ignore_merges_ && whole_word(text, words_, vocabulary_, out);
    if (!known && text.size() <= kSmall && suffix_.empty() && prefix_.empty()) {
        Few few;
        DS_CHECK(begin(text, few));
        merge_and_emit(few.symbols, few.n, out);
    } else if (!known) {
        std::vector<Symbol> symbols;
        symbols.reserve(text.size());
        DS_CHECK(begin(text, symbols));
        merge_and_emit(symbols.data(), symbols.size(), out);
    }
    for (size_t i = first; base > 0 && i < out.size(); ++i) {
        out[i].begin += static_cast<uint32_t>(base);
        out[i].end += static_cast<uint32_t>(base);
    }
    return ok();
}

Status Bpe::tokenize_bytes(std::string_view word, std::vector<Token>& out) const {
    if (whole_word(word, byte_words_, long_byte_words_, out)) return ok();
    const auto fill = [&](Symbol* symbols) {
        for (size_t i = 0; i < word.size(); ++i) symbols[i] = {bytes_[static_cast<unsigned char>(word[i])], 1, {}};
        merge_and_emit(symbols, word.size(), out);
    };
    if (word.size() <= kSmall) {
        Symbol small[kSmall];
        fill(small);
    } else {
        std::vector<Symbol> symbols(word.size());
        fill(symbols.data());
    }
    return ok();
}

}  // namespace

Result<std::unique_ptr<Model>> make_bpe(const ModelSpec& spec) {
    auto model = std::make_unique<Bpe>();
    DS_CHECK(model->load(spec));
    return std::unique_ptr<Model>(std::move(model));
}

}  // namespace ds::tokenizer
