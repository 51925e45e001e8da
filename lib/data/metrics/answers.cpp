#include "data/metrics/metrics.h"

#include <algorithm>

#include "data/tokenizer/unicode.h"

namespace ds::metrics {
namespace {

using namespace ds::tokenizer;

bool is_ascii_punctuation(char32_t c) {
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
}

// The words that count. An article is one as a run of letters of its own, whatever stands around it.
std::vector<std::string> words_of(std::string_view text) {
    std::u32string plain;
    for (size_t at = 0; at < text.size();) {
        char32_t low[2];
        const int n = lowercase(next_code_point(text, at), low);
        for (int i = 0; i < n; ++i)
            if (!is_ascii_punctuation(low[i])) plain += low[i];
    }
    for (size_t i = 0; i < plain.size();) {
        size_t end = i;
        while (end < plain.size() && is_word(plain[end])) ++end;
        const std::u32string_view run = std::u32string_view(plain).substr(i, end - i);
        if (run == U"a" || run == U"an" || run == U"the")
            std::fill(plain.begin() + static_cast<ptrdiff_t>(i), plain.begin() + static_cast<ptrdiff_t>(end), U' ');
        i = std::max(end, i + 1);
    }
    std::vector<std::string> words(1);
    for (const char32_t c : plain) {
        if (!is_whitespace(c)) append_utf8(words.back(), c);
        else if (!words.back().empty()) words.emplace_back();
    }
    if (words.back().empty()) words.pop_back();
    return words;
}

double overlap(std::vector<std::string> guess, std::vector<std::string> truth) {
    if (guess.empty() || truth.empty()) return guess == truth;
    std::sort(guess.begin(), guess.end());
    std::sort(truth.begin(), truth.end());
    std::vector<std::string> both;
    std::set_intersection(guess.begin(), guess.end(), truth.begin(), truth.end(), std::back_inserter(both));
    if (both.empty()) return 0;
    const double same = static_cast<double>(both.size()), precision = same / static_cast<double>(guess.size()),
                 recall = same / static_cast<double>(truth.size());
    return 2 * precision * recall / (precision + recall);
}

}  // namespace

AnswerScores answer_scores(std::span<const std::string> predictions, std::span<const std::vector<std::string>> references) {
    AnswerScores out;
    for (size_t i = 0; i < predictions.size(); ++i) {
        const std::vector<std::string> guess = words_of(predictions[i]);
        double exact = 0, f1 = 0;
        const auto against = [&](std::string_view reference) {
            const std::vector<std::string> truth = words_of(reference);
            exact = std::max(exact, guess == truth ? 1.0 : 0.0);
            f1 = std::max(f1, overlap(guess, truth));
        };
        for (const std::string& reference : references[i]) against(reference);
        if (references[i].empty()) against("");
        out.exact_match += exact;
        out.f1 += f1;
    }
    const double share = predictions.empty() ? 0 : 100.0 / static_cast<double>(predictions.size());
    out.exact_match *= share;
    out.f1 *= share;
    return out;
}

}  // namespace ds::metrics
