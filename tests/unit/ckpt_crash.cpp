// lib/ckpt under fire: killed while saving, out of space, out of file size, cut between two renames, saved by several at once.
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cstdlib>

#include "ckpt_common.h"

using namespace ds;
using namespace ds::testing;

namespace {

// Saving as a child process, so that a signal or a limit hits only it. The exit status is the child's.
template <class F>
int in_child(F&& body) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(body());
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

// What the folder holds now, or -1. Contents must be those of the step that the state names.
int loaded_step(const fs::path& dir, size_t scale) {
    const Result<Checkpoint> c = open_checkpoint(dir);
    if (!c.ok()) {
        MESSAGE(c.status().message());
        return -1;
    }
    const int step = c->state()["step"];
    return c->state() == state_of(step) && Contents(step, scale).matches(*c) ? step : -1;
}

// Saves step after step until it is killed, and tells the parent of each finished one.
[[noreturn]] void save_forever(const fs::path& dir, int step, size_t scale, bool exchange, bool same_tag, int report) {
    for (;; ++step) {
        const std::string tag = same_tag ? "best" : fmt::format("global_step{}", step % 3);
        if (!save_checkpoint(dir, tag, state_of(step), Contents(step, scale).files(), {exchange}).ok()) ::_exit(1);
        if (::write(report, &step, sizeof step) != sizeof step) ::_exit(2);
    }
}

}  // namespace

TEST_CASE("checkpoint/killed_at_any_moment_the_old_or_the_new_one_loads") {
    const int kills = std::getenv("DSRT_FULL") ? 1000 : 60;
    constexpr size_t kScale = 16;
    std::mt19937 random(std::random_device{}());
    const TempFolder folder;
    int interrupted = 0;
    for (int kill = 0; kill < kills; ++kill) {
        const bool exchange = kill % 2 == 0, same_tag = kill % 4 < 2;
        const fs::path dir = folder.path / (same_tag ? "same" : "turns");
        if (kill == 0 || kill == 2) REQUIRE(save_checkpoint(dir, "best", state_of(0), Contents(0, kScale).files()).ok());
        const int first = loaded_step(dir, kScale) + 1;
        REQUIRE(first > 0);
        int report[2];
        REQUIRE(::pipe(report) == 0);
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) save_forever(dir, first, kScale, exchange, same_tag, report[1]);
        ::close(report[1]);
        ::usleep(random() % 30000);
        ::kill(child, SIGKILL);
        int status = 0;
        ::waitpid(child, &status, 0);
        REQUIRE(WIFSIGNALED(status));
        interrupted += hidden_names(dir) > 0;
        int finished = first - 1;
        for (int step; ::read(report[0], &step, sizeof step) == sizeof step;) finished = step;
        ::close(report[0]);
        const int step = loaded_step(dir, kScale);
        CHECK(step >= finished);
        CHECK(step <= finished + 1);
    }
    CHECK(interrupted > 0);  // else this test proves little
    for (const char* dir : {"same", "turns"}) {
        REQUIRE(save_checkpoint(folder.path / dir, "last", state_of(7), Contents(7).files()).ok());
        CHECK(hidden_names(folder.path / dir) == 0);
    }
}

TEST_CASE("checkpoint/what_a_killed_replacement_leaves_is_loaded_and_then_tidied_up") {
    const TempFolder folder;
    const fs::path &dir = folder.path, tag = dir / "t", old = dir / ".t.old", fresh = dir / ".t.new";
    REQUIRE(save_checkpoint(dir, "t", state_of(1), Contents(1).files()).ok());
    fs::copy(tag, fresh);  // between the two renames: the old one is aside, the new one not yet in place
    fs::remove(fresh / "state.json");
    fs::rename(tag, old);
    CHECK(loaded_step(dir, 1) == 1);
    REQUIRE(save_checkpoint(dir, "u", state_of(2), Contents(2).files()).ok());
    CHECK(fs::exists(tag / "state.json"));
    CHECK(hidden_names(dir) == 0);
    CHECK(Contents(1).matches(open_checkpoint(dir, "t").value()));

    fs::copy(tag, old);  // after the second: both are there
    REQUIRE(save_checkpoint(dir, "t", state_of(3), Contents(3).files(), {false}).ok());
    CHECK(hidden_names(dir) == 0);
    CHECK(loaded_step(dir, 1) == 3);

    fs::rename(tag, old);  // a failing save must not take the only copy with it
    put(old / "state.json", get(old / "state.json"));
    CHECK(!save_checkpoint(dir, "t", state_of(4), {{"w.safetensors", {{"a", DType::f32, {2}, nullptr, {}}}}}).ok());
    CHECK(loaded_step(dir, 1) == 3);
}

