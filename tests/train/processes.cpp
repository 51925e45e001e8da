// Several processes make one job, started with torchrun's variables: whatever the layout, they end with the bits of the same layout in one
// process; what they are given differently is refused, with process and key.
#include <dsrt/dsrt.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/json.h"
#include "support/checks.h"
#include "support/processes.h"

namespace {

using checks::check, checks::failed;
using ds::Json;
using job::must, job::rank_here, job::size_here;
namespace fs = std::filesystem;

constexpr int kRows = 4, kLength = 12, kVocabulary = 64;

// "data=2,tensor=2,zero=1": degrees of the mesh, ZeRO's stage, the pipeline's chunks, bf16, whether sums overlap.
struct Layout {
    std::map<std::string, int> is{{"data", 1},   {"tensor", 1}, {"sequence", 1},  {"pipeline", 1}, {"zero", 0},
                                  {"chunks", 1}, {"bf16", 0},   {"adafactor", 0}, {"expert", 1},   {"overlap", 0}};
    explicit Layout(const std::string& text) {
        std::stringstream words(text);
        for (std::string word; std::getline(words, word, ',');)
            is.at(word.substr(0, word.find('='))) = std::stoi(word.substr(word.find('=') + 1));
    }
    int operator[](const char* name) const { return is.at(name); }
    int ranks() const { return is.at("data") * is.at("tensor") * is.at("sequence") * is.at("pipeline"); }
    // The data ranks of one of so many processes: first and last.
    std::pair<int, int> data_ranks(int process, int processes) const {
        const int here = ranks() / processes;
        std::pair<int, int> found{ranks(), 0};
        for (int r = process * here; r < (process + 1) * here; ++r) {
            const int d = r / is.at("tensor") / is.at("sequence") % is.at("data");
            found = {std::min(found.first, d), std::max(found.second, d)};
        }
        return found;
    }
};

Json config_of(const std::string& text) {
    const Layout l(text);
    Json config = {{"model",
                    {{"model_type", "gpt2"},
                     {"architectures", {"GPT2LMHeadModel"}},
                     {"n_layer", 2 * l["chunks"]},
                     {"n_embd", 32},
                     {"n_head", 4},
                     {"vocab_size", kVocabulary},
                     {"n_positions", 32},
                     {"attn_pdrop", 0.1},
                     {"resid_pdrop", 0.1},
                     {"embd_pdrop", 0.1}}},
                   {"train_micro_batch_size_per_gpu", kRows / l["data"]},
                   {"gradient_accumulation_steps", 2},
                   {"gradient_clipping", 0.5},
                   {"threads", 1},
                   {"parallel", {{"data", l["data"]}, {"tensor", l["tensor"]}, {"sequence", l["sequence"]}, {"pipeline", l["pipeline"]}}},
                   {"zero_optimization", {{"stage", l["zero"]}, {"stage3_param_persistence_threshold", 0}}},
                   {"logger", {{"default_verbosity", "ERROR"}}},
                   {"comm", {{"deadline_seconds", 20}, {"join_seconds", 30}}},
                   {"optimizer", {{"type", l["adafactor"] ? "Adafactor" : "AdamW"}, {"params", {{"lr", 1e-3}, {"weight_decay", 0.1}}}}}};
    if (l["chunks"] > 1) config["pipeline"] = {{"schedule", "interleaved"}, {"chunks", l["chunks"]}};
    if (l["overlap"]) config["zero_optimization"]["overlap_comm"] = true;
    if (l["bf16"]) config["bf16"] = {{"enabled", true}};
    if (l["expert"] > 1) {
        config["parallel"]["expert"] = l["expert"];
        config["model"] = {{"model_type", "mixtral"},
                           {"architectures", {"MixtralForCausalLM"}},
                           {"hidden_size", 32},
                           {"intermediate_size", 40},
                           {"num_hidden_layers", 2},
                           {"num_attention_heads", 4},
                           {"num_key_value_heads", 2},
                           {"vocab_size", kVocabulary},
                           {"max_position_embeddings", 32},
                           {"num_local_experts", 5},
                           {"num_experts_per_tok", 2},
                           {"output_router_logits", true},
                           {"router_aux_loss_coef", 0.02}};
    }
    return config;
}

// Rows [first, first + count) of a micro-batch.
ds_batch* batch_of(int number, int first, int count) {
    ds_batch* b = nullptr;
    must(ds_batch_create(&b), "batch");
    std::vector<int32_t> ids, labels;
    for (int row = first; row < first + count; ++row)
        for (int i = 0; i < kLength; ++i) {
            ids.push_back((row * 7919 + i * i * 31 + number * 101 + i) % kVocabulary);
            labels.push_back(i < kLength - 2 * row ? ids.back() : -100);
        }
    const int64_t shape[2] = {count, kLength};
    for (const auto& [name, data] : {std::pair{"input_ids", &ids}, {"labels", &labels}}) {
        ds_tensor* t = nullptr;
        must(ds_tensor_create(DS_I32, 2, shape, data->data(), data->size() * 4, &t), name);
        must(ds_batch_set(b, name, t), name);
        ds_tensor_destroy(t);
    }
    return b;
}

std::vector<float> values(ds_tensor* t) {
    int32_t ndim;
    const int64_t* shape;
    ds_tensor_info(t, nullptr, &ndim, &shape);
    size_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= static_cast<size_t>(shape[d]);
    std::vector<float> out(n);
    must(ds_tensor_read(t, DS_F32, out.data(), n * 4), "read");
    ds_tensor_destroy(t);
    return out;
}

void append(std::vector<float>& all, ds_engine* e, int what) {
    size_t count = 0;
    must(ds_param_count(e, &count), "count");
    for (size_t i = 0; i < count; ++i) {
        const char* name = nullptr;
        ds_tensor* t = nullptr;
        must(ds_param_name(e, i, &name), "name");
        must(ds_param_get(e, name, what, &t), name);
        const auto v = values(t);
        all.insert(all.end(), v.begin(), v.end());
    }
}

void keep(const std::string& path, const std::vector<float>& numbers) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(numbers.data()), static_cast<std::streamsize>(numbers.size() * 4));
}

