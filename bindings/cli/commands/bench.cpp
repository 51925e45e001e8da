// Times training steps of a config on made-up tokens.
#include <algorithm>
#include <chrono>
#include <limits>

#include "../command.h"

namespace dsrt::cli {
namespace {

struct Options {
    std::string config;
    int64_t steps = 10, rows = 0, length = 128;
};

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::vector<int32_t> ids(int64_t count, int64_t below, int64_t salt) {
    std::vector<int32_t> out;
    for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<int32_t>((7919 * i + 13 * salt) % below));
    return out;
}

// transformers writes the names of labels only.
int64_t labels_of(const Json& model) {
    const auto names = model.find("id2label");
    return names != model.end() && names->is_object() ? static_cast<int64_t>(names->size()) : model.value("num_labels", int64_t{2});
}

Batch made_up(Engine& engine, const Options& o) {
    const Json config = Json::parse(engine.get("")), model = Json::parse(engine.get("model_config"));
    const int64_t rows = o.rows ? o.rows : config.value("train_micro_batch_size_per_gpu", int64_t{1});
    const auto vocabulary = model.value("vocab_size", int64_t{0});
    if (vocabulary == 0) throw std::runtime_error("bench: the config's model has no vocab_size; bench makes up token ids");
    constexpr int64_t most = std::numeric_limits<int32_t>::max();
    if (rows > most / o.length)
        throw std::runtime_error("bench: " + std::to_string(rows) + " rows of " + std::to_string(o.length) +
                                 " tokens are more than a micro-batch may have, " + std::to_string(most));
    Batch batch;
    batch.set("input_ids", {rows, o.length}, ids(rows * o.length, vocabulary, 1));
    const std::string architecture = model.value("architectures", Json::array({""})).at(0).get<std::string>();
    if (architecture.find("ForSequenceClassification") != std::string::npos) batch.set("labels", {rows}, ids(rows, labels_of(model), 2));
    else if (architecture.find("ForQuestionAnswering") != std::string::npos)
        batch.set("start_positions", {rows}, ids(rows, o.length, 2)).set("end_positions", {rows}, ids(rows, o.length, 3));
    else if (architecture.find("ForTokenClassification") != std::string::npos)
        batch.set("labels", {rows, o.length}, ids(rows * o.length, labels_of(model), 2));
    else batch.set("labels", {rows, o.length}, ids(rows * o.length, vocabulary, 2));
    return batch;
}

}  // namespace

void bench(CommandLine& line) {
    auto* sub =
        line.command("bench", "time training steps of a config on made-up tokens", "  dsrt bench config.json --steps 20 --length 1024");
    auto o = std::make_shared<Options>();
    const CLI::Range count(1, std::numeric_limits<int32_t>::max());
    sub->add_option("config", o->config, "config file, or JSON text")->required();
    sub->add_option("--steps", o->steps, "steps to time, after two to warm up (default 10)")->check(count);
    sub->add_option("--rows", o->rows, "rows of a micro-batch (default: the config's)")->check(count);
    sub->add_option("--length", o->length, "tokens a row (default 128)")->check(count);
    line.on(sub, [&line, o] {
        double begin = seconds_now();
        Engine engine(o->config);
        const double create = seconds_now() - begin;
        const Batch batch = made_up(engine, *o);
        std::vector<double> times;
        for (int64_t step = -2; step < o->steps; ++step) {
            begin = seconds_now();
            Outcome outcome;
            do {
                engine.forward(batch);
                engine.backward();
                outcome = engine.step();
            } while (outcome == Outcome::pending);
            if (step >= 0) times.push_back(seconds_now() - begin);
        }
        std::sort(times.begin(), times.end());
        const double median = times[times.size() / 2];
        Json result{{"create_seconds", create},
                    {"step_seconds", median},
                    {"step_seconds_min", times.front()},
                    {"step_seconds_max", times.back()},
                    {"tokens_per_second", engine.metric("tokens_per_second")},
                    {"peak_bytes", engine.metric("peak_bytes")}};
        if (line.json) print(result);
        else
            std::printf("step %.4f s (%.4f..%.4f), %.0f tokens a second, peak memory %s, engine made in %.2f s\n", median, times.front(),
                        times.back(), result["tokens_per_second"].get<double>(), size_text(result["peak_bytes"].get<double>()).c_str(),
                        create);
        return Exit::done;
    });
}

}  // namespace dsrt::cli
