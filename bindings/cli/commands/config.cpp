// The keys of the configuration, from the library's own table.
#include "../command.h"

namespace dsrt::cli {
namespace {

std::string cell(std::string text) {
    for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.replace(at, 1, "\\|");
    return text;
}

void print_markdown(const Json& keys) {
    std::puts(
        "# Configuration\nMade by `dsrt config --markdown` from the library's table. `status`: live; runtime (`ds_engine_set` may change "
        "it); what else a key may be is said where it is refused.\n");
    std::puts("| key | type | default | accepted | status | meaning |\n|---|---|---|---|---|---|");
    for (const auto& [key, row] : keys.items()) {
        const auto text = [&](const char* field) { return row[field].is_string() ? row[field].get<std::string>() : row[field].dump(); };
        std::printf("| `%s` | %s | `%s` | %s | %s | %s |\n", key.c_str(), text("type").c_str(), cell(row["default"].dump()).c_str(),
                    cell(text("accepted")).c_str(), text("status").c_str(), cell(text("meaning")).c_str());
    }
}

}  // namespace

void config(CommandLine& line) {
    auto* sub = line.command("config", "list the keys of the configuration",
                             "  dsrt config zero_optimization\n  dsrt config --json\n  dsrt config --markdown > config.md");
    auto part = std::make_shared<std::string>();
    auto markdown = std::make_shared<bool>(false);
    sub->add_option("part", *part, "only keys that contain this text");
    sub->add_flag("--markdown", *markdown, "a page in Markdown");
    line.on(sub, [&line, part, markdown] {
        const Json all = Json::parse(config_describe());
        Json keys = Json::object();
        for (const auto& [key, row] : all.items())
            if (key.find(*part) != std::string::npos) keys[key] = row;
        if (keys.empty()) throw std::runtime_error("config: no key contains \"" + *part + "\"");
        if (line.json) print(keys);
        else if (*markdown) print_markdown(keys);
        else
            for (const auto& [key, row] : keys.items())
                std::printf("%s (%s, default %s)\n    %s\n", key.c_str(), row["type"].get<std::string>().c_str(),
                            row["default"].dump().c_str(), row["meaning"].get<std::string>().c_str());
        return Exit::done;
    });
}

}  // namespace dsrt::cli
