// What a training pass leaves out as training goes on: rows that are too hard yet, the ends of long rows, blocks (progressive layer drop),
// and tokens (random-LTD).
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "config/config.h"
#include "data/data.h"
#include "engine/metrics.h"
#include "engine/program.h"
#include "lr/ramp.h"

namespace ds {

class Efficiency {
public:
    // model: null for a host's own graph. smallest_graph: the model's, to look at its blocks.
    static Result<Efficiency> make(const Config& config, const Model* model, const std::function<Result<Graph>()>& smallest_graph);

    // For a data source: which rows it picks. DeepSpeed's index files hold what is measured there when the data is
    // opened.
    void describe(DataContext& context, int64_t batches_per_update) const;
    // What the schedule's rates are multiplied with, where an update took so many rows.
    double lr_factor(int64_t rows, int64_t usual_rows) const;

    bool cuts_rows() const { return curriculum_.has_value(); }
    // Rows cut to the length that the curriculum has reached after so many steps. Labels of what is cut go with it.
    Batch shortened(const Batch& batch, bool token_labels, int64_t step, Metrics& metrics) const;
    // Draws what this micro-batch leaves out.
    void route(std::vector<Packed>& parts, uint64_t draw, int64_t step, Metrics& metrics) const;

private:
    Status read_sampling();
    Status read_routing(const Config& config, const Model* model, const std::function<Result<Graph>()>& smallest_graph);
    void drop_tokens(Packed& part, int64_t keep, uint64_t draw) const;

    EfficiencyConfig config_;
    uint64_t seed_ = 0;
    RowCurriculum row_curriculum_;
    std::optional<Ramp> curriculum_, kept_tokens_;
    int64_t blocks_ = 0;  // of the model, where some are left out
    std::vector<int64_t> ltd_blocks_;
};

}  // namespace ds
