#include "args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

static const char usage[] =
    "usage: train [CONFIG.json] [options]                  trains what the config describes\n"
    "       train --classify FOLDER [SENTENCE ...]         classifies sentences (from stdin if there are none) with an exported model\n"
    "       train --write FOLDER [PROMPT]                  continues a text with an exported model\n"
    "options:\n"
    "  --output DIR            where everything goes (default: output)\n"
    "  --epochs N, --steps N   how long (default: one epoch)\n"
    "  --eval-every N          evaluate every N steps and keep the best checkpoint (default: at the end only)\n"
    "  --eval-rows N           use the first N test rows for that (are they mixed?); the final test takes all\n"
    "  --eval-data FILE        options of the test data, JSON (default: the config's data with \"take\": \"test\")\n"
    "  --eval-options JSON     options of ds_evaluate, such as '{\"generate\": {\"num_beams\": 4}}' for translation\n"
    "  --patience N            stop after N evaluations without a better score (or loss)\n"
    "  --save-every N          keep a checkpoint every N steps (Ctrl-C always does)\n"
    "  --resume                go on from the newest checkpoint in DIR\n"
    "  --add KEY=JSON          one more key for the config, such as --add seed=2\n"
    "  --title TEXT            the report's title\n"
    "  --generate PROMPT       write a text at the end\n"
    "  --quantized             the Hugging Face folder keeps weights in few bits (compression_training.weight_quantization)\n"
    "  --no-export             leave the Hugging Face folder out\n"
    "DeepSpeed's --local_rank N, --deepspeed and --deepspeed_config FILE are understood, DSRT_CONFIG and DEEPSPEED_CONFIG too.\n";

/* The value of an option, "--name value" or "--name=value"; NULL when argv[*i] is another one. */
static const char *value_of(int argc, char **argv, int *i, const char *name) {
    const size_t n = strlen(name);
    if (strncmp(argv[*i], name, n) != 0 || (argv[*i][n] != 0 && argv[*i][n] != '=')) return NULL;
    if (argv[*i][n] == '=') return argv[*i] + n + 1;
    if (*i + 1 >= argc) die("%s needs a value\n%s", name, usage);
    return argv[++*i];
}

static long count_of(const char *name, const char *value) {
    char *end;
    const long n = strtol(value, &end, 10);
    if (*end || end == value || n < 0) die("%s: must be a whole number of at least 0, not %s", name, value);
    return n;
}

/* The config's text with `members` put in front. */
static char *with_members(const char *config, const char *members) {
    if (!config) config = getenv("DSRT_CONFIG");
    if (!config) config = getenv("DEEPSPEED_CONFIG");
    if (!config) die("there is no config to add to\n%s", usage);
    char *contents = strchr(config, '{') ? NULL : read_text(config);
    if (!contents && !strchr(config, '{')) die("%s: cannot be read", config);
    const char *from = contents ? contents : config, *brace = strchr(from, '{');
    if (!brace) die("%s: holds no JSON object", config);
    text t = {NULL, 0};
    add(&t, "{%s%s", members, brace + 1);
    free(contents);
    return t.data;
}

arguments read_arguments(int argc, char **argv) {
    arguments a = {.output = "output", .epochs = 1, .title = "Training", .export_model = 1};
    const char *config = NULL, *v;
    text members = {NULL, 0};
    const struct { const char *name; long *to; } counts[] = {{"--epochs", &a.epochs}, {"--steps", &a.steps}, {"--eval-every", &a.eval_every},
        {"--eval-rows", &a.eval_rows}, {"--patience", &a.patience}, {"--save-every", &a.save_every}};
    const struct { const char *name; const char **to; } texts[] = {{"--output", &a.output}, {"--eval-data", &a.eval_data}, {"--eval-options", &a.eval_options}, {"--title", &a.title},
        {"--generate", &a.prompt}, {"--classify", &a.classify}, {"--write", &a.write}, {"--deepspeed_config", &config}};
    for (int i = 1; i < argc; ++i) {
        int known = 0;
        for (size_t k = 0; k < sizeof counts / sizeof *counts && !known; ++k)
            if ((v = value_of(argc, argv, &i, counts[k].name))) *counts[k].to = count_of(counts[k].name, v), known = 1;
        for (size_t k = 0; k < sizeof texts / sizeof *texts && !known; ++k)
            if ((v = value_of(argc, argv, &i, texts[k].name))) *texts[k].to = v, known = 1;
        if (known) {
            if (a.classify || a.write) {
                a.words = argv + i + 1;
                a.n_words = argc - i - 1;
                break;
            }
        } else if ((v = value_of(argc, argv, &i, "--local_rank")) || (v = value_of(argc, argv, &i, "--local-rank"))) a.local_rank = (int)strtol(v, NULL, 10);
        else if ((v = value_of(argc, argv, &i, "--add"))) {
            const char *equals = strchr(v, '=');
            if (!equals) die("--add: must be KEY=JSON, not %s", v);
            add(&members, "\"%.*s\": %s, ", (int)(equals - v), v, equals + 1);
        } else if (!strcmp(argv[i], "--resume")) a.resume = 1;
        else if (!strcmp(argv[i], "--no-export")) a.export_model = 0;
        else if (!strcmp(argv[i], "--quantized")) a.quantized = 1;
        else if (!strcmp(argv[i], "--deepspeed")) continue;
        else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) fputs(usage, stdout), exit(0);
        else if (argv[i][0] != '-' && !config) config = argv[i];
        else die("unknown argument %s\n%s", argv[i], usage);
    }
    if (members.data) a.config = with_members(config, members.data);
    else if (config) add(&members, "%s", config), a.config = members.data;
    return a;
}
