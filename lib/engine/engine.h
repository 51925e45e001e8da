// Engine: a model, its optimizer and its schedule, trained by micro-batches with DeepSpeed's semantics. What ds_engine_* do.
//
// One call at a time (the ABI sees to that); `metric` may be called by any thread.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "ckpt/checkpoint.h"
#include "config/config.h"
#include "data/data.h"
#include "engine/adapters.h"
#include "engine/background_save.h"
#include "engine/compression/compression.h"
#include "engine/compression/layer_reduction.h"
#include "engine/compression/teacher.h"
#include "engine/counters.h"
#include "engine/efficiency.h"
#include "engine/job.h"
#include "engine/metrics.h"
#include "engine/params.h"
#include "engine/program.h"
#include "engine/rank.h"
#include "engine/run_record.h"
#include "engine/whole_params.h"
#include "lr/batch_growth.h"
#include "lr/loss_scale.h"
#include "lr/schedule.h"
#include "parallel/timetable.h"
#include "passes/pass.h"
#include "telemetry/report.h"

namespace ds {

struct UpdateChunk;  // update.cpp
struct GenerateOptions;

// Hears of new ids of a row of ds_generate. Positive ends that row, negative all.
using TokenListener = std::function<int(size_t row, std::span<const int32_t> ids)>;

class Engine {
public:
    struct ParamInfo {
        std::string name;
        Shape shape;
        bool trainable;
    };

    static Result<std::shared_ptr<Engine>> create(std::optional<std::string_view> config, const HostOptions& options);
    // What a run of this config would need, as JSON; runs nothing and reads no weights.
    static Result<std::string> plan_of(std::optional<std::string_view> config, const HostOptions& options);

    // engine.cpp: the passes over a micro-batch
    Status forward(const Batch& batch, float* loss);
    Status backward();
    Status backward_from(const Batch& gradients);
    Status eval(const Batch& batch, float* loss);
    Result<HostTensor> output(std::string_view name);
    // step.cpp: the boundary
    Status step();  // code PENDING or SKIPPED where that is so
    Status zero_grad();
    Status train_batch(DataSource& data, float* loss);
    // state.cpp
    Status set(std::string_view key, std::string_view json);
    Result<std::string> get(std::string_view key);
    Result<double> metric(std::string_view name) const { return metrics_.get(name); }
    size_t param_count() const { return infos_.size(); }
    int64_t parameter_elements() const;  // of the whole model
    int64_t trained_elements() const;    // of these, those that are not frozen
    const ParamInfo& param(size_t i) const { return infos_[i]; }
    const ParamInfo* find_param(std::string_view name) const;
    Result<HostTensor> param_get(std::string_view name, int what);
    Status param_set(std::string_view name, int what, const HostTensor& value);
    // files.cpp
    Status save(std::string_view dir, std::optional<std::string_view> tag, std::string_view options_json);
    Status load(std::string_view dir, std::optional<std::string_view> tag, std::string_view options_json);
    Status export_folder(std::string_view dir, std::string_view options_json);
    // report.cpp: report.html; contents_json: what the host adds, as ds_report takes it
    Status report(std::string_view path, std::string_view contents_json);
    // generate/generate.cpp: the new ids of each prompt
    Result<std::vector<std::vector<int32_t>>> generate(const std::vector<std::vector<int32_t>>& prompts, std::string_view options_json,
                                                       const TokenListener& listener);

    const Job& job() const { return job_; }
    Job& job() { return job_; }

    DataContext data_context() const;
    std::vector<std::string> label_names() const;  // id2label of the model's config.json, where it names every class
    static void set_levels(const Config& config);  // of the log
    // Its cursor is saved with the engine from now on; not by opening where another is trained on.
    enum class Attached { opened, trained_on };
    void attach_data(const std::shared_ptr<DataSource>& data, Attached how);
    const Json& client_state() const { return client_state_; }  // of the checkpoint that was loaded

private:
    friend class Generation;
    friend class CachedDecoder;
    friend class PlainDecoder;
    friend class SharedDecoder;

    // The last pass over a batch: what outputs are read from, and what a backward belongs to.
    struct Pass {
        std::vector<Packed> packed;                // of each data rank; one without rows runs nothing
        std::vector<PlanKey> keys;                 // likewise
        std::vector<std::shared_ptr<Plan>> plans;  // of each rank (and chunk of it, in a pipeline); null where nothing runs
        int64_t rows = 0, labels = 0;
        bool labelled = false;
        uint64_t draw = 0;          // Runtime::step of its random numbers
        std::optional<float> loss;  // once it was asked for
        bool train = false;
        bool wants_loss = false;  // this process's host asks for it, or another's
        bool updates = false;     // its backward pass updates each weight

