// zero_optimization.overlap_comm: sums of gradients that leave while the backward pass still runs. What processes exchange at the end of an
// update would wait for the network; a bucket's gradients are final as soon as the plan has made the last of them, long before the pass is
// over.
//
// One thread beside a rank's workers sums bucket after bucket, the last parameters first, as backward passes make them. The order is that
// of the parameters, whatever a plan's shapes, so that all ranks exchange alike; sums are those of reduce_gradients, bit by bit. A device
// sums on a stream of its own, which the rank's one thread queues between the kernels of the pass.
#include "base/log.h"
#include "data/threads.h"
#include "engine/engine.h"

namespace ds {
namespace {

// After which step each gradient is final. Without a plan there were no rows, and nothing is made.
const std::map<std::string, int64_t>& steps_of(Plan* plan) {
    static const std::map<std::string, int64_t> kNothingIsMade;
    return plan ? plan->gradient_steps() : kNothingIsMade;
}

// After which step of a plan all gradients of a bucket are final.
int64_t last_step_of(const ParamBucket& bucket, const ParamStore& params, const std::map<std::string, int64_t>& steps) {
    int64_t last = 0;
    for (size_t i = bucket.first; i < bucket.last; ++i)
        if (const auto found = steps.find(params.all()[i].name); found != steps.end()) last = std::max(last, found->second);
    return last;
}

}  // namespace

// Sums may leave early where nothing but the data ranks' sum stands between gradients and update, and nobody looks at single summands.
const char* Engine::no_overlap_because() const {
    const struct {
        bool so;
        const char* why;
    } reasons[] = {
        {!config_.zero.overlap, "it is off"},
        {ranks_->extent(MeshAxis::data) == 1, "there is one data rank"},
        {gradients_are_dealt_out(), "from stage 2 on sums are steps of the plan"},
        {pipeline_ != nullptr, "a pipeline's gradients are final when its timetable ends"},
        {ranks_->extent(MeshAxis::sequence) > 1, "sequence ranks sum first"},
        {config_.mesh.expert > 1, "experts are summed by other ranks than the rest"},
        {config_.communication != DType::f32, "communication_data_type is another than f32"},
        {(*ranks_)[0].device && ranks_run_together(), "plans exchange between data ranks, too"},
        {config_.sparse_gradients, "sparse_gradients looks for rows first"},
        {growth_ && growth_->wants_noise(), "batch_growth looks at single summands"},
    };
    for (const auto& [so, why] : reasons)
        if (so) return why;
    return nullptr;
}

// In the last backward pass of an update.
bool Engine::sums_overlap() const { return open_.micros + 1 == config_.batch.accumulation && !no_overlap_because(); }

void Engine::tell_overlap() const {
    if (!config_.zero.overlap || ranks_->extent(MeshAxis::data) == 1) return;
    const char* why = no_overlap_because();
    log(Level::debug, "overlap", "zero_optimization.overlap_comm: {}",
        why ? std::string("without effect: ") + why : "gradients are summed while an update's last backward pass runs");
}

Status Engine::backward_and_sum(Rank& rank, Plan* plan, uint64_t draw) {
    ParamStore& params = *rank.params;
    DS_CHECK(params.need_grads());
    if (rank.device) return backward_and_sum_there(rank, plan, draw);
    if (!plan && rank.backwards == 0)
        std::fill_n(params.grads(), params.grad_elements(), 0.0f);  // without rows it has a summand all the same
    Progress progress;
    Status summed;
    const auto& steps = steps_of(plan);
    std::thread beside = start_quiet_thread([&] {
        try {
            summed = sum_as_made(rank, steps, progress);
        } catch (...) { summed = status_of_current_exception(kSumOfGradients); }
    });
    Status run = plan ? run_part(rank, *plan, Plan::Part::backward, draw, true, {.progress = &progress}) : ok();
    if (!run.ok()) ranks_->background(rank)->abort(run);  // it may be waiting for the others
    progress.end(run.ok());
    beside.join();
    DS_CHECK(run);
    if (plan) ++rank.backwards;
    return summed;
}

Status Engine::backward_and_sum_there(Rank& rank, Plan* plan, uint64_t draw) {
    ParamStore& params = *rank.params;
    if (!plan && rank.backwards == 0) DS_CHECK(params.clear_grads());
    const auto& steps = steps_of(plan);
    Communicator& data = *rank.links.axis[static_cast<size_t>(MeshAxis::data)];
    std::vector<Beside> sums;
    int64_t last = 0;
    for (auto bucket = params.buckets().rbegin(); bucket != params.buckets().rend(); ++bucket) {
        if (!bucket->trainable) continue;
        last = std::max(last, last_step_of(*bucket, params, steps));
        sums.push_back({last, [&, bucket] {
                            auto* at = reinterpret_cast<std::byte*>(params.grads() + bucket->elements.begin);
                            return rank.exchange(kSumOfGradients, params.all()[bucket->first].name,
                                                 [&](Team team) { return sum_bucket(data, *bucket, at, DType::f32, team); });
                        }});
    }
    if (plan) {
        DS_CHECK(run_part(rank, *plan, Plan::Part::backward, draw, true, {.beside = &sums}));
        ++rank.backwards;
        return ok();
    }
    for (const Beside& sum : sums) DS_CHECK(sum.queue());
    return ok();
}

Status Engine::sum_as_made(Rank& rank, const std::map<std::string, int64_t>& steps, const Progress& progress) const {
    const ParamStore& params = *rank.params;
    for (auto bucket = params.buckets().rbegin(); bucket != params.buckets().rend(); ++bucket) {
        if (!bucket->trainable) continue;
        if (!progress.wait_for(last_step_of(*bucket, params, steps))) return ok();  // the run says what happened
        auto* at = reinterpret_cast<std::byte*>(params.grads() + bucket->elements.begin);
        DS_CHECK(answer_of_exchange(sum_bucket(*ranks_->background(rank), *bucket, at, DType::f32, Team{0, 1}), kSumOfGradients,
                                    params.all()[bucket->first].name));
    }
    return ok();
}

}  // namespace ds
