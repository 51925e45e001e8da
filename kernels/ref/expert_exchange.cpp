// Rows of experts between the ranks that hold them. First every rank of the group tells the others how many rows it has for each expert;
// then the rows go, those for one rank in one piece. What came, sorted by sender, is sorted by expert here. Without links (one rank) there
// is nothing to exchange.
#include <algorithm>
#include <vector>

#include "comm/communicator.h"
#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

// What the group's ranks have for the experts: [rank][expert], and where rows lie.
class Traffic {
public:
    Traffic(const Call& c, Team team)
        : g_(c.attr<ExpertGroup>()),
          row_bytes_(c.in[0].columns() * size_of(c.in[0].dtype)),
          team_(team),
          call_(c),
          counts_(reinterpret_cast<int32_t*>(c.scratch)),
          links_(c.runtime->links ? (*c.runtime->links)[g_.group] : nullptr) {}

    void count(const Tensor& ends) {
        int32_t* mine = counts_ + g_.rank * g_.experts;
        for (int64_t e = 0; e < g_.experts; ++e) mine[e] = ends.as<int32_t>()[e + 1] - ends.as<int32_t>()[e];
    }

    static int64_t bytes_of_counts(const ExpertGroup& g) { return round_up(g.ranks * g.experts * 4, 64); }
    static std::byte* by_sender(const Call& c) { return c.scratch + bytes_of_counts(c.attr<ExpertGroup>()); }

    int64_t row_bytes() const { return row_bytes_; }
    Interval experts_of(int64_t rank) const { return near_even(g_.experts, rank, g_.ranks); }
    int64_t rows(int64_t from, int64_t to) const {  // that one rank has for another's experts
        int64_t n = 0;
        for (int64_t e = experts_of(to).begin; e < experts_of(to).end; ++e) n += counts_[from * g_.experts + e];
        return n;
    }

    // Everyone's counts, to everyone.
    void tell() {
        if (!links_) return;
        const int64_t bytes = g_.experts * 4;
        std::vector<Block> send(static_cast<size_t>(links_->size())), receive(send.size());
        for (int64_t r = 0; r < g_.ranks; ++r) {
            send[peer(r)] = {counts_ + g_.rank * g_.experts, bytes};
            receive[peer(r)] = {counts_ + r * g_.experts, bytes};
        }
        note(links_->all_to_all(send, receive, team_));
    }

    // home: rows sorted by expert, this rank's. away: rows of this rank's experts sorted by sender. outward: from home to away.
    void exchange(std::byte* home, std::byte* away, bool outward) {
        std::vector<Block> at_home(static_cast<size_t>(links_ ? links_->size() : 1)), apart(at_home.size());
        for (int64_t r = 0; r < g_.ranks; ++r) {
            at_home[links_ ? peer(r) : 0] = {home, rows(g_.rank, r) * row_bytes_};
            apart[links_ ? peer(r) : 0] = {away, rows(r, g_.rank) * row_bytes_};
            home += rows(g_.rank, r) * row_bytes_;
            away += rows(r, g_.rank) * row_bytes_;
        }
        if (links_) return note(outward ? links_->all_to_all(at_home, apart, team_) : links_->all_to_all(apart, at_home, team_));
        const Block &from = outward ? at_home[0] : apart[0], &to = outward ? apart[0] : at_home[0];
        if (team_.rank == 0) std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes));
    }

    // f(place by sender, place by expert, rows) for each run of rows of one sender and expert.
    template <class F>
    void runs(const F& f) const {
        int64_t by_sender = 0;
        const Interval own = experts_of(g_.rank);
        for (int64_t r = 0; r < g_.ranks; ++r)
            for (int64_t e = own.begin; e < own.end; ++e) {
                int64_t by_expert = 0;
                for (int64_t before = own.begin; before <= e; ++before)
                    for (int64_t s = 0; s < (before < e ? g_.ranks : r); ++s) by_expert += counts_[s * g_.experts + before];
                f(by_sender, by_expert, counts_[r * g_.experts + e]);
                by_sender += counts_[r * g_.experts + e];
            }
    }

    // Where the rows of each of this rank's experts end, those of all senders together.
    void ends_of_own(int32_t* ends) const {
        const Interval own = experts_of(g_.rank);
        ends[0] = 0;
        for (int64_t e = own.begin; e < own.end; ++e) {
            ends[e - own.begin + 1] = ends[e - own.begin];
            for (int64_t r = 0; r < g_.ranks; ++r) ends[e - own.begin + 1] += counts_[r * g_.experts + e];
        }
    }

private:
    size_t peer(int64_t r) const { return static_cast<size_t>(g_.base + r); }
    void note(const Status& status) {
        if (call_.runtime->links) call_.runtime->links->note(status);
    }

    const ExpertGroup& g_;
    const int64_t row_bytes_;  // of one row of x
    const Team team_;
    const Call& call_;
    int32_t* counts_;
    Communicator* links_;
};

void count(const Call& c, Team team) {
    if (team.rank == 0) Traffic(c, team).count(c.in[1]);
}
void tell(const Call& c, Team team) { Traffic(c, team).tell(); }

void send(const Call& c, Team team) { Traffic(c, team).exchange(c.in[0].as<std::byte>(), Traffic::by_sender(c), true); }
void sort(const Call& c, Team team) {
    if (team.rank != 0) return;
    const Traffic t(c, team);
    auto* to = c.out[0].as<std::byte>();
    const std::byte* from = Traffic::by_sender(c);
    int64_t all = 0;
    t.runs([&](int64_t by_sender, int64_t by_expert, int64_t rows) {
        std::memcpy(to + by_expert * t.row_bytes(), from + by_sender * t.row_bytes(), static_cast<size_t>(rows * t.row_bytes()));
        all += rows;
    });
    std::memset(to + all * t.row_bytes(), 0, static_cast<size_t>((c.out[0].rows() - all) * t.row_bytes()));
    t.ends_of_own(c.out[1].as<int32_t>());
}

void unsort(const Call& c, Team team) {
    if (team.rank != 0) return;
    const Traffic t(c, team);
    const auto* from = c.in[0].as<std::byte>();
    std::byte* to = Traffic::by_sender(c);
    t.runs([&](int64_t by_sender, int64_t by_expert, int64_t rows) {
        std::memcpy(to + by_sender * t.row_bytes(), from + by_expert * t.row_bytes(), static_cast<size_t>(rows * t.row_bytes()));
    });
    // Rows that no expert took stay zero.
    std::memset(c.out[0].data, 0, static_cast<size_t>(c.out[0].count() * size_of(c.out[0].dtype)));
}
void send_back(const Call& c, Team team) { Traffic(c, team).exchange(c.out[0].as<std::byte>(), Traffic::by_sender(c), false); }

template <Phase... phases>
Result<Prepared> exchanged(const Request& r) {
    const auto& g = r.attr<ExpertGroup>();
    return Prepared{{count, tell, phases...}, nullptr, Traffic::bytes_of_counts(g) + g.rows * r.in[0].columns() * size_of(r.in[0].dtype)};
}

constexpr KernelImpl kSend[] = {{"exchange", accepts_all, exchanged<send, sort>, true}},
                     kReturn[] = {{"exchange", accepts_all, exchanged<unsort, send_back>, true}};

}  // namespace

const KernelList expert_send{kSend}, expert_return{kReturn};

}  // namespace ds::ref
