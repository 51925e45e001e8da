// The binding's tests: every method whose name begins with "It" is one. A plain program, since a test library may not be there.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Threading;
using System.Threading.Tasks;
using Dsrt;

static class Tests {
    static readonly long[] ids = { 1, 2, 3, 4, 5, 6, 7, 8 };

    static object Config() {
        return new {
            model = new { architectures = new[] { "GPT2LMHeadModel" }, model_type = "gpt2", vocab_size = 11, n_positions = 16, n_embd = 8, n_layer = 1,
                          n_head = 2, resid_pdrop = 0, embd_pdrop = 0, attn_pdrop = 0 },
            threads = 1, train_micro_batch_size_per_gpu = 2,
            optimizer = new { type = "SGD", @params = new Dictionary<string, double> { { "lr", 0.1 }, { "momentum", 0.9 } } }
        };
    }

    static Batch Fill(Batch b) { return b.Set("input_ids", ids, 2, 4).Set("labels", ids, 2, 4); }

    static Batch MakeBatch() { return Fill(new Batch()); }

    static void Check(bool right, params object[] shown) {
        if (!right) throw new Exception("not so: " + string.Join(" ", shown));
    }

    static E Thrown<E>(Action code) where E : Exception {
        try {
            code();
        } catch (E e) {
            return e;
        }
        throw new Exception("nothing was thrown");
    }

    static Code CodeOf(Action code) { return Thrown<DsrtException>(code).Code; }

    static void ItKeepsTensorsAsTheyWere() {
        using (Tensor t = Tensor.Of(new[] { 1.5f, -2, 3, 4 }, 2, 2)) {
            Check(t.Type == DType.Float32 && t.Shape.SequenceEqual(new long[] { 2, 2 }) && t.Count == 4);
            Check(t.ToArray<int>().SequenceEqual(new[] { 1, -2, 3, 4 }));
            var into = new double[4];
            t.CopyTo(new Span<double>(into));
            Check(into[1] == -2);
            Thrown<DsrtException>(() => t.CopyTo(new Span<double>(new double[3])));
        }
        Check(Tensor.Of(new ReadOnlySpan<bool>(new[] { true, false, true }, 1, 2), 2).ToArray<byte>().SequenceEqual(new byte[] { 0, 1 }));
        Check(CodeOf(() => Tensor.Of(new long[] { 1, 2 }, 3)) == Code.InvalidArgument && CodeOf(() => Tensor.Of(new uint[] { 1 }, 1)) == Code.InvalidArgument);
        Check(Tensor.Zeros(DType.BFloat16, 0, 3).ToArray<float>().Length == 0);
    }

    static void ItLendsMemoryWithoutACopy() {
        Tensor t = Tensor.Of(new float[] { 1, 2, 3 }, 3);
        using (Tensor.TensorView view = t.View()) {
            Span<float> numbers = view.Span<float>();
            numbers[1] = 9;
            Check(t.ToArray<float>()[1] == 9);
            t.Dispose();
            Check(view.Span<float>()[1] == 9);
            Check(CodeOf(() => view.Span<int>()) == Code.InvalidArgument && CodeOf(() => t.ToArray<float>()) == Code.State);
            view.Dispose();
            Check(CodeOf(() => view.Span<float>()) == Code.State);
        }
    }

    static void ItLendsMemoryThatTheGarbageCollectorLeaves() {
        using (Tensor t = Tensor.Zeros(DType.Float32, 1 << 20)) {
            Span<float> numbers = t.View().Span<float>();
            numbers[(1 << 20) - 1] = 9;
            t.Dispose();
            for (int i = 0; i < 3; ++i) {
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }
            Check(numbers[(1 << 20) - 1] == 9);
        }
    }

    static void ItRefusesWhatCWouldMisread() {
        Check(Thrown<DsrtException>(() => Tensor.Of(new float[0], 2)).Message == "a tensor f32[2] has 8 bytes, but bytes is 0");
        Thrown<ArgumentNullException>(() => Tensor.Of((float[])null, 2));
        var tokenizer = new Tokenizer(Environment.GetEnvironmentVariable("DSRT_TEST_DATA") + "/languages");
        Check(Thrown<DsrtException>(() => tokenizer.Encode(new[] { "a", "é\0b" })).Message == "texts[1] holds a NUL at byte 2");
        Check(CodeOf(() => new Tokenizer("a\0b")) == Code.InvalidArgument);
    }

