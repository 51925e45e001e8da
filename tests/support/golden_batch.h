// The batch of a golden model (tests/data/models/NAME/inputs.safetensors).
#pragma once

#include "ckpt/safetensors.h"
#include "support/training.h"

namespace training {

struct GoldenBatch {
    ds_batch* b = nullptr;
    std::vector<std::string> names;
    explicit GoldenBatch(const std::string& model) {
        must(ds_batch_create(&b), "batch");
        const auto file = ds::SafetensorsFile::open(std::string(DSRT_TEST_DATA) + "/models/" + model + "/inputs.safetensors");
        for (const ds::TensorView& view : file->tensors()) {
            ds_tensor* t = nullptr;
            must(ds_tensor_create(static_cast<int32_t>(view.dtype), static_cast<int32_t>(view.shape.size()), view.shape.data(),
                                  view.data.data(), view.data.size(), &t),
                 view.name);
            must(ds_batch_set(b, view.name.c_str(), t), view.name);
            ds_tensor_destroy(t);
            names.push_back(view.name);
        }
    }
    GoldenBatch(const GoldenBatch&) = delete;
    ~GoldenBatch() { ds_batch_destroy(b); }
    Numbers get(const char* name) const {
        ds_tensor* t = nullptr;
        must(ds_batch_get(b, name, &t), name);
        return numbers(t);
    }
};

}  // namespace training
