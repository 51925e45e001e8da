// One engine of several: what the processes of a job tell each other, so that all of them go on, or none.
#include <algorithm>
#include <cstring>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/file.h"
#include "base/log.h"
#include "engine/engine.h"
#include "kernels/cpu/level.h"

namespace ds {
namespace {

// Keys that may differ from process to process.
constexpr const char* kOwn[] = {"threads", "logger", "comm.secret_file", "comm.interface", "dump_state", "tokenizer", "model", "data", "steps_per_print", "wall_clock_breakdown",
                                "zero_optimization.offload_optimizer.nvme_path", "zero_optimization.offload_param.nvme_path"};

std::string hash_of(std::string_view text) { return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size())); }

std::string hash_of(const Batch& batch) {
    XXH3_state_t* state = XXH3_createState();
    XXH3_64bits_reset(state);
    for (const auto& [name, tensor] : batch) {
        const std::string head = fmt::format("{} {} {}\n", name, name_of(tensor.dtype), tensor.shape);
        XXH3_64bits_update(state, head.data(), head.size());
        XXH3_64bits_update(state, tensor.data, static_cast<size_t>(tensor.bytes()));
    }
    const uint64_t digest = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return fmt::format("{:016x}", digest);
}

std::string short_text(const Json& value) {
    const std::string text = value.dump();
    return text.size() <= 80 ? text : text.substr(0, 60) + "... (" + hash_of(text) + ")";
}

// Every leaf of an object by its path.
void flatten(const Json& value, const std::string& path, std::map<std::string, std::string>& out) {
    if (std::find(std::begin(kOwn), std::end(kOwn), path) != std::end(kOwn)) return;
    if (!value.is_object() || value.empty()) {
        out[path] = short_text(value);
        return;
    }
    for (const auto& [key, item] : value.items()) flatten(item, path.empty() ? key : path + "." + key, out);
}

}  // namespace

JoinOptions Engine::join_options(const Launch& launch) const {
    const CommConfig& comm = config_.comm;
    return {config_.distributed, launch, options_.mpi, comm.deadline_seconds, comm.join_seconds, comm.heartbeat_seconds, comm.secret_file, comm.interface};
}

Status Engine::join(const Launch& launch) {
    launch_ = launch;
    const CommConfig& comm = config_.comm;
    log(Level::debug, "comm", "process {} of {}; deadline {} s, joining {} s, heartbeat {} s, secret {}, interface {}", launch.rank, config_.processes, comm.deadline_seconds, comm.join_seconds,
        comm.heartbeat_seconds, comm.secret_file.empty() ? "of the environment or none" : "in " + comm.secret_file, comm.interface.empty() ? "any" : comm.interface);
    if (config_.distributed == "host" && !options_.communicator) return fail(Code::E_CONFIG, "distributed: host needs a communicator in the options (ds_options_set_communicator)");
    if (config_.distributed == "none" || config_.processes == 1) {
        transport_.reset();
        return ok();
    }
    if (transport_) {
        world_ = join_through(std::move(transport_), join_options(launch));
        return ok();
    }
    DS_TRY(world_, join_job(join_options(launch)));
    if (world_->processes() != config_.processes)
        return fail(Code::E_COMM, "distributed: {} says that there are {} processes, but the job that was joined has {}{}", launch.by, config_.processes, world_->processes(),
                    world_->processes() == 1 ? "; under Slurm, start MPI programs with srun --mpi=pmix" : "");
    return ok();
}

void Engine::end_job() {
    std::lock_guard lock(world_mutex_);
    if (world_) world_->abort(fail(Code::E_CANCELLED, "the engine of process {} was destroyed during a call", world_->process()));
}

