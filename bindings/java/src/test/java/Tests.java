import io.dsrt.*;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicInteger;

/** The binding's tests: every method whose name begins with "it" is one. A plain program, since a test library may not be there. */
public class Tests {
    static final Map<String, Object> MODEL = Map.of("architectures", List.of("GPT2LMHeadModel"), "model_type", "gpt2", "vocab_size", 11, "n_positions", 16,
        "n_embd", 8, "n_layer", 1, "n_head", 2, "resid_pdrop", 0, "attn_pdrop", 0);
    static final long[] IDS = {1, 2, 3, 4, 5, 6, 7, 8};

    static Map<String, Object> config() {
        Map<String, Object> model = new HashMap<>(MODEL);
        model.put("embd_pdrop", 0);
        return new HashMap<>(Map.of("model", model, "threads", 1, "train_micro_batch_size_per_gpu", 2,
            "optimizer", Map.of("type", "SGD", "params", Map.of("lr", 0.1, "momentum", 0.9))));
    }

    static Batch batch() {
        return fill(new Batch());
    }

    static Batch fill(Batch b) {
        return b.set("input_ids", IDS, 2, 4).set("labels", IDS, 2, 4);
    }

    static void check(boolean right, Object... shown) {
        if (!right) throw new AssertionError(Arrays.deepToString(shown));
    }

    interface Code {
        void run() throws Exception;
    }

    static <T extends Throwable> T thrown(Class<T> type, Code code) {
        try {
            code.run();
        } catch (Throwable t) {
            if (type.isInstance(t)) return type.cast(t);
            throw new AssertionError("not a " + type, t);
        }
        throw new AssertionError("nothing was thrown");
    }

    static DsrtException.Code code(Code code) {
        return thrown(DsrtException.class, code).code();
    }

    static void itKeepsTensorsAsTheyWere() {
        try (Tensor t = Tensor.of(new float[] {1.5f, -2, 3, 4}, 2, 2)) {
            check(t.type() == DType.FLOAT32 && Arrays.equals(t.shape(), new long[] {2, 2}) && t.count() == 4);
            check(Arrays.equals(t.toInts(), new int[] {1, -2, 3, 4}), t.toInts());
            check(Arrays.equals(t.toLongs(), new long[] {1, -2, 3, 4}));
        }
        check(code(() -> Tensor.of(new long[] {1, 2}, 3)) == DsrtException.Code.INVALID_ARGUMENT);
        ByteBuffer direct = ByteBuffer.allocateDirect(8).order(ByteOrder.nativeOrder());
        direct.putDouble(0, 2.5);
        check(Tensor.of(DType.FLOAT64, direct, 1).toFloats()[0] == 2.5f);
        check(code(() -> Tensor.of(DType.FLOAT64, ByteBuffer.allocate(8), 1)) == DsrtException.Code.INVALID_ARGUMENT);
        check(Tensor.zeros(DType.BFLOAT16, 0, 3).count() == 0);
    }

    static void itLendsMemoryWithoutACopy() {
        Tensor t = Tensor.of(new float[] {1, 2, 3}, 3);
        try (Tensor.View view = t.view()) {
            FloatBuffer numbers = view.buffer().asFloatBuffer();
            numbers.put(1, 9);
            check(t.toFloats()[1] == 9);
            t.close();
            check(numbers.get(1) == 9);
            check(thrown(DsrtException.class, t::toFloats).getMessage().equals("this tensor is closed"));
        }
    }

    static void itLendsMemoryForAsLongAsABufferIsReachable() throws Exception {
        List<FloatBuffer> kept = new ArrayList<>();
        for (int i = 0; i < 8; ++i) {
            Tensor t = Tensor.zeros(DType.FLOAT32, 1 << 20); // large, so that what is freed is unmapped
            FloatBuffer numbers = t.view().buffer().asFloatBuffer();
            numbers.put((1 << 20) - 1, i);
            kept.add(numbers);
            t.close();
        }
        for (int i = 0; i < 3; ++i) {
            System.gc();
            Thread.sleep(20);
        }
        for (int i = 0; i < 8; ++i) check(kept.get(i).get((1 << 20) - 1) == i);
        Tensor.View closed = Tensor.of(new float[] {1}, 1).view();
        closed.close();
        check(code(closed::buffer) == DsrtException.Code.STATE);
    }

