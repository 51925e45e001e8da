#include "kernels/cuda/queue.h"

#include <algorithm>

namespace ds::cuda {

Status check(cudaError_t error, const char* doing) {
    if (error == cudaSuccess) return ok();
    cudaGetLastError();
    return Status(error == cudaErrorMemoryAllocation ? Code::E_OUT_OF_MEMORY : Code::E_DEVICE,
                  std::string("cuda: ") + doing + ": " + cudaGetErrorString(error));
}

Status Queue::make() {
    for (cudaStream_t* each : {&compute, &links, &copies})
        DS_CHECK(check(cudaStreamCreateWithFlags(each, cudaStreamNonBlocking), "making a stream"));
    stream = compute;
    return ok();
}

void Queue::release() {
    for (auto* events : {&forks_, &ends_})
        for (cudaEvent_t& event : *events)
            if (event) cudaEventDestroy(std::exchange(event, nullptr));
    for (cudaStream_t each : {copies, links, compute})
        if (each) cudaStreamDestroy(each);
    stream = compute = links = copies = nullptr;
}

void Queue::synchronize() {
    for (cudaStream_t each : {compute, links, copies})
        if (each) cudaStreamSynchronize(each);
}

Result<cudaEvent_t> Queue::event_of(cudaEvent_t& event) {
    if (!event) DS_CHECK(check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event"));
    return event;
}

Status Queue::order(cudaStream_t before, cudaStream_t behind) {
    DS_TRY(const cudaEvent_t event, event_of(forks_[forked_++ % kMarks]));
    DS_CHECK(check(cudaEventRecord(event, before), "recording an event"));
    return check(cudaStreamWaitEvent(behind, event, 0), "waiting for another stream");
}

Status Queue::begin_beside() {
    if (failed()) return why();
    DS_CHECK(order(compute, links));
    stream = links;
    return ok();
}

Result<int64_t> Queue::end_beside() {
    stream = compute;
    DS_TRY(const cudaEvent_t event, event_of(ends_[(marks_ + 1) % kMarks]));
    DS_CHECK(check(cudaEventRecord(event, links), "recording an event"));
    return ++marks_;
}

Status Queue::await(int64_t mark) {
    if (mark <= awaited_) return ok();
    DS_CHECK(check(cudaStreamWaitEvent(compute, ends_[mark % kMarks], 0), "waiting for another stream"));
    awaited_ = mark;
    return ok();
}

}  // namespace ds::cuda
