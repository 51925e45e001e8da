// Starts a job of several processes of this program, as a launcher would, and looks after them.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dsrt/dsrt.h"
#include "ports.h"

namespace job {

using Variables = std::map<std::string, std::string>;
using Clock = std::chrono::steady_clock;

// What torchrun sets.
inline Variables torchrun(int rank, int size, int port) {
    const auto text = [](int n) { return std::to_string(n); };
    return {{"RANK", text(rank)},         {"WORLD_SIZE", text(size)}, {"LOCAL_RANK", text(rank)}, {"LOCAL_WORLD_SIZE", text(size)},
            {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", text(port)}};
}

// What the environment says, in a process that a launcher started.
inline int number(const char* name, int otherwise) {
    const char* value = std::getenv(name);
    return value ? std::atoi(value) : otherwise;
}
inline int rank_here() { return number("RANK", number("OMPI_COMM_WORLD_RANK", 0)); }
inline int size_here() { return number("WORLD_SIZE", number("OMPI_COMM_WORLD_SIZE", 1)); }

// In a process of the job: what it can't go on without. Its peers wait for it, so it leaves at once, not by destroying engines.
inline void must(ds_status status, const std::string& what) {
    if (status >= 0) return;
    std::fprintf(stderr, "%s: %s: %s\n", what.c_str(), ds_status_name(status), ds_last_error());
    std::_Exit(3);
}

inline std::string text_of(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

// More than any job of a test takes, on a machine with other work too: what exceeds it hangs. Counted in naps: while a machine stops this
// program and its jobs alike, none passes.
class Nap {
public:
    bool again() {
        std::this_thread::sleep_for(kLength);
        return ++naps_ * kLength < std::chrono::minutes(5);
    }

private:
    static constexpr std::chrono::milliseconds kLength{5};
    int naps_ = 0;
};

struct Job {
    std::vector<pid_t> pids;
    std::vector<int> status;  // exit code, or minus the signal; kRuns until known
    static constexpr int kRuns = 1 << 20;

    // Whether all ended by themselves in time, but for one of whom that is not asked; else what did not is killed.
    bool wait(int but = -1) {
        for (Nap nap; nap.again();) {
            bool running = false;
            for (size_t i = 0; i < pids.size(); ++i) {
                if (status[i] != kRuns) continue;
                int s = 0;
                if (waitpid(pids[i], &s, WNOHANG) == pids[i]) status[i] = WIFEXITED(s) ? WEXITSTATUS(s) : -WTERMSIG(s);
                else running |= static_cast<int>(i) != but;
            }
            if (!running) return true;
        }
        for (size_t i = 0; i < pids.size(); ++i)
            if (status[i] == kRuns) {
                kill(pids[i], SIGKILL);
                waitpid(pids[i], nullptr, 0);
            }
        return false;
    }
    bool all_well() const {
        for (const int s : status)
            if (s != 0) return false;
        return true;
    }
    std::string states() const {
        std::string text;
        for (size_t i = 0; i < pids.size(); ++i)
            text += " " + std::to_string(i) + ":" + (status[i] == kRuns ? "hung" : std::to_string(status[i]));
        return text;
    }
};

// argv: the program first.
inline Job start(int processes, const std::function<std::vector<std::string>(int rank)>& argv,
                 const std::function<Variables(int rank)>& variables) {
    Job job;
    for (int rank = 0; rank < processes; ++rank) {
        std::vector<std::string> words = argv(rank), environment;
        const Variables own = variables(rank);
        for (char** e = environ; *e; ++e) {
            const std::string entry = *e;
            if (!own.count(entry.substr(0, entry.find('=')))) environment.push_back(entry);
        }
        for (const auto& [name, value] : own) environment.push_back(name + "=" + value);
        std::vector<char*> args, env;
        for (std::string& word : words) args.push_back(word.data());
        for (std::string& entry : environment) env.push_back(entry.data());
        args.push_back(nullptr);
        env.push_back(nullptr);
        pid_t pid = 0;
        if (posix_spawnp(&pid, args[0], nullptr, nullptr, args.data(), env.data()) != 0) std::exit((std::perror(args[0]), 1));
        job.pids.push_back(pid);
        job.status.push_back(Job::kRuns);
    }
    return job;
}

}  // namespace job