        const PlanKey& key() const { return keys.front(); }
    };

    static Result<std::shared_ptr<Engine>> prepare(std::optional<std::string_view> config, const HostOptions& options);  // all but weights
    Status make_the_program();
    Status make_memory();
    Status load_weights();
    Status load_base_weights();
    // adapter_weights.cpp
    Status load_adapter(const std::string& name);
    Status activate_adapter(const std::string& asked);  // "": the first by name
    Status export_adapter(const std::filesystem::path& dir, DType dtype);
    Result<HostTensor> merged_weight(const Param& weight);
    Status make_optimizer_parts();

    Status begin_fetching(Rank& rank, const Plan& plan, Plan::Part part) const;
    Result<std::shared_ptr<Plan>> plan_for(Rank& rank, const PlanKey& key);
    PassOptions pass_options(const Rank& rank, const PlanKey& key) const;
    Result<Graph> graph_of(const Rank& rank, const PlanKey& key) const;
    void declare_unused(const Rank& rank, Graph& graph) const;
    Result<std::vector<Packed>> pack(const Batch& batch, const std::set<std::string>& outputs, int64_t first_row) const;
    Result<int64_t> rows_of_batch(const Batch& batch, const std::set<std::string>& outputs) const;
    Status usable() const;
    bool computes_loss() const;  // where there are labels
    std::string loss_is_lacking() const;
    const char* no_forward() const {
        return backward_done_ ? "the last forward had its backward already" : "there is no forward pass to go back from";
    }
    Status forward(const Batch& batch, float* loss, bool updates);  // updates: as Pass has it
    Result<Pass> pass_of(const Batch& batch, bool train, bool wants_loss, bool updates = false);
    void set_keys(Pass& pass, const std::function<PlanKey(const Packed&, const PlanKey&)>& key_of) const;
    Status run_forward(Pass& pass);
    Status run_forward(Rank& rank, Pass& pass);
    Status run_cached(Rank& rank, const PlanKey& key, const Packed& packed);
    bool caches() const;
    Result<GenerateOptions> check_prompts(const std::vector<std::vector<int32_t>>& prompts, std::string_view options_json) const;
    Json generation_defaults() const;
    Status run_part(Rank& rank, Plan& plan, Plan::Part part, uint64_t draw, bool train, Plan::Company company = {});
    std::vector<MemoryBlock> memory_blocks(const Plan& plan) const;
    double lr_of(size_t group) const {
        return schedule_->lr(group) * (growth_ ? growth_->lr_factor() : efficiency_.lr_factor(open_.samples, config_.batch.train));
    }
    // growth.cpp
    Status make_growth();
    void grow_batch();
    bool gradients_leave_at_once() const;
    Result<double> own_squares();
    Status measure_first();
    Status measure_ranks();
    void let_batch_grow(bool skipped);
    Json save_growth() const;
    Status restore_growth(const Json& state);
    // compression/ranges.cpp: fixed ranges of activations
    Status check_fixed_ranges() const;
    Status move_ranges(const Pass& pass);

    // coded.cpp: weights in few bits
    Status choose_coded(Graph& graph);
    Status choose_coded_in_folder(Graph& graph);
    Status choose_bf16(Graph& graph);
    Status put_coded(const Param& p);
    Result<std::map<std::string, CodedModule>> coded_modules();
    Result<Json> coded_checksums() const;
    Status check_coded(const Json& saved, const std::string& folder) const;
    // sparse_weights.cpp
    Status choose_sparse(Graph& graph);
    Status check_sparse() const;
    // fp8.cpp
    Status choose_fp8(const Graph& graph);
    Status check_fp8() const;
    Status make_compression(const Graph& graph);
    void follow_compression();
    bool is_of_teacher(const Param& p) const { return teacher_ && is_teacher_tensor(p.name); }  // and in no file that this engine writes
    // The gradient, of this shape, that a data rank starts from at an output.
    using SeedOf = std::function<Result<HostTensor>(const Shape&, int data_rank, const std::string& name)>;
    enum class LossOf { engine, host };
    Status check_gradients(const Batch& gradients) const;
    Status put_seeds(const Pass& pass, const SeedOf& seed);
    Status run_backward(LossOf whose, const SeedOf& seed);
    static ValueId seed_of(const Graph& graph, const std::string& name);
    void count_backward(const Pass& pass, LossOf whose);
    void count_loss(const Pass& pass, float loss);
    Result<float> loss_of(Pass& pass);
    struct Found {
        const Rank* rank = nullptr;
        const Plan* plan = nullptr;
    };
    Found plan_with(const Pass& pass, int data_rank, const std::function<bool(const Graph&)>& has) const;
    Found plan_here(const Pass& pass, int data_rank, const std::function<bool(const Graph&)>& has) const;
    // Gives a plan its memory: the arena, the rank's parameters, and for generation what cache_of says.
    Status place_plan(Rank& rank, Plan& plan, std::byte* arena, const std::function<void*(ValueId)>& cache_of = {});
    PlanKey key_of(const Packed& packed, bool labelled, bool train) const;
    Status fill_inputs(Device* device, const Packed& packed, const Plan& plan) const;
    static Result<HostTensor> read_value(const Rank& rank, const Plan& plan, ValueId id);
    Status devices_ok() const;
    Status open_devices();
    Result<std::vector<std::unique_ptr<Device>>> devices_of_ranks(int processes_before_this) const;
    Status update_through_host(Rank& rank, Param& p, const Hyper& hyper);
    void dump(const Plan& plan, const std::string& choices);
    SequenceLayout sequence_layout(const Rank& rank, const StreamShape& shape) const;

