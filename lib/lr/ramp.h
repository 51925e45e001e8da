// A whole number that grows with the steps, as DeepSpeed's curricula have it (runtime/data_pipeline/curriculum_scheduler.py): the length of
// rows, the rows that are easy enough, the tokens that random-LTD keeps.
//   fixed_discrete  difficulty[j] up to and with step max_step[j], the last one from then on
//   fixed_root      floor((t / total)^(1 / degree) * (max - min) + min), less its remainder by difficulty_step, at most max
//   fixed_linear    fixed_root of degree 1
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace ds {

// What a section calls its numbers.
struct RampNames {
    const char* least;
    const char* most;
    const char* total;
    const char* step;
    bool only_linear;
};
inline constexpr RampNames kCurriculumNames{"min_difficulty", "max_difficulty", "total_curriculum_step", "difficulty_step", false};
inline constexpr RampNames kRandomLtdNames{"min_value", "max_value", "require_steps", "seq_per_step", true};

class Ramp {
public:
    // section: with schedule_type and schedule_config. path: its place in the config, for messages.
    static Result<Ramp> make(const Json& section, const std::string& path, const RampNames& names);

    int64_t at(int64_t step) const;  // once the most was reached, it stays so
    int64_t most() const { return most_; }

private:
    int64_t least_ = 0, most_ = 0, total_ = 1, round_ = 1;
    double degree_ = 1;
    std::vector<int64_t> difficulties_, max_steps_;  // fixed_discrete
};

// Progressive layer drop's theta of a forward pass after so many updates: (1 - theta) exp(-gamma t) + theta. DeepSpeed moves it on at the
// end of an update, from the number of updates before that one.
double layer_theta(double theta, double gamma, int64_t updates);

}  // namespace ds