// A new job of the same processes after the old one has ended.
Status Engine::rejoin() {
    if (!world_ || !world_->failed()) return ok();
    if (options_.communicator || options_.mpi || backend_of(join_options(launch_)) != "gloo")
        return fail(Code::E_COMM, "ds_load: the job has ended ({}) and this backend can't join anew; start the processes again", world_->failure().message());
    static_cast<void>(ranks_->connect(nullptr));
    const Status before = world_->failure();
    {
        std::lock_guard lock(world_mutex_);
        world_.reset();
    }
    auto joined = join_job(join_options(launch_));
    if (!joined.ok()) {
        auto ended = memory_transports(config_.processes);  // a world in which nobody answers, so that the engine keeps saying that it has none
        std::lock_guard lock(world_mutex_);
        world_ = World::over(std::move(ended[static_cast<size_t>(launch_.rank)]), std::chrono::milliseconds(1));
        world_->abort(before);
        static_cast<void>(ranks_->connect(world_));
        return std::move(joined).status().within("ds_load: joining anew");
    }
    {
        std::lock_guard lock(world_mutex_);
        world_ = std::move(*joined);
    }
    DS_CHECK(ranks_->connect(world_));
    return compare_with_others();
}

// Launchers tell it; where none did, the processes tell each other where they are.
Result<int> Engine::processes_before() {
    if (!world_) return 0;
    if (launch_.local_size) return launch_.local_rank;
    char name[256] = {};
    ::gethostname(name, sizeof name - 1);
    const auto boot = read_file("/proc/sys/kernel/random/boot_id", 4096);  // hosts may share a name
    DS_TRY(const std::vector<std::string> all, world_->exchange("hosts of processes", std::string(name) + " " + (boot.ok() ? *boot : "")));
    const auto me = all.begin() + world_->process();
    return static_cast<int>(std::count(all.begin(), me, *me));
}

// Processes hold different rows or the same ones.
Status Engine::check_layout() const {
    for (int p = 0; p < config_.processes; ++p)
        for (int q = 0; q < p; ++q) {
            const std::vector<int> a = ranks_->data_ranks(p), b = ranks_->data_ranks(q);
            if (a == b) continue;
            for (const int d : a)
                if (std::find(b.begin(), b.end(), d) != b.end())
                    return fail(Code::E_CONFIG, "parallel: with tensor {} x sequence {} and local_ranks {}, data rank {} lies in the processes {} and {}, which also have other ones; processes must share all of their data ranks or none",
                                ranks_->extent(MeshAxis::tensor), ranks_->extent(MeshAxis::sequence), ranks_->size(), d, q, p);
        }
    return ok();
}

Status Engine::compare_with_others() {
    if (!world_) return ok();
    std::map<std::string, std::string> mine{{"the library", std::string("format 1, compiler ") + __VERSION__},
                                            {"the processor's instructions (DSRT_CPU=avx2 would make them alike)", cpu::name_of(cpu::level())}};
    mine["where ranks compute (device)"] = (*ranks_)[0].device ? "cuda" : "cpu";
    flatten(config_.effective, "", mine);
    mine["the model's config.json"] = hash_of(model_config_.dump());
    for (const ParamInfo& info : infos_) mine["parameter " + info.name] = fmt::format("{}{}", info.shape, info.trainable ? "" : " frozen");
    mine["options: an optimizer of the host's"] = options_.optimizer ? "given" : "none";
    Json json = Json::object();
    for (const auto& [key, value] : mine) json[key] = value;
    DS_TRY(const std::vector<std::string> all, world_->exchange("ds_engine_create", json.dump()));
    Status found;
    for (size_t p = 1; p < all.size() && found.ok(); ++p) {  // every process compares with the first, so all find the same
        const Json first = Json::parse(all[0]), other = Json::parse(all[p]);
        for (const auto& [key, value] : other.items())
            if (!first.contains(key) || first[key] != value) {
                found = fail(Code::E_CONFIG, "distributed: process {} differs from process 0 in {}: {} and {}", p, key, value.get<std::string>(), first.value(key, "nothing"));
                break;
            }
        for (const auto& [key, value] : first.items())
            if (found.ok() && !other.contains(key)) found = fail(Code::E_CONFIG, "distributed: process {} differs from process 0 in {}: nothing and {}", p, key, value.get<std::string>());
    }
    return found;
}