    // pipeline.cpp
    struct Micro;
    struct Pipeline;
    struct Walker;
    Status make_pipeline();
    void keep_own_params(const Rank& rank, Graph& graph) const;
    void mark_counted(Rank& rank) const;
    const Timetable& timetable(int micros);
    void hold(const Pass& pass);
    void forget(std::shared_ptr<Micro>& micro);
    void drop_enqueued();
    Status begin_stage(Rank& rank, Micro& micro, int stage, bool keeps);
    Status run_turn(Rank& rank, Micro& micro, const Turn& turn, Plan& plan);
    void end_turn(Rank& rank, Micro& micro, const Turn& turn);
    Status fly(const std::vector<std::shared_ptr<Micro>>& micros, bool backward, bool keeps);
    Status clear_shared_gradients(Rank& rank);
    double loss_of(const Micro& micro) const;
    Status share_losses(const std::vector<std::shared_ptr<Micro>>& micros) const;
    Status catch_up();
    Status run_through(Pass& pass);
    Status bring_up(Pass& pass);
    Status enqueue_backward(LossOf whose, const SeedOf& seed);
    Status take_seeds(Micro& micro, const SeedOf& seed) const;
    Status settle();  // runs what ds_backward enqueued; without a pipeline nothing is
    Status sum_tied(Rank& rank);
    Status copy_tied_weights();
    bool gradients_have_parts() const;  // that reduce_gradients adds up
    void begin_record(int64_t first_micro);
    void record_turn(const Rank& rank, const Turn& turn, std::chrono::steady_clock::time_point begin);
    OrderedJson timetable_report();
    Result<OrderedJson> stages_report(const PlanKey& key);
    // plan_report.cpp
    Packed planned_micro_batch() const;
    Result<std::string> plan_report();
    // recompute.cpp: what a rank holds, and the way of recomputing that keeps it within the limit
    struct RankMemory {
        int64_t weights = 0, gradients = 0, state = 0, state_on_disk = 0, low = 0, working = 0;
        int64_t total() const { return weights + gradients + state + low + working; }
        OrderedJson told() const;
    };
    struct Need {  // of the rank that needs most, of the one that takes longest
        RankMemory memory;
        double seconds = 0;
        int blocks = 0;
    };
    struct Recomputation {
        int level = 0, blocks = 0;
        Need need;
        std::string told;  // what was compared, a line
    };
    RankMemory memory_of(const Rank& rank, const Plan* plan) const;
    int64_t memory_limit() const;
    Result<int64_t> least_limit() const;  // of all processes
    Status check_memory_limit() const;
    Status choose_recomputation(Pass& pass);
    Result<Need> most_of_all(const Need& mine) const;
    Result<Recomputation> find_recomputation(const std::vector<PlanKey>& keys);
    Result<Need> need_of(const std::vector<PlanKey>& keys, int level, int blocks);
    Status need_of(Rank& rank, PlanKey key, Need& need);
    void add_timetables(ReportData& report);

