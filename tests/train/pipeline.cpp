// Pipelines through the ABI: each timetable on changing shapes against one rank, what waits and what asks, graphs that are cut anywhere,
// and what is refused.
#include <doctest/doctest.h>
#include <dsrt/dsrt.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "support/training.h"

namespace {

using ds::Json;

const std::string kModels = std::string(DSRT_TEST_DATA) + "/models/";

#define MUST(call) REQUIRE_MESSAGE((call) >= 0, ds_last_error())

struct Engine {
    ds_engine* e = nullptr;
    Engine(Json config, const Json& more, ds_graph* graph = nullptr, const ds_optimizer_callbacks* optimizer = nullptr) {
        config.merge_patch(more);
        ds_options* options = nullptr;
        MUST(ds_options_create(&options));
        if (graph) MUST(ds_options_set_graph(options, graph));
        if (optimizer) MUST(ds_options_set_optimizer(options, optimizer));
        const ds_status status = ds_engine_create(config.dump().c_str(), options, &e);
        ds_options_destroy(options);
        MUST(status);
    }
    Engine(const Engine&) = delete;
    ~Engine() { ds_engine_destroy(e); }

    double metric(const char* name) const {
        double x = NAN;
        MUST(ds_metric(e, name, &x));
        return x;
    }
    std::vector<float> all(int what = DS_WEIGHT) const {
        std::vector<float> values;
        size_t count = 0;
        MUST(ds_param_count(e, &count));
        for (size_t i = 0; i < count; ++i) {
            const char* name = nullptr;
            ds_tensor* t = nullptr;
            MUST(ds_param_name(e, i, &name));
            MUST(ds_param_get(e, name, what, &t));
            append(values, t);
        }
        return values;
    }
    std::vector<float> output(const char* name) const {
        ds_tensor* t = nullptr;
        MUST(ds_output(e, name, &t));
        std::vector<float> values;
        append(values, t);
        return values;
    }
    static void append(std::vector<float>& values, ds_tensor* t) {
        int32_t ndim;
        const int64_t* shape;
        MUST(ds_tensor_info(t, nullptr, &ndim, &shape));
        size_t n = 1;
        for (int d = 0; d < ndim; ++d) n *= static_cast<size_t>(shape[d]);
        values.resize(values.size() + n);
        MUST(ds_tensor_read(t, DS_F32, values.data() + values.size() - n, n * 4));
        ds_tensor_destroy(t);
    }
};

void put(ds_batch* b, const char* name, int32_t dtype, std::vector<int64_t> shape, const void* data) {
    ds_tensor* t = nullptr;
    size_t bytes = dtype == DS_U8 ? 1 : 4;
    for (const int64_t d : shape) bytes *= static_cast<size_t>(d);
    MUST(ds_tensor_create(dtype, static_cast<int32_t>(shape.size()), shape.data(), data, bytes, &t));
    MUST(ds_batch_set(b, name, t));
    ds_tensor_destroy(t);
}

struct Batch {
    ds_batch* b = nullptr;
    Batch() { MUST(ds_batch_create(&b)); }
    Batch(const Batch&) = delete;
    ~Batch() { ds_batch_destroy(b); }
};

// Micro-batch `number` of a causal model, or of a classifier: shapes change from one to the next.
struct Text : Batch {
    explicit Text(int number, bool causal, int64_t most_rows = 4) {
        const int64_t rows = 1 + number % most_rows, length = 5 + 3 * (number % 3);
        std::vector<int32_t> ids, labels, classes;
        std::vector<uint8_t> mask;
        for (int64_t r = 0; r < rows; ++r) {
            classes.push_back(static_cast<int32_t>((r + number) % 3));
            for (int64_t t = 0; t < length; ++t) {
                ids.push_back(static_cast<int32_t>(5 + (7 * (r + number) + 3 * t + t * t) % 80));
                mask.push_back(t < length - (r + number) % 3);
                labels.push_back(mask.back() && t % 4 != 3 ? ids.back() : -100);
            }
        }
        put(b, "input_ids", DS_I32, {rows, length}, ids.data());
        put(b, "attention_mask", DS_U8, {rows, length}, mask.data());
        if (causal) put(b, "labels", DS_I32, {rows, length}, labels.data());
        else put(b, "labels", DS_I32, {rows}, classes.data());
    }
};

double apart(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0, norm = 1e-30;
    for (size_t i = 0; i < a.size() && i < b.size(); ++i) difference += (a[i] - b[i]) * double(a[i] - b[i]), norm += double(b[i]) * b[i];
    return a.size() == b.size() ? std::sqrt(difference / norm) : INFINITY;
}

Json config_of(const std::string& model, int accumulation) {
    return {{"model", kModels + model},
            {"threads", 1},
            {"train_micro_batch_size_per_gpu", 4},
            {"gradient_accumulation_steps", accumulation},
            {"gradient_clipping", 0.3},
            {"logger", {{"default_verbosity", "ERROR"}}},
            {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-3}, {"weight_decay", 0.1}}}}}};
}
Json dropout(const std::string& model) {
    if (model == "gpt2") return {{"model_overrides", {{"attn_pdrop", 0.2}, {"resid_pdrop", 0.2}, {"embd_pdrop", 0.2}}}};
    return {{"model_overrides", {{"hidden_dropout_prob", 0.2}, {"attention_probs_dropout_prob", 0.2}, {"classifier_dropout", 0.2}}}};
}
Json stages(int pipeline, const std::string& schedule = "1f1b", Json more = Json::object()) {
    more["schedule"] = schedule;
    return {{"parallel", {{"pipeline", pipeline}, {"data", 1}}}, {"pipeline", more}};
}

