// compression_training.knowledge_distillation: the teacher that stands in a student's training graphs. It is frozen, is no parameter that a
// host sees, and comes from its folder again instead of from checkpoints.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "models/model.h"
#include "passes/distillation.h"

namespace ds {

class Teacher {
public:
    // Null where the config wants none. whole: the config.json of the model as the config names it, in `folder`, before layers were taken
    // out; layers: those that were left.
    static Result<std::unique_ptr<Teacher>> make(const Config& config, const Json& whole, const std::string& folder,
                                                 std::vector<int64_t> layers);

    // Where graphs have a loss; the engine's first graph declares what all have.
    Status add_to(Graph& graph, const StreamShape& shape) const;
    const std::string& folder() const { return folder_; }  // empty: initialised from the seed
    const TensorNames& names() const { return model_->names; }
    bool couples_rows() const { return spec_.hidden > 0; }  // as Model::couples_rows: states are told over the whole batch

private:
    std::unique_ptr<const Model> model_;
    std::string folder_;
    DistillationSpec spec_;
};

}  // namespace ds
