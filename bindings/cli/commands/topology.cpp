// What the library is, and what of this machine it would use.
#include "../command.h"

namespace dsrt::cli {

void topology(CommandLine& line) {
    auto* sub = line.command("topology", "processors, devices and parts of the library found here",
                             "  dsrt topology\n  dsrt topology --json | jq .devices");
    line.on(sub, [&line] {
        const Json info = Json::parse(build_info());
        if (line.json) {
            print(info);
            return Exit::done;
        }
        std::vector<std::vector<std::string>> rows;
        for (const auto& [key, value] : info.items()) rows.push_back({key, value.is_string() ? value.get<std::string>() : value.dump()});
        print_table(rows, 2);
        return Exit::done;
    });
}

}  // namespace dsrt::cli