std::string kept(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

// What is the same in all processes: losses, metrics, gradients, weights, moments. And the rows of an output, which are each process's own.
void train(const std::string& layout, const std::string& out, const std::string& folder) {
    const Layout l(layout);
    const int rank = rank_here(), rows = kRows / l["data"];
    const auto [first_data, last_data] = l.data_ranks(rank, size_here());
    const int first = first_data * rows, count = (last_data - first_data + 1) * rows;
    ds_engine* e = nullptr;
    must(ds_engine_create(config_of(layout).dump().c_str(), nullptr, &e), "create");
    std::vector<float> same, own;
    for (int step = 0; step < 3; ++step) {
        for (int micro = 0; micro < 2; ++micro) {
            ds_batch* b = batch_of(step * 2 + micro, first, count);
            float loss = 0;
            must(ds_forward(e, b, &loss), "forward");
            if (step == 1) {
                ds_tensor* t = nullptr;
                must(ds_output(e, "logits", &t), "output");
                own = values(t);
                must(ds_forward(e, b, &loss), "forward again");
            }
            must(ds_backward(e), "backward");
            same.push_back(loss);
            ds_batch_destroy(b);
        }
        if (step == 1) append(same, e, DS_GRAD);
        must(ds_step(e), "step");
        for (const char* name : {"grad_norm", "loss", "global_samples", "tokens", "lr"}) {
            double value = 0;
            must(ds_metric(e, name, &value), name);
            same.push_back(static_cast<float>(value));
        }
        if (step == 1) must(ds_save(e, folder.c_str(), nullptr, "{\"client_state\": {\"step\": 2}}"), "save");
    }
    ds_batch* b = batch_of(99, first, count);
    float loss = 0;
    must(ds_eval(e, b, &loss), "eval");
    same.push_back(loss);
    ds_batch_destroy(b);
    append(same, e, DS_WEIGHT);
    if (!l["adafactor"])
        for (const int what : {DS_FIRST_MOMENT, DS_SECOND_MOMENT}) append(same, e, what);
    must(ds_export(e, (folder + "/export").c_str(), nullptr), "export");
    // Back to the checkpoint and forward again: the same end.
    must(ds_load(e, folder.c_str(), nullptr, nullptr), "load");
    for (int micro = 0; micro < 2; ++micro) {
        b = batch_of(4 + micro, first, count);
        must(ds_forward(e, b, &loss), "forward");
        must(ds_backward(e), "backward");
        ds_batch_destroy(b);
    }
    must(ds_step(e), "step");
    append(same, e, DS_WEIGHT);
    keep(out + ".same." + std::to_string(rank), same);
    keep(out + ".own." + std::to_string(rank), own);
    ds_engine_destroy(e);
}

// Answers "status text" of a call that the processes do not make alike, and whether the engine is of use afterwards.
void disagree(const std::string& how, const std::string& out) {
    const int rank = rank_here();
    Json config = config_of(how == "rows" ? "tensor=2" : "data=2");
    if (how == "lr" && rank == 1) config["optimizer"]["params"]["lr"] = 2e-3;
    if (how == "seed" && rank == 1) config["seed"] = 4;
    if (how == "model" && rank == 1) config["model"]["n_layer"] = 3;
    if (how == "own") config["threads"] = rank + 1;
    config["comm"]["join_seconds"] = 15;
    std::string text;
    ds_cancel* cancel = nullptr;
    ds_options* options = nullptr;
    must(ds_options_create(&options), "options");
    must(ds_cancel_create(&cancel), "cancel");
    must(ds_options_set_cancel(options, cancel), "cancel");
    ds_engine* e = nullptr;
    const auto say = [&](ds_status s) { text += std::string(ds_status_name(s)) + " " + (s < 0 ? ds_last_error() : "") + "\n"; };
    say(ds_engine_create(config.dump().c_str(), options, &e));
    if (e) {
        float loss = 0;
        ds_batch* b = batch_of(how == "rows" && rank == 1, 0, 2);
        if (how == "cancel" && rank == 1) must(ds_cancel_set(cancel, 1), "cancel");
        if (how == "bad" && rank == 1) {
            ds_batch_destroy(b);
            must(ds_batch_create(&b), "batch");
        }
        say(how == "calls" && rank == 1 ? ds_eval(e, b, &loss) : ds_forward(e, b, &loss));
        must(ds_cancel_set(cancel, 0), "cancel");
        ds_batch_destroy(b);
        b = batch_of(0, 0, 2);
        say(ds_forward(e, b, &loss));
        ds_batch_destroy(b);
    }
    std::ofstream(out + "." + std::to_string(rank)) << text;
    ds_engine_destroy(e);
    ds_options_destroy(options);
    ds_cancel_destroy(cancel);
}

std::string self, work;

job::Job start(int n, const std::vector<std::string>& words) {
    const int port = job::free_ports();
    return job::start(
        n,
        [&](int) {
            std::vector<std::string> argv{self};
            argv.insert(argv.end(), words.begin(), words.end());
            return argv;
        },
        [&](int r) { return job::torchrun(r, n, port); });
}

using Starter = std::function<job::Job(int processes, const std::vector<std::string>& words)>;

void same_bits(int processes, const std::string& layout, const std::string& where = "", const Starter& start_job = start) {
    const int before = failed;
    const std::string name = layout + " in " + std::to_string(processes) + " processes" + where, one = work + "/one", many = work + "/many";
    job::Job alone = job::start(
        1,
        [&](int) {
            return std::vector<std::string>{self, "train", layout, one, one + ".d"};
        },
        [](int) { return job::Variables{}; });
    check(alone.wait() && alone.all_well(), layout + " in one process");
    job::Job job = start_job(processes, {"train", layout, many, many + ".d"});
    const bool well = job.wait() && job.all_well();
    check(well, name + " ends well:" + job.states());
    const Layout layout_(layout);
    std::map<int, std::string> own;  // by the first data rank
    for (int p = 0; p < processes; ++p) {
        check(!kept(one + ".same.0").empty() && kept(many + ".same." + std::to_string(p)) == kept(one + ".same.0"),
              name + ": process " + std::to_string(p) + " has other bits than one process");
        const std::string rows = kept(many + ".own." + std::to_string(p));
        const int first = layout_.data_ranks(p, processes).first;
        const auto [known, fresh] = own.try_emplace(first, rows);
        check(known->second == rows, name + ": processes that share rows have other outputs");
    }
    std::string all;
    for (const auto& [first, rows] : own) all += rows;
    check(!all.empty() && all == kept(one + ".own.0"), name + ": the rows of the outputs are not those of one process");
    for (const char* file : {"/global_step2/weights.safetensors", "/global_step2/optimizer.safetensors", "/export/model.safetensors"})
        check(!kept(one + ".d" + file).empty() && kept(many + ".d" + file) == kept(one + ".d" + file), name + ": another " + file);
    if (failed == before) std::printf("%s: the same bits as in one process\n", name.c_str());
    for (const auto& entry : fs::directory_iterator(work)) fs::remove_all(entry.path());
}

void differently(const std::string& how, const std::string& words, const std::string& other_words) {
    job::Job job = start(2, {"disagree", how, work + "/" + how});
    const bool well = job.wait() && job.all_well();
    check(well, how + ": both processes go on:" + job.states());
    for (int p = 0; p < 2; ++p) {
        const std::string text = kept(work + "/" + how + "." + std::to_string(p)), wanted = p ? other_words : words;
        check(text.find(wanted) != text.npos, how + ": process " + std::to_string(p) + " should say \"" + wanted + "\", but says: " + text);
    }
}

// By mpirun, through the MPI plug-in.
void under_mpirun(bool has_plugin) {
    const char* missing = !has_plugin                                            ? "libdsrt_mpi.so is not built here"
                          : std::system("mpirun --version >/dev/null 2>&1") != 0 ? "there is no mpirun"
                                                                                 : nullptr;
    if (missing) return void(std::printf("SKIPPED jobs of mpirun: %s\n", missing));
    // Under a sanitizer, without its search for leaks: Open MPI's own come from plug-ins that are gone by then, so no suppression can name
    // them.
    const char* given = std::getenv("ASAN_OPTIONS");
    const job::Variables variables{{"OMPI_MCA_btl_vader_single_copy_mechanism", "none"},
                                   {"ASAN_OPTIONS", std::string(given ? given : "") + ":detect_leaks=0"}};
    const auto mpirun = [&](const std::string& mapping) {
        return [mapping, variables](int n, const std::vector<std::string>& words) {
            std::vector<std::string> argv{"mpirun", "--oversubscribe", "--bind-to", "none", "-n", std::to_string(n)};
            if (geteuid() == 0) argv.insert(argv.begin() + 1, "--allow-run-as-root");
            if (!mapping.empty()) argv.insert(argv.end(), {"-x", "MASTER_ADDR=127.0.0.1", "-x", mapping});
            argv.push_back(self);
            argv.insert(argv.end(), words.begin(), words.end());
            return job::start(
                1, [&](int) { return argv; }, [&](int) { return variables; });
        };
    };
    same_bits(2, "data=2", " under mpirun", mpirun(""));
    if (std::getenv("DSRT_FULL")) {
        same_bits(2, "tensor=4", " under mpirun", mpirun(""));
        same_bits(4, "data=2,tensor=2,zero=1", " under mpirun", mpirun(""));
    }
    same_bits(2, "data=2", " under mpirun, over Gloo", mpirun("MASTER_PORT=" + std::to_string(job::free_ports())));
}

bool shell(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }

// Two hosts: network namespaces joined by a cable.
void on_two_hosts() {
    const std::string id = std::to_string(getpid() % 100000), a = "dsrta" + id, b = "dsrtb" + id;
    const auto down = [&] { shell("ip netns del " + a), shell("ip netns del " + b); };
    const bool up =
        shell("ip netns add " + a) && shell("ip netns add " + b) &&
        shell("ip -n " + a + " link add veth0 type veth peer name veth0 netns " + b) &&
        shell("ip -n " + a + " addr add 10.77.0.1/24 dev veth0 && ip -n " + a + " link set veth0 up && ip -n " + a + " link set lo up") &&
        shell("ip -n " + b + " addr add 10.77.0.2/24 dev veth0 && ip -n " + b + " link set veth0 up && ip -n " + b + " link set lo up");
    if (!up) {
        down();
        return void(std::puts("SKIPPED a job on two hosts: network namespaces can't be made here"));
    }
    const std::string secret = work + "/secret", wrong = work + "/wrong";
    const auto starter = [&](const std::string& first, const std::string& second) {
        return [&, first, second](int n, const std::vector<std::string>& words) {
            const int port = job::free_ports();
            std::ofstream(secret) << "0123456789abcdef0123456789abcdef\n";
            std::ofstream(wrong) << "another secret of enough bytes\n";
            return job::start(
                n,
                [&](int r) {
                    std::vector<std::string> argv{"ip", "netns", "exec", r ? b : a, self};
                    argv.insert(argv.end(), words.begin(), words.end());
                    return argv;
                },
                [&](int r) {
                    job::Variables v = job::torchrun(r, n, port);
                    v["LOCAL_RANK"] = "0", v["LOCAL_WORLD_SIZE"] = "1", v["MASTER_ADDR"] = "10.77.0.1";
                    const std::string& file = r ? second : first;
                    if (!file.empty()) v["DSRT_SECRET_FILE"] = file;
                    return v;
                });
        };
    };
    same_bits(2, "data=2", " on two hosts", starter(secret, secret));
    for (const auto& [first, second, words] :
         {std::tuple{std::string(), std::string(), "needs a secret"}, {secret, wrong, "does not know the secret"}}) {
        job::Job job = starter(first, second)(2, {"disagree", "own", work + "/hosts"});
        const bool well = job.wait() && job.all_well();
        check(well, std::string(words) + ": both go on:" + job.states());
        check(kept(work + "/hosts.1").find(words) != std::string::npos,
              std::string("two hosts: should say \"") + words + "\", but says " + kept(work + "/hosts.1"));
    }
    down();
}

}  // namespace

