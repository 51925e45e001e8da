// The passes over a micro-batch: forward, backward, evaluation, outputs.
#include "engine/engine.h"

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "config/sparse_layout.h"
#include "engine/pipeline.h"

namespace ds {

bool Engine::computes_loss() const { return options_.graph ? options_.graph->graph().loss != kNone : model_->task != Task::none; }

std::string Engine::loss_is_lacking() const {
    if (computes_loss()) return "the batch has no labels, so there is no loss; pass NULL for it or add labels";
    return options_.graph ? "the graph has no loss (ds_graph_loss names it); pass NULL for it"
                          : "the model has no head and so no loss; pass NULL for it";
}

Status Engine::usable() const {
    if (job_.failed() && !job_.failure_is_told()) return job_.failure().within("since the last call");
    if (job_.failed())
        return fail(Code::E_STATE,
                    "the job of this engine has ended ({}); only ds_load, which joins anew, and ds_engine_destroy are possible",
                    job_.failure().message());
    return broken_
               ? fail(Code::E_STATE, "an earlier failure left this engine half updated; only ds_load and ds_engine_destroy are possible")
               : devices_ok();
}

// What a device said while memory was copied for a caller who does not ask.
Status Engine::devices_ok() const {
    if (!ranks_) return ok();
    for (const auto& rank : *ranks_) {
        DS_CHECK(rank->device_status());
        if (rank->device) DS_CHECK(rank->device->status());
    }
    return ok();
}

PlanKey Engine::key_of(const Packed& packed, bool labelled, bool train) const {
    PlanKey key{.shape = packed.shape, .train = train};
    if (!train) {
        key.outputs = eval_outputs_;
        if (!labelled && key.outputs.empty() && !program_->outputs().empty()) key.outputs.insert(program_->outputs().front());
        return key;
    }
    key.routing = packed.routing;
    key.outputs = train_outputs_;
    key.seeds = seeds_;
    if (!labelled) key.seeds.erase("loss");
    for (const std::string& seed : key.seeds)
        if (seed != "loss") key.outputs.insert(seed);
    if (!key.seeds.empty()) key.recompute = std::max(config_.recompute, 0);
    else if (key.outputs.empty() && !program_->outputs().empty())
        key.outputs.insert(program_->outputs().front());  // no backward pass is possible: outputs only
    return key;
}

Status Engine::fill_inputs(Device* device, const Packed& packed, const Plan& plan) const {
    const Graph& graph = plan.graph();
    for (const ValueId id : graph.inputs) {
        const Value& v = graph.value(id);
        void* to = v.kind == Kind::input ? plan.address(id) : nullptr;
        const auto found = packed.inputs.find(v.name);
        if (to && v.name == "sparse_layout") {
            const auto layout =
                sparse_layout(config_.sparse_attention, v.type.shape[0], v.type.shape[1], static_cast<uint64_t>(config_.seed));
            DS_CHECK(to_device(device, to, layout.data(), layout.size()));
        }
        if (to && found != packed.inputs.end())
            DS_CHECK(to_device(device, to, found->second.data, static_cast<size_t>(found->second.bytes())));
    }
    return ok();
}

// The rows of a batch that data ranks share.
Result<int64_t> Engine::rows_of_batch(const Batch& batch, const std::set<std::string>& outputs) const {
    int64_t rows = -1;
    bool even = true;
    for (const auto& [name, tensor] : batch) {
        const int dim = program_->row_dimension(name);
        if (dim < 0 || static_cast<size_t>(dim) >= tensor.shape.size()) continue;
        if (rows < 0) rows = tensor.shape[static_cast<size_t>(dim)];
        even &= rows == tensor.shape[static_cast<size_t>(dim)];
    }
    if (rows >= 0 && even) return rows;
    DS_CHECK(program_->pack(batch, outputs).status());  // the packer knows what is wrong
    return fail(Code::E_UNSUPPORTED, "parallel.data: no tensor of this batch has rows that {} data ranks could share",
                ranks_->extent(MeshAxis::data));
}

// The batch as the data ranks of this process see it: rows are dealt out near-evenly.
Result<std::vector<Packed>> Engine::pack(const Batch& batch, const std::set<std::string>& outputs, int64_t first_row) const {
    const std::vector<int> here = ranks_->data_ranks();
    std::vector<Packed> list(static_cast<size_t>(ranks_->extent(MeshAxis::data)));
    if (list.size() == 1) {
        DS_TRY(list[0], program_->pack(batch, outputs));
        return list;
    }
    DS_TRY(const int64_t rows, rows_of_batch(batch, outputs));
    for (size_t i = 0; i < here.size(); ++i) {
        const Interval mine = near_even(rows, static_cast<int64_t>(i), static_cast<int64_t>(here.size()));
        if (mine.size() == 0) continue;
        Batch part;
        for (const auto& [name, tensor] : batch) part[name] = slice(tensor, program_->row_dimension(name), mine.begin, mine.end);
        DS_TRY(list[static_cast<size_t>(here[i])], program_->pack(part, outputs, first_row + mine.begin));
    }
    return list;
}

Result<Engine::Pass> Engine::pass_of(const Batch& whole, bool train, bool wants_loss, bool updates) {
    Pass pass;
    pass.updates = updates;
    const bool cuts = train && efficiency_.cuts_rows();
    const Batch shorter =
        cuts ? efficiency_.shortened(whole, !model_ || model_->token_labels(), counters_.global_steps, metrics_) : Batch();
    const Batch& batch = cuts ? shorter : whole;
    const char* call = train ? "ds_forward" : "ds_eval";
    const std::set<std::string>& outputs = train ? train_outputs_ : eval_outputs_;
    const bool deals = ranks_->extent(MeshAxis::data) > 1;
    int64_t first_row = 0;
    if (!job_.alone()) {
        DS_TRY(first_row, job_.agree_on_rows(call, batch, deals ? rows_of_batch(batch, outputs) : Result<int64_t>(int64_t{0}),
                                             ranks_run_together(), wants_loss));
    }
    auto packed = pack(batch, outputs, first_row);
    if (packed.ok()) pass.packed = std::move(*packed);
    if (!job_.alone()) DS_CHECK(job_.share_figures(call, pass.packed, packed.status()));
    DS_CHECK(packed.status());
    pass.train = train;
    pass.wants_loss = wants_loss;
    pass.draw = train ? static_cast<uint64_t>(counters_.draws) : 0;
    if (train) efficiency_.route(pass.packed, pass.draw, counters_.global_steps, metrics_);
    for (const Packed& part : pass.packed) {
        pass.rows += part.grid.empty() ? part.shape.rows : part.grid[0];
        pass.labels += part.label_count;
        pass.labelled |= part.labels;
    }
    if (!model_) pass.labels = 1;
    let_all_ranks_run(pass);
    if (config_.sparse_attention.mode != "dense") {
        const int64_t block = config_.sparse_attention.block;
        for (Packed& part : pass.packed)
            part.shape.sparse_blocks = ((part.grid.size() > 1 ? part.grid[1] : part.shape.length) + block - 1) / block;
    }
    if (config_.mesh.expert > 1) {
        int64_t most = 0;
        for (const Packed& part : pass.packed) most = std::max(most, part.shape.tokens);
        for (Packed& part : pass.packed) part.shape.peer_tokens = most;
    }
    set_keys(pass, [&](const Packed& part, const PlanKey&) { return key_of(part, pass.labelled, train); });
    DS_CHECK(choose_recomputation(pass));
    return pass;
}

void Engine::set_keys(Pass& pass, const std::function<PlanKey(const Packed&, const PlanKey&)>& key) const {
    pass.keys.resize(pass.packed.size());
    for (size_t d = 0; d < pass.packed.size(); ++d) {
        pass.keys[d] = key(pass.packed[d], pass.keys[d]);
        pass.keys[d].consumes = pass.updates && !pass.keys[d].seeds.empty();
    }
}

Status Engine::run_forward(Pass& pass) {
    const bool keeps = pass.key().train && !pass.key().seeds.empty();
    if (keeps) pending_.reset();
    if (pipeline_ && keeps) return hold(pass), ok();
    if (pipeline_) return run_through(pass);
    pass.plans.assign(static_cast<size_t>(ranks_->mesh().ranks()), nullptr);
    return ranks_->each([&](Rank& rank) { return run_forward(rank, pass); });
}

Status Engine::run_forward(Rank& rank, Pass& pass) {
    const auto part = static_cast<size_t>(rank.at(MeshAxis::data));
    const Packed& packed = pass.packed[part];
    if (packed.shape.rows == 0) return ok();
    PlanKey key = pass.keys[part];
    const bool keeps = key.train && !key.seeds.empty();
    key.accumulate = keeps && rank.backwards > 0;
    DS_TRY(const std::shared_ptr<Plan> plan, plan_for(rank, key));
    Arena& arena = keeps ? rank.train_arena : rank.other_arena;
    if (keeps && !key.consumes) DS_CHECK(rank.params->need_grads());
    DS_CHECK(arena.reserve(static_cast<size_t>(plan->arena_bytes())));
    DS_CHECK(place_plan(rank, *plan, arena.data()));
    DS_CHECK(fill_inputs(rank.device.get(), packed, *plan));
    pass.plans[static_cast<size_t>(rank.index)] = plan;
    return run_part(rank, *plan, Plan::Part::forward, pass.draw, pass.train);
}

Status Engine::place_plan(Rank& rank, Plan& plan, std::byte* arena, const std::function<void*(ValueId)>& cache_of) {
    ParamStore& params = *rank.params;
    const Graph& graph = plan.graph();
    for (const ValueId id : graph.inputs)
        if (graph.value(id).kind == Kind::shadow && !is_cache(graph.value(id)))
            DS_CHECK(params.need_low(*params.find(weight_of(graph, id).name), graph.type(id).dtype));
    plan.place(arena, [&](Kind kind, ValueId id) -> void* {
        if (is_cache(graph.value(id))) return cache_of(id);
        const Param& p = *params.find(weight_of(graph, id).name);
        if (p.code && kind == Kind::shadow) return params.codes(p);
        return kind == Kind::shadow ? params.low(p) : static_cast<void*>(kind == Kind::grad ? params.grad(p) : params.weight(p));
    });
    return ok();
}

Status Engine::run_part(Rank& rank, Plan& plan, Plan::Part part, uint64_t draw, bool train, Plan::Company company) {
    DS_CHECK(begin_fetching(rank, plan, part));
    const Runtime runtime{static_cast<uint64_t>(config_.seed), draw,
                          ranks_->mesh().ranks() > 1 || rank.links.source ? &rank.links : nullptr};
    // Processes agree on that between passes; and what has updated some weights must update the others.
    const CancelFlag* cancel = job_.alone() && !company.consumer ? options_.cancel.get() : nullptr;
    const bool records = train && rank.index == 0 && record_.wants_step();
    if (dump_dir_.empty() && !records) return plan.run(part, runtime, rank.workers, cancel, company);
    std::vector<Span> timeline;
    const auto began = std::chrono::steady_clock::now();
    company.timeline = &timeline;
    DS_CHECK(plan.run(part, runtime, rank.workers, cancel, company));
    if (records) record_.add_spans(plan, timeline, began);
    if (dump_dir_.empty()) return ok();
    std::string text = "# thread kernel start_us end_us\n";
    for (const Span& span : timeline) text += fmt::format("{} {} {:.1f} {:.1f}\n", span.thread, span.name, span.start_us, span.end_us);
    return write_file_atomically(std::filesystem::path(dump_dir_) / (plan.graph().name +
                                                                     (part == Plan::Part::forward    ? ".forward"
                                                                      : part == Plan::Part::backward ? ".backward"
                                                                                                     : ".weights") +
                                                                     ".timeline.txt"),
                                 text);
}

// The plan of a data rank that has what is asked for: the last stage has the loss.
Engine::Found Engine::plan_with(const Pass& pass, int data_rank, const std::function<bool(const Graph&)>& has) const {
    const Found found = plan_here(pass, data_rank, has);
    return found.rank && found.rank->at(MeshAxis::tensor) == 0 && found.rank->at(MeshAxis::sequence) == 0 ? found : Found{};
}

// The first of the ranks here that has it: what is told to hosts is whole on each of them.
Engine::Found Engine::plan_here(const Pass& pass, int data_rank, const std::function<bool(const Graph&)>& has) const {
    const size_t chunks = pass.plans.size() / static_cast<size_t>(ranks_->mesh().ranks());
    for (const auto& rank : *ranks_) {
        if (rank->at(MeshAxis::data) != data_rank || pass.packed[static_cast<size_t>(data_rank)].stand_in) continue;
        for (size_t chunk = 0; chunk < chunks; ++chunk)
            if (const Plan* plan = pass.plans[static_cast<size_t>(rank->index) * chunks + chunk].get(); plan && has(plan->graph()))
                return {rank.get(), plan};
    }
    return {};
}

// Of the loss of the whole batch, what the loss of one data rank's rows weighs.
double Engine::share_of(const Pass& pass, int data_rank) const {
    int64_t all = 0, parts = 0;
    for (const Packed& part : pass.packed) {
        if (part.shape.rows == 0 || part.stand_in) continue;
        all += part.part_weight;
        ++parts;
    }
    const Packed& mine = pass.packed[static_cast<size_t>(data_rank)];
    if (mine.shape.rows == 0 || mine.stand_in) return 0;
    if (config_.loss_normalization == "ranks" || all == 0) return 1 / static_cast<double>(parts);
    return static_cast<double>(mine.part_weight) / static_cast<double>(all);
}

// A value of a plan that has run, in f32.
Result<HostTensor> Engine::read_value(const Rank& rank, const Plan& plan, ValueId id) {
    const Type& type = plan.graph().type(id);
    HostTensor value = HostTensor::zeros(DType::f32, type.shape);
    if (!rank.device) {
        convert(plan.address(id), type.dtype, value.data, DType::f32, value.count());
        return value;
    }
    HostTensor raw = HostTensor::zeros(type.dtype, type.shape);
    DS_CHECK(rank.device->download(raw.data, plan.address(id), static_cast<size_t>(raw.bytes())));
    convert(raw.data, type.dtype, value.data, DType::f32, value.count());
    return value;
}

Result<float> Engine::loss_of(Pass& pass) {
    if (pass.loss) return *pass.loss;
    std::vector<std::pair<int, double>> mine;  // of the data ranks whose loss is computed here
    for (int d = 0; d < static_cast<int>(pass.packed.size()); ++d) {
        const auto [rank, plan] = plan_with(pass, d, [](const Graph& graph) { return graph.loss != kNone; });
        if (!plan) continue;
        DS_TRY(const HostTensor loss, read_value(*rank, *plan, plan->graph().loss));
        mine.emplace_back(d, loss.as<float>()[0]);
    }
    if (!pass.labelled || (mine.empty() && job_.alone()))
        return fail(Code::E_INVALID_ARGUMENT, "the batch has no labels, so there is no loss; pass NULL for it or add labels");
    DS_TRY(const std::vector<double> losses, job_.of_all("loss", mine, pass.packed.size()));
    double sum = 0;
    for (size_t d = 0; d < losses.size(); ++d) sum += share_of(pass, static_cast<int>(d)) * losses[d];
    pass.loss = static_cast<float>(sum);
    return *pass.loss;
}

Status Engine::forward(const Batch& batch, float* loss) { return forward(batch, loss, false); }

Status Engine::forward(const Batch& batch, float* loss, bool updates) {
    DS_CHECK(usable());
    DS_TRY(Pass pass, pass_of(batch, true, loss != nullptr, updates));
    if (pass.wants_loss && !pass.labelled) return fail(Code::E_INVALID_ARGUMENT, "ds_forward: {}", loss_is_lacking());
    DS_CHECK(run_forward(pass));
    DS_CHECK(move_ranges(pass));
    const bool enqueued = pipeline_ && pass.key().train && !pass.key().seeds.empty();
    if (enqueued && pass.wants_loss) DS_CHECK(catch_up());
    ++counters_.draws;
    backward_done_ = false;
    if (pass.labelled && pass.key().seeds.count("loss") && (pass.wants_loss || !enqueued)) {
        DS_TRY(const float value, enqueued ? Result<float>(static_cast<float>(loss_of(*pipeline_->pending))) : loss_of(pass));
        metrics_.put("loss", value);
        if (loss) *loss = value;
    }
    pending_ = pass;
    last_ = std::move(pass);
    return ok();
}

Status Engine::eval(const Batch& batch, float* loss) {
    DS_CHECK(usable());
    DS_TRY(Pass pass, pass_of(batch, false, loss != nullptr));
    if (pass.wants_loss && !pass.labelled) return fail(Code::E_INVALID_ARGUMENT, "ds_eval: {}", loss_is_lacking());
    DS_CHECK(run_forward(pass));
    if (pass.wants_loss) {
        DS_TRY(const float value, loss_of(pass));
        if (loss) *loss = value;
    }
    last_ = std::move(pass);
    publish();
    return ok();
}

double Engine::seed_value(const Pass& pass) const {
    const double scale = scaler_ ? scaler_->scale() : 1;
    if (config_.loss_normalization != "batch") return scale;
    // Micro-batches weigh by their labels, relative to the first of the step that has some, so that the numbers stay as large as those of a
    // mean.
    const int64_t first = open_.first_labels ? open_.first_labels : pass.labels;
    return first > 0 ? scale * (static_cast<double>(pass.labels) / static_cast<double>(first)) : 0;
}

// The operand that holds the gradient of an output, or of the loss; kNone where the graph, of another stage, has neither.
ValueId Engine::seed_of(const Graph& graph, const std::string& name) {
    bool has = name == "loss" && graph.loss != kNone;
    for (const auto& [output, id] : graph.outputs) has |= output == name;
    return has ? graph.find(name + ".grad") : kNone;
}

Status Engine::put_seeds(const Pass& pass, const SeedOf& seed) {
    for (const auto& rank : *ranks_)
        for (const std::string& name : pass.key().seeds) {
            const Plan* plan = pass.plans[static_cast<size_t>(rank->index)].get();
            const ValueId id = plan ? seed_of(plan->graph(), name) : kNone;
            if (id == kNone) continue;
            DS_TRY(const HostTensor value, seed(plan->graph().type(id).shape, rank->at(MeshAxis::data), name));
            if (void* to = plan->address(id)) DS_CHECK(to_device(rank->device.get(), to, value.data, static_cast<size_t>(value.bytes())));
        }
    return ok();
}

Status Engine::run_backward(LossOf whose, const SeedOf& seed) {
    if (pipeline_) {
        DS_CHECK(enqueue_backward(whose, seed));
    } else {
        Pass& pass = *pending_;
        const Status seeded = put_seeds(pass, seed);
        DS_CHECK(whose == LossOf::host ? job_.agree("ds_backward_from", seeded) : seeded);
        const bool sums = sums_overlap(), updates = pass.key().consumes;
        if (updates) {
            DS_CHECK((*ranks_)[0].params->need_state());
            round_lows(counters_.updates + 1);
            count_backward(pass, whose);  // rates follow from what this step has
        }
        Status status = ranks_->each([&](Rank& rank) -> Status {
            Plan* plan = pass.plans[static_cast<size_t>(rank.index)].get();
            if (sums) return backward_and_sum(rank, plan, pass.draw);
            if (!plan) return ok();
            if (updates) return backward_and_update(rank, *plan, pass.draw);
            DS_CHECK(run_part(rank, *plan, Plan::Part::backward, pass.draw, true));
            ++rank.backwards;
            return ok();
        });
        if (!status.ok()) {
            broken_ |= updates;  // some weights are new, others not
            const int64_t before = updates ? 0 : open_.micros;
            clear_gradients();  // some of them were added to, others not
            pending_.reset();
            return before == 0 ? std::move(status)
                               : fail(status.code(), "{}; the gradients of the {} micro-batches before it are dropped, too",
                                      status.message(), before);
        }
        open_.reduced = sums;
        open_.updated = updates;
        if (!updates) count_backward(pass, whose);
        DS_CHECK(measure_first());
        if (pass.labelled && pass.key().seeds.count("loss")) {
            DS_TRY(const float loss, loss_of(pass));
            count_loss(pass, loss);
        }
    }
    backward_done_ = true;
    pending_.reset();
    if (last_ && last_->train) last_.reset();  // its memory was reused
    return ok();
}

void Engine::count_backward(const Pass& pass, LossOf whose) {
    if (whose == LossOf::host) {
        ++open_.from_host;
    } else {
        if (open_.first_labels == 0) open_.first_labels = pass.labels;
        open_.labels += pass.labels;
    }
    ++open_.micros;
    ++counters_.micro_steps;
    open_.samples += pass.rows;
    for (const Packed& part : pass.packed) {
        if (part.stand_in) continue;
        open_.tokens += part.tokens;
        counters_.tokens += part.tokens;
    }
    metrics_.put("micro_steps", static_cast<double>(counters_.micro_steps));
    metrics_.put("tokens", static_cast<double>(counters_.tokens));
}

void Engine::count_loss(const Pass& pass, float loss) {
    if (!pass.labelled || !pass.key().seeds.count("loss")) return;
    const double loss_weight = config_.loss_normalization == "batch" ? static_cast<double>(pass.labels) : 1;
    open_.loss_sum += loss * loss_weight;
    open_.loss_weight += loss_weight;
}

Status Engine::backward() {
    DS_CHECK(usable());
    if (!pending_) return fail(Code::E_STATE, "ds_backward: {}; call ds_forward first", no_forward());
    if (open_.micros >= config_.batch.accumulation)
        return fail(Code::E_STATE,
                    "ds_backward: {} micro-batches were accumulated, which is gradient_accumulation_steps; call ds_step first",
                    open_.micros);
    if (!pending_->labelled)
        return fail(Code::E_STATE, "ds_backward: the last forward had no {}call ds_backward_from with gradients of outputs",
                    computes_loss() ? "labels and so no loss; add labels, or " : "loss, as the model computes none; ");
    const std::set<std::string> seeds{"loss"};
    if (pending_->key().seeds != seeds) {
        seeds_ = seeds;
        Pass again = std::move(*pending_);
        set_keys(again, [&](const Packed& part, const PlanKey&) { return key_of(part, again.labelled, true); });
        DS_CHECK(choose_recomputation(again));
        DS_CHECK(run_forward(again));
        pending_ = std::move(again);
    }
    const double seed = seed_value(*pending_);
    return run_backward(LossOf::engine, [&](const Shape&, int data_rank, const std::string&) -> Result<HostTensor> {
        const auto mine = static_cast<float>(seed * share_of(*pending_, data_rank));
        return HostTensor::of<float>(DType::f32, {}, std::span(&mine, 1));
    });
}

Status Engine::check_gradients(const Batch& gradients) const {
    if (!pending_) return fail(Code::E_STATE, "ds_backward_from: {}; call ds_forward first", no_forward());
    if (open_.micros >= config_.batch.accumulation)
        return fail(Code::E_STATE,
                    "ds_backward_from: {} micro-batches were accumulated, which is gradient_accumulation_steps; call ds_step first",
                    open_.micros);
    if (gradients.empty())
        return fail(Code::E_INVALID_ARGUMENT, "ds_backward_from: the batch of gradients is empty; it takes gradients by output name");
    const auto known = program_->outputs();
    for (const auto& [name, tensor] : gradients) {
        if (name == "loss" && !pending_->labelled)
            return fail(Code::E_INVALID_ARGUMENT, "ds_backward_from: the last forward had no labels, so \"loss\" has no weight");
        if (name != "loss" && std::find(known.begin(), known.end(), name) == known.end())
            return fail(Code::E_INVALID_ARGUMENT, "ds_backward_from: there is no output {}; there are {} and loss", name,
                        fmt::join(known, ", "));
    }
    return ok();
}

Status Engine::backward_from(const Batch& gradients) {
    DS_CHECK(usable());
    DS_CHECK(job_.agree("ds_backward_from", check_gradients(gradients)));
    std::set<std::string> names;
    for (const auto& [name, tensor] : gradients) names.insert(name);
    if (pending_->key().seeds != names) {
        const auto before = std::exchange(seeds_, names);
        Pass again = *pending_;
        set_keys(again, [&](const Packed& part, const PlanKey&) { return key_of(part, again.labelled, true); });
        Status status = choose_recomputation(again);
        if (status.ok()) status = run_forward(again);
        if (!status.ok()) {
            seeds_ = before;
            return status;
        }
        pending_ = std::move(again);
    }
    const double scale = scaler_ ? scaler_->scale() : 1;
    return run_backward(LossOf::host, [&](const Shape& shape, int data_rank, const std::string& name) -> Result<HostTensor> {
        const HostTensor& given = gradients.at(name);
        HostTensor seed;
        double factor = scale;
        if (name == "loss") {
            if (given.count() != 1)
                return fail(Code::E_INVALID_ARGUMENT, "ds_backward_from: the weight of \"loss\" must be one number, but is {}",
                            given.shape);
            seed = given.to(DType::f32).clone();
            factor *= share_of(*pending_, data_rank);
        } else if (pending_->packed[static_cast<size_t>(data_rank)].stand_in) {
            seed = HostTensor::zeros(DType::f32, shape);
        } else {
            DS_TRY(const HostTensor mine, rows_of(*pending_, data_rank, name, given));
            auto packed = program_->pack_gradient(name, pending_->packed[static_cast<size_t>(data_rank)], mine, shape);
            if (!packed.ok()) return std::move(std::move(packed).status()).within("ds_backward_from");
            seed = packed->clone();
            factor *= static_cast<double>(ranks_->data_ranks().size()) /
                      ranks_->extent(MeshAxis::data);  // processes with different rows are averaged
        }
        for (float& x : seed.as<float>()) x = static_cast<float>(x * factor);
        return seed;
    });
}

// Of an output's gradient, the rows that one data rank has.
Result<HostTensor> Engine::rows_of(const Pass& pass, int data_rank, const std::string& output, const HostTensor& whole) const {
    if (pass.packed.size() == 1) return whole;
    const int dim = program_->row_dimension_of_output(output);
    if (dim < 0) return fail(Code::E_UNSUPPORTED, "{}: has no dimension of rows, which parallel.data deals out", output);
    Interval mine;  // among the rows of this process
    int64_t rows = 0;
    for (const int d : ranks_->data_ranks()) {
        const Packed& part = pass.packed[static_cast<size_t>(d)];
        const int64_t n = part.stand_in ? 0 : part.grid.empty() ? part.shape.rows : part.grid[0];
        if (d == data_rank) mine = {rows, rows + n};
        rows += n;
    }
    if (static_cast<size_t>(dim) >= whole.shape.size() || whole.shape[static_cast<size_t>(dim)] != rows)
        return fail(Code::E_INVALID_ARGUMENT, "gradient of {}: must have {} rows as the output, but is {}", output, rows, whole.shape);
    return slice(whole, dim, mine.begin, mine.end);
}

Result<HostTensor> Engine::output(std::string_view name_view) {
    DS_CHECK(usable());
    const std::string name(name_view);
    const auto known = program_->outputs();
    if (std::find(known.begin(), known.end(), name) == known.end())
        return fail(Code::E_NOT_FOUND, "ds_output: there is no output {}; there are {}", name, fmt::join(known, ", "));
    if (!last_) return fail(Code::E_STATE, "ds_output: there is no pass to read from: none was run, or a backward has dropped it");
    const auto find = [&](const Graph& graph) {
        for (const auto& [output, id] : graph.outputs)
            if (output == name) return id;
        return kNone;
    };
    const auto has_it = [&](const Graph& graph) { return find(graph) != kNone; };
    if (pipeline_ && last_->train && last_->key().outputs.count(name)) DS_CHECK(bring_up(*last_));
    std::map<int, Job::OutputPart> found;  // of each data rank of this process
    bool missing = false;
    const auto look = [&]() -> Status {
        for (const int d : ranks_->data_ranks()) {
            const auto [rank, plan] = plan_here(*last_, d, has_it);
            if (!plan) continue;
            DS_TRY(HostTensor value, read_value(*rank, *plan, find(plan->graph())));
            found[d] = {rank->at(MeshAxis::pipeline), program_->unpack(name, last_->packed[static_cast<size_t>(d)], std::move(value))};
        }
        missing = found.empty() && !(!job_.alone() && last_->key().outputs.count(name));  // a process may have no rows
        return !job_.alone() && pipeline_ ? job_.share_outputs(found, missing) : ok();
    };
    DS_CHECK(look());
    // A pass that did not compute this output runs once more, with the same random numbers; the next one will compute it at once.
    if (missing) {
        Pass again = *last_;
        set_keys(again, [&](const Packed&, PlanKey key) {
            key.seeds.clear();
            key.outputs.insert(name);
            return key;
        });
        DS_CHECK(run_forward(again));
        last_ = std::move(again);
        (last_->train ? train_outputs_ : eval_outputs_).insert(name);
    }
    if (missing) DS_CHECK(look());
    std::vector<HostTensor> parts;
    for (auto& [d, part] : found) parts.push_back(std::move(part.value));
    if (parts.empty()) return fail(Code::E_INVALID_ARGUMENT, "ds_output: this process had no rows in the last pass");
    const int dim = program_->row_dimension_of_output(name);
    if (parts.size() > 1 && dim < 0) return fail(Code::E_UNSUPPORTED, "{}: has no dimension of rows, which parallel.data deals out", name);
    return concat(parts, std::max(dim, 0));
}

}  // namespace ds
