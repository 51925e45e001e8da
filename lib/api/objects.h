// What stands behind the handles of the C ABI.
#pragma once

#include "api/handle.h"
#include "base/cancel.h"
#include "base/tensor.h"
#include "data/batch.h"

namespace ds {
class Tokenizer;
class TextStream;
struct Encoding;
}  // namespace ds

namespace ds::api {

struct TensorObject {
    HostTensor tensor;
    bool read_only = false;  // imported by DLPack with that flag
    bool lent = false;       // the host may write to this memory: imported, or exported
};

struct BatchObject {
    Batch tensors;  // none of them in memory that the host can write
};

Result<DType> dtype_argument(int32_t dtype);
// The contents as of now, whatever the host does to the tensor's memory later.
HostTensor snapshot(const TensorObject& t);
ds_tensor* new_tensor(HostTensor tensor);
Result<HostTensor> tensor_of(const ds_tensor* t);  // its snapshot, under a lease

#define DS_HANDLE_TYPE(type, object)                    \
    template <>                                         \
    struct HandleType<::type> {                         \
        static constexpr std::string_view name = #type; \
        using Object = object;                          \
    }
DS_HANDLE_TYPE(ds_tensor, TensorObject);
DS_HANDLE_TYPE(ds_batch, BatchObject);
DS_HANDLE_TYPE(ds_tokenizer, const Tokenizer);
DS_HANDLE_TYPE(ds_text_stream, TextStream);
DS_HANDLE_TYPE(ds_encoding, struct EncodingObject);
DS_HANDLE_TYPE(ds_options, struct OptionsObject);
DS_HANDLE_TYPE(ds_graph, struct GraphObject);
DS_HANDLE_TYPE(ds_data, struct DataObject);
DS_HANDLE_TYPE(ds_engine, struct EngineObject);

}  // namespace ds::api
