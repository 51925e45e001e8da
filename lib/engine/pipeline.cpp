// Pipelines: micro-batches wait for their turns, and each rank walks the timetable.
#include "engine/pipeline.h"

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "base/log.h"
#include "base/round.h"
#include "parallel/partition.h"

namespace ds {

std::vector<int> Engine::Pipeline::ranks_with(const std::string& parameter) const {
    std::vector<int> list;
    if (const auto found = holders.find(parameter); found != holders.end())
        for (const int stage : found->second)
            if (std::find(list.begin(), list.end(), stage % ranks) == list.end()) list.push_back(stage % ranks);
    return list;
}

int64_t Engine::Pipeline::bytes() const {
    size_t sum = 0;
    for (const Memory& memory : training)
        for (const auto& arena : memory.all) sum += arena->size();
    for (const auto& arena : other) sum += arena->size();
    return static_cast<int64_t>(sum);
}

// What a layer costs beside another hardly depends on the batch, so the smallest one decides where stages are cut, for good: parameters lie
// by that.
Status Engine::make_pipeline() {
    const int ranks = ranks_->extent(MeshAxis::pipeline);
    if (ranks == 1) return ok();
    auto made = std::make_shared<Pipeline>();
    made->ranks = ranks;
    made->splits = config_.pipeline.schedule == "zb-h1";
    made->chunks = config_.pipeline.schedule == "interleaved" ? static_cast<int>(config_.pipeline.chunks) : 1;
    DS_TRY(Graph graph, smallest_graph());
    DS_CHECK(compression_.declare_in(graph));
    for (const ValueId id : graph.inputs)
        if (Value& v = graph.value(id); v.kind == Kind::param) v.trainable = params_->find(v.name)->trainable;
    number_boundaries(graph, made->stages());
    const auto segments = segments_of(graph);
    if (static_cast<int>(segments.size()) < made->stages())
        return fail(Code::E_CONFIG, "parallel: pipeline {} x pipeline.chunks {} needs {} stages, but the model can be cut into {} parts",
                    made->ranks, made->chunks, made->stages(), segments.size());
    DS_TRY(made->ends, partition(segments, made->stages(), config_.pipeline.partition));
    made->holders = holders_of(graph, made->ends);
    made->shares.assign(static_cast<size_t>(made->stages()), false);
    for (const auto& [name, stages] : made->holders) {
        if (!params_->find(name)->trainable) continue;
        if (made->ranks_with(name).size() > 1) made->tied.push_back(name);
        for (const int stage : stages)
            for (const int other : stages)
                if (other != stage && other % ranks == stage % ranks) made->shares[static_cast<size_t>(stage)] = true;
    }
    made->counted.assign(static_cast<size_t>(ranks_->extent(MeshAxis::data)), 0);
    const size_t places = static_cast<size_t>(ranks_->mesh().ranks() * made->chunks);
    made->training.resize(places);
    for (size_t i = 0; i < places; ++i) made->other.push_back(std::make_unique<Arena>());
    pipeline_ = std::move(made);
    return ok();
}

// Of a graph's parameters, those of the rank's stages.
void Engine::keep_own_params(const Rank& rank, Graph& graph) const {
    if (!pipeline_) return;
    std::erase_if(graph.inputs, [&](ValueId id) {
        if (graph.value(id).kind != Kind::param) return false;
        const auto holders = pipeline_->ranks_with(graph.value(id).name);
        return std::find(holders.begin(), holders.end(), rank.at(MeshAxis::pipeline)) == holders.end();
    });
}

// What lies on several ranks counts once.
void Engine::mark_counted(Rank& rank) const {
    if (!pipeline_) return;
    for (Param& p : rank.params->all()) p.counted = pipeline_->ranks_with(p.name).front() == rank.at(MeshAxis::pipeline);
}

bool Engine::gradients_have_parts() const {
    return ranks_->extent(MeshAxis::data) * ranks_->extent(MeshAxis::sequence) > 1 || (pipeline_ && !pipeline_->tied.empty());
}

const Timetable& Engine::timetable(int micros) {
    const auto known = pipeline_->tables.find(micros);
    if (known != pipeline_->tables.end()) return known->second;
    const PipelineConfig& config = config_.pipeline;
    Timetable table = make_timetable({config.schedule, pipeline_->ranks, pipeline_->chunks, micros, static_cast<int>(config.active)});
    if (!dump_dir_.empty()) {
        const std::filesystem::path path = std::filesystem::path(dump_dir_) / fmt::format("pipeline.{}.timetable.txt", micros);
        if (const Status status = write_file_atomically(path, print(table)); !status.ok()) log(Level::warn, "dump", "{}", status.message());
    }
    return pipeline_->tables.emplace(micros, std::move(table)).first->second;
}

// A training pass is kept until its turn comes.
void Engine::hold(const Pass& pass) {
    forget(pipeline_->pending);
    auto micro = std::make_shared<Micro>();
    micro->pass = pass;
    const size_t places = pipeline_->training.size();
    micro->pass.plans.assign(places, nullptr);
    micro->memory.assign(places, nullptr);
    micro->losses.assign(pass.packed.size(), std::nullopt);
    for (const int64_t before : pipeline_->counted) micro->accumulates.push_back(before > 0);
    pipeline_->pending = std::move(micro);
}

void Engine::forget(std::shared_ptr<Micro>& micro) {
    if (!micro) return;
    for (size_t i = 0; i < micro->memory.size(); ++i)
        if (micro->memory[i]) pipeline_->training[i].free.push_back(micro->memory[i]);
    micro.reset();
}

void Engine::drop_enqueued() {
    for (auto& micro : pipeline_->queue) forget(micro);
    pipeline_->queue.clear();
    std::fill(pipeline_->counted.begin(), pipeline_->counted.end(), 0);
    if (pending_ && pipeline_->pending) hold(Pass(pipeline_->pending->pass));  // the first of its step now
    else forget(pipeline_->pending);
}

// One rank's way through its turns.
struct Engine::Walker {
    Engine& engine;
    Rank& rank;
    const std::vector<std::shared_ptr<Micro>>& micros;
    bool keeps;

