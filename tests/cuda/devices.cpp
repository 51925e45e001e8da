// Several devices: groups of them pass the suite that every backend of lib/comm passes, and layouts of ranks, one on each device, train
// through the public ABI as they do on the CPU; every call of the runtime, of cuBLASLt and of NCCL fails once on one of them.
#include <doctest/doctest.h>
#include <dsrt/dsrt.h>

#include <dlfcn.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <unistd.h>

#include "device/group.h"
#include "kernels/cpu/optim.h"
#include "tests/support/comm_suite.h"

using namespace ds;

namespace {

void check(bool good, const std::string& what) { CHECK_MESSAGE(good, what); }

int devices() {
    static const int count = device_count("cuda").ok() ? *device_count("cuda") : 0;
    return count;
}

// Of the double (tests/cuda/emulate/control.h); null where the plug-in is the real one.
template <class F>
F* control(const char* name) {
    if (devices() == 0) return nullptr;  // it is loaded now
    void* library = dlopen((std::string(std::getenv("DSRT_BACKEND_PATH")) + "/libdsrt_cuda.so").c_str(), RTLD_NOW | RTLD_NOLOAD);
    return library ? reinterpret_cast<F*>(dlsym(library, name)) : nullptr;
}
std::string first_fault() {
    auto* ask = control<const char*()>("emu_first_fault");
    return ask ? ask() : "";
}
bool skips(int ranks, const char* what) {
    if (ranks > devices()) std::printf("SKIPPED %s: %d devices are needed, %d are here\n", what, ranks, devices());
    return ranks > devices();
}

Device& device(int i) {
    static std::vector<std::unique_ptr<Device>> opened = [] {
        std::vector<std::unique_ptr<Device>> list;
        for (int k = 0; k < std::min(devices(), 4); ++k) {
            auto one = Device::open("cuda", k);
            REQUIRE_MESSAGE(one.ok(), one.status().message());
            list.push_back(std::move(*one));
        }
        return list;
    }();
    return *opened[static_cast<size_t>(i)];
}

// An end whose caller has memory of the host's: blocks go to the device and come back, and a call is over when the device is.
class Staged : public Communicator {
public:
    Staged(std::unique_ptr<Communicator> end, Device& on) : Communicator(end->rank(), end->size()), end_(std::move(end)), device_(on) {}
    ~Staged() override {
        static_cast<void>(device_.finish());
        for (std::byte* memory : memory_) device_.release(memory);
    }

    Status all_to_all(std::span<const Block> send, std::span<const Block> receive, Team team) override {
        DS_TRY(const auto to, there(send, true));
        DS_TRY(const auto from, there(receive, false));
        DS_CHECK(end_->all_to_all(to, from, team));
        return back(from, receive);
    }
    Status reduce_scatter(std::span<const Block> send, Block out, DType dtype, Team team) override {
        DS_TRY(const auto to, there(send, true));
        const Block in_place[] = {to[static_cast<size_t>(rank())]}, mine[] = {out};  // as ZeRO does it
        DS_CHECK(end_->reduce_scatter(to, in_place[0], dtype, team));
        return back(in_place, mine);
    }
    Status all_reduce(Block data, DType dtype, Team team) override {
        const Block host[] = {data};
        DS_TRY(const auto there_, there(host, true));
        DS_CHECK(end_->all_reduce(there_[0], dtype, team));
        return back(there_, host);
    }
    Status send(int to, int64_t tag, Block data) override {
        const Block host[] = {data};
        DS_TRY(const auto there_, there(host, true));
        return end_->send(to, tag, there_[0]);
    }
    Status receive(int from, int64_t tag, Block data) override {
        const Block host[] = {data};
        DS_TRY(const auto there_, there(host, false));
        DS_CHECK(end_->receive(from, tag, there_[0]));
        return back(there_, host);
    }
    void abort(const Status& why) override { end_->abort(why); }

private:
    Result<std::vector<Block>> there(std::span<const Block> blocks, bool filled) {
        std::vector<Block> list;
        for (const Block& block : blocks) {
            DS_TRY(std::byte * memory, device_.allocate(static_cast<size_t>(std::max<int64_t>(block.bytes, 1))));
            memory_.push_back(memory);
            list.push_back({memory, block.bytes});
            if (filled && block.bytes) DS_CHECK(device_.upload(memory, block.data, static_cast<size_t>(block.bytes)));
        }
        return list;
    }
    Status back(std::span<const Block> from, std::span<const Block> to) {
        DS_CHECK(device_.finish());
        for (size_t i = 0; i < to.size(); ++i)
            if (to[i].bytes) DS_CHECK(device_.download(to[i].data, from[i].data, static_cast<size_t>(to[i].bytes)));
        return ok();
    }

