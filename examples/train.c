/* Trains any model that the library supports from one JSON config, through the public C ABI alone. See README.md. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "args.h"
#include "common.h"
#include "evaluate.h"
#include "progress.h"
#include "train.h"
#include "use.h"

typedef struct run {
    arguments args;
    ds_engine *engine;
    ds_data *data;
    char *test, *final_test;     /* options of test rows: those that are looked at while training, and all; NULL: none */
    char *checkpoints;
    long epoch, total, per_epoch;
    double best_score;           /* of the evaluations so far: the lowest loss, or what is missing from the best score */
    long best_step, worse;       /* evaluations since then */
    int shows_best;              /* the weights are the best checkpoint's, no more the last step's */
    scores last, kept;           /* of the final test: the last weights', and the best checkpoint's */
    const score_kind *kind;      /* of the scores below */
    text test_losses, points[most_scores]; /* of the report's curves */
    double train_seconds, tokens_before;
    char started[32];
} run;

static ds_cancel *cancel; /* of the signal handler */

static void on_interrupt(int signal) {
    (void)signal;
    ds_cancel_set(cancel, 1);
}

static void say_time(char *out, size_t size) {
    const time_t now = time(NULL);
    struct tm local;
    strftime(out, size, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &local));
}

static char *get(ds_engine *e, const char *key) {
    char *json;
    must(ds_engine_get(e, key, &json), key);
    return json;
}

/* The config's data with the split's other side; NULL where there is no split. rows 0: all. */
static char *test_options(const run *r, long rows) {
    text t = {NULL, 0};
    char *given = r->args.eval_data ? read_text(r->args.eval_data) : get(r->engine, "data");
    if (!given) die("%s: cannot be read", r->args.eval_data);
    char *take = strstr(given, "\"train\""), *brace = strchr(given, '{');
    if (brace && (take || r->args.eval_data)) {
        add(&t, "{");
        if (rows) add(&t, "\"limit\": %ld, ", rows);
        if (r->args.eval_data) add(&t, "%s", brace + 1);
        else add(&t, "%.*s\"test\"%s", (int)(take - brace - 1), brace + 1, take + strlen("\"train\""));
    }
    if (r->args.eval_data) free(given);
    else ds_free(given);
    return t.data;
}

/* Bad test rows are told before there is anything to lose. */
static void check_data(ds_engine *e, const char *options) {
    ds_data *data;
    must(ds_data_open(options, e, &data), "test data");
    ds_data_destroy(data);
}

static void save(run *r, const char *tag) {
    text state = {NULL, 0};
    add(&state, "{\"client_state\": {\"epoch\": %ld, \"best_score\": %.17g, \"best_step\": %ld, \"worse\": %ld, \"train_seconds\": %.3f", r->epoch,
        isinf(r->best_score) ? -1 : r->best_score, r->best_step, r->worse, r->train_seconds);
    add(&state, ", \"test_losses\": [%s]", r->test_losses.data ? r->test_losses.data : "");
    for (int i = 0; i < most_scores; ++i) add(&state, ", \"test_scores_%d\": [%s]", i, r->points[i].data ? r->points[i].data : "");
    add(&state, "}}");
    must(ds_save(r->engine, r->checkpoints, tag, state.data), "checkpoint");
    free(state.data);
}

/* The points of a curve, as save() wrote them. */
static void restore_points(text *points, const char *state, const char *key) {
    char pattern[64];
    snprintf(pattern, sizeof pattern, "\"%s\":[", key);
    const char *from = strstr(state, pattern), *to = from ? strstr(from, "]]") : NULL;
    if (to && strstr(from, "[[") && strstr(from, "[[") < to) add(points, "%.*s]", (int)(to - from - (long)strlen(pattern)), from + strlen(pattern));
}

