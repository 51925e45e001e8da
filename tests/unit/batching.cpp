// lib/data order, collation, masking and the loader: what an epoch is, and that a cursor continues it exactly.
#include "data_support.h"

#include <signal.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <set>
#include <thread>

#include "data/order.h"
#include "data/random.h"
#include "data/threads.h"

using namespace data_support;

namespace {

// n rows; row i has the label i and 1 + i * 7 % 11 letters.
std::string numbered(const Folder& folder, int n) {
    std::string text = "t,l\n";
    for (int i = 0; i < n; ++i) {
        std::string row;
        for (int k = 0; k <= i * 7 % 11; ++k) row += fmt::format("{} ", static_cast<char>('a' + (i + k) % 26));
        text += row + "," + std::to_string(i) + "\n";
    }
    return folder.write("numbered.csv", text);
}

Json numbered_options(const std::string& path) { return {{"files", path}, {"columns", {{"text", "t"}, {"label", "l"}}}}; }

bool same(const Batch& a, const Batch& b) {
    if (a.size() != b.size()) return false;
    for (const auto& [name, t] : a) {
        const auto found = b.find(name);
        if (found == b.end() || found->second.dtype != t.dtype || found->second.shape != t.shape) return false;
        if (std::memcmp(found->second.data, t.data, static_cast<size_t>(t.bytes())) != 0) return false;
    }
    return true;
}

std::shared_ptr<DataSource> must_open(const Json& options, const DataContext& with) {
    auto opened = open_data(options, with);
    REQUIRE_MESSAGE(opened.ok(), opened.status().message());
    return *opened;
}

// Steps of `next`; an epoch's end is an empty batch.
std::vector<Batch> steps(DataSource& source, int n) {
    std::vector<Batch> out;
    for (int i = 0; i < n; ++i) {
        Batch batch;
        const Status status = source.next(batch);
        REQUIRE_MESSAGE(status.ok(), status.message());
        CHECK((status.code() == Code::END) == batch.empty());
        out.push_back(std::move(batch));
    }
    return out;
}

std::vector<int64_t> labels_of_epoch(DataSource& source) {
    std::vector<int64_t> out;
    while (true) {
        Batch batch;
        const Status status = source.next(batch);
        REQUIRE_MESSAGE(status.ok(), status.message());
        if (status.code() == Code::END) return out;
        const auto labels = ints(batch, "labels");
        out.insert(out.end(), labels.begin(), labels.end());
    }
}

std::vector<int64_t> sorted(std::vector<int64_t> values) {
    std::sort(values.begin(), values.end());
    return values;
}

std::vector<int64_t> range(int64_t n) {
    std::vector<int64_t> out(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) out[static_cast<size_t>(i)] = i;
    return out;
}

}  // namespace

TEST_CASE("order/every_epoch_has_every_row_once_in_an_order_of_its_own") {
    Folder folder;
    const auto source = must_open(numbered_options(numbered(folder, 101)), context());
    CHECK(source->rows() == 101);
    CHECK(source->batches_per_epoch() == 51);
    const auto first = labels_of_epoch(*source), second = labels_of_epoch(*source);
    CHECK(first != second);
    CHECK(first != range(101));
    CHECK(sorted(first) == range(101));
    CHECK(sorted(second) == range(101));
}

TEST_CASE("order/the_seed_alone_decides") {
    Folder folder;
    const std::string path = numbered(folder, 50);
    const auto order = [&](int64_t seed) {
        Json options = numbered_options(path);
        options["seed"] = seed;
        return labels_of_epoch(*must_open(options, context()));
    };
    CHECK(order(1) == order(1));
    CHECK(order(1) != order(2));
    CHECK(order(7) == labels_of_epoch(*must_open(numbered_options(path), context())));  // the context's seed
}

TEST_CASE("order/rows_are_shuffled_evenly") {
    std::vector<std::vector<int>> count(5, std::vector<int>(5));
    for (uint64_t epoch = 0; epoch < 5000; ++epoch) {
        const EpochOrder order = make_order({.samples = 5, .seed = 3, .rows_per_batch = 5}, epoch);
        for (size_t place = 0; place < 5; ++place) ++count[place][order.samples[place]];
    }
    for (const auto& row : count)
        for (const int n : row) CHECK(std::abs(n - 1000) < 150);  // five standard deviations
}