    static void itRefusesWhatCWouldMisread() {
        check(thrown(DsrtException.class, () -> Tensor.of(new float[0], 2)).getMessage().equals("a tensor f32[2] has 8 bytes, but bytes is 0"));
        Tokenizer tokenizer = new Tokenizer(System.getenv("DSRT_TEST_DATA") + "/languages");
        String said = thrown(DsrtException.class, () -> tokenizer.encode(List.of("a", "é\0b"), null, null)).getMessage();
        check(said.equals("texts[1] holds a NUL at byte 2"), said);
        check(code(() -> new Tokenizer("a\0b")) == DsrtException.Code.INVALID_ARGUMENT);
    }

    static void itReadsNoBatchAhead() {
        int[] read = {0};
        Data data = Data.from(b -> {
            fill(b);
            return ++read[0] % 4 != 0;
        }, null);
        int n = 0;
        for (Batch b : data) check(read[0] == ++n, read[0], n);
        check(n == 3);
    }

    static void itWritesArraysAsJsonAndRefusesOtherThings() {
        Map<String, Object> config = config();
        config.put("optimizer", Map.of("type", "AdamW", "params", Map.of("betas", new double[] {0.8, 0.9})));
        try (Engine engine = new Engine(config)) {
            check(engine.get("optimizer.params.betas").replace(" ", "").equals("[0.8,0.9]"), engine.get("optimizer.params.betas"));
        }
        config.put("seed", new Object());
        check(thrown(DsrtException.class, () -> new Engine(config)).getMessage().startsWith("seed: "));
    }

    static class Rows implements DataSource.WithCursor {
        int at, failAt;
        String restored;

        @Override
        public boolean next(Batch b) throws Exception {
            if (++at == failAt) throw new java.io.IOException("row " + at);
            if (at % 4 == 0) return false;
            fill(b);
            return true;
        }

        @Override
        public String save() {
            return "{\"at\": " + at + "}";
        }

        @Override
        public void restore(String cursor) {
            restored = cursor;
        }
    }

    static void itFeedsTrainingFromASourceAndKeepsItsPlace() throws Exception {
        try (Engine engine = new Engine(config())) {
            Rows rows = new Rows();
            Data data = Data.from(rows, engine);
            int steps = 0;
            while (engine.trainBatch(data) != null) ++steps;
            check(steps == 3, steps);
            Path dir = Files.createTempDirectory("dsrt");
            engine.save(dir.toString(), "here", Map.of("client_state", "é😀"));
            engine.load(dir.toString(), "here");
            check(engine.get("client_state").equals("\"é😀\""), engine.get("client_state"));
            check(rows.restored != null && rows.restored.contains("\"at\""), rows.restored);
            int batches = 0;
            for (Batch b : data) batches += b.get("labels").count() == 8 ? 1 : 0;
            check(batches == 3, batches);
        }
    }

    static void itThrowsWhatACallbackThrew() {
        try (Engine engine = new Engine(config())) {
            Rows rows = new Rows();
            rows.failAt = 2;
            Data data = Data.from(rows, engine);
            engine.trainBatch(data);
            java.io.IOException e = thrown(java.io.IOException.class, () -> engine.trainBatch(data));
            check(e.getMessage().equals("row 2") && e.getStackTrace()[0].getMethodName().equals("next"));
            engine.forward(batch());
            check(thrown(StackOverflowError.class, () -> engine.generate(new int[] {1}, null, ids -> { throw new StackOverflowError(); })) != null);
        }
    }

    static class Momentum implements Optimizer {
        final boolean fail;

        Momentum(boolean fail) {
            this.fail = fail;
        }

        @Override
        public int statePerElement() {
            return 1;
        }

