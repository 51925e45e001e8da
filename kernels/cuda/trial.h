// Which of two ways to compute the same serves a shape: cuBLASLt's epilogues, or the product and then a kernel.
//
// DSRT_CUDA_EPILOGUES says: "fused" (the default) wherever cuBLASLt can; "split"; or "timed", where both run a few times for each new shape
// and the faster one is remembered. Timing is not the default because the ways round differently, and the same training twice must give the
// same bits.
#pragma once

#include <chrono>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda/products.h"

namespace ds::cuda {

enum class Way { fused, split, timed };
inline Way wanted_way() {
    const char* wish = std::getenv("DSRT_CUDA_EPILOGUES");
    return wish && std::strcmp(wish, "split") == 0 ? Way::split : wish && std::strcmp(wish, "timed") == 0 ? Way::timed : Way::fused;
}

// Memory to time the ways on.
class Trial {
public:
    explicit Trial(Queue& queue) : queue_(queue) {}
    ~Trial() {
        for (void* memory : all_) cudaFree(memory);
    }
    std::byte* take(int64_t bytes) {
        void* memory = nullptr;
        if (cudaMalloc(&memory, static_cast<size_t>(std::max<int64_t>(bytes, 1))) != cudaSuccess) {
            cudaGetLastError();
            full_ = true;
            return nullptr;
        }
        all_.push_back(memory);
        queue_.note(cudaMemsetAsync(memory, 0, static_cast<size_t>(bytes), queue_.stream), "clearing memory");
        return static_cast<std::byte*>(memory);
    }
    void place(Tensor& t) { t.data = t.present ? take(t.count() * size_of(t.dtype)) : nullptr; }
    bool full() const { return full_; }

    template <class F>
    Result<double> seconds(const F& work) {
        constexpr int kTimes = 10;
        DS_CHECK(work());
        queue_.note(cudaStreamSynchronize(queue_.stream), "running what was queued");
        const auto began = std::chrono::steady_clock::now();
        for (int i = 0; i < kTimes; ++i) DS_CHECK(work());
        queue_.note(cudaStreamSynchronize(queue_.stream), "running what was queued");
        DS_CHECK(queue_.failure);
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    }

private:
    Queue& queue_;
    std::vector<void*> all_;
    bool full_ = false;
};

// key: what besides types and shapes tells products apart. A way that has no algorithm (E_UNSUPPORTED) is slower. Without memory for a
// trial the first is taken and not remembered.
template <class First, class Second>
Result<bool> first_way_is_faster(Queue& q, const Request& r, std::vector<int64_t> key, int64_t scratch_bytes, const First& first,
                                 const Second& second) {
    for (const Tensor& t : r.in) {
        key.push_back(static_cast<int64_t>(t.dtype));
        key.push_back(t.present ? t.rank : -1);
        key.insert(key.end(), t.dims, t.dims + t.rank);
    }
    if (const auto known = q.products->winners.find(key); known != q.products->winners.end()) return known->second;
    std::vector<Tensor> in(r.in.begin(), r.in.end()), out(r.out.begin(), r.out.end());
    Trial trial(q);
    for (Tensor& t : in) trial.place(t);
    for (Tensor& t : out) trial.place(t);
    std::byte* scratch = trial.take(scratch_bytes);
    if (trial.full()) return true;
    DS_TRY(const double of_second, trial.seconds([&] { return second(in.data(), out.data(), scratch); }));
    const auto of_first = trial.seconds([&] { return first(in.data(), out.data(), scratch); });
    if (!of_first.ok() && of_first.status().code() != Code::E_UNSUPPORTED) return of_first.status();
    return q.products->winners[key] = of_first.ok() && *of_first < of_second;
}

}  // namespace ds::cuda
