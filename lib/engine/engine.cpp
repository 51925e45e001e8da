// The passes over a micro-batch: forward, backward, evaluation, outputs.
#include "engine/engine.h"

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "base/log.h"
#include "ir/text.h"

namespace ds {
namespace {

DType low_type(PrecisionMode mode) { return mode == PrecisionMode::bf16 ? DType::bf16 : mode == PrecisionMode::f16 ? DType::f16 : DType::f32; }

}  // namespace

Status Engine::usable() const {
    return broken_ ? fail(Code::E_STATE, "an earlier failure left this engine half updated; only ds_load and ds_engine_destroy are possible") : ok();
}

Engine::PlanKey Engine::key_of(const Packed& packed, bool train) const {
    PlanKey key{.shape = packed.shape, .train = train};
    if (!train) {
        key.outputs = eval_outputs_;
        if (!packed.labels && key.outputs.empty() && !program_->outputs().empty()) key.outputs.insert(program_->outputs().front());
        return key;
    }
    key.outputs = train_outputs_;
    key.seeds = seeds_;
    if (!packed.labels) key.seeds.erase("loss");
    for (const std::string& seed : key.seeds)
        if (seed != "loss") key.outputs.insert(seed);
    if (key.seeds.empty()) {  // no backward pass is possible: outputs only
        if (key.outputs.empty() && !program_->outputs().empty()) key.outputs.insert(program_->outputs().front());
    }
    key.accumulate = micro_in_step_ > 0 && !key.seeds.empty();
    return key;
}

Result<Plan*> Engine::plan_for(const PlanKey& key) {
    if (const auto known = plans_.find(key); known != plans_.end()) return known->second.get();
    const auto began = std::chrono::steady_clock::now();
    DS_TRY(Graph graph, program_->build(key.shape, key.outputs));
    for (const ValueId id : graph.inputs) {
        Value& v = graph.value(id);
        if (v.kind == Kind::param) v.trainable = params_->find(v.name)->trainable;
    }
    PassOptions options;
    options.precision = low_type(config_.precision);
    options.precision_rules = config_.precision_rules;
    options.train = key.train;
    options.accumulate = key.accumulate;
    options.seeds.assign(key.seeds.begin(), key.seeds.end());
    options.recompute = std::max(config_.recompute, 0);
    if (!dump_dir_.empty()) {
        options.dump = dump_dir_;
        graph.name += fmt::format(".{}", plans_.size());
    }
    if (key.train && key.seeds.empty()) graph.loss = kNone;  // outputs only; dropout stays on
    DS_CHECK(run_passes(graph, options));
    const auto passed = std::chrono::steady_clock::now();
    DS_TRY(auto plan, Plan::compile(std::move(graph), backend_, *workers_));
    if (!dump_dir_.empty()) dump(*plan);
    const auto milliseconds = [](auto from, auto to) { return std::chrono::duration<double, std::milli>(to - from).count(); };
    log(Level::debug, "plan", "{}: {} tokens, {} rows: {} nodes, {} bytes of working memory, graph {:.1f} ms, plan {:.1f} ms", plan->graph().name, key.shape.tokens, key.shape.rows,
        plan->graph().nodes.size(), plan->arena_bytes(), milliseconds(began, passed), milliseconds(passed, std::chrono::steady_clock::now()));
    Plan* raw = plan.get();
    plans_[key] = std::move(plan);
    return raw;
}

void Engine::dump(const Plan& plan) {
    const std::filesystem::path base = std::filesystem::path(dump_dir_) / plan.graph().name;
    for (const auto& [suffix, text] : {std::pair<std::string, std::string>{".memory.txt", memory_table(plan.graph(), plan.memory())}, {".kernels.txt", plan.describe()}})
        if (const Status status = write_file_atomically(base.string() + suffix, text); !status.ok()) log(Level::warn, "dump", "{}", status.message());
}

void Engine::fill_inputs(const Pass& pass) {
    const Graph& graph = pass.plan->graph();
    for (const ValueId id : graph.inputs) {
        const Value& v = graph.value(id);
        void* to = v.kind == Kind::input ? pass.plan->address(id) : nullptr;
        const auto found = pass.packed.inputs.find(v.name);
        if (to && found != pass.packed.inputs.end()) std::memcpy(to, found->second.data, static_cast<size_t>(found->second.bytes()));
    }
}

Status Engine::run_forward(Pass& pass) {
    DS_TRY(pass.plan, plan_for(pass.key));
    const bool keeps = pass.key.train && !pass.key.seeds.empty();
    Arena& arena = keeps ? train_arena_ : other_arena_;
    if (keeps) {
        DS_CHECK(params_->need_grads());
        pending_.reset();
    }
    DS_CHECK(arena.reserve(static_cast<size_t>(pass.plan->arena_bytes())));
    const Graph& graph = pass.plan->graph();
    for (const ValueId id : graph.inputs)
        if (graph.value(id).kind == Kind::shadow) DS_CHECK(params_->need_low(*params_->find(graph.value(graph.value(id).of).name), graph.type(id).dtype));
    pass.plan->place(arena.data(), [&](Kind kind, ValueId id) -> void* {
        const Param& p = *params_->find(graph.value(graph.value(id).kind == Kind::shadow ? graph.value(id).of : id).name);
        return kind == Kind::param ? static_cast<void*>(params_->weight(p)) : kind == Kind::shadow ? params_->low(p) : params_->grad(p);
    });
    fill_inputs(pass);
    const Runtime runtime{static_cast<uint64_t>(config_.seed), pass.draw};
    return run_part(*pass.plan, Plan::Part::forward, runtime, pass.train);
}

Status Engine::run_part(Plan& plan, Plan::Part part, const Runtime& runtime, bool train) {
    const bool records = train && records_this_step();
    if (dump_dir_.empty() && !records) return plan.run(part, runtime, *workers_, options_.cancel.get());
    std::vector<Span> timeline;
    const double offset_us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - step_began_).count();
    DS_CHECK(plan.run(part, runtime, *workers_, options_.cancel.get(), &timeline));
    if (records) record_spans(plan, timeline, offset_us);
    if (dump_dir_.empty()) return ok();
    std::string text = "# thread kernel start_us end_us\n";
    for (const Span& span : timeline) text += fmt::format("{} {} {:.1f} {:.1f}\n", span.thread, span.name, span.start_us, span.end_us);
    return write_file_atomically(std::filesystem::path(dump_dir_) / (plan.graph().name + (part == Plan::Part::forward ? ".forward" : ".backward") + ".timeline.txt"), text);
}

