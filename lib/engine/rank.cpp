#include "engine/rank.h"

#include <algorithm>
#include <cstring>

#include "data/threads.h"
#include "device/group.h"
#include "ops/attrs_zero.h"

namespace ds {
namespace {

constexpr int kBackgroundChannel = kAxes + 1, kExpertsChannel = kAxes + 2;  // behind those of the axes and that between processes
}  // namespace

void Rank::use(std::unique_ptr<Device> its) {
    device = std::move(its);
    train_arena.lie_on(device.get());
    other_arena.lie_on(device.get());
    cache.lie_on(device.get());
    summands.lie_on(device.get());
}

void Rank::note(const Status& status) {
    if (!status.ok() && device_failure_.ok()) device_failure_ = status;
}

Status Rank::run(const std::function<Status(Team)>& job) {
    workers.run([&](Team team) { links.note(job(team)); });
    return links.failed() ? links.status() : ok();
}

Status answer_of_exchange(Status status, std::string_view what, std::string_view of) {
    return status.ok() ? status : std::move(status).within(of.empty() ? std::string(what) : fmt::format("{} of {}", what, of));
}

Status Rank::exchange(std::string_view what, std::string_view of, const std::function<Status(Team)>& job) {
    if (!device) return answer_of_exchange(run(job), what, of);
    device->label(what, of);
    links.note(job(Team{0, 1}));
    return links.failed() ? links.status() : ok();
}

Ranks::Ranks(Mesh mesh, const std::vector<std::vector<Spot>>& places, std::chrono::milliseconds deadline, int processes, int process,
             int experts)
    : mesh_(mesh),
      threads_(static_cast<int>(places.front().size())),
      processes_(processes),
      process_(process),
      experts_(experts),
      deadline_(deadline) {
    const int n = mesh.ranks() / processes;
    first_ = n * process;
    for (int i = 0; i < n; ++i) list_.push_back(std::make_unique<Rank>(first_ + i, mesh.place(first_ + i), places[static_cast<size_t>(i)]));
    if (n > 1) drivers_ = std::make_unique<Workers>(n, Workers::kAnyCpu);
    static_cast<void>(connect(nullptr));  // within a process nothing can fail
}

Ranks::~Ranks() { wait_for_devices(); }

// No device may give its memory back while another reads from it. One that failed will never come to what others wait for.
void Ranks::wait_for_devices() {
    if (mesh_.ranks() == 1) return;
    for (const auto& rank : list_)
        if (rank->device)
            if (const Status status = rank->device->status(); !status.ok()) rank->links.abort(status);
    for (const auto& rank : list_)
        if (rank->device) static_cast<void>(rank->device->finish());
}

std::vector<int> Ranks::data_ranks(int process) const {
    std::set<int> found;
    for (int i = 0; i < size(); ++i) found.insert(ds::at(mesh_.place(size() * process + i), MeshAxis::data));
    return {found.begin(), found.end()};
}

std::vector<int> Ranks::row_holders() const {
    std::map<int, int> first;  // by data rank
    for (int p = 0; p < processes_; ++p) first.try_emplace(data_ranks(p).front(), p);
    std::vector<int> list;
    for (const auto& [rank, process] : first) list.push_back(process);
    return list;
}

Status Ranks::connect(std::shared_ptr<World> world) {
    world_ = std::move(world);
    const bool failed = std::any_of(list_.begin(), list_.end(), [](const auto& rank) {
        return rank->links.failed() || (rank->device && !rank->device->status().ok());
    });
    for (const auto& rank : list_)
        if (rank->device && mesh_.ranks() > 1 && !failed) DS_CHECK(rank->device->finish());
    wait_for_devices();
    for (const auto& rank : list_) rank->links.clear();
    DS_TRY(const auto ids, group_ids());
    background_.clear();
    background_.resize(list_.size());
    for (int a = 0; a < kAxes; ++a)
        if (extent(static_cast<MeshAxis>(a)) > 1) connect_axis(static_cast<MeshAxis>(a), ids);
    between_.reset();
    if (!world_) return ok();
    std::vector<Member> members;
    for (int p = 0; p < processes_; ++p) members.push_back({p * size(), p, World::kMaxLocal});
    between_ = world_->group("processes", std::move(members), process_, kAxes, 1);
    return ok();
}

std::vector<Member> Ranks::members_of(const Rank& rank, MeshAxis axis) const {
    std::vector<Member> members;
    for (const int number : mesh_.group(rank.index, axis)) members.push_back(member(number));
    return members;
}

bool Ranks::is_here(const std::vector<Member>& members) const {
    return std::all_of(members.begin(), members.end(), [&](const Member& m) { return m.process == process_; });
}

namespace {
std::string name_of_group(const char* name, const std::vector<Member>& members) { return fmt::format("{} {}", name, members.front().rank); }
}  // namespace

// Of the groups of devices over several processes: the process of the first member makes the id and tells the others.
Result<std::map<std::string, BackendGroupId>> Ranks::group_ids() {
    std::map<std::string, BackendGroupId> ids;
    if (!world_ || !list_.front()->device) return ids;
    std::string mine;
    for (const auto& rank : list_)
        for (int a = 0; a < kAxes; ++a) {
            const auto axis = static_cast<MeshAxis>(a);
            const std::vector<Member> members = extent(axis) > 1 ? members_of(*rank, axis) : std::vector<Member>{};
            if (members.empty() || is_here(members) || members.front().rank != rank->index) continue;
            DS_TRY(const BackendGroupId id, rank->device->group_id());
            mine += fmt::format("{:40}", name_of_group(name_of(axis), members));
            mine.append(reinterpret_cast<const char*>(id.bytes), sizeof id.bytes);
        }
    DS_TRY(const std::vector<std::string> all, world_->exchange("groups of devices", mine));
    for (const std::string& told : all)
        for (size_t at = 0; at + 40 + sizeof(BackendGroupId) <= told.size(); at += 40 + sizeof(BackendGroupId)) {
            std::string name = told.substr(at, 40);
            name.erase(name.find_last_not_of(' ') + 1);
            std::memcpy(ids[name].bytes, told.data() + at + 40, sizeof(BackendGroupId));
        }
    return ids;
}

void Ranks::connect_axis(MeshAxis axis, const std::map<std::string, BackendGroupId>& ids) {
    const auto a = static_cast<int>(axis);
    connect_group({name_of(axis), a, threads_, [&](const Rank& rank) { return members_of(rank, axis); },
                   [&](Rank& rank) -> std::unique_ptr<Communicator>& { return rank.links.axis[static_cast<size_t>(a)]; }},
                  ids);
    if (axis == MeshAxis::data && !list_.front()->device) connect_data_ranks();
}

// What data ranks on the host have besides: a line for a thread beside the workers, and groups of those with the same experts.
void Ranks::connect_data_ranks() {
    const auto all = [&](const Rank& rank) { return members_of(rank, MeshAxis::data); };
    connect_group({name_of(MeshAxis::data), kBackgroundChannel, 1, all,
                   [&](Rank& rank) -> std::unique_ptr<Communicator>& { return background_[static_cast<size_t>(rank.index - first_)]; }},
                  {});
    if (experts_ == 1 || experts_ == extent(MeshAxis::data)) return;
    const auto same = [&](const Rank& rank) {
        std::vector<Member> members = all(rank);
        size_t place = 0;
        std::erase_if(members, [&](const Member&) { return static_cast<int>(place++) % experts_ != rank.at(MeshAxis::data) % experts_; });
        return members;
    };
    connect_group({"same experts", kExpertsChannel, threads_, same,
                   [](Rank& rank) -> std::unique_ptr<Communicator>& { return rank.links.axis[kSameExperts]; }},
                  {});
}

void Ranks::connect_group(const Grouping& grouping, const std::map<std::string, BackendGroupId>& ids) {
    const auto& [name, channel, threads, members_of, end_of] = grouping;
    for (const auto& rank : list_) {
        if (end_of(*rank)) continue;
        std::vector<Member> members = members_of(*rank);
        const bool here = is_here(members);
        const auto mine = static_cast<int>(
            std::find_if(members.begin(), members.end(), [&](const Member& m) { return m.rank == rank->index; }) - members.begin());
        std::vector<int> numbers;
        for (const Member& m : members) numbers.push_back(m.rank);
        std::vector<Rank*> ranks;  // those of this process
        std::vector<Device*> devices;
        for (const Member& m : members)
            if (m.process == process_)
                ranks.push_back(list_[static_cast<size_t>(m.local)].get()), devices.push_back(ranks.back()->device.get());
        std::vector<std::unique_ptr<Communicator>> ends;
        if (here && rank->device) ends = device_group(name, std::move(numbers), devices, deadline_);
        else if (here) ends = local_group(name, std::move(numbers), threads, deadline_);
        else if (world_ && rank->device) ends = device_group(world_, name, members, devices, channel, ids.at(name_of_group(name, members)));
        else if (world_) ranks = {rank.get()}, ends.push_back(world_->group(name, std::move(members), mine, channel, threads));
        for (size_t i = 0; i < ends.size(); ++i) end_of(*ranks[i]) = counted(std::move(ends[i]), ranks[i]->sent);
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
        Status status;
        try {
            status = part(rank);
        } catch (...) { status = status_of_current_exception("a rank"); }
        if (status.ok()) return;
        {
            std::lock_guard lock(mutex);
            if (first.ok()) first = status;
        }
        rank.links.abort(status);
        if (Communicator* beside = background(rank)) beside->abort(status);
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
    // Devices run behind what was called: an exchange that failed may belong to a call that has returned. So they stay as they are, and say
    // so.
    const bool behind = list_.front()->device && (first.code() == Code::E_TIMEOUT || first.code() == Code::E_COMM);
    if (!behind) static_cast<void>(connect(nullptr));
    return first;
}

}  // namespace ds