    class Rows : ICursorDataSource {
        internal int at, failAt;
        internal string restored;

        public bool Next(Batch b) {
            if (++at == failAt) throw new IOException("row " + at);
            if (at % 4 == 0) return false;
            Fill(b);
            return true;
        }

        public string Save() { return "{\"at\": " + at + "}"; }

        public void Restore(string cursor) { restored = cursor; }
    }

    static void ItFeedsTrainingFromASourceAndKeepsItsPlace() {
        using (var engine = new Engine(Config())) {
            var rows = new Rows();
            Data data = Data.From(rows, engine);
            Check(engine.Epoch(data).Select(s => s.Number).SequenceEqual(new long[] { 1, 2, 3 }));
            string dir = Path.Combine(Path.GetTempPath(), "dsrt-" + Guid.NewGuid());
            engine.Save(dir, "here", new { client_state = "é😀" });
            engine.Load(dir, "here");
            Directory.Delete(dir, true);
            Check(engine.Get("client_state") == "\"é😀\"", engine.Get("client_state"));
            Check(rows.restored != null && rows.restored.Contains("\"at\""), rows.restored);
            Check(data.Count(b => b["labels"].Count == 8) == 3);
        }
    }

    static void ItThrowsWhatACallbackThrew() {
        using (var engine = new Engine(Config())) {
            Data data = Data.From(new Rows { failAt = 2 }, engine);
            engine.TrainBatch(data);
            IOException e = Thrown<IOException>(() => engine.TrainBatch(data));
            Check(e.Message == "row 2" && e.StackTrace.Contains("Rows.Next"), e.StackTrace);
            engine.Forward(MakeBatch());
            Thrown<DivideByZeroException>(() => engine.Generate(new[] { 1 }, null, heard => heard[0] / (heard.Length - 1) == 0));
        }
    }

    class Momentum : IOptimizer {
        internal bool fail;

        public int StatePerElement { get { return 1; } }

        public void Update(string parameter, long step, double lr, Span<float> weight, ReadOnlySpan<float> gradient, Span<float> state) {
            if (fail) throw new InvalidOperationException("no rule for " + parameter);
            for (int i = 0; i < weight.Length; ++i) {
                state[i] = 0.9f * state[i] + gradient[i];
                weight[i] -= (float)lr * state[i];
            }
        }
    }

    static float[] Losses(Engine engine) {
        return Enumerable.Range(0, 5).Select(i => {
            float loss = engine.Forward(MakeBatch());
            engine.Backward();
            Check(engine.Step() == Outcome.Updated);
            return loss;
        }).ToArray();
    }

    static void ItTrainsWithAnOptimizerOfOnesOwn() {
        float[] own = Losses(new Engine(Config(), optimizer: new Momentum())), builtIn = Losses(new Engine(Config()));
        Check(own.Zip(builtIn, (a, b) => Math.Abs(a - b) < 1e-5).All(x => x) && own[4] < own[0], own[4], builtIn[4]);
        var engine = new Engine(Config(), optimizer: new Momentum { fail = true });
        engine.Forward(MakeBatch());
        engine.Backward();
        Check(Thrown<InvalidOperationException>(() => engine.Step()).Message.StartsWith("no rule for "));
    }

    static void ItStreamsTokens() {
        using (var engine = new Engine(Config())) {
            var heard = new List<int>();
            int[] made = engine.Generate(new[] { 1, 2 }, new { max_new_tokens = 5 }, more => {
                heard.AddRange(more);
                return true;
            });
            Check(made.Length == 5 && made.SequenceEqual(heard));
            Check(engine.Generate(new[] { 1, 2 }, null, more => false).Length == 1);
        }
    }

