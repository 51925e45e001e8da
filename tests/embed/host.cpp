// A small host that trains, lets an exception pass through the library, and reads an error. ways.sh links it in many ways.
#include <dsrt/dsrt.hpp>

namespace {
struct Mine {};  // thrown by a callback

int train() {
    const std::string config =
        R"({"model": {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 11, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2},
            "threads": 2, "train_micro_batch_size_per_gpu": 1, "optimizer": {"type": "SGD", "params": {"lr": 0.1}}})";
    const std::vector<int64_t> ids{1, 2, 3, 4};
    dsrt::Engine engine(config);
    dsrt::Batch batch;
    batch.set("input_ids", {1, 4}, ids).set("labels", {1, 4}, ids);
    const float first = engine.forward(batch);
    for (int i = 0; i < 3; ++i) {
        engine.backward();
        engine.step();
        engine.forward(batch);
    }
    if (!(engine.metric("loss") < first)) return 1;
    dsrt::DataFunctions source;
    source.next = [](dsrt::Batch&) -> bool { throw Mine(); };
    dsrt::Data data(source, &engine);
    try {
        engine.train_batch(data);
        return 2;
    } catch (const Mine&) {}
    try {
        dsrt::Engine wrong(std::string(R"({"optimiser": {}})"));
        return 3;
    } catch (const dsrt::Error& e) {
        if (e.code() != DS_E_CONFIG || !std::strstr(e.what(), "did you mean optimizer")) return 4;
    }
    return 0;
}
}  // namespace

#ifdef PLUGIN
extern "C" __attribute__((visibility("default"))) int run() { return train(); }
#else
int main() { return train(); }
#endif