TEST_CASE("checkpoint/a_write_error_at_any_place_leaves_the_last_good_one") {
    const TempFolder folder;
    const fs::path& dir = folder.path;
    constexpr size_t kScale = 16;
    REQUIRE(save_checkpoint(dir, "t", state_of(1), Contents(1, kScale).files()).ok());
    const auto save_limited = [&](rlim_t limit, const std::string& tag) {
        return in_child([&] {
            ::signal(SIGXFSZ, SIG_IGN);
            const rlimit size{limit, limit};
            if (::setrlimit(RLIMIT_FSIZE, &size) != 0) return 9;
            const Status saved = save_checkpoint(dir, tag, state_of(2), Contents(2, kScale).files());
            if (saved.ok()) return 0;
            return saved.code() == Code::E_IO && saved.message().find("cannot write: File too large") != std::string::npos ? 1 : 2;
        });
    };
    for (const char* tag : {"t", "u"}) {
        for (const rlim_t limit : {0, 1, 7, 8, 9, 100, 300, 500, 4096, 65535, 65536, 66000, 70000, 100000, 128000}) {
            CHECK(save_limited(limit, tag) == 1);
            CHECK(loaded_step(dir, kScale) == 1);
            CHECK(hidden_names(dir) == 0);
            CHECK(!fs::exists(dir / "u"));
        }
    }
    CHECK(save_limited(1 << 20, "t") == 0);
    CHECK(loaded_step(dir, kScale) == 2);
}

TEST_CASE("checkpoint/a_full_disk_is_an_error_that_leaves_the_last_good_one") {
    const TempFolder folder;
    const int outcome = in_child([&] {
        // A small file system of its own, where the system lets a process have one.
        if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 50;
        if (::mount("dsrt", folder.path.c_str(), "tmpfs", 0, "size=512k") != 0) return 50;
        if (!save_checkpoint(folder.path, "t", state_of(1), Contents(1, 16).files()).ok()) return 1;
        for (const char* tag : {"t", "u"}) {
            const Status full = save_checkpoint(folder.path, tag, state_of(2), Contents(2, 40).files());
            if (full.ok() || full.message().find("No space left on device") == std::string::npos) return 2;
            if (loaded_step(folder.path, 16) != 1 || hidden_names(folder.path) != 0) return 3;
        }
        return save_checkpoint(folder.path, "u", state_of(3), Contents(3, 16).files()).ok() && loaded_step(folder.path, 16) == 3 ? 0 : 4;
    });
    if (outcome == 50) MESSAGE("not run: this process may not mount a file system");
    else CHECK(outcome == 0);
}

TEST_CASE("checkpoint/savers_take_turns_and_readers_never_see_a_mixture") {
    const TempFolder folder;
    REQUIRE(save_checkpoint(folder.path, "t", state_of(0), Contents(0).files()).ok());
    std::vector<pid_t> children;
    for (int saver = 0; saver < 3; ++saver) {
        children.push_back(::fork());
        if (children.back() != 0) continue;
        for (int i = 0; i < 6; ++i)
            if (!save_checkpoint(folder.path, "t", state_of(saver + 3 * i), Contents(saver + 3 * i).files(), {i % 2 == 0}).ok()) ::_exit(1);
        ::_exit(0);
    }
    int reads = 0, bad = 0;
    for (size_t ended = 0; ended < children.size();) {
        bad += loaded_step(folder.path, 1) < 0;
        ++reads;
        int status = 0;
        if (::waitpid(-1, &status, WNOHANG) <= 0) continue;
        ++ended;
        CHECK(status == 0);
    }
    CHECK(bad == 0);
    CHECK(reads > 0);
    CHECK(hidden_names(folder.path) == 0);
}
