// Checkpoints and Hugging Face folders: what the engine writes and reads back.
#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "base/json_argument.h"
#include "base/log.h"
#include "ckpt/checkpoint.h"
#include "ckpt/durable_file.h"
#include "ckpt/safetensors.h"
#include "engine/engine.h"
#include "kernels/cpu/copy_far.h"

namespace ds {
namespace {

constexpr int kFormat = 1;
constexpr const char* kWeights = "weights.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";

Result<Json> options_of(std::string_view text, const char* call, std::initializer_list<std::string_view> known) {
    if (text.empty()) return Json::object();
    DS_TRY(const Json options, parse_argument(text, fmt::format("{}: options", call)));
    if (!options.is_object()) return fail(Code::E_INVALID_ARGUMENT, "{}: options must be a JSON object, not {}", call, text);
    for (const auto& [key, value] : options.items())
        if (std::find(known.begin(), known.end(), key) == known.end())
            return fail(Code::E_INVALID_ARGUMENT, "{}: option {} is unknown; accepted: {}", call, key, fmt::join(known, ", "));
    return options;
}

Result<bool> flag_of(const Json& options, const char* call, const char* key) {
    if (!options.contains(key)) return false;
    if (!options[key].is_boolean())
        return fail(Code::E_INVALID_ARGUMENT, "{}: option {} must be true or false, not {}", call, key, options[key].dump());
    return options[key].get<bool>();
}

std::string state_name(const Param& p, const StateDef& def) { return p.name + "/" + std::string(def.name); }

HostTensor f32_of(const TensorView& view) {
    HostTensor t = HostTensor::zeros(DType::f32, view.shape);
    convert(view.data.data(), view.dtype, t.data, DType::f32, t.count());
    return t;
}

// What a checkpoint brings: into the memory of the one rank by all of its threads, or through a copy to all that hold some of it.
class Incoming {
public:
    explicit Incoming(WholeParams& whole) : whole_(whole) {}

