// sentencepiece's normalization rules: a Darts double-array trie from byte strings to offsets into a block of zero-terminated
// replacements. Layout: u32 size of the trie in bytes, the trie's u32 units, the block.
//
// As upstream does, a grapheme cluster of up to five bytes is looked up whole and takes the replacement of the *shortest* rule that
// it begins with; otherwise each of its code points is looked up by itself.
#include <cstring>

#include "data/tokenizer/base64.h"
#include "data/tokenizer/fields.h"
#include "data/tokenizer/stages.h"

namespace ds::tokenizer {
namespace {

constexpr size_t kWholeGrapheme = 6;

struct Edit {
    char32_t c;
    int64_t change;
};

class Precompiled final : public Normalizer {
public:
    Status load(std::string_view blob, std::string_view place) {
        if (blob.empty()) return ok();  // no rules
        uint32_t size = 0;
        if (blob.size() < 4) return fail(Code::E_CORRUPT, "{}: {} bytes; the size of the trie takes 4", place, blob.size());
        std::memcpy(&size, blob.data(), 4);
        if (size % 4 != 0 || size < 4 || size > blob.size() - 4)
            return fail(Code::E_CORRUPT, "{}: a trie of {} bytes in a map of {}", place, size, blob.size());
        units_.resize(size / 4);
        std::memcpy(units_.data(), blob.data() + 4, size);
        block_ = blob.substr(4 + size);
        if (!is_utf8(block_)) return fail(Code::E_CORRUPT, "{}: the replacements are not UTF-8", place);
        for (int c = 1; c < 128; ++c) {
            const char byte = static_cast<char>(c);
            ascii_rule_[c] = find({&byte, 1}).has_value();
        }
        return ok();
    }

    Status apply(AlignedText& text) const override {
        if (units_.empty() || !touches(text)) return ok();
        const std::string_view all = text.text;
        std::vector<Edit> edits;
        edits.reserve(all.size());
        bool changed = false;
        for (size_t i = 0; i < all.size();) {
            const size_t end = grapheme_end(all, i);
            if (end - i < kWholeGrapheme && replace(all.substr(i, end - i), edits)) {
                changed = true;
                i = end;
                continue;
            }
            while (i < end) {
                const std::string_view one = all.substr(i, static_cast<size_t>(utf8_bytes(all[i])));
                size_t zero = 0;
                if (replace(one, edits)) changed = true;
                else edits.push_back({next_code_point(one, zero), 0});
                i += one.size();
            }
        }
        if (!changed) return ok();
        AlignedText to;
        to.clear();
        to.text.reserve(all.size() + 16);
        to.at.reserve(all.size() + 16);
        Rewriter rewriter(text, 0, all.size(), to);
        for (const Edit& edit : edits) rewriter.put(edit.c, edit.change);
        text = std::move(to);
        return ok();
    }

private:
    // ASCII without rules of its own stays as it is.
    bool touches(const AlignedText& text) const {
        if (!text.plain && !is_ascii(text.text)) return true;
        for (size_t i = 0; i < text.text.size(); ++i) {
            const char c = text.text[i];
            if (ascii_rule_[static_cast<size_t>(c)]) return true;
            if (c == '\r' && i + 1 < text.text.size() && text.text[i + 1] == '\n') return true;
        }
        return false;
    }

    // Darts-clone's units: offset in bits 10.., a wide offset flag in bit 9, "has a leaf" in bit 8, the label below, a leaf's flag in
    // bit 31.
    static size_t offset(uint32_t unit) { return static_cast<size_t>(unit >> 10) << ((unit & (1u << 9)) >> 6); }

    std::optional<std::string_view> find(std::string_view key) const {
        size_t node = offset(units_[0]);
        for (const char c : key) {
            const auto byte = static_cast<unsigned char>(c);
            if (byte == 0) break;
            node ^= byte;
            if (node >= units_.size()) return std::nullopt;  // only a damaged trie leads outside
            const uint32_t unit = units_[node];
            if ((unit & ((1u << 31) | 0xFF)) != byte) return std::nullopt;
            node ^= offset(unit);
            if (((unit >> 8) & 1) == 0) continue;
            if (node >= units_.size()) return std::nullopt;
            return replacement(units_[node] & 0x7FFFFFFFu);
        }
        return std::nullopt;
    }

    std::optional<std::string_view> replacement(size_t begin) const {
        if (begin > block_.size() || (begin < block_.size() && (block_[begin] & 0xC0) == 0x80)) return std::nullopt;
        return std::string_view(block_).substr(begin, std::string_view(block_).find('\0', begin) - begin);
    }

    bool replace(std::string_view old, std::vector<Edit>& edits) const {
        if (old.size() == 1 && !ascii_rule_[static_cast<size_t>(old[0])]) return false;
        const auto found = find(old);
        if (!found) return false;
        const auto before = static_cast<int64_t>(count_code_points(old));
        int64_t after = 0;
        for (size_t i = 0; i < found->size(); ++after) edits.push_back({next_code_point(*found, i), after >= before ? 1 : 0});
        // Code points that vanish hang on the edit before them.
        if (after < before && !edits.empty()) edits.back().change += after - before;
        return true;
    }

    std::vector<uint32_t> units_;
    std::string block_;
    bool ascii_rule_[128] = {};
};

}  // namespace

Result<NormalizerPtr> normalizer_precompiled(const Json& stage, const std::string& place) {
    DS_TRY(const std::string encoded, string_field(stage, "precompiled_charsmap", place, ""));
    const auto blob = from_base64(encoded);
    if (!blob) return fail(Code::E_CORRUPT, "{}.precompiled_charsmap: not base64", place);
    auto precompiled = std::make_unique<Precompiled>();
    DS_CHECK(precompiled->load(*blob, place + ".precompiled_charsmap"));
    return NormalizerPtr(std::move(precompiled));
}

}  // namespace ds::tokenizer
