// safetensors: named tensors in one file. 8 bytes N (little-endian), N bytes of JSON header
// {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets": [begin, end]}}, then the tensors' bytes, row-major.
// Source: the format's description in Hugging Face's safetensors README.
//
// The reader trusts nothing (see README.md for the list of checks), maps the file and hands out views of it. The writer streams, in
// the reference implementation's order and layout, byte for byte.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/dtype.h"
#include "base/file.h"
#include "base/status.h"
#include "base/tensor.h"

namespace ds {

// A tensor inside a mapped file. Files of other writers may place it at any address: read elements with memcpy or ds::convert.
struct TensorView {
    std::string name;
    DType dtype = DType::f32;
    Shape shape;
    std::span<const std::byte> data;
};

using Metadata = std::map<std::string, std::string>;

// An open file. Views live as long as it; moving it keeps them. Truncating a file while it is mapped kills the process (SIGBUS),
// so files are replaced by rename, as every writer here does.
class SafetensorsFile {
public:
    static Result<SafetensorsFile> open(const std::filesystem::path& path);
    static Result<SafetensorsFile> parse(MappedFile file, const std::string& place);  // place: what messages call it

    const std::vector<TensorView>& tensors() const { return tensors_; }  // in the order of their bytes
    const TensorView* find(std::string_view name) const;                 // nullptr where there is none
    const Metadata& metadata() const { return metadata_; }
    std::span<const std::byte> bytes() const { return file_.bytes(); }  // the whole file, header included

private:
    explicit SafetensorsFile(MappedFile file) : file_(std::move(file)) {}
    MappedFile file_;
    std::vector<TensorView> tensors_;
    std::unordered_map<std::string_view, size_t> index_;  // keys point into tensors_
    Metadata metadata_;
};

// Hands the bytes of a tensor to `write`, in as many pieces as it likes: for tensors that exist nowhere in one piece.
using ChunkWriter = std::function<Status(std::span<const std::byte>)>;
using TensorSource = std::function<Status(const ChunkWriter& write)>;

struct NamedTensor {
    std::string name;
    DType dtype = DType::f32;
    Shape shape;
    const void* data = nullptr;  // row-major; or
    TensorSource source;         // where data is NULL and the tensor is not empty
};

class DurableFile;

// Writes path.tmp, syncs it, renames it over path: a reader sees the old file or the new one.
Status write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                         const Metadata& metadata = {{"format", "pt"}});
// The same bytes into a file that the caller finishes.
Status stream_safetensors(DurableFile& file, std::span<const NamedTensor> tensors, const Metadata& metadata = {{"format", "pt"}});

// A folder's weights: model.safetensors, or, where they exceed shard_bytes, model-00001-of-0000N.safetensors and
// model.safetensors.index.json. Files of an earlier layout are removed, so that no loader picks them up.
Status write_weights(const std::filesystem::path& folder, std::span<const NamedTensor> tensors, int64_t shard_bytes,
                     const Metadata& metadata = {{"format", "pt"}});

// Names of element types in the header, in the order in which the reference sorts tensors.
struct SafetensorsType {
    DType dtype;
    std::string_view name;
};
inline constexpr SafetensorsType kSafetensorsTypes[] = {
    {DType::i64, "I64"},   {DType::f64, "F64"}, {DType::f32, "F32"},        {DType::i32, "I32"},
    {DType::bf16, "BF16"}, {DType::f16, "F16"}, {DType::f8e4m3, "F8_E4M3"}, {DType::f8e5m2, "F8_E5M2"},
    {DType::i8, "I8"},     {DType::u8, "U8"},   {DType::boolean, "BOOL"},
};

}  // namespace ds
