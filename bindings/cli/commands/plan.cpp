// What a run would need, without running it or reading a weight.
#include "../command.h"

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

void print_report(const Json& report) {
    std::vector<std::vector<std::string>> rows{{"parameters", count_text(report.at("parameters").get<double>())},
                                               {"  trained", count_text(report.at("trained_parameters").get<double>())},
                                               {"ranks", std::to_string(report.at("ranks").get<int64_t>())},
                                               {"rows x length of a micro-batch", report.at("rows").dump() + " x " + report.at("length").dump()},
                                               {"operations of a micro-batch", count_text(report.at("flops_per_micro_batch").get<double>()) + "FLOP"},
                                               {"sent per step", size_text(report.value("traffic_bytes_per_step", 0.0))}};
    print_table(rows);
    print_memory(report);
    const Json& timetable = report.at("timetable");
    std::printf("timetable: %s\n", timetable.dump().c_str());
}

}  // namespace

void plan(CommandLine& line) {
    auto* sub = line.command("plan", "memory, time and traffic of a config, without running it",
                             "  dsrt plan config.json\n  dsrt plan config.json --kernels\n  dsrt plan config.json --json | jq .memory_bytes.total");
    auto config = std::make_shared<std::string>();
    auto kernels = std::make_shared<bool>(false);
    sub->add_option("config", *config, "config file, or JSON text")->required();
    sub->add_flag("--kernels", *kernels, "list the kernel calls of a micro-batch too");
    line.on(sub, [&line, config, kernels] {
        Json report = Json::parse(Engine::plan(*config));
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
