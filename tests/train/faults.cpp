// A process of a job is killed or stopped at a random moment: every other one comes back within its deadline with DS_E_COMM or DS_E_TIMEOUT
// and names it; after that only load and destroy are legal; and a job of another number of processes goes on from the last checkpoint to
// the very same end. One that was stopped and goes on finds that it was given up; all of them stopped at once, as schedulers suspend jobs,
// go on as if nothing had been. DSRT_FULL=1: 200 runs; DSRT_FAULTS=n: n of them.
#include <dsrt/dsrt.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "support/checks.h"
#include "support/processes.h"

namespace {

using checks::check;
using ds::Json;
using job::text_of;
namespace fs = std::filesystem;

constexpr int kSteps = 120, kRows = 6, kLength = 8, kVocabulary = 32, kData = 6, kFailed = 7, kHeartbeat = 3,
              kSilence = 3 * kHeartbeat;  // seconds

ds_batch* batch_of(int number, int first, int count) {
    ds_batch* b = nullptr;
    ds_batch_create(&b);
    std::vector<int32_t> ids;
    for (int row = first; row < first + count; ++row)
        for (int i = 0; i < kLength; ++i) ids.push_back((row * 7919 + i * i * 31 + number * 101 + i) % kVocabulary);
    const int64_t shape[2] = {count, kLength};
    for (const char* name : {"input_ids", "labels"}) {
        ds_tensor* t = nullptr;
        ds_tensor_create(DS_I32, 2, shape, ids.data(), ids.size() * 4, &t);
        ds_batch_set(b, name, t);
        ds_tensor_destroy(t);
    }
    return b;
}

// Trains to the end from the last checkpoint, saving after every fifth step. What ended it otherwise goes into a file. last_leaves: the
// last process ends between two steps, and the others take their time before the next call.
int child(const std::string& folder, const std::string& out, bool last_leaves) {
    const int rank = job::rank_here(), size = job::size_here(), locals = kData / size;
    const Json config = {{"model",
                          {{"model_type", "gpt2"},
                           {"architectures", {"GPT2LMHeadModel"}},
                           {"n_layer", 1},
                           {"n_embd", 16},
                           {"n_head", 2},
                           {"vocab_size", kVocabulary},
                           {"n_positions", 16}}},
                         {"train_micro_batch_size_per_gpu", 1},
                         {"threads", 1},
                         {"parallel", {{"data", kData}, {"local_ranks", locals}}},
                         {"zero_optimization", {{"stage", 1}}},
                         {"logger", {{"default_verbosity", "ERROR"}}},
                         {"comm", {{"deadline_seconds", 240}, {"heartbeat_seconds", kHeartbeat}, {"join_seconds", 240}}},
                         {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-2}}}}}};
    ds_engine* e = nullptr;
    const auto ended = [&](ds_status status) {
        std::string text = std::string(ds_status_name(status)) + " " + ds_last_error() + "\n";
        if (e) {  // a world that has ended serves no more
            ds_batch* b = batch_of(0, rank * locals, locals);
            float loss = 0;
            const ds_status after = ds_forward(e, b, &loss);
            text += std::string("after: ") + ds_status_name(after) + "\n";
            ds_batch_destroy(b);
            ds_engine_destroy(e);
        }
        std::ofstream(out + "." + std::to_string(rank)) << text;
        return kFailed;
    };
    if (const ds_status s = ds_engine_create(config.dump().c_str(), nullptr, &e); s < 0) return ended(s);
    if (fs::exists(folder + "/latest"))
        if (const ds_status s = ds_load(e, folder.c_str(), nullptr, nullptr); s < 0) return ended(s);
    double done = 0;
    ds_metric(e, "global_steps", &done);
    for (int step = static_cast<int>(done); step < kSteps; ++step) {
        if (last_leaves && step == 7) {
            if (rank + 1 == size) std::_Exit(0);
            std::this_thread::sleep_for(std::chrono::seconds(2));
        }
        ds_batch* b = batch_of(step, rank * locals, locals);
        float loss = 0;
        ds_status s = ds_forward(e, b, &loss);
        ds_batch_destroy(b);
        if (s >= 0) s = ds_backward(e);
        if (s >= 0) s = ds_step(e);
        if (s >= 0 && step % 5 == 4) s = ds_save(e, folder.c_str(), nullptr, nullptr);
        if (s < 0) return ended(s);
    }
    if (const ds_status s = ds_save(e, folder.c_str(), "end", nullptr); s < 0) return ended(s);
    ds_engine_destroy(e);
    return 0;
}

std::string self, work;

job::Job start(int n, const std::string& folder, const std::string& out, const char* play = "child") {
    const int port = job::free_ports();
    return job::start(
        n,
        [&](int) {
            return std::vector<std::string>{self, play, folder, out};
        },
        [&](int r) { return n == 1 ? job::Variables{} : job::torchrun(r, n, port); });
}

std::string end_of(const std::string& folder) {
    return text_of(fs::path(folder) / "end/weights.safetensors") + text_of(fs::path(folder) / "end/optimizer.safetensors");
}

// After its first checkpoint.
void wait_for_checkpoint(const std::string& folder) {
    for (job::Nap nap; !fs::exists(folder + "/latest") && nap.again();) {}
}

