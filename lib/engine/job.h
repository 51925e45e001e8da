// Job: the processes that train together. What they tell each other, so that all of them go on, or none. With one process everything is
// agreed at once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "comm/join.h"
#include "config/config.h"
#include "engine/host_options.h"
#include "engine/program.h"
#include "engine/rank.h"

namespace ds {

class Job {
public:
    // They may be filled after this, and change.
    Job(const Config& config, const HostOptions& options) : config_(config), options_(options) {}

    // Before the config is read: how many processes there will be.
    Result<Launched> look();
    // Waits for the others.
    Status join();
    // Whether processes share all of their data ranks or none.
    Status check_layout(const Ranks& ranks) const;
    // Links the ranks of all processes. They are those of all later calls.
    Status connect(Ranks& ranks);
    // After a failure, a new job of the same processes. Whether there is one: nothing is done while the old one lives.
    Result<bool> rejoin();
    // By another thread: a call that waits for other processes comes back.
    void end();

    bool alone() const { return !world_; }
    int processes() const { return world_ ? world_->processes() : 1; }
    int process() const { return world_ ? world_->process() : 0; }
    bool writes_files() const { return process() == 0; }
    const Launch& launch() const { return launch_; }
    Result<int> processes_before();  // this one on its host
    bool failed() const { return world_ && world_->failed(); }
    Status failure() const { return world_->failure(); }
    bool failure_is_told() const { return world_->failure_is_told(); }
    void abort(const Status& why) const {
        if (world_) world_->abort(why);
    }  // the others must not go on without this process

    // Every process says how it went so far, and whether it is to be cancelled: all go on or none.
    Status agree(std::string_view call, const Status& mine) const;
    // What all processes must ask for alike.
    Status require_alike(std::string_view call, const std::string& mine) const;
    // What each says. With one process, there is no exchange to make.
    Result<std::vector<std::string>> exchange(std::string_view call, std::string mine, bool patient = false) const {
        return world_->exchange(call, std::move(mine), patient);
    }
    // Numbers by place, of whichever process has them.
    Result<std::vector<double>> of_all(std::string_view call, const std::vector<std::pair<int, double>>& mine, size_t size) const;
    // Any amount; bytes: that each process gives.
    Result<std::vector<std::string>> collect(std::string_view call, std::string_view mine, const std::vector<size_t>& bytes) const;
    // What must be alike everywhere, in words by what it is about; a difference names rank and key.
    Status compare(std::map<std::string, std::string> facts) const;
    // Every process reads all weights, whatever its ranks keep of them: they must have read the same.
    void note_loaded(const Param& p, const float* whole);
    Status compare_loaded();
    // Every process continues the same prompts in the same way. Whether anybody listens.
    Result<bool> agree_on_prompts(const std::vector<std::vector<int32_t>>& prompts, std::string_view options, bool listens) const;

    // job_rows.cpp. Of rows that every process was given: those that this one computes; its answers and those of the others.
    Interval own_rows(int64_t rows) const { return rows_of_process(rows, process()); }
    Result<HostTensor> of_all_rows(std::string_view call, const HostTensor& mine, int64_t rows) const;
    // Of rows of its own: the first one of this process in the whole batch. wants_loss: whether this host asks for the loss; then, whether
    // any does. all_take_part: no process may be without rows.
    Result<int64_t> agree_on_rows(std::string_view call, const Batch& batch, const Result<int64_t>& rows, bool all_take_part,
                                  bool& wants_loss) const;
    // What every process needs to know of the rows of the others: their weight in the loss.
    Status share_figures(std::string_view call, std::vector<Packed>& packed, const Status& mine) const;
    struct OutputPart {
        int stage = 0;  // of the rank along the pipeline that had it
        HostTensor value;
    };
    // With a pipeline, only the processes that have a certain stage have an output; the others get it along the pipeline. parts: of data
    // ranks of this process.
    Status share_outputs(std::map<int, OutputPart>& parts, bool& nobody_has_it) const;

private:
    JoinOptions join_options() const;
    Result<std::vector<Json>> hear(std::string_view call, const Status& mine, Json said) const;
    void set(std::shared_ptr<World> world);
    Interval rows_of_process(int64_t rows, int process) const;

    const Config& config_;
    const HostOptions& options_;
    Launch launch_;
    std::unique_ptr<Transport> transport_;  // of a host's communicator, until the world has it
    std::mutex world_mutex_;                // while `end` may ask for it
    std::shared_ptr<World> world_;          // null: one process
    Ranks* ranks_ = nullptr;
    std::map<std::string, std::string> loaded_;  // with several processes, until they have compared them: checksums of the first weights
};

}  // namespace ds