    static void ItContinuesPromptsTogetherAsItDoesAlone() {
        using (var engine = new Engine(Config())) {
            int[][] prompts = { new[] { 1, 2 }, new[] { 3 }, new[] { 4, 5, 6 } };
            var options = new { max_new_tokens = 4 };
            var heard = new[] { new List<int>(), new List<int>(), new List<int>() };
            int[][] made = engine.GenerateBatch(prompts, options, (row, more) => {
                heard[row].AddRange(more);
                return true;
            });
            for (int row = 0; row < 3; ++row) {
                int[] alone = engine.Generate(prompts[row], options);
                Check(made[row].SequenceEqual(alone) && heard[row].SequenceEqual(alone), row, string.Join(",", made[row]), string.Join(",", alone));
            }
            Check(engine.GenerateBatch(prompts, options, (row, more) => row != 1).Select(r => r.Length).SequenceEqual(new[] { 4, 1, 4 }));
            Thrown<IOException>(() => engine.GenerateBatch(prompts, options, (row, more) => { throw new IOException(); }));
        }
    }

    // A tokenizer of eleven tokens, as many as the model's: letters, the two halves of "é" (ids 2 and 3), and a chat template.
    static Tokenizer Halves() { return new Tokenizer((Environment.GetEnvironmentVariable("DSRT_TEST_DATA") ?? "tests/data") + "/languages"); }

    static void ItStreamsTextInWholeCharacters() {
        var options = new { max_new_tokens = 6 };
        using (var engine = new Engine(Config()))
        using (Tokenizer tokenizer = Halves())
        using (var stream = new TextStream(tokenizer)) {
            Check(new[] { stream.Put(0), stream.Put(2), stream.Put(3), stream.Put(1), stream.End() }.SequenceEqual(new[] { "a", "", "é", "b", "" }));
            Check(stream.Put(0, 2) + stream.End() == "a\ufffd");
            var pieces = new List<string>();
            string made = engine.GenerateText(tokenizer, "a", options, piece => {
                pieces.Add(piece);
                return true;
            }), want = tokenizer.Decode(engine.Generate(new[] { 0 }, options));
            Check(made == want && string.Concat(pieces) == want, made, want);
            Thrown<IOException>(() => engine.GenerateText(tokenizer, "a", options, piece => { throw new IOException(); }));
            int calls = 0;
            engine.GenerateText(tokenizer, "a", options, piece => ++calls > 1);
            Check(calls == 1, calls);
        }
    }

    static void ItWritesAConversation() {
        using (Tokenizer t = Halves()) {
            Check(t.ApplyChatTemplate(new[] { new { role = "user", content = "é😀" } }, new { add_generation_prompt = true }) == "<user>é😀<assistant>");
            Check(CodeOf(() => t.ApplyChatTemplate("[]")) == Code.InvalidArgument);
        }
    }

    static void ItScoresPredictions() {
        string[][] tags = { new[] { "B-PER", "O" } };
        Check(Library.Score("spans", tags, tags).Contains("\"f1\":1.0"), Library.Score("spans", tags, tags));
        Thrown<DsrtException>(() => Library.Score("taste", tags, tags));
    }

    static void ItScoresAModelOnRows() {
        string rows = Path.GetTempFileName();
        File.WriteAllText(rows, "{\"ids\": [1, 2, 3, 4]}\n{\"ids\": [4, 3, 2]}\n{\"ids\": [5, 6, 7, 1, 2]}\n");
        var options = new { files = rows, format = "jsonl", task = "causal", columns = new { input_ids = "ids" } };
        using (var engine = new Engine(Config()))
        using (var data = new Data(options, engine)) {
            string scores = engine.Evaluate(options);
            Check(scores.Contains("\"rows\":3") && scores.Contains("\"perplexity\":"), scores);
            Check(CodeOf(() => engine.Evaluate(options, new { metric = 1 })) == Code.InvalidArgument);
            float loss = engine.Eval(data.Next());
            Check(loss > 1 && loss < 4, loss);
        }
        File.Delete(rows);
    }