        @Override
        public void update(String parameter, long step, double lr, FloatBuffer weight, FloatBuffer gradient, FloatBuffer state) {
            if (fail) throw new IllegalStateException("no rule for " + parameter);
            for (int i = 0; i < weight.capacity(); ++i) {
                state.put(i, 0.9f * state.get(i) + gradient.get(i));
                weight.put(i, weight.get(i) - (float) lr * state.get(i));
            }
        }
    }

    static float[] losses(Engine engine) {
        float[] all = new float[5];
        for (int i = 0; i < 5; ++i) {
            all[i] = engine.forward(batch());
            engine.backward();
            check(engine.step() == Engine.Outcome.UPDATED);
        }
        return all;
    }

    static void itTrainsWithAnOptimizerOfOnesOwn() {
        float[] own = losses(new Engine(config(), new Engine.Options().optimizer(new Momentum(false))));
        float[] builtIn = losses(new Engine(config()));
        for (int i = 0; i < 5; ++i) check(Math.abs(own[i] - builtIn[i]) < 1e-5, own, builtIn);
        check(own[4] < own[0]);
        Engine engine = new Engine(config(), new Engine.Options().optimizer(new Momentum(true)));
        engine.forward(batch());
        engine.backward();
        check(thrown(IllegalStateException.class, engine::step).getMessage().startsWith("no rule for "));
    }

    static void itStreamsTokens() {
        try (Engine engine = new Engine(config())) {
            List<Integer> heard = new ArrayList<>();
            int[] made = engine.generate(new int[] {1, 2}, Map.of("max_new_tokens", 5), ids -> {
                for (int id : ids) heard.add(id);
                return true;
            });
            check(made.length == 5 && Arrays.stream(made).boxed().toArray().length == heard.size() && heard.get(4) == made[4]);
            check(engine.generate(new int[] {1, 2}, null, ids -> false).length == 1);
        }
    }

    static void itContinuesPromptsTogetherAsItDoesAlone() {
        try (Engine engine = new Engine(config())) {
            int[][] prompts = {{1, 2}, {3}, {4, 5, 6}};
            Map<String, Object> options = Map.of("max_new_tokens", 4);
            List<List<Integer>> heard = List.of(new ArrayList<>(), new ArrayList<>(), new ArrayList<>());
            int[][] made = engine.generateBatch(prompts, options, (row, ids) -> {
                for (int id : ids) heard.get(row).add(id);
                return true;
            });
            for (int row = 0; row < 3; ++row) {
                int[] alone = engine.generate(prompts[row], options);
                check(Arrays.equals(made[row], alone) && heard.get(row).equals(Arrays.stream(alone).boxed().collect(java.util.stream.Collectors.toList())),
                    made[row], alone);
            }
            check(Arrays.stream(engine.generateBatch(prompts, options, (row, ids) -> row != 1)).map(r -> r.length).collect(
                java.util.stream.Collectors.toList()).equals(List.of(4, 1, 4)));
            thrown(java.io.IOException.class, () -> engine.generateBatch(prompts, options, (row, ids) -> { throw new java.io.IOException(); }));
        }
    }

    /** A tokenizer of eleven tokens, as many as the model's: letters, the two halves of "é" (ids 2 and 3), and a chat template. */
    static Tokenizer halves() {
        String data = System.getenv("DSRT_TEST_DATA");
        return new Tokenizer((data == null ? "tests/data" : data) + "/languages");
    }

    static void itStreamsTextInWholeCharacters() {
        Map<String, Object> options = Map.of("max_new_tokens", 6);
        try (Engine engine = new Engine(config()); Tokenizer tokenizer = halves(); TextStream stream = new TextStream(tokenizer)) {
            check(List.of(stream.put(0), stream.put(2), stream.put(3), stream.put(1), stream.end()).equals(List.of("a", "", "é", "b", "")));
            check((stream.put(0, 2) + stream.end()).equals("a\ufffd"));
            List<String> pieces = new ArrayList<>();
            String made = engine.generateText(tokenizer, "a", options, pieces::add), want = tokenizer.decode(engine.generate(new int[] {0}, options), true);
            check(made.equals(want) && String.join("", pieces).equals(want), made, pieces, want);
            thrown(java.io.IOException.class, () -> engine.generateText(tokenizer, "a", options, piece -> { throw new java.io.IOException(); }));
            pieces.clear();
            engine.generateText(tokenizer, "a", options, piece -> !pieces.add(piece));
            check(pieces.size() == 1, pieces);
        }
    }

