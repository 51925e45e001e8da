#include "engine/background_save.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/log.h"
#include "data/threads.h"

namespace ds {
namespace {

size_t bytes_of(const NamedTensor& t) { return static_cast<size_t>(elements(t.shape)) * static_cast<size_t>(size_of(t.dtype)); }

// A tensor that exists nowhere in one piece, written into one.
Status gather(const NamedTensor& t, std::byte* to) {
    const size_t bytes = bytes_of(t);
    size_t at = 0;
    DS_CHECK(t.source([&](std::span<const std::byte> part) -> Status {
        if (part.size() > bytes - at) return fail(Code::E_INTERNAL, "tensor {}: its source gave more than {} bytes", t.name, bytes);
        std::memcpy(to + at, part.data(), part.size());
        at += part.size();
        return ok();
    }));
    return at == bytes ? ok() : fail(Code::E_INTERNAL, "tensor {}: its source gave {} of {} bytes", t.name, at, bytes);
}

}  // namespace

BackgroundSave::~BackgroundSave() {
    if (const Status status = wait(); !status.ok()) log(Level::error, "ckpt", "{}", status.message());
}

Status BackgroundSave::copy(CheckpointFiles& files, Workers& workers) {
    constexpr size_t kAlign = 64, kPiece = size_t{1} << 20;
    size_t total = 0;
    for (const auto& [name, tensors] : files)
        for (const NamedTensor& t : tensors) total += (bytes_of(t) + kAlign - 1) / kAlign * kAlign;
    DS_CHECK(memory_.reserve(total));
    struct Piece {
        std::byte* to;
        const std::byte* from;
        size_t bytes;
    };
    std::vector<Piece> pieces;
    std::byte* to = memory_.data();
    for (auto& [name, tensors] : files)
        for (NamedTensor& t : tensors) {
            const size_t bytes = bytes_of(t);
            if (t.source) {
                DS_CHECK(gather(t, to));
                t.source = nullptr;
            } else {
                for (size_t at = 0; at < bytes; at += kPiece)
                    pieces.push_back({to + at, static_cast<const std::byte*>(t.data) + at, std::min(kPiece, bytes - at)});
            }
            t.data = to;
            to += (bytes + kAlign - 1) / kAlign * kAlign;
        }
    std::atomic<size_t> next{0};
    workers.run([&](Team) {
        for (size_t i = next.fetch_add(1); i < pieces.size(); i = next.fetch_add(1))
            std::memcpy(pieces[i].to, pieces[i].from, pieces[i].bytes);
    });
    return ok();
}

Status BackgroundSave::start(std::filesystem::path dir, std::string tag, Json state, CheckpointFiles files, Workers& workers) {
    if (Status copied = copy(files, workers); !copied.ok()) {
        memory_.release();
        return copied;
    }
    place_ = (dir / tag).string();
    ended_ = false;
    thread_ = start_quiet_thread([this, dir = std::move(dir), tag = std::move(tag), state = std::move(state), files = std::move(files)] {
        try {
            status_ = save_checkpoint(dir, tag, state, files);
        } catch (...) {  // nothing above a thread would catch it
            status_ = status_of_current_exception("ckpt");
        }
        ended_.store(true, std::memory_order_release);
    });
    return ok();
}

Status BackgroundSave::wait() {
    if (!thread_.joinable()) return ok();
    thread_.join();
    ended_ = false;
    memory_.release();
    Status status = std::exchange(status_, Status());
    return status.ok() ? ok()
                       : std::move(status).within(fmt::format("the checkpoint {}, which was being written in the background", place_));
}

}  // namespace ds