// The losses that were asked for, then the weights.
struct Run {
    std::vector<float> losses, weights;
    double norm = 0, loss = 0, sums = 0;  // sums: bytes of the last step's all-to-all
};
Run train(const Json& config, const Json& layout, bool causal, int steps, bool asks) {
    Engine e(config, layout);
    Run run;
    const int micros = config["gradient_accumulation_steps"];
    for (int i = 0; i < steps * micros; ++i) {
        const Text text(i, causal);
        float loss = 0;
        MUST(ds_forward(e.e, text.b, asks ? &loss : nullptr));
        MUST(ds_backward(e.e));
        const ds_status status = ds_step(e.e);
        MUST(status);
        REQUIRE(status == ((i + 1) % micros ? DS_PENDING : DS_OK));
        if (asks) run.losses.push_back(loss);
    }
    run.weights = e.all();
    run.norm = e.metric("grad_norm");
    run.sums = e.metric("bytes_all_to_all");
    run.loss = e.metric("loss");
    return run;
}

std::string refusal(Json config, const Json& more, ds_status expected) {
    config.merge_patch(more);
    ds_engine* e = nullptr;
    CHECK(ds_engine_create(config.dump().c_str(), nullptr, &e) == expected);
    ds_engine_destroy(e);
    return ds_last_error();
}

Json plan_of(Json config, const Json& more) {
    config.merge_patch(more);
    char* text = nullptr;
    MUST(ds_plan(config.dump().c_str(), nullptr, &text));
    Json plan = Json::parse(text);
    ds_free(text);
    return plan;
}

}  // namespace

TEST_CASE("pipeline/every_timetable_trains_as_one_rank_does_and_waiting_changes_no_bit") {
    struct Layout {
        int ranks;
        const char* schedule;
        Json more;
    };
    const std::vector<Layout> layouts = {{2, "gpipe", {}},
                                         {3, "1f1b", {}},
                                         {2, "interleaved", {{"chunks", 2}}},
                                         {4, "zb-h1", {}},
                                         {3, "zb-h1", {{"active_stages", 2}}},
                                         {2, "gpipe", {{"active_stages", 2}, {"partition", "parameters"}}},
                                         {3, "1f1b", {{"active_stages", 1}, {"partition", "uniform"}}}};
    for (const std::string model : {"gpt2", "bert-sentiment"}) {
        const bool causal = model == "gpt2";
        Json config = config_of(model, 6);
        config.merge_patch(dropout(model));
        const Run one = train(config, Json::object(), causal, 2, true);
        for (const Layout& layout : layouts) {
            CAPTURE(model);
            CAPTURE(layout.schedule);
            CAPTURE(layout.ranks);
            const Json where = stages(layout.ranks, layout.schedule, layout.more.is_null() ? Json::object() : layout.more);
            const Run many = train(config, where, causal, 2, false), asked = train(config, where, causal, 2, true);
            CHECK(apart(asked.losses, one.losses) < 1e-5);
            CHECK(apart(many.weights, one.weights) < 1e-5);
            CHECK(std::fabs(many.norm / one.norm - 1) < 1e-5);
            CHECK(std::fabs(many.loss / one.loss - 1) < 1e-5);
            CHECK(many.weights == asked.weights);
        }
    }
}