    Micro& micro(const Turn& turn) const { return *micros[static_cast<size_t>(turn.micro)]; }
    Communicator& line() const { return *rank.links.axis[static_cast<size_t>(MeshAxis::pipeline)]; }

    // The plan of this turn, where this micro-batch's memory is.
    Result<Plan*> plan(const Turn& turn) const {
        Micro& m = micro(turn);
        const size_t place = engine.pipeline_->place(rank, turn.stage);
        std::shared_ptr<Plan>& known = m.pass.plans[place];
        if (!known) DS_CHECK(engine.begin_stage(rank, m, turn.stage, keeps));
        known->move_to(m.memory[place]->data());
        return known.get();
    }

    Status exchange(Plan& plan, const std::vector<Crossing>& crossings, bool gradients, const std::function<Status(Block)>& f) const {
        for (const Crossing& c : crossings) {
            const ValueId id = gradients ? c.gradient : c.value;
            if (gradients && !c.differentiable) continue;
            Block block{plan.address(id), bytes(plan.graph().type(id))};
            Arena unread;
            if (!block.data) {  // nothing here needs it
                unread.lie_on(rank.device.get());
                DS_CHECK(unread.reserve(static_cast<size_t>(block.bytes)));
                block.data = unread.data();
            }
            if (rank.device) rank.device->label("the pipeline's message", plan.graph().value(id).name);
            Status status = f(block);
            if (!status.ok())
                return rank.device ? status
                                   : std::move(status).within(fmt::format("the pipeline's message {}", plan.graph().value(id).name));
        }
        return ok();
    }