    Status add(const Param& p, Field field, const TensorView& view) {
        auto* to = const_cast<float*>(whole_.in_place(p, field));
        if (!to) return whole_.write(p, field, f32_of(view).as<float>().data());
        const int64_t size = size_of(view.dtype), n = elements(view.shape);
        for (int64_t at = 0; at < n; at += kPiece)
            pieces_.push_back({to + at, view.data.data() + at * size, view.dtype, std::min(kPiece, n - at)});
        return ok();
    }
    bool any() const { return !pieces_.empty(); }
    void copy(const Spread& spread) const {
        spread(static_cast<int64_t>(pieces_.size()), [this](int64_t i) {
            const Piece& piece = pieces_[static_cast<size_t>(i)];
            if (piece.type == DType::f32) cpu::copy_far(piece.from, piece.to, piece.elements * 4);
            else convert(piece.from, piece.type, piece.to, DType::f32, piece.elements);
        });
    }

private:
    static constexpr int64_t kPiece = 1 << 18;
    struct Piece {
        float* to;
        const std::byte* from;
        DType type;
        int64_t elements;
    };
    WholeParams& whole_;
    std::vector<Piece> pieces_;
};
// Reads a whole field, which may need the other processes.
using ReadWhole = std::function<Status(const Param&, Field, float*)>;

// Memory as it lies, or gathered from the ranks when it is written.
NamedTensor tensor_of(const WholeParams& whole, const ReadWhole& read, const Param& p, Field field, std::string name, Shape shape) {
    NamedTensor tensor{std::move(name), DType::f32, std::move(shape), whole.in_place(p, field), {}};
    if (!tensor.data)
        tensor.source = [read, &p, field](const ChunkWriter& write) -> Status {
            std::vector<float> all(static_cast<size_t>(WholeParams::count(p, field)));
            DS_CHECK(read(p, field, all.data()));
            return write(std::as_bytes(std::span(all)));
        };
    return tensor;
}

Status write_as(const WholeParams& whole, const ReadWhole& read, const Param& p, DType dtype, const ChunkWriter& write) {
    constexpr int64_t chunk = 1 << 20;
    const int64_t n = elements(p.shape);
    std::vector<float> gathered;
    const float* weight = whole.in_place(p, {Field::weight});
    if (!weight) {
        gathered.resize(static_cast<size_t>(n));
        DS_CHECK(read(p, {Field::weight}, gathered.data()));
        weight = gathered.data();
    }
    std::vector<std::byte> buffer(static_cast<size_t>(chunk * size_of(dtype)));
    for (int64_t at = 0; at < n; at += chunk) {
        const int64_t count = std::min(chunk, n - at);
        convert(weight + at, DType::f32, buffer.data(), dtype, count);
        DS_CHECK(write({buffer.data(), static_cast<size_t>(count * size_of(dtype))}));
    }
    return ok();
}

// What DeepSpeed does where processes name different tags: only process 0's counts here.
Status same_tag(const Job& job, const Config& config, const std::string& name) {
    DS_TRY(const Json how, get(config, "checkpoint.tag_validation"));
    if (job.alone() || how == "IGNORE") return ok();
    DS_TRY(const std::vector<std::string> all, job.exchange("ds_save", name));
    for (size_t p = 1; p < all.size(); ++p) {
        if (all[p] == all[0]) continue;
        std::string what =
            fmt::format("ds_save: process {} names the tag \"{}\", process 0 \"{}\"; all must name the same (checkpoint.tag_validation)", p,
                        shown(all[p]), shown(all[0]));
        if (how == "FAIL") return Status(Code::E_INVALID_ARGUMENT, std::move(what));
        log(Level::warn, "checkpoint", "{}; it is saved as \"{}\"", what, shown(all[0]));
        break;
    }
    return ok();
}

// Cursors of a source that goes on differently in each process lie side by side.
constexpr const char* kEach = "of_each_process";

// What a load leaves out, or takes for something else. optimizer: that goes on with the checkpoint's moments; "": none does.
void tell_unused(const Checkpoint& checkpoint, const ParamStore& params, const std::string& optimizer) {
    const std::string folder = checkpoint.folder().string(), other = checkpoint.state().value("optimizer", "");
    std::vector<std::string> unused;
    if (const SafetensorsFile* weights = checkpoint.file(kWeights))
        for (const TensorView& view : weights->tensors())
            if (!params.find(view.name) && !is_compression_tensor(view.name)) unused.push_back(view.name);
    if (unused.size() > 8) unused.resize(8), unused.push_back("...");
    if (!unused.empty()) log(Level::warn, "ckpt", "{}: not used by this model: {}", folder, fmt::join(unused, ", "));
    const auto family = [](std::string_view type) { return type == "AdamW" ? "Adam" : type; };
    if (!optimizer.empty() && family(other) != family(optimizer))
        log(Level::warn, "ckpt", "{}: its moments are of optimizer {}; {} goes on with them", folder, other, optimizer);
}

}  // namespace

Status Engine::save(std::string_view dir, std::optional<std::string_view> tag, std::string_view options_json) {
    DS_CHECK(usable());
    DS_CHECK(job_.agree("ds_save", background_save_.wait()));
    DS_TRY(const Json options, options_of(options_json, "ds_save", {"client_state", "weights_only", "async"}));
    DS_TRY(const bool async, flag_of(options, "ds_save", "async"));
    DS_TRY(const bool weights_only, flag_of(options, "ds_save", "weights_only"));
    if (open_.micros > 0)
        return fail(Code::E_STATE,
                    "ds_save: {} of {} micro-batches of a step were accumulated; a finished step is what is saved, so call ds_step or "
                    "ds_zero_grad first",
                    open_.micros, config_.batch.accumulation);
    const std::string name = tag ? std::string(*tag) : fmt::format("global_step{}", counters_.global_steps);
    DS_CHECK(same_tag(job_, config_, name));
    DS_TRY(const Json cursor, weights_only ? Result<Json>(Json()) : saved_cursor());
    if (!job_.writes_files()) return read_for_writer("ds_save");
    const ReadWhole read = [this](const Param& p, Field field, float* out) { return read_whole("ds_save", p, field, out); };
    CheckpointFiles files;
    auto& weights = files[kWeights];
    for (const Param& p : params_->all())
        if (!p.code && !is_of_teacher(p)) weights.push_back(tensor_of(*whole_, read, p, {Field::weight}, p.name, p.shape));
    if (!weights_only && (*ranks_)[0].params->has_state()) {
        auto& state = files[kOptimizer];
        for (const Param& p : params_->all())
            for (size_t i = 0; i < p.state_defs.size(); ++i)
                state.push_back(tensor_of(*whole_, read, p, {Field::state, i}, state_name(p, p.state_defs[i]), p.state_defs[i].shape));
    }
    Json state = {{"engine_format", kFormat}, {"client_state", options.value("client_state", Json())}, {"weights_only", weights_only}};
    if (!coded_.empty()) { DS_TRY(state["coded"], coded_checksums()); }
    if (!weights_only) {
        state["counters"] = counters_.save();
        state["seed"] = config_.seed;
        state["curve"] = record_.save_curves();
        state["efficiency"] = save_growth();
        state["optimizer"] = options_.optimizer ? "host" : config_.optimizer.type;
        if (schedule_) state["schedule"] = schedule_->state();
        if (scaler_) state["loss_scale"] = scaler_->state();
        if (!data_.expired()) {
            state["data"] = cursor;
            state["data_ended"] = data_end_ && data_end_->cursor == cursor;
        }
    }
    if (!async) return end_of_reads("ds_save", save_checkpoint(std::filesystem::path(dir), name, state, files));
    Status begun = check_tag(name);
    if (begun.ok())
        begun = background_save_.start(std::filesystem::path(dir), name, std::move(state), std::move(files), (*ranks_)[0].workers);
    return end_of_reads("ds_save", std::move(begun));
}

// Where the data stands: once where all processes say the same.
Result<Json> Engine::saved_cursor() {
    Json mine;
    Status status;
    if (const auto data = data_.lock()) {
        if (auto saved = data->save(); saved.ok()) mine = std::move(*saved);
        else status = saved.status();
    }
    if (job_.alone()) return status.ok() ? Result<Json>(mine) : status;
    DS_CHECK(job_.agree("ds_save", status));
    DS_TRY(const std::vector<std::string> all, job_.exchange("ds_save", mine.dump()));
    if (std::all_of(all.begin(), all.end(), [&](const std::string& other) { return other == all.front(); })) return mine;
    Json each = Json::array();
    for (const std::string& text : all) each.push_back(Json::parse(text));
    return Json{{kEach, each}};
}

Status Engine::restore_cursor(DataSource& data, const Json& cursor) const {
    if (!cursor.is_object() || !cursor.contains(kEach)) return data.restore(cursor);
    const Json& each = cursor[kEach];
    const auto processes = static_cast<size_t>(job_.processes()), process = static_cast<size_t>(job_.process());
    if (each.size() != processes)
        return fail(Code::E_STATE,
                    "the cursor of the host's data source was saved by {} processes, each at its own place; now there are {}", each.size(),
                    processes);
    return data.restore(each[process]);
}

// The writer asks for one field after the other; everybody gives what it holds of it.
Status Engine::read_whole(std::string_view call, const Param& p, Field field, float* out) const {
    if (!job_.alone())
        DS_CHECK(job_.exchange(call, fmt::format("{} {} {}", static_cast<int>(field.kind), field.index, p.name), true).status());
    return whole_->read(p, field, out);
}

Status Engine::read_for_writer(std::string_view call) {
    std::vector<float> out;
    for (;;) {
        DS_TRY(const std::vector<std::string> all, job_.exchange(call, "", true));
        const std::string& asked = all[0];
        if (asked.starts_with("end ")) {
            const size_t space = asked.find(' ', 4);
            const auto code = static_cast<Code>(std::stoi(asked.substr(4, space - 4)));
            return static_cast<int>(code) < 0 ? fail(code, "process 0: {}", asked.substr(space + 1)) : ok();
        }
        const size_t one = asked.find(' '), two = asked.find(' ', one + 1);
        const Param* p = two == asked.npos ? nullptr : params_->find(asked.substr(two + 1));
        if (!p) return fail(Code::E_INTERNAL, "{}: process 0 asked for {}", call, asked);
        const Field field{static_cast<Field::Kind>(std::stoi(asked.substr(0, one))),
                          static_cast<size_t>(std::stoul(asked.substr(one + 1, two - one - 1)))};
        out.resize(static_cast<size_t>(WholeParams::count(*p, field)));
        DS_CHECK(whole_->read(*p, field, out.data()));
    }
}

Status Engine::end_of_reads(std::string_view call, Status status) {
    if (job_.alone()) return status;
    const Status told = job_.exchange(call, fmt::format("end {} {}", static_cast<int>(status.code()), status.message()), true).status();
    return status.ok() ? told : status;
}

// After a failure, among the processes as they are now.
Status Engine::rejoin() {
    DS_TRY(const bool anew, job_.rejoin());
    return anew ? compare_with_others() : ok();
}

// All processes load the same checkpoint, or none does.
Status Engine::load(std::string_view dir, std::optional<std::string_view> tag, std::string_view options_json) {
    const Status saved = background_save_.wait();
    if (job_.alone()) DS_CHECK(saved);
    DS_TRY(const Json options, options_of(options_json, "ds_load", {"weights_only"}));
    DS_TRY(const bool only_weights, flag_of(options, "ds_load", "weights_only"));
    DS_CHECK(rejoin());
    if (Status all = job_.agree("ds_load", saved); !all.ok()) {
        if (!job_.failed()) return all;
        DS_CHECK(rejoin());  // the others had heard of a failure before
        DS_CHECK(job_.agree("ds_load", saved));
    }
    const Spread spread = [this](int64_t n, const std::function<void(int64_t)>& f) {
        std::atomic<int64_t> next{0};
        (*ranks_)[0].workers.run([&](Team) {
            for (int64_t i = next.fetch_add(1); i < n; i = next.fetch_add(1)) f(i);
        });
    };
    const auto checkpoint = open_checkpoint(std::filesystem::path(dir), tag ? std::optional<std::string>(*tag) : std::nullopt, spread);
    DS_CHECK(job_.agree("ds_load", checkpoint.status()));
    if (job_.alone()) return load_here(*checkpoint, only_weights, spread);
    DS_TRY(const std::vector<std::string> found,
           job_.exchange("ds_load", checkpoint->folder().filename().string() + "\n" + checkpoint->state().dump()));
    for (size_t p = 0; p < found.size(); ++p)
        if (found[p] != found[0])
            return fail(
                Code::E_STATE,
                "ds_load: process {} found another checkpoint in {} than process 0 ({} and {}): all processes must see the same files", p,
                dir, found[p].substr(0, found[p].find('\n')), found[0].substr(0, found[0].find('\n')));
    Status all = job_.agree("ds_load", load_here(*checkpoint, only_weights, spread));
    broken_ |= !all.ok();  // some have loaded it, others not
    return all;
}

Status Engine::load_here(const Checkpoint& checkpoint, bool only_weights, const Spread& spread) {
    const Json& state = checkpoint.state();
    if (state.value("engine_format", 0) != kFormat)
        return fail(Code::E_UNSUPPORTED, "{}: engine_format {} is not one this version reads; it reads {}", checkpoint.folder().string(),
                    state.value("engine_format", 0), kFormat);
    const bool weights_only = state.value("weights_only", false) || only_weights;
    const SafetensorsFile* moments = weights_only ? nullptr : checkpoint.file(kOptimizer);

    // Everything is checked before anything changes.
    const Json coded = state.value("coded", Json::object());
    DS_CHECK(check_coded(coded, checkpoint.folder().string()));
    std::set<std::string> masks;  // of compression; a checkpoint from before it has none
    for (const Param& p : params_->all()) {
        if (is_of_teacher(p) || (is_compression_tensor(p.name) && !checkpoint.tensor(kWeights, p.name).ok())) continue;
        if (is_compression_tensor(p.name)) masks.insert(p.name);
        if (coded.contains(p.name)) continue;
        DS_TRY(const TensorView* view, checkpoint.tensor(kWeights, p.name));
        if (view->shape != p.shape)
            return fail(Code::E_CORRUPT, "{}: tensor {} is {}, but this model's is {}", checkpoint.folder().string(), p.name, view->shape,
                        p.shape);
        for (const StateDef& def : p.state_defs)
            if (moments) {
                const auto found = checkpoint.tensor(kOptimizer, state_name(p, def));
                if (!found.ok())
                    return fail(found.status().code(), "{}; it is of optimizer {}, and {{\"weights_only\": true}} loads the weights alone",
                                found.status().message(), state.value("optimizer", ""));
                const TensorView* moment = *found;
                if (moment->shape != def.shape)
                    return fail(Code::E_CORRUPT, "{}: tensor {} is {}, but this optimizer's is {}", checkpoint.folder().string(),
                                state_name(p, def), moment->shape, def.shape);
            }
    }
    tell_unused(checkpoint, *params_, moments && !options_.optimizer ? config_.optimizer.type : "");
    decltype(schedule_) schedule;
    if (!weights_only && state.contains("schedule") && schedule_) {
        DS_TRY(schedule, new_schedule(config_));
        DS_CHECK(schedule->restore(state["schedule"]));
    }
    decltype(scaler_) scaler = scaler_ ? std::make_unique<LossScaler>(*scaler_) : nullptr;
    if (!weights_only && state.contains("loss_scale") && scaler) DS_CHECK(scaler->restore(state["loss_scale"]));
    if (const auto data = data_.lock(); data && !weights_only && state.contains("data")) DS_CHECK(restore_cursor(*data, state["data"]));
    broken_ = true;  // until everything is in place
    if (schedule) schedule_ = std::move(schedule);
    scaler_ = std::move(scaler);

    const bool fresh = !moments && !weights_only && (*ranks_)[0].params->has_state();
    if (moments) DS_CHECK(ranks_->each([](Rank& rank) { return rank.params->need_state(); }));
    if (!weights_only) round_lows(state.at("counters").value("updates", int64_t{0}));
    Incoming incoming(*whole_);
    for (const Param& p : params_->all()) {
        if ((is_compression_tensor(p.name) && !masks.count(p.name)) || coded.contains(p.name) || is_of_teacher(p)) continue;
        DS_TRY(const TensorView* view, checkpoint.tensor(kWeights, p.name));
        DS_CHECK(incoming.add(p, {Field::weight}, *view));
        for (size_t i = 0; i < p.state_defs.size(); ++i) {
            if (moments) {
                DS_TRY(const TensorView* moment, checkpoint.tensor(kOptimizer, state_name(p, p.state_defs[i])));
                DS_CHECK(incoming.add(p, {Field::state, i}, *moment));
            } else if (fresh) {
                const std::vector<float> initial(static_cast<size_t>(WholeParams::count(p, {Field::state, i})), p.state_defs[i].initial);
                DS_CHECK(whole_->write(p, {Field::state, i}, initial.data()));
            }
        }
    }
    incoming.copy(spread);
    if (incoming.any())
        for (const Param& p : (*ranks_)[0].params->all()) DS_CHECK((*ranks_)[0].params->refresh_low(p));
    if (!weights_only) {
        counters_.restore(state.at("counters"));
        record_.restore_curves(state.value("curve", Json::object()));
        DS_CHECK(restore_growth(state.value("efficiency", Json::object())));
        if (data_.expired()) pending_data_ = state.value("data", Json());
        data_end_.reset();
        if (state.value("data_ended", false)) data_end_ = DataEnd{nullptr, state.value("data", Json())};
    }
    client_state_ = state.value("client_state", Json());
    clear_gradients();
    pending_.reset();
    last_.reset();
    DS_CHECK(compression_.make_masks(*params_, *whole_, masks));
    follow_compression();
    broken_ = false;
    publish();
    return ok();
}

void Engine::attach_data(std::weak_ptr<DataSource> data) {
    data_ = std::move(data);
    if (const auto source = data_.lock()) {
        const int64_t batches = source->batches_per_epoch().value_or(0);
        metrics_.put("steps_per_epoch", static_cast<double>(config_.steps_per_epoch.value_or((batches + config_.batch.accumulation - 1) /
                                                                                             config_.batch.accumulation)));
    }
    // A checkpoint that was loaded before its data was opened.
    if (const auto source = data_.lock(); source && !pending_data_.is_null()) {
        if (const Status status = restore_cursor(*source, pending_data_); !status.ok())
            log(Level::warn, "data", "the checkpoint's cursor does not fit this data and is not used: {}", status.message());
        pending_data_ = Json();
    }
}

Status Engine::export_folder(std::string_view dir_view, std::string_view options_json) {
    DS_TRY(const Json options, options_of(options_json, "ds_export", {"dtype", "max_shard_bytes", "adapter", "quantized"}));
    DS_TRY(const bool adapter_only, flag_of(options, "ds_export", "adapter"));
    DS_TRY(const bool quantized, flag_of(options, "ds_export", "quantized"));
    if (quantized && adapter_only) return fail(Code::E_INVALID_ARGUMENT, "ds_export: options quantized and adapter exclude each other");
    if (adapter_only && !adapters_)
        return fail(Code::E_STATE, "ds_export: option adapter: this engine has no adapters; the config's \"lora\" makes some");
    if (!model_) return fail(Code::E_UNSUPPORTED, "ds_export: a host's own graph has no Hugging Face form; ds_save keeps its weights");
    DType dtype = DType::f32;
    if (options.contains("dtype")) {
        const auto wanted = options["dtype"].is_string() ? parse_float_dtype(options["dtype"]) : std::nullopt;
        if (!wanted || size_of(*wanted) > 4)
            return fail(Code::E_INVALID_ARGUMENT, "ds_export: dtype must be f32, bf16 or f16, not {}", options["dtype"].dump());
        dtype = *wanted;
    }
    const Json shard = options.value("max_shard_bytes", Json(uint64_t{5} << 30));
    if (!shard.is_number_unsigned() || shard.get<uint64_t>() == 0 || shard.get<uint64_t>() > INT64_MAX)
        return fail(Code::E_INVALID_ARGUMENT, "ds_export: max_shard_bytes must be a whole number of bytes above 0, not {}", shard.dump());
    DS_CHECK(usable());
    if (!job_.writes_files()) return read_for_writer("ds_export");
    return end_of_reads("ds_export", export_here(std::filesystem::path(dir_view), dtype, shard.get<int64_t>(), adapter_only, quantized));
}

Status Engine::export_here(const std::filesystem::path& dir, DType dtype, int64_t shard_bytes, bool adapter_only, bool quantized) {
    const ReadWhole read = [this](const Param& p, Field field, float* out) { return read_whole("ds_export", p, field, out); };
    std::error_code error;
    std::filesystem::create_directories(dir, error);
    if (error) return fail(Code::E_IO, "ds_export: {}: cannot create the folder: {}", dir.string(), error.message());
    if (adapter_only) return export_adapter(dir, dtype);
    std::vector<NamedTensor> tensors;
    Json config = model_config_;
    const ExportSource source{*params_, [&](const Param& p, float* out) { return read(p, {Field::weight}, out); }, *program_,
                              smallest_key()};
    DS_TRY(const auto compressed, compressed_weights(compression_.spec(), counters_.updates, source, config));
    config.erase("quantization_config");
    std::map<std::string, CodedModule> in_few_bits;
    if (quantized) {
        DS_TRY(in_few_bits, coded_.empty() ? coded_compressed_weights(compression_.spec(), counters_.updates, source) : coded_modules());
        DS_CHECK(drop_what_has_no_form(in_few_bits));
        config["quantization_config"] = coded_folder_config(in_few_bits);
    }
    for (const auto& [module, coded] : in_few_bits) add_coded_tensors(module, coded, tensors);
    for (const Param& p : params_->all()) {
        if (is_compression_tensor(p.name) || is_of_teacher(p)) continue;  // the former are in what they mask
        if (p.name.ends_with(".weight") && in_few_bits.contains(p.name.substr(0, p.name.size() - 7))) continue;
        if (const auto found = compressed.find(p.name); found != compressed.end()) {
            const HostTensor* weight = &found->second;
            tensors.push_back({p.name, dtype, weight->shape, nullptr, [weight, dtype](const ChunkWriter& write) {
                                   const HostTensor as = weight->to(dtype);
                                   return write({static_cast<const std::byte*>(as.data), static_cast<size_t>(as.bytes())});
                               }});
            continue;
        }
        if (is_adapter_tensor(p.name)) continue;  // merged into what they change
        NamedTensor tensor = tensor_of(*whole_, read, p, {Field::weight}, p.name, p.shape);
        if (params_->find(adapter_tensor(std::string(p.name.substr(0, p.name.rfind('.'))), 'A')) && p.name.ends_with(".weight")) {
            tensor.dtype = dtype;
            tensor.data = nullptr;
            tensor.source = [this, &p, dtype](const ChunkWriter& write) -> Status {
                DS_TRY(const HostTensor whole, merged_weight(p));
                const HostTensor merged = whole.to(dtype);
                return write({static_cast<const std::byte*>(merged.data), static_cast<size_t>(merged.bytes())});
            };
        } else if (dtype != DType::f32) {
            tensor.dtype = dtype;
            tensor.data = nullptr;
            tensor.source = [this, read, &p, dtype](const ChunkWriter& write) { return write_as(*whole_, read, p, dtype, write); };
        }
        tensors.push_back(std::move(tensor));
    }
    DS_CHECK(write_weights(dir, tensors, shard_bytes));
    config["dtype"] = dtype == DType::f32 ? "float32" : dtype == DType::bf16 ? "bfloat16" : "float16";
    config.erase("torch_dtype");
    if (model_->task == Task::sequence_classification || model_->task == Task::token_classification) write_label_names(config);
    DS_CHECK(write_file_atomically(dir / "config.json", config.dump(2) + "\n"));
    return copy_tokenizer(dir);
}

// A weight that the form can't tell is written whole.
Status Engine::drop_what_has_no_form(std::map<std::string, CodedModule>& modules) const {
    if (modules.empty())
        return fail(Code::E_STATE,
                    "ds_export: option quantized: no weight of this engine is in few bits; quantization in the config makes them so, or "
                    "compression_training.weight_quantization once it is on");
    if (adapters_)
        return fail(Code::E_UNSUPPORTED, "ds_export: option quantized: not built for an engine with lora, whose merged weights are whole");
    std::erase_if(modules, [](const auto& entry) {
        const auto what = lacks(entry.second);
        if (what) log(Level::warn, "export", "{}.weight is written whole: it has {}", entry.first, *what);
        return what.has_value();
    });
    return ok();
}

std::vector<std::string> Engine::label_names() const {
    std::vector<std::string> names;
    const Json given = model_ && model_config_.is_object() ? model_config_.value("id2label", Json()) : Json();
    for (int64_t i = 0; given.is_object() && i < model_->labels; ++i) {
        const Json name = given.value(std::to_string(i), Json());
        if (!name.is_string()) return {};
        names.push_back(name.get<std::string>());
    }
    return names;
}

// transformers reads the number of labels from id2label. What the data calls its classes goes before what the folder called them: it was
// trained on.
void Engine::write_label_names(Json& config) const {
    config.erase("num_labels");
    Json names = Json::object(), ids = Json::object();
    std::vector<std::string> known;
    if (const auto data = data_.lock()) known = data->label_names();
    const bool told = static_cast<int64_t>(known.size()) == model_->labels;
    if (!told && !label_names().empty()) return;
    for (int64_t i = 0; i < model_->labels; ++i) {
        const std::string name = static_cast<size_t>(i) < known.size() ? known[static_cast<size_t>(i)] : fmt::format("LABEL_{}", i);
        names[std::to_string(i)] = name;
        ids[name] = i;
    }
    config["id2label"] = names;
    config["label2id"] = ids;
}

Status Engine::copy_tokenizer(const std::filesystem::path& dir) const {
    std::filesystem::path from = config_.tokenizer.empty() ? model_folder_ : config_.tokenizer;
    if (from.empty()) return ok();
    const std::filesystem::path given = from;
    if (!std::filesystem::is_directory(from)) from = from.parent_path();
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt",
                             "added_tokens.json", "spiece.model", "tokenizer.model", "generation_config.json"}) {
        std::error_code error;
        if (!std::filesystem::exists(from / name) || std::filesystem::equivalent(from, dir, error)) continue;
        DS_TRY(const std::string contents, read_file(from / name));
        DS_CHECK(write_file_atomically(dir / name, contents));
    }
    // A file of another name gets the one under which folders are read.
    for (const auto& [ending, name] : {std::pair{".json", "tokenizer.json"}, {".txt", "vocab.txt"}, {".model", "tokenizer.model"}})
        if (!std::filesystem::is_directory(given) && given.extension() == ending && given.filename() != name &&
            given.filename() != "spiece.model") {
            DS_TRY(const std::string contents, read_file(given));
            DS_CHECK(write_file_atomically(dir / name, contents));
        }
    return ok();
}

}  // namespace ds
