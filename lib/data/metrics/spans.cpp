#include "data/metrics/metrics.h"

#include <set>
#include <tuple>

namespace ds::metrics {
namespace {

struct Tag {
    char place = 'O';  // B, I, E, S or O
    std::string_view type;
};

Tag tag_of(std::string_view text) {
    if (text.empty()) return {};
    const std::string_view rest = text.substr(1);
    const size_t dash = rest.find('-');
    const std::string_view type = dash == rest.npos ? rest : rest.substr(dash + 1);
    return {text[0], type.empty() ? "_" : type};
}

bool outside(char place) { return place == 'O' || place == '.'; }

// Whether an entity ends between two neighbours, and whether one begins.
bool ends(const Tag& before, const Tag& now) {
    if (before.place == 'E' || before.place == 'S') return true;
    if ((before.place == 'B' || before.place == 'I') && (now.place == 'B' || now.place == 'S' || now.place == 'O')) return true;
    return !outside(before.place) && before.type != now.type;
}
bool begins(const Tag& before, const Tag& now) {
    if (now.place == 'B' || now.place == 'S') return true;
    if ((before.place == 'E' || before.place == 'S' || before.place == 'O') && (now.place == 'E' || now.place == 'I')) return true;
    return !outside(now.place) && before.type != now.type;
}

using Entities = std::map<std::string, std::set<std::tuple<size_t, size_t, size_t>>>;  // by type: row, first, last

Entities entities_of(std::span<const Tags> rows) {
    Entities out;
    for (size_t row = 0; row < rows.size(); ++row) {
        Tag before{'O', ""};
        size_t first = 0;
        for (size_t i = 0; i <= rows[row].size(); ++i) {
            const Tag now = i < rows[row].size() ? tag_of(rows[row][i]) : Tag{'O', "_"};
            if (ends(before, now)) out[std::string(before.type)].emplace(row, first, i - 1);
            if (begins(before, now)) first = i;
            before = now;
        }
    }
    return out;
}

Shares shares(size_t right, size_t guessed, size_t there) {
    Shares s;
    s.support = static_cast<int64_t>(there);
    if (guessed) s.precision = static_cast<double>(right) / static_cast<double>(guessed);
    if (there) s.recall = static_cast<double>(right) / static_cast<double>(there);
    if (right) s.f1 = 2 * s.precision * s.recall / (s.precision + s.recall);
    return s;
}

}  // namespace

SpanScores span_scores(std::span<const Tags> predictions, std::span<const Tags> references) {
    SpanScores out;
    const Entities guessed = entities_of(predictions);
    Entities there = entities_of(references);
    for (const auto& [type, list] : guessed) there[type];
    size_t right = 0, all_guessed = 0, all_there = 0;
    for (const auto& [type, list] : there) {
        const auto found = guessed.find(type);
        size_t both = 0, guesses = 0;
        if (found != guessed.end()) {
            guesses = found->second.size();
            for (const auto& entity : list) both += found->second.count(entity);
        }
        out.types[type] = shares(both, guesses, list.size());
        right += both, all_guessed += guesses, all_there += list.size();
    }
    out.all = shares(right, all_guessed, all_there);
    size_t same = 0, tags = 0;
    for (size_t row = 0; row < references.size(); ++row)
        for (size_t i = 0; i < references[row].size(); ++i, ++tags)
            same += i < predictions[row].size() && predictions[row][i] == references[row][i];
    if (tags) out.accuracy = static_cast<double>(same) / static_cast<double>(tags);
    return out;
}

}  // namespace ds::metrics