    Status receive(int from, int64_t tag, const Turn& turn) {
        DS_TRY(Plan * mine, plan(turn));
        const bool forward = turn.work == Work::forward;
        return exchange(*mine, forward ? mine->graph().received : mine->graph().sent, !forward,
                        [&](Block block) { return line().receive(from, tag, block); });
    }
    Status send(int to, int64_t tag, const Turn& turn) {
        DS_TRY(Plan * mine, plan(turn));
        const bool forward = turn.work == Work::forward;
        const Status status = exchange(*mine, forward ? mine->graph().sent : mine->graph().received, !forward,
                                       [&](Block block) { return line().send(to, tag, block); });
        if (turn.work == Work::backward) engine.end_turn(rank, micro(turn), turn);
        return status;
    }
    Status run(const Turn& turn) {
        DS_TRY(Plan * mine, plan(turn));
        const auto begin = std::chrono::steady_clock::now();
        DS_CHECK(engine.run_turn(rank, micro(turn), turn, *mine));
        if (keeps && engine.record_.wants_step()) engine.record_turn(rank, turn, begin);
        if (turn.work == Work::weights || (turn.work == Work::backward && turn.stage == 0)) engine.end_turn(rank, micro(turn), turn);
        return ok();
    }
};

// Compiles or finds the stage's plan and gives it memory and operands.
Status Engine::begin_stage(Rank& rank, Micro& micro, int stage, bool keeps) {
    const auto part = static_cast<size_t>(rank.at(MeshAxis::data));
    PlanKey key = micro.pass.keys[part];
    key.stage = stage;
    key.accumulate = keeps && (micro.accumulates[part] || pipeline_->shares[static_cast<size_t>(stage)]);
    DS_TRY(const std::shared_ptr<Plan> plan, plan_for(rank, key));
    const size_t place = pipeline_->place(rank, stage);
    Arena* arena = pipeline_->other[place].get();
    if (keeps) {
        DS_CHECK(rank.params->need_grads());
        auto& memory = pipeline_->training[place];
        if (memory.free.empty()) {
            memory.all.push_back(std::make_unique<Arena>());
            memory.free.push_back(memory.all.back().get());
        }
        arena = memory.free.back();
        memory.free.pop_back();
        micro.memory[place] = arena;
    }
    arena->lie_on(rank.device.get());
    DS_CHECK(arena->reserve(std::max<size_t>(static_cast<size_t>(plan->arena_bytes()), 64)));
    DS_CHECK(place_plan(rank, *plan, arena->data()));
    DS_CHECK(fill_inputs(rank.device.get(), micro.pass.packed[part], *plan));
    micro.memory[place] = arena;
    micro.pass.plans[place] = plan;
    return ok();
}

Status Engine::run_turn(Rank& rank, Micro& micro, const Turn& turn, Plan& plan) {
    const int part = rank.at(MeshAxis::data);
    const Graph& graph = plan.graph();
    if (turn.work == Work::backward)
        for (const auto& [key, value] : micro.seeds) {
            const ValueId id = key.first == part ? seed_of(graph, key.second) : kNone;
            if (void* to = id == kNone ? nullptr : plan.address(id))
                DS_CHECK(to_device(rank.device.get(), to, value.data, static_cast<size_t>(value.bytes())));
        }
    const Plan::Part which = turn.work == Work::forward    ? Plan::Part::forward
                             : turn.work == Work::backward ? Plan::Part::backward
                                                           : Plan::Part::weights;
    DS_CHECK(run_part(rank, plan, which, micro.pass.draw, micro.pass.train));
    if (turn.work == Work::forward && graph.loss != kNone && rank.at(MeshAxis::tensor) == 0 && rank.at(MeshAxis::sequence) == 0) {
        DS_TRY(const HostTensor loss, read_value(rank, plan, graph.loss));
        micro.losses[static_cast<size_t>(part)] = loss.as<float>()[0];
    }
    return ok();
}

// After the last turn of a stage its memory serves the next micro-batch.
void Engine::end_turn(Rank& rank, Micro& micro, const Turn& turn) {
    if (turn.work == Work::backward) ++rank.backwards;
    if (turn.work == Work::backward && pipeline_->splits) return;
    const size_t place = pipeline_->place(rank, turn.stage);
    pipeline_->training[place].free.push_back(std::exchange(micro.memory[place], nullptr));
}

// Every rank does its turns for these micro-batches: all, or the forward passes alone.
Status Engine::fly(const std::vector<std::shared_ptr<Micro>>& micros, bool backward, bool keeps) {
    const Timetable& table = timetable(static_cast<int>(micros.size()));
    const Status status = ranks_->each([&](Rank& rank) -> Status {
        const auto part = static_cast<size_t>(rank.at(MeshAxis::data));
        std::vector<Turn> turns;
        for (const Turn& turn : table.turns[static_cast<size_t>(rank.at(MeshAxis::pipeline))]) {
            const Micro& micro = *micros[static_cast<size_t>(turn.micro)];
            const bool due = turn.work == Work::forward ? !micro.forwarded : backward;
            if (due && micro.pass.packed[part].shape.rows > 0) turns.push_back(turn);
        }
        if (backward && rank.backwards == 0) DS_CHECK(clear_shared_gradients(rank));
        return walk(table, turns, Walker{*this, rank, micros, keeps});
    });
    DS_CHECK(status);
    return share_losses(micros);
}

// The last stage has the loss, and all processes need it.
Status Engine::share_losses(const std::vector<std::shared_ptr<Micro>>& micros) const {
    if (job_.alone()) return ok();
    const auto parts = static_cast<size_t>(ranks_->extent(MeshAxis::data));
    std::vector<std::pair<int, double>> mine;
    for (size_t m = 0; m < micros.size(); ++m)
        for (size_t d = 0; d < parts; ++d)
            if (micros[m]->losses[d]) mine.emplace_back(static_cast<int>(m * parts + d), *micros[m]->losses[d]);
    DS_TRY(const std::vector<double> all, job_.of_all("loss", mine, micros.size() * parts));
    for (size_t i = 0; i < all.size(); ++i) micros[i / parts]->losses[i % parts] = all[i];
    return ok();
}

// Chunks that share weights on one rank add to their gradients from the start.
Status Engine::clear_shared_gradients(Rank& rank) {
    for (int chunk = 0; chunk < pipeline_->chunks; ++chunk) {
        const int stage = pipeline_->stage_of(rank, chunk);
        if (!pipeline_->shares[static_cast<size_t>(stage)]) continue;
        DS_CHECK(rank.params->need_grads());
        for (const Param& p : rank.params->all())
            if (const auto& of = pipeline_->holders.at(p.name); p.trainable && std::count(of.begin(), of.end(), stage))
                DS_CHECK(rank.params->clear_grad(p));
    }
    return ok();
}

double Engine::loss_of(const Micro& micro) const {
    double loss = 0;
    for (size_t d = 0; d < micro.losses.size(); ++d)
        if (micro.losses[d]) loss += share_of(micro.pass, static_cast<int>(d)) * *micro.losses[d];
    return static_cast<float>(loss);
}

// Somebody asks for what the last training forward gives.
Status Engine::catch_up() {
    const auto micro = pipeline_->pending;
    if (!micro || micro->forwarded) return ok();
    begin_record(open_.micros);
    if (Status status = fly({micro}, false, true); !status.ok()) {
        hold(Pass(micro->pass));
        return status;
    }
    micro->forwarded = true;
    return ok();
}

// A pass that keeps nothing runs at once.
Status Engine::run_through(Pass& pass) {
    const size_t places = pipeline_->training.size();
    auto micro = std::make_shared<Micro>();
    micro->pass = pass;
    micro->pass.plans.assign(places, nullptr);
    micro->memory.assign(places, nullptr);
    micro->losses.assign(pass.packed.size(), std::nullopt);
    DS_CHECK(fly({micro}, false, false));
    pass.plans = micro->pass.plans;
    return ok();
}

// The plans of the last training forward, if they have what an output needs, at that pass's memory.
Status Engine::bring_up(Pass& pass) {
    const auto& micro = pipeline_->pending;
    if (!pending_ || !micro || micro->pass.draw != pass.draw || micro->pass.key().outputs != pass.key().outputs) return ok();
    DS_CHECK(catch_up());
    for (size_t i = 0; i < micro->memory.size(); ++i)
        if (micro->memory[i]) micro->pass.plans[i]->move_to(micro->memory[i]->data());
    pass.plans = micro->pass.plans;
    return ok();
}

Status Engine::enqueue_backward(LossOf whose, const SeedOf& seed) {
    const auto micro = pipeline_->pending;
    const auto& names = micro->pass.key().seeds;
    if (names != std::set<std::string>{"loss"}) DS_CHECK(catch_up());  // the shapes of outputs are their plans'
    const Status seeded = take_seeds(*micro, seed);
    DS_CHECK(whose == LossOf::host ? job_.agree("ds_backward_from", seeded) : seeded);
    pipeline_->queue.push_back(std::exchange(pipeline_->pending, nullptr));
    for (size_t d = 0; d < micro->pass.packed.size(); ++d) pipeline_->counted[d] += micro->pass.packed[d].shape.rows > 0;
    count_backward(micro->pass, whose);
    if (!micro->forwarded && open_.micros < config_.batch.accumulation) return ok();
    return settle();
}

Status Engine::take_seeds(Micro& micro, const SeedOf& seed) const {
    for (int d = 0; d < static_cast<int>(micro.pass.packed.size()); ++d) {
        if (micro.pass.packed[static_cast<size_t>(d)].shape.rows == 0) continue;
        for (const std::string& name : micro.pass.key().seeds) {
            Shape shape;
            if (name != "loss") {
                const Plan* plan = plan_here(micro.pass, d, [&](const Graph& graph) { return seed_of(graph, name) != kNone; }).plan;
                if (!plan) continue;
                shape = plan->graph().type(seed_of(plan->graph(), name)).shape;
            }
            DS_TRY(micro.seeds[std::pair(d, name)], seed(shape, d, name));
        }
    }
    return ok();
}

// Runs what is enqueued.
Status Engine::settle() {
    if (!pipeline_ || pipeline_->queue.empty()) return ok();
    const std::vector<std::shared_ptr<Micro>> micros(pipeline_->queue.begin(), pipeline_->queue.end());
    begin_record(open_.micros - static_cast<int64_t>(micros.size()));
    if (Status status = fly(micros, true, true); !status.ok()) {
        clear_gradients();
        pending_.reset();
        return status;
    }
    for (const auto& micro : micros) {
        if (!micro->pass.labelled || !micro->pass.key().seeds.count("loss")) continue;
        const double loss = loss_of(*micro);
        metrics_.put("loss", loss);
        count_loss(micro->pass, static_cast<float>(loss));
    }
    pipeline_->queue.clear();
    return ok();
}

namespace {

// Sums what some ranks of a line have, in their order, and gives the sum to each of them: a holder adds up its share of all summands. Ranks
// that hold nothing come along, as an exchange is of the whole line.
class SumOfHolders {
public:
    SumOfHolders(Rank& rank, Communicator& line, const std::vector<int>& holders, const std::string& name)
        : rank_(rank), line_(line), holders_(holders), name_(name) {
        if (const auto found = std::find(holders.begin(), holders.end(), line.rank()); found != holders.end())
            mine_ = static_cast<size_t>(found - holders.begin());
    }