TEST_CASE("pipeline/what_is_asked_for_is_there") {
    const Json config = config_of("gpt2", 3);
    Engine one(config, dropout("gpt2"));
    Json both = dropout("gpt2");
    both.merge_patch(stages(3));
    Engine many(config, both);
    const Text first(0, true), second(1, true), other(5, true);
    const auto same = [&](int what, double bound) { CHECK(apart(many.all(what), one.all(what)) < bound); };
    for (Engine* e : {&one, &many}) MUST(ds_forward(e->e, first.b, nullptr));
    CHECK(apart(many.output("logits"), one.output("logits")) < 1e-5);
    for (Engine* e : {&one, &many}) MUST(ds_forward(e->e, second.b, nullptr));  // the first is dropped
    for (Engine* e : {&one, &many}) MUST(ds_backward(e->e));
    CHECK(ds_backward(many.e) == DS_E_STATE);
    same(DS_GRAD, 1e-5);  // of a step that is not complete
    for (Engine* e : {&one, &many}) MUST(ds_forward(e->e, first.b, nullptr));
    float loss[2] = {0, 0};
    MUST(ds_eval(one.e, other.b, &loss[0]));
    MUST(ds_eval(many.e, other.b, &loss[1]));
    CHECK(std::fabs(loss[0] - loss[1]) < 1e-5);
    CHECK(apart(many.output("last_hidden_state"), one.output("last_hidden_state")) < 1e-5);
    // A weight that is set between forward and backward: the forward pass saw the old one.
    const char* name = "transformer.wte.weight";
    for (Engine* e : {&one, &many}) {
        ds_tensor* t = nullptr;
        MUST(ds_param_get(e->e, name, DS_WEIGHT, &t));
        std::vector<float> values;
        Engine::append(values, t);
        for (float& x : values) x *= 1.5f;
        int32_t ndim;
        const int64_t* shape;
        MUST(ds_param_info(e->e, name, &ndim, &shape, nullptr));
        MUST(ds_tensor_create(DS_F32, ndim, shape, values.data(), values.size() * 4, &t));
        MUST(ds_param_set(e->e, name, DS_WEIGHT, t));
        ds_tensor_destroy(t);
    }
    for (Engine* e : {&one, &many}) MUST(ds_backward(e->e));
    same(DS_GRAD, 1e-5);
    for (Engine* e : {&one, &many}) MUST(ds_zero_grad(e->e));
    same(DS_GRAD, 1e-30);
    for (int i = 0; i < 3; ++i) {
        const Text text(i, true);
        for (Engine* e : {&one, &many}) {
            MUST(ds_forward(e->e, text.b, nullptr));
            MUST(ds_backward(e->e));
        }
    }
    CHECK(ds_forward(many.e, first.b, nullptr) == DS_OK);
    CHECK(ds_backward(many.e) == DS_E_STATE);  // past the boundary
    for (Engine* e : {&one, &many}) CHECK(ds_step(e->e) == DS_OK);
    same(DS_WEIGHT, 1e-5);
    same(DS_FIRST_MOMENT, 1e-5);
}

