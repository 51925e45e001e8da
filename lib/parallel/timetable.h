// Timetables: what each pipeline rank does, in which order, for the micro-batches of a step. Plain tables: printed, drawn, simulated and
// executed alike.
//
// With `chunks` parts a rank, stage s of all ranks x chunks stages is chunk s / ranks of rank s % ranks, so neighbours are always on
// different ranks. Values come from the stage before and gradients from the stage after; messages between two stages keep the order of
// micro-batches.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace ds {

enum class Work : uint8_t { forward, backward, weights };  // weights: the gradients of weights, where the timetable runs them apart

struct Turn {
    Work work = Work::forward;
    int stage = 0, micro = 0;
    bool operator==(const Turn&) const = default;
};

struct Timetable {
    std::string kind;
    int ranks = 1, chunks = 1, micros = 0;
    bool splits = false;                   // backward passes are two turns: gradients of inputs, then those of weights
    std::vector<std::vector<Turn>> turns;  // of each rank

    int stages() const { return ranks * chunks; }
    int rank_of(int stage) const { return stage % ranks; }
    int chunk_of(int stage) const { return stage / ranks; }
};

struct TimetableOptions {
    std::string kind = "1f1b";  // gpipe, 1f1b, interleaved, zb-h1
    int ranks = 1, chunks = 1, micros = 1;
    int active = 0;  // most micro-batches in flight on a rank; 0: as many as the timetable wants
};

// gpipe        all forward passes, then all backward passes (Huang et al. 2018, arXiv 1811.06965); with `active`, so many micro-batches at
// a time. 1f1b         a backward pass as soon as there is one, so that stage s keeps at most ranks - s micro-batches (PipeDream-Flush,
// Narayanan et al. 2020, arXiv 2006.09503). interleaved  1f1b over several chunks a rank (Narayanan et al. 2021, arXiv 2104.04473). zb-h1
// 1f1b whose gradients of weights fill the gaps, at its memory (Qi et al. 2023, arXiv 2401.10241).
Timetable make_timetable(const TimetableOptions& options);

// How long turns take, in any unit. A backward pass that is not split takes backward + weights.
struct TurnTimes {
    double forward = 1, backward = 1, weights = 1;
};

struct TurnSpan {
    Turn turn;
    double begin = 0, end = 0;
};

struct Simulation {
    std::vector<std::vector<TurnSpan>> spans;  // of each rank
    double length = 0, bubble = 0;             // bubble: the share of the ranks' time in which they wait
    int done = 0;                              // turns that ran; fewer than there are: the rest waits for each other
};
Simulation simulate(const Timetable& table, const TurnTimes& times);

// The bubble by the papers' formulas, for turns of one length: (p-1)/(m+p-1), with c chunks (p-1)/(cm+p-1), zb-h1 (p-1)/(3m+p-1). They hold
// where m is at least p and, interleaved, a multiple of it.
double bubble_by_theory(const Timetable& table);

// The most micro-batches whose activations a rank, or one stage, keeps at one time. Chunks of one micro-batch count each.
int most_in_flight(const Timetable& table, int rank);
int most_in_flight_of_stage(const Timetable& table, int stage);

// Does what a rank's turns ask for, in their order: gets what a turn needs from its neighbours, runs it, gives them what they need. `with`
// has
//   Status receive(int from_rank, int64_t tag, const Turn& turn); Status run(const Turn& turn); Status send(int to_rank, int64_t tag, const
//   Turn& turn);
// Sending must not wait for the receiver. Each pair of stages has a tag for either direction.
template <class With>
Status walk(const Timetable& table, const std::vector<Turn>& turns, With&& with) {
    for (const Turn& turn : turns) {
        const bool forward = turn.work == Work::forward, meets = turn.work != Work::weights;
        const int before = turn.stage - 1, after = turn.stage + 1;
        const int from = !meets                   ? -1
                         : forward                ? before
                         : after < table.stages() ? after
                                                  : -1,
                  to = !meets    ? -1
                       : forward ? (after < table.stages() ? after : -1)
                                 : before;
        const auto tag = [&](int other) { return int64_t{2} * std::min(turn.stage, other) + (forward ? 0 : 1); };
        if (from >= 0) DS_CHECK(with.receive(table.rank_of(from), tag(from), turn));
        DS_CHECK(with.run(turn));
        if (to >= 0) DS_CHECK(with.send(table.rank_of(to), tag(to), turn));
    }
    return ok();
}

// A row a rank, a column a unit of time: F0 is the forward pass of micro-batch 0, B its backward pass, W its gradients of weights, F0b of
// the rank's second chunk.
std::string print(const Timetable& table);

}  // namespace ds