    static void itWritesAConversation() {
        try (Tokenizer t = halves()) {
            List<Map<String, String>> said = List.of(Map.of("role", "user", "content", "é😀"));
            check(t.applyChatTemplate(said, Map.of("add_generation_prompt", true)).equals("<user>é😀<assistant>"));
            check(code(() -> t.applyChatTemplate("[]", null)) == DsrtException.Code.INVALID_ARGUMENT);
        }
    }

    static void itScoresPredictions() {
        List<List<String>> tags = List.of(List.of("B-PER", "O"));
        check(Dsrt.score("spans", tags, tags).contains("\"f1\":1.0"), Dsrt.score("spans", tags, tags));
        thrown(DsrtException.class, () -> Dsrt.score("taste", tags, tags));
    }

    static void itScoresAModelOnRows() throws Exception {
        Path rows = Files.createTempFile("dsrt", ".jsonl");
        Files.writeString(rows, "{\"ids\": [1, 2, 3, 4]}\n{\"ids\": [4, 3, 2]}\n{\"ids\": [5, 6, 7, 1, 2]}\n");
        Map<String, Object> options = Map.of("files", rows.toString(), "format", "jsonl", "task", "causal", "columns", Map.of("input_ids", "ids"));
        try (Engine engine = new Engine(config()); Data data = new Data(options, engine)) {
            String scores = engine.evaluate(options, null);
            check(scores.contains("\"rows\":3") && scores.contains("\"perplexity\":"), scores);
            check(code(() -> engine.evaluate(options, Map.of("metric", 1))) == DsrtException.Code.INVALID_ARGUMENT);
            float loss = engine.eval(data.next());
            check(loss > 1 && loss < 4, loss);
        }
        Files.delete(rows);
    }

    static void itReadsAndWritesFiles() throws Exception {
        String dir = Files.createTempDirectory("dsrt").toString(), name = "transformer.ln_f.weight";
        try (Engine engine = new Engine(config())) {
            engine.save(dir, "here", Map.of("weights_only", true));
            engine.setParam(name, Engine.What.WEIGHT, Tensor.of(new float[] {0, 1, 2, 3, 4, 5, 6, 7}, 8));
            check(engine.param(name, Engine.What.WEIGHT).toFloats()[3] == 3);
            engine.load(dir, "here", Map.of("weights_only", true));
            check(engine.param(name, Engine.What.WEIGHT).toFloats()[3] == 1);
            engine.export(dir + "/tuned", Map.of("dtype", "bf16"));
            engine.report(dir + "/report.html", Map.of("title", "A run of Java's"));
            check(Files.exists(Path.of(dir, "tuned/model.safetensors")) && Files.readString(Path.of(dir, "report.html")).contains("A run of Java"));
        }
    }

    static void itTakesALossOfOnesOwn() {
        try (Engine engine = new Engine(config())) {
            engine.forwardOnly(batch());
            float[] gradient = new float[2 * 4 * 11];
            for (int i = 0; i < gradient.length; ++i) gradient[i] = i % 3;
            engine.backward(new Batch().set("logits", gradient, 2, 4, 11));
            java.util.function.DoubleSupplier size = () -> {
                double sum = 0;
                for (float g : engine.param("transformer.wte.weight", Engine.What.GRAD).toFloats()) sum += Math.abs(g);
                return sum;
            };
            check(size.getAsDouble() > 0);
            engine.zeroGrad();
            check(size.getAsDouble() == 0);
            engine.set("optimizer.params.lr", 0.05);
            check(Math.abs(engine.metric("lr") - 0.05) < 1e-9, engine.metric("lr"));
        }
        thrown(DsrtException.class, () -> new Engine(config(), new Engine.Options().mpi(-5)));
    }

