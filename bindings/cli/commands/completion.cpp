// Completion files and the man page, from the commands and options themselves.
#include <sstream>

#include "../command.h"

namespace dsrt::cli {
namespace {

struct Described {
    std::string name, meaning;
    std::vector<std::pair<std::string, std::string>> options;
    std::string footer;
};

std::vector<Described> described(const CLI::App& app) {
    std::vector<Described> all;
    for (const CLI::App* sub : app.get_subcommands({})) {
        Described d{sub->get_name(), sub->get_description(), {}, sub->get_footer()};
        for (const CLI::Option* option : sub->get_options())
            if (!option->get_lnames().empty()) d.options.emplace_back("--" + option->get_lnames().front(), option->get_description());
        all.push_back(std::move(d));
    }
    return all;
}

std::string joined(const std::vector<Described>& commands) {
    std::string out;
    for (const Described& c : commands) out += (out.empty() ? "" : " ") + c.name;
    return out;
}

std::string bash(const std::vector<Described>& commands) {
    std::ostringstream out;
    out << "# bash completion of dsrt\n_dsrt() {\n    local word=${COMP_WORDS[COMP_CWORD]} options=\n"
           "    if [ \"$COMP_CWORD\" = 1 ]; then COMPREPLY=($(compgen -W \""
        << joined(commands)
        << "\" -- \"$word\")); return; fi\n"
           "    case ${COMP_WORDS[1]} in\n";
    for (const Described& c : commands) {
        out << "        " << c.name << ") options=\"";
        for (size_t i = 0; i < c.options.size(); ++i) out << (i ? " " : "") << c.options[i].first;
        out << "\" ;;\n";
    }
    out << "    esac\n    case $word in\n        -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
           "        *) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n    esac\n}\ncomplete -o filenames -F _dsrt dsrt\n";
    return out.str();
}

std::string quoted(std::string text) {
    for (size_t at = 0; (at = text.find('\'', at)) != std::string::npos; at += 4) text.replace(at, 1, "'\\''");
    return text;
}

std::string zsh(const std::vector<Described>& commands) {
    std::ostringstream out;
    out << "#compdef dsrt\n_dsrt() {\n    if (( CURRENT == 2 )); then\n        local -a commands=(\n";
    for (const Described& c : commands) out << "            '" << c.name << ":" << quoted(c.meaning) << "'\n";
    out << "        )\n        _describe command commands\n        return\n    fi\n    case $words[2] in\n";
    for (const Described& c : commands) {
        out << "        " << c.name << ") _arguments";
        for (const auto& [name, meaning] : c.options) out << " '" << name << "[" << quoted(meaning) << "]'";
        out << " '*:file:_files' ;;\n";
    }
    out << "    esac\n}\n_dsrt \"$@\"\n";
    return out.str();
}

std::string fish(const std::vector<Described>& commands) {
    std::ostringstream out;
    out << "# fish completion of dsrt\n";
    for (const Described& c : commands) {
        out << "complete -c dsrt -n __fish_use_subcommand -a " << c.name << " -d '" << quoted(c.meaning) << "'\n";
        for (const auto& [name, meaning] : c.options)
            out << "complete -c dsrt -n '__fish_seen_subcommand_from " << c.name << "' -l " << name.substr(2) << " -d '" << quoted(meaning)
                << "'\n";
    }
    return out.str();
}

std::string roff(const std::string& text) {
    std::string out;
    for (const char c : text) out += c == '-' ? "\\-" : c == '\\' ? "\\e" : std::string(1, c);
    return out;
}

std::string man(const std::vector<Described>& commands, const CLI::App& app) {
    std::ostringstream out;
    out << ".TH DSRT 1 \"\" \"dsrt " << version() << "\" \"User Commands\"\n.SH NAME\ndsrt \\- train, inspect and run language models\n"
        << ".SH SYNOPSIS\n.B dsrt\n.I COMMAND\n[\\fIOPTION\\fR ...]\n.SH DESCRIPTION\n"
        << roff(app.get_description()) << "\n.SH COMMANDS\n";
    for (const Described& c : commands) {
        out << ".SS " << c.name << "\n" << roff(c.meaning) << ".\n";
        for (const auto& [name, meaning] : c.options) out << ".TP\n.B " << roff(name) << "\n" << roff(meaning) << "\n";
        if (!c.footer.empty()) out << ".PP\n.nf\n" << roff(c.footer) << "\n.fi\n";
    }
    out << ".SH EXIT STATUS\n0 done, 1 failed (the reason is on standard error), 2 wrong usage, 130 interrupted.\n"
           ".SH ENVIRONMENT\n.TP\n.B DSRT_CONFIG, DEEPSPEED_CONFIG\nthe config where none is given, as text or path.\n.TP\n.B DSRT_CPU\n"
           "forces the instructions down: sse2, avx2, avx512.\n";
    return out.str();
}

}  // namespace

void completion(CommandLine& line) {
    auto* sub = line.command("completion", "print completions for a shell, or the man page",
                             "  dsrt completion bash > /etc/bash_completion.d/dsrt\n  dsrt completion man | man -l -");
    auto shell = std::make_shared<std::string>();
    sub->add_option("shell", *shell, "bash, zsh, fish or man")->required()->check(CLI::IsMember({"bash", "zsh", "fish", "man"}));
    line.on(sub, [&line, shell] {
        const auto commands = described(line.app);
        const std::string text = *shell == "bash"   ? bash(commands)
                                 : *shell == "zsh"  ? zsh(commands)
                                 : *shell == "fish" ? fish(commands)
                                                    : man(commands, line.app);
        std::fputs(text.c_str(), stdout);
        return Exit::done;
    });
}

}  // namespace dsrt::cli