    std::unique_ptr<Communicator> end_;
    Device& device_;
    std::vector<std::byte*> memory_;
};

comm_suite::Group staged(int ranks, std::chrono::milliseconds deadline) {
    std::vector<Device*> devices;
    std::vector<int> numbers;
    for (int i = 0; i < ranks; ++i) devices.push_back(&device(i)), numbers.push_back(i);
    auto ends = device_group("test", numbers, devices, deadline);
    comm_suite::Group group;
    for (size_t i = 0; i < ends.size(); ++i) group.push_back(std::make_unique<Staged>(std::move(ends[i]), *devices[i]));
    return group;
}

std::string config(const char* device_name, const std::string& more, const char* optimizer = "AdamW") {
    return std::string(
               R"({"model": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 12, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 16}, "model_init": "random", "gradient_accumulation_steps": 2, "gradient_clipping": 1,
        "logger": {"default_verbosity": "ERROR"}, "threads": 1, "optimizer": {"type": ")") +
           optimizer + R"(", "params": {"lr": 0.01}}, "device": ")" + device_name + "\"" + more + "}";
}

ds_batch* batch(int first_row, int rows) {
    ds_batch* b = nullptr;
    REQUIRE(ds_batch_create(&b) == DS_OK);
    const int64_t shape[2] = {rows, 6};
    int32_t ids[24];
    for (int i = 0; i < 24; ++i) ids[i] = (i * 7 + i / 5) % 12;
    for (const char* name : {"input_ids", "labels"}) {
        ds_tensor* t = nullptr;
        REQUIRE(ds_tensor_create(DS_I32, 2, shape, ids + 6 * first_row, static_cast<size_t>(rows) * 24, &t) == DS_OK);
        REQUIRE(ds_batch_set(b, name, t) == DS_OK);
        ds_tensor_destroy(t);
    }
    return b;
}

struct Trained {
    std::string failure;
    std::vector<float> losses, weight;
    int64_t calls = 0;  // before the engine was destroyed
};

Trained train(const std::string& text, const ds_options* options = nullptr, int first_row = 0, int rows = 4,
              const char* weight = "model.layers.1.mlp.up_proj.weight") {
    Trained out;
    ds_engine* e = nullptr;
    ds_batch* b = batch(first_row, rows);
    const auto good = [&](ds_status s) {
        if (s < 0 && out.failure.empty()) out.failure = std::string(ds_status_name(s)) + ": " + ds_last_error();
        return s >= 0;
    };
    bool going = good(ds_engine_create(text.c_str(), options, &e));
    for (int micro = 0; micro < 4 && going; ++micro) {
        float loss = 0;
        going = good(ds_forward(e, b, &loss)) && good(ds_backward(e)) && good(ds_step(e));
        out.losses.push_back(loss);
    }
    ds_tensor* t = nullptr;
    if (going && good(ds_param_get(e, weight, DS_WEIGHT, &t))) {
        int32_t dtype = 0, rank = 0;
        const int64_t* shape = nullptr;
        going = good(ds_tensor_info(t, &dtype, &rank, &shape)) && rank == 2;
        out.weight.resize(going ? static_cast<size_t>(shape[0] * shape[1]) : 0);
        going = going && good(ds_tensor_read(t, DS_F32, out.weight.data(), out.weight.size() * 4));
        ds_tensor_destroy(t);
    }
    if (auto* calls = control<int64_t()>("emu_calls")) out.calls = calls();
    ds_engine_destroy(e);
    ds_batch_destroy(b);
    return out;
}

// Processes of a job as threads of this one, whose messages lie here.
struct Post {
    std::mutex mutex;
    std::condition_variable came;
    std::map<std::tuple<int, int, uint32_t>, std::deque<std::vector<std::byte>>> letters;
};
struct Process {
    Post* post;
    int rank;
    Trained trained;
};

int32_t send_letter(void* user, int32_t to, uint32_t lane, const void* data, size_t bytes) {
    const auto& me = *static_cast<Process*>(user);
    std::lock_guard lock(me.post->mutex);
    const auto* from = static_cast<const std::byte*>(data);
    me.post->letters[{me.rank, to, lane}].emplace_back(from, from + bytes);
    me.post->came.notify_all();
    return DS_OK;
}
int32_t fetch_letter(void* user, int32_t from, uint32_t lane, void* data, size_t bytes, int32_t wait_ms) {
    const auto& me = *static_cast<Process*>(user);
    std::unique_lock lock(me.post->mutex);
    auto& letters = me.post->letters[{from, me.rank, lane}];
    if (!me.post->came.wait_for(lock, std::chrono::milliseconds(wait_ms), [&] { return !letters.empty(); })) return DS_PENDING;
    std::memcpy(data, letters.front().data(), bytes);
    letters.pop_front();
    return DS_OK;
}

// A rank a process, of the whole batch a part each where they are data ranks.
std::vector<Trained> train_processes(const std::string& text, int processes, bool deals) {
    Post post;
    std::vector<Process> list;
    for (int rank = 0; rank < processes; ++rank) list.push_back({&post, rank, {}});
    std::vector<std::thread> threads;
    for (Process& process : list)
        threads.emplace_back([&] {
            const ds_communicator_callbacks callbacks{sizeof callbacks, &process,     process.rank, processes,
                                                      send_letter,      fetch_letter, nullptr,      nullptr};
            ds_options* options = nullptr;
            ds_options_create(&options);
            ds_options_set_communicator(options, &callbacks);
            const int rows = deals ? 4 / processes : 4;
            process.trained = train(text, options, deals ? process.rank * rows : 0, rows);
            ds_options_destroy(options);
        });
    for (auto& thread : threads) thread.join();
    std::vector<Trained> out;
    for (Process& process : list) out.push_back(std::move(process.trained));
    return out;
}

std::string layout(const std::string& mesh, const std::string& more = "", int data = 1) {
    return R"(, "parallel": {)" + mesh + R"(}, "train_micro_batch_size_per_gpu": )" + std::to_string(4 / data) + more;
}

}  // namespace

