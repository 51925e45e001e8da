// A batch: tensors by name. The names are Hugging Face's (input_ids, attention_mask, labels ...).
#pragma once

#include <map>
#include <string>

#include "base/tensor.h"

namespace ds {

using Batch = std::map<std::string, HostTensor>;

}  // namespace ds
