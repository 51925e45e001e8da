// dsrt: the library for the shell. Commands stand in commands.def.
#include <cstdio>

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
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        const int code = app.exit(error);
        return code == 0 ? 0 : static_cast<int>(Exit::usage);
    }
    try {
        return static_cast<int>(work());
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