TEST_CASE("split/test_rows_are_the_multiples_and_train_rows_the_others") {
    Folder folder;
    Json options = numbered_options(numbered(folder, 25));
    options["shuffle"] = false;
    const auto rows = [&](const Json& more) {
        Json all = options;
        all.update(more);
        return labels_of_epoch(*must_open(all, context()));
    };
    using L = std::vector<int64_t>;
    CHECK(rows({{"split", {{"every", 10}, {"take", "test"}}}}) == L{9, 19});
    L train = range(25);
    train.erase(train.begin() + 19);
    train.erase(train.begin() + 9);
    CHECK(rows({{"split", {{"every", 10}, {"take", "train"}}}}) == train);
    CHECK(rows({{"skip", 3}, {"limit", 4}}) == L{3, 4, 5, 6});
    CHECK(rows({{"split", {{"every", 5}, {"take", "test"}}}, {"skip", 1}, {"limit", 2}}) == L{9, 14});
    Json none = options;
    none["skip"] = 25;
    CHECK_SAYS(failure(none, context()),
               "data: no rows are left: the files have 25, 0 were skipped as bad, then split, skip (25) and limit (0) apply");
}

TEST_CASE("batches/drop_last_and_grouping_by_length") {
    Folder folder;
    Json options = numbered_options(numbered(folder, 203));
    options["batch_size"] = 4;
    options["drop_last"] = true;
    CHECK(labels_of_epoch(*must_open(options, context())).size() == 200);
    options["drop_last"] = false;
    const auto padding = [&](const Json& more) {
        Json all = options;
        all.update(more);
        int64_t waste = 0;
        std::vector<int64_t> labels;
        for (const Batch& batch : batches(all, context())) {
            for (const int64_t m : ints(batch, "attention_mask")) waste += m == 0;
            const auto some = ints(batch, "labels");
            labels.insert(labels.end(), some.begin(), some.end());
        }
        CHECK(sorted(labels) == range(203));
        return waste;
    };
    const int64_t plain = padding({{"shuffle", true}}), grouped = padding({{"shuffle", true}, {"group_by_length", true}}),
                  small = padding({{"shuffle", true}, {"group_by_length", true}, {"group_batches", 2}});
    CHECK(grouped * 5 < plain);
    CHECK(grouped < small);
    CHECK(small < plain);
}

TEST_CASE("batches/a_token_budget_is_filled_and_not_passed") {
    Folder folder;
    Json options = numbered_options(numbered(folder, 200));
    options["tokens_per_batch"] = 64;
    options["shuffle"] = true;
    std::vector<int64_t> labels;
    int64_t before = 0;
    for (const Batch& batch : batches(options, context())) {
        int64_t tokens = 0;
        for (const int64_t m : ints(batch, "attention_mask")) tokens += m;
        CHECK(tokens <= 64);
        // The next batch's first row did not fit the one before.
        int64_t first = 0;
        const auto mask = ints(batch, "attention_mask");
        for (int64_t i = 0; i < batch.at("attention_mask").shape[1]; ++i) first += mask[static_cast<size_t>(i)];
        if (before > 0) CHECK(before + first > 64);
        before = tokens;
        const auto some = ints(batch, "labels");
        labels.insert(labels.end(), some.begin(), some.end());
    }
    CHECK(sorted(labels) == range(200));
}

TEST_CASE("batches/shards_part_every_global_batch_and_end_together") {
    Folder folder;
    const std::string path = numbered(folder, 47);
    DataContext whole = context();
    whole.rows_per_batch = 6;
    const auto together = must_open(numbered_options(path), whole);
    std::vector<std::shared_ptr<DataSource>> parts;
    for (int rank = 0; rank < 3; ++rank) {
        Json options = numbered_options(path);
        options["shard"] = {{"rank", rank}, {"count", 3}};
        parts.push_back(must_open(options, context()));
        CHECK(parts.back()->batches_per_epoch() == 8);
    }
    for (int step = 0; step < 8; ++step) {
        Batch all;
        REQUIRE(together->next(all).code() == Code::OK);
        std::vector<int64_t> labels;
        for (const auto& part : parts) {
            Batch batch;
            REQUIRE(part->next(batch).code() == Code::OK);
            const auto some = ints(batch, "labels");
            CHECK(!some.empty());
            labels.insert(labels.end(), some.begin(), some.end());
        }
        CHECK(labels == ints(all, "labels"));
    }
    for (const auto& part : parts) {
        Batch batch;
        CHECK(part->next(batch).code() == Code::END);
    }
}

