// How many rows the next update takes, where the batch grows as training goes on, and what the learning rate becomes by it.
//   steps, tokens   a table: so many rows once so many updates were made or tokens seen
//   plateau         the batch is multiplied where the smoothed loss found no better value for `patience` updates (Smith et al. 2018, arXiv
//   1711.00489) noise_scale     the batch follows the gradient's noise scale tr(S) / |G|^2 (McCandlish et al. 2018, arXiv 1812.06162,
//   appendix A.1), which is
//                   estimated from the squared norms of a small batch's gradient and of the whole one's
// Rows are those of all data ranks, a multiple of what one micro-batch of all of them has. A batch never shrinks.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace ds {

// linear: by n, sqrt: by the root of n, none: by 1, for a batch n times the first one. Accurate, Large Minibatch SGD (Goyal et al. 2017),
// as DeepSpeed's scale_lr.
double scaled_rate(const std::string& method, double rows, double first_rows);

// Squared norms of a gradient over few rows and over all rows of an update.
struct NoiseSample {
    double small_rows, small_squares, rows, squares;
};

struct StepFacts {
    int64_t steps = 0, tokens = 0;  // so far
    std::optional<double> loss;     // of an update that was applied
    std::optional<NoiseSample> noise;
};

class BatchGrowth {
public:
    // section: batch_growth. rows: the first updates'. unit: what rows are a multiple of.
    static Result<std::unique_ptr<BatchGrowth>> make(const Json& section, int64_t rows, int64_t unit);

    void step(const StepFacts& facts);      // after each update
    int64_t rows() const { return rows_; }  // of the next one
    bool wants_noise() const { return by_ == "noise_scale"; }
    double noise_scale() const;  // smoothed, in rows; 0: not known yet
    double lr_factor() const { return scaled_rate(scaling_, static_cast<double>(rows_), static_cast<double>(first_)); }

    Json state() const;
    Status restore(const Json& state);

private:
    void grow_to(double rows);
    void watch_loss(double loss);
    void watch_noise(const NoiseSample& sample);

    std::string by_, scaling_;
    std::vector<std::pair<int64_t, int64_t>> table_;  // (from, rows)
    int64_t first_ = 1, rows_ = 1, unit_ = 1, most_ = 1, patience_ = 1;
    double factor_ = 2, threshold_ = 0, smoothing_ = 0;
    // What was seen: exponential means with their weights, and how long nothing happened.
    double loss_ = 0, loss_weight_ = 0, best_ = 0, trace_ = 0, square_ = 0;
    bool has_best_ = false;
    int64_t waited_ = 0;
};

}  // namespace ds