    static void itEmbedsAFamilysBody() {
        String data = System.getenv("DSRT_TEST_DATA");
        Graph g = new Graph();
        int h = g.model((data == null ? "tests/data" : data) + "/models/bert-mlm", "last_hidden_state", Map.of("prefix", "bert."), g.input("input_ids", DType.INT64, -1, -1));
        g.loss(g.op("mean", null, h));
        check(new Engine(OP_CONFIG, new Engine.Options().graph(g)).params().get(0).name.startsWith("bert."));
        Graph.parse("graph m(%x: f32[rows,3]) {\n  %y = exp %x\n  output y = %y\n}\n").close();
        check(Dsrt.graphOps().contains("layernorm") && Dsrt.configDescribe().contains("zero_optimization") && Dsrt.buildInfo().contains("compiler"));
    }

    static void itTellsErrors() {
        DsrtException e = thrown(DsrtException.class, () -> new Engine(Map.of("optimiser", 1)));
        check(e.code() == DsrtException.Code.CONFIG && e.getMessage().contains("did you mean optimizer"));
        check(DsrtException.Code.INTERNAL.cName().equals("DS_E_INTERNAL") && DsrtException.Code.values().length == 15);
        check(thrown(DsrtException.class, () -> new Tokenizer("no/such/é😀")).getMessage().contains("no/such/é😀"));
        Engine engine = new Engine(config());
        engine.close();
        engine.close();
        check(code(() -> engine.forward(batch())) == DsrtException.Code.STATE);
    }

    static void itIsCancelledFromAnotherThread() throws Exception {
        Cancel cancel = new Cancel();
        Engine engine = new Engine(config(), new Engine.Options().cancel(cancel));
        CompletableFuture<DsrtException.Code> run = CompletableFuture.supplyAsync(() -> code(() -> {
            while (true) losses(engine);
        }));
        Thread.sleep(50);
        cancel.set(true);
        check(run.get() == DsrtException.Code.CANCELLED);
    }

    static void itBuildsGraphs() {
        Graph g = new Graph();
        int x = g.input("x", DType.FLOAT32, -1, 3), w = g.param("w", Map.of("type", "ones"), 3, 1), y = g.op("matmul", null, x, w);
        g.output("y", y);
        g.loss(g.op("mean", null, g.op("mul", null, y, y)));
        Engine engine = new Engine("{\"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.1}}, \"train_micro_batch_size_per_gpu\": 1, \"threads\": 1}",
            new Engine.Options().graph(g));
        Batch b = new Batch().set("x", new float[] {1, 2, 3}, 1, 3);
        check(engine.forward(b) == 36);
        engine.backward();
        check(Arrays.equals(engine.param("w", Engine.What.GRAD).toFloats(), new float[] {12, 24, 36}));
        check(engine.params().size() == 1 && engine.params().get(0).name.equals("w") && engine.params().get(0).trainable);
        check(engine.predict(b, "y").toFloats()[0] == 6);
    }

    /** y = factor * x * x, and the sum of each row of y. */
    static class Square implements Op.WithShapes, Op.WithGradient {
        static float factor(String attributes) {
            return Float.parseFloat(attributes.replaceAll("[^0-9.]", ""));
        }

        @Override
        public int outputs() {
            return 2;
        }

        @Override
        public List<long[]> shapes(String attributes, List<Value> in) {
            if (in.size() != 1 || in.get(0).shape.length != 2 || in.get(0).wanted()) throw new IllegalArgumentException("square takes one matrix");
            return List.of(in.get(0).shape, new long[] {in.get(0).shape[0]});
        }

