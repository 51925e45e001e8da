// Ranks that are threads of one process. A collective: everyone posts where its memory lies, all threads meet, each pulls its share from
// the others' memory, all threads meet again. So a sum reads every rank's memory once and an exchange copies once.
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <tuple>

#include "comm/communicator.h"
#include "comm/meeting.h"
#include "comm/roster.h"
#include "comm/sum.h"

namespace ds {
namespace {

struct Mail {
    std::mutex mutex;
    std::condition_variable arrived;
    std::map<std::tuple<int, int, int64_t>, std::deque<std::vector<std::byte>>> letters;  // (from, to, tag)
};

// What a rank says when it comes to a collective.
struct Post {
    CommOp op = CommOp::all_to_all;
    DType dtype = DType::u8;
    std::vector<Block> blocks;
};

struct Group {
    Group(Roster members, int threads, std::chrono::milliseconds wait)
        : roster(std::move(members)),
          deadline(wait),
          meeting(roster.size() * threads, wait, [this] { return late(); }),
          posts(roster.ranks.size()),
          came(roster.ranks.size()) {}

    // The ranks that have been to fewer collectives than others.
    std::string late() const {
        uint64_t most = 0;
        for (const auto& count : came) most = std::max(most, count.load());
        return roster.late([&](int member) { return came[static_cast<size_t>(member)].load() < most; }, "a thread");
    }

    const Roster roster;
    const std::chrono::milliseconds deadline;
    Meeting meeting;
    std::vector<Post> posts;                  // of each rank
    std::vector<std::atomic<uint64_t>> came;  // of each rank: collectives it has come to
    Mail mail;
};

class Local : public Communicator {
public:
    Local(std::shared_ptr<Group> group, int rank) : Communicator(rank, group->roster.size()), group_(std::move(group)) {}

    Status all_to_all(std::span<const Block> send, std::span<const Block> receive, Team team) override {
        DS_CHECK(post(CommOp::all_to_all, DType::u8, send, team));
        for (int from = 0; from < size(); ++from) {
            const Block &source = posted(from, static_cast<size_t>(rank())), &to = receive[static_cast<size_t>(from)];
            if (source.bytes != to.bytes) return mismatch(from, source.bytes, to.bytes);
            const Team::Range part = team.part(to.bytes, 64);
            if (source.data != to.data && part.end > part.begin)
                std::memcpy(static_cast<std::byte*>(to.data) + part.begin, static_cast<const std::byte*>(source.data) + part.begin,
                            static_cast<size_t>(part.end - part.begin));
        }
        return group_->meeting.meet();
    }

    Status reduce_scatter(std::span<const Block> send, Block out, DType dtype, Team team) override {
        DS_CHECK(post(CommOp::reduce_scatter, dtype, send, team));
        std::vector<const std::byte*> parts;
        for (int from = 0; from < size(); ++from) {
            const Block& source = posted(from, static_cast<size_t>(rank()));
            if (source.bytes != out.bytes) return mismatch(from, source.bytes, out.bytes);
            parts.push_back(static_cast<const std::byte*>(source.data));
        }
        std::byte* const to[] = {static_cast<std::byte*>(out.data)};
        const Team::Range part = team.part(out.bytes / size_of(dtype), 16);
        sum_parts(parts, to, dtype, part.begin, part.end);
        return group_->meeting.meet();
    }

    Status all_reduce(Block data, DType dtype, Team team) override {
        const Block mine[] = {data};
        DS_CHECK(post(CommOp::all_reduce, dtype, mine, team));
        std::vector<const std::byte*> parts;
        std::vector<std::byte*> outs;
        for (int from = 0; from < size(); ++from) {
            const Block& source = posted(from, 0);
            if (source.bytes != data.bytes) return mismatch(from, source.bytes, data.bytes);
            parts.push_back(static_cast<const std::byte*>(source.data));
            outs.push_back(static_cast<std::byte*>(source.data));
        }
        // Each thread of the whole group sums its own elements for everybody.
        const Team::Range part = Team{rank() * team.size + team.rank, size() * team.size}.part(data.bytes / size_of(dtype), 16);
        sum_parts(parts, outs, dtype, part.begin, part.end);
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
        const bool came =
            group_->mail.arrived.wait_for(lock, group_->deadline, [&] { return !letters.empty() || group_->meeting.aborted(); });
        if (!letters.empty()) {
            const std::vector<std::byte> letter = std::move(letters.front());
            letters.pop_front();
            lock.unlock();
            if (static_cast<int64_t>(letter.size()) != data.bytes) return mismatch(from, static_cast<int64_t>(letter.size()), data.bytes);
            if (!letter.empty()) std::memcpy(data.data, letter.data(), letter.size());
            return ok();
        }
        if (came) return group_->meeting.why();
        return group_->roster.silent(from, group_->deadline);
    }

    void abort(const Status& why) override {
        group_->meeting.abort(why);
        std::lock_guard lock(group_->mail.mutex);
        group_->mail.arrived.notify_all();
    }

private:
    const Block& posted(int from, size_t block) const { return group_->posts[static_cast<size_t>(from)].blocks[block]; }

    Status post(CommOp op, DType dtype, std::span<const Block> send, Team team) {
        if (team.rank == 0) group_->posts[static_cast<size_t>(rank())] = {op, dtype, {send.begin(), send.end()}};
        if (team.rank == 0) group_->came[static_cast<size_t>(rank())].fetch_add(1);
        DS_CHECK(group_->meeting.meet());
        for (int from = 0; from < size(); ++from) {
            const Post& other = group_->posts[static_cast<size_t>(from)];
            if (other.op == op && other.dtype == dtype) continue;
            Status status = group_->roster.other_call(from, other.op, other.dtype, rank(), op, dtype);
            abort(status);
            return status;
        }
        return ok();
    }
    Status mismatch(int from, int64_t sent, int64_t expected) {
        Status status = group_->roster.wrong_size(from, sent, rank(), expected);
        abort(status);
        return status;
    }

    std::shared_ptr<Group> group_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> local_group(std::string name, std::vector<int> ranks, int threads_a_rank,
                                                       std::chrono::milliseconds deadline) {
    const auto group = std::make_shared<Group>(Roster(std::move(name), std::move(ranks)), threads_a_rank, deadline);
    std::vector<std::unique_ptr<Communicator>> members;
    for (int rank = 0; rank < group->roster.size(); ++rank) members.push_back(std::make_unique<Local>(group, rank));
    return members;
}

}  // namespace ds
