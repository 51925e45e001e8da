// How whole tensors get into files, of checkpoints and of exported folders: one process writes, and asks the others for what they hold.
#pragma once

#include <functional>
#include <string>

#include "ckpt/safetensors.h"
#include "engine/whole_params.h"

namespace ds {

// Reads a whole field, which may need the other processes.
using ReadWhole = std::function<Status(const Param&, Field, float*)>;

// Memory as it lies, or gathered from the ranks when it is written.
NamedTensor tensor_of(const WholeParams& whole, const ReadWhole& read, const Param& p, Field field, std::string name, Shape shape);

}  // namespace ds