TEST_CASE("pipeline/gradients_of_the_hosts_own_loss_go_through_all_stages") {
    const Json config = config_of("bert-sentiment", 2);
    Engine one(config, Json::object()), many(config, stages(3, "zb-h1"));
    for (Engine* e : {&one, &many}) {
        for (int i = 0; i < 2; ++i) {
            const Text text(1, false);  // 2 rows
            MUST(ds_forward(e->e, text.b, nullptr));
            const std::vector<float> gradient = {1, -1, 0.5f, 0, 2, -0.25f};
            const float weight = 0.5f;
            Batch gradients;
            put(gradients.b, "logits", DS_F32, {2, 3}, gradient.data());
            if (i) put(gradients.b, "loss", DS_F32, {}, &weight);
            MUST(ds_backward_from(e->e, gradients.b));
        }
    }
    CHECK(apart(many.all(DS_GRAD), one.all(DS_GRAD)) < 1e-5);
    for (Engine* e : {&one, &many}) MUST(ds_step(e->e));
    CHECK(apart(many.all(), one.all()) < 1e-5);
}

TEST_CASE("pipeline/a_hosts_optimizer_keeps_what_it_knows_of_a_tied_weight") {
    ds_optimizer_callbacks momentum{};
    momentum.struct_size = sizeof(momentum);
    momentum.floats_per_element = 1;
    momentum.update = [](void*, const char*, int64_t, double lr, float* weight, const float* gradient, float* state, size_t n) {
        for (size_t i = 0; i < n; ++i) weight[i] -= static_cast<float>(lr) * (state[i] = 0.9f * state[i] + gradient[i]);
        return 0;
    };
    const Json config = config_of("gpt2", 1);
    const auto train = [](const Engine& e, int from, int to) {
        for (int i = from; i < to; ++i) {
            const Text text(i, true);
            MUST(ds_forward(e.e, text.b, nullptr));
            MUST(ds_backward(e.e));
            MUST(ds_step(e.e));
        }
    };
    const Engine one(config, Json::object(), nullptr, &momentum), many(config, stages(2), nullptr, &momentum),
        again(config, Json::object(), nullptr, &momentum);
    train(one, 0, 6);
    train(many, 0, 3);
    const training::Folder folder;
    MUST(ds_save(many.e, folder.path.c_str(), "t", nullptr));
    MUST(ds_load(again.e, folder.path.c_str(), nullptr, nullptr));
    train(again, 3, 6);
    CHECK(apart(again.all(), one.all()) < 1e-5);
}

TEST_CASE("pipeline/an_overflow_anywhere_skips_the_step_everywhere") {
    Json config = config_of("bert-sentiment", 2);
    config["fp16"] = {{"enabled", true}, {"initial_scale_power", 60}, {"hysteresis", 1}};
    Engine e(config, stages(3));
    const auto before = e.all();
    for (int i = 0; i < 2; ++i) {
        const Text text(i, false);
        MUST(ds_forward(e.e, text.b, nullptr));
        MUST(ds_backward(e.e));
    }
    CHECK(ds_step(e.e) == DS_SKIPPED);
    CHECK(e.all() == before);
    CHECK(e.metric("skipped_steps") == 1);
    CHECK(e.metric("loss_scale") == std::ldexp(1.0, 59));
}

