#include "data/metrics/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "data/tokenizer/unicode.h"

namespace ds::metrics {
namespace {

constexpr size_t kOrders = 4;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_stop(char c) { return c == '.' || c == ','; }

std::string replaced(std::string text, std::string_view from, std::string_view to) {
    for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) text.replace(at, from.size(), to);
    return text;
}

// Rewrites every pair of neighbours that `fits`, from left to right; one rewritten pair takes part in no other.
template <class Fits, class Write>
std::string pairs(const std::string& text, Fits fits, Write write) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        if (i + 1 < text.size() && fits(text[i], text[i + 1])) write(out, text[i], text[i + 1]), ++i;
        else out += text[i];
    }
    return out;
}

// Punctuation that stands alone always: all of ASCII's but ' , - . (which the later rules look at).
bool stands_alone(char c) {
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') || (c >= ':' && c <= '@') ||
           c == '/';
}

std::vector<std::string> words(std::string_view text) {
    std::vector<std::string> out(1);
    for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        const char32_t c = tokenizer::next_code_point(text, at);
        const bool blank = tokenizer::is_whitespace(c) || (c >= 0x1c && c <= 0x1f);
        if (!blank) out.back() += text.substr(begin, at - begin);
        else if (!out.back().empty()) out.emplace_back();
    }
    if (out.back().empty()) out.pop_back();
    return out;
}

using Grams = std::map<std::vector<std::string>, int64_t>;

Grams grams(const std::vector<std::string>& tokens, size_t order) {
    Grams out;
    for (size_t i = 0; i + order <= tokens.size(); ++i)
        ++out[{tokens.begin() + static_cast<ptrdiff_t>(i), tokens.begin() + static_cast<ptrdiff_t>(i + order)}];
    return out;
}

struct Counts {
    int64_t right[kOrders] = {}, all[kOrders] = {}, length = 0, reference_length = 0;
};

void count(const std::string& prediction, const std::vector<std::string>& references, Counts& counts) {
    const std::vector<std::string> guess = tokens_13a(prediction);
    std::vector<std::vector<std::string>> truths;
    for (const std::string& reference : references) truths.push_back(tokens_13a(reference));
    const auto size = static_cast<int64_t>(guess.size());
    int64_t closest = -1;
    for (const auto& truth : truths) {
        const auto length = static_cast<int64_t>(truth.size());
        const int64_t apart = std::abs(length - size), best = std::abs(closest - size);
        if (closest < 0 || apart < best || (apart == best && length < closest)) closest = length;
    }
    counts.length += size;
    counts.reference_length += std::max<int64_t>(closest, 0);
    for (size_t order = 1; order <= kOrders; ++order) {
        Grams most;
        for (const auto& truth : truths)
            for (const auto& [gram, n] : grams(truth, order)) most[gram] = std::max(most[gram], n);
        for (const auto& [gram, n] : grams(guess, order)) {
            counts.all[order - 1] += n;
            if (const auto found = most.find(gram); found != most.end()) counts.right[order - 1] += std::min(n, found->second);
        }
    }
}

}  // namespace

std::vector<std::string> tokens_13a(std::string_view given) {
    std::string text = replaced(replaced(replaced(std::string(given), "<skipped>", ""), "-\n", ""), "\n", " ");
    text = replaced(replaced(replaced(replaced(std::move(text), "&quot;", "\""), "&amp;", "&"), "&lt;", "<"), "&gt;", ">");
    std::string out;
    for (const char c : " " + text + " ") out += stands_alone(c) ? std::string{' ', c, ' '} : std::string(1, c);
    // Stops and commas within numbers stay, and so do dashes that follow no digit.
    out = pairs(
        out, [](char a, char b) { return !is_digit(a) && is_stop(b); },
        [](std::string& to, char a, char b) {
            to += {a, ' ', b, ' '};
        });
    out = pairs(
        out, [](char a, char b) { return is_stop(a) && !is_digit(b); },
        [](std::string& to, char a, char b) {
            to += {' ', a, ' ', b};
        });
    out = pairs(
        out, [](char a, char b) { return is_digit(a) && b == '-'; },
        [](std::string& to, char a, char b) {
            to += {a, ' ', b, ' '};
        });
    return words(out);
}

BleuScores bleu_scores(std::span<const std::string> predictions, std::span<const std::vector<std::string>> references) {
    Counts counts;
    for (size_t i = 0; i < predictions.size(); ++i) count(predictions[i], references[i], counts);
    BleuScores out;
    out.length = counts.length;
    out.reference_length = counts.reference_length;
    out.precisions.assign(kOrders, 0.0);
    out.brevity_penalty = counts.length >= counts.reference_length ? 1
                          : counts.length == 0
                              ? 0
                              : std::exp(1 - static_cast<double>(counts.reference_length) / static_cast<double>(counts.length));
    if (std::all_of(counts.right, counts.right + kOrders, [](int64_t n) { return n == 0; })) return out;
    double smooth = 1, sum = 0;
    bool impossible = false;
    for (size_t i = 0; i < kOrders; ++i) {
        if (counts.all[i] == 0) {
            impossible = true;  // no run of so many words was made at all
            break;
        }
        if (counts.right[i] == 0) smooth *= 2;
        out.precisions[i] =
            100 * (counts.right[i] == 0 ? 1 / smooth : static_cast<double>(counts.right[i])) / static_cast<double>(counts.all[i]);
        sum += std::log(out.precisions[i]);
    }
    out.bleu = impossible ? 0 : out.brevity_penalty * std::exp(sum / kOrders);
    return out;
}

}  // namespace ds::metrics