TEST_CASE("loader/any_number_of_workers_gives_the_same_batches") {
    Folder folder;
    Json options = {{"files", numbered(folder, 61)}, {"columns", {{"text", "t"}}}, {"task", "mlm"}};
    std::vector<std::vector<Batch>> runs;
    for (const int workers : {0, 1, 3}) {
        options["workers"] = workers;
        if (workers > 0) options["prefetch"] = workers == 3 ? 7 : 1;
        runs.push_back(steps(*must_open(options, context()), 100));  // three epochs and more
    }
    for (size_t i = 0; i < 100; ++i) {
        CHECK(same(runs[0][i], runs[1][i]));
        CHECK(same(runs[0][i], runs[2][i]));
    }
}

TEST_CASE("loader/a_restored_cursor_continues_bit_equal_from_every_position") {
    Folder folder;
    Json options = {{"files", numbered(folder, 13)}, {"columns", {{"text", "t"}}}, {"task", "mlm"},
                    {"group_by_length", true},       {"group_batches", 2},         {"prefetch", 3}};
    constexpr int kSteps = 24;  // three epochs of 7 batches and an end each
    const auto expected = steps(*must_open(options, context()), kSteps);
    const auto walking = must_open(options, context());
    for (int position = 0; position < kSteps; ++position) {
        const auto cursor = walking->save();
        REQUIRE(cursor.ok());
        options["workers"] = 1 + position % 3;
        DataContext other = context();
        other.seed = 99;  // the cursor brings its own
        const auto fresh = must_open(options, other);
        REQUIRE(fresh->restore(parse_json(cursor.value().dump(), "cursor").value()).ok());
        const auto rest = steps(*fresh, kSteps - position);
        for (int i = position; i < kSteps; ++i) CHECK(same(expected[static_cast<size_t>(i)], rest[static_cast<size_t>(i - position)]));
        CHECK(same(steps(*walking, 1)[0], expected[static_cast<size_t>(position)]));
    }
    // And back, in the middle of prefetching.
    const auto start = must_open(options, context())->save();
    REQUIRE(walking->restore(start.value()).ok());
    CHECK(same(steps(*walking, 1)[0], expected[0]));
}

TEST_CASE("loader/a_cursor_of_other_data_or_sizes_is_refused_or_translated") {
    Folder folder;
    Json options = numbered_options(numbered(folder, 24));
    const auto source = must_open(options, context());
    const auto begin = steps(*source, 6);
    const Json cursor = source->save().value();
    options["batch_size"] = 4;
    const auto wider = must_open(options, context());
    REQUIRE(wider->restore(cursor).ok());
    const auto one = ints(steps(*wider, 1)[0], "labels"), a = ints(steps(*source, 1)[0], "labels"),
               b = ints(steps(*source, 1)[0], "labels");
    CHECK(one == std::vector<int64_t>{a[0], a[1], b[0], b[1]});
    options["batch_size"] = 5;
    CHECK(must_open(options, context())->restore(cursor).message() ==
          "data: cursor: saved with 2 rows and 0 tokens a batch, now 5 and 0; row 12 of the epoch does not begin a batch");
    options["limit"] = 20;
    CHECK(must_open(options, context())->restore(cursor).message() == "data: cursor: saved with 24 rows, these files and options give 20");
    Json bad = cursor;
    bad["epoch"] = -1;
    CHECK(source->restore(bad).message() == "data: cursor: epoch: found -1, an integer from 0 is accepted");
    CHECK(source->restore(Json(3)).message() == "data: cursor: found 3, an object is accepted");
    CHECK(same(steps(*source, 1)[0],
               steps(*must_open(numbered_options(folder.path.string() + "/numbered.csv"), context()), 9)[8]));  // refusals change nothing
}

TEST_CASE("loader/ends_promptly_while_workers_are_busy") {
    Folder folder;
    Json options = numbered_options(numbered(folder, 300));
    options["workers"] = 3;
    options["prefetch"] = 50;
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 20; ++i) {
        const auto source = must_open(options, context());
        steps(*source, i % 3);
    }
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
}

TEST_CASE("loader/counts_the_time_its_consumer_waited") {
    Folder folder;
    Json options = numbered_options(numbered(folder, 300));
    options["workers"] = 0;  // every batch is made while the consumer waits
    const auto alone = must_open(options, context());
    CHECK(alone->wait_seconds() == 0);
    steps(*alone, 1);
    CHECK(alone->wait_seconds() > 0);

    // A batch that was ready costs nothing. When a worker gets its turn is the machine's choice: until one was ready, more time is given.
    options["workers"] = 1;
    const auto ahead = must_open(options, context());
    bool free_of_waiting = false;
    for (int i = 0; i < 100 && !free_of_waiting; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5 * i));
        const double before = ahead->wait_seconds();
        steps(*ahead, 1);
        free_of_waiting = ahead->wait_seconds() == before;
    }
    CHECK(free_of_waiting);
}

