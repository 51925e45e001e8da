// Ranks that are threads of one process. A collective: everyone posts where its memory lies, all threads meet, each pulls its share from the others'
// memory, all threads meet again. So a sum reads every rank's memory once and an exchange copies once.
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <thread>
#include <tuple>

#include "comm/communicator.h"

namespace ds {
namespace {

using Clock = std::chrono::steady_clock;

// Where all threads of all ranks meet. Threads may be more than processors: after a moment of spinning they give theirs away.
class Meeting {
public:
    Meeting(int threads, std::chrono::milliseconds deadline) : threads_(threads), deadline_(deadline) {}

    Status meet() {
        if (aborted_.load(std::memory_order_acquire)) return why();
        const uint32_t generation = generation_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
            arrived_.store(0, std::memory_order_relaxed);
            generation_.fetch_add(1, std::memory_order_release);
            return ok();
        }
        const auto begin = Clock::now();
        for (int64_t turn = 0; generation_.load(std::memory_order_acquire) == generation; ++turn) {
            if (aborted_.load(std::memory_order_acquire)) return why();
            if (turn < kSpins) __builtin_ia32_pause();
            else if (turn < kYields) std::this_thread::yield();
            else if (Clock::now() - begin > deadline_) {
                abort(fail(Code::E_TIMEOUT, "{} of {} threads came to a collective within {} s; the others are late or gone", arrived_.load(), threads_,
                           std::chrono::duration<double>(deadline_).count()));
            } else std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
        return ok();
    }

    void abort(const Status& reason) {
        std::lock_guard lock(mutex_);
        if (!aborted_.load()) reason_ = reason;
        aborted_.store(true, std::memory_order_release);
    }
    bool aborted() const { return aborted_.load(std::memory_order_acquire); }
    Status why() const {
        std::lock_guard lock(mutex_);
        return reason_;
    }

private:
    static constexpr int64_t kSpins = 2000, kYields = 3000;
    const int threads_;
    const std::chrono::milliseconds deadline_;
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<uint32_t> generation_{0};
    std::atomic<bool> aborted_{false};
    mutable std::mutex mutex_;
    Status reason_;
};

struct Mail {
    std::mutex mutex;
    std::condition_variable arrived;
    std::map<std::tuple<int, int, int64_t>, std::deque<std::vector<std::byte>>> letters;  // (from, to, tag)
};

struct Group {
    Group(int ranks, int threads, std::chrono::milliseconds wait) : size(ranks), threads_a_rank(threads), deadline(wait), meeting(ranks * threads, wait), posts(static_cast<size_t>(ranks)) {}

    const int size, threads_a_rank;
    const std::chrono::milliseconds deadline;
    Meeting meeting;
    std::vector<std::vector<Block>> posts;  // of each rank
    Mail mail;
};

// acc += x, in f32, element by element.
void add_into(float* acc, const void* x, DType dtype, int64_t n) {
    if (dtype == DType::f32) {
        const auto* from = static_cast<const float*>(x);
        for (int64_t i = 0; i < n; ++i) acc[i] += from[i];
        return;
    }
    float wide[512];
    for (int64_t at = 0; at < n; at += 512) {
        const int64_t count = std::min<int64_t>(512, n - at);
        convert(static_cast<const std::byte*>(x) + at * size_of(dtype), dtype, wide, DType::f32, count);
        for (int64_t i = 0; i < count; ++i) acc[at + i] += wide[i];
    }
}

constexpr int64_t kTile = 4096;  // elements summed at a time: stays in the first cache

// Elements [begin, end) of the sum of `parts`, given to each of `outs`.
void sum(std::span<const std::byte* const> parts, std::span<std::byte* const> outs, DType dtype, int64_t begin, int64_t end) {
    const int64_t size = size_of(dtype);
    if (dtype == DType::f64) {
        for (int64_t i = begin; i < end; ++i) {
            double total = 0;
            for (const std::byte* part : parts) total += reinterpret_cast<const double*>(part)[i];
            for (std::byte* out : outs) reinterpret_cast<double*>(out)[i] = total;
        }
        return;
    }
    float acc[kTile];
    for (int64_t at = begin; at < end; at += kTile) {
        const int64_t n = std::min(kTile, end - at);
        convert(parts[0] + at * size, dtype, acc, DType::f32, n);
        for (size_t p = 1; p < parts.size(); ++p) add_into(acc, parts[p] + at * size, dtype, n);
        for (std::byte* out : outs) convert(acc, DType::f32, out + at * size, dtype, n);
    }
}

class Local : public Communicator {
public:
    Local(std::shared_ptr<Group> group, int rank) : Communicator(rank, group->size), group_(std::move(group)) {}

