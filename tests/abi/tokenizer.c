/* Tokenizers through the ABI. The numbers are those of the vocabulary in tests/data/abi/vocab.txt: its lines, from 0. */
#include "abi_test.h"

enum { PAD, UNK, CLS, SEP, MASK, HELLO, WORLD, PLAY, ING, DOT };

static ds_tokenizer *load(void) {
    ds_tokenizer *t = NULL;
    assert_ok(ds_tokenizer_load(DSRT_TEST_DATA "/abi/vocab.txt", &t));
    return t;
}

static void a_text_becomes_ids_types_and_offsets(void **state) {
    static const int32_t ids[] = {CLS, HELLO, PLAY, ING, DOT, SEP}, types[] = {0, 0, 0, 0, 0, 0};
    static const int64_t offsets[] = {0, 0, 0, 5, 6, 10, 10, 13, 13, 14, 0, 0};
    ds_tokenizer *t = load();
    ds_encoding *e = NULL;
    const int32_t *numbers = NULL;
    const int64_t *ends = NULL;
    size_t n = 0;
    (void)state;
    assert_ok(ds_tokenizer_encode(t, "Hello playing.xyz", 14, NULL, 0, 1, &e)); /* the length counts, not a NUL */
    ds_tokenizer_destroy(t); /* any order */
    assert_ok(ds_encoding_ids(e, &numbers, &n));
    assert_int_equal(n, 6);
    assert_memory_equal(numbers, ids, sizeof(ids));
    assert_ok(ds_encoding_type_ids(e, &numbers, &n));
    assert_int_equal(n, 6);
    assert_memory_equal(numbers, types, sizeof(types));
    assert_ok(ds_encoding_offsets(e, &ends, &n));
    assert_int_equal(n, 6);
    assert_memory_equal(ends, offsets, sizeof(offsets));
    ds_encoding_destroy(e);
}

static void a_pair_has_types_and_offsets_of_its_own(void **state) {
    static const int32_t ids[] = {CLS, HELLO, SEP, WORLD, SEP}, types[] = {0, 0, 0, 1, 1};
    ds_tokenizer *t = load();
    ds_encoding *e = NULL;
    const int32_t *numbers = NULL;
    const int64_t *ends = NULL;
    size_t n = 0;
    (void)state;
    assert_ok(ds_tokenizer_encode(t, "hello", 5, "world", 5, 1, &e));
    assert_ok(ds_encoding_ids(e, &numbers, &n));
    assert_int_equal(n, 5);
    assert_memory_equal(numbers, ids, sizeof(ids));
    assert_ok(ds_encoding_type_ids(e, &numbers, &n));
    assert_memory_equal(numbers, types, sizeof(types));
    assert_ok(ds_encoding_offsets(e, &ends, &n));
    assert_int_equal(ends[6], 0);
    assert_int_equal(ends[7], 5);
    ds_encoding_destroy(e);
    ds_tokenizer_destroy(t);
}

static void bad_utf8_and_empty_texts_are_fine(void **state) {
    ds_tokenizer *t = load();
    ds_encoding *e = NULL;
    const int32_t *ids = NULL;
    size_t n = 9;
    (void)state;
    assert_ok(ds_tokenizer_encode(t, "hello \xff\xfe", 8, NULL, 0, 0, &e));
    ds_encoding_destroy(e);
    assert_ok(ds_tokenizer_encode(t, "", 0, NULL, 0, 0, &e));
    assert_ok(ds_encoding_ids(e, &ids, &n));
    assert_int_equal(n, 0);
    assert_non_null(ids);
    ds_encoding_destroy(e);
    ds_tokenizer_destroy(t);
}

static void ids_become_text(void **state) {
    static const int32_t ids[] = {CLS, HELLO, WORLD, SEP};
    ds_tokenizer *t = load();
    char *text = NULL;
    size_t bytes = 0;
    (void)state;
    assert_ok(ds_tokenizer_decode(t, ids, 4, 1, &text, &bytes));
    assert_string_equal(text, "hello world");
    assert_int_equal(bytes, strlen(text));
    ds_free(text);
    assert_ok(ds_tokenizer_decode(t, ids, 4, 0, &text, NULL));
    assert_string_equal(text, "[CLS] hello world [SEP]");
    ds_free(text);
    assert_ok(ds_tokenizer_decode(t, NULL, 0, 0, &text, NULL));
    assert_string_equal(text, "");
    ds_free(text);
    assert_fails(DS_E_INVALID_ARGUMENT, "ids", ds_tokenizer_decode(t, NULL, 1, 0, &text, NULL));
    assert_null(text);
    ds_tokenizer_destroy(t);
}