TEST_CASE("pipeline/a_graph_of_the_hosts_is_cut_where_it_can_be") {
    // An encoder whose output every later layer reads, and a weight (%w) that all layers share.
    const char* text =
        R"(graph two(%x: f32[rows,8], %target: i32[rows], param %in: f32[8,8] normal 0.5, param %w: f32[8,8] normal 0.4, param %b: f32[8] normal 0.1,
        param %u: f32[8,8] normal 0.5, param %out: f32[8,4] normal 0.5) {
      %e = matmul %x, %in
      %m = tanh %e
      %h0 = matmul %m, %w, %b
      %a0 = gelu %h0
      %c0 = matmul %a0, %u
      %s0 = add %c0, %m
      %h1 = matmul %s0, %w, %b
      %a1 = gelu %h1
      %c1 = mul %a1, %m
      %h2 = matmul %c1, %w, %b
      %s2 = add %h2, %c0
      %y = matmul %s2, %out
      %loss, %lse = cross_entropy %y, %target
      output y = %y
      output middle = %c1
      loss = %loss
    })";
    ds_graph* graph = nullptr;
    MUST(ds_graph_parse(text, &graph));
    Json config = config_of("gpt2", 3);
    config.erase("model");
    const auto batch_of = [](int number, Batch& batch) {
        std::vector<float> x;
        std::vector<int32_t> target;
        const int64_t rows = 2 + number % 3;
        for (int64_t i = 0; i < rows * 8; ++i) x.push_back(std::sin(static_cast<float>(i * 7 + number)));
        for (int64_t i = 0; i < rows; ++i) target.push_back(static_cast<int32_t>((i + number) % 4));
        put(batch.b, "x", DS_F32, {rows, 8}, x.data());
        put(batch.b, "target", DS_I32, {rows}, target.data());
    };
    const auto run = [&](const Json& layout, bool asks) {
        Engine e(config, layout, graph);
        std::vector<float> all;
        for (int i = 0; i < 6; ++i) {
            Batch batch;
            batch_of(i, batch);
            float loss = 0;
            MUST(ds_forward(e.e, batch.b, asks ? &loss : nullptr));
            if (asks)
                for (const char* name : {"y", "middle"})
                    for (const float y : e.output(name)) all.push_back(y);
            MUST(ds_backward(e.e));
            MUST(ds_step(e.e));
        }
        if (!asks) all.clear();
        for (const float w : e.all()) all.push_back(w);
        return all;
    };
    const auto one = run(Json::object(), true), one_silent = run(Json::object(), false);
    for (const Json& layout : {stages(2), stages(3, "zb-h1"), stages(5, "gpipe"), stages(2, "interleaved", {{"chunks", 3}}),
                               stages(3, "interleaved", {{"chunks", 2}, {"partition", "uniform"}})}) {
        CAPTURE(layout.dump());
        CHECK(apart(run(layout, true), one) < 1e-5);
        CHECK(apart(run(layout, false), one_silent) < 1e-5);
    }
    ds_graph_destroy(graph);
}

// A word may be ignored by any number: one that another rank's words are marked with, or one that a rank's own word has there.
TEST_CASE("tensor/words_are_ignored_by_any_number") {
    for (const int ignore : {-100, -1, 2}) {
        CAPTURE(ignore);
        const std::string text =
            "graph words(%x: f32[rows,8], %labels: i32[rows], param %w: f32[600,8] normal 0.5) {\n"
            "  %loss, %lse = linear_cross_entropy %x, %w, _, %labels {ignore = " +
            std::to_string(ignore) + "}\n  loss = %loss\n}";
        ds_graph* graph = nullptr;
        MUST(ds_graph_parse(text.c_str(), &graph));
        Json config = config_of("gpt2", 1);
        config.erase("model");
        const auto run = [&](const Json& layout) {
            Engine e(config, layout, graph);
            std::vector<float> losses;
            for (int step = 0; step < 3; ++step) {
                Batch batch;
                std::vector<float> x;
                for (int i = 0; i < 64 * 8; ++i) x.push_back(std::sin(static_cast<float>(i * 7 + step)));
                std::vector<int32_t> labels;
                for (int i = 0; i < 64; ++i) labels.push_back(i % 5 == 0 ? ignore : i % 5 == 1 ? 302 : i * 9);
                put(batch.b, "x", DS_F32, {64, 8}, x.data());
                put(batch.b, "labels", DS_I32, {64}, labels.data());
                float loss = 0;
                MUST(ds_forward(e.e, batch.b, &loss));
                MUST(ds_backward(e.e));
                MUST(ds_step(e.e));
                losses.push_back(loss);
            }
            return losses;
        };
        CHECK(apart(run({{"parallel", {{"tensor", 2}}}}), run(Json::object())) < 1e-5);
        ds_graph_destroy(graph);
    }
}

