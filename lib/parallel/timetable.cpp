#include "parallel/timetable.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace ds {
namespace {

using Turns = std::vector<Turn>;

Turns gpipe(const TimetableOptions& o, int stage) {
    const int at_once = o.active ? o.active : o.micros;
    Turns turns;
    for (int begin = 0; begin < o.micros; begin += at_once) {
        const int end = std::min(begin + at_once, o.micros);
        for (int m = begin; m < end; ++m) turns.push_back({Work::forward, stage, m});
        for (int m = begin; m < end; ++m) turns.push_back({Work::backward, stage, m});
    }
    return turns;
}

// Forward passes before the first backward pass: what the stages behind have yet to get.
int warm_up(const TimetableOptions& o, int stage) { return std::min({o.ranks - 1 - stage, o.micros, o.active ? o.active - 1 : o.micros}); }

Turns one_forward_one_backward(const TimetableOptions& o, int stage) {
    Turns turns;
    int forward = 0;
    while (forward < warm_up(o, stage)) turns.push_back({Work::forward, stage, forward++});
    for (int backward = 0; backward < o.micros; ++backward) {
        if (forward < o.micros) turns.push_back({Work::forward, stage, forward++});
        turns.push_back({Work::backward, stage, backward});
    }
    return turns;
}

// Later stages start fewer forward passes early, so they can put off as many gradients of weights more at the same memory.
Turns zero_bubble_h1(const TimetableOptions& o, int stage) {
    const int first = warm_up(o, stage), late = o.active ? std::min(stage, o.active - 1 - first) : stage;
    Turns turns;
    int forward = 0, backward = 0, weights = 0;
    while (forward < first) turns.push_back({Work::forward, stage, forward++});
    while (weights < o.micros) {
        if (forward < o.micros) turns.push_back({Work::forward, stage, forward++});
        if (backward < o.micros) turns.push_back({Work::backward, stage, backward++});
        if (backward > weights + late || backward == o.micros) turns.push_back({Work::weights, stage, weights++});
    }
    return turns;
}

// Chunks take turns with groups of as many micro-batches as there are ranks. A last group that is not full is laid out as if it were, and
// what isn't there is left out: what remains keeps its order and can't wait for what is gone.
Turns interleaved(const TimetableOptions& o, int rank, int begin, int end) {
    const int groups = (end - begin + o.ranks - 1) / o.ranks, total = groups * o.ranks * o.chunks;
    Turns forward, backward, turns;
    for (int g = 0; g < groups; ++g)
        for (int c = 0; c < o.chunks; ++c)
            for (int m = 0; m < o.ranks; ++m) {
                forward.push_back({Work::forward, c * o.ranks + rank, begin + g * o.ranks + m});
                backward.push_back({Work::backward, (o.chunks - 1 - c) * o.ranks + rank, begin + g * o.ranks + m});
            }
    const auto add = [&](const Turn& turn) {
        if (turn.micro < end) turns.push_back(turn);
    };
    const int first = std::min(total, 2 * (o.ranks - 1 - rank) + (o.chunks - 1) * o.ranks);
    for (int i = 0; i < first; ++i) add(forward[static_cast<size_t>(i)]);
    for (int i = 0; i < total; ++i) {
        if (first + i < total) add(forward[static_cast<size_t>(first + i)]);
        add(backward[static_cast<size_t>(i)]);
    }
    return turns;
}

double time_of(const Turn& turn, const Timetable& table, const TurnTimes& times) {
    if (turn.work == Work::forward) return times.forward;
    if (turn.work == Work::weights) return times.weights;
    return times.backward + (table.splits ? 0 : times.weights);
}

std::string cell(const Turn& turn, const Timetable& table) {
    std::string text = fmt::format("{}{}", "FBW"[static_cast<size_t>(turn.work)], turn.micro);
    if (table.chunks > 1) text += static_cast<char>('a' + table.chunk_of(turn.stage) % 26);
    return text;
}

}  // namespace