    // Elements are exchanged in rounds, so that what comes from others is added while it is in the cache. most: what any rank of the line
    // may have of them, which all know.
    Status run(float* data, int64_t count, int64_t most) {
        const int64_t round = rank_.device ? kDeviceRound : kRound;
        const auto rounds = static_cast<int>((most + round - 1) / round);
        if (mine_) DS_CHECK(rank_.summands.reserve(static_cast<size_t>(round * 4 + 2 * kLine * holders())));
        for (int r = 0; r < rounds; ++r) {
            const Team::Range part = Team{r, rounds}.part(count, kLine / 4);
            DS_CHECK(sum(data + part.begin, part.end - part.begin));
        }
        return ok();
    }

private:
    static constexpr int64_t kRound = 1 << 18, kDeviceRound = 1 << 24;  // elements
    static constexpr int64_t kLine = 64;                                // bytes to which parts are cut
    using Blocks = std::vector<Block>;

    int holders() const { return static_cast<int>(holders_.size()); }

    Status sum(float* data, int64_t count) {
        Blocks sent(static_cast<size_t>(line_.size())), received = sent;
        if (!mine_) {
            DS_CHECK(exchange(sent, received));
            return exchange(sent, received);
        }
        Blocks shares, parts;
        for (int h = 0; h < holders(); ++h) {
            const Team::Range share = Team{h, holders()}.part(count, kLine / 4);
            shares.push_back({data + share.begin, (share.end - share.begin) * 4});
        }
        const Block own = shares[*mine_];
        for (int h = 0; h < holders(); ++h) parts.push_back({rank_.summands.data() + h * round_up(own.bytes, kLine), own.bytes});
        parts[*mine_] = own;
        for (size_t h = 0; h < shares.size(); ++h) sent[place(h)] = shares[h], received[place(h)] = parts[h];
        DS_CHECK(exchange(sent, received));
        DS_CHECK(add_up(parts));
        for (size_t h = 0; h < shares.size(); ++h) sent[place(h)] = own, received[place(h)] = shares[h];
        return exchange(sent, received);
    }

