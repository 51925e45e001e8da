// Groups of ranks that live in several processes. The first thread of a rank's team exchanges messages with the other members; the team
// sums.
#include <list>

#include "base/round.h"
#include "comm/meeting.h"
#include "comm/message.h"
#include "comm/sum.h"
#include "comm/world.h"

namespace ds {
namespace {

constexpr int64_t kSmall = 64 << 10;  // bytes that members send whole rather than in shares: one round instead of two
constexpr std::chrono::hours kNever{24 * 365};

class Remote : public Communicator {
public:
    Remote(std::shared_ptr<World> world, std::string name, std::vector<Member> members, int mine, int channel, int threads)
        : Communicator(mine, static_cast<int>(members.size())),
          world_(std::move(world)),
          name_(std::move(name)),
          members_(std::move(members)),
          channel_(channel),
          gate_(threads, kNever),
          turns_(static_cast<size_t>(threads)),
          stash_(members_.size()) {}

    Status all_to_all(std::span<const Block> send, std::span<const Block> receive, Team team) override {
        return together(team, [&] { return exchange(CommOp::all_to_all, DType::u8, send, receive); });
    }

    Status reduce_scatter(std::span<const Block> send, Block out, DType dtype, Team team) override {
        DS_CHECK(together(team, [&] {
            const std::vector<Block> parts = scratch(out.bytes, size(), send[static_cast<size_t>(rank())]);
            return exchange(CommOp::reduce_scatter, dtype, send, parts);
        }));
        return sum(out, dtype, team);
    }

    Status all_reduce(Block data, DType dtype, Team team) override {
        if (data.bytes <= kSmall) {
            DS_CHECK(together(team, [&] {
                return exchange(CommOp::all_reduce, dtype, std::vector<Block>(members_.size(), data), scratch(data.bytes, size(), data));
            }));
            return sum(data, dtype, team);
        }
        const std::vector<Block> shares = shares_of(data, dtype);
        const Block mine = shares[static_cast<size_t>(rank())];
        DS_CHECK(together(team, [&] { return exchange(CommOp::all_reduce, dtype, shares, scratch(mine.bytes, size(), mine)); }));
        DS_CHECK(sum(mine, dtype, team));
        return together(team, [&] { return exchange(CommOp::all_reduce, dtype, std::vector<Block>(members_.size(), mine), shares); });
    }

    Status send(int to, int64_t tag, Block data) override {
        const Member& member = members_[static_cast<size_t>(to)];
        auto letter = std::make_unique<World::Letter>();
        const MessageHeader header{.op = CommOp::send, .bytes = data.bytes, .tag = tag};
        const auto* bytes = reinterpret_cast<const std::byte*>(&header);
        letter->header.assign(bytes, bytes + sizeof header);
        letter->data.assign(static_cast<const std::byte*>(data.data), static_cast<const std::byte*>(data.data) + data.bytes);
        const int local = members_[static_cast<size_t>(rank())].local;
        for (const auto* part : {&letter->header, &letter->data}) {
            if (part->empty()) continue;
            auto started = world_->send(member, local, 2 * channel_ + 1, part->data(), part->size());
            if (!started.ok()) return ended(CommOp::send, to, std::move(started).status());
            letter->pending.push_back(std::move(*started));
        }
        world_->keep(std::move(letter));
        return ok();
    }

    Status receive(int from, int64_t tag, Block data) override {
        const auto until = World::Clock::now() + world_->deadline();
        auto& early = stash_[static_cast<size_t>(from)];
        for (auto letter = early.begin(); letter != early.end(); ++letter) {
            if (letter->tag != tag) continue;
            const std::vector<std::byte> bytes = std::move(letter->bytes);
            early.erase(letter);
            if (static_cast<int64_t>(bytes.size()) != data.bytes)
                return ended(CommOp::send, from, wrong_size(from, static_cast<int64_t>(bytes.size()), data.bytes));
            if (data.bytes) std::memcpy(data.data, bytes.data(), bytes.size());
            return ok();
        }
        for (;;) {  // letters with other tags, which came first, are kept
            MessageHeader header;
            if (Status status = take(from, &header, sizeof header, until); !status.ok())
                return ended(CommOp::send, from, std::move(status));
            if (header.magic != MessageHeader::kMagic || header.op != CommOp::send || header.bytes < 0)
                return ended(CommOp::send, from, fail(Code::E_COMM, "rank {} sent something that is no message", rank_of(from)));
            if (header.tag == tag && header.bytes != data.bytes)
                return ended(CommOp::send, from, wrong_size(from, header.bytes, data.bytes));
            Early other{header.tag, std::vector<std::byte>(header.tag == tag ? 0 : static_cast<size_t>(header.bytes))};
            void* to = header.tag == tag ? data.data : other.bytes.data();
            if (header.bytes)
                if (Status status = take(from, to, static_cast<size_t>(header.bytes), until); !status.ok())
                    return ended(CommOp::send, from, std::move(status));
            if (header.tag == tag) return ok();
            early.push_back(std::move(other));
        }
    }

