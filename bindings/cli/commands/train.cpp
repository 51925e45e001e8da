// Training is examples/train.c itself: what the example can do, the command can, and the example stays honest.
#include "train.h"

#include "../command.h"

namespace dsrt::cli {

void train(CommandLine& line) {
    auto* sub = line.command("train", "train what a config describes (dsrt train --help-options lists its options)",
                             "  dsrt train config.json --output run\n  dsrt train config.json --output run --resume\n"
                             "  torchrun --nproc-per-node 2 --no-python dsrt train config.json");
    sub->remove_option(sub->get_option("--json"));
    sub->prefix_command();  // the trainer reads the rest
    sub->allow_extras();
    auto options = std::make_shared<bool>(false);
    sub->add_flag("--help-options", *options, "the trainer's options");
    line.on(sub, [&line, options] {
        static char name[] = "dsrt train", help[] = "--help";
        std::vector<char*> argv{name};
        if (*options) argv.push_back(help);
        else argv.insert(argv.end(), line.passed_on.begin(), line.passed_on.end());
        argv.push_back(nullptr);
        return static_cast<Exit>(train_main(static_cast<int>(argv.size()) - 1, argv.data()));
    });
}

}  // namespace dsrt::cli
