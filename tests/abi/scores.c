/* ds_score and ds_evaluate: scores of a host's own predictions, and of a model on rows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abi_test.h"
#include "tiny_model.h"

static void assert_scored(const char *metric, const char *predictions, const char *references, const char *part) {
    char *scores;
    assert_ok(ds_score(metric, predictions, references, &scores));
    if (!strstr(scores, part)) fail_msg("%s lacks %s", scores, part);
    ds_free(scores);
}

static void predictions_are_scored(void **state) {
    (void)state;
    assert_scored("spans", "[[\"B-PER\", \"I-PER\", \"O\"]]", "[[\"B-PER\", \"I-PER\", \"O\"]]", "\"f1\":1.0");
    assert_scored("spans", "[[\"B-PER\", \"O\", \"O\"]]", "[[\"B-PER\", \"I-PER\", \"O\"]]", "\"f1\":0.0");
    assert_scored("squad", "[\"the Tower\", \"x\"]", "[[\"a tower\"], \"y\"]", "\"exact_match\":50.0");
    assert_scored("bleu", "[\"one two three four five\"]", "[\"one two three four five\"]", "\"bleu\":100.0");
}

static void bad_predictions_are_told(void **state) {
    char *scores = NULL;
    (void)state;
    assert_fails(DS_E_INVALID_ARGUMENT, "there are spans, squad, bleu", ds_score("rouge", "[\"a\"]", "[\"a\"]", &scores));
    assert_fails(DS_E_INVALID_ARGUMENT, "predictions has 2 items, references has 1", ds_score("bleu", "[\"a\", \"b\"]", "[\"a\"]", &scores));
    assert_fails(DS_E_INVALID_ARGUMENT, "predictions: item 1 is 7", ds_score("squad", "[\"a\", 7]", "[\"a\", \"b\"]", &scores));
    assert_fails(DS_E_INVALID_ARGUMENT, "predictions_json", ds_score("squad", "[\"a\"", "[\"a\"]", &scores));
    assert_null(scores);
}

/* A causal model's ids from a file: its loss is ds_eval's of the same rows. */
static void a_model_is_scored_on_rows(void **state) {
    char path[] = "/tmp/dsrt-rows-XXXXXX", data[512], *scores;
    const int file = mkstemp(path);
    const char rows[] = "{\"ids\": [1, 2, 3, 4]}\n{\"ids\": [4, 3, 2]}\n{\"ids\": [5, 6, 7, 1, 2]}\n";
    ds_engine *e = engine_of("{" TINY_MODEL ", \"train_micro_batch_size_per_gpu\": 2}");
    (void)state;
    assert_true(file >= 0 && write(file, rows, sizeof rows - 1) == (ssize_t)(sizeof rows - 1));
    close(file);
    snprintf(data, sizeof data, "{\"files\": \"%s\", \"format\": \"jsonl\", \"task\": \"causal\", \"columns\": {\"input_ids\": \"ids\"}}", path);
    assert_ok(ds_evaluate(e, data, NULL, &scores));
    assert_non_null(strstr(scores, "\"rows\":3"));
    assert_non_null(strstr(scores, "\"perplexity\":"));
    ds_free(scores);
    scores = NULL;
    assert_fails(DS_E_INVALID_ARGUMENT, "accepted are generate", ds_evaluate(e, data, "{\"metric\": 1}", &scores));
    assert_fails(DS_E_INVALID_ARGUMENT, "has no \"split\"", ds_evaluate(e, NULL, NULL, &scores));
    assert_null(scores);
    unlink(path);
    ds_engine_destroy(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(predictions_are_scored), TEST(bad_predictions_are_told), TEST(a_model_is_scored_on_rows)};
    return RUN(tests);
}