Result<float> Engine::loss_of(const Pass& pass) const {
    const Graph& graph = pass.plan->graph();
    if (graph.loss == kNone) return fail(Code::E_INVALID_ARGUMENT, "the batch has no labels, so there is no loss; pass NULL for it or add labels");
    float loss = 0;
    convert(pass.plan->address(graph.loss), graph.type(graph.loss).dtype, &loss, DType::f32, 1);
    return loss;
}

Status Engine::forward(const Batch& batch, float* loss) {
    DS_CHECK(usable());
    Pass pass;
    DS_TRY(pass.packed, program_->pack(batch, train_outputs_));
    if (loss && !pass.packed.labels) return fail(Code::E_INVALID_ARGUMENT, "ds_forward: the batch has no labels, so there is no loss; pass NULL for it or add labels");
    pass.train = true;
    pass.key = key_of(pass.packed, true);
    pass.draw = draws_;
    DS_CHECK(run_forward(pass));
    ++draws_;
    backward_done_ = false;
    if (pass.plan->graph().loss != kNone) {
        DS_TRY(const float value, loss_of(pass));
        put_metric("loss", value);
        if (loss) *loss = value;
    }
    pending_ = pass;
    last_ = std::move(pass);
    return ok();
}

Status Engine::eval(const Batch& batch, float* loss) {
    DS_CHECK(usable());
    Pass pass;
    DS_TRY(pass.packed, program_->pack(batch, eval_outputs_));
    if (loss && !pass.packed.labels) return fail(Code::E_INVALID_ARGUMENT, "ds_eval: the batch has no labels, so there is no loss; pass NULL for it or add labels");
    pass.key = key_of(pass.packed, false);
    DS_CHECK(run_forward(pass));
    if (loss) {
        DS_TRY(*loss, loss_of(pass));
    }
    last_ = std::move(pass);
    return ok();
}