    static void ItReadsAndWritesFiles() {
        string dir = Path.Combine(Path.GetTempPath(), "dsrt-" + Guid.NewGuid()), name = "transformer.ln_f.weight";
        using (var engine = new Engine(Config())) {
            engine.Save(dir, "here", new { weights_only = true });
            engine.SetParam(name, Tensor.Of(new float[] { 0, 1, 2, 3, 4, 5, 6, 7 }, 8));
            Check(engine.GetParam(name).ToArray<float>()[3] == 3);
            engine.Load(dir, "here", new { weights_only = true });
            Check(engine.GetParam(name).ToArray<float>()[3] == 1);
            engine.Export(Path.Combine(dir, "tuned"), new { dtype = "bf16" });
            engine.Report(Path.Combine(dir, "report.html"), new { title = "A run of Mono's" });
            Check(File.Exists(Path.Combine(dir, "tuned", "model.safetensors")) && File.ReadAllText(Path.Combine(dir, "report.html")).Contains("A run of Mono"));
        }
        Directory.Delete(dir, true);
    }

    static void ItTakesALossOfOnesOwn() {
        using (var engine = new Engine(Config())) {
            engine.ForwardOnly(MakeBatch());
            engine.Backward(new Batch().Set("logits", Enumerable.Range(0, 88).Select(i => (float)(i % 3)).ToArray(), 2, 4, 11));
            Func<double> size = () => engine.GetParam("transformer.wte.weight", What.Grad).ToArray<float>().Sum(g => Math.Abs(g));
            Check(size() > 0);
            engine.ZeroGrad();
            Check(size() == 0);
            engine.Set("optimizer.params.lr", 0.05);
            Check(Math.Abs(engine.Metric("lr") - 0.05) < 1e-9, engine.Metric("lr"));
        }
        Thrown<DsrtException>(() => new Engine(Config(), mpi: -5));
    }

    static void ItEmbedsAFamilysBody() {
        var g = new Graph();
        int h = g.Model((Environment.GetEnvironmentVariable("DSRT_TEST_DATA") ?? "tests/data") + "/models/bert-mlm", "last_hidden_state", new { prefix = "bert." },
                        g.Input("input_ids", DType.Int64, -1, -1));
        g.Loss(g.Op("mean", null, h));
        Check(new Engine(OpConfig(), graph: g).Params()[0].Name.StartsWith("bert."));
        Graph.Parse("graph m(%x: f32[rows,3]) {\n  %y = exp %x\n  output y = %y\n}\n").Dispose();
        Check(Library.GraphOps().Contains("layernorm") && Library.ConfigDescribe().Contains("zero_optimization") && Library.BuildInfo.Contains("compiler"));
    }

    static void ItTellsErrors() {
        DsrtException e = Thrown<DsrtException>(() => new Engine(new { optimiser = 1 }));
        Check(e.Code == Code.Config && e.CodeName == "DS_E_CONFIG" && e.Message.Contains("did you mean optimizer"), e.Message);
        Check(Thrown<DsrtException>(() => new Tokenizer("no/such/é😀")).Message.Contains("no/such/é😀"));
        var engine = new Engine(Config());
        engine.Dispose();
        engine.Dispose();
        Check(CodeOf(() => engine.Forward(MakeBatch())) == Code.State);
    }

    static void ItIsCancelledFromAnotherThread() {
        var cancel = new Cancel();
        var engine = new Engine(Config(), cancel: cancel);
        Task<Code> run = Task.Run(() => CodeOf(() => {
            while (true) Losses(engine);
        }));
        Thread.Sleep(50);
        cancel.Set();
        Check(run.Result == Code.Cancelled);
    }

    static void ItBuildsGraphs() {
        var g = new Graph();
        int x = g.Input("x", DType.Float32, -1, 3), w = g.Param("w", new { type = "ones" }, 3, 1), y = g.Op("matmul", null, x, w);
        g.Output("y", y);
        g.Loss(g.Op("mean", null, g.Op("mul", null, y, y)));
        var engine = new Engine("{\"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.1}}, \"train_micro_batch_size_per_gpu\": 1, \"threads\": 1}", graph: g);
        Batch b = new Batch().Set("x", new float[] { 1, 2, 3 }, 1, 3);
        Check(engine.Forward(b) == 36);
        engine.Backward();
        Check(engine.GetParam("w", What.Grad).ToArray<float>().SequenceEqual(new float[] { 12, 24, 36 }));
        Check(engine.Params().Count == 1 && engine.Params()[0].Name == "w" && engine.Params()[0].Shape.SequenceEqual(new long[] { 3, 1 }));
        Check(engine.Predict(b, "y").ToArray<float>()[0] == 6);
    }

