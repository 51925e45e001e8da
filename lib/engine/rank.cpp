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

Ranks::Ranks(Mesh mesh, const std::vector<std::vector<Spot>>& places, int processes, int process)
    : mesh_(mesh), threads_(static_cast<int>(places.front().size())), processes_(processes), process_(process) {
    const int n = mesh.ranks() / processes;
    first_ = n * process;
    for (int i = 0; i < n; ++i) list_.push_back(std::make_unique<Rank>(first_ + i, mesh.place(first_ + i), places[static_cast<size_t>(i)]));
    if (n > 1) drivers_ = std::make_unique<Workers>(n, Workers::kAnyCpu);
    connect(nullptr);
}

std::vector<int> Ranks::data_ranks(int process) const {
    std::set<int> found;
    for (int i = 0; i < size(); ++i) found.insert(ds::at(mesh_.place(size() * process + i), MeshAxis::data));
    return {found.begin(), found.end()};
}

void Ranks::connect(std::shared_ptr<World> world) {
    world_ = std::move(world);
    for (const auto& rank : list_) rank->links.clear();
    for (int a = 0; a < kAxes; ++a)
        if (extent(static_cast<MeshAxis>(a)) > 1) connect_axis(static_cast<MeshAxis>(a));
    between_.reset();
    if (!world_) return;
    std::vector<Member> members;
    for (int p = 0; p < processes_; ++p) members.push_back({p * size(), p, World::kMaxLocal});
    between_ = world_->group("processes", std::move(members), process_, kAxes, 1);
}

void Ranks::connect_axis(MeshAxis axis) {
    const auto a = static_cast<size_t>(axis);
    for (const auto& rank : list_) {
        if (rank->links.axis[a]) continue;
        const std::vector<int> numbers = mesh_.group(rank->index, axis);
        std::vector<Member> members;
        bool here = true;
        for (const int number : numbers) {
            members.push_back(member(number));
            here &= members.back().process == process_;
        }
        if (here) {
            auto ends = local_group(static_cast<int>(numbers.size()), threads_, kDeadline);
            for (size_t i = 0; i < numbers.size(); ++i) (*this)[numbers[i] - first_].links.axis[a] = counted(std::move(ends[i]), (*this)[numbers[i] - first_].sent);
        } else if (world_) {
            rank->links.axis[a] = counted(world_->group(name_of(axis), std::move(members), rank->at(axis), static_cast<int>(axis), threads_), rank->sent);
        }
    }
}

Status Ranks::each(const std::function<Status(Rank&)>& part) {
    if (size() == 1 && !world_) {
        Status status = part(*list_.front());
        if (!status.ok()) list_.front()->links.clear();
        return status;
    }
    std::mutex mutex;
    Status first;
    const auto run = [&](Rank& rank) {
        Status status = part(rank);
        if (status.ok()) return;
        {
            std::lock_guard lock(mutex);
            if (first.ok()) first = status;
        }
        rank.links.abort(status);
    };
    const auto run_all = [&] { size() == 1 ? run(*list_.front()) : drivers_->run([&](Team team) { run((*this)[team.rank]); }); };
    if (world_ && world_->wants_caller()) {
        std::atomic<bool> over{false};
        std::thread others([&] {
            run_all();
            over = true;
        });
        world_->serve([&] { return over.load(); });
        others.join();
    } else {
        run_all();
    }
    if (first.ok()) return ok();
    if (world_) {
        world_->abort(first);  // also where no link led to another process
        return first;
    }
    connect(nullptr);
    return first;
}

}  // namespace ds