        @Override
        public void forward(String attributes, List<Value> in, List<Value> out) {
            FloatBuffer x = in.get(0).floats(), y = out.get(0).floats(), sums = out.get(1).floats();
            for (int i = 0; i < sums.capacity(); ++i) sums.put(i, 0);
            int columns = (int) in.get(0).shape[1];
            for (int i = 0; i < x.capacity(); ++i) {
                y.put(i, factor(attributes) * x.get(i) * x.get(i));
                sums.put(i / columns, sums.get(i / columns) + y.get(i));
            }
        }

        @Override
        public void backward(String attributes, List<Value> in, List<Value> out, List<Value> given, List<Value> wanted) {
            FloatBuffer x = in.get(0).floats(), dy = given.get(0).floats(), dsums = given.get(1).floats(), dx = wanted.get(0).floats();
            int columns = (int) in.get(0).shape[1];
            for (int i = 0; i < x.capacity(); ++i) dx.put(i, 2 * factor(attributes) * x.get(i) * (dy.get(i) + dsums.get(i / columns)));
        }
    }

    static final Map<String, Object> OP_CONFIG = Map.of("optimizer", Map.of("type", "SGD", "params", Map.of("lr", 0.01)), "train_micro_batch_size_per_gpu", 2,
        "threads", 1);

    static Batch rowsOfThree() {
        return new Batch().set("x", new float[] {1, -2, 3, 0.5f, 4, -1}, 2, 3);
    }

    static float[] lossesOf(Graph g) {
        Engine engine = new Engine(OP_CONFIG, new Engine.Options().graph(g));
        float[] all = new float[4];
        for (int i = 0; i < 4; ++i) {
            all[i] = engine.forward(rowsOfThree());
            engine.backward();
            engine.step();
        }
        return all;
    }

    static void itTrainsWithAnOpOfOnesOwn() {
        String[] bodies = {"  %y, %s = square %h {factor = 2}\n", "  %q = mul %h, %h\n  %y = scale %q {factor = 2}\n  %s = sum %y {axes = [1]}\n"};
        float[][] losses = new float[2][];
        for (int i = 0; i < 2; ++i) {
            Graph g = new Graph();
            g.defineOp("square", new Square());
            g.read("graph m(%x: f32[rows,3], param %w: f32[3,2] normal 0.5) {\n  %h = matmul %x, %w\n" + bodies[i]
                + "  %a = mean %y\n  %b = mean %s\n  %loss = add %a, %b\n  loss = %loss\n}\n");
            losses[i] = lossesOf(g);
            check(Dsrt.plan(OP_CONFIG, new Engine.Options().graph(g)).contains("memory"));
        }
        for (int i = 0; i < 4; ++i) check(Math.abs(losses[0][i] - losses[1][i]) <= 1e-5 * Math.abs(losses[1][i]), losses[0], losses[1]);
        check(losses[1][3] < losses[1][0], losses[1]);
    }

    static Engine withOp(Op op) {
        Graph g = new Graph();
        g.defineOp("plain", op);
        g.read("graph m(%x: f32[rows,3], param %w: f32[3] ones) {\n  %h = mul %x, %w\n  %y = plain %h\n  %loss = mean %y\n  output y = %y\n  loss = %loss\n}\n");
        return new Engine(OP_CONFIG, new Engine.Options().graph(g));
    }

    static void itThrowsWhatAnOpThrew() {
        java.io.IOException e = thrown(java.io.IOException.class, () -> withOp((attributes, in, out) -> { throw new java.io.IOException("no rule"); }).eval(rowsOfThree()));
        check(e.getMessage().equals("no rule"));
        check(code(() -> withOp((attributes, in, out) -> in.get(0).ints()).eval(rowsOfThree())) == DsrtException.Code.INVALID_ARGUMENT);
        Engine without = withOp((attributes, in, out) -> out.get(0).floats().put(in.get(0).floats()));
        DsrtException refused = thrown(DsrtException.class, () -> without.forward(rowsOfThree()));
        check(refused.code() == DsrtException.Code.UNSUPPORTED && refused.getMessage().contains("plain: this op has no gradient"), refused.getMessage());
        check(without.predict(rowsOfThree(), "y").toFloats()[4] == 4);
        Graph g = new Graph();
        g.defineOp("square", new Square());
        thrown(IllegalArgumentException.class, () -> g.ops("square", null, 2, g.input("x", DType.FLOAT32, -1)));
        check(thrown(DsrtException.class, () -> g.defineOp("matmul", new Square())).getMessage().contains("already"));
    }

