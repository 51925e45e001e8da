// A command of `dsrt`: it adds its subcommand with options, and the work to be done when that is chosen. Everything it knows of the library
// is <dsrt/dsrt.hpp>.
#pragma once

#include <dsrt/dsrt.hpp>

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace dsrt::cli {

using Json = nlohmann::ordered_json;

// How a command ends the process.
enum class Exit : int { done = 0, failed = 1, usage = 2, interrupted = 130 };

using Work = std::function<Exit()>;

struct CommandLine {
    CLI::App& app;
    bool& json;                    // --json: one JSON document on standard output instead of text for people
    std::vector<char*> passed_on;  // argv behind the command's name, for those that read it themselves
    // Adds a subcommand with its examples.
    CLI::App* command(const std::string& name, const std::string& meaning, const std::string& examples);
    // What a chosen subcommand does; main runs it when the whole line was read.
    void on(CLI::App* chosen, Work work);
    Work* work;
};

#define DSRT_COMMAND(name) void name(CommandLine& line);
#include "commands.def"
#undef DSRT_COMMAND

// text.cpp
std::string read_file(const std::string& path);                                              // throws with the path and the reason
Json parse_config(const std::string& text_or_path, const std::string& name = "config");      // with // comments, as the library takes it
std::string size_text(double bytes);                                                         // "1.5 GiB"
std::string count_text(double count);                                                        // "124.4 M"
std::string seconds_text(double seconds);                                                    // "0.012 s"
void print(const Json& document);                                                            // for --json
void print_table(const std::vector<std::vector<std::string>>& rows, size_t right_from = 1);  // columns from right_from on are flush right

}  // namespace dsrt::cli