Timetable make_timetable(const TimetableOptions& o) {
    Timetable table{.kind = o.kind,
                    .ranks = o.ranks,
                    .chunks = o.kind == "interleaved" ? o.chunks : 1,
                    .micros = o.micros,
                    .splits = o.kind == "zb-h1",
                    .turns = {}};
    for (int rank = 0; rank < o.ranks; ++rank) {
        if (o.kind == "gpipe") table.turns.push_back(gpipe(o, rank));
        else if (o.kind == "zb-h1") table.turns.push_back(zero_bubble_h1(o, rank));
        else if (o.kind == "interleaved") {
            const int at_once = o.active ? o.active : o.micros;
            table.turns.emplace_back();
            for (int begin = 0; begin < o.micros; begin += at_once)
                for (const Turn& turn : interleaved(o, rank, begin, std::min(begin + at_once, o.micros)))
                    table.turns.back().push_back(turn);
        } else table.turns.push_back(one_forward_one_backward(o, rank));
    }
    return table;
}

Simulation simulate(const Timetable& table, const TurnTimes& times) {
    Simulation result;
    result.spans.resize(table.turns.size());
    std::map<std::tuple<Work, int, int>, double> ends;
    std::vector<double> clock(table.turns.size(), 0), busy(table.turns.size(), 0);
    for (bool moved = true; std::exchange(moved, false);) {
        for (size_t rank = 0; rank < table.turns.size(); ++rank) {
            const auto& turns = table.turns[rank];
            while (result.spans[rank].size() < turns.size()) {
                const Turn& turn = turns[result.spans[rank].size()];
                double begin = clock[rank];
                bool ready = true;
                const auto after = [&](Work work, int stage) {
                    const auto found = ends.find({work, stage, turn.micro});
                    ready &= found != ends.end();
                    if (found != ends.end()) begin = std::max(begin, found->second);
                };
                if (turn.work == Work::forward && turn.stage > 0) after(Work::forward, turn.stage - 1);
                if (turn.work == Work::backward) after(Work::forward, turn.stage);
                if (turn.work == Work::backward && turn.stage + 1 < table.stages()) after(Work::backward, turn.stage + 1);
                if (turn.work == Work::weights) after(Work::backward, turn.stage);
                if (!ready) break;
                const double time = time_of(turn, table, times);
                clock[rank] = ends[{turn.work, turn.stage, turn.micro}] = begin + time;
                busy[rank] += time;
                result.spans[rank].push_back({turn, begin, begin + time});
                ++result.done;
                moved = true;
            }
        }
    }
    double all = 0;
    for (size_t rank = 0; rank < clock.size(); ++rank) result.length = std::max(result.length, clock[rank]), all += busy[rank];
    if (result.length > 0) result.bubble = 1 - all / (result.length * static_cast<double>(table.turns.size()));
    return result;
}

double bubble_by_theory(const Timetable& table) {
    const double p = table.ranks, m = table.micros;
    const double work = table.splits ? 3 * m : m * table.chunks;
    return (p - 1) / (work + p - 1);
}

namespace {

template <class F>
int most(const Timetable& table, int rank, F&& counts) {
    int now = 0, peak = 0;
    for (const Turn& turn : table.turns[static_cast<size_t>(rank)]) {
        if (!counts(turn)) continue;
        if (turn.work == Work::forward) peak = std::max(peak, ++now);
        if (turn.work == (table.splits ? Work::weights : Work::backward)) --now;
    }
    return peak;
}

}  // namespace

int most_in_flight(const Timetable& table, int rank) {
    return most(table, rank, [](const Turn&) { return true; });
}
int most_in_flight_of_stage(const Timetable& table, int stage) {
    return most(table, table.rank_of(stage), [&](const Turn& turn) { return turn.stage == stage; });
}

std::string print(const Timetable& table) {
    const Simulation run = simulate(table, {1, table.splits ? 1.0 : 0.5, table.splits ? 1.0 : 0.5});
    size_t width = 2;
    for (const auto& turns : table.turns)
        for (const Turn& turn : turns) width = std::max(width, cell(turn, table).size());
    std::string text;
    for (size_t rank = 0; rank < run.spans.size(); ++rank) {
        std::string row;
        int at = 0;
        const auto put = [&](const std::string& what) { row += fmt::format("{:<{}} ", what, width), ++at; };
        for (const TurnSpan& span : run.spans[rank]) {
            while (at < static_cast<int>(span.begin + 0.5)) put(".");
            put(cell(span.turn, table));
        }
        while (row.ends_with(' ')) row.pop_back();
        text += fmt::format("s{} {}\n", rank, row);
    }
    return text;
}

}  // namespace ds