    // job_facts.cpp
    Status compare_with_others() const;  // what must be equal in all processes, at the start
    // files.cpp: with several processes, the first one writes what it reads from all
    Status rejoin();  // after a failure
    Result<Json> saved_cursor();
    Status restore_cursor(DataSource& data, const Json& cursor) const;
    std::vector<CheckpointTensor> waiting_tensors(bool weights_only) const;
    Result<std::map<std::string, WaitingAdapter>> waiting_adapters(const Checkpoint& checkpoint, const Json& saved,
                                                                   bool weights_only) const;
    Status load_here(const Checkpoint& checkpoint, bool only_weights, const Spread& spread);
    Status export_here(const std::filesystem::path& dir, DType dtype, int64_t shard_bytes, bool adapter_only, bool quantized);
    Status drop_what_has_no_form(std::map<std::string, CodedModule>& modules) const;
    Status read_for_writer(std::string_view call);                                            // the other processes, until end_of_reads
    Status end_of_reads(std::string_view call, Status status);                                // the writer
    Status read_whole(std::string_view call, const Param& p, Field field, float* out) const;  // the writer

    double final_factor() const;  // what accumulated gradients are multiplied with: unscaling and normalisation
    Status normalise_gradients();
    Status reduce_gradients();  // sums what data ranks hold
    Status reduce_gradients(Rank& rank);
    static Result<double> squares_of(Rank& rank, const float* x, int64_t n);  // partial sums are cut by size, never by threads
    // overlap.cpp: sums that leave while the backward pass runs
    const char* no_overlap_because() const;  // null: sums overlap
    bool sums_overlap() const;
    void tell_overlap() const;
    Status backward_and_sum(Rank& rank, Plan* plan, uint64_t draw);
    Status backward_and_sum_there(Rank& rank, Plan* plan, uint64_t draw);
    Status sum_as_made(Rank& rank, const std::map<std::string, int64_t>& steps, const Progress& progress) const;
    // Of gradients of this type, which lie in order from `sums` on. By every thread of the team that the communicator is for.
    Status sum_bucket(Communicator& data, const ParamBucket& bucket, std::byte* sums, DType type, Team team) const;
    Result<double> gradient_norm(double factor);
    Status update(double factor, double clip_value);
    Status update(Rank& rank, double factor, double clip_value);  // update.cpp
    void round_lows(int64_t updates) const;
    Status update_on_device(Rank& rank, const std::vector<Hyper>& hypers);
    std::vector<Hyper> hypers_of(double factor, double clip_value) const;  // of each group
    Status update_chunks(Rank& rank, const std::vector<Hyper>& hypers, const std::vector<UpdateChunk>& chunks, bool measures);
    // measures: adds up the squares of the gradient, too.
    Status update_chunk(Rank& rank, const std::vector<Hyper>& hypers, const UpdateChunk& chunk, std::byte* memory, bool measures);
    Status check_optimizer_in_backward() const;
    Status backward_and_update(Rank& rank, Plan& plan, uint64_t draw);
    void count_update();
    double swept_norm(double factor) const;
    bool sweep_measures_norm() const;  // the update itself does, as nothing asks for the norm before
    Status update_by_host(Rank& rank, double factor, double clip_value);
    Status gather_weights(Rank& rank);
    void finish_step(bool skipped);
    void clear_gradients();
    int64_t next_update() const { return (adapters_ ? adapters_->updates : counters_.updates) + 1; }  // of what is trained
    Hyper hyper_of(size_t group, double factor, double clip_value) const;
    void publish();
    double seed_value(const Pass& pass) const;
    Result<HostTensor> rows_of(const Pass& pass, int data_rank, const std::string& output, const HostTensor& whole) const;
    double share_of(const Pass& pass, int data_rank) const;
    // zero.cpp: what data ranks share
    bool dealt_out(int64_t stage) const { return config_.zero_stage >= stage && ranks_->extent(MeshAxis::data) > 1; }
    bool updates_are_dealt_out() const { return dealt_out(1); }
    bool gradients_are_dealt_out() const { return dealt_out(2); }
    bool weights_leave_memory() const { return config_.zero.offload_param.on_disk(); }
    std::unique_ptr<DiskWeights> disk_weights(const Rank& rank) const;
    struct ReadAs {         // by plans
        bool wide = false;  // in f32
        std::optional<DType> low;
        bool table = false;  // of an embedding
    };
    Result<bool> reduce_rows(Rank& rank, const Param& p);  // sparse.cpp
    struct Gathering {                                     // of updated weights, or of their low copies
        const ParamBucket* bucket;
        Interval elements;
        bool low;
        int64_t shift;  // from an element's place among all to its place in memory
    };
    std::vector<Gathering> gatherings(const Rank& rank) const;
    OrderedJson planned_traffic(const Rank& rank, const std::vector<std::shared_ptr<Plan>>& plans) const;  // plans: of each of its stages
    Result<std::map<std::string, ReadAs>> reads_of(Rank& rank);
    Status deal_out();
    void deal_out(Rank& rank, const std::map<std::string, ReadAs>& reads);
    ZeroLayout zero_layout(const Rank& rank) const;
    int64_t bucket_elements(const ParamStore& params) const;
    DiskPlace disk_place(const Rank& rank, const char* section, const OffloadConfig& offload) const;
    bool ranks_run_together() const {
        return (*ranks_)[0].zero || (model_ && model_->couples_rows) || (teacher_ && teacher_->couples_rows()) || config_.mesh.expert > 1;
    }  // plans exchange between data ranks
    void let_all_ranks_run(Pass& pass) const;
    void publish_traffic();
    Status make_ranks();
    Status keep_own_experts(int data_rank, Graph& graph) const;
    Result<std::set<std::string>> parameters_of_experts() const;
    Rank& rank_with_most_experts() const;
    // Who exchanges a bucket: all data ranks, or those with the same experts; null: this rank alone has it.
    static Communicator* sharers(const Rank& rank, const ParamBucket& bucket);
    Status check_cuts(const ParamStore& params) const;
    PlanKey smallest_key() const;
    Result<Graph> smallest_graph() const;
    Status initialise(const Param& p);
    Status fill_param(const Param& p, const std::function<void(float* to, int64_t begin, int64_t end)>& fill);
    bool weights_come_from_a_folder() const;
    Status load_folder(const std::string& folder, const std::string& prefix, const TensorNames& names);
    void write_label_names(Json& config) const;
    Status copy_tokenizer(const std::filesystem::path& dir) const;
    Result<std::unique_ptr<Schedule>> new_schedule(const Config& config) const;