static void resume(run *r) {
    if (must(ds_load(r->engine, r->checkpoints, NULL, NULL), "--resume") != DS_OK) return;
    char *state = get(r->engine, "client_state");
    r->epoch = (long)json_number(state, "epoch", 0);
    r->best_score = json_number(state, "best_score", -1);
    if (r->best_score < 0) r->best_score = INFINITY;
    r->best_step = (long)json_number(state, "best_step", 0);
    r->worse = (long)json_number(state, "worse", 0);
    r->train_seconds = json_number(state, "train_seconds", 0);
    restore_points(&r->test_losses, state, "test_losses");
    for (int i = 0; i < most_scores; ++i) {
        char key[32];
        snprintf(key, sizeof key, "test_scores_%d", i);
        restore_points(&r->points[i], state, key);
    }
    ds_free(state);
    if (!r->args.local_rank) printf("Resumed at step %.0f.\n", metric(r->engine, "global_steps"));
}

/* A folder and those around it. */
static void make_folder(const char *path) {
    char part[4096];
    size_t i;
    for (i = 0; i < sizeof part; ++i) {
        part[i] = '\0';
        if (i > 0 && (path[i] == '/' || path[i] == '\0') && mkdir(part, 0777) < 0 && errno != EEXIST) die("%s: cannot be made: %s", part, strerror(errno));
        if (path[i] == '\0') return;
        part[i] = path[i];
    }
    die("%s: the name of a folder is too long", path);
}

static void prepare(run *r) {
    ds_options *options;
    must(ds_cancel_create(&cancel), "options");
    must(ds_options_create(&options), "options");
    must(ds_options_set_cancel(options, cancel), "options");
    must(ds_engine_create(r->args.config, options, &r->engine), "config");
    ds_options_destroy(options);
    if (metric(r->engine, "process") > 0) r->args.local_rank = 1; /* one process of the job talks */
    make_folder(r->args.output);
    r->checkpoints = join(r->args.output, "checkpoints");
    r->test = test_options(r, r->args.eval_rows), r->final_test = test_options(r, 0);
    if (r->args.eval_every && !r->test) die("--eval-every needs test data: a \"split\" in the config's data, or --eval-data");
    if (r->final_test) check_data(r->engine, r->final_test);
    char *train = get(r->engine, "data");
    must(ds_data_open(train, r->engine, &r->data), "data");
    ds_free(train);
    r->per_epoch = (long)metric(r->engine, "steps_per_epoch");
    r->total = r->args.steps ? r->args.steps : r->args.epochs * r->per_epoch;
    r->best_score = INFINITY;
    if (r->args.resume) resume(r);
    r->tokens_before = metric(r->engine, "tokens");
    const struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND}; /* a second Ctrl-C ends at once */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void add_points(run *r, long step, const scores *s) {
    r->kind = s->kind;
    add(&r->test_losses, "%s[%ld, %.6g]", r->test_losses.size ? ", " : "", step, s->loss);
    for (int i = 0; s->kind && i < most_scores && s->kind->scores[i].key; ++i)
        add(&r->points[i], "%s[%ld, %.6g]", r->points[i].size ? ", " : "", step, s->values[i]);
}

/* Keeps the best checkpoint. DS_END: patience is at its end. */
static ds_status look(run *r, progress *p) {
    scores s;
    const ds_status status = evaluate(r->engine, r->test, r->args.eval_options, &s);
    if (status < 0) return status;
    const long step = (long)metric(r->engine, "global_steps");
    end_progress(p);
    if (!r->args.local_rank) {
        text said = {NULL, 0};
        add_scores(&said, &s);
        printf("Step %ld: test loss %.4f%s (%ld rows)\n", step, s.loss, said.data ? said.data : "", s.rows);
        fflush(stdout);
        free(said.data);
    }
    add_points(r, step, &s);
    const double score = what_counts(&s);
    if (score < r->best_score) {
        r->best_score = score;
        r->best_step = step;
        r->worse = 0;
        save(r, "best");
    } else if (r->args.patience && ++r->worse >= r->args.patience) {
        if (!r->args.local_rank) printf("Nothing better in %ld evaluations: stopping.\n", r->worse);
        return DS_END;
    }
    return DS_OK;
}