TEST_CASE("devices/groups_pass_the_suite_of_every_backend") {
    for (const int ranks : {2, 3})
        if (!skips(ranks, "a group's suite"))
            comm_suite::all([&](std::chrono::milliseconds deadline) { return staged(ranks, deadline); }, 1, check);
    CHECK(first_fault() == "");
}

TEST_CASE("devices/an_exchange_names_rank_op_and_tensor") {
    if (skips(2, "an exchange that is late")) return;
    auto group = device_group("data", {4, 6}, {&device(0), &device(1)}, std::chrono::milliseconds(200));
    std::byte* memory = *device(0).allocate(64);
    REQUIRE(device(0).zero(memory, 64).ok());
    device(0).label("all_reduce", "h.0.mlp");
    Status status = group[0]->all_reduce({memory, 64}, DType::f32, Team{0, 1});
    CHECK_MESSAGE(status.code() == Code::E_TIMEOUT, status.message());
    CHECK_MESSAGE(
        status.message() == "all_reduce of h.0.mlp: rank 6 of the data group did not come to a collective within 0.2 s; it is late or gone",
        status.message());
    status = group[1]->all_reduce({memory, 64}, DType::f32, Team{0, 1});
    CHECK_MESSAGE(status.code() == Code::E_TIMEOUT, status.message());
    group.clear();
    device(0).label({});
    CHECK(device(0).finish().ok());  // the device itself is well
    device(0).release(memory);
}