    void abort(const Status& why) override {
        world_->abort(why);
        gate_.abort(why);
    }

private:
    struct Early {
        int64_t tag;
        std::vector<std::byte> bytes;
    };
    using Pendings = std::vector<std::unique_ptr<Transport::Pending>>;

    int rank_of(int member) const { return members_[static_cast<size_t>(member)].rank; }
    int mine() const { return members_[static_cast<size_t>(rank())].local; }

    // The first thread of the team acts, all learn how it went.
    template <class Act>
    Status together(Team team, Act&& act) {
        const size_t turn = turns_[static_cast<size_t>(team.rank)].count++ % 2;  // the one before may still be read by a slower thread
        if (team.rank == 0) status_[turn] = act();
        if (team.size > 1) DS_CHECK(gate_.meet());
        return status_[turn];
    }

    // Memory for what each member will send, and this rank's own part where it lies.
    std::vector<Block> scratch(int64_t bytes, int n, Block own) {
        const int64_t step = round_up(bytes, 64);
        if (scratch_.size() < static_cast<size_t>(step * n)) scratch_.resize(static_cast<size_t>(step * n));
        parts_.clear();
        for (int i = 0; i < n; ++i) parts_.push_back({i == rank() ? own.data : scratch_.data() + i * step, bytes});
        return parts_;
    }

    Status sum(Block out, DType dtype, Team team) {
        std::vector<const std::byte*> parts;
        for (const Block& part : parts_) parts.push_back(static_cast<const std::byte*>(part.data));
        std::byte* const to[] = {static_cast<std::byte*>(out.data)};
        const Team::Range range = team.part(out.bytes / size_of(dtype), 16);
        sum_parts(parts, to, dtype, range.begin, range.end);
        return team.size > 1 ? gate_.meet() : ok();
    }

    std::vector<Block> shares_of(Block data, DType dtype) const {
        const int64_t size_of_one = size_of(dtype), n = data.bytes / size_of_one;
        std::vector<Block> shares;
        for (int i = 0; i < size(); ++i) {
            const Team::Range range = Team{i, size()}.part(n, 16);
            shares.push_back({static_cast<std::byte*>(data.data) + range.begin * size_of_one, (range.end - range.begin) * size_of_one});
        }
        return shares;
    }