int main(int argc, char** argv) {
    self = fs::canonical("/proc/self/exe").string();
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "train" && argc == 5) return train(argv[2], argv[3], argv[4]), 0;
    if (what == "disagree" && argc == 4) return disagree(argv[2], argv[3]), 0;
    const std::string info = ds_build_info();
    if (!Json::parse(info)["optional"]["gloo"]["found"].get<bool>()) {
        std::puts("SKIPPED jobs of several processes: libdsrt_gloo.so is not built here\n0 passed, 0 failed");
        return 0;
    }
    work = (fs::temp_directory_path() / "dsrt-processes-XXXXXX").string();
    if (!mkdtemp(work.data())) return 1;
    same_bits(2, "data=2");
    same_bits(2, "tensor=2");
    same_bits(2, "pipeline=2");
    same_bits(2, "data=4,zero=1,overlap=1");
    same_bits(2, "data=2,zero=2");
    same_bits(3, "data=3,zero=3,bf16=1");
    same_bits(4, "data=2,tensor=2,zero=1");
    same_bits(2, "data=2,expert=2");
    same_bits(2, "data=4,expert=2,zero=2");
    if (std::getenv("DSRT_FULL")) {
        same_bits(3, "tensor=3");
        same_bits(2, "tensor=4");
        same_bits(2, "sequence=2");
        same_bits(2, "data=2,tensor=2");
        same_bits(4, "data=4,overlap=1");
        same_bits(2, "data=2,zero=1,bf16=1,overlap=1");
        same_bits(2, "data=4,zero=3");
        same_bits(2, "data=2,zero=1,bf16=1");
        same_bits(2, "data=2,zero=1,adafactor=1");
        same_bits(4, "tensor=2,data=4,zero=1");
        same_bits(2, "pipeline=2,data=2");
        same_bits(4, "pipeline=2,data=2,zero=1");
        same_bits(2, "pipeline=2,tensor=2");
        same_bits(2, "pipeline=2,chunks=2,tensor=2");
        for (const char* zero : {"0", "1", "3"}) same_bits(4, std::string("data=4,expert=2,zero=") + zero);
    }
    under_mpirun(Json::parse(info)["optional"]["mpi"]["found"].get<bool>());
    on_two_hosts();
    differently("own", "DS_OK \nDS_OK", "DS_OK \nDS_OK");
    differently("lr", "process 1 differs from process 0 in optimizer.params.lr: 0.002 and 0.001",
                "process 1 differs from process 0 in optimizer.params.lr");
    differently("seed", "in seed: 4 and 1234", "in seed");
    differently("model", "process 1 differs from process 0 in", "process 1 differs from process 0 in");
    differently("rows", "DS_E_INVALID_ARGUMENT ds_forward: the processes 0 and 1 share data rank 0 but were given different batches",
                "must pass the same rows\nDS_OK");
    differently("cancel", "DS_E_CANCELLED the call was cancelled in process 1\nDS_OK", "DS_E_CANCELLED the call was cancelled\nDS_OK");
    differently("bad", "DS_E_COMM process 1: DS_E_INVALID_ARGUMENT", "DS_E_INVALID_ARGUMENT");
    differently("calls", "DS_E_COMM", "all processes must make the same calls");
    fs::remove_all(work);
    return checks::result();
}