TEST_CASE("devices/groups_that_are_well_are_finalized") {
    auto* aborted = control<int64_t()>("emu_aborted");
    if (!aborted || skips(3, "groups' ends")) return static_cast<void>(std::puts("SKIPPED how groups end: these devices are real"));
    auto* fail_on = control<void(int, int64_t)>("emu_fail_on");
    auto* failed_call = control<const char*()>("emu_failed_call");
    auto* live = control<size_t()>("emu_live_allocations");
    const auto end = [&](int64_t failing, const char* call) {
        std::byte* memory[] = {*device(0).allocate(64), *device(1).allocate(64)};
        for (int r : {0, 1}) REQUIRE(device(r).zero(memory[r], 64).ok());
        const int64_t aborted_before = aborted();
        auto group = device_group("data", {0, 1}, {&device(0), &device(1)}, std::chrono::milliseconds(2000));
        std::vector<std::thread> ranks;
        for (const int r : {0, 1})
            ranks.emplace_back([&, r] {
                const Status status = group[static_cast<size_t>(r)]->all_reduce({memory[r], 64}, DType::f32, Team{0, 1});
                check(status.ok() && device(r).finish().ok(), status.message());
            });
        for (auto& rank : ranks) rank.join();
        fail_on(1, failing);
        group.clear();  // from one thread
        const std::string failed = failed_call();
        CHECK_MESSAGE(failed == call, failed);
        fail_on(-1, 0);
        for (int r : {0, 1}) device(r).release(memory[r]);
        return aborted() - aborted_before;
    };
    static_cast<void>(end(0, ""));  // events that stay are made
    const size_t before = live();
    CHECK(end(0, "") == 0);
    CHECK(end(2, "ncclCommFinalize") == 2);
    CHECK(end(3, "ncclCommDestroy") == 1);
    CHECK(live() == before);
    const int64_t so_far = aborted();
    CHECK(train(config("cuda", layout(R"("data": 2)", "", 2))).failure == "");
    CHECK(aborted() == so_far);
    CHECK(first_fault() == "");
}

TEST_CASE("devices/a_device_that_failed_leaves_its_groups_though_others_do_not_come") {
    auto* fail_on = control<void(int, int64_t)>("emu_fail_on");
    if (!fail_on) return static_cast<void>(std::puts("SKIPPED a device that fails: these are real"));
    std::vector<std::unique_ptr<Device>> own;
    std::vector<std::byte*> memory;
    for (const int number : {4, 5}) {
        own.push_back(std::move(*Device::open("cuda", number)));
        memory.push_back(*own.back()->allocate(64));
        REQUIRE(own.back()->zero(memory.back(), 64).ok());
    }
    const std::vector<Device*> both{own[0].get(), own[1].get()};
    auto first = device_group("first", {0, 1}, both, std::chrono::minutes(5)),
         second = device_group("second", {0, 1}, both, std::chrono::minutes(5));
    for (auto* group : {&first, &second}) {
        std::vector<std::thread> ranks;
        for (size_t r : {size_t{0}, size_t{1}})
            ranks.emplace_back([&, r] {
                const Status status = (*group)[r]->all_reduce({memory[r], 64}, DType::f32, Team{0, 1});
                check(status.ok() && own[r]->finish().ok(), status.message());
            });
        for (auto& rank : ranks) rank.join();
    }
    REQUIRE(second[0]->all_reduce({memory[0], 64}, DType::f32, Team{0, 1}).ok());  // the other does not come
    fail_on(4, 2);                                                                 // behind the choice of the device
    CHECK_FALSE(own[0]->scale(reinterpret_cast<float*>(memory[0]), 16, 2).ok());
    fail_on(-1, 0);
    const auto begin = std::chrono::steady_clock::now();
    first.clear();
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
    second.clear();
    for (size_t r : {size_t{0}, size_t{1}}) own[r]->release(memory[r]);
    own.clear();
    CHECK(first_fault() == "");
}

