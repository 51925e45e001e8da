// Hugging Face folders: config.json with overrides, weights by name, and back.
#pragma once

#include <filesystem>
#include <string>

#include "base/json.h"
#include "ckpt/weight_folder.h"
#include "models/model.h"

namespace ds {

// config: a folder's path, or config.json's object. The folder stays empty for an object.
struct ModelSource {
    Json config;
    std::filesystem::path folder;
};
Result<ModelSource> read_model_source(const Json& model, const Json& overrides);
bool has_weights(const std::filesystem::path& folder);
// What a folder calls a model's tensor: several names where it holds a tied one more than once, none where it lacks it.
std::vector<std::string> names_in(const WeightFolder& folder, const std::string& name, const TensorNames& names);
bool same_values(const TensorView& a, const TensorView& b);

}  // namespace ds
