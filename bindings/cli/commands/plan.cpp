// What a run would need, without running it or reading a weight. Its time is predicted from how fast this machine is at products and
// updates.
#include "../command.h"
#include "../speed.h"

namespace dsrt::cli {
namespace {

std::string name_text(std::string key) {
    std::replace(key.begin(), key.end(), '_', ' ');
    return key;
}

void print_memory(const Json& report) {
    std::vector<std::vector<std::string>> rows;
    for (const auto& [kind, bytes] : report.at("memory_bytes").items())
        if (bytes.is_number()) rows.push_back({"  " + name_text(kind), size_text(bytes.get<double>())});
    std::puts("memory of a rank");
    print_table(rows);
}

void print_time(const Json& time) {
    std::printf("time of a step on this machine, about %s (all ranks on it, at %sFLOP a second)\n",
                seconds_text(time.at("step_seconds").get<double>()).c_str(),
                count_text(time.at("measured_flops_a_second").get<double>()).c_str());
    std::vector<std::vector<std::string>> rows;
    for (const char* part : {"compute", "idle", "update", "exchange"})
        rows.push_back({std::string("  ") + part, seconds_text(time.at(std::string(part) + "_seconds").get<double>())});
    print_table(rows);
}

// Not known where the small engine can't be made, which says nothing against the plan.
Json time_of(const std::string& config, const Json& report) {
    try {
        return predicted_time(report, measure_speed(parse_config(config)));
    } catch (const std::exception& error) { return {{"error", error.what()}}; }
}

void print_report(const Json& report) {
    std::vector<std::vector<std::string>> rows{
        {"parameters", count_text(report.at("parameters").get<double>())},
        {"  trained", count_text(report.at("trained_parameters").get<double>())},
        {"ranks", std::to_string(report.at("ranks").get<int64_t>())},
        {"rows x length of a micro-batch", report.at("rows").dump() + " x " + report.at("length").dump()},
        {"operations of a micro-batch", count_text(report.at("flops_per_micro_batch").get<double>()) + "FLOP"},
        {"sent per step", size_text(report.value("traffic_bytes_per_step", 0.0))}};
    print_table(rows);
    print_memory(report);
    if (const auto time = report.find("time"); time != report.end()) {
        if (time->contains("error")) std::printf("time of a step: not predicted: %s\n", time->at("error").get<std::string>().c_str());
        else print_time(*time);
    }
    Json timetable = report.at("timetable");
    const Json table = timetable.value("table", Json::array());
    timetable.erase("table");
    std::printf("timetable: %s\n", timetable.dump().c_str());
    for (const Json& stage : table) std::printf("  %s\n", stage.get<std::string>().c_str());
}

}  // namespace

void plan(CommandLine& line) {
    auto* sub =
        line.command("plan", "memory, time and traffic of a config, without running it",
                     "  dsrt plan config.json\n  dsrt plan config.json --kernels\n  dsrt plan config.json --json | jq .memory_bytes.total");
    auto config = std::make_shared<std::string>();
    auto kernels = std::make_shared<bool>(false), untimed = std::make_shared<bool>(false);
    sub->add_option("config", *config, "config file, or JSON text")->required();
    sub->add_flag("--kernels", *kernels, "list the kernel calls of a micro-batch too");
    sub->add_flag("--no-time", *untimed, "don't predict the time of a step, which takes a measurement of some tenths of a second");
    line.on(sub, [&line, config, kernels, untimed] {
        Json report = Json::parse(Engine::plan(*config));
        if (!*untimed) report["time"] = time_of(*config, report);
        if (line.json) {
            if (!*kernels) report.erase("kernels");
            print(report);
            return Exit::done;
        }
        print_report(report);
        if (*kernels) std::fputs(report.at("kernels").get<std::string>().c_str(), stdout);
        return Exit::done;
    });
}

}  // namespace dsrt::cli