    static void itTokenizes() throws Exception {
        Path dir = Files.createTempDirectory("dsrt");
        Files.write(dir.resolve("vocab.txt"), List.of("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film", "##s", "😀"));
        Tokenizer t = new Tokenizer(dir.toString());
        Tokenizer.Encoding e = t.encode("good 😀 films");
        check(Arrays.equals(e.ids, new int[] {2, 5, 8, 6, 7, 3}), e.ids);
        check(e.offsets[4] == 5 && e.offsets[5] == 6, e.offsets);
        check(t.decode(e.ids, true).equals("good 😀 films"));
        check(Arrays.equals(t.encode(List.of("good", "films"), null, Map.of("max_length", 4)).get("input_ids").toLongs(), new long[] {2, 5, 3, 0, 2, 6, 7, 3}));
    }

    static void itLogs() {
        AtomicInteger lines = new AtomicInteger();
        Dsrt.setLog((level, component, message) -> lines.incrementAndGet(), Dsrt.Level.TRACE);
        new Engine(config()).close();
        Dsrt.setLog((level, component, message) -> { throw new IllegalStateException("in the log"); }, Dsrt.Level.TRACE);
        check(thrown(IllegalStateException.class, () -> new Engine(config())).getMessage().equals("in the log"));
        Dsrt.setLog(null, Dsrt.Level.WARN);
        new Engine(config()).close();
        check(lines.get() > 0 && Dsrt.version().equals("0.1.0") && Dsrt.abiVersion() >> 16 == 0 && Dsrt.plan(config()).contains("memory"));
    }

    static long resident() throws Exception {
        return Long.parseLong(Files.readString(Path.of("/proc/self/statm")).split(" ")[1]) * 4096;
    }

    static void round(Engine engine, Tokenizer tokenizer, int n) throws Exception {
        for (int i = 0; i < n; ++i) {
            try (TextStream s = new TextStream(tokenizer)) {
                s.put(0);
            }
            new TextStream(tokenizer);
            try (Batch b = batch(); Graph g = new Graph(); Cancel c = new Cancel(); Tensor t = engine.param("transformer.ln_f.bias", Engine.What.WEIGHT);
                 Data d = Data.from(new Rows(), null)) {
                g.input("x", DType.FLOAT32, -1);
            }
            new Graph().input("x", DType.FLOAT32, -1);
            batch();
        }
        for (int i = 0; i < 3; ++i) {
            System.gc();
            Thread.sleep(20);
        }
    }

    static void itLeavesNothingBehind() throws Exception {
        try (Engine engine = new Engine(config()); Tokenizer tokenizer = halves()) {
            round(engine, tokenizer, 10_000); // the collector and the allocator come to rest
            long before = resident();
            round(engine, tokenizer, 10_000);
            System.out.println("10,000 of each handle: " + ((resident() - before) >> 10) + " KiB more");
            check(resident() - before < 8 << 20, (resident() - before) >> 20, "MiB");
        }
        for (int i = 0; i < 20; ++i) new Engine(config()).close();
        long before = resident();
        for (int i = 0; i < 100; ++i) new Engine(config()).close();
        check(resident() - before < 32 << 20, (resident() - before) >> 20, "MiB");
    }

    public static void main(String[] arguments) throws Exception {
        int passed = 0, failed = 0;
        for (Method m : Tests.class.getDeclaredMethods()) {
            if (!m.getName().startsWith("it")) continue;
            try {
                m.invoke(null);
                ++passed;
            } catch (InvocationTargetException e) {
                System.out.println("FAILED " + m.getName());
                e.getCause().printStackTrace(System.out);
                ++failed;
            }
        }
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }
}
