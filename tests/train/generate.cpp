// ds_generate and ds_generate_batch: ids equal to those of transformers (tests/data/generate/expected.json says how they were made), with a
// cache as without one, alone as in a batch, in f32; bf16 with a cache as bf16 without one. Options, limits, callbacks, and what generation
// leaves alone. Usage: train_generate [LAYOUT ...], a layout being like tensor=2; train_generate cuda: on that device as on the CPU
#include <dsrt/dsrt.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "support/checks.h"

namespace {

using checks::check, checks::must;
using ds::Json;
using Ids = std::vector<int32_t>;

void refuses(ds_status status, ds_status expected, const std::string& words) {
    check(status == expected && std::strstr(ds_last_error(), words.c_str()),
          "refusal about " + words + ": " + std::to_string(status) + " " + ds_last_error());
}

std::string text(const Ids& ids) { return Json(ids).dump(); }

struct Engine {
    ds_engine* e = nullptr;
    Engine(const std::string& folder, Json config) {
        config["model"] = folder;
        must(ds_engine_create(config.dump().c_str(), nullptr, &e), folder);
    }
    ~Engine() { ds_engine_destroy(e); }

    Ids alone(const Ids& prompt, const Json& options) const {
        int32_t* ids = nullptr;
        size_t n = 0;
        must(ds_generate(e, prompt.data(), prompt.size(), options.dump().c_str(), nullptr, nullptr, &ids, &n),
             "ds_generate " + options.dump());
        Ids made(ids, ids + n);
        ds_free(ids);
        return made;
    }
    std::vector<Ids> batch(const std::vector<Ids>& prompts, const Json& options) const {
        Ids all;
        std::vector<size_t> lengths;
        for (const Ids& p : prompts) all.insert(all.end(), p.begin(), p.end()), lengths.push_back(p.size());
        int32_t* ids = nullptr;
        size_t* counts = nullptr;
        must(ds_generate_batch(e, all.data(), lengths.data(), prompts.size(), options.dump().c_str(), nullptr, nullptr, &ids, &counts),
             "ds_generate_batch " + options.dump());
        std::vector<Ids> made;
        for (size_t r = 0, at = 0; counts && r < prompts.size(); at += counts[r++]) made.emplace_back(ids + at, ids + at + counts[r]);
        ds_free(ids);
        ds_free(counts);
        return made;
    }
};

const std::string kData = DSRT_TEST_DATA;
std::string folder(const std::string& name) { return kData + "/models/" + name; }

void equals_transformers(const Json& layout) {
    const auto read = ds::read_file(kData + "/generate/expected.json", size_t{16} << 20);
    const Json expected = Json::parse(*read);
    for (const auto& [name, cases] : expected.items()) {
        Json config = Json::object();
        if (!layout.empty()) config["parallel"] = layout;
        const Engine engine(folder(name), config);
        for (const Json& c : cases) {
            const auto prompts = c["prompts"].get<std::vector<Ids>>(), ids = c["ids"].get<std::vector<Ids>>();
            const auto made = engine.batch(prompts, c["options"]);
            for (size_t r = 0; r < prompts.size() && r < made.size(); ++r)
                check(made[r] == ids[r], name + " " + c["options"].dump() + " of " + text(prompts[r]) + ": " + text(made[r]) +
                                             ", transformers " + text(ids[r]));
            Json plain = c["options"];
            plain["use_cache"] = false;
            check(engine.batch({prompts.back()}, plain) == std::vector<Ids>{ids.back()}, name + " without a cache " + plain.dump());
            check(engine.alone(prompts.front(), c["options"]) == ids.front(), name + " alone " + c["options"].dump());
        }
    }
}

// Low precision decides otherwise than f32 where scores are close; with and without a cache the same operands meet the same kernels but for
// attention's.
void low_precision() {
    for (const char* type : {"bf16", "fp16"}) {
        int same = 0, all = 0;
        for (const char* name : {"gpt2", "mistral-window", "qwen3", "t5-gated", "marian-translation"}) {
            const Engine engine(folder(name), {{type, {{"enabled", true}}}});
            for (const Ids& prompt : {Ids{5, 9, 60}, Ids{40}, Ids{3, 4, 5, 6, 7, 8, 9}}) {
                const Json options = {{"max_new_tokens", 10}, {"eos_token_id", -1}};
                Json plain = options;
                plain["use_cache"] = false;
                const Ids with = engine.alone(prompt, options), without = engine.alone(prompt, plain);
                for (size_t i = 0; i < with.size() && i < without.size() && with[i] == without[i]; ++i) ++same;
                all += 10;
            }
        }
        check(same * 10 >= all * 8,
              std::string(type) + ": with and without a cache " + std::to_string(same) + " of " + std::to_string(all) + " ids agree");
    }
}

void draws() {
    const Engine engine(folder("llama"), Json::object());
    const Ids prompt{7, 8, 9};
    const Json options = {{"max_new_tokens", 12}, {"temperature", 1.0}, {"seed", 3}, {"eos_token_id", -1}};
    const auto with = [&](Json more) {
        Json o = options;
        o.update(more);
        return o;
    };
    const Ids once = engine.alone(prompt, options), greedy = engine.alone(prompt, with({{"temperature", 0}}));
    check(engine.alone(prompt, options) == once, "the same seed draws the same");
    check(engine.alone(prompt, with({{"seed", 4}})) != once, "another seed draws otherwise");
    check(engine.alone(prompt, with({{"use_cache", false}})) == once, "draws do not depend on the cache");
    const auto rows = engine.batch({prompt, prompt}, options);
    check(rows[0] == once && rows[1] != once, "row 0 draws as alone, row 1 otherwise");
    check(engine.alone(prompt, with({{"top_k", 1}})) == greedy, "top_k 1 is greedy");
    check(engine.alone(prompt, with({{"top_p", 1e-6}})) == greedy, "a tiny top_p is greedy");
    check(engine.alone(prompt, with({{"min_p", 1.0}})) == greedy, "min_p 1 is greedy");
    check(engine.alone(prompt, with({{"do_sample", false}})) == greedy, "do_sample false is greedy");
    check(engine.alone(prompt, with({{"temperature", 1e-4}})) == greedy, "a tiny temperature is greedy");

    // Frequencies of the first id over many seeds against the model's own probabilities, cut as top_k and top_p say.
    ds_batch* b = nullptr;
    ds_tensor* t = nullptr;
    const int64_t shape[] = {1, 3};
    must(ds_batch_create(&b), "batch");
    must(ds_tensor_create(DS_I32, 2, shape, prompt.data(), 12, &t), "tensor");
    must(ds_batch_set(b, "input_ids", t), "set");
    ds_tensor_destroy(t);
    must(ds_eval(engine.e, b, nullptr), "eval");
    must(ds_output(engine.e, "logits", &t), "logits");
    std::vector<float> logits(3 * 97);
    must(ds_tensor_read(t, DS_F32, logits.data(), logits.size() * 4), "read");
    ds_tensor_destroy(t);
    ds_batch_destroy(b);
    std::vector<std::pair<double, int>> order;
    for (int i = 0; i < 97; ++i) order.emplace_back(-std::exp(static_cast<double>(logits[static_cast<size_t>(2 * 97 + i)]) / 0.7), i);
    std::sort(order.begin(), order.end());
    order.resize(20);  // top_k
    double sum = 0, mass = 0;
    for (const auto& [p, id] : order) sum -= p;
    size_t kept = 0;
    while (mass < 0.6 * sum) mass -= order[kept++].first;  // top_p, of what top_k left
    std::vector<int> counts(97, 0);
    constexpr int kDraws = 400;
    for (int seed = 0; seed < kDraws; ++seed)
        ++counts[static_cast<size_t>(
            engine.alone(prompt, {{"max_new_tokens", 1}, {"temperature", 0.7}, {"top_k", 20}, {"top_p", 0.6}, {"seed", seed}})[0])];
    double chi2 = 0;
    int inside = 0;
    for (size_t i = 0; i < kept; ++i) {
        const double mean = -order[i].first / mass * kDraws;
        chi2 += (counts[static_cast<size_t>(order[i].second)] - mean) * (counts[static_cast<size_t>(order[i].second)] - mean) / mean;
        inside += counts[static_cast<size_t>(order[i].second)];
    }
    check(inside == kDraws, "only the nucleus is drawn: " + std::to_string(inside));
    check(kept > 2 && chi2 < static_cast<double>(kept) + 4 * std::sqrt(2.0 * static_cast<double>(kept)),
          "draws have the model's probabilities: chi2 " + std::to_string(chi2) + " of " + std::to_string(kept));
}

void ends_and_limits() {
    const Engine engine(folder("gpt2"), Json::object());
    const Ids prompt{5, 6, 7};
    const Ids free = engine.alone(prompt, {{"max_new_tokens", 20}, {"eos_token_id", -1}});
    check(free.size() == 20, "as many as asked for");
    const size_t first = static_cast<size_t>(std::find(free.begin(), free.end(), free[5]) - free.begin());
    check(engine.alone(prompt, {{"max_new_tokens", 20}, {"eos_token_id", {free[5], 1000 % 97}}}) ==
              Ids(free.begin(), free.begin() + static_cast<int64_t>(first) + 1),
          "an eos id is the last id");
    check(engine.alone(prompt, {{"max_length", 8}, {"eos_token_id", -1}}) == Ids(free.begin(), free.begin() + 5),
          "max_length counts the prompt");
    check(engine.alone(prompt, {{"max_length", 3}}).empty(), "nothing is left of max_length");
    check(engine.alone(prompt, {{"max_new_tokens", 0}}).empty(), "no new tokens");
    check(engine.alone(prompt, {{"max_new_tokens", 500}, {"eos_token_id", -1}}).size() == 30,
          "a model of 32 positions stops there, one id past its last position");
    const Ids full(32, 4), longer(33, 4);
    check(engine.alone(full, {{"eos_token_id", -1}}).size() == 1, "a full prompt gets one id");
    int32_t* ids = nullptr;
    size_t n = 0;
    const auto call = [&](const char* options, const Ids& p = Ids{1, 2}) {
        return ds_generate(engine.e, p.data(), p.size(), options, nullptr, nullptr, &ids, &n);
    };
    refuses(call(nullptr, longer), DS_E_INVALID_ARGUMENT, "the prompt has 33 ids, but gpt2 has 32 positions");
    refuses(call(nullptr, {1, 97}), DS_E_INVALID_ARGUMENT, "id 1 of the prompt is 97, outside the vocabulary 0..96");
    refuses(call(nullptr, {}), DS_E_INVALID_ARGUMENT, "the prompt is empty");
    refuses(call("{\"tempreature\": 1}"), DS_E_INVALID_ARGUMENT, "option tempreature is unknown; accepted: max_new_tokens, max_length");
    refuses(call("{\"temperature\": -1}"), DS_E_INVALID_ARGUMENT, "temperature must be a number of at least 0 (0: greedy), not -1");
    refuses(call("{\"top_p\": 0}"), DS_E_INVALID_ARGUMENT, "top_p must be a number in (0, 1], not 0");
    refuses(call("{\"top_k\": 1.5}"), DS_E_INVALID_ARGUMENT, "top_k must be a non-negative integer (0: all), not 1.5");
    refuses(call("{\"min_p\": 2}"), DS_E_INVALID_ARGUMENT, "min_p must be a number in [0, 1], not 2");
    refuses(call("{\"repetition_penalty\": 0}"), DS_E_INVALID_ARGUMENT, "repetition_penalty must be a positive number, not 0");
    refuses(call("{\"num_beams\": 0}"), DS_E_INVALID_ARGUMENT, "num_beams must be a positive integer, not 0");
    refuses(call("{\"num_beams\": 2, \"temperature\": 1}"), DS_E_INVALID_ARGUMENT, "num_beams 2 searches, temperature 1 samples");
    refuses(call("{\"early_stopping\": \"maybe\"}"), DS_E_INVALID_ARGUMENT,
            "early_stopping must be true, false or \"never\", not \"maybe\"");
    refuses(call("{\"eos_token_id\": \"x\"}"), DS_E_INVALID_ARGUMENT,
            "eos_token_id must be an id, a list of ids, or -1 for none, not \"x\"");
    refuses(call("{\"eos_token_id\": 97}"), DS_E_INVALID_ARGUMENT, "eos_id 97 is outside the vocabulary 0..96");
    refuses(call("{\"stop_strings\": [\"\"]}"), DS_E_INVALID_ARGUMENT, "stop_strings must be a text or a list of texts, none empty");
    refuses(call("{\"stop_strings\": \"a\"}"), DS_E_INVALID_ARGUMENT, "stop_strings needs a tokenizer");
    refuses(call("[1]"), DS_E_INVALID_ARGUMENT, "");
    size_t* counts = nullptr;
    const size_t lengths[] = {1, 0};
    refuses(ds_generate_batch(engine.e, prompt.data(), lengths, 2, nullptr, nullptr, nullptr, &ids, &counts), DS_E_INVALID_ARGUMENT,
            "prompt 1 is empty");
    const Engine bert(folder("bert-mlm"), Json::object());
    refuses(ds_generate(bert.e, prompt.data(), 3, nullptr, nullptr, nullptr, &ids, &n), DS_E_UNSUPPORTED, "needs a causal language model");
}

void callbacks() {
    const Engine engine(folder("qwen2"), Json::object());
    const std::vector<Ids> prompts{{5, 6, 7}, {9}, {11, 12}};
    const Json options = {{"max_new_tokens", 6}, {"eos_token_id", -1}};
    const auto whole = engine.batch(prompts, options);
    std::vector<Ids> heard(3);
    struct State {
        std::vector<Ids>* heard;
        int at, answer;
    } state{&heard, 3, 1};
    const ds_row_tokens_fn fn = [](size_t row, const int32_t* ids, size_t n, void* user) -> int32_t {
        State& s = *static_cast<State*>(user);
        (*s.heard)[row].insert((*s.heard)[row].end(), ids, ids + n);
        return row == 1 && static_cast<int>((*s.heard)[row].size()) == s.at ? s.answer : 0;
    };
    Ids all;
    const size_t lengths[] = {3, 1, 2};
    for (const Ids& p : prompts) all.insert(all.end(), p.begin(), p.end());
    int32_t* ids = nullptr;
    size_t* counts = nullptr;
    must(ds_generate_batch(engine.e, all.data(), lengths, 3, options.dump().c_str(), fn, &state, &ids, &counts), "a listener ends a row");
    check(heard[0] == whole[0] && heard[2] == whole[2], "the other rows go on");
    check(counts && counts[1] == 3 && heard[1] == Ids(whole[1].begin(), whole[1].begin() + 3), "the row ends where its listener says");
    ds_free(ids);
    ds_free(counts);
    heard.assign(3, {});
    state.answer = -5;
    const ds_status status = ds_generate_batch(engine.e, all.data(), lengths, 3, options.dump().c_str(), fn, &state, &ids, &counts);
    check(status == DS_E_USER && !ids && !counts, "a negative answer ends all");
    heard.assign(3, {});
    state.at = -1;
    Json beams = options;
    beams["num_beams"] = 3;
    const auto found = engine.batch(prompts, beams);
    must(ds_generate_batch(engine.e, all.data(), lengths, 3, beams.dump().c_str(), fn, &state, &ids, &counts), "beams are heard");
    check(heard == found, "beams are heard once, whole");
    ds_free(ids);
    ds_free(counts);
}

ds_batch* a_batch() {
    Ids ids;
    for (int i = 0; i < 12; ++i) ids.push_back(3 + 7 * i % 90);
    const int64_t shape[] = {2, 6};
    ds_batch* b = nullptr;
    ds_tensor* t = nullptr;
    must(ds_batch_create(&b), "batch");
    must(ds_tensor_create(DS_I32, 2, shape, ids.data(), 48, &t), "tensor");
    must(ds_batch_set(b, "input_ids", t), "ids");
    must(ds_batch_set(b, "labels", t), "labels");
    ds_tensor_destroy(t);
    return b;
}

// A step with generation between forward and backward, and between micro-batches, is the step without.
void leaves_training_alone() {
    for (const char* precision : {"", "bf16"}) {
        Json config = {{"train_micro_batch_size_per_gpu", 2},
                       {"gradient_accumulation_steps", 2},
                       {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 0.01}}}}}};
        if (*precision) config[precision] = {{"enabled", true}};
        std::vector<float> weights[2];
        Ids after[2];
        for (const bool generates : {false, true}) {
            const Engine engine(folder("llama"), config);
            ds_batch* b = a_batch();
            const auto maybe = [&] {
                if (generates) (void)engine.batch({{5, 6}, {7}}, {{"max_new_tokens", 5}, {"num_beams", 2}});
            };
            for (int micro = 0; micro < 2; ++micro) {
                must(ds_forward(engine.e, b, nullptr), "forward");
                maybe();
                must(ds_backward(engine.e), "backward");
                maybe();
            }
            must(ds_step(engine.e), "step");
            ds_batch_destroy(b);
            ds_tensor* t = nullptr;
            must(ds_param_get(engine.e, "model.layers.0.self_attn.q_proj.weight", DS_WEIGHT, &t), "weight");
            const int64_t* shape;
            int32_t ndim;
            ds_tensor_info(t, nullptr, &ndim, &shape);
            weights[generates].resize(static_cast<size_t>(shape[0] * shape[1]));
            must(ds_tensor_read(t, DS_F32, weights[generates].data(), weights[generates].size() * 4), "read");
            ds_tensor_destroy(t);
            after[generates] = engine.alone({5, 6, 7}, {{"max_new_tokens", 8}, {"eos_token_id", -1}});
            Json plain = {{"max_new_tokens", 8}, {"eos_token_id", -1}, {"use_cache", false}};
            if (!*precision)
                check(engine.alone({5, 6, 7}, plain) == after[generates], "updated weights are used, with a cache and without");
        }
        check(weights[0] == weights[1], std::string("generation leaves training alone ") + precision);
        check(after[0] == after[1], std::string("and comes out the same after it ") + precision);
    }
}