void Engine::note_loaded(const Param& p, const float* whole) {
    if (world_) loaded_[p.name] = XXH3_64bits(whole, static_cast<size_t>(elements(p.shape)) * 4);
}

// Every process reads all weights, whatever its ranks keep of them: they must have read the same.
Status Engine::compare_weights() {
    if (!world_) return ok();
    const Json mine = std::exchange(loaded_, {});
    DS_TRY(const std::vector<std::string> all, world_->exchange("ds_engine_create", mine.dump()));
    const Json first = Json::parse(all[0]);
    for (size_t p = 1; p < all.size(); ++p) {
        const Json other = Json::parse(all[p]);
        for (const auto& [name, hash] : other.items())
            if (first.value(name, Json()) != hash)
                return fail(Code::E_CONFIG, "distributed: process {} begins with other values of {} than process 0: they read different model files", p, name);
    }
    return ok();
}

Status Engine::agree(std::string_view call, const Status& mine) {
    if (!world_) return mine;
    const bool cancelled = options_.cancel && options_.cancel->on();
    const Json said = {{"code", static_cast<int>(mine.code())}, {"message", mine.message()}, {"cancelled", cancelled}};
    DS_TRY(const std::vector<std::string> all, world_->exchange(call, said.dump(-1, ' ', false, Json::error_handler_t::replace)));
    if (!mine.ok()) return mine;
    for (size_t p = 0; p < all.size(); ++p) {
        const Json other = Json::parse(all[p]);
        const auto code = other["code"].get<int>();
        if (code < 0) return fail(Code::E_COMM, "process {}: {}: {}", p, code_name(static_cast<Code>(code)), other["message"].get<std::string>());
        if (other["cancelled"] == true) return fail(Code::E_CANCELLED, "the call was cancelled{}", cancelled ? "" : fmt::format(" in process {}", p));
        if (code != static_cast<int>(mine.code()))
            return fail(Code::E_COMM, "{}: process {} came to {} where process {} came to {}: all processes must be given as much data", call, p, code_name(static_cast<Code>(code)), world_->process(),
                        code_name(mine.code()));
    }
    return ok();
}

Result<int64_t> Engine::agree_on_rows(std::string_view call, const Batch& batch, const Result<int64_t>& rows, bool& wants_loss) {
    const bool cancelled = options_.cancel && options_.cancel->on();
    const Json said = {{"rows", rows.ok() ? *rows : 0}, {"batch", hash_of(batch)}, {"code", static_cast<int>(rows.status().code())}, {"message", rows.status().message()}, {"cancelled", cancelled},
                       {"wants_loss", wants_loss}};
    DS_TRY(const std::vector<std::string> all, world_->exchange(call, said.dump(-1, ' ', false, Json::error_handler_t::replace)));
    DS_CHECK(rows.status());
    std::vector<Json> said_by;
    for (const std::string& text : all) said_by.push_back(Json::parse(text));
    std::vector<int64_t> rows_of_data(static_cast<size_t>(ranks_->extent(MeshAxis::data)), 0), rows_of_processes;
    std::map<int, size_t> who;  // the first process of each data rank
    for (size_t p = 0; p < said_by.size(); ++p) {
        const Json& other = said_by[p];
        if (other["code"].get<int>() < 0) return fail(Code::E_COMM, "process {}: {}: {}", p, code_name(static_cast<Code>(other["code"].get<int>())), other["message"].get<std::string>());
        if (other["cancelled"] == true) return fail(Code::E_CANCELLED, "the call was cancelled{}", cancelled ? "" : fmt::format(" in process {}", p));
        wants_loss |= other["wants_loss"].get<bool>();
        rows_of_processes.push_back(other["rows"].get<int64_t>());
        const std::vector<int> data = ranks_->data_ranks(static_cast<int>(p));
        const auto [known, fresh] = who.try_emplace(data.front(), p);
        if (!fresh && said_by[known->second]["batch"] != other["batch"])
            return fail(Code::E_INVALID_ARGUMENT, "{}: the processes {} and {} share data rank {} but were given different batches; they must pass the same rows", call, known->second, p, data.front());
        for (size_t i = 0; i < data.size(); ++i)
            rows_of_data[static_cast<size_t>(data[i])] = near_even(other["rows"].get<int64_t>(), static_cast<int64_t>(i), static_cast<int64_t>(data.size())).size();
    }
    DS_CHECK(check_rows(call, rows_of_processes));
    int64_t first = 0;
    for (int d = 0; d < ranks_->data_ranks().front(); ++d) first += rows_of_data[static_cast<size_t>(d)];
    return first;
}

