// dsrt: the library for the shell. Commands stand in commands.def.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "command.h"

namespace dsrt::cli {

CLI::App* CommandLine::command(const std::string& name, const std::string& meaning, const std::string& examples) {
    CLI::App* sub = app.add_subcommand(name, meaning);
    sub->footer("Examples:\n" + examples);
    sub->add_flag("--json", json, "print JSON");
    return sub;
}

void CommandLine::on(CLI::App* chosen, Work what) {
    chosen->final_callback([this, what = std::move(what)] { *work = what; });
}

namespace {

void require_known_command(const CLI::App& app, int argc, char** argv) {
    if (argc < 2 || argv[1][0] == '-') return;
    std::string known;
    for (const CLI::App* sub : app.get_subcommands({})) {
        if (sub->get_name() == argv[1]) return;
        known += (known.empty() ? "" : ", ") + sub->get_name();
    }
    throw CLI::ExtrasError("dsrt", {argv[1] + std::string("; commands are ") + known});
}

int run(int argc, char** argv) {
    CLI::App app("Trains, inspects and runs language models with libdsrt.");
    app.name("dsrt");
    app.set_version_flag("--version", "dsrt " + version());
    app.require_subcommand(1);
    app.footer(
        "dsrt COMMAND --help shows a command's options and examples.\n"
        "Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong usage, 130 interrupted.");
    bool json = false;
    Work work;
    CommandLine line{app, json, std::vector<char*>(argv + std::min(argc, 2), argv + argc), &work};
#define DSRT_COMMAND(name) name(line);
#include "commands.def"
#undef DSRT_COMMAND
    try {
        require_known_command(app, argc, argv);
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        const bool asked = std::find(argv, argv + argc, std::string_view("--json")) != argv + argc;  // the line may not be read so far
        if (asked && error.get_exit_code() != 0) print({{"error", error.what()}, {"usage", true}});
        const int code = app.exit(error);
        return code == 0 ? 0 : static_cast<int>(Exit::usage);
    }
    try {
        const Exit end = work();
        if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return static_cast<int>(end);
        std::fprintf(stderr, "dsrt: standard output could not be written: %s\n", std::strerror(errno));
    } catch (const Error& error) {
        if (json) print({{"error", error.what()}, {"status", error.name()}});
        std::fprintf(stderr, "dsrt: %s\n", error.what());
    } catch (const std::exception& error) {
        if (json) print({{"error", error.what()}});
        std::fprintf(stderr, "dsrt: %s\n", error.what());
    }
    return static_cast<int>(Exit::failed);
}

}  // namespace
}  // namespace dsrt::cli

int main(int argc, char** argv) { return dsrt::cli::run(argc, argv); }