TEST_CASE("devices/layouts_train_as_on_the_cpu") {
    const auto one = train(config("cpu", layout(R"("data": 1)")));
    REQUIRE(one.failure == "");
    const std::string bf16 = R"(, "bf16": {"enabled": true}, "communication_data_type": "bf16")";
    const auto zero = [](int stage) {
        return R"(, "zero_optimization": {"stage": )" + std::to_string(stage) +
               R"(, "stage3_param_persistence_threshold": 10, "reduce_bucket_size": 200})";
    };
    struct Case {
        const char* name;
        std::string more;
        int ranks = 2;
    };
    const char* early = R"(, "zero_optimization": {"reduce_bucket_size": 200, "overlap_comm": true})";
    const Case cases[] = {{"data 2", layout(R"("data": 2)", "", 2)},
                          {"data 2, sums leave early", layout(R"("data": 2)", early, 2)},
                          {"zero 1", layout(R"("data": 2)", zero(1), 2)},
                          {"zero 2", layout(R"("data": 2)", zero(2), 2)},
                          {"zero 3", layout(R"("data": 2)", zero(3), 2)},
                          {"data 4", layout(R"("data": 4)", "", 4), 4},
                          {"tensor 2", layout(R"("tensor": 2)")},
                          {"tensor 2 in regions", layout(R"("tensor": 2, "sequence_regions": "on")")},
                          {"pipeline 2", layout(R"("pipeline": 2)")},
                          {"ulysses 2", layout(R"("sequence": 2, "sequence_attention": "ulysses")")},
                          {"ring 2", layout(R"("sequence": 2, "sequence_attention": "ring")")},
                          {"tensor 2 x data 2, zero 1", layout(R"("tensor": 2, "data": 2)", zero(1), 2), 4}};
    for (const Case& c : cases) {
        INFO(c.name);
        if (skips(c.ranks, c.name)) continue;
        const auto there = train(config("cuda", c.more)), here = train(config("cpu", c.more));
        REQUIRE(there.failure == "");
        REQUIRE(here.failure == "");
        for (size_t i = 0; i < one.losses.size(); ++i) {
            CHECK(there.losses[i] == doctest::Approx(one.losses[i]).epsilon(1e-5));
            CHECK(there.losses[i] == doctest::Approx(here.losses[i]).epsilon(1e-5));
        }
        for (size_t i = 0; i < one.weight.size(); ++i) CHECK(there.weight[i] == doctest::Approx(one.weight[i]).epsilon(2e-3));
        const auto again = train(config("cuda", c.more));
        CHECK(again.losses == there.losses);  // bit for bit
        CHECK(again.weight == there.weight);
    }
    if (skips(2, "bf16")) return;
    const auto low = train(config("cuda", layout(R"("data": 2)", bf16, 2))),
               low_here = train(config("cpu", layout(R"("data": 2)", bf16, 2)));
    REQUIRE(low.failure == "");
    for (size_t i = 0; i < low.losses.size(); ++i) CHECK(low.losses[i] == doctest::Approx(low_here.losses[i]).epsilon(5e-3));
    CHECK(first_fault() == "");
}

// That exchanges are ordered with what touches their memory is what the double checks in each test; here, that they are not ordered with
// more than that.
TEST_CASE("devices/exchanges_run_beside_the_backward_pass") {
    auto* beside = control<int64_t()>("emu_beside");
    if (!beside) return static_cast<void>(std::puts("SKIPPED what runs beside exchanges: these devices are real"));
    const auto counted = [&](const std::string& more) {
        const int64_t before = beside();
        CHECK(train(config("cuda", more)).failure == "");
        return beside() - before;
    };
    const auto zero = [](int stage) {
        return R"(, "zero_optimization": {"stage": )" + std::to_string(stage) +
               R"(, "stage3_param_persistence_threshold": 10, "reduce_bucket_size": 200})";
    };
    const int64_t sums = counted(layout(R"("data": 2)", R"(, "zero_optimization": {"reduce_bucket_size": 200, "overlap_comm": true})", 2)),
                  buckets = counted(layout(R"("data": 2)", zero(2), 2)), none = counted(layout(R"("data": 1)"));
    MESSAGE("kernels that may run beside an exchange: " << sums << " with whole gradients, " << buckets << " with ZeRO 2");
    CHECK(sums > 20);
    CHECK(buckets > 20);
    CHECK(none == 0);
    CHECK(first_fault() == "");
}

