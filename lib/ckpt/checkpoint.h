// Checkpoints: a folder dir/tag/ with state.json (the caller's JSON, the list of files, their sizes and checksums) and tensor files
// in safetensors, and dir/latest, which holds the newest tag. Killed at any moment, what was last complete loads; a damaged byte in
// any file is an error. README.md tells the protocol.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "ckpt/safetensors.h"

namespace ds {

using CheckpointTensor = NamedTensor;
using CheckpointFiles = std::map<std::string, std::vector<CheckpointTensor>>;  // "weights.safetensors" -> its tensors

struct SaveOptions {
    bool exchange = true;  // false: replace a tag by two renames, as on file systems that can't swap two folders in one step
};

// Writes dir/tag, replacing it where it exists, then dir/latest. An error leaves what was there. `state` may hold whatever JSON can,
// which excludes NaN and infinities. One saver a folder at a time: a second one waits.
Status save_checkpoint(const std::filesystem::path& dir, const std::string& tag, const Json& state, const CheckpointFiles& files,
                       const SaveOptions& options = {});

// Runs f(0) to f(n - 1) in any order, on whatever threads the caller has; f does not throw.
using Spread = std::function<void(int64_t n, const std::function<void(int64_t)>& f)>;
inline void in_turn(int64_t n, const std::function<void(int64_t)>& f) {
    for (int64_t i = 0; i < n; ++i) f(i);
}

// An open checkpoint, every byte of it verified. Its views live as long as it, even if the folder is replaced or removed meanwhile.
class Checkpoint {
public:
    const std::string& tag() const { return tag_; }
    const std::filesystem::path& folder() const { return folder_; }
    const Json& state() const { return state_; }
    const std::map<std::string, SafetensorsFile, std::less<>>& files() const { return files_; }
    const SafetensorsFile* file(std::string_view name) const;                              // nullptr where there is none
    Result<const TensorView*> tensor(std::string_view file, std::string_view name) const;  // an error names the folder

private:
    friend Result<Checkpoint> open_checkpoint(const std::filesystem::path&, const std::optional<std::string>&, const Spread&);
    static Result<Checkpoint> open_folder(const std::filesystem::path& folder, const std::string& tag, const Spread& spread);
    std::string tag_;
    std::filesystem::path folder_;
    Json state_;
    std::map<std::string, SafetensorsFile, std::less<>> files_;
};

// tag absent: the one dir/latest names.
Result<Checkpoint> open_checkpoint(const std::filesystem::path& dir, const std::optional<std::string>& tag = std::nullopt,
                                   const Spread& spread = in_turn);

// Whether a tag is acceptable; save_checkpoint asks too.
Status check_tag(const std::string& tag);

Result<std::string> latest_tag(const std::filesystem::path& dir);

}  // namespace ds