// A data rank without rows computes along on another's, which must be of the same process.
Status Engine::check_rows(std::string_view call, const std::vector<int64_t>& rows_of_processes) const {
    if (ranks_->extent(MeshAxis::data) == 1 || !ranks_run_together()) return ok();
    for (size_t p = 0; p < rows_of_processes.size(); ++p)
        if (rows_of_processes[p] == 0)
            return fail(Code::E_INVALID_ARGUMENT, "{}: process {} has no rows, but all processes must take part in a pass: ZeRO 2 and 3, experts and statistics of a batch exchange in it", call, p);
    return ok();
}

// What every process needs to know of the rows of the others: their weight in the loss.
Status Engine::share_figures(std::string_view call, std::vector<Packed>& packed, const Status& mine) {
    if (static_cast<size_t>(ranks_->extent(MeshAxis::data)) == ranks_->data_ranks().size()) return ok();  // every process packs all rows
    Json said = {{"code", static_cast<int>(mine.code())}, {"message", mine.message()}, {"parts", Json::array()}};
    if (mine.ok())
        for (const int d : ranks_->data_ranks()) {
            const Packed& p = packed[static_cast<size_t>(d)];
            said["parts"].push_back({d, p.shape.rows, p.grid.empty() ? p.shape.rows : p.grid[0], p.label_count, p.part_weight, p.labels ? 1 : 0, p.tokens, p.shape.tokens});
        }
    DS_TRY(const std::vector<std::string> all, world_->exchange(call, said.dump(-1, ' ', false, Json::error_handler_t::replace)));
    DS_CHECK(mine);
    const std::vector<int> here = ranks_->data_ranks();
    for (size_t p = 0; p < all.size(); ++p) {
        const Json other = Json::parse(all[p]);
        if (other["code"].get<int>() < 0) return fail(Code::E_COMM, "process {}: {}: {}", p, code_name(static_cast<Code>(other["code"].get<int>())), other["message"].get<std::string>());
        for (const Json& part : other["parts"]) {
            const int d = part[0].get<int>();
            if (std::find(here.begin(), here.end(), d) != here.end()) continue;
            Packed& to = packed[static_cast<size_t>(d)];
            to.shape.rows = part[1].get<int64_t>();
            to.grid = {part[2].get<int64_t>()};
            to.label_count = part[3].get<int64_t>();
            to.part_weight = part[4].get<int64_t>();
            to.labels = part[5].get<int>() != 0;
            to.shape.labels = to.labels;
            to.tokens = part[6].get<int64_t>();
            to.shape.tokens = part[7].get<int64_t>();
        }
    }
    return ok();
}

