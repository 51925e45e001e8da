// Hugging Face folders: config.json with overrides, weights by name, and back.
#pragma once

#include <filesystem>
#include <string>

#include "base/json.h"

namespace ds {

// config: a folder's path, or config.json's object. The folder stays empty for an object.
struct ModelSource {
    Json config;
    std::filesystem::path folder;
};
Result<ModelSource> read_model_source(const Json& model, const Json& overrides);
bool has_weights(const std::filesystem::path& folder);

}  // namespace ds