static void many_texts_become_a_batch(void **state) {
    static const char *const texts[] = {"hello", "hello world playing"}, *const pairs[] = {"world", "."};
    static const int64_t ids[] = {CLS, HELLO, SEP, PAD, CLS, HELLO, WORLD, SEP}, mask[] = {1, 1, 1, 0, 1, 1, 1, 1};
    ds_tokenizer *t = load();
    ds_batch *b = NULL;
    ds_tensor *x = NULL;
    const int64_t *shape = NULL;
    int64_t back[8];
    (void)state;
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_tokenizer_encode_batch(t, texts, NULL, 2, "{\"max_length\": 4, \"truncation\": true, \"padding\": \"longest\"}", b));
    assert_ok(ds_batch_get(b, "input_ids", &x));
    assert_ok(ds_tensor_info(x, NULL, NULL, &shape));
    assert_int_equal(shape[0], 2);
    assert_int_equal(shape[1], 4);
    assert_ok(ds_tensor_read(x, DS_I64, back, sizeof(back)));
    assert_memory_equal(back, ids, sizeof(ids));
    ds_tensor_destroy(x);
    assert_ok(ds_batch_get(b, "attention_mask", &x));
    assert_ok(ds_tensor_read(x, DS_I64, back, sizeof(back)));
    assert_memory_equal(back, mask, sizeof(mask));
    ds_tensor_destroy(x);
    assert_fails(DS_E_NOT_FOUND, "token_type_ids", ds_batch_get(b, "token_type_ids", &x));
    assert_ok(ds_tokenizer_encode_batch(t, texts, pairs, 2, "{\"padding\": \"longest\"}", b));
    assert_ok(ds_batch_get(b, "token_type_ids", &x));
    ds_tensor_destroy(x);
    assert_fails(DS_E_INVALID_ARGUMENT, "texts", ds_tokenizer_encode_batch(t, NULL, NULL, 2, NULL, b));
    assert_fails(DS_E_INVALID_ARGUMENT, "n must", ds_tokenizer_encode_batch(t, texts, NULL, 0, NULL, b));
    assert_true(ds_tokenizer_encode_batch(t, texts, NULL, 2, "{\"paddding\": true}", b) < 0);
    assert_non_null(strstr(ds_last_error(), "paddding"));
    ds_batch_destroy(b);
    ds_tokenizer_destroy(t);
}

static void batch_is(ds_batch *b, const char *name, const int64_t *expected, size_t n) {
    ds_tensor *x = NULL;
    int64_t back[32];
    size_t i;
    assert_ok(ds_batch_get(b, name, &x));
    assert_true(n <= 32);
    assert_ok(ds_tensor_read(x, DS_I64, back, n * sizeof(int64_t)));
    ds_tensor_destroy(x);
    for (i = 0; i < n; ++i) assert_int_equal(back[i], expected[i]);
}

static void rows_are_padded_and_cut_on_either_side(void **state) {
    static const char *const texts[] = {"hello", "hello world playing."}, *const pairs[] = {"world", "."};
    static const int64_t left[] = {PAD, PAD, CLS, HELLO, SEP, CLS, PLAY, ING, DOT, SEP}, seen[] = {0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    static const int64_t right[] = {CLS, HELLO, SEP, MASK, MASK, MASK, CLS, HELLO, WORLD, PLAY, SEP, MASK};
    static const int64_t first[] = {PAD, CLS, HELLO, SEP, WORLD, SEP, CLS, HELLO, WORLD, SEP, DOT, SEP};
    static const int64_t types[] = {0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1};
    ds_tokenizer *t = load();
    ds_batch *b = NULL;
    (void)state;
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_tokenizer_encode_batch(t, texts, NULL, 2, "{\"padding_side\": \"left\", \"truncation_side\": \"left\", \"max_length\": 5}", b));
    batch_is(b, "input_ids", left, 10);
    batch_is(b, "attention_mask", seen, 10);
    assert_fails(DS_E_INVALID_ARGUMENT, "padding_side: found \"up\", accepted are \"right\", \"left\"",
                 ds_tokenizer_encode_batch(t, texts, NULL, 2, "{\"padding_side\": \"up\"}", b));
    assert_ok(ds_tokenizer_encode_batch(t, texts, NULL, 2, "{\"pad_id\": 4, \"max_length\": 5, \"pad_to_multiple_of\": 6}", b));
    batch_is(b, "input_ids", right, 12);
    assert_ok(ds_tokenizer_encode_batch(t, texts, pairs, 2, "{\"truncation\": \"only_first\", \"padding_side\": \"left\", \"max_length\": 6}", b));
    batch_is(b, "input_ids", first, 12);
    batch_is(b, "token_type_ids", types, 12);
    assert_fails(DS_E_INVALID_ARGUMENT, "text 1: tokenizer: 3 tokens are too many, but the second text, which alone may be cut, has only 1",
                 ds_tokenizer_encode_batch(t, texts, pairs, 2, "{\"truncation\": \"only_second\", \"max_length\": 6}", b));
    assert_fails(DS_E_INVALID_ARGUMENT, "there is no second text", ds_tokenizer_encode_batch(t, texts, NULL, 2, "{\"truncation\": \"only_second\", \"max_length\": 4}", b));
    assert_fails(DS_E_INVALID_ARGUMENT, "pad_id: found 99, an id of the vocabulary, 0 to 9", ds_tokenizer_encode_batch(t, texts, NULL, 2, "{\"pad_id\": 99}", b));
    assert_fails(DS_E_INVALID_ARGUMENT, "truncation: found \"longest\"", ds_tokenizer_encode_batch(t, texts, NULL, 2, "{\"truncation\": \"longest\", \"max_length\": 9}", b));
    batch_is(b, "input_ids", first, 12); /* as it was */
    ds_batch_destroy(b);
    ds_tokenizer_destroy(t);
}

