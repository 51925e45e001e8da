// The configuration of an engine: DeepSpeed's JSON (0.19), older spellings and dsrt's own keys, parsed, checked and filled with defaults.
//
// Order of the checks: syntax, unknown keys, types and ranges, keys against each other (arithmetic first), and only then what libdsrt lacks
// (E_UNSUPPORTED). Everything else is E_CONFIG. Messages begin "config: KEY: " or, for the mesh, "parallel: ".
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "base/weight_code.h"
#include "config/values.h"

namespace ds {

struct BatchSizes {
    int64_t train = 0, micro = 0, accumulation = 0;
    int64_t ranks = 1;  // data-parallel
};

struct MoeConfig {
    bool drop_tokens = false;
    double capacity_factor = 1, eval_capacity_factor = 1;
    int64_t min_capacity = 4;
};

// DeepSpeed's block-sparse attention; lists as its layouts take them.
struct SparseAttentionConfig {
    std::string mode = "dense", attention = "bidirectional";
    int64_t block = 16, num_local_blocks = 4, num_global_blocks = 1, num_different_global_patterns = 1, num_random_blocks = 0,
            num_sliding_window_blocks = 3;
    bool different_layout_per_head = false, horizontal_global_attention = false;
    std::vector<int64_t> local_window_blocks{4}, global_block_indices{0}, global_block_end_indices;
};

struct MeshSizes {
    int64_t tensor = 1, pipeline = 1, data = 1, sequence = 1, expert = 1;
    int64_t local_ranks = 1;
};

struct PipelineConfig {
    std::string schedule = "1f1b", partition = "best";
    int64_t chunks = 2;  // stages a rank, of the interleaved schedule
    int64_t active = 0;  // most micro-batches in flight; 0 = as many as the schedule wants
};

struct TypeAndParams {
    std::string type;  // "" = none
    Json params = Json::object();
};

struct ParamGroupConfig {
    std::string name;
    std::vector<std::string> match;  // globs
    bool frozen = false;
    Json settings = Json::object();  // lr, weight_decay ...: over the optimizer's params
};

// Where state or weights lie.
struct OffloadConfig {
    std::string device = "none", path;  // path: of nvme, a folder
    int64_t buffers = 4;
    int64_t buffer_elements = 100000000, in_memory = 1000000000;  // of weights: elements of a buffer; that stay in host memory
    bool on_disk() const { return device == "nvme"; }
};

// zero_optimization, beside its stage. Sizes are elements.
struct ZeroConfig {
    int64_t reduce_bucket = 500000000, allgather_bucket = 500000000;
    int64_t persistence_threshold = 100000, model_persistence_threshold = INT64_MAX;
    int64_t max_live = 1000000000, max_reuse = 1000000000, prefetch = 50000000;
    bool overlap = false;  // gradients are summed while the backward pass runs
    OffloadConfig offload_optimizer, offload_param;
    int64_t disk_threads = 1, disk_block = 1 << 20;  // aio
};

// Low-rank adapters, in PEFT's terms.
struct LoraConfig {
    bool enabled = false;
    int64_t r = 8;
    double alpha = 8, dropout = 0;
    std::vector<std::string> target_modules, modules_to_save;
    std::string bias = "none";
    bool use_rslora = false;
    std::map<std::string, std::string> adapters;  // folders by name; "" = a fresh one
    std::string adapter;                          // the active one; "" = the first
};

// Products of linear layers in 8-bit floats.
struct Float8Config {
    bool enabled = false;
    std::optional<std::vector<std::string>> skip;  // modules that stay in bf16; nothing: heads
};

// Frozen weights in few bits.
struct QuantizationConfig {
    bool enabled = false;
    WeightCode code;
    std::optional<std::vector<std::string>> skip;  // modules; nothing: heads
};

// Frozen weights as their values that are not zero.
struct SparseWeightsConfig {
    bool enabled = false;
    double max_density = 0;
};

// What changes as training goes on, and what is left out of it: sections as they stand in the effective configuration, null where they are
// off. Who uses one checks it (lr/ramp.h, lr/batch_growth.h, data/).
struct EfficiencyConfig {
    Json batch_growth;
    Json curriculum;        // the older form: rows are cut to a length
    Json sampling;          // curriculum_learning of data_efficiency: which rows are taken
    Json dynamic_batching;  // batches by tokens
    Json random_ltd;        // tokens that bypass layers
    Json layer_drop;        // layers that are skipped
    int64_t seed = 1234;    // of the sampler
};

enum class PrecisionMode { f32, bf16, f16 };

struct Fp16Config {
    double static_scale = 0;  // 0 = dynamic
    int64_t initial_scale_power = 16;
    double window = 1000;
    int64_t hysteresis = 2;
    bool consecutive_hysteresis = false;
    double min_scale = 1;
};

// The processes that a launcher started, or why that can't be told. It counts unless "distributed" is "none".
struct Launched {
    int64_t processes = 1;
    Status problem;
};

struct CommConfig {
    double deadline_seconds = 60, join_seconds = 120, heartbeat_seconds = 5;
    std::string secret_file, interface;
};

struct Config {
    BatchSizes batch;
    bool batch_is_given = true;  // false: nothing is said, and without an optimizer a micro-batch is one row
    MeshSizes mesh;
    std::string sequence_attention = "auto";  // or "ulysses", "ring"
    std::string sequence_regions = "auto";    // or "on", "off"
    PipelineConfig pipeline;
    int64_t zero_stage = 0;
    ZeroConfig zero;
    DType communication = DType::f32;  // of gradients on their way
    bool sparse_gradients = false;     // of embeddings, between data ranks
    bool sum_over_ranks = false;       // gradients of data ranks are added up, not averaged
    std::string distributed = "auto";  // or "none", or a backend
    Launched launched;
    int64_t processes = 1;  // of the job
    CommConfig comm;