TEST_CASE("threads/library_threads_take_no_signals") {
    sigset_t inside, outside;
    start_quiet_thread([&] { ::pthread_sigmask(SIG_BLOCK, nullptr, &inside); }).join();
    ::pthread_sigmask(SIG_BLOCK, nullptr, &outside);
    for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGALRM}) {
        CHECK(sigismember(&inside, signal) == 1);
        CHECK(sigismember(&outside, signal) == 0);
    }
}

TEST_CASE("threads/parallel_for_answers_the_lowest_failure_and_catches") {
    for (int round = 0; round < 20; ++round) {
        const Status status = parallel_for(100, 3, [](int64_t i) { return i % 30 == 29 ? fail(Code::E_IO, "item {}", i) : ok(); });
        CHECK(status.message() == "item 29");
    }
    CHECK(parallel_for(10, 2, [](int64_t i) -> Status { return i == 3 ? throw std::bad_alloc() : ok(); }).code() == Code::E_OUT_OF_MEMORY);
}

namespace {

// Counts over a masked epoch of 400 rows.
struct Rates {
    double chosen = 0, masked = 0, kept = 0;
    int64_t random_specials = 0;
};

std::string long_rows(const Folder& folder) {
    std::string text = "t\n";
    for (int i = 0; i < 400; ++i) {
        for (int k = 0; k < 60; ++k)
            text += fmt::format("{}{}{} ", static_cast<char>('a' + (i + k) % 26), static_cast<char>('a' + k % 26),
                                static_cast<char>('a' + (i * k) % 26));
        text += "\n";
    }
    return folder.write("long.csv", text);
}

Rates rates(const Json& options) {
    Json plain = options;
    plain["task"] = "inputs";
    plain.erase("mask_probability");
    plain.erase("whole_words");
    const auto expected = batches(plain, context());
    const auto got = batches(options, context());
    REQUIRE(expected.size() == got.size());
    double tokens = 0, chosen = 0, masked = 0, kept = 0;
    Rates out;
    for (size_t b = 0; b < got.size(); ++b) {
        const auto ids = ints(got[b], "input_ids"), labels = ints(got[b], "labels"), original = ints(expected[b], "input_ids");
        REQUIRE(ids.size() == original.size());
        for (size_t i = 0; i < ids.size(); ++i) {
            if (original[i] < 5) {  // specials and pads are left alone
                CHECK(ids[i] == original[i]);
                CHECK(labels[i] == -100);
                continue;
            }
            ++tokens;
            if (labels[i] == -100) {
                if (ids[i] != original[i]) FAIL("a token changed without being a label");
                continue;
            }
            if (labels[i] != original[i]) FAIL("a label is not the original token");
            ++chosen;
            masked += ids[i] == 4;
            kept += ids[i] == original[i];
            out.random_specials += ids[i] < 4;
        }
    }
    out.chosen = chosen / tokens;
    out.masked = masked / chosen;
    out.kept = kept / chosen;
    return out;
}

}  // namespace