/* DS_OK: to the end; DS_E_CANCELLED: Ctrl-C. */
static ds_status train(run *r) {
    progress p = start_progress(r->total, r->args.local_rank != 0);
    ds_status status = DS_OK;
    for (long step = (long)metric(r->engine, "global_steps"); step < r->total;) {
        float loss;
        const double lr = metric(r->engine, "lr"), tokens = metric(r->engine, "tokens"), begin = seconds_now();
        status = ds_train_batch(r->engine, r->data, &loss);
        if (status == DS_E_CANCELLED) break;
        if (must(status, "training") == DS_END) {
            ++r->epoch;
            continue;
        }
        const double seconds = seconds_now() - begin;
        step = (long)metric(r->engine, "global_steps");
        r->train_seconds += seconds;
        show_step(&p, r->epoch, step - r->epoch * r->per_epoch, step, loss, lr, metric(r->engine, "tokens") - tokens, seconds);
        if (r->args.eval_every && (step % r->args.eval_every == 0 || step == r->total) && (status = look(r, &p)) != DS_OK) break;
        if (r->args.save_every && step % r->args.save_every == 0) save(r, "last");
    }
    end_progress(&p);
    return status == DS_E_CANCELLED ? status : DS_OK;
}

/* Everybody's numbers, then the best checkpoint's, whose weights stay. */
static ds_status test_all(run *r) {
    if (!r->final_test) return DS_OK;
    ds_status status = evaluate(r->engine, r->final_test, r->args.eval_options, &r->last);
    r->kind = r->last.kind;
    if (status >= 0 && !r->test_losses.size) add_points(r, (long)metric(r->engine, "global_steps"), &r->last);
    r->kept = r->last;
    if (status < 0 || !r->best_step || r->best_step == (long)metric(r->engine, "global_steps")) return status;
    save(r, "last"); /* --resume with more epochs goes on from here */
    must(ds_load(r->engine, r->checkpoints, "best", "{\"weights_only\": true}"), "best checkpoint");
    r->shows_best = 1;
    return evaluate(r->engine, r->final_test, r->args.eval_options, &r->kept);
}

static void line(text *summary, text *json, const char *name, const char *key, const char *unit, double value, int digits) {
    char number[64];
    snprintf(number, sizeof number, "%.*f%s", digits, value, unit);
    add(summary, ", [\"%s\", \"%s\"]", name, number);
    add(json, ", \"%s\": %.*f", key, digits, value);
    printf("  %-22s %s\n", name, number);
}

/* A line a score: "Test F1", "Best test F1". */
static void score_lines(text *summary, text *json, const char *title, const char *prefix, const scores *s) {
    for (int i = 0; s->kind && i < most_scores && s->kind->scores[i].key; ++i) {
        char name[64], key[64];
        snprintf(name, sizeof name, "%s %s", title, s->kind->scores[i].name);
        snprintf(key, sizeof key, "%s%s", prefix, s->kind->scores[i].key);
        line(summary, json, name, key, s->kind->unit, s->values[i], 2);
    }
}

/* The report's curves of test rows: the loss beside the training's, and the task's scores on a chart of their own. */
static void add_charts(text *contents, const run *r) {
    if (!r->test_losses.size) return;
    add(contents, ", \"charts\": [{\"title\": \"Loss\", \"series\": [{\"name\": \"test\", \"markers\": true, \"points\": [%s]}]}", r->test_losses.data);
    if (r->kind) add(contents, ", {\"title\": \"%s\", \"x_label\": \"step\", \"series\": [", r->kind->title);
    for (int i = 0; r->kind && i < most_scores && r->points[i].size; ++i)
        add(contents, "%s{\"name\": \"test %s\", \"markers\": true, \"points\": [%s]}", i ? ", " : "", r->kind->scores[i].name, r->points[i].data);
    add(contents, r->kind ? "]}]" : "]");
}

