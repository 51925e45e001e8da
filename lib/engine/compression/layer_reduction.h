// compression_training.layer_reduction: a student whose layers are some of the model's that the config names, its teacher (compress.py:
// student_initialization).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace ds {

class LayerReduction {
public:
    // compression: the section compression_training, or null. model_config: the teacher's config.json, which becomes the student's.
    static Result<LayerReduction> read(const Json& compression, Json& model_config);

    const std::vector<int64_t>& layers() const { return layers_; }  // the teacher's, for each of the student's; empty: nothing is reduced
    // Where a student's parameter begins; nothing: afresh.
    std::optional<std::string> name_in_teacher(const std::string& name) const;

private:
    std::vector<int64_t> layers_;
    std::string prefix_;               // of layers' names
    std::vector<std::string> others_;  // modules that begin like the teacher's, too
};

}  // namespace ds