TEST_CASE("devices/low_copies_are_rounded_by_chance_as_on_the_cpu") {
    if (skips(1, "rounding by chance")) return;
    constexpr int64_t kCount = 1000;
    std::vector<float> x(kCount);
    for (size_t i = 0; i < x.size(); ++i) x[i] = (i % 2 ? -1.0f : 1.0f) * (0.5f + 0.0013f * static_cast<float>(i));
    const Rounding draws{.seed = 11, .step = 4, .salt = 0x123456789abcdefu, .first = (int64_t{1} << 33) + 3};
    Device& on = device(0);
    std::byte *weight = *on.allocate(4 * kCount), *low = *on.allocate(2 * kCount);
    REQUIRE(on.upload(weight, x.data(), 4 * kCount).ok());
    REQUIRE(on.sweep({.rule = SweepRule::keep,
                      .weight = reinterpret_cast<float*>(weight),
                      .count = kCount,
                      .low = low,
                      .low_dtype = static_cast<int32_t>(DType::bf16),
                      .rounding = &draws})
                .ok());
    std::vector<uint16_t> there(kCount), here(kCount);
    REQUIRE(on.download(there.data(), low, 2 * kCount).ok());
    cpu::bf16_by_chance(x.data(), kCount, draws, here.data());
    CHECK(there == here);
    on.release(weight), on.release(low);
    const std::string chance = R"(, "bf16": {"enabled": true, "stochastic_rounding": true})";
    const auto cuda = train(config("cuda", layout(R"("data": 1)", chance))), cpu = train(config("cpu", layout(R"("data": 1)", chance))),
               nearest = train(config("cpu", layout(R"("data": 1)", R"(, "bf16": {"enabled": true})")));
    REQUIRE(cuda.failure == "");
    REQUIRE(cpu.failure == "");
    CHECK(cpu.losses != nearest.losses);
    for (size_t i = 0; i < cuda.losses.size(); ++i) CHECK(cuda.losses[i] == doctest::Approx(cpu.losses[i]).epsilon(5e-3));
    CHECK(first_fault() == "");
}

// How a plan looks is in tests/passes/zero; here, that devices have such plans, and that these give the same bits. That no kernel reads a
// weight that may not be there yet, and no gather writes over one that may still be read, is what the double checks.
TEST_CASE("devices/weights_are_gathered_while_others_are_used") {
    if (skips(2, "weights gathered ahead")) return;
    const auto folder = std::filesystem::temp_directory_path() / ("dsrt-gather-ahead-" + std::to_string(::getpid()));
    const auto there = [&](const char* ahead, bool& found) {
        std::filesystem::create_directories(folder);
        setenv("DSRT_DUMP", folder.c_str(), 1);
        const std::string zero =
            R"(, "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 10, "stage3_max_reuse_distance": 0, "reduce_bucket_size": 200, "stage3_prefetch_bucket_size": )";
        Trained trained = train(config("cuda", layout(R"("data": 2)", zero + ahead + "}", 2)));
        unsetenv("DSRT_DUMP");
        found = false;
        for (const auto& file : std::filesystem::directory_iterator(folder)) {
            if (!file.path().string().ends_with(".kernels.txt")) continue;
            std::ifstream plan(file.path());
            for (std::string line, before; std::getline(plan, line); before = line)
                found |= line.starts_with("gather_parts") && before.starts_with("gather_parts");
        }
        std::filesystem::remove_all(folder);
        return trained;
    };
    bool with = false, without = false;
    const Trained ahead = there("1000", with), when_used = there("0", without);
    REQUIRE(ahead.failure == "");
    REQUIRE(when_used.failure == "");
    CHECK(with);
    CHECK_FALSE(without);
    CHECK(ahead.losses == when_used.losses);  // bit for bit
    CHECK(ahead.weight == when_used.weight);
    CHECK(first_fault() == "");
}