double Engine::seed_value(const Packed& packed) const {
    const double scale = scaler_ ? scaler_->scale() : 1;
    if (config_.loss_normalization != "batch") return scale;
    // Micro-batches weigh by their labels, relative to the first of the step so that the numbers stay as large as those of a mean.
    const double first = static_cast<double>(micro_in_step_ ? first_labels_ : packed.label_count);
    return scale * (first > 0 ? static_cast<double>(packed.label_count) / first : static_cast<double>(packed.label_count));
}

Status Engine::write_seed(const Plan& plan, const std::string& name, const HostTensor& value) {
    const ValueId id = plan.graph().find(name + ".grad");
    if (id == kNone) return fail(Code::E_INTERNAL, "the plan has no gradient operand for {}", name);
    if (void* to = plan.address(id)) std::memcpy(to, value.data, static_cast<size_t>(value.bytes()));
    return ok();
}

Status Engine::run_backward(const std::map<std::string, HostTensor>& seeds, int64_t weight) {
    for (const auto& [name, value] : seeds) DS_CHECK(write_seed(*pending_->plan, name, value));
    const Runtime runtime{static_cast<uint64_t>(config_.seed), pending_->draw};
    if (Status status = run_part(*pending_->plan, Plan::Part::backward, runtime, true); !status.ok()) {
        clear_gradients();  // some of them were added to, others not
        pending_.reset();
        return status;
    }
    if (micro_in_step_ == 0) first_labels_ = weight;
    labels_in_step_ += weight;
    ++micro_in_step_;
    ++micro_steps_;
    samples_in_step_ += pending_->packed.grid.empty() ? pending_->packed.shape.rows : pending_->packed.grid[0];
    tokens_in_step_ += pending_->packed.tokens;
    total_tokens_ += pending_->packed.tokens;
    if (pending_->plan->graph().loss != kNone) {
        DS_TRY(const float loss, loss_of(*pending_));
        const double loss_weight = config_.loss_normalization == "batch" ? static_cast<double>(weight) : 1;
        step_loss_sum_ += loss * loss_weight;
        step_loss_weight_ += loss_weight;
    }
    put_metric("micro_steps", static_cast<double>(micro_steps_));
    put_metric("tokens", static_cast<double>(total_tokens_));
    backward_done_ = true;
    pending_.reset();
    if (last_ && last_->train) last_.reset();  // its memory was reused
    return ok();
}

Status Engine::backward() {
    DS_CHECK(usable());
    if (!pending_) return fail(Code::E_STATE, "ds_backward: {}; call ds_forward first", no_forward());
    if (micro_in_step_ >= config_.batch.accumulation)
        return fail(Code::E_STATE, "ds_backward: {} micro-batches were accumulated, which is gradient_accumulation_steps; call ds_step first", micro_in_step_);
    if (!pending_->packed.labels) return fail(Code::E_STATE, "ds_backward: the last forward had no labels and so no loss; add labels, or call ds_backward_from with gradients of outputs");
    const std::set<std::string> seeds{"loss"};
    if (pending_->key.seeds != seeds || pending_->key.accumulate != (micro_in_step_ > 0)) {
        seeds_ = seeds;
        Pass again = std::move(*pending_);
        again.key = key_of(again.packed, true);
        DS_CHECK(run_forward(again));
        pending_ = std::move(again);
    }
    const auto seed = static_cast<float>(seed_value(pending_->packed));
    const int64_t weight = pending_->packed.label_count;
    return run_backward({{"loss", HostTensor::of<float>(DType::f32, {}, std::span(&seed, 1))}}, weight);
}