// A table that several stages have is summed in rounds by those that have it: two of three stages of a GPT-2, all three of a T5.
TEST_CASE("pipeline/the_gradient_of_a_large_tied_table_is_summed_once_over_the_stages_that_have_it") {
    const int64_t width = 64, vocabulary = 9001;
    const Json sizes = {{"vocab_size", vocabulary}, {"n_embd", width},  {"n_layer", 3},      {"n_head", 4},
                        {"n_positions", 32},        {"resid_pdrop", 0}, {"embd_pdrop", 0},   {"attn_pdrop", 0},
                        {"d_model", width},         {"d_kv", 16},       {"d_ff", 96},        {"num_layers", 2},
                        {"num_decoder_layers", 2},  {"num_heads", 4},   {"dropout_rate", 0}, {"decoder_start_token_id", 0},
                        {"pad_token_id", 0},        {"eos_token_id", 1}};
    const int64_t positions = 32 * 4;  // of T5's decoder: its layers lie on two stages
    for (const auto& [type, architecture, sent] : {std::tuple{"gpt2", "GPT2LMHeadModel", 2 * 4 * width * vocabulary},
                                                   {"t5", "T5ForConditionalGeneration", 4 * 4 * width * vocabulary + 2 * 4 * positions}}) {
        CAPTURE(type);
        Json config = config_of("", 2);
        config["model"] = sizes;
        config["model"].merge_patch({{"model_type", type}, {"architectures", {architecture}}});
        const Run one = train(config, Json::object(), true, 2, false);
        for (const int threads : {1, 2}) {
            Json where = stages(3, "1f1b", {{"partition", "uniform"}});
            where["threads"] = threads;
            const Run three = train(config, where, true, 2, false);
            CHECK(apart(three.weights, one.weights) < 1e-5);
            CHECK(three.sums == static_cast<double>(sent));  // what an all-reduce over n holders sends: 2 (n - 1) times the bytes
        }
    }
}

TEST_CASE("pipeline/frozen_layers_send_no_gradients_and_the_rest_trains_as_on_one_rank") {
    Json config = config_of("bert-sentiment", 3);
    config["param_groups"] = {{{"name", "low"}, {"match", {"bert.embeddings.*", "bert.encoder.layer.0.*"}}, {"frozen", true}}};
    const Run one = train(config, Json::object(), false, 2, true), many = train(config, stages(3), false, 2, false),
              zero_bubble = train(config, stages(4, "zb-h1"), false, 2, false);
    CHECK(apart(many.weights, one.weights) < 1e-5);
    CHECK(apart(zero_bubble.weights, one.weights) < 1e-5);
    CHECK(std::fabs(many.norm / one.norm - 1) < 1e-5);
}

TEST_CASE("pipeline/train_batch_takes_whole_steps_and_the_rest_of_an_epoch") {
    struct Source {
        int at = 0;
        static int32_t next(void* user, ds_batch* b) {
            auto& self = *static_cast<Source*>(user);
            if (self.at >= 7) return self.at = 0, DS_END;
            const Text text(self.at++, true);
            for (const char* name : {"input_ids", "attention_mask", "labels"}) {
                ds_tensor* t = nullptr;
                if (ds_batch_get(text.b, name, &t) < 0 || ds_batch_set(b, name, t) < 0) return DS_E_INTERNAL;
                ds_tensor_destroy(t);
            }
            return 0;
        }
        static int32_t save(void* user, char** json) {
            const std::string text = std::to_string(static_cast<Source*>(user)->at);
            *json = static_cast<char*>(malloc(text.size() + 1));
            std::copy(text.c_str(), text.c_str() + text.size() + 1, *json);
            return 0;
        }
        static int32_t restore(void* user, const char* json) { return static_cast<Source*>(user)->at = std::atoi(json), 0; }
    };
    const auto run = [&](const Json& layout) {
        Source source;
        Engine e(config_of("gpt2", 4), layout);
        const ds_data_source callbacks = {sizeof(ds_data_source), &source, Source::next, Source::save, Source::restore, nullptr};
        ds_data* data = nullptr;
        MUST(ds_data_create(&callbacks, e.e, &data));
        std::vector<float> found;
        for (const ds_status expected : {DS_OK, DS_OK, DS_END, DS_OK}) {  // 4 micro-batches, the epoch's last 3, 4 of the next
            float loss = -1;
            CHECK(ds_train_batch(e.e, data, &loss) == expected);
            found.push_back(loss);
        }
        ds_data_destroy(data);
        for (const float w : e.all()) found.push_back(w);
        CHECK(e.metric("micro_steps") == 11);
        return found;
    };
    CHECK(apart(run(stages(3, "1f1b")), run(Json::object())) < 1e-5);
}

