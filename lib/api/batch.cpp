// ds_batch_*: named tensors.
#include "dsrt/batch.h"

#include "api/objects.h"

using namespace ds;
using namespace ds::api;

ds_status ds_batch_create(ds_batch** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        *out = new_handle<ds_batch>(std::make_shared<BatchObject>());
        return ok();
    });
}

ds_status ds_batch_set(ds_batch* b, const char* name, const ds_tensor* t) {
    return guard([&]() -> Status {
        DS_USE(const auto batch, b);
        DS_TRY(std::string key, text_argument(name, "name"));
        DS_REQUIRE(!key.empty(), "name must not be empty");
        DS_TRY(HostTensor tensor, tensor_of(t));
        batch->tensors.insert_or_assign(std::move(key), std::move(tensor));
        return ok();
    });
}

ds_status ds_batch_get(const ds_batch* b, const char* name, ds_tensor** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_USE(const auto batch, b);
        DS_TRY(const std::string key, text_argument(name, "name"));
        const auto row = batch->tensors.find(key);
        if (row == batch->tensors.end()) {
            std::string names;
            for (const auto& [other, tensor] : batch->tensors) names += (names.empty() ? "" : ", ") + other;
            return fail(Code::E_NOT_FOUND, "the batch has no tensor \"{}\"; it has: {}", key, names.empty() ? "none" : names);
        }
        *out = new_tensor(row->second);
        return ok();
    });
}

void ds_batch_destroy(ds_batch* b) { destroy(b); }
