// sparse_weights: an engine that keeps a pruned model's weights as their values that are not zero computes what the whole model does, in
// less memory.
#include <cstring>

#include "support/compressing.h"

using namespace compressing;

namespace {

// The folder of a model that was pruned to a tenth, as ds_export writes it.
std::string pruned(const char* model, const Json& modules, const Folder& folder) {
    const Engine e(config_of(model, technique("sparse_pruning", {{"method", "l1"}}, {{"dense_ratio", 0.1}}, modules)));
    for (int step = 0; step < 2; ++step) e.step(step);
    const std::string path = folder.path / model;
    must(ds_export(e.e, path.c_str(), nullptr), path);
    return path;
}

const Json kSparse = {{"enabled", true}};

Json evaluating(const std::string& path, const Json& sparse, const Json& more = Json::object()) {
    Json config = {{"model", path}, {"train_micro_batch_size_per_gpu", 4}, {"threads", 2}};
    if (!sparse.is_null()) config["sparse_weights"] = sparse;
    if (path.find("sentiment") != path.npos) config["SENTENCES"] = true;
    config.update(more);
    return config;
}

int64_t bytes_of_weights(Json config) {
    config.erase("SENTENCES");
    char* report = nullptr;
    must(ds_plan(config.dump().c_str(), nullptr, &report), "plan");
    const Json plan = Json::parse(report ? report : "{}");
    ds_free(report);
    return plan["memory_bytes"]["weights"];
}

void computes_what_the_whole_model_does() {
    const Folder folder;
    struct Case {
        const char* model;
        Json modules;
    };
    for (const Case& c :
         {Case{"bert-sentiment", {"attention.self", "attention.output.dense", "intermediate.dense", "layer.[0-9].output.dense"}},
          Case{"gpt2", {"c_attn", "c_proj", "c_fc"}}, Case{"llama", {"_proj"}}}) {
        const std::string path = pruned(c.model, c.modules, folder);
        for (const bool low : {false, true})
            for (const int ranks : {1, 2}) {
                const std::string what = std::string(c.model) + (low ? ", bf16" : ", f32") + ", ranks " + std::to_string(ranks);
                const Json more = {{"bf16", {{"enabled", low}}}, {"parallel", {{"data", ranks}}}};
                const Json as_whole = evaluating(path, Json(), more), as_sparse = evaluating(path, kSparse, more);
                const Engine whole(as_whole), sparse(as_sparse);
                for (int i = 0; i < 3; ++i) close({sparse.eval(i)}, {whole.eval(i)}, low ? 1e-2 : 5e-6, what);
                check(bytes_of_weights(as_sparse) < bytes_of_weights(as_whole) * 9 / 10, what + ": weights take less memory");
                if (low || ranks > 1) continue;
                for (const std::string& name : whole.names())
                    check(sparse.param(name) == whole.param(name), what + ": " + name + " is what it was");
                if (c.model == std::string("bert-sentiment")) continue;
                std::vector<int32_t> found[2];
                for (const Engine* e : {&whole, &sparse}) {
                    const int32_t prompt[] = {5, 17, 3, 40};
                    int32_t* ids = nullptr;
                    size_t n = 0;
                    must(ds_generate(e->e, prompt, 4, "{\"max_new_tokens\": 12}", nullptr, nullptr, &ids, &n), "generate");
                    found[e == &sparse].assign(ids, ids + n);
                    ds_free(ids);
                }
                check(!found[0].empty() && found[0] == found[1], what + ": greedy answers are the same");
            }
    }
}

void takes_weights_with_as_many_values() {
    const Folder folder;
    const std::string path = pruned("bert-sentiment", {"intermediate.dense"}, folder), name = kUp0 + ".weight";
    const Engine e(evaluating(path, kSparse));
    Numbers values = e.param(name);
    for (double& x : values) x *= 2;
    e.set(name, values);
    check(e.param(name) == values, "other values in as many places are taken");
    const double before = e.eval();
    for (double& x : values)
        if (x != 0) {
            x = 0;
            break;
        }
    ds_tensor* t = nullptr;
    const auto dims = e.shape(name);
    must(ds_tensor_create(DS_F64, 2, dims.data(), values.data(), values.size() * 8, &t), name);
    const ds_status status = ds_param_set(e.e, name.c_str(), DS_WEIGHT, t);
    check(status == DS_E_STATE && std::strstr(ds_last_error(), "values are not zero, but this engine keeps"),
          "one value less is refused: " + std::string(ds_last_error()));
    ds_tensor_destroy(t);
    check(e.eval() == before, "what is refused changes nothing");
}

void says_what_it_lacks() {
    const Folder folder;
    const std::string path = pruned("bert-sentiment", {"intermediate.dense"}, folder);
    const auto refuses = [&](const Json& sparse, const Json& more, const std::string& words) {
        Json config = evaluating(path, sparse, more);
        config.erase("SENTENCES");
        refused(config, words);
    };
    refuses({{"enabled", true}, {"max_density", 0.05}}, Json::object(),
            "DS_E_CONFIG: config: sparse_weights.max_density: 0.05 leaves no weight; of bert.encoder");
    refuses({{"enabled", true}, {"max_density", 1.5}}, Json::object(), "sparse_weights.max_density: must be a number from 0 to 1");
    refuses(kSparse, {{"optimizer", {{"type", "SGD"}, {"params", {{"lr", 0.1}}}}}},
            "DS_E_UNSUPPORTED: config: sparse_weights.enabled: not built for training");
    refuses(kSparse, {{"quantization", {{"load_in_8bit", true}}}}, "sparse_weights.enabled: excludes quantization");
    refuses(kSparse, {{"parallel", {{"tensor", 2}}}}, "sparse_weights.enabled: not built for parallel.tensor");
    refuses(kSparse, {{"model_init", "random"}}, "sparse_weights.enabled: not built for weights that do not come from a model's folder");
}

}  // namespace

int main() {
    computes_what_the_whole_model_does();
    takes_weights_with_as_many_values();
    says_what_it_lacks();
    return checks::result();
}