    // y = factor * x * x, and the sum of each row of y.
    class Square : IShapedOp, IDifferentiableOp {
        static float Factor(string attributes) { return float.Parse(new string(attributes.Where(char.IsDigit).ToArray())); }

        public int Outputs { get { return 2; } }

        public long[][] Shapes(string attributes, OpValue[] inputs) {
            if (inputs.Length != 1 || inputs[0].Shape.Length != 2 || inputs[0].Wanted) throw new InvalidOperationException("square takes one matrix");
            return new[] { inputs[0].Shape, new[] { inputs[0].Shape[0] } };
        }

        public void Forward(string attributes, OpValue[] inputs, OpValue[] outputs) {
            Span<float> x = inputs[0].Floats, y = outputs[0].Floats, sums = outputs[1].Floats;
            sums.Clear();
            int columns = (int)inputs[0].Shape[1];
            for (int i = 0; i < x.Length; ++i) {
                y[i] = Factor(attributes) * x[i] * x[i];
                sums[i / columns] += y[i];
            }
        }

        public void Backward(string attributes, OpValue[] inputs, OpValue[] outputs, OpValue[] given, OpValue[] wanted) {
            Span<float> x = inputs[0].Floats, dy = given[0].Floats, dsums = given[1].Floats, dx = wanted[0].Floats;
            int columns = (int)inputs[0].Shape[1];
            for (int i = 0; i < x.Length; ++i) dx[i] = 2 * Factor(attributes) * x[i] * (dy[i] + dsums[i / columns]);
        }
    }

    class Plain : IOp {
        internal Action<OpValue, OpValue> action;

        public void Forward(string attributes, OpValue[] inputs, OpValue[] outputs) { action(inputs[0], outputs[0]); }
    }

    static object OpConfig() {
        return new { optimizer = new { type = "SGD", @params = new { lr = 0.01 } }, train_micro_batch_size_per_gpu = 2, threads = 1 };
    }

    static Batch RowsOfThree() { return new Batch().Set("x", new[] { 1, -2, 3, 0.5f, 4, -1 }, 2, 3); }

    static void ItTrainsWithAnOpOfOnesOwn() {
        float[][] losses = new[] { "  %y, %s = square %h {factor = 2}\n", "  %q = mul %h, %h\n  %y = scale %q {factor = 2}\n  %s = sum %y {axes = [1]}\n" }.Select(body => {
            var g = new Graph();
            g.DefineOp("square", new Square());
            g.Read("graph m(%x: f32[rows,3], param %w: f32[3,2] normal 0.5) {\n  %h = matmul %x, %w\n" + body
                   + "  %a = mean %y\n  %b = mean %s\n  %loss = add %a, %b\n  loss = %loss\n}\n");
            Check(Library.Plan(OpConfig(), graph: g).Contains("memory"));
            var engine = new Engine(OpConfig(), graph: g);
            return Enumerable.Range(0, 4).Select(i => {
                float loss = engine.Forward(RowsOfThree());
                engine.Backward();
                engine.Step();
                return loss;
            }).ToArray();
        }).ToArray();
        for (int i = 0; i < 4; ++i) Check(Math.Abs(losses[0][i] - losses[1][i]) <= 1e-5 * Math.Abs(losses[1][i]), losses[0][i], losses[1][i]);
        Check(losses[1][3] < losses[1][0], losses[1][3]);
    }

    static Engine WithOp(Action<OpValue, OpValue> action) {
        var g = new Graph();
        g.DefineOp("plain", new Plain { action = action });
        g.Read("graph m(%x: f32[rows,3], param %w: f32[3] ones) {\n  %h = mul %x, %w\n  %y = plain %h\n  %loss = mean %y\n  output y = %y\n  loss = %loss\n}\n");
        return new Engine(OpConfig(), graph: g);
    }