TEST_CASE("devices/experts_on_several_devices_train_as_on_the_cpu") {
    if (skips(2, "experts")) return;
    const auto experts = [](const char* device_name, const char* more) {
        return std::string(
                   R"({"model": {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "vocab_size": 12, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 16, "num_local_experts": 4, "num_experts_per_tok": 2}, "model_init": "random",
            "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 2, "logger": {"default_verbosity": "ERROR"}, "threads": 1, "optimizer": {"type": "AdamW", "params": {"lr": 0.01}}, "device": ")") +
               device_name + R"(", "parallel": {"data": 2, "expert": 2})" + more + "}";
    };
    for (const char* more : {"", R"(, "bf16": {"enabled": true})"}) {
        const Trained there = train(experts("cuda", more), nullptr, 0, 4, "model.layers.1.self_attn.q_proj.weight"),
                      here = train(experts("cpu", more), nullptr, 0, 4, "model.layers.1.self_attn.q_proj.weight");
        REQUIRE(there.failure == "");
        REQUIRE(here.failure == "");
        const double bound = *more ? 5e-3 : 1e-5;
        for (size_t i = 0; i < there.losses.size(); ++i) CHECK(there.losses[i] == doctest::Approx(here.losses[i]).epsilon(bound));
        CHECK(train(experts("cuda", more), nullptr, 0, 4, "model.layers.1.self_attn.q_proj.weight").losses == there.losses);  // bit for bit
    }
    CHECK(first_fault() == "");
}

TEST_CASE("devices/processes_train_as_ranks_of_one_do") {
    struct Case {
        const char* name;
        std::string more;
        bool deals;
    };
    const Case cases[] = {{"data 2", layout(R"("data": 2)", "", 2), true},
                          {"tensor 2", layout(R"("tensor": 2)"), false},
                          {"pipeline 2", layout(R"("pipeline": 2)"), false}};
    for (const Case& c : cases) {
        INFO(c.name);
        if (skips(2, c.name)) continue;
        const Trained one = train(config("cuda", c.more));
        REQUIRE(one.failure == "");
        for (const Trained& process : train_processes(config("cuda", c.more), 2, c.deals)) {
            CHECK(process.failure == "");
            CHECK(process.losses == one.losses);  // bit for bit
            CHECK(process.weight == one.weight);
        }
    }
    CHECK(first_fault() == "");
}

TEST_CASE("devices/what_can_not_be_is_told") {
    if (devices() != 8) return static_cast<void>(std::puts("SKIPPED ranks without a device: it needs exactly 8 devices"));
    const std::string many = train(config("cuda", layout(R"("data": 16)", "", 2))).failure;
    INFO(many);
    CHECK(many.find("DS_E_DEVICE: device: cuda: a GPU a rank: 16 ranks of this process, behind 0 of other processes of this host, need 16 "
                    "GPUs, but 8 can be used") == 0);
}

TEST_CASE("devices/every_call_that_fails_is_told") {
    auto* fail_on = control<void(int, int64_t)>("emu_fail_on");
    if (!fail_on) return static_cast<void>(std::puts("SKIPPED failing calls: these devices are real"));
    auto* failed_call = control<const char*()>("emu_failed_call");
    auto* live = control<size_t()>("emu_live_allocations");
    auto* fault = control<const char*()>("emu_first_fault");
    const size_t before = live();  // the devices of the tests above
    const bool every = std::getenv("DSRT_FULL") && std::string(std::getenv("DSRT_FULL")) == "1";
    for (const auto& [name, text] :
         {std::pair{"data 2", config("cuda", layout(R"("data": 2)", "", 2))}, {"pipeline 2", config("cuda", layout(R"("pipeline": 2)"))}}) {
        fail_on(1, 0);
        const Trained whole = train(text);
        REQUIRE(whole.failure == "");
        MESSAGE(std::string(name) << ": " << whole.calls << " calls for device 1; "
                                  << std::string(every ? "each fails once" : "every 41st fails once (DSRT_FULL=1: each)"));
        for (int64_t n = 1; n <= whole.calls; n += every ? 1 : 41) {
            fail_on(1, n);
            const std::string failure = train(text).failure, call = failed_call();
            INFO(std::string(name) << ": call " << n << " of " << whole.calls << ", " << call << ": " << failure);
            REQUIRE(!call.empty());
            CHECK(!failure.empty());
            const bool coded = failure.find("DS_E_DEVICE: ") == 0 || failure.find("DS_E_OUT_OF_MEMORY: ") == 0 ||
                               failure.find("DS_E_COMM: ") == 0 || failure.find("DS_E_UNSUPPORTED: ") == 0;
            CHECK(coded);
            CHECK(failure.find("cuda: ") != std::string::npos);
            CHECK(live() == before);
            CHECK(std::string(fault()) == "");
        }
        fail_on(-1, 0);
        CHECK(train(text).losses == whole.losses);
    }
}
