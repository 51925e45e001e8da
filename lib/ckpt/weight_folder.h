// WeightFolder: the weights of a Hugging Face folder, whether one model.safetensors or shards with model.safetensors.index.json.
//
// The index comes from outside: its shards must be plain names in the same folder, never paths. Symbolic links are followed, because
// Hugging Face's own cache is made of them. Pickles (pytorch_model.bin) are never read: unpickling runs whatever code is in the file.
#pragma once

#include "ckpt/safetensors.h"

namespace ds {

class WeightFolder {
public:
    static Result<WeightFolder> open(const std::filesystem::path& folder);
    // True where open() has something to read, as opposed to a folder that only holds a config.
    static bool has_weights(const std::filesystem::path& folder);

    const TensorView* find(std::string_view name) const;  // nullptr where there is none
    std::vector<std::string_view> names() const;          // sorted
    const std::vector<SafetensorsFile>& files() const { return files_; }

private:
    Status open_shards(const std::filesystem::path& folder);
    std::vector<SafetensorsFile> files_;
    std::map<std::string_view, const TensorView*> tensors_;  // into files_
};

}  // namespace ds