TEST_CASE("pipeline/plans_show_timetable_bubble_and_the_memory_of_each_stage") {
    const Json config = config_of("gpt2", 8);
    const struct {
        const char* schedule;
        int ranks;
        double bubble;
    } cases[] = {{"gpipe", 4, 3.0 / 11}, {"1f1b", 4, 3.0 / 11}, {"interleaved", 2, 1.0 / 17}, {"zb-h1", 4, 3.0 / 27}};
    for (const auto& c : cases) {
        const Json plan = plan_of(config, stages(c.ranks, c.schedule)), &table = plan["timetable"];
        CHECK(table["bubble"].get<double>() == doctest::Approx(c.bubble));
        CHECK(table["bubble_by_formula"].get<double>() == doctest::Approx(c.bubble));
        CHECK(table["table"].size() == static_cast<size_t>(c.ranks));
        CHECK(plan["stages"].size() == static_cast<size_t>(c.ranks));
        int64_t parameters = 0, most = 0;
        for (const Json& stage : plan["stages"]) {
            parameters += stage["parameters"].get<int64_t>();
            most = std::max(most, stage["memory_bytes"]["total"].get<int64_t>());
        }
        CHECK(parameters > plan["parameters"].get<int64_t>());  // the tied embedding lies on two ranks
        CHECK(plan["memory_bytes"]["total"].get<int64_t>() == most);
        CHECK(plan["trained_parameters"] == plan["parameters"]);
    }
    // 1f1b needs the first stage to keep 4 micro-batches, gpipe all 8.
    const auto working = [&](const char* schedule) {
        return plan_of(config, stages(4, schedule))["stages"][0]["memory_bytes"]["working"].get<int64_t>();
    };
    CHECK(working("gpipe") == 2 * working("1f1b"));
}

TEST_CASE("pipeline/plans_tell_what_each_rank_of_the_line_sends") {
    const int64_t rows = 4, length = 16;
    Json config = config_of("gpt2", 4);
    config["max_seq_length"] = length;
    std::vector<int32_t> ids(static_cast<size_t>(rows * length), 7);
    for (const Json& where : {stages(2), stages(3), stages(3, "zb-h1"), stages(2, "interleaved", {{"chunks", 2}})}) {
        CAPTURE(where.dump());
        const Json plan = plan_of(config, where);
        double send = 0, sums = 0, most = 0;
        for (const Json& stage : plan["stages"]) {
            const Json& traffic = stage["traffic"];
            send += traffic["send"]["bytes"].get<double>();
            sums += traffic.value("all_to_all", Json{{"bytes", 0}})["bytes"].get<double>();
            most = std::max(most, traffic["bytes"].get<double>());
        }
        CHECK(plan["traffic_bytes_per_step"].get<double>() == most);
        Engine e(config, where);
        Batch batch;
        put(batch.b, "input_ids", DS_I32, {rows, length}, ids.data());
        put(batch.b, "labels", DS_I32, {rows, length}, ids.data());
        for (int i = 0; i < 4; ++i) {
            MUST(ds_forward(e.e, batch.b, nullptr));
            MUST(ds_backward(e.e));
            MUST(ds_step(e.e));
        }
        CHECK(e.metric("bytes_send") == send);
        CHECK(e.metric("bytes_all_to_all") == sums);
    }
}

// Where nothing clips, each rank's update measures its part of the norm.
TEST_CASE("pipeline/the_norm_without_clipping_is_that_of_one_rank") {
    Json config = config_of("gpt2", 2);
    config["gradient_clipping"] = 0;
    const Run one = train(config, Json::object(), true, 2, false);
    for (const char* mesh :
         {R"({"pipeline": 3})", R"({"tensor": 2})", R"({"sequence": 2})", R"({"data": 2})", R"({"tensor": 2, "pipeline": 2, "data": 2})"})
        for (const int zero : {0, 1}) {
            Json where = {{"parallel", Json::parse(mesh)}, {"zero_optimization", {{"stage", zero}}}};
            const bool halves = where["parallel"].value("data", 1) == 2;
            where["train_micro_batch_size_per_gpu"] = halves ? 2 : 4;
            CAPTURE(where.dump());
            CHECK(std::fabs(train(config, where, true, 2, false).norm / one.norm - 1) < 1e-5);
        }
}