    // In the order of holders, and into this rank's own part.
    Status add_up(const Blocks& parts) {
        const size_t own = *mine_;
        for (size_t h = 1; h < own; ++h) DS_CHECK(add(parts[0], parts[h]));
        if (own > 0) DS_CHECK(add(parts[own], parts[0]));
        for (size_t h = own + 1; h < parts.size(); ++h) DS_CHECK(add(parts[own], parts[h]));
        return ok();
    }

    Status add(Block to, Block from) {
        auto* sum = static_cast<float*>(to.data);
        const auto* other = static_cast<const float*>(from.data);
        if (rank_.device) return rank_.device->add(sum, other, to.bytes / 4);
        return rank_.run([&](Team team) {
            const Team::Range range = team.part(to.bytes / 4, kLine / 4);
            for (int64_t i = range.begin; i < range.end; ++i) sum[i] += other[i];
            return ok();
        });
    }

    Status exchange(const Blocks& sent, const Blocks& received) {
        return rank_.exchange(kSumOfGradients, name_, [&](Team team) { return line_.all_to_all(sent, received, team); });
    }

    size_t place(size_t holder) const { return static_cast<size_t>(holders_[holder]); }

    Rank& rank_;
    Communicator& line_;
    const std::vector<int>& holders_;
    const std::string& name_;     // of the weight
    std::optional<size_t> mine_;  // which of them this rank is
};

}  // namespace

// Each stage that has a tied weight has a summand of its gradient: they are added up in the order of stages.
Status Engine::sum_tied(Rank& rank) {
    if (!pipeline_) return ok();
    Communicator& line = *rank.links.axis[static_cast<size_t>(MeshAxis::pipeline)];
    for (const std::string& name : pipeline_->tied) {
        const auto holders = pipeline_->ranks_with(name);
        const bool holds = std::find(holders.begin(), holders.end(), line.rank()) != holders.end();
        const Param* p = holds ? rank.params->find(name) : nullptr;
        DS_CHECK(SumOfHolders(rank, line, holders, name)
                     .run(p ? rank.params->grad(*p) : nullptr, p ? p->count : 0, elements(params_->find(name)->shape)));
    }
    return ok();
}

// A host's optimizer updates a tied weight once, where it is counted.
Status Engine::copy_tied_weights() {
    if (!pipeline_ || pipeline_->tied.empty()) return ok();
    const Status status = ranks_->each([&](Rank& rank) -> Status {
        Communicator& line = *rank.links.axis[static_cast<size_t>(MeshAxis::pipeline)];
        int64_t tag = int64_t{1} << 33;
        for (const std::string& name : pipeline_->tied) {
            ++tag;
            const Param* p = rank.params->find(name);
            if (!p) continue;
            const auto holders = pipeline_->ranks_with(name);
            const Block weight{rank.params->weight(*p), p->count * 4};
            if (p->counted) {
                for (size_t h = 1; h < holders.size(); ++h) DS_CHECK(line.send(holders[h], tag, weight));
                continue;
            }
            DS_CHECK(line.receive(holders.front(), tag, weight).within(name));
            DS_CHECK(rank.params->refresh_low(*p));
        }
        return ok();
    });
    broken_ |= !status.ok();
    return status;
}

void Engine::begin_record(int64_t first_micro) {
    pipeline_->first_micro = static_cast<int>(first_micro);
    if (!record_.wants_step() || pipeline_->recorded_step == record_.step()) return;
    pipeline_->recorded.assign(static_cast<size_t>(pipeline_->ranks), {});
    pipeline_->recorded_step = record_.step();
}

void Engine::record_turn(const Rank& rank, const Turn& turn, std::chrono::steady_clock::time_point begin) {
    if (rank.at(MeshAxis::tensor) || rank.at(MeshAxis::sequence) || rank.at(MeshAxis::data) || pipeline_->recorded.empty()) return;
    const Turn numbered{turn.work, turn.stage, turn.micro + pipeline_->first_micro};
    pipeline_->recorded[static_cast<size_t>(rank.at(MeshAxis::pipeline))].push_back(
        {numbered, record_.microseconds(begin), record_.microseconds(std::chrono::steady_clock::now())});
}

}  // namespace ds
