// The mistakes of tests/bindings/mistakes.c, in C#.
using System;
using Dsrt;

static class Mistakes {
    const string Config = @"{""model"": {""architectures"": [""GPT2LMHeadModel""], ""model_type"": ""gpt2"", ""vocab_size"": 11, ""n_positions"": 16,
        ""n_embd"": 8, ""n_layer"": 1, ""n_head"": 2}, ""threads"": 1, ""train_micro_batch_size_per_gpu"": 2,
        ""optimizer"": {""type"": ""AdamW"", ""params"": {""lr"": 0.01}}}";

    static T Say<T>(string what, Func<T> call) where T : class {
        try {
            T made = call();
            Console.WriteLine(what + ": DS_OK: went well");
            return made;
        } catch (DsrtException e) {
            Console.WriteLine(what + ": " + e.CodeName + ": " + e.Message);
            return null;
        }
    }

    static void Do(string what, Action call) {
        Say<object>(what, () => {
            call();
            return null;
        });
    }

    static void Main() {
        Do("unknown key", () => new Engine("{\"optimiser\": {}}"));
        Do("broken json", () => new Engine("{\"model\": "));
        Do("no model", () => new Engine(new { model = "no/such/folder" }));
        Do("no config", () => new Engine("no/such/config.json"));
        Engine engine = Say("good config", () => new Engine(Config));
        Do("early backward", () => engine.Backward());
        Do("early step", () => engine.Step());
        Do("unknown metric", () => engine.Metric("speed"));
        Do("unknown parameter", () => engine.GetParam("h.7.w"));
        Do("unknown setting", () => engine.Set("optimizer.params.lear", 1));
        Do("bad setting", () => engine.Set("optimizer.params.lr", "fast"));
        Do("fixed setting", () => engine.Set("seed", 1));
        Do("unknown value", () => engine.Get("no.such.key"));
        Do("no checkpoint", () => engine.Load("no/such/folder"));
        Do("early output", () => engine.Output("logits"));
        Do("bad shape", () => Tensor.Zeros(DType.Float32, -2));
        Tensor tensor = Say("tensor", () => Tensor.Of(new long[] { 1, 2, 30 }, 1, 3));
        Batch batch = Say("batch", () => new Batch());
        Do("nothing of that name", () => Use(batch["labels"]));
        Do("empty batch", () => engine.Predict(batch));
        Do("ids", () => batch["input_ids"] = tensor);
        Do("id beyond the vocabulary", () => engine.Predict(batch));
        Do("unknown input", () => batch["colour"] = tensor);
        Do("unknown input used", () => engine.Predict(batch));
        Do("no data", () => new Data("{\"files\": \"no/such/rows.csv\", \"columns\": {\"text\": \"review\"}}", null));
        Do("unknown data option", () => new Data(new { file = "rows.csv" }, null));
        Do("no tokenizer", () => new Tokenizer("no/such/tokenizer.json"));
        Do("bad prompt", () => engine.Generate(new[] { 99 }));
        Do("bad option", () => engine.Generate(new[] { 99 }, new { heat = 1 }));
    }

    static void Use(object made) {}
}