// On a device the same ids come out as on the CPU, with a cache as without one.
void equals_the_cpu(const std::string& device) {
    for (const char* name : {"gpt2", "mistral-window", "mixtral", "t5-gated", "marian-translation"}) {
        const Engine here(folder(name), {{"device", "cpu"}}), there(folder(name), {{"device", device}});
        const std::vector<Ids> prompts{{5, 9, 60}, {40}, {3, 4, 5, 6, 7, 8, 9}};
        for (const int beams : {1, 2}) {
            Json options = {{"max_new_tokens", 5}, {"eos_token_id", -1}, {"num_beams", beams}};
            const auto expected = here.batch(prompts, options), made = there.batch(prompts, options);
            for (size_t r = 0; r < prompts.size(); ++r)
                check(made[r] == expected[r],
                      device + ": " + name + " of " + text(prompts[r]) + ": " + text(made[r]) + ", cpu " + text(expected[r]));
            options["use_cache"] = false;
            if (beams == 1) check(there.batch({prompts[0]}, options)[0] == expected[0], device + ": " + name + " without a cache");
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1 && std::strcmp(argv[1], "cuda") == 0) {
        equals_the_cpu(argv[1]);
    } else if (argc > 1) {
        for (int i = 1; i < argc; ++i) {
            Json layout = Json::object();
            std::string rest = argv[i];
            for (size_t at = 0; at < rest.size();) {
                const size_t end = std::min(rest.find(',', at), rest.size()), equals = rest.find('=', at);
                layout[rest.substr(at, equals - at)] = std::stoi(rest.substr(equals + 1, end - equals - 1));
                at = end + 1;
            }
            equals_transformers(layout);
        }
    } else {
        equals_transformers({});
        low_precision();
        draws();
        ends_and_limits();
        callbacks();
        leaves_training_alone();
    }
    return checks::result();
}
