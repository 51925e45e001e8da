// What the languages that SWIG serves need beside dsrt.hpp: memory that one side lends the other, small results, and callbacks as objects.
// SPDX-License-Identifier: Apache-2.0
#ifndef DSRT_BINDINGS_HOST_HPP
#define DSRT_BINDINGS_HOST_HPP

#include <dsrt/dsrt.hpp>

namespace dsrt {

// Bytes that one side lends the other. Each language maps it to its own kind of buffer.
struct Memory;
#ifndef SWIG
struct Memory {
    void* data = nullptr;
    size_t bytes = 0;
};
#endif

// The memory of a tensor, lent out without a copy: it lives until this is closed, whatever happens to the tensor.
class View {
public:
    explicit View(Tensor& t) : lent_(t.to_dlpack()) {
        const DLTensor& d = lent_->dl_tensor;
        bytes_ = (d.dtype.bits + 7u) / 8u * d.dtype.lanes;
        for (int32_t i = 0; i < d.ndim; ++i) bytes_ *= static_cast<size_t>(d.shape[i]);
    }
    ~View() { close(); }
    Memory memory() const { return lent_ ? Memory{static_cast<char*>(lent_->dl_tensor.data) + lent_->dl_tensor.byte_offset, bytes_} : Memory{}; }
    uint64_t address() const { return reinterpret_cast<uintptr_t>(memory().data); }
    uint64_t bytes() const { return memory().bytes; }
    bool read_only() const { return lent_ && (lent_->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0; }
    void close() {
        if (auto* lent = std::exchange(lent_, nullptr)) lent->deleter(lent);
    }
    View(const View&) = delete;
    View& operator=(const View&) = delete;

private:
    DLManagedTensorVersioned* lent_;
    size_t bytes_;
};

// What a step of train_batch came to: the outcome's number (0 updated, 1 skipped, 3 data at its end), and the loss.
struct Trained {
    int32_t outcome;
    float loss;
};

// The parameters of an engine, as they were when asked for.
class Params {
public:
    explicit Params(std::vector<ParamInfo> all) : all_(std::move(all)) {}
    size_t count() const { return all_.size(); }
    std::string name(size_t i) const { return all_.at(i).name; }
    Shape shape(size_t i) const { return all_.at(i).shape; }
    bool trainable(size_t i) const { return all_.at(i).trainable; }

private:
    std::vector<ParamInfo> all_;
};

}  // namespace dsrt

#endif  // DSRT_BINDINGS_HOST_HPP