// With a pipeline, only the processes that have a certain stage have an output; the others get it along the pipeline. parts: of data ranks of this process.
Status Engine::share_outputs(std::map<int, OutputPart>& parts, bool& nobody_has_it) {
    Json said = Json::array();
    for (const auto& [d, part] : parts) said.push_back({d, part.stage, part.value.shape});
    DS_TRY(const std::vector<std::string> all, world_->exchange("ds_output", said.dump()));
    std::map<int, std::pair<int, Shape>> holders;  // of each data rank: the stage that has its rows, and their shape
    for (const std::string& text : all)
        for (const Json& part : Json::parse(text)) holders[part[0].get<int>()] = {part[1].get<int>(), part[2].get<Shape>()};
    nobody_has_it = holders.empty();
    const Mesh& mesh = ranks_->mesh();
    const int here = ranks_->size(), me = world_->process();
    constexpr int64_t tag = int64_t{1} << 34;
    for (int p = 0; p < world_->processes(); ++p)
        for (const auto& [d, held] : holders) {
            // The first rank of process p that works for this data rank gets it from the rank beside it in that stage.
            Coordinates to{};
            bool works = false, has = false;
            for (int i = here - 1; i >= 0; --i) {
                const Coordinates place = mesh.place(p * here + i);
                if (ds::at(place, MeshAxis::data) != d) continue;
                to = place, works = true;
                has |= ds::at(place, MeshAxis::pipeline) == held.first;
            }
            if (!works || has) continue;
            Coordinates from = to;
            from[static_cast<size_t>(MeshAxis::pipeline)] = held.first;
            const auto line = [&](const Coordinates& place) -> Communicator& { return ranks_->at(place).links.axis[static_cast<size_t>(MeshAxis::pipeline)]->for_host_memory(); };
            if (p == me) {
                parts[d] = {held.first, HostTensor::zeros(DType::f32, held.second)};
                DS_CHECK(line(to).receive(held.first, tag, {parts[d].value.data, parts[d].value.bytes()}));
            } else if (mesh.rank(from) / here == me) {
                DS_CHECK(line(from).send(ds::at(to, MeshAxis::pipeline), tag, {parts.at(d).value.data, parts.at(d).value.bytes()}));
            }
        }
    if (world_->wants_caller()) world_->serve([] { return true; });
    return ok();
}

Result<std::vector<double>> Engine::of_all(std::string_view call, const std::vector<std::pair<int, double>>& mine, size_t size) const {
    std::vector<double> out(size, 0.0);
    const auto take = [&](std::string_view bytes) {
        for (size_t at = 0; at + 16 <= bytes.size(); at += 16) {
            int64_t place = 0;
            double value = 0;
            std::memcpy(&place, bytes.data() + at, 8);
            std::memcpy(&value, bytes.data() + at + 8, 8);
            if (place >= 0 && static_cast<size_t>(place) < size) out[static_cast<size_t>(place)] = value;
        }
    };
    std::string bytes;
    for (const auto& [place, value] : mine) {
        const int64_t wide = place;
        bytes.append(reinterpret_cast<const char*>(&wide), 8).append(reinterpret_cast<const char*>(&value), 8);
    }
    if (!world_) return take(bytes), out;
    DS_TRY(const std::vector<std::string> all, world_->exchange(call, std::move(bytes)));
    for (const std::string& part : all) take(part);
    return out;
}

// Rows that every process was given fall to data ranks as they would in one process; where some rank would have none, every process computes all of them.
Interval Engine::own_rows(int64_t rows) const { return rows_of_process(rows, world_ ? world_->process() : 0); }

Interval Engine::rows_of_process(int64_t rows, int process) const {
    const std::vector<int> its = ranks_->data_ranks(process);
    const int64_t all = ranks_->extent(MeshAxis::data);
    if (!world_ || rows < all) return {0, rows};
    return {near_even(rows, its.front(), all).begin, near_even(rows, its.back(), all).end};
}

Result<HostTensor> Engine::of_all_rows(std::string_view call, const HostTensor& mine, int64_t rows) const {
    const std::vector<int> holders = ranks_->row_holders();
    if (holders.size() == 1 || own_rows(rows).size() == rows) return mine;
    const auto row_bytes = static_cast<size_t>(mine.bytes() / own_rows(rows).size());
    std::vector<size_t> bytes(static_cast<size_t>(world_->processes()), 0);
    for (const int p : holders) bytes[static_cast<size_t>(p)] = row_bytes * static_cast<size_t>(rows_of_process(rows, p).size());
    DS_TRY(const std::vector<std::string> parts, collect(call, {static_cast<const char*>(mine.data), static_cast<size_t>(mine.bytes())}, bytes));
    Shape shape = mine.shape;
    shape[0] = rows;
    HostTensor all = HostTensor::zeros(mine.dtype, std::move(shape));
    auto* to = static_cast<char*>(all.data);
    for (const int p : holders) to = std::copy_n(parts[static_cast<size_t>(p)].data(), parts[static_cast<size_t>(p)].size(), to);
    return all;
}