TEST_CASE("chat/only_what_the_assistant_says_is_learned") {
    const Folder folder;
    const std::string path = folder.write(
        "talk.jsonl",
        R"({"messages": [{"role": "user", "content": "who"}, {"role": "assistant", "content": "the film"}, {"role": "user", "content": "?"}, {"role": "assistant", "content": "good"}]})"
        "\n");
    const std::string chat =
        "{% for m in messages %}{{ '?' if m.role == 'user' else '.' }} {{ m.content }} {% endfor %}{% if add_generation_prompt %}. {% "
        "endif %}";
    const Json options{{"files", path}, {"columns", {{"messages", "messages"}}}, {"chat_template", chat}};
    const auto rows = batches(options, context("causal"));
    REQUIRE(rows.size() == 1);
    // "? who . the film ? ? . good": the speaker's mark belongs to the prompt.
    const int64_t dot = 62, question = 63, the = 60, film = 59, good = 57, who = 65;
    CHECK(ints(rows[0], "input_ids") == std::vector<int64_t>{question, who, dot, the, film, question, question, dot, good});
    CHECK(ints(rows[0], "labels") == std::vector<int64_t>{-100, -100, -100, the, film, -100, -100, -100, good});

    CHECK_SAYS(failure({{"files", path}, {"columns", {{"messages", "messages"}}}}, context("causal")), "has no chat template");
    CHECK_SAYS(failure({{"files", path}, {"columns", {{"messages", "messages"}}}, {"chat_template", "{% if %}"}}, context("causal")),
               "data: chat_template: chat template: line 1");
    const std::string silent = folder.write("silent.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"who\"}]}\n");
    CHECK_SAYS(failure({{"files", silent}, {"columns", {{"messages", "messages"}}}, {"chat_template", chat}}, context("causal")),
               "silent.jsonl: line 1");
    CHECK_SAYS(failure({{"files", silent}, {"columns", {{"messages", "messages"}}}, {"chat_template", chat}}, context("causal")),
               "the assistant says nothing");
    const std::string odd = folder.write("odd.jsonl", "{\"messages\": [{\"content\": \"who\"}]}\n");
    CHECK_SAYS(failure({{"files", odd}, {"columns", {{"messages", "messages"}}}, {"chat_template", chat}}, context("causal")),
               "messages[0]: must be an object with \"role\"");
    const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
    for (const std::string& text : {deep, R"([{\"role\": \"user\", \"content\": )" + deep + "}]"}) {
        const std::string file = folder.write("deep.jsonl", "{\"messages\": \"" + text + "\"}\n");
        CHECK_SAYS(failure({{"files", file}, {"columns", {{"messages", "messages"}}}, {"chat_template", chat}}, context("causal")),
                   "column messages: nested deeper than 64 levels");
    }
    const std::string broken = folder.write("broken.jsonl", "{\"messages\": \"[{]\"}\n");
    CHECK_SAYS(failure({{"files", broken}, {"columns", {{"messages", "messages"}}}, {"chat_template", chat}}, context("causal")),
               "column messages: parse error at line 1, column 3");
}

TEST_CASE("chat/a_token_that_the_assistant_shares_with_the_template_is_learned") {
    const Folder folder;
    const std::string path =
        folder.write("talk.jsonl", R"({"messages": [{"role": "user", "content": "the"}, {"role": "assistant", "content": "good"}]})"
                                   "\n");
    const Json options{{"files", path},
                       {"columns", {{"messages", "messages"}}},
                       {"chat_template",
                        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }} fi{% else %}{% generation %}lm {{ m.content }}{% "
                        "endgeneration %}{% endif %}{% endfor %}"}};
    const auto rows = batches(options, context("causal"));
    REQUIRE(rows.size() == 1);
    const int64_t the = 60, film = 59, good = 57;
    CHECK(ints(rows[0], "input_ids") == std::vector<int64_t>{the, film, good});
    CHECK(ints(rows[0], "labels") == std::vector<int64_t>{-100, film, good});
}

TEST_CASE("mlm/fifteen_percent_are_labels_of_which_80_10_10_are_mask_random_and_kept") {
    Folder folder;
    const Json options = {{"files", long_rows(folder)}, {"columns", {{"text", "t"}}}, {"task", "mlm"}, {"batch_size", 16}};
    const Rates r = rates(options);
    CHECK(r.chosen == doctest::Approx(0.15).epsilon(0.03));
    CHECK(r.masked == doctest::Approx(0.8).epsilon(0.03));
    CHECK(r.kept == doctest::Approx(0.1 + 0.1 / 61).epsilon(0.1));  // a random token may be the same
    CHECK(r.random_specials == 0);
    Json more = options;
    more["mask_probability"] = 0.4;
    CHECK(rates(more).chosen == doctest::Approx(0.4).epsilon(0.03));
}

TEST_CASE("mlm/whole_words_are_labels_together_at_the_same_rate") {
    Folder folder;
    Json options = {{"files", long_rows(folder)}, {"columns", {{"text", "t"}}}, {"task", "mlm"}, {"batch_size", 16}, {"whole_words", true}};
    CHECK(rates(options).chosen == doctest::Approx(0.15).epsilon(0.05));
    for (const Batch& batch : batches(options, context())) {
        const auto labels = ints(batch, "labels");
        const int64_t length = batch.at("labels").shape[1];
        for (size_t i = 0; i < labels.size(); ++i) {
            const int64_t at = static_cast<int64_t>(i) % length;
            if (at == 0 || at > 180) continue;
            if ((at - 1) % 3 != 0) CHECK((labels[i] == -100) == (labels[i - 1] == -100));  // every word has three tokens
        }
    }
}