    Status exchange(CommOp op, DType dtype, std::span<const Block> send, std::span<const Block> receive) {
        const auto until = World::Clock::now() + world_->deadline();
        const uint64_t sequence = ++calls_;
        const auto n = static_cast<size_t>(size()), me = static_cast<size_t>(rank());
        std::vector<MessageHeader> mine_to(n), theirs(n);
        Pendings receives(n);
        std::vector<std::pair<int, std::unique_ptr<Transport::Pending>>> sends;
        for (size_t i = 1; i < n; ++i) {
            const size_t p = (me + i) % n;
            mine_to[p] = {.op = op, .dtype = static_cast<uint8_t>(dtype), .sequence = sequence, .bytes = send[p].bytes};
            auto posted = world_->receive(members_[p], mine(), 2 * channel_, &theirs[p], sizeof(MessageHeader));
            if (!posted.ok()) return ended(op, static_cast<int>(p), std::move(posted).status());
            receives[p] = std::move(*posted);
            for (const auto& [data, bytes] :
                 {std::pair<const void*, int64_t>{&mine_to[p], sizeof(MessageHeader)}, {send[p].data, send[p].bytes}}) {
                if (bytes == 0) continue;
                auto started = world_->send(members_[p], mine(), 2 * channel_, data, static_cast<size_t>(bytes));
                if (!started.ok()) return ended(op, static_cast<int>(p), std::move(started).status());
                sends.emplace_back(static_cast<int>(p), std::move(*started));
            }
        }
        for (size_t i = 1; i < n; ++i) {
            const size_t p = (me + i) % n;
            if (Status status = receives[p]->wait(until); !status.ok()) return ended(op, static_cast<int>(p), std::move(status));
            receives[p].reset();
            if (Status status = check(theirs[p], op, dtype, sequence, static_cast<int>(p), receive[p].bytes); !status.ok())
                return ended(op, static_cast<int>(p), std::move(status));
            if (receive[p].bytes == 0) continue;
            auto posted = world_->receive(members_[p], mine(), 2 * channel_, receive[p].data, static_cast<size_t>(receive[p].bytes));
            if (!posted.ok()) return ended(op, static_cast<int>(p), std::move(posted).status());
            receives[p] = std::move(*posted);
        }
        if (receive[me].data != send[me].data && receive[me].bytes)
            std::memmove(receive[me].data, send[me].data, static_cast<size_t>(receive[me].bytes));
        for (size_t p = 0; p < n; ++p)
            if (receives[p])
                if (Status status = receives[p]->wait(until); !status.ok()) return ended(op, static_cast<int>(p), std::move(status));
        for (auto& [to, sent] : sends)
            if (Status status = sent->wait(until); !status.ok()) return ended(op, to, std::move(status));
        return ok();
    }

    Status check(const MessageHeader& header, CommOp op, DType dtype, uint64_t sequence, int from, int64_t bytes) const {
        if (header.magic != MessageHeader::kMagic) return fail(Code::E_COMM, "rank {} sent something that is no message", rank_of(from));
        if (header.op == op && header.dtype == static_cast<uint8_t>(dtype) && header.sequence == sequence && header.bytes == bytes)
            return ok();
        return fail(Code::E_COMM,
                    "rank {} is in {} of {} bytes of {} (call {}) where rank {} is in {} of {} bytes of {} (call {}): the ranks do not run "
                    "the same plan",
                    rank_of(from), name_of(header.op), header.bytes,
                    header.dtype <= static_cast<uint8_t>(DType::f8e5m2) ? name_of(static_cast<DType>(header.dtype)) : "unknown type",
                    header.sequence, rank_of(rank()), name_of(op), bytes, name_of(dtype), sequence);
    }

    Status wrong_size(int from, int64_t sent, int64_t expected) const {
        return fail(Code::E_COMM, "rank {} sent {} bytes where rank {} expected {}: the ranks do not run the same plan", rank_of(from),
                    sent, rank_of(rank()), expected);
    }

    Status take(int from, void* to, size_t bytes, World::Clock::time_point until) {
        DS_TRY(const auto posted, world_->receive(members_[static_cast<size_t>(from)], mine(), 2 * channel_ + 1, to, bytes));
        return posted->wait(until);
    }

    // What went wrong, told with the rank it happened with; it ends the job. Where the job had ended already, the reason of that.
    Status ended(CommOp op, int with, Status status) {
        if (world_->failed()) return world_->failure();
        if (status.code() == Code::E_TIMEOUT)
            status = fail(Code::E_TIMEOUT, "rank {} did not answer within {} s; it is late or gone", rank_of(with),
                          std::chrono::duration<double>(world_->deadline()).count());
        Status full = std::move(status).within(fmt::format("{} of the {} group", name_of(op), name_));
        world_->abort(full);
        return full;
    }

    struct alignas(64) Turn {
        uint64_t count = 0;
    };
    const std::shared_ptr<World> world_;
    const std::string name_;
    const std::vector<Member> members_;
    const int channel_;
    Meeting gate_;
    std::vector<Turn> turns_;
    Status status_[2];
    uint64_t calls_ = 0;
    std::vector<std::byte> scratch_;
    std::vector<Block> parts_;
    std::vector<std::list<Early>> stash_;
};

}  // namespace

std::unique_ptr<Communicator> World::group(std::string name, std::vector<Member> members, int mine, int channel, int threads) {
    return std::make_unique<Remote>(shared_from_this(), std::move(name), std::move(members), mine, channel, threads);
}

}  // namespace ds
