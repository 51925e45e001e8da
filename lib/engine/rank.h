// Rank: what one rank of the mesh owns: its parameters, its threads, its plans with their memory, and its links to the other ranks.
// Ranks: those of this process, run together. Their numbers and coordinates are those of the whole job.
#pragma once

#include <compare>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "comm/counted.h"
#include "comm/world.h"
#include "device/device.h"
#include "engine/disk_weights.h"
#include "engine/params.h"
#include "exec/plan.h"
#include "models/model.h"
#include "passes/cache.h"
#include "passes/pass.h"
#include "passes/block_route.h"
#include "base/mesh.h"

namespace ds {

inline constexpr char kSumOfGradients[] = "the sum of gradients";
// What an exchange answered: a failure with what was exchanged, and of which tensor (or "").
Status answer_of_exchange(Status status, std::string_view what, std::string_view of);

struct PlanKey {
    StreamShape shape;
    CacheShape cache = {};
    bool train = false, accumulate = false;
    std::set<std::string> outputs, seeds;
    int stage = 0;  // of a pipeline
    BlockRoute routing = {};
    int recompute = 0, recompute_blocks = 0;  // as PassOptions'
    bool consumes = false;                    // gradients, by updates in the backward pass
    auto operator<=>(const PlanKey&) const = default;
};

struct Planned {
    std::shared_ptr<Plan> plan;  // passes that run it hold it, too
    std::string choices;         // of ways to split work, with their costs
    int64_t asked = 0;           // Rank::plans_asked, when it last was
};

struct Rank {
    Rank(int number, Coordinates where, std::vector<Spot> spots) : index(number), place(where), workers(std::move(spots)) {}

    const int index;
    const Coordinates place;
    std::unique_ptr<Device> device;  // null: the rank computes on its threads
    Sent sent;                       // by its exchanges, so far
    Links links;
    Workers workers;
    std::unique_ptr<ParamStore> params;
    std::unique_ptr<DiskWeights> disk_weights;            // of params; null: none lies on disk
    std::map<std::string, Cut, std::less<>> cuts;         // of its parameters
    std::map<std::string, DType, std::less<>> low_types;  // of its parameters' low copies that it needs before the first plan
    std::optional<ZeroLayout> zero;                       // what its plans hold in parts only; nothing: they have all they use
    std::map<PlanKey, Planned> plans;
    int64_t plans_made = 0, plans_asked = 0;
    Arena train_arena, other_arena;  // a pending forward survives evaluation
    Arena cache;                     // keys and values while ds_generate runs
    Arena summands;                  // a round of other stages' gradients of tied weights
    int64_t backwards = 0;           // since the last update: whether its gradient buffers hold something
    double swept_squares = 0;        // of what it counts of the gradient, where updates measure the norm

    void use(std::unique_ptr<Device> its);  // before anything is allocated
    void note(const Status& status);        // of the device; the first failure is kept
    Status device_status() const { return device_failure_; }
    int at(MeshAxis axis) const { return ds::at(place, axis); }
    // Whether the norm of all gradients takes this parameter's share from here: tensor ranks hold copies of what isn't cut, sequence ranks
    // of all, stages of tied weights.
    bool counts(const Param& p) const {
        return p.trainable && p.counted && at(MeshAxis::sequence) == 0 && !(p.cut.whole() && at(MeshAxis::tensor) != 0);
    }
    // All threads run job; what a communicator answers is noted in links.
    Status run(const std::function<Status(Team)>& job);
    // The same for an exchange of what plans compute with, which a device's rank queues from this thread. what, of: for messages; see
    // Device::label.
    Status exchange(std::string_view what, std::string_view of, const std::function<Status(Team)>& job);

private:
    Status device_failure_;
};

class Ranks {
public:
    // Those that process `process` of the job has: each process has as many, in order. places: of their threads. experts: neighbouring data
    // ranks that deal out experts; as many ranks apart, data ranks hold the same ones. deadline: of exchanges within the process; between
    // processes the world has one.
    Ranks(Mesh mesh, const std::vector<std::vector<Spot>>& places, std::chrono::milliseconds deadline, int processes = 1, int process = 0,
          int experts = 1);
    ~Ranks();

    const Mesh& mesh() const { return mesh_; }
    int size() const { return static_cast<int>(list_.size()); }  // of this process
    bool all_are_here() const { return processes_ == 1; }
    int threads_a_rank() const { return threads_; }
    int extent(MeshAxis axis) const { return mesh_.size(axis); }
    Rank& operator[](int i) const { return *list_[static_cast<size_t>(i)]; }                                      // i: among those here
    Rank& at(const Coordinates& place) const { return *list_[static_cast<size_t>(mesh_.rank(place) - first_)]; }  // of this process
    auto begin() const { return list_.begin(); }
    auto end() const { return list_.end(); }
    // The data ranks that some rank of a process belongs to, in order.
    std::vector<int> data_ranks(int process) const;
    std::vector<int> data_ranks() const { return data_ranks(process_); }
    // Of the processes that share data ranks the first; in the order of their rows.
    std::vector<int> row_holders() const;

    // Links the ranks, through `world` to those of other processes.
    Status connect(std::shared_ptr<World> world);
    // Between processes, each as a whole; null where there is one. For one thread.
    Communicator* between() const { return between_.get(); }

    // Along the data axis, for one thread beside a rank's workers; null: there is one data rank, or ranks compute on devices.
    Communicator* background(const Rank& rank) const { return background_[static_cast<size_t>(rank.index - first_)].get(); }

    // Every rank does its part at the same time. The first failure ends the others' exchanges and is the answer. Within one process the
    // links are whole again afterwards; between processes the job has ended.
    Status each(const std::function<Status(Rank&)>& part);

private:
    void connect_axis(MeshAxis axis, const std::map<std::string, BackendGroupId>& ids);
    void connect_data_ranks();
    // Links the ranks of each group that has no links yet.
    struct Grouping {
        const char* name;
        int channel, threads;                                         // threads: of each rank
        std::function<std::vector<Member>(const Rank&)> members_of;   // a rank's group
        std::function<std::unique_ptr<Communicator>&(Rank&)> end_of;  // where its end goes
    };
    void connect_group(const Grouping& grouping, const std::map<std::string, BackendGroupId>& ids);
    Result<std::map<std::string, BackendGroupId>> group_ids();
    std::vector<Member> members_of(const Rank& rank, MeshAxis axis) const;
    bool is_here(const std::vector<Member>& members) const;
    void wait_for_devices();
    Member member(int rank) const { return {rank, rank / size(), rank % size()}; }

    const Mesh mesh_;
    const int threads_, processes_, process_, experts_;
    const std::chrono::milliseconds deadline_;
    int first_ = 0;
    std::vector<std::unique_ptr<Rank>> list_;
    std::unique_ptr<Workers> drivers_;  // one thread a rank, which waits for the rank's workers
    std::shared_ptr<World> world_;
    std::unique_ptr<Communicator> between_;
    std::vector<std::unique_ptr<Communicator>> background_;  // of each rank here
};

}  // namespace ds