static void conversations_become_text(void **state) {
    static const char messages[] = "[{\"role\": \"user\", \"content\": \"Hi\"}]";
    ds_tokenizer *t = load();
    char *text = NULL;
    (void)state;
    assert_ok(ds_tokenizer_apply_chat_template(t, messages, "{\"add_generation_prompt\": true, \"template\": \"{{ messages[0].content }}{% if add_generation_prompt %}>{% endif %}\"}", &text));
    assert_string_equal(text, "Hi>");
    ds_free(text);
    assert_fails(DS_E_NOT_FOUND, "has no chat template", ds_tokenizer_apply_chat_template(t, messages, NULL, &text));
    assert_null(text);
    assert_fails(DS_E_INVALID_ARGUMENT, "no roles here", ds_tokenizer_apply_chat_template(t, messages, "{\"template\": \"{{ raise_exception('no roles here') }}\"}", &text));
    assert_fails(DS_E_INVALID_ARGUMENT, "messages_json: parse error", ds_tokenizer_apply_chat_template(t, "[{", NULL, &text));
    assert_fails(DS_E_INVALID_ARGUMENT, "messages", ds_tokenizer_apply_chat_template(t, "[]", "{\"template\": \"{{ x }}\"}", &text));
    assert_fails(DS_E_INVALID_ARGUMENT, "messages_json", ds_tokenizer_apply_chat_template(t, NULL, NULL, &text));
    ds_tokenizer_destroy(t);
}

static void missing_files_are_named(void **state) {
    ds_tokenizer *t = (ds_tokenizer *)state;
    assert_fails(DS_E_NOT_FOUND, "no/such/tokenizer.json", ds_tokenizer_load("no/such/tokenizer.json", &t));
    assert_null(t);
}

static void misuse_is_refused(void **state) {
    ds_tokenizer *t = load();
    ds_encoding *e = (ds_encoding *)t;
    (void)state;
    assert_fails(DS_E_INVALID_ARGUMENT, "text", ds_tokenizer_encode(t, NULL, 0, NULL, 0, 1, &e));
    assert_null(e);
    assert_fails(DS_E_INVALID_ARGUMENT, "pair_bytes", ds_tokenizer_encode(t, "x", 1, NULL, 3, 1, &e));
    assert_fails(DS_E_INVALID_ARGUMENT, "out", ds_tokenizer_encode(t, "x", 1, NULL, 0, 1, NULL));
    ds_tokenizer_destroy(t);
    assert_fails(DS_E_STATE, "destroyed", ds_tokenizer_encode(t, "x", 1, NULL, 0, 1, &e));
}

/* languages/ has the two bytes of "é" as ids 2 and 3. */
static void a_stream_of_ids_becomes_whole_characters(void **state) {
    static const int32_t ids[] = {0, 2, 3, 2};
    static const char *const pieces[] = {"a", "", "\xC3\xA9", ""};
    ds_tokenizer *t = NULL;
    ds_text_stream *s = NULL;
    char *text = NULL;
    size_t bytes = 9, i;
    (void)state;
    assert_ok(ds_tokenizer_load(DSRT_TEST_DATA "/languages", &t));
    assert_ok(ds_text_stream_create(t, 1, &s));
    ds_tokenizer_destroy(t); /* the stream keeps it */
    for (i = 0; i < 4; ++i) {
        assert_ok(ds_text_stream_put(s, &ids[i], 1, &text, &bytes));
        assert_string_equal(text, pieces[i]);
        assert_int_equal(bytes, strlen(pieces[i]));
        ds_free(text);
    }
    assert_ok(ds_text_stream_put(s, NULL, 0, &text, NULL)); /* the end: half a character is held back no longer */
    assert_string_equal(text, "\xEF\xBF\xBD");
    ds_free(text);
    assert_ok(ds_text_stream_put(s, ids, 3, &text, &bytes)); /* and it may be used anew */
    assert_string_equal(text, "a\xC3\xA9");
    ds_free(text);
    ds_text_stream_destroy(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(a_text_becomes_ids_types_and_offsets),
                                       TEST(a_pair_has_types_and_offsets_of_its_own),
                                       TEST(bad_utf8_and_empty_texts_are_fine),
                                       TEST(ids_become_text),
                                       TEST(many_texts_become_a_batch),
                                       TEST(rows_are_padded_and_cut_on_either_side),
                                       TEST(conversations_become_text),
                                       TEST(a_stream_of_ids_becomes_whole_characters),
                                       TEST(missing_files_are_named),
                                       TEST(misuse_is_refused)};
    return RUN(tests);
}