void all_are_stopped(const std::string& reference) {
    const std::string folder = work + "/suspended", out = folder + ".out";
    job::Job job = start(3, folder, out);
    wait_for_checkpoint(folder);
    for (const pid_t pid : job.pids) kill(pid, SIGSTOP);
    std::this_thread::sleep_for(std::chrono::seconds(kSilence + 3));
    for (const pid_t pid : job.pids) kill(pid, SIGCONT);
    const bool well = job.wait() && job.all_well();
    check(well, "all stopped for longer than silence: they go on:" + job.states() + " " + text_of(out + ".0") + text_of(out + ".1") +
                    text_of(out + ".2"));
    check(!reference.empty() && end_of(folder) == reference, "all stopped for longer than silence: they come to the same end, bit for bit");
}

// Whether a message has the process's number or that of one of its ranks, behind what was going on.
bool names(const std::string& said, int process, int locals) {
    bool named = said.find(": process " + std::to_string(process)) != said.npos;
    for (int r = process * locals; r < (process + 1) * locals; ++r) named |= said.find(": rank " + std::to_string(r)) != said.npos;
    return named;
}

void check_survivor(const std::string& name, const job::Job& job, int p, int victim, const std::string& said) {
    const bool code = said.starts_with("DS_E_COMM") || said.starts_with("DS_E_TIMEOUT");
    check(job.status[static_cast<size_t>(p)] == kFailed && code && names(said, victim, kData / static_cast<int>(job.pids.size())),
          name + ": process " + std::to_string(p) + " should name it, but ended with " +
              std::to_string(job.status[static_cast<size_t>(p)]) + " and says " + said);
    check(said.find("after: DS_E_STATE") != said.npos, name + ": after it only load and destroy are legal, but it says " + said);
}

// What happens while no call is under way is the next call's answer.
void one_leaves_between_calls() {
    const std::string folder = work + "/leaves", out = folder + ".out";
    job::Job job = start(3, folder, out, "leaves");
    check(job.wait(), "one leaves between two calls: nobody hangs");
    for (int p = 0; p < 2; ++p) check_survivor("one leaves between two calls", job, p, 2, text_of(out + "." + std::to_string(p)));
}

void one_run(int number, std::mt19937& random, const std::string& reference) {
    const int sizes[] = {2, 3}, n = sizes[random() % 2], victim = static_cast<int>(random() % static_cast<unsigned>(n)),
              signal = random() % 3 ? SIGKILL : SIGSTOP;
    const std::string folder = work + "/" + std::to_string(number), out = folder + ".out";
    const std::string name = "run " + std::to_string(number) + ": " + (signal == SIGKILL ? "kill" : "stop") + " of " +
                             std::to_string(victim) + " of " + std::to_string(n);
    job::Job job = start(n, folder, out);
    wait_for_checkpoint(folder);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 300000));  // anywhere up to the end
    kill(job.pids[static_cast<size_t>(victim)], signal);
    const auto struck = job::Clock::now();
    const bool back = job.wait(victim);
    check(back, name + ": no survivor hangs");
    if (signal == SIGSTOP) {
        kill(job.pids[static_cast<size_t>(victim)], SIGCONT);
        check(job.wait(), name + ": nor does it when it goes on");
    }
    for (int p = 0; p < n && back; ++p) {
        if ((p == victim && signal == SIGKILL) || job.status[static_cast<size_t>(p)] == 0) continue;  // it had ended before
        check_survivor(name, job, p, victim, text_of(out + "." + std::to_string(p)));
    }
    job.wait();
    const double seconds = std::chrono::duration<double>(job::Clock::now() - struck).count();
    job::Job again = start(n == 2 ? 3 : 1, folder, out);
    const bool went_on = again.wait() && again.all_well();
    check(went_on, name + ": another number of processes goes on from the last checkpoint:" + again.states() + " " + text_of(out + ".0") +
                       text_of(out + ".1"));
    check(!reference.empty() && end_of(folder) == reference, name + ": and comes to the same end, bit for bit");
    std::printf("%s: all back after %.1f s\n", name.c_str(), seconds);
    fs::remove_all(folder);
}

}  // namespace

int main(int argc, char** argv) {
    self = fs::canonical("/proc/self/exe").string();
    if (argc == 4) return child(argv[2], argv[3], std::string(argv[1]) == "leaves");
    if (!Json::parse(ds_build_info())["optional"]["gloo"]["found"].get<bool>()) {
        std::puts("SKIPPED faults of jobs: libdsrt_gloo.so is not built here\n0 passed, 0 failed");
        return 0;
    }
    work = (fs::temp_directory_path() / "dsrt-faults-XXXXXX").string();
    if (!mkdtemp(work.data())) return 1;
    job::Job whole = start(1, work + "/whole", work + "/whole.out");
    check(whole.wait() && whole.all_well(), "a run that nobody disturbs: " + text_of(work + "/whole.out.0"));
    const std::string reference = end_of(work + "/whole");
    const int runs = job::number("DSRT_FAULTS", std::getenv("DSRT_FULL") ? 200 : 6);
    std::mt19937 random(static_cast<unsigned>(job::number("DSRT_SEED", 7)));
    all_are_stopped(reference);
    one_leaves_between_calls();
    for (int i = 0; i < runs; ++i) one_run(i, random, reference);
    fs::remove_all(work);
    return checks::result();
}