TEST_CASE("mlm/epochs_differ_and_blocks_are_wrapped_in_special_tokens") {
    Folder folder;
    const auto source = must_open({{"files", folder.write("a.txt", "a b c d e f g h i j k l m n o p q r s t u v w x y z")},
                                   {"block_length", 10},
                                   {"task", "mlm"},
                                   {"shuffle", false},
                                   {"batch_size", 4},
                                   {"mask_probability", 0.5}},
                                  context());
    const auto read = steps(*source, 4);
    CHECK(read[0].at("input_ids").shape == Shape{4, 10});
    CHECK(ints(read[0], "input_ids")[0] == 2);
    CHECK(ints(read[0], "input_ids")[9] == 3);
    CHECK(ints(read[0], "labels") != ints(read[2], "labels"));
}

TEST_CASE("tokenize/many_texts_become_one_padded_batch") {
    const auto t = tokenizer();
    const std::vector<std::string_view> texts = {"a b c", "good"}, pairs = {"d", "bad film"};
    const auto batch = tokenize_batch(*t, texts, {}, {});
    REQUIRE(batch.ok());
    CHECK(ints(batch.value(), "input_ids") == std::vector<int64_t>{2, 5, 6, 7, 3, 2, 57, 3, 0, 0});
    CHECK(ints(batch.value(), "attention_mask") == std::vector<int64_t>{1, 1, 1, 1, 1, 1, 1, 1, 0, 0});
    const auto paired = tokenize_batch(*t, texts, pairs, {{"pad_to_multiple_of", 8}});
    REQUIRE(paired.ok());
    CHECK(paired.value().at("token_type_ids").shape == Shape{2, 8});
    CHECK(ints(paired.value(), "token_type_ids") == std::vector<int64_t>{0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0});
    const auto cut = tokenize_batch(*t, texts, {}, {{"max_length", 4}, {"padding", "max_length"}, {"truncation", true}});
    REQUIRE(cut.ok());
    CHECK(ints(cut.value(), "input_ids") == std::vector<int64_t>{2, 5, 6, 3, 2, 57, 3, 0});
    const auto bare = tokenize_batch(*t, std::vector<std::string_view>{"a", "b"}, {}, {{"padding", false}, {"add_special_tokens", false}});
    REQUIRE(bare.ok());
    CHECK(ints(bare.value(), "input_ids") == std::vector<int64_t>{5, 6});
    const auto says = [&](const Json& options, std::span<const std::string_view> second = {}) {
        return tokenize_batch(*t, texts, second, options).status().message();
    };
    CHECK(says({{"padding", false}}) == "tokenize: padding false: text 1 has 3 tokens, text 0 has 5; equal lengths are accepted");
    CHECK(says({{"paddin", false}}) == "tokenize: paddin: unknown key; did you mean padding?");
    CHECK(says({{"padding", "x"}}) == "tokenize: padding: found \"x\", accepted are \"longest\", \"max_length\" and false");
    CHECK(says({{"truncation", true}}) == "tokenize: truncation: needs max_length");
    CHECK(says({{"max_length", 4}, {"truncation", false}, {"padding", "max_length"}}) ==
          "tokenize: text 0 has 5 tokens, max_length is 4; \"truncation\": true would cut it");
    CHECK(says({}, std::span(pairs).first(1)) == "tokenize: 2 texts and 1 pairs; as many pairs as texts, or none, are accepted");
    CHECK(tokenize_batch(*t, {}, {}, {}).status().message() == "tokenize: no texts; one or more are accepted");
}

namespace {

// The metric of row i of curriculum_rows is i * 37 % 100.
std::string curriculum_rows(const Folder& folder, int n) {
    std::string text = "t,l,hard\n";
    for (int i = 0; i < n; ++i) text += fmt::format("{}a,{},{}\n", i % 5 ? "b c d " : "", i, i * 37 % 100);
    return folder.write("curriculum.csv", text);
}

CurriculumMetric by_column(std::function<int64_t(int64_t)> difficulty, bool percentile = false, int64_t most = 100) {
    return {.name = "hard", .column = Json(), .percentile = percentile, .most = most, .difficulty = std::move(difficulty)};
}

DataContext curriculum_context(CurriculumMetric metric, int64_t batches_per_update = 1) {
    DataContext with = context();
    with.rows_per_batch = 8;
    with.curriculum.metrics = {std::move(metric)};
    with.curriculum.batches_per_update = batches_per_update;
    return with;
}

}  // namespace

