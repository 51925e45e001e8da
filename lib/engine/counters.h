// What an engine counts: for good, and within the step that is under way.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/json.h"

namespace ds {

// In DeepSpeed's words. A checkpoint has them.
struct Counters {
    int64_t global_steps = 0, skipped_steps = 0, micro_steps = 0, global_samples = 0;
    int64_t updates = 0;  // steps that were not skipped
    int64_t tokens = 0;
    int64_t draws = 0;  // training forwards, which draw random numbers

    Json save() const {
        Json saved;
        for (const auto& [name, counter] : kNames) saved[name] = this->*counter;
        return saved;
    }
    void restore(const Json& saved) {
        for (const auto& [name, counter] : kNames) this->*counter = saved.value(name, int64_t{0});
    }

private:
    static constexpr std::pair<const char*, int64_t Counters::*> kNames[] = {
        {"global_steps", &Counters::global_steps},
        {"skipped_steps", &Counters::skipped_steps},
        {"micro_steps", &Counters::micro_steps},
        {"global_samples", &Counters::global_samples},
        {"updates", &Counters::updates},
        {"draws", &Counters::draws},
        {"tokens", &Counters::tokens},
    };
};

// Between two updates: what was accumulated, and what the gradients are by now.
struct OpenStep {
    int64_t micros = 0;                    // backward passes
    int64_t from_host = 0;                 // those of them with a loss of the host's own
    int64_t labels = 0, first_labels = 0;  // of all others, of the first of these that has some
    int64_t samples = 0, tokens = 0;
    int64_t partial = 0;  // micro-batches of a step that the data ended early; 0: a whole one
    double loss_sum = 0, loss_weight = 0;
    bool reduced = false;     // gradients are sums over data ranks
    bool updated = false;     // and gone: the backward pass updated each weight (optimizer_in_backward)
    bool normalised = false;  // the host read or replaced gradients at the boundary: they are final values now

    double mean_loss() const { return loss_weight > 0 ? loss_sum / loss_weight : std::nan(""); }
};

}  // namespace ds
