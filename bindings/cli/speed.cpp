#include "speed.h"

#include <algorithm>
#include <chrono>

namespace dsrt::cli {
namespace {

constexpr int64_t kRows = 256, kWide = 1024, kLayers = 4;
constexpr double kExchangeBytesASecond = 6e9;  // of a rank, in shared memory

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

Graph products() {
    Graph g;
    Graph::Value x = g.input("x", DType::f32, {-1, kWide});
    for (int64_t i = 0; i < kLayers; ++i)
        x = g.op("matmul", {x, g.param("w" + std::to_string(i), {kWide, kWide}, R"({"type": "normal", "std": 0.02})")});
    g.loss(g.op("mean", {g.op("mul", {x, x})}));
    return g;
}

}  // namespace

Speed measure_speed(const Json& config) {
    Json small{{"train_micro_batch_size_per_gpu", kRows}, {"gradient_clipping", 0}, {"distributed", "none"}};
    for (const char* key : {"bf16", "fp16", "threads", "device"})
        if (config.contains(key)) small[key] = config[key];
    if (config.contains("optimizer") && config["optimizer"].is_object()) small["optimizer"] = config["optimizer"];
    else small["optimizer"] = {{"type", "AdamW"}, {"params", {{"lr", 1e-3}}}};
    const Graph graph = products();
    Options options;
    options.graph(graph);
    Engine engine(small.dump(), &options);
    Batch batch;
    batch.set("x", {kRows, kWide}, std::vector<float>(kRows * kWide, 0.01f));
    double passes = 1e9, update = 1e9;
    for (int i = 0; i < 4; ++i) {  // the first one makes the plan
        const double begin = now();
        engine.forward(batch);
        engine.backward();
        const double middle = now();
        engine.step();
        if (i > 0) passes = std::min(passes, middle - begin), update = std::min(update, now() - middle);
    }
    const double product = 2.0 * kRows * kWide * kWide;
    return {(3 * kLayers - 1) * product / passes, kLayers * static_cast<double>(kWide * kWide) / update};  // no gradient of x
}

Json predicted_time(const Json& report, const Speed& speed) {
    const auto ranks = report.at("ranks").get<double>();
    double flops = report.at("flops_per_micro_batch").get<double>();
    if (report.contains("stages") && !report["stages"].empty()) {  // ranks of a pipeline have different work
        flops = 0;
        for (const Json& stage : report["stages"])
            flops += stage.at("flops_per_micro_batch").get<double>() / static_cast<double>(report["stages"].size());
    }
    const Json& timetable = report.at("timetable");
    const double compute = flops * ranks * timetable.value("micro_batches", 1.0) / speed.flops_a_second;
    const double idle = timetable.value("bubble", 0.0), waiting = compute * idle / std::max(0.01, 1 - idle);
    const double update = report.at("updated_parameters").get<double>() * ranks / speed.parameters_a_second;
    const double exchange = report.value("traffic_bytes_per_step", 0.0) / kExchangeBytesASecond;
    return {{"step_seconds", compute + waiting + update + exchange},
            {"compute_seconds", compute},
            {"idle_seconds", waiting},
            {"update_seconds", update},
            {"exchange_seconds", exchange},
            {"measured_flops_a_second", speed.flops_a_second}};
}

}  // namespace dsrt::cli