TEST_CASE("curriculum/rows_are_no_harder_than_the_update_allows") {
    Folder folder;
    const std::string path = curriculum_rows(folder, 64);
    const auto allowed = [](int64_t update) { return std::min<int64_t>(20 + 10 * (update - 1), 100); };
    const DataContext with = curriculum_context(by_column(allowed), 2);
    const auto source = must_open(numbered_options(path), with);
    std::set<int64_t> seen;
    for (int epoch = 0; epoch < 3; ++epoch)
        for (int b = 0;; ++b) {
            Batch batch;
            const Status status = source->next(batch);
            REQUIRE_MESSAGE(status.ok(), status.message());
            if (status.code() == Code::END) {
                CHECK(b == 8);
                break;
            }
            const int64_t most = allowed((epoch * 8 + b) / 2 + 1);
            for (const int64_t label : ints(batch, "labels")) {
                CHECK(label * 37 % 100 <= most);
                if (epoch < 2) seen.insert(label);
            }
        }
    CHECK(seen.size() > 40);  // and the harder ones do come
    std::vector<int64_t> last;
    for (int epoch = 0; epoch < 1; ++epoch) last = labels_of_epoch(*source);
    CHECK(sorted(last) == range(64));  // once all are easy enough, an epoch is every row once
}

TEST_CASE("curriculum/percentiles_are_shares_of_the_rows") {
    Folder folder;
    const std::string path = curriculum_rows(folder, 50);
    const RowCurriculum curriculum{{by_column([](int64_t update) { return update; }, true, 10)},
                                   {[] {
                                       std::vector<double> values;
                                       for (int i = 0; i < 50; ++i) values.push_back(i * 37 % 100);
                                       return values;
                                   }()},
                                   1};
    for (int64_t tenths = 1; tenths <= 10; ++tenths) {
        const auto easy = easy_rows(curriculum, 50, tenths);
        CHECK(static_cast<int64_t>(easy.size()) == 5 * tenths);
        double hardest = 0, easiest = 1000;
        for (uint32_t i = 0; i < 50; ++i) {
            const bool in = std::find(easy.begin(), easy.end(), i) != easy.end();
            if (in) hardest = std::max(hardest, curriculum.values[0][i]);
            else easiest = std::min(easiest, curriculum.values[0][i]);
        }
        CHECK(hardest <= easiest);
    }
}

TEST_CASE("curriculum/an_update_that_no_row_is_easy_enough_for_has_no_batch") {
    OrderRules rules{.samples = 8, .rows_per_batch = 2};
    rules.curriculum = {{by_column([](int64_t update) { return update % 2 ? 3 : -1; })}, {{0, 1, 2, 3, 4, 5, 6, 7}}, 1};
    const EpochOrder order = make_order(rules, 0);
    CHECK(order.count() == 2);
    CHECK(std::ranges::all_of(order.samples, [](uint32_t row) { return row <= 3; }));
}

TEST_CASE("curriculum/by_tokens_and_a_cursor_continues_it") {
    Folder folder;
    const std::string path = numbered(folder, 60);
    CurriculumMetric metric{.name = "seqlen", .column = Json(), .percentile = false, .most = 14, .difficulty = [](int64_t update) {
                                return std::min<int64_t>(4 + update, 14);
                            }};
    const DataContext with = curriculum_context(metric);
    const auto whole = must_open(numbered_options(path), with), other = must_open(numbered_options(path), with);
    const auto all = steps(*whole, 20);
    for (size_t i = 0; i < 7; ++i) CHECK(all[i].at("input_ids").shape[1] <= 5 + static_cast<int64_t>(i));
    CHECK(all[6].at("input_ids").shape[1] > 7);
    (void)steps(*other, 3);
    const Json cursor = *other->save();
    const auto resumed = must_open(numbered_options(path), with);
    REQUIRE(resumed->restore(cursor).ok());
    const auto rest = steps(*resumed, 17);
    for (size_t i = 0; i < rest.size(); ++i) CHECK(same(rest[i], all[i + 3]));
}

TEST_CASE("curriculum/not_where_data_is_not_for_training") {
    Folder folder;
    const std::string path = curriculum_rows(folder, 20);
    const DataContext with = curriculum_context(by_column([](int64_t) { return -1; }));  // no row would be easy enough
    Json plain = numbered_options(path), test = plain;
    plain["shuffle"] = false;
    test["split"] = {{"every", 4}, {"take", "test"}};
    CHECK(labels_of_epoch(*must_open(plain, with)) == range(20));
    CHECK(sorted(labels_of_epoch(*must_open(test, with))) == std::vector<int64_t>{3, 7, 11, 15, 19});
}