    static void ItThrowsWhatAnOpThrew() {
        IOException e = Thrown<IOException>(() => WithOp((x, y) => { throw new IOException("no rule"); }).Eval(RowsOfThree()));
        Check(e.Message == "no rule" && e.StackTrace.Contains("Plain.Forward"), e.StackTrace);
        Check(CodeOf(() => WithOp((x, y) => x.Ints.Clear()).Eval(RowsOfThree())) == Code.InvalidArgument);
        Engine without = WithOp((x, y) => x.Floats.CopyTo(y.Floats));
        DsrtException refused = Thrown<DsrtException>(() => without.Forward(RowsOfThree()));
        Check(refused.Code == Code.Unsupported && refused.Message.Contains("plain: this op has no gradient"), refused.Message);
        Check(without.Predict(RowsOfThree(), "y").ToArray<float>()[4] == 4);
        var g = new Graph();
        g.DefineOp("square", new Square());
        Thrown<InvalidOperationException>(() => g.Ops("square", null, 2, g.Input("x", DType.Float32, -1)));
        Check(Thrown<DsrtException>(() => g.DefineOp("matmul", new Square())).Message.Contains("already"));
    }

    static void ItTokenizes() {
        string dir = Directory.CreateDirectory(Path.Combine(Path.GetTempPath(), "dsrt-" + Guid.NewGuid())).FullName;
        File.WriteAllLines(Path.Combine(dir, "vocab.txt"), new[] { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film", "##s", "😀" });
        var t = new Tokenizer(dir);
        Directory.Delete(dir, true);
        Encoding e = t.Encode("good 😀 films");
        Check(e.Ids.SequenceEqual(new[] { 2, 5, 8, 6, 7, 3 }) && e.Offsets[4] == 5 && e.Offsets[5] == 6, string.Join(",", e.Ids));
        Check(t.Decode(e.Ids) == "good 😀 films", t.Decode(e.Ids));
        Check(t.Encode(new[] { "good", "films" }, null, new { max_length = 4 })["input_ids"].ToArray<long>().SequenceEqual(new long[] { 2, 5, 3, 0, 2, 6, 7, 3 }));
    }

    static void ItLogs() {
        int lines = 0;
        Library.SetLog((level, component, message) => ++lines, LogLevel.Trace);
        new Engine(Config()).Dispose();
        Library.SetLog((level, component, message) => { throw new IOException("in the log"); }, LogLevel.Trace);
        Check(Thrown<IOException>(() => new Engine(Config())).Message == "in the log");
        Library.SetLog(null, LogLevel.Warn);
        new Engine(Config()).Dispose();
        Check(lines > 0 && Library.Version == "0.1.0" && Library.AbiVersion >> 16 == 0 && Library.Plan(Config()).Contains("memory"));
    }

    static long Resident() { return long.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[1]) * 4096; }

    static void Round(Engine engine, Tokenizer tokenizer, int n) {
        for (int i = 0; i < n; ++i) {
            using (var stream = new TextStream(tokenizer)) stream.Put(0);
            new TextStream(tokenizer);
            using (MakeBatch())
            using (var g = new Graph())
            using (new Cancel())
            using (engine.GetParam("transformer.ln_f.bias"))
            using (Data.From(new Rows(), null)) g.Input("x", DType.Float32, -1);
            new Graph().Input("x", DType.Float32, -1);
            MakeBatch();
        }
        for (int i = 0; i < 3; ++i) {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }

    static void ItLeavesNothingBehind() {
        using (var engine = new Engine(Config()))
        using (Tokenizer tokenizer = Halves()) {
            Round(engine, tokenizer, 2000);
            long before = Resident();
            Round(engine, tokenizer, 10000);
            Check(Resident() - before < 8 << 20, (Resident() - before) >> 20, "MiB");
        }
        for (int i = 0; i < 20; ++i) new Engine(Config()).Dispose();
        long start = Resident();
        for (int i = 0; i < 100; ++i) new Engine(Config()).Dispose();
        Check(Resident() - start < 32 << 20, (Resident() - start) >> 20, "MiB");
    }

    static int Main() {
        int passed = 0, failed = 0;
        foreach (MethodInfo m in typeof(Tests).GetMethods(BindingFlags.Static | BindingFlags.NonPublic)) {
            if (!m.Name.StartsWith("It")) continue;
            try {
                m.Invoke(null, null);
                ++passed;
            } catch (TargetInvocationException e) {
                Console.WriteLine("FAILED " + m.Name + "\n" + e.InnerException);
                ++failed;
            }
        }
        Console.WriteLine(passed + " passed, " + failed + " failed");
        return failed == 0 ? 0 : 1;
    }
}
