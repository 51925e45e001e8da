// Making an engine: config, model, weights, optimizer, schedule.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/file.h"
#include "base/log.h"
#include "engine/pipeline.h"
#include "engine/hf_folder.h"
#include "exec/workers.h"
#include "kernels/cpu/level.h"

namespace ds {
namespace {

// Buffers that older transformers saved beside the weights.
bool is_buffer(std::string_view name) {
    for (const std::string_view suffix : {".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias",
                                          "embeddings.position_ids", "rotary_emb.inv_freq", "embeddings.token_type_ids"})
        if (name.ends_with(suffix)) return true;
    return false;
}

void tell_unused_rules(const std::vector<PrecisionRule>& rules, const Graph& graph) {
    for (const PrecisionRule& rule : rules) {
        const auto matches = [&](std::string_view name) { return glob_match(rule.pattern, name); };
        const auto ops = all_ops();
        if (std::any_of(ops.begin(), ops.end(), [&](const OpDef* op) { return matches(op->name); })) continue;
        std::string param;
        for (const ValueId id : graph.inputs)
            if (const Value& v = graph.value(id); v.kind == Kind::param && (param.empty() || matches(v.name))) param = v.name;
        if (!matches(param))
            log(Level::warn, "config", "precision: {} matches no op and no parameter of the model, whose names are like {}", rule.pattern,
                param);
    }
}

}  // namespace

void Engine::set_levels(const Config& config) {
    if (config.log_levels.empty()) return;
    std::map<std::string, Level> levels;
    for (const auto& [component, level] : config.log_levels) levels[component.empty() ? "default" : component] = static_cast<Level>(level);
    set_log_levels(levels);
}

Result<std::shared_ptr<Engine>> Engine::prepare(std::optional<std::string_view> text, const HostOptions& options) {
    auto engine = std::make_shared<Engine>();
    engine->options_ = options;
    DS_TRY(const Launched launched, engine->job_.look());
    if (text) {
        DS_TRY(engine->config_, parse_config(*text, launched));
    } else {
        DS_TRY(engine->config_, config_from_environment(launched));
    }
    Config& config = engine->config_;
    if (options.optimizer && !config.batch_is_given)
        return fail(Code::E_CONFIG,
                    "config: train_batch_size: it or train_micro_batch_size_per_gpu must be given, as the options have an optimizer");
    set_levels(config);
    for (const std::string& warning : config.warnings) log(Level::warn, "config", "{}", warning);
    for (const std::string& note : config.notes) log(Level::info, "config", "{}", note);
    if (options.graph) engine->options_.graph = options.graph->snapshot();
    if (const char* dir = std::getenv("DSRT_DUMP"); dir && *dir) {
        engine->dump_dir_ = dir;
        std::error_code error;
        std::filesystem::create_directories(dir, error);
        if (error) return fail(Code::E_IO, "DSRT_DUMP: {}: cannot create the folder: {}", dir, error.message());
    }
    if (const char* kernels = std::getenv("DSRT_KERNELS"); kernels && std::string_view(kernels) == "ref") engine->backend_ = Backend::ref;
    log(Level::debug, "engine", "instructions: {}", cpu::name_of(cpu::level()));
    DS_CHECK(engine->make_the_program());
    DS_CHECK(engine->make_growth());
    DS_TRY(engine->efficiency_, Efficiency::make(config, engine->model_.get(), [&] { return engine->smallest_graph(); }));
    engine->train_outputs_ = engine->eval_outputs_ = std::set<std::string>(config.outputs.begin(), config.outputs.end());
    return engine;
}

Status Engine::make_the_program() {
    if (!options_.graph && config_.model.is_string() && config_.model.get<std::string>().ends_with(".ds")) {
        const std::string path = config_.model.get<std::string>();
        DS_TRY(const std::string text, read_file(path, size_t{64} << 20));
        DS_TRY(options_.graph, HostGraph::parse(text, path));
    }
    Graph graph;
    std::set<std::string> buffers;  // of a family: saved with the weights, but none of the parameters
    if (options_.graph) {
        program_ = make_program(std::shared_ptr<const HostGraph>(options_.graph));
        graph = options_.graph->graph();
    } else {
        if (config_.model.is_null())
            return fail(Code::E_CONFIG,
                        "config: model: is missing; accepted: a Hugging Face folder, its config.json as an object, or a graph's .ds file "
                        "(or options with a graph)");
        DS_TRY(ModelSource source, read_model_source(config_.model, config_.model_overrides));
        const Json whole = source.config;
        DS_TRY(reduction_, LayerReduction::read(config_.compression, source.config));
        model_config_ = source.config;
        model_folder_ = source.folder.string();
        DS_TRY(teacher_, Teacher::make(config_, whole, model_folder_, reduction_.layers()));
        DS_TRY(auto model, make_model(source.config));
        model_ = std::shared_ptr<const Model>(std::move(model));
        program_ = make_program(model_, {config_.outputs.begin(), config_.outputs.end()});
        DS_TRY(graph, smallest_graph());
        for (const ValueId id : graph.inputs)
            if (graph.value(id).kind == Kind::param && !graph.value(id).trainable) buffers.insert(graph.value(id).name);
        if (config_.lora.enabled) {
            DS_TRY(Adapters adapters, Adapters::open(config_.lora, graph, model_folder_));
            adapters_ = std::make_unique<Adapters>(std::move(adapters));
            program_ = make_program(model_, {config_.outputs.begin(), config_.outputs.end()}, &adapters_->spec());
            DS_TRY(graph, smallest_graph());
        }
        DS_CHECK(make_compression(graph));
        DS_CHECK(compression_.declare_in(graph));
        if (teacher_) DS_CHECK(teacher_->add_to(graph, smallest_key().shape));
    }
    DS_CHECK(choose_coded(graph));
    DS_CHECK(choose_sparse(graph));
    DS_CHECK(choose_fp8(graph));
    if (config_.lora.enabled && !adapters_)
        return fail(Code::E_UNSUPPORTED, "config: lora: adapters are added to model families, not to a host's own graph");
    const auto known = program_->outputs();
    for (const std::string& name : config_.outputs)
        if (std::find(known.begin(), known.end(), name) == known.end())
            return fail(Code::E_CONFIG, "config: outputs: there is no output {}; there are {}", name, fmt::join(known, ", "));
    tell_unused_rules(config_.precision_rules, graph);
    DS_TRY(params_, ParamStore::create(graph, config_, options_.optimizer ? &*options_.optimizer : nullptr));
    for (const auto& [name, code] : coded_) params_->find(name)->code = code;
    for (const Param& p : params_->all())
        if (!buffers.contains(p.name) && !is_of_teacher(p)) infos_.push_back({p.name, p.shape, p.trainable});
    return ok();
}

Status Engine::make_compression(const Graph& graph) {
    if (config_.compression.is_null()) return ok();
    const auto lack = [](const char* what) { return fail(Code::E_UNSUPPORTED, "config: compression_training: not built {}", what); };
    if (!model_) return lack("for a host's own graph");
    if (adapters_) return lack("together with lora");
    if (config_.zero_stage >= 3 || config_.zero.offload_param.on_disk())
        return lack("for zero_optimization.stage 3, whose weights lie in parts");
    DS_TRY(CompressionSpec spec, read_compression(config_.compression, graph));
    compression_ = Compression(std::move(spec));
    return check_fixed_ranges();
}

// Another step may have another graph: plans of the old one go.
void Engine::follow_compression() {
    if (!compression_.follow(counters_.updates)) return;
    pending_.reset();
    last_.reset();
    record_.forget_plan();
    for (const auto& rank : *ranks_) rank->plans.clear();
}

Result<std::shared_ptr<Engine>> Engine::create(std::optional<std::string_view> text, const HostOptions& options) {
    DS_TRY(auto engine, prepare(text, options));
    DS_CHECK(engine->job_.join());
    Status status = engine->make_ranks();
    if (status.ok()) status = engine->job_.check_layout(*engine->ranks_);
    DS_CHECK(engine->job_.agree("ds_engine_create", status));
    DS_CHECK(engine->job_.connect(*engine->ranks_));
    DS_CHECK(engine->compare_with_others());
    DS_CHECK(engine->job_.agree("ds_engine_create", engine->make_memory()));
    DS_CHECK(engine->job_.agree("ds_engine_create", engine->load_weights()));
    DS_CHECK(engine->job_.compare_loaded());
    DS_CHECK(engine->job_.agree("ds_engine_create", engine->make_optimizer_parts()));
    DS_CHECK(engine->job_.agree("ds_engine_create", engine->check_memory_limit()));
    DS_CHECK(engine->compression_.make_masks(*engine->params_, *engine->whole_, {}));
    engine->follow_compression();
    engine->tell_overlap();
    if (engine->config_.dump_state) log(Level::info, "config", "{}", engine->config_.effective.dump());
    engine->publish();
    return engine;
}

// Of the weights.
Status Engine::make_memory() {
    for (const auto& rank : *ranks_) {
        DS_CHECK(rank->params->need_weights());
        rank->disk_weights = disk_weights(*rank);
        rank->links.source = rank->disk_weights.get();
        for (const auto& [name, type] : rank->low_types) DS_CHECK(rank->params->need_low(*rank->params->find(name), type));
    }
    return ok();
}

Status Engine::make_ranks() {
    Mesh mesh;
    const MeshSizes& sizes = config_.mesh;
    for (const auto& [axis, size] : {std::pair{MeshAxis::tensor, sizes.tensor},
                                     {MeshAxis::sequence, sizes.sequence},
                                     {MeshAxis::data, sizes.data},
                                     {MeshAxis::pipeline, sizes.pipeline}})
        mesh.sizes[static_cast<size_t>(axis)] = static_cast<int>(size);
    // Processes that their launcher did not bind share what this host has.
    const int here = static_cast<int>(sizes.local_ranks);
    const auto machine = Topology::here();
    const bool shares = job_.launch().local_size > 1 && config_.processes > 1 && machine.ok() && machine->is_whole();
    const int on_this_host = here * (shares ? job_.launch().local_size : 1), first = shares ? here * job_.launch().local_rank : 0;
    const int64_t wanted = config_.threads ? config_.threads : std::max(usable_cpus() / on_this_host, 1);
    const int threads = static_cast<int>(std::min<int64_t>(wanted, 1024));
    std::vector<std::vector<Spot>> places(static_cast<size_t>(here), std::vector<Spot>(static_cast<size_t>(threads)));
    const bool on_gpus = config_.device != "cpu" && machine.ok() && machine->gpus() > 0 && device_count("cuda").ok();
    if (machine.ok()) places = machine->deal(here, threads, first, on_this_host, on_gpus);
    const int process = config_.processes > 1 ? job_.launch().rank : 0;
    places_ = to_string(places, here * process);
    log(Level::info, "places", "{}", places_);
    ranks_ = std::make_unique<Ranks>(mesh, places, milliseconds_of(config_.comm.deadline_seconds), static_cast<int>(config_.processes),
                                     process, static_cast<int>(sizes.expert));
    whole_ = std::make_unique<WholeParams>(*ranks_);
    if (const std::string own = options_.graph ? options_.graph->a_host_op() : ""; !own.empty() && mesh.ranks() > 1)
        return fail(Code::E_UNSUPPORTED,
                    "parallel: {} ranks, but op {} of the graph is the host's own, which runs on the thread that calls: one rank is what "
                    "it can serve",
                    mesh.ranks(), own);
    DS_CHECK(open_devices());
    DS_CHECK(check_fp8());
    DS_CHECK(check_sparse());
    DS_CHECK(check_optimizer_in_backward());
    DS_CHECK(make_pipeline());
    DS_TRY(const std::set<std::string> experts, parameters_of_experts());
    if (config_.mesh.expert > 1 && experts.empty())
        log(Level::warn, "config", "parallel.expert: {}: the model has no experts to deal out", config_.mesh.expert);
    for (const auto& rank : *ranks_) {
        DS_TRY(Graph graph, graph_of(*rank, smallest_key()));
        DS_CHECK(keep_own_experts(rank->at(MeshAxis::data), graph));
        if (mesh.size(MeshAxis::sequence) > 1) {  // what the heads don't allow is told now
            Graph piece = graph;
            const SequenceLayout layout = sequence_layout(*rank, smallest_key().shape);
            PassOptions options;
            options.sequence = &layout;
            DS_CHECK(find_pass("shard_sequence")->run(piece, options));
        }
        if (mesh.size(MeshAxis::tensor) > 1) {
            TensorLayout layout{rank->at(MeshAxis::tensor), mesh.size(MeshAxis::tensor), nullptr};
            PassOptions options;
            options.tensor = &layout;
            DS_CHECK(find_pass("shard")->run(graph, options));
        }
        for (const ValueId id : graph.inputs)
            if (const Value& v = graph.value(id); v.kind == Kind::param) rank->cuts[v.name] = v.cut;
        keep_own_params(*rank, graph);
        rank->params = params_->local(graph, experts);
        rank->params->lie_on(rank->device.get());
        mark_counted(*rank);
        DS_CHECK(check_cuts(*rank->params));
        if (options_.optimizer && (config_.zero.offload_optimizer.on_disk() || weights_leave_memory()))
            return fail(Code::E_UNSUPPORTED, "zero_optimization.{}.device: nvme is not built for an optimizer of the host's own",
                        weights_leave_memory() ? "offload_param" : "offload_optimizer");
        if (config_.zero.offload_optimizer.on_disk())
            rank->params->keep_state_on(disk_place(*rank, "offload_optimizer", config_.zero.offload_optimizer));
        if (weights_leave_memory()) rank->params->keep_weights_on(disk_place(*rank, "offload_param", config_.zero.offload_param));
    }
    return deal_out();
}

// With expert parallelism a data rank has the weights of its own experts only.
Status Engine::keep_own_experts(int data_rank, Graph& graph) const {
    if (config_.mesh.expert == 1) return ok();
    const ExpertLayout layout{data_rank, config_.mesh.expert, smallest_key().shape.tokens};
    PassOptions options;
    options.experts = &layout;
    return find_pass("experts")->run(graph, options);
}

// Where experts are dealt out unevenly, a plan tells what those need that have one more.
Rank& Engine::rank_with_most_experts() const {
    const auto weights = [](const auto& rank) { return rank->at(MeshAxis::pipeline) == 0 ? rank->params->total_elements() : -1; };
    return **std::max_element(ranks_->begin(), ranks_->end(),
                              [&](const auto& a, const auto& b) { return config_.mesh.expert > 1 && weights(a) < weights(b); });
}

// Parameters that some data rank does without.
Result<std::set<std::string>> Engine::parameters_of_experts() const {
    std::set<std::string> names;
    if (config_.mesh.expert == 1) return names;
    DS_TRY(const Graph whole, graph_of((*ranks_)[0], smallest_key()));
    for (int d = 0; d < config_.mesh.expert; ++d) {
        Graph own = whole;
        DS_CHECK(keep_own_experts(d, own));
        const std::set<ValueId> kept(own.inputs.begin(), own.inputs.end());
        for (const ValueId id : whole.inputs)
            if (!kept.contains(id)) names.insert(whole.value(id).name);
    }
    return names;
}

// A device a rank, where the config wants one. "auto" takes what there is and says so.
Status Engine::open_devices() {
    if (config_.device == "cpu" || backend_ == Backend::ref) return ok();
    const bool must = config_.device == "cuda";
    const auto stay = [must](Status why) { return must ? std::move(why) : ok(); };
    if (const std::string own = options_.graph ? options_.graph->a_host_op() : ""; !own.empty())
        return stay(fail(Code::E_UNSUPPORTED, "device: cuda: op {} of the graph is the host's own, which reads the host's memory", own));
    if (config_.zero.offload_optimizer.on_disk() || weights_leave_memory())
        return stay(
            fail(Code::E_UNSUPPORTED, "zero_optimization: offload_optimizer and offload_param to nvme are not built for device cuda"));
    DS_TRY(const int before, job_.processes_before());  // by all processes, whatever each finds
    auto opened = devices_of_ranks(before);
    if (!opened.ok()) {
        if (!must) log(Level::info, "device", "auto: computing on the CPU ({})", opened.status().message());
        return stay(std::move(opened).status());
    }
    for (int i = 0; i < ranks_->size(); ++i) {
        log(Level::info, "device", "{}computing on {}", ranks_->mesh().ranks() > 1 ? fmt::format("rank {}: ", (*ranks_)[i].index) : "",
            (*opened)[static_cast<size_t>(i)]->description());
        (*ranks_)[i].use(std::move((*opened)[static_cast<size_t>(i)]));
    }
    return ok();
}

// A launcher may show each process its own devices only; otherwise those of a host are dealt out to its processes in order.
Result<std::vector<std::unique_ptr<Device>>> Engine::devices_of_ranks(int processes_before_this) const {
    const int here = ranks_->size();
    int first = 0;
    if (ranks_->mesh().ranks() > 1) {
        DS_TRY(const int count, device_count("cuda"));
        if (count > here) first = here * processes_before_this;
        if (count < first + here)
            return fail(Code::E_DEVICE,
                        "device: cuda: a GPU a rank: {} ranks of this process, behind {} of other processes of this host, need {} GPUs, "
                        "but {} can be used",
                        here, first, first + here, count);
    }
    std::vector<std::unique_ptr<Device>> devices;
    for (int i = 0; i < here; ++i) {
        DS_TRY(auto device, Device::open("cuda", first + i));
        devices.push_back(std::move(device));
    }
    if (ranks_->mesh().ranks() > 1) DS_CHECK(devices.front()->can_group());
    return devices;
}

// What can't be updated in parts must not lie in parts.
Status Engine::check_cuts(const ParamStore& params) const {
    for (const Param& p : params.all()) {
        if (p.cut.whole() || p.elementwise || !p.trainable) continue;
        if (options_.optimizer)
            return fail(Code::E_UNSUPPORTED, "parallel.tensor: an optimizer of the host's own sees whole parameters, but {} is cut",
                        p.name);
        return fail(Code::E_UNSUPPORTED, "optimizer.type: {} updates {} as a whole, but parallel.tensor cuts it", config_.optimizer.type,
                    p.name);
    }
    return ok();
}

// A smallest stream, with loss and every output, declares every parameter.
PlanKey Engine::smallest_key() const {
    const auto names = program_->outputs();
    PlanKey key{.shape = {.tokens = 8,
                          .rows = 1,
                          .length = 8,
                          .labelled = 8,
                          .labels = !model_ || model_->task != Task::none,
                          .source_tokens = model_ && model_->encoder_decoder ? 8 : 0}};
    key.outputs = {names.begin(), names.end()};
    return key;
}

Result<Graph> Engine::smallest_graph() const {
    const PlanKey key = smallest_key();
    return program_->build(key.shape, key.outputs);
}

Status Engine::load_weights() {
    Status base = load_base_weights();
    if (base.ok()) base = devices_ok();
    DS_CHECK(job_.agree("ds_engine_create", base));
    if (!adapters_) return ok();
    for (const Param& p : params_->all()) {
        if (!p.trainable || is_adapter_tensor(p.name)) continue;
        std::vector<float>& kept = trained_base_[p.name];
        kept.resize(static_cast<size_t>(elements(p.shape)));
        DS_CHECK(whole_->read(p, {Field::weight}, kept.data()));
    }
    return load_adapter(adapters_->active());
}

Status Engine::load_base_weights() {
    if (weights_come_from_a_folder()) {
        DS_CHECK(load_folder(model_folder_, "", model_->names));
    } else {
        for (const Param& p : params_->all()) DS_CHECK(initialise(p));
    }
    if (teacher_ && !teacher_->folder().empty()) DS_CHECK(load_folder(teacher_->folder(), std::string(kTeacher), teacher_->names()));
    if (options_.graph) {
        for (const HostGraph::Embedded& part : options_.graph->models())
            if (!part.random) DS_CHECK(load_folder(part.folder, part.prefix, part.names));
    }
    return ok();
}

// Straight into the memory of the one rank, or through a copy to all that hold some of it.
Status Engine::fill_param(const Param& p, const std::function<void(float* to, int64_t begin, int64_t end)>& fill) {
    constexpr int64_t chunk = 1 << 16;
    const int64_t n = elements(p.shape);
    std::vector<float> all;
    auto* to = const_cast<float*>(whole_->in_place(p, {Field::weight}));
    if (!to) {
        all.resize(static_cast<size_t>(n));
        to = all.data();
    }
    std::atomic<int64_t> next{0};
    (*ranks_)[0].workers.run([&](Team) {
        for (int64_t at = next.fetch_add(chunk); at < n; at = next.fetch_add(chunk)) fill(to + at, at, std::min(at + chunk, n));
    });
    job_.note_loaded(p, to);
    return all.empty() ? ok() : whole_->write(p, {Field::weight}, to);
}

Status Engine::initialise(const Param& p) {
    return fill_param(
        p, [&](float* to, int64_t begin, int64_t end) { ds::initialise(p, static_cast<uint64_t>(config_.seed), begin, end, to); });
}

bool Engine::weights_come_from_a_folder() const { return !options_.graph && !model_folder_.empty() && !config_.random_init; }

Status Engine::load_folder(const std::string& path, const std::string& prefix, const TensorNames& names) {
    if (!has_weights(path))
        return fail(Code::E_NOT_FOUND, "model: {} has no model.safetensors; \"model_init\": \"random\" starts without weights", path);
    DS_TRY(const WeightFolder folder, WeightFolder::open(path));
    std::set<std::string> used;
    std::vector<std::string> missing;
    struct Copy {
        const Param* param;
        TensorView view;
    };
    std::vector<Copy> copies;
    for (const Param& p : params_->all()) {
        if (!p.name.starts_with(prefix) || is_adapter_tensor(p.name)) continue;
        const bool of_teacher = is_of_teacher(p);
        if (of_teacher && prefix.empty()) continue;
        if (prefix.empty() && from_folder_.contains(p.name.substr(0, p.name.rfind('.'))) && p.code) {
            DS_CHECK(put_coded(p));
            continue;
        }
        if (is_compression_tensor(p.name)) {
            DS_CHECK(initialise(p));
            continue;
        }
        const auto theirs = of_teacher ? p.name.substr(prefix.size()) : reduction_.name_in_teacher(p.name.substr(prefix.size()));
        const std::vector<std::string> found = theirs ? names_in(folder, *theirs, names) : std::vector<std::string>{};
        if (found.empty()) {
            missing.push_back(p.name);
            DS_CHECK(initialise(p));
            continue;
        }
        const std::string& name = found.front();
        const TensorView* view = folder.find(name);
        if (view->shape != p.shape)
            return fail(Code::E_CORRUPT, "model: {}: tensor {} is {}, but config.json makes it {}", path, name, view->shape, p.shape);
        if (!is_float(view->dtype))
            return fail(Code::E_CORRUPT, "model: {}: tensor {} is {}, but weights are f32, f16 or bf16", path, name, name_of(view->dtype));
        for (const std::string& other : found) {
            if (!same_values(*view, *folder.find(other)))
                return fail(Code::E_UNSUPPORTED,
                            "model: {}: config.json ties {} to {}, but they differ; \"model_overrides\": {{\"tie_word_embeddings\": "
                            "false}} gives each its own",
                            path, other, name);
            used.insert(other);
        }
        copies.push_back({&p, *view});
    }
    for (const auto& [param, view] : copies) {
        DS_CHECK(fill_param(*param, [&view = view](float* to, int64_t begin, int64_t end) {
            convert(view.data.data() + begin * size_of(view.dtype), view.dtype, to, DType::f32, end - begin);
        }));
        MappedFile::let_go(view.data);
    }
    std::vector<std::string> unexpected;
    const bool coded = is_coded_folder(model_config_);
    for (const std::string_view name : folder.names())
        if (!used.count(std::string(name)) && !is_buffer(name) && !(coded && is_coded_tensor(name))) unexpected.emplace_back(name);
    if (!missing.empty())
        log(Level::warn, "model", "{}: {} not in the folder, initialised afresh: {}", path,
            missing.size() == 1 ? "a tensor is" : "tensors are", fmt::join(missing, ", "));
    if (!unexpected.empty()) log(Level::warn, "model", "{}: not used by this model: {}", path, fmt::join(unexpected, ", "));
    if (copies.empty())
        return fail(Code::E_CORRUPT, "model: {}: none of the model's tensors is in its weights; found {}", path,
                    fmt::join(unexpected, ", "));
    return ok();
}

Status Engine::make_optimizer_parts() {
    if (config_.precision == PrecisionMode::f16) {
        const Fp16Config& fp16 = config_.fp16;
        scaler_ = std::make_unique<LossScaler>(LossScaleOptions{
            .dynamic = fp16.static_scale == 0,
            .initial = fp16.static_scale == 0 ? std::ldexp(1.0, static_cast<int>(fp16.initial_scale_power)) : fp16.static_scale,
            .window = static_cast<int64_t>(fp16.window),
            .hysteresis = fp16.hysteresis,
            .consecutive_hysteresis = fp16.consecutive_hysteresis,
            .minimum = fp16.min_scale});
    }
    if (config_.optimizer.type.empty() && !options_.optimizer) return ok();
    DS_TRY(schedule_, new_schedule(config_));
    for (const std::string& warning : schedule_->warnings()) log(Level::warn, "config", "{}", warning);
    return ok();
}

Result<std::unique_ptr<Schedule>> Engine::new_schedule(const Config& config) const {
    ScheduleGroups groups;
    for (const ParamGroup& group : params_->groups()) {
        groups.lr.push_back(group.defaults.lr);
        groups.momentum.push_back(group.defaults.momentum.value_or(0));
        groups.has_betas |= group.defaults.beta2.has_value();
    }
    return make_schedule(config.scheduler.type, config.scheduler.params, std::move(groups));
}

DataContext Engine::data_context() const {
    DataContext context;
    if (!tokenizer_) {
        std::string path = config_.tokenizer;
        if (path.empty() && !model_folder_.empty()) path = model_folder_;
        if (!path.empty()) {
            if (auto loaded = Tokenizer::load(path); loaded.ok()) tokenizer_ = std::move(loaded).value();
            else if (!config_.tokenizer.empty()) log(Level::warn, "data", "tokenizer: {}", loaded.status().message());
        }
    }
    context.tokenizer = tokenizer_;
    const std::vector<int> here = ranks_->data_ranks();
    context.data_ranks = static_cast<int64_t>(here.size());
    context.rows_per_batch = config_.batch.micro * context.data_ranks;
    context.shard_count = config_.mesh.data / context.data_ranks;
    context.shard_rank = here.front() / context.data_ranks;
    context.seed = static_cast<uint64_t>(config_.seed);
    context.drop_last = config_.data.value("drop_last", Json()) == true;
    efficiency_.describe(context, config_.batch.accumulation);
    if (model_) {
        context.max_length = model_->max_positions;
        context.task = name_of(model_->task);
        context.num_labels = model_->labels;
        context.label_names = label_names();
        if (const Json problem = model_->config.value("problem_type", Json()); problem.is_string())
            context.problem = problem.get<std::string>();
        context.vocabulary_size = model_->encoder_decoder ? model_->source_vocabulary : model_->vocabulary;
        context.target_vocabulary_size = model_->vocabulary;
    }
    if (config_.max_seq_length)
        context.max_length = context.max_length ? std::min(context.max_length, *config_.max_seq_length) : *config_.max_seq_length;
    return context;
}

}  // namespace ds
