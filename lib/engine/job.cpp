#include "engine/job.h"

#include <algorithm>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "ckpt/durable_file.h"

namespace ds {
Result<Launched> Job::look() {
    Launched launched;
    if (options_.communicator) {
        transport_ = options_.communicator();
        launch_ = {.rank = transport_->rank(), .size = transport_->size()};
    } else if (options_.mpi) {
        DS_TRY(const auto seen, join_by_plugin("mpi", fmt::format(R"({{"fortran_comm": {}, "look": true}})", *options_.mpi)));
        launch_ = {.rank = seen->rank(), .size = seen->size()};
    } else if (auto launch = launch_of_this_process(); launch.ok()) {
        launch_ = std::move(*launch);
    } else {
        launched.problem = launch.status();
    }
    launched.processes = launch_.size;
    return launched;
}

JoinOptions Job::join_options() const {
    const CommConfig& comm = config_.comm;
    return {config_.distributed,    launch_,          options_.mpi,  comm.deadline_seconds, comm.join_seconds,
            comm.heartbeat_seconds, comm.secret_file, comm.interface};
}

Status Job::join() {
    const CommConfig& comm = config_.comm;
    log(Level::debug, "comm", "process {} of {}; deadline {} s, joining {} s, heartbeat {} s, secret {}, interface {}", launch_.rank,
        config_.processes, comm.deadline_seconds, comm.join_seconds, comm.heartbeat_seconds,
        comm.secret_file.empty() ? "of the environment or none" : "in " + comm.secret_file,
        comm.interface.empty() ? "any" : comm.interface);
    if (config_.distributed == "host" && !options_.communicator)
        return fail(Code::E_CONFIG, "distributed: host needs a communicator in the options (ds_options_set_communicator)");
    if (config_.distributed == "none" || config_.processes == 1) {
        transport_.reset();
        return ok();
    }
    if (transport_) {
        world_ = join_through(std::move(transport_), join_options());
        return ok();
    }
    DS_TRY(world_, join_job(join_options()));
    if (world_->processes() != config_.processes)
        return fail(Code::E_COMM, "distributed: {} says that there are {} processes, but the job that was joined has {}{}", launch_.by,
                    config_.processes, world_->processes(),
                    world_->processes() == 1 ? "; under Slurm, start MPI programs with srun --mpi=pmix" : "");
    return ok();
}

void Job::end() {
    std::lock_guard lock(world_mutex_);
    abort(fail(Code::E_CANCELLED, "the engine of process {} was destroyed during a call", process()));
}

Status Job::connect(Ranks& ranks) {
    ranks_ = &ranks;
    return ranks.connect(world_);
}

void Job::set(std::shared_ptr<World> world) {
    std::lock_guard lock(world_mutex_);
    world_ = std::move(world);
}

Result<bool> Job::rejoin() {
    if (!failed()) return false;
    if (options_.communicator || options_.mpi || backend_of(join_options()) != "gloo")
        return fail(Code::E_COMM, "ds_load: the job has ended ({}) and this backend can't join anew; start the processes again",
                    failure().message());
    static_cast<void>(ranks_->connect(nullptr));
    const Status before = failure();
    set(nullptr);
    auto joined = join_job(join_options());
    if (!joined.ok()) {
        auto ended =
            memory_transports(config_.processes);  // a world in which nobody answers, so that the engine keeps saying that it has none
        set(World::over(std::move(ended[static_cast<size_t>(launch_.rank)]), std::chrono::milliseconds(1)));
        abort(before);
        static_cast<void>(ranks_->connect(world_));
        return std::move(joined).status().within("ds_load: joining anew");
    }
    set(std::move(*joined));
    DS_CHECK(ranks_->connect(world_));
    return true;
}

// Launchers tell it; where none did, the processes tell each other where they are.
Result<int> Job::processes_before() {
    if (!world_) return 0;
    if (launch_.local_size) return launch_.local_rank;
    char name[256] = {};
    ::gethostname(name, sizeof name - 1);
    const auto boot = read_file("/proc/sys/kernel/random/boot_id", 4096);  // hosts may share a name
    DS_TRY(const std::vector<std::string> all, world_->exchange("hosts of processes", std::string(name) + " " + (boot.ok() ? *boot : "")));
    const auto me = all.begin() + world_->process();
    return static_cast<int>(std::count(all.begin(), me, *me));
}

Status Job::check_layout(const Ranks& ranks) const {
    for (int p = 0; p < config_.processes; ++p)
        for (int q = 0; q < p; ++q) {
            const std::vector<int> a = ranks.data_ranks(p), b = ranks.data_ranks(q);
            if (a == b) continue;
            for (const int d : a)
                if (std::find(b.begin(), b.end(), d) != b.end())
                    return fail(Code::E_CONFIG,
                                "parallel: with tensor {} x sequence {} and local_ranks {}, data rank {} lies in the processes {} and {}, "
                                "which also have other ones; processes must share all of their data ranks or none",
                                ranks.extent(MeshAxis::tensor), ranks.extent(MeshAxis::sequence), ranks.size(), d, q, p);
        }
    return ok();
}

// Tells the others how this process went so far, and `said`; what each of them said, if all went well and nobody cancels.
Result<std::vector<Json>> Job::hear(std::string_view call, const Status& mine, Json said) const {
    const bool cancelled = options_.cancel && options_.cancel->on();
    said["code"] = static_cast<int>(mine.code());
    said["message"] = mine.message();
    said["cancelled"] = cancelled;
    DS_TRY(const std::vector<std::string> all, world_->exchange(call, said.dump(-1, ' ', false, Json::error_handler_t::replace)));
    DS_CHECK(mine);
    std::vector<Json> heard;
    for (size_t p = 0; p < all.size(); ++p) {
        const Json& other = heard.emplace_back(Json::parse(all[p]));
        if (const auto code = other["code"].get<int>(); code < 0)
            return fail(Code::E_COMM, "process {}: {}: {}", p, code_name(static_cast<Code>(code)), other["message"].get<std::string>());
        if (other["cancelled"] == true)
            return fail(Code::E_CANCELLED, "the call was cancelled{}", cancelled ? "" : fmt::format(" in process {}", p));
    }
    return heard;
}

Status Job::agree(std::string_view call, const Status& mine) const {
    if (!world_) return mine;
    DS_TRY(const std::vector<Json> all, hear(call, mine, Json::object()));
    for (size_t p = 0; p < all.size(); ++p)
        if (const auto code = all[p]["code"].get<int>(); code != static_cast<int>(mine.code()))
            return fail(Code::E_COMM, "{}: process {} came to {} where process {} came to {}: all processes must be given as much data",
                        call, p, code_name(static_cast<Code>(code)), process(), code_name(mine.code()));
    return ok();
}

Status Job::require_alike(std::string_view call, const std::string& mine) const {
    if (!world_) return ok();
    DS_TRY(const std::vector<std::string> all, world_->exchange(call, mine));
    for (size_t p = 1; p < all.size(); ++p)
        if (all[p] != all[0])
            return fail(Code::E_INVALID_ARGUMENT, "{}: process {} asks for {}, but process 0 for {}: all must ask for the same", call, p,
                        all[p], all[0]);
    return ok();
}

Status Job::compare(std::map<std::string, std::string> facts) const {
    if (!world_) return ok();
    DS_TRY(const std::vector<std::string> all, world_->exchange("ds_engine_create", Json(std::move(facts)).dump()));
    Status found;
    for (size_t p = 1; p < all.size() && found.ok(); ++p) {  // every process compares with the first, so all find the same
        const Json first = Json::parse(all[0]), other = Json::parse(all[p]);
        for (const auto& [key, value] : other.items())
            if (!first.contains(key) || first[key] != value) {
                found = fail(Code::E_CONFIG, "distributed: process {} differs from process 0 in {}: {} and {}", p, key,
                             value.get<std::string>(), first.value(key, "nothing"));
                break;
            }
        for (const auto& [key, value] : first.items())
            if (found.ok() && !other.contains(key))
                found = fail(Code::E_CONFIG, "distributed: process {} differs from process 0 in {}: nothing and {}", p, key,
                             value.get<std::string>());
    }
    return found;
}

void Job::note_loaded(const Param& p, const float* whole) {
    if (world_) loaded_[p.name] = checksum_of({reinterpret_cast<const std::byte*>(whole), static_cast<size_t>(elements(p.shape)) * 4});
}

Status Job::compare_loaded() {
    if (!world_) return ok();
    const Json mine = std::exchange(loaded_, {});
    DS_TRY(const std::vector<std::string> all, world_->exchange("ds_engine_create", mine.dump()));
    const Json first = Json::parse(all[0]);
    for (size_t p = 1; p < all.size(); ++p) {
        const Json other = Json::parse(all[p]);
        for (const auto& [name, hash] : other.items())
            if (first.value(name, Json()) != hash)
                return fail(Code::E_CONFIG,
                            "distributed: process {} begins with other values of {} than process 0: they read different model files", p,
                            name);
    }
    return ok();
}

Result<std::vector<double>> Job::of_all(std::string_view call, const std::vector<std::pair<int, double>>& mine, size_t size) const {
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

Result<std::vector<std::string>> Job::collect(std::string_view call, std::string_view mine, const std::vector<size_t>& bytes) const {
    constexpr size_t kMessage = size_t{32} << 20;
    std::vector<std::string> all(bytes.size());
    const size_t most = *std::max_element(bytes.begin(), bytes.end());
    mine = mine.substr(0, bytes[static_cast<size_t>(world_->process())]);
    for (size_t at = 0; at < most; at += kMessage) {
        DS_TRY(const std::vector<std::string> pieces,
               world_->exchange(call, std::string(mine.substr(std::min(at, mine.size()), kMessage))));
        for (size_t p = 0; p < all.size(); ++p) all[p] += pieces[p];
    }
    for (size_t p = 0; p < all.size(); ++p)
        if (all[p].size() != bytes[p])
            return fail(Code::E_COMM, "{}: process {} sent {} bytes where {} were due", call, p, all[p].size(), bytes[p]);
    return all;
}

Result<bool> Job::agree_on_prompts(const std::vector<std::vector<int32_t>>& prompts, std::string_view options, bool listens) const {
    if (!world_) return listens;
    std::string text(options);
    for (const auto& prompt : prompts)
        text.append("\n").append(reinterpret_cast<const char*>(prompt.data()), prompt.size() * sizeof(int32_t));
    DS_TRY(const std::vector<std::string> all, world_->exchange("ds_generate", fmt::format("{}{}", listens ? 1 : 0, checksum_of(text))));
    bool any = false;
    for (size_t p = 0; p < all.size(); ++p) {
        any |= all[p].starts_with('1');
        if (all[p].substr(1) != all[0].substr(1))
            return fail(Code::E_INVALID_ARGUMENT,
                        "ds_generate: the processes 0 and {} were given different prompts or options; all must pass the same", p);
    }
    return any;
}

}  // namespace ds