// Any amount, in messages of a size.
Result<std::vector<std::string>> Engine::collect(std::string_view call, std::string_view mine, const std::vector<size_t>& bytes) const {
    constexpr size_t kMessage = size_t{32} << 20;
    std::vector<std::string> all(bytes.size());
    const size_t most = *std::max_element(bytes.begin(), bytes.end());
    mine = mine.substr(0, bytes[static_cast<size_t>(world_->process())]);
    for (size_t at = 0; at < most; at += kMessage) {
        DS_TRY(const std::vector<std::string> pieces, world_->exchange(call, std::string(mine.substr(std::min(at, mine.size()), kMessage))));
        for (size_t p = 0; p < all.size(); ++p) all[p] += pieces[p];
    }
    for (size_t p = 0; p < all.size(); ++p)
        if (all[p].size() != bytes[p]) return fail(Code::E_COMM, "{}: process {} sent {} bytes where {} were due", call, p, all[p].size(), bytes[p]);
    return all;
}

// Every process continues the same prompts in the same way. Whether anybody listens.
Result<bool> Engine::agree_on_prompts(const std::vector<std::vector<int32_t>>& prompts, std::string_view options, bool listens) const {
    if (!world_) return listens;
    std::string text(options);
    for (const auto& prompt : prompts) text.append("\n").append(reinterpret_cast<const char*>(prompt.data()), prompt.size() * sizeof(int32_t));
    DS_TRY(const std::vector<std::string> all, world_->exchange("ds_generate", fmt::format("{}{}", listens ? 1 : 0, hash_of(text))));
    bool any = false;
    for (size_t p = 0; p < all.size(); ++p) {
        any |= all[p].starts_with('1');
        if (all[p].substr(1) != all[0].substr(1)) return fail(Code::E_INVALID_ARGUMENT, "ds_generate: the processes 0 and {} were given different prompts or options; all must pass the same", p);
    }
    return any;
}

// The writer asks for one field after the other; everybody gives what it holds of it.
Status Engine::read_whole(std::string_view call, const Param& p, Field field, float* out) const {
    if (world_) DS_CHECK(world_->exchange(call, fmt::format("{} {} {}", static_cast<int>(field.kind), field.index, p.name), true).status());
    return whole_->read(p, field, out);
}

Status Engine::read_for_writer(std::string_view call) {
    std::vector<float> out;
    for (;;) {
        DS_TRY(const std::vector<std::string> all, world_->exchange(call, "", true));
        const std::string& asked = all[0];
        if (asked.starts_with("end ")) {
            const size_t space = asked.find(' ', 4);
            const auto code = static_cast<Code>(std::stoi(asked.substr(4, space - 4)));
            return static_cast<int>(code) < 0 ? fail(code, "process 0: {}", asked.substr(space + 1)) : ok();
        }
        const size_t one = asked.find(' '), two = asked.find(' ', one + 1);
        const Param* p = two == asked.npos ? nullptr : params_->find(asked.substr(two + 1));
        if (!p) return fail(Code::E_INTERNAL, "{}: process 0 asked for {}", call, asked);
        const Field field{static_cast<Field::Kind>(std::stoi(asked.substr(0, one))), static_cast<size_t>(std::stoul(asked.substr(one + 1, two - one - 1)))};
        out.resize(static_cast<size_t>(WholeParams::count(*p, field)));
        DS_CHECK(whole_->read(*p, field, out.data()));
    }
}

Status Engine::end_of_reads(std::string_view call, Status status) {
    if (!world_) return status;
    const Status told = world_->exchange(call, fmt::format("end {} {}", static_cast<int>(status.code()), status.message()), true).status();
    return status.ok() ? told : status;
}

}  // namespace ds