TEST_CASE("curriculum/mistakes_name_metric_row_and_value") {
    Folder folder;
    const auto says = [&](const Json& options, const DataContext& with) {
        const auto opened = open_data(options, with);
        return opened.ok() ? std::string("accepted") : std::string(opened.status().message());
    };
    const std::string path = curriculum_rows(folder, 10);
    CHECK(says(numbered_options(path), curriculum_context(by_column([](int64_t) { return -1; })))
              .find("curriculum: no row is easy enough for the first update (hard -1 at most)") != std::string::npos);
    const std::string words = folder.write("words.csv", "t,l,hard\na,1,3\nb,2,much\n");
    const std::string said = says(numbered_options(words), curriculum_context(by_column([](int64_t) { return 5; })));
    CHECK(said.find("words.csv: line 3") != std::string::npos);
    CHECK(said.find("curriculum metric hard: found the text \"much\", a number is accepted") != std::string::npos);
    CHECK(says(numbered_options(numbered(folder, 5)), curriculum_context(by_column([](int64_t) { return 5; }))).find("hard") !=
          std::string::npos);  // no such column
    Json by_tokens = numbered_options(path);
    by_tokens["tokens_per_batch"] = 30;
    CHECK(says(by_tokens, curriculum_context(by_column([](int64_t) { return 50; }))).find("tokens_per_batch: not built together with") !=
          std::string::npos);
}

TEST_CASE("batches/every_part_keeps_its_token_budget") {
    CounterRandom random(5);
    std::vector<uint32_t> lengths(400);
    for (size_t i = 0; i < lengths.size(); ++i) lengths[i] = 1 + static_cast<uint32_t>(random.below(i, i < 300 ? 40 : 120));
    for (const int64_t parts : {1, 2, 3, 8})
        for (const bool drop_long : {false, true}) {
            const OrderRules rules{.samples = 400, .parts = parts, .tokens_per_part = 100, .drop_long = drop_long, .lengths = lengths};
            const EpochOrder order = make_order(rules, 0);
            int64_t rows = 0, tokens = 0;
            for (int64_t b = 0; b < order.count(); ++b)
                for (int64_t part = 0; part < parts; ++part) {
                    int64_t sum = 0;
                    const auto mine = order.rows(b, part, parts);
                    for (const uint32_t row : mine) sum += lengths[row];
                    CHECK((sum <= 100 || (mine.size() == 1 && !drop_long)));
                    rows += static_cast<int64_t>(mine.size());
                    tokens += sum;
                }
            CHECK(rows == (drop_long ? std::ranges::count_if(lengths, [](uint32_t n) { return n <= 100; }) : 400));
            CHECK(tokens > 50 * parts * order.count());  // and is filled
        }
}

TEST_CASE("batches/an_engines_token_budget_has_least_and_most_rows_and_an_order") {
    Folder folder;
    const std::string path = numbered(folder, 100);
    Json options = numbered_options(path);
    options["shuffle"] = true;  // data for training
    DataContext with = context();
    with.tokens_per_batch = 40;
    with.max_rows = 6;
    with.picking_order = "seqlen";
    int64_t rows = 0, longest = 0, most = 0;
    for (const Batch& batch : batches(options, with)) {
        const auto mask = ints(batch, "attention_mask");
        const int64_t n = batch.at("attention_mask").shape[0], length = batch.at("attention_mask").shape[1];
        CHECK(std::accumulate(mask.begin(), mask.end(), int64_t{0}) <= 40);
        CHECK(n <= 6);
        CHECK(length >= longest);  // shortest first
        longest = length;
        most = std::max(most, n);
        rows += n;
    }
    CHECK(rows == 100);
    CHECK(most == 6);
    with.min_rows = 4;
    for (const Batch& batch : batches(options, with)) CHECK(batch.at("attention_mask").shape[0] >= 4);
    with.picking_order = "random";
    CHECK(labels_of_epoch(*must_open(numbered_options(path), with)) != labels_of_epoch(*must_open(numbered_options(path), context())));
    Json own = numbered_options(path);
    own["batch_size"] = 10;  // what the options say comes first
    for (const Batch& batch : batches(own, with)) CHECK(batch.at("attention_mask").shape[0] == 10);
    own.erase("batch_size");
    with.min_rows = with.max_rows = 0;
    with.tokens_per_batch = 9;  // rows of up to 13 tokens: the longer ones are left out
    const auto some = labels_of_epoch(*must_open(own, with));
    CHECK(!some.empty());
    for (const int64_t i : some) CHECK(i * 7 % 11 + 3 <= 9);
    with.tokens_per_batch = 2;
    CHECK(failure(own, with) == "data: all 100 rows have more tokens than dynamic_batching.max_tokens (2)");
}