    Status all_to_all(std::span<const Block> send, std::span<const Block> receive, Team team) override {
        DS_CHECK(post(send, team));
        for (int from = 0; from < size(); ++from) {
            const Block &source = group_->posts[static_cast<size_t>(from)][static_cast<size_t>(rank())], &to = receive[static_cast<size_t>(from)];
            if (source.bytes != to.bytes) return mismatch(from, source.bytes, to.bytes);
            const Team::Range part = team.part(to.bytes, 64);
            if (source.data != to.data && part.end > part.begin)
                std::memcpy(static_cast<std::byte*>(to.data) + part.begin, static_cast<const std::byte*>(source.data) + part.begin, static_cast<size_t>(part.end - part.begin));
        }
        return group_->meeting.meet();
    }

    Status reduce_scatter(std::span<const Block> send, Block out, DType dtype, Team team) override {
        DS_CHECK(post(send, team));
        std::vector<const std::byte*> parts;
        for (int from = 0; from < size(); ++from) {
            const Block& source = group_->posts[static_cast<size_t>(from)][static_cast<size_t>(rank())];
            if (source.bytes != out.bytes) return mismatch(from, source.bytes, out.bytes);
            parts.push_back(static_cast<const std::byte*>(source.data));
        }
        std::byte* const to[] = {static_cast<std::byte*>(out.data)};
        const Team::Range part = team.part(out.bytes / size_of(dtype), 16);
        sum(parts, to, dtype, part.begin, part.end);
        return group_->meeting.meet();
    }

    Status all_reduce(Block data, DType dtype, Team team) override {
        const Block mine[] = {data};
        DS_CHECK(post(mine, team));
        std::vector<const std::byte*> parts;
        std::vector<std::byte*> outs;
        for (int from = 0; from < size(); ++from) {
            const Block& source = group_->posts[static_cast<size_t>(from)][0];
            if (source.bytes != data.bytes) return mismatch(from, source.bytes, data.bytes);
            parts.push_back(static_cast<const std::byte*>(source.data));
            outs.push_back(static_cast<std::byte*>(source.data));
        }
        // Each thread of the whole group sums its own elements for everybody.
        const Team::Range part = Team{rank() * team.size + team.rank, size() * team.size}.part(data.bytes / size_of(dtype), 16);
        sum(parts, outs, dtype, part.begin, part.end);
        return group_->meeting.meet();
    }

    Status send(int to, int64_t tag, Block data) override {
        if (group_->meeting.aborted()) return group_->meeting.why();
        const auto* bytes = static_cast<const std::byte*>(data.data);
        std::vector<std::byte> letter(bytes, bytes + data.bytes);
        std::lock_guard lock(group_->mail.mutex);
        group_->mail.letters[{rank(), to, tag}].push_back(std::move(letter));
        group_->mail.arrived.notify_all();
        return ok();
    }

    Status receive(int from, int64_t tag, Block data) override {
        std::unique_lock lock(group_->mail.mutex);
        auto& letters = group_->mail.letters[{from, rank(), tag}];
        const bool came = group_->mail.arrived.wait_for(lock, group_->deadline, [&] { return !letters.empty() || group_->meeting.aborted(); });
        if (!letters.empty()) {
            const std::vector<std::byte> letter = std::move(letters.front());
            letters.pop_front();
            lock.unlock();
            if (static_cast<int64_t>(letter.size()) != data.bytes) return mismatch(from, static_cast<int64_t>(letter.size()), data.bytes);
            std::memcpy(data.data, letter.data(), letter.size());
            return ok();
        }
        if (came) return group_->meeting.why();
        return fail(Code::E_TIMEOUT, "rank {} of the group sent nothing within {} s", from, std::chrono::duration<double>(group_->deadline).count());
    }

    void abort(const Status& why) override {
        group_->meeting.abort(why);
        std::lock_guard lock(group_->mail.mutex);
        group_->mail.arrived.notify_all();
    }

private:
    Status post(std::span<const Block> send, Team team) {
        if (team.rank == 0) group_->posts[static_cast<size_t>(rank())].assign(send.begin(), send.end());
        return group_->meeting.meet();
    }
    Status mismatch(int from, int64_t sent, int64_t expected) {
        Status status = fail(Code::E_COMM, "rank {} of the group sent {} bytes where rank {} expected {}: the ranks do not run the same plan", from, sent, rank(), expected);
        abort(status);
        return status;
    }

    std::shared_ptr<Group> group_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> local_group(int ranks, int threads_a_rank, std::chrono::milliseconds deadline) {
    const auto group = std::make_shared<Group>(ranks, threads_a_rank, deadline);
    std::vector<std::unique_ptr<Communicator>> members;
    for (int rank = 0; rank < ranks; ++rank) members.push_back(std::make_unique<Local>(group, rank));
    return members;
}

}  // namespace ds
