// Plans are kept by the shapes of batches: how many of them, and that those which go change no number.
#include <dsrt/dsrt.h>

#include <string>
#include <vector>

#include "base/json.h"
#include "support/training.h"

namespace {

using ds::Json;
using training::check, training::must, training::Numbers;

constexpr double kBound = 256;  // of a rank

struct Batch {
    ds_batch* b = nullptr;
    Batch(int64_t rows, int64_t length) {
        std::vector<int32_t> ids;
        for (int64_t i = 0; i < rows * length; ++i) ids.push_back(static_cast<int32_t>(5 + 7 * i % 80));
        must(ds_batch_create(&b), "batch");
        ds_tensor* t = nullptr;
        const int64_t shape[] = {rows, length};
        must(ds_tensor_create(DS_I32, 2, shape, ids.data(), ids.size() * 4, &t), "tensor");
        for (const char* name : {"input_ids", "labels"}) must(ds_batch_set(b, name, t), name);
        ds_tensor_destroy(t);
    }
    Batch(const Batch&) = delete;
    ~Batch() { ds_batch_destroy(b); }
};

const Json kConfig = {{"model", DSRT_TEST_DATA "/models/gpt2"},
                      {"threads", 1},
                      {"train_micro_batch_size_per_gpu", 2},
                      {"optimizer", {{"type", "SGD"}, {"params", {{"lr", 0.1}}}}}};

// The losses of more shapes than there may be plans.
std::vector<double> many_shapes(const training::Engine& engine, double bound) {
    std::vector<double> losses;
    for (int64_t rows = 1; rows <= 16; ++rows)
        for (int64_t length = 2; length <= 25; ++length) {
            losses.push_back(engine.eval(Batch(rows, length).b));
            check(engine.metric("plans") <= bound, "plans: " + std::to_string(engine.metric("plans")));
        }
    return losses;
}

void plans_are_bounded_and_numbers_stay(const Json& layout) {
    Json config = kConfig;
    config.update(layout);
    const training::Engine engine(config);
    const double bound = kBound * engine.metric("ranks");
    const std::vector<double> losses = many_shapes(engine, bound);
    check(engine.metric("plans") == bound, "all shapes made " + std::to_string(engine.metric("plans")) + " plans");
    check(many_shapes(engine, bound) == losses, "losses by plans that were made anew");
}

void a_forward_that_waits_for_its_backward_keeps_its_plan(const Json& layout) {
    Json config = kConfig;
    config.update(layout);
    const Batch batch(2, 9);
    const training::Engine engine(config), other(config);
    for (const training::Engine* each : {&engine, &other}) {
        must(ds_forward(each->e, batch.b, nullptr), "forward");
        if (each == &engine) (void)many_shapes(engine, kBound * engine.metric("ranks"));
        must(ds_backward(each->e), "backward");
    }
    for (const std::string& p : engine.names(true)) check(engine.param(p, DS_GRAD) == other.param(p, DS_GRAD), "gradient of " + p);
}

void generation_tells_of_its_plans() {
    const training::Engine engine(kConfig);
    const std::vector<int32_t> prompt{5, 6, 7};
    int32_t* ids = nullptr;
    size_t n = 0;
    const double before = engine.metric("plans");
    must(ds_generate(engine.e, prompt.data(), prompt.size(), "{\"max_new_tokens\": 2}", nullptr, nullptr, &ids, &n), "generate");
    ds_free(ids);
    check(engine.metric("plans") == before + 2, "a prompt's plan and a step's: " + std::to_string(engine.metric("plans")));
}

}  // namespace

int main() {
    for (const Json& layout : {Json::object(), Json{{"parallel", {{"pipeline", 2}}}}}) {
        plans_are_bounded_and_numbers_stay(layout);
        a_forward_that_waits_for_its_backward_keeps_its_plan(layout);
    }
    generation_tells_of_its_plans();
    return checks::result();
}