    Config config_;
    HostOptions options_;
    Job job_{config_, options_};
    Json model_config_;
    std::string model_folder_;
    std::unique_ptr<Adapters> adapters_;                      // null: none
    std::map<std::string, std::vector<float>> trained_base_;  // with adapters: the base's own values of what is trained whole
    std::unique_ptr<Program> program_;
    std::shared_ptr<const Model> model_;
    std::unique_ptr<ParamStore> params_;  // definitions; memory is the ranks'
    std::vector<ParamInfo> infos_;
    std::string places_;  // of the threads of the ranks here
    std::unique_ptr<Ranks> ranks_;
    std::unique_ptr<WholeParams> whole_;
    std::shared_ptr<Pipeline> pipeline_;  // null: one stage
    BackgroundSave background_save_;
    Backend backend_ = Backend::cpu;
    std::unique_ptr<Schedule> schedule_;
    std::unique_ptr<LossScaler> scaler_;
    LayerReduction reduction_;
    std::unique_ptr<Teacher> teacher_;                // null: none
    std::map<std::string, CodedModule> from_folder_;  // codes that the model's folder has, by module, until they are loaded
    CodedWeights coded_;                              // in few bits, or sparse; empty: none
    std::set<std::string> in_fp8_;                    // weights whose products run in 8-bit floats
    Compression compression_;                         // of linear modules
    std::unique_ptr<BatchGrowth> growth_;             // null: updates have one size
    std::optional<NoiseSample> first_noise_;          // of this update, a part of its rows
    Efficiency efficiency_;
    std::weak_ptr<DataSource> data_;
    bool trains_on_data_ = false;
    std::vector<std::string> data_label_names_;
    struct DataEnd {                       // an epoch ended within a step, which is told by the next call
        const DataSource* data = nullptr;  // null: the one that a checkpoint is about
        Json cursor;                       // where the next epoch begins
    };
    std::optional<DataEnd> data_end_;
    mutable std::shared_ptr<const Tokenizer> tokenizer_;
    std::string dump_dir_;
    Json client_state_, pending_data_;  // of a loaded checkpoint; the cursor waits for its data

    std::set<std::string> train_outputs_, eval_outputs_;  // what hosts asked for before will be built at once next time
    std::set<std::string> seeds_{"loss"};
    std::map<std::vector<double>, Recomputation>
        recomputations_;         // chosen so far, by the numbers that all processes gave their keys (known_keys_)
    std::string recomputation_;  // the last choice, in words

    std::optional<Pass> last_;     // of the later of forward and eval
    std::optional<Pass> pending_;  // a training forward whose backward may come
    bool backward_done_ = false;

    OpenStep open_;  // since the last update
    Counters counters_;
    double last_norm_ = 0;
    std::array<int64_t, kTraffics> sent_before_{};  // by all ranks, up to the last update
    RunRecord record_;
    bool broken_ = false;  // a failure in the middle of an update: only load and destroy are legal

    Metrics metrics_;
    std::map<std::vector<PlanKey>, int> known_keys_;  // of training passes, numbered as they came
};

}  // namespace ds
