// What an engine with a pipeline has besides: which stage has what, the micro-batches that wait for their turns, and the memory of those
// under way.
//
// ds_forward and ds_backward only enqueue. The timetable runs when the step's micro-batches are complete or when a host asks for something
// that depends on them; a loss or output that is asked for before its backward runs that micro-batch forward alone. Either way gradients
// are added in the order of the backward calls, so when things ran does not show in the numbers.
#pragma once

#include <deque>

#include "engine/engine.h"
#include "parallel/timetable.h"

namespace ds {

// A micro-batch on its way.
struct Engine::Micro {
    Pass pass;                                                // plans: of each rank and chunk, once that stage began
    std::vector<Arena*> memory;                               // of each of those plans
    std::vector<bool> accumulates;                            // of each data rank: another micro-batch of the step came before
    std::map<std::pair<int, std::string>, HostTensor> seeds;  // by data rank and output
    std::vector<std::optional<double>> losses;                // of each data rank
    bool forwarded = false;
};

struct Engine::Pipeline {
    int ranks = 1, chunks = 1;
    bool splits = false;                              // gradients of weights have turns of their own
    std::vector<int> ends;                            // the boundaries with which stages end
    std::map<std::string, std::vector<int>> holders;  // the stages that have each parameter
    std::vector<bool> shares;                         // of each stage: the same rank's other chunks have some of its trained parameters too
    std::vector<std::string> tied;                    // trained parameters that several ranks have
    std::map<int, Timetable> tables;                  // by micro-batches
    std::deque<std::shared_ptr<Micro>> queue;         // their backward was called
    std::shared_ptr<Micro> pending;                   // the last training forward
    std::vector<int64_t> counted;                     // of each data rank: micro-batches with rows since the last update
    struct Memory {
        std::vector<std::unique_ptr<Arena>> all;
        std::vector<Arena*> free;
    };
    std::vector<Memory> training;                 // of each rank and chunk
    std::vector<std::unique_ptr<Arena>> other;    // likewise: of passes that keep nothing
    std::vector<std::vector<TurnSpan>> recorded;  // of each rank: how the last recorded step ran, in microseconds
    int64_t recorded_step = -1;
    int first_micro = 0;  // of those that run: its number in the step

    int stages() const { return ranks * chunks; }
    int stage_of(const Rank& rank, int chunk) const { return chunk * ranks + rank.at(MeshAxis::pipeline); }
    size_t place(const Rank& rank, int stage) const { return static_cast<size_t>(rank.index * chunks + stage / ranks); }
    std::vector<int> ranks_with(const std::string& parameter) const;  // coordinates along the pipeline axis, in the order of stages
    int64_t bytes() const;
};

}  // namespace ds