    Json model;  // a path (string), an inline config.json (object), or null
    Json model_overrides = Json::object();
    bool random_init = false;
    std::string tokenizer;
    std::vector<std::string> outputs;
    Json data = Json::object();  // ds_data_open's options, dataloader_drop_last included
    std::optional<int64_t> max_seq_length, steps_per_epoch;

    TypeAndParams optimizer, scheduler;
    std::vector<ParamGroupConfig> param_groups;
    LoraConfig lora;
    QuantizationConfig quantization;
    SparseWeightsConfig sparse_weights;
    Clipping clipping;
    std::string loss_normalization = "batch";

    PrecisionMode precision = PrecisionMode::f32;
    Fp16Config fp16;
    bool skip_on_overflow = false;  // fp16 always; bf16 as bf16.check_grad_overflow says
    std::vector<PrecisionRule> precision_rules;
    Float8Config fp8;
    bool stochastic_rounding = false;  // of the weights' low copies
    DType grad_accum_dtype = DType::f32;

    EfficiencyConfig efficiency;
    Json compression;  // compression_training, null where nothing of it is on
    MoeConfig moe;
    SparseAttentionConfig sparse_attention;

    std::string device = "auto";
    int64_t threads = 0;  // 0 = one a core
    int64_t seed = 1234;
    bool deterministic = true;
    int recompute = 0;         // -1 = auto
    int64_t memory_limit = 0;  // bytes a rank; 0 = none
    bool optimizer_in_backward = false;

    std::optional<int64_t> steps_per_print;
    std::map<std::string, int> log_levels;  // "" = default_verbosity
    bool dump_state = false;

    Json effective;                     // every key, defaults filled in, sizes resolved
    std::vector<std::string> warnings;  // unknown keys of "strict": false, odd values
    std::vector<std::string> notes;     // accepted keys that change nothing here, and why
    Json given;                         // as given, in canonical spelling: what set() edits
};

// JSON text, whose first byte after blanks and comments is '{', or the path of a JSON file.
Result<Config> parse_config(std::string_view text_or_path, const Launched& launched = {});
// What DSRT_CONFIG, else DEEPSPEED_CONFIG holds: text or path. Reads the environment at the call.
Result<Config> config_from_environment(const Launched& launched = {});

// A JSON object of every key: {"fp16.loss_scale": {"type", "default", "accepted", "status", "meaning"}}. Older spellings have
// "spelling_of".
std::string describe_config();

// The effective value; "" = the whole effective configuration. Keys inside optimizer.params and the like are found too.
Result<Json> get(const Config& config, std::string_view key);
// Changes what can change at run time; anything else is E_UNSUPPORTED. On failure the configuration is as before.
Status set(Config& config, std::string_view key, const Json& value);

// The arithmetic, for tests and planning. A value that isn't given is derived (DeepSpeed's table, floor division).
Result<BatchSizes> resolve_batch(std::optional<int64_t> train, std::optional<int64_t> micro, std::optional<int64_t> accumulation,
                                 int64_t ranks);
Result<MeshSizes> resolve_mesh(MeshSizes degrees, std::optional<int64_t> data, std::optional<int64_t> local_ranks, int64_t processes = 1);

}  // namespace ds
