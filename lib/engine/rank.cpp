#include "engine/rank.h"

namespace ds {
namespace {

constexpr std::chrono::seconds kDeadline{60};  // of a collective: a rank that is later than that is taken to be gone

}  // namespace

void Rank::use(std::unique_ptr<Device> its) {
    device = std::move(its);
    train_arena.lie_on(device.get());
    other_arena.lie_on(device.get());
}

void Rank::note(const Status& status) {
    if (!status.ok() && device_failure_.ok()) device_failure_ = status;
}

Status Rank::run(const std::function<Status(Team)>& job) {
    workers.run([&](Team team) { links.note(job(team)); });
    return links.failed() ? links.status() : ok();
}

Ranks::Ranks(Mesh mesh, int threads_a_rank) : mesh_(mesh), threads_(threads_a_rank) {
    const int n = mesh.ranks();
    for (int i = 0; i < n; ++i) list_.push_back(std::make_unique<Rank>(i, mesh.place(i), threads_a_rank, i * threads_a_rank));
    if (n > 1) drivers_ = std::make_unique<Workers>(n, Workers::kAnyCpu);
    connect();
}

void Ranks::connect() {
    for (int a = 0; a < kAxes; ++a) {
        const auto axis = static_cast<MeshAxis>(a);
        if (extent(axis) == 1) continue;
        for (const auto& rank : list_) {
            if (rank->at(axis) != 0) continue;
            const std::vector<int> members = mesh_.group(rank->index, axis);
            auto ends = local_group(static_cast<int>(members.size()), threads_, kDeadline);
            for (size_t i = 0; i < members.size(); ++i) (*this)[members[i]].links.axis[static_cast<size_t>(a)] = counted(std::move(ends[i]), (*this)[members[i]].sent);
        }
    }
}

Status Ranks::each(const std::function<Status(Rank&)>& part) {
    if (size() == 1) {
        Status status = part(*list_.front());
        if (!status.ok()) list_.front()->links.clear();
        return status;
    }
    std::mutex mutex;
    Status first;
    drivers_->run([&](Team team) {
        Rank& rank = (*this)[team.rank];
        Status status = part(rank);
        if (status.ok()) return;
        {
            std::lock_guard lock(mutex);
            if (first.ok()) first = status;
        }
        rank.links.abort(status);
    });
    if (first.ok()) return ok();
    for (const auto& rank : list_) rank->links.clear();
    connect();
    return first;
}

}  // namespace ds
