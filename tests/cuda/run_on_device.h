// Runs one kernel of a device on test arrays (tests/support/run_kernel.h): operands of equal memory share memory there too.
#pragma once

#include <map>

#include "tests/cuda/device_kernels.h"

namespace ds::test {

class OnDevice {
public:
    ~OnDevice() {
        for (const auto& [host, there] : places_) device().release(there);
    }
    // Rows only: what lies between them was never written, and reading it is a fault.
    Status place(Tensor& t, bool fill) {
        if (!t.present) return ok();
        const int64_t row = t.columns() * size_of(t.dtype), stride = t.row_stride * size_of(t.dtype);
        void* host = t.data;
        const auto known = places_.find(host);
        if (known == places_.end()) {
            DS_TRY(std::byte * there, device().allocate(static_cast<size_t>(std::max<int64_t>((t.rows() - 1) * stride + row, 1))));
            places_[host] = there;
        }
        t.data = places_[host];
        if (fill)
            for (int64_t r = 0; r < t.rows(); ++r)
                DS_CHECK(device().upload(static_cast<std::byte*>(t.data) + r * stride, static_cast<std::byte*>(host) + r * stride,
                                         static_cast<size_t>(row)));
        return ok();
    }
    Status fetch(const Tensor& there, const Tensor& host) {
        const int64_t row = host.columns() * size_of(host.dtype), stride = host.row_stride * size_of(host.dtype);
        for (int64_t r = 0; r < host.rows(); ++r)
            DS_CHECK(device().download(static_cast<std::byte*>(host.data) + r * stride, static_cast<std::byte*>(there.data) + r * stride,
                                       static_cast<size_t>(row)));
        return ok();
    }

private:
    std::map<void*, std::byte*> places_;
};

inline Status run_on_device(const Prepared& prepared, const std::vector<Tensor>& in, const std::vector<Tensor>& out, const void* attrs,
                            Runtime runtime) {
    OnDevice memory;
    std::vector<Tensor> ins = in, outs = out;
    for (Tensor& t : ins) DS_CHECK(memory.place(t, true));
    for (Tensor& t : outs) DS_CHECK(memory.place(t, false));
    Device& d = device();
    DS_TRY(std::byte * scratch, d.allocate(static_cast<size_t>(prepared.scratch_bytes) + 1));
    runtime.queue = d.queue();
    Status status = d.begin(runtime.seed, runtime.step);
    const Call call{ins.data(), outs.data(), attrs, prepared.state.get(), scratch, &runtime, nullptr};
    for (const Phase phase : prepared.phases) phase(call, Team{});
    if (status.ok()) status = d.finish();
    for (size_t i = 0; i < out.size() && status.ok(); ++i)
        if (out[i].present) status = memory.fetch(outs[i], out[i]);
    d.release(scratch);
    return status;
}

}  // namespace ds::test