Status Engine::backward_from(const Batch& gradients) {
    DS_CHECK(usable());
    if (!pending_) return fail(Code::E_STATE, "ds_backward_from: {}; call ds_forward first", no_forward());
    if (micro_in_step_ >= config_.batch.accumulation)
        return fail(Code::E_STATE, "ds_backward_from: {} micro-batches were accumulated, which is gradient_accumulation_steps; call ds_step first", micro_in_step_);
    if (gradients.empty()) return fail(Code::E_INVALID_ARGUMENT, "ds_backward_from: the batch of gradients is empty; it takes gradients by output name");
    std::set<std::string> names;
    const auto known = program_->outputs();
    for (const auto& [name, tensor] : gradients) {
        if (name == "loss" && !pending_->packed.labels) return fail(Code::E_INVALID_ARGUMENT, "ds_backward_from: the last forward had no labels, so \"loss\" has no weight");
        if (name != "loss" && std::find(known.begin(), known.end(), name) == known.end())
            return fail(Code::E_INVALID_ARGUMENT, "ds_backward_from: there is no output {}; there are {} and loss", name, fmt::join(known, ", "));
        names.insert(name);
    }
    if (pending_->key.seeds != names || pending_->key.accumulate != (micro_in_step_ > 0)) {
        const auto before = std::exchange(seeds_, names);
        Pass again = *pending_;
        again.key = key_of(again.packed, true);
        again.key.accumulate = micro_in_step_ > 0;
        if (Status status = run_forward(again); !status.ok()) {
            seeds_ = before;
            return status;
        }
        pending_ = std::move(again);
    }
    const double scale = scaler_ ? scaler_->scale() : 1;
    std::map<std::string, HostTensor> seeds;
    for (const auto& [name, tensor] : gradients) {
        const ValueId operand = pending_->plan->graph().find(name + ".grad");
        HostTensor seed;
        if (name == "loss") {
            if (tensor.count() != 1) return fail(Code::E_INVALID_ARGUMENT, "ds_backward_from: the weight of \"loss\" must be one number, but is {}", tensor.shape);
            seed = tensor.to(DType::f32).clone();
        } else {
            auto packed = program_->pack_gradient(name, pending_->packed, tensor, pending_->plan->graph().type(operand).shape);
            if (!packed.ok()) return std::move(std::move(packed).status()).within("ds_backward_from");
            seed = packed->clone();
        }
        for (float& x : seed.as<float>()) x = static_cast<float>(x * scale);
        seeds[name] = std::move(seed);
    }
    // A loss of the host's own counts like any other micro-batch of the step.
    return run_backward(seeds, std::max<int64_t>(micro_in_step_ ? first_labels_ : 1, 1));
}

Result<HostTensor> Engine::output(std::string_view name_view) {
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
    // A pass that did not compute this output runs once more, with the same random numbers; the next one will compute it at once.
    if (find(last_->plan->graph()) == kNone) {
        (last_->train ? train_outputs_ : eval_outputs_).insert(name);
        Pass again = *last_;
        again.key.seeds.clear();
        again.key.accumulate = false;
        again.key.outputs.insert(name);
        DS_CHECK(run_forward(again));
        last_ = std::move(again);
    }
    const Graph& graph = last_->plan->graph();
    const ValueId id = find(graph);
    HostTensor value = HostTensor::zeros(DType::f32, graph.type(id).shape);
    convert(last_->plan->address(id), graph.type(id).dtype, value.data, DType::f32, value.count());
    return program_->unpack(name, last_->packed, std::move(value));
}

}  // namespace ds
