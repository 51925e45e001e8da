// The mistakes of mistakes.c, through dsrt.hpp.
#include <dsrt/dsrt.hpp>

#include <cstdio>

static const char* const kConfig =
    R"({"model": {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 11, "n_positions": 16,
    "n_embd": 8, "n_layer": 1, "n_head": 2}, "threads": 1, "train_micro_batch_size_per_gpu": 2, "optimizer": {"type": "AdamW", "params": {"lr": 0.01}}})";

template <class F>
static void say(const char* what, F&& call) {
    try {
        call();
        std::printf("%s: DS_OK: went well\n", what);
    } catch (const dsrt::Error& e) { std::printf("%s: %s: %s\n", what, e.name(), e.what()); }
}

int main() {
    using namespace dsrt;
    say("unknown key", [] { Engine e("{\"optimiser\": {}}"); });
    say("broken json", [] { Engine e("{\"model\": "); });
    say("no model", [] { Engine e(R"({"model": "no/such/folder"})"); });
    say("no config", [] { Engine e("no/such/config.json"); });
    std::optional<Engine> made;
    say("good config", [&] { made.emplace(kConfig); });
    Engine& engine = *made;
    say("early backward", [&] { engine.backward(); });
    say("early step", [&] { engine.step(); });
    say("unknown metric", [&] { engine.metric("speed"); });
    say("unknown parameter", [&] { engine.param("h.7.w"); });
    say("unknown setting", [&] { engine.set("optimizer.params.lear", "1"); });
    say("bad setting", [&] { engine.set("optimizer.params.lr", "\"fast\""); });
    say("fixed setting", [&] { engine.set("seed", "1"); });
    say("unknown value", [&] { engine.get("no.such.key"); });
    say("no checkpoint", [&] { engine.load("no/such/folder"); });
    say("early output", [&] { engine.output("logits"); });
    say("bad shape", [] { Tensor t(DType::f32, {-2}); });
    std::optional<Tensor> tensor;
    std::optional<Batch> batch;
    say("tensor", [&] { tensor = Tensor::of<int64_t>({1, 3}, {1, 2, 30}); });
    say("batch", [&] { batch.emplace(); });
    say("nothing of that name", [&] { (*batch)["labels"]; });
    say("empty batch", [&] { engine.eval_only(*batch); });
    say("ids", [&] { batch->set("input_ids", *tensor); });
    say("id beyond the vocabulary", [&] { engine.eval_only(*batch); });
    say("unknown input", [&] { batch->set("colour", *tensor); });
    say("unknown input used", [&] { engine.eval_only(*batch); });
    say("no data", [] { Data d(R"({"files": "no/such/rows.csv", "columns": {"text": "review"}})"); });
    say("unknown data option", [] { Data d(R"({"file": "rows.csv"})"); });
    say("no tokenizer", [] { Tokenizer t("no/such/tokenizer.json"); });
    const std::vector<int32_t> prompt{99};
    say("bad prompt", [&] { engine.generate(prompt); });
    say("bad option", [&] { engine.generate(prompt, R"({"heat": 1})"); });
}
