// ds_save and ds_load.
#include <algorithm>

#include "base/json_argument.h"
#include "base/log.h"
#include "ckpt/checkpoint.h"
#include "ckpt/durable_file.h"
#include "ckpt/safetensors.h"
#include "engine/engine.h"
#include "engine/files.h"
#include "kernels/cpu/copy_far.h"

namespace ds {
namespace {

constexpr int kFormat = 1;
constexpr const char* kWeights = "weights.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kWaiting = "adapters.safetensors";  // those that are not active

std::string state_name(const Param& p, const StateDef& def) { return p.name + "/" + std::string(def.name); }

// How a field of a waiting adapter lies in its file.
struct WaitingTensor {
    std::string name;
    const Shape& shape;
};
WaitingTensor waiting_tensor(const std::string& adapter, const Param& p, Field field) {
    if (field.kind == Field::weight) return {adapter + "/" + p.name, p.shape};
    const StateDef& def = p.state_defs[field.index];
    return {adapter + "/" + state_name(p, def), def.shape};
}

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

// What a checkpoint says of adapters; one that does not has the active one alone.
Json saved_adapters(const Json& state, const Adapters& adapters) {
    if (const auto found = state.find("adapters"); found != state.end()) return *found;
    const auto updates = state.value("counters", Json::object()).value("updates", int64_t{0});
    return {{"active", adapters.active()}, {"updates", {{adapters.active(), updates}}}};
}

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
    if (adapters_) {
        state["adapters"] = adapters_->state();
        if (auto waiting = waiting_tensors(weights_only); !waiting.empty()) files[kWaiting] = std::move(waiting);
    }
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

// Every process has them whole.
std::vector<CheckpointTensor> Engine::waiting_tensors(bool weights_only) const {
    std::vector<CheckpointTensor> tensors;
    for (const auto& [adapter, had] : adapters_->waiting)
        for (const auto& [parameter, values] : had.values) {
            const Param& p = *params_->find(parameter);
            const std::vector<Field> fields = fields_of(p, !weights_only && values.size() > 1);
            for (size_t i = 0; i < fields.size(); ++i) {
                WaitingTensor tensor = waiting_tensor(adapter, p, fields[i]);
                tensors.push_back({std::move(tensor.name), DType::f32, tensor.shape, values[i].data(), {}});
            }
        }
    return tensors;
}

Result<std::map<std::string, WaitingAdapter>> Engine::waiting_adapters(const Checkpoint& checkpoint, const Json& saved,
                                                                       bool weights_only) const {
    DS_CHECK(adapters_->check(saved.at("active")));
    std::map<std::string, WaitingAdapter> waiting;
    for (const auto& [adapter, updates] : saved.at("updates").items()) {
        if (adapter == saved["active"]) continue;
        if (!adapters_->all().count(adapter)) {
            log(Level::warn, "ckpt", "{}: not used, as lora.adapters has no {}: the adapter {}", checkpoint.folder().string(), adapter,
                adapter);
            continue;
        }
        WaitingAdapter& had = waiting[adapter];
        if (!weights_only) had.updates = updates;
        for (const Param& p : params_->all()) {
            if (!p.trainable) continue;
            for (const Field& field : fields_of(p, !weights_only)) {
                const WaitingTensor tensor = waiting_tensor(adapter, p, field);
                const auto view = checkpoint.tensor(kWaiting, tensor.name);
                if (!view.ok() && field.kind == Field::state) break;  // it was not trained
                DS_CHECK(view.status());
                if ((*view)->shape != tensor.shape)
                    return fail(Code::E_CORRUPT, "{}: tensor {} is {}, but this model's is {}", checkpoint.folder().string(), tensor.name,
                                (*view)->shape, tensor.shape);
                const HostTensor values = f32_of(**view);
                had.values[p.name].emplace_back(values.as<float>().begin(), values.as<float>().end());
            }
        }
    }
    return waiting;
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
           job_.exchange("ds_load", checkpoint->folder().filename().string() + ", state " + checksum_of(checkpoint->state().dump())));
    for (size_t p = 0; p < found.size(); ++p)
        if (found[p] != found[0])
            return fail(
                Code::E_STATE,
                "ds_load: process {} found another checkpoint in {} than process 0 ({} and {}): all processes must see the same files", p,
                dir, found[p], found[0]);
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
    const Json adapters = adapters_ ? saved_adapters(state, *adapters_) : Json();
    decltype(adapters_->waiting) waiting;
    if (adapters_) { DS_TRY(waiting, waiting_adapters(checkpoint, adapters, weights_only)); }
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

    const bool other_adapter = adapters_ && adapters["active"] != adapters_->active();
    const bool fresh = !moments && (!weights_only || other_adapter) && (*ranks_)[0].params->has_state();
    if (adapters_) {
        adapters_->waiting = std::move(waiting);
        adapters_->activate(adapters["active"]);
        if (!weights_only || other_adapter)
            adapters_->updates = weights_only ? 0 : adapters["updates"].value(adapters_->active(), int64_t{0});
    }
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

void Engine::attach_data(const std::shared_ptr<DataSource>& data, Attached how) {
    const auto before = data_.lock();
    if (how == Attached::opened && before && trains_on_data_) return;
    trains_on_data_ = how == Attached::trained_on;
    if (before == data) return;
    data_ = data;
    if (auto names = data->label_names(); !names.empty()) data_label_names_ = std::move(names);
    const int64_t batches = data->batches_per_epoch().value_or(0);
    metrics_.put("steps_per_epoch", static_cast<double>(config_.steps_per_epoch.value_or((batches + config_.batch.accumulation - 1) /
                                                                                         config_.batch.accumulation)));
    // A checkpoint that was loaded before its data was opened.
    if (!pending_data_.is_null()) {
        if (const Status status = restore_cursor(*data, pending_data_); !status.ok())
            log(Level::warn, "data", "the checkpoint's cursor does not fit this data and is not used: {}", status.message());
        pending_data_ = Json();
    }
}

}  // namespace ds