static void summarise(run *r) {
    ds_engine *e = r->engine;
    char ended[32];
    say_time(ended, sizeof ended);
    const double tokens = metric(e, "tokens"), threads = metric(e, "threads");
    text summary = {NULL, 0}, json = {NULL, 0}, contents = {NULL, 0};
    add(&summary, "[[\"Start\", \"%s\"], [\"End\", \"%s\"]", r->started, ended);
    add(&json, "{\"start\": \"%s\", \"end\": \"%s\"", r->started, ended);
    printf("\nSummary\n  %-22s %s\n  %-22s %s\n", "Start", r->started, "End", ended);
    line(&summary, &json, "Training time", "train_seconds", " s", r->train_seconds, 1);
    line(&summary, &json, "Core-hours", "core_hours", "", r->train_seconds * threads / 3600, 4);
    line(&summary, &json, "Steps", "steps", "", metric(e, "global_steps"), 0);
    line(&summary, &json, "Tokens", "tokens", "", tokens, 0);
    line(&summary, &json, "Tokens a second", "tokens_per_second", "", r->train_seconds > 0 ? tokens / r->train_seconds : 0, 0);
    line(&summary, &json, "Waited for data", "data_wait_seconds", " s", metric(e, "data_wait_seconds"), 3);
    line(&summary, &json, "Memory", "memory_mib", " MiB", metric(e, "peak_bytes") / (1 << 20), 0);
    if (r->final_test) line(&summary, &json, "Test loss", "test_loss", "", r->last.loss, 4);
    score_lines(&summary, &json, "Test", "", &r->last);
    if (r->best_step) line(&summary, &json, "Best checkpoint", "best_step", "", (double)r->best_step, 0);
    if (r->best_step) score_lines(&summary, &json, "Its test", "best_", &r->kept);
    add(&summary, "]");
    add(&json, "}\n");
    add(&contents, "{\"title\": ");
    add_json(&contents, r->args.title);
    add(&contents, ", \"summary\": %s", summary.data);
    add_charts(&contents, r);
    add(&contents, "}");
    char *path = join(r->args.output, "summary.json"), *report = join(r->args.output, "report.html");
    write_text(path, json.data);
    must(ds_report(e, report, contents.data), "report");
    printf("  %-22s %s\n  %-22s %s\n", "Report", report, "Numbers", path);
    free(path);
    free(report);
    free(summary.data);
    free(json.data);
    free(contents.data);
}

int train_main(int argc, char **argv) {
    run r;
    memset(&r, 0, sizeof r);
    r.args = read_arguments(argc, argv);
    if (r.args.classify) return classify(r.args.classify, r.args.words, r.args.n_words), 0;
    if (r.args.write) return continue_text(r.args.write, r.args.n_words ? r.args.words[0] : "The"), 0;
    say_time(r.started, sizeof r.started);
    prepare(&r);
    ds_status status = train(&r);
    if (status == DS_OK) status = test_all(&r);
    ds_cancel_set(cancel, 0); /* from here on calls run to their end again */
    if (status == DS_E_CANCELLED) {
        if (!r.shows_best) save(&r, "last"); /* else it was kept before */
        if (!r.args.local_rank) printf("Interrupted at step %.0f; the checkpoint is in %s. --resume goes on from there.\n", metric(r.engine, "global_steps"), r.checkpoints);
    } else if (!r.args.local_rank) summarise(&r);
    char *model = join(r.args.output, "model");
    if (status == DS_OK && r.args.export_model) {
        must(ds_export(r.engine, model, r.args.quantized ? "{\"quantized\": true}" : NULL), "export");
        if (!r.args.local_rank) printf("  %-22s %s\n", "Model", model);
    }
    ds_data_destroy(r.data);
    ds_engine_destroy(r.engine);
    ds_cancel_destroy(cancel);
    if (status == DS_OK && r.args.prompt && !r.args.local_rank) printf("\n"), continue_text(model, r.args.prompt);
    free(model);
    free(r.checkpoints);
    free(r.test);
    free(r.final_test);
    free(r.test_losses.data);
    for (int i = 0; i < most_scores; ++i) free(r.points[i].data);
    free(r.args.config);
    return status == DS_OK ? 0 : 130;
}