TEST_CASE("pipeline/the_report_draws_the_timetable") {
    const std::string path = (std::filesystem::temp_directory_path() / "dsrt-pipeline-report.html").string();
    Engine e(config_of("gpt2", 2), stages(2));
    for (int i = 0; i < 8; ++i) {
        const Text text(i, true);
        MUST(ds_forward(e.e, text.b, nullptr));
        MUST(ds_backward(e.e));
        MUST(ds_step(e.e));
    }
    MUST(ds_report(e.e, path.c_str(), nullptr));
    const auto page = ds::read_file(path);
    REQUIRE(page.ok());
    for (const char* part : {"Pipeline timetable, 1f1b", "2 ranks, 2 stages, 2 micro-batches: 33.3 % idle", "Pipeline, one step as it ran",
                             "backward of micro-batch 1, stage 1"})
        CHECK_MESSAGE(page->find(part) != std::string::npos, part);
    std::filesystem::remove(path);
}

// Within a process comm.deadline_seconds holds, too: what takes a stage longer than that is too late for the next one.
TEST_CASE("pipeline/a_late_stage_is_named_after_the_deadline") {
    const Json config = {{"model",
                          {{"model_type", "gpt2"},
                           {"architectures", {"GPT2LMHeadModel"}},
                           {"n_layer", 4},
                           {"n_embd", 256},
                           {"n_head", 4},
                           {"vocab_size", 64},
                           {"n_positions", 128}}},
                         {"threads", 1},
                         {"train_micro_batch_size_per_gpu", 4},
                         {"logger", {{"default_verbosity", "ERROR"}}},
                         {"comm", {{"deadline_seconds", 0.001}}},
                         {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-3}}}}}};
    Engine e(config, stages(2));
    const std::vector<int32_t> ids(4 * 128, 7);
    Batch batch;
    put(batch.b, "input_ids", DS_I32, {4, 128}, ids.data());
    put(batch.b, "labels", DS_I32, {4, 128}, ids.data());
    ds_status status = DS_OK;
    for (int i = 0; i < 20 && status >= 0; ++i) {
        status = ds_forward(e.e, batch.b, nullptr);
        if (status >= 0) status = ds_backward(e.e);
        if (status >= 0) status = ds_step(e.e);
    }
    CHECK(status == DS_E_TIMEOUT);
    CHECK_MESSAGE(std::string(ds_last_error()).find(" of the pipeline group sent nothing within 0.001 s") != std::string::npos,
                  ds_last_error());
    CHECK_MESSAGE(std::string(ds_last_error()).starts_with("the pipeline's message "), ds_last_error());
}

TEST_CASE("pipeline/refusals_say_the_numbers") {
    const Json config = config_of("gpt2", 2);
    CHECK(refusal(config, {{"parallel", {{"pipeline", 40}}}}, DS_E_CONFIG)
              .find("pipeline 40 x pipeline.chunks 1 needs 40 stages, but the model can be cut into ") != std::string::npos);
    CHECK(refusal(config, {{"parallel", {{"pipeline", 2}, {"tensor", 2}, {"data", 2}, {"local_ranks", 6}}}}, DS_E_CONFIG) ==
          "parallel: tensor 2 x pipeline 2 x data 2 needs 8 ranks, local_ranks is 6");
    CHECK(refusal(config, stages(2, "1f1b", {{"partition", "type:no_such_layer"}}), DS_E_CONFIG)
              .find("type:no_such_layer matches no op and no parameter") != std::string::npos);
    CHECK(refusal(config, stages(2, "1f1b", {{"partition", "type:("}}), DS_E_CONFIG).find("( is no regular expression") !=
          std::string::npos);
    CHECK(refusal(config, stages(2, "1f1b", {{"partition", "fair"}}), DS_E_CONFIG).find("best, cost, uniform, parameters or type:REGEX") !=
          std::string::npos);
    CHECK(refusal(config, stages(2, "2f2b"), DS_E_CONFIG).find("zb-h1") != std::string::npos);
    Json zero = stages(2);
    zero["zero_optimization"] = {{"stage", 2}};
    CHECK(refusal(config, zero, DS_E_CONFIG) == "config: parallel.pipeline: 2 stages exclude zero_optimization.stage 2");
}
