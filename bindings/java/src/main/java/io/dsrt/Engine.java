package io.dsrt;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;

/** A model, its optimizer and its schedule, trained with DeepSpeed's semantics. One call at a time (code BUSY), but for metric(). */
public final class Engine extends Handle {
    final io.dsrt.swig.Engine n;

    /** What a step came to: UPDATED, SKIPPED (an fp16 gradient overflowed), PENDING (more micro-batches are needed). */
    public enum Outcome { UPDATED, SKIPPED, PENDING }

    /** What of a parameter. */
    public enum What { WEIGHT, GRAD, FIRST_MOMENT, SECOND_MOMENT }

    /** One step of trainBatch. */
    public static final class Step {
        public final long number;
        public final float loss;
        public final Outcome outcome;

        private Step(long number, float loss, Outcome outcome) {
            this.number = number;
            this.loss = loss;
            this.outcome = outcome;
        }
    }

    /** A parameter, by its name in model.safetensors. */
    public static final class Param {
        public final String name;
        public final long[] shape;
        public final boolean trainable;

        private Param(String name, long[] shape, boolean trainable) {
            this.name = name;
            this.shape = shape;
            this.trainable = trainable;
        }
    }

    /** Parts that the host supplies beside the config. */
    public static final class Options {
        private Graph graph;
        private Cancel cancel;
        private Optimizer optimizer;
        private Integer mpi;

        public Options graph(Graph g) {
            graph = g;
            return this;
        }

        public Options cancel(Cancel c) {
            cancel = c;
            return this;
        }

        public Options optimizer(Optimizer o) {
            optimizer = o;
            return this;
        }

        /** The communicator of the job, as MPI_Comm_c2f gives it. */
        public Options mpi(int fortranComm) {
            mpi = fortranComm;
            return this;
        }

        /** What the library takes of them; null of null. */
        static io.dsrt.swig.Options made(Options from) {
            if (from == null) return null;
            io.dsrt.swig.Options o = new io.dsrt.swig.Options();
            if (from.graph != null) o.set_graph(from.graph.n);
            if (from.cancel != null) o.set_cancel(from.cancel.n);
            if (from.mpi != null) o.set_mpi(from.mpi);
            if (from.optimizer != null) o.set_updater(from.optimizer.statePerElement(), new Callbacks.Updater(from.optimizer));
            return o;
        }
    }

    /** config: a map, JSON text, the path of a JSON file, or null for what DSRT_CONFIG or DEEPSPEED_CONFIG holds. */
    public Engine(Object config) {
        this(config, null);
    }

    public Engine(Object config, Options options) {
        io.dsrt.swig.Options o = Options.made(options);
        try {
            n = new io.dsrt.swig.Engine(Callbacks.json(config), o);
        } finally {
            if (o != null) o.delete();
            alive((Object) null, options);
        }
        owns(n::delete);
    }

    private <T> T call(Supplier<T> call, Object... during) {
        return alive(call.get(), this, during);
    }

    private void run(Runnable call, Object... during) {
        call(() -> {
            call.run();
            return null;
        }, during);
    }

    /** Runs one micro-batch in training mode; the mean loss over unignored labels. */
    public float forward(Batch b) {
        return call(() -> n.forward(b.n), b);
    }

    /** The same without waiting for a loss; labels are not needed. */
    public void forwardOnly(Batch b) {
        run(() -> n.forward_only(b.n), b);
    }

    public void backward() {
        run(n::backward);
    }

    /** The gradient of a loss of the host's own, by output name. */
    public void backward(Batch gradients) {
        run(() -> n.backward_from(gradients.n), gradients);
    }

    public Outcome step() {
        return Outcome.values()[call(n::update)];
    }

    public void zeroGrad() {
        run(n::zero_grad);
    }

    /** Forward, backward and step over one global batch; null at the end of an epoch, and nothing was done. */
    public Step trainBatch(Data data) {
        io.dsrt.swig.Trained t = call(() -> n.train(data.n), data);
        int outcome = t.getOutcome();
        float loss = t.getLoss();
        t.delete();
        return outcome == 3 ? null : new Step((long) metric("global_steps"), loss, Outcome.values()[outcome]);
    }

    /** The loss without dropout; a pending forward and gradients stay. */
    public float eval(Batch b) {
        return call(() -> n.eval(b.n), b);
    }

    /** JSON: the scores of the model's task on rows. data: a map or JSON text, null: what the config's split keeps from training; options may be null. */
    public String evaluate(Object data, Object options) {
        return call(() -> n.evaluate(Callbacks.json(data), Callbacks.json(options)));
    }

    /** An output without dropout, labels or loss: "logits" ... */
    public Tensor predict(Batch b, String output) {
        run(() -> n.eval_only(b.n), b);
        return output(output);
    }

    /** An output of the later of the last forward and the last eval, a snapshot. */
    public Tensor output(String name) {
        return call(() -> new Tensor(n.output_of(name)));
    }

    /** loss, lr, grad_norm, global_steps, tokens_per_second ... at any time, from any thread. */
    public double metric(String name) {
        return alive(n.metric(name), this);
    }

    /** Changes at run time what can be: "optimizer.params.lr", "gradient_clipping" ... */
    public void set(String key, Object value) {
        run(() -> n.set_json(key, Json.write(value)));
    }

    /** The effective value of a key, as JSON; "" is the whole effective config. */
    public String get(String key) {
        return call(() -> n.get_json(key));
    }

    public List<Param> params() {
        io.dsrt.swig.Params list = call(n::parameters_list);
        List<Param> all = new ArrayList<>();
        for (long i = 0; i < list.count(); i++) all.add(new Param(list.name(i), Tensor.longs(list.dims(i)), list.trainable(i)));
        list.delete();
        return all;
    }

    /** A whole parameter, or its gradient or moment, in float32. */
    public Tensor param(String name, What what) {
        return call(() -> new Tensor(n.parameter(name, what.ordinal())));
    }

    public void setParam(String name, What what, Tensor t) {
        run(() -> n.put_param(name, what.ordinal(), t.n), t);
    }

    /** Writes a checkpoint, named after the step. */
    public void save(String dir) {
        save(dir, null, null);
    }

    /** tag and options may be null; options as Map.of("client_state", 3, "async", true). */
    public void save(String dir, String tag, Map<String, ?> options) {
        run(() -> n.save(dir, tag, Callbacks.json(options)));
    }

    /** Loads the latest checkpoint. */
    public void load(String dir) {
        load(dir, null);
    }

    public void load(String dir, String tag) {
        load(dir, tag, null);
    }

    /** tag null: the latest. options as Map.of("weights_only", true). */
    public void load(String dir, String tag, Map<String, ?> options) {
        run(() -> n.load(dir, tag, Callbacks.json(options)));
    }

    /** Writes a Hugging Face folder. */
    public void export(String dir) {
        export(dir, null);
    }

    /** options as Map.of("dtype", "bf16"), or Map.of("adapter", true) for a LoRA adapter alone. */
    public void export(String dir, Map<String, ?> options) {
        run(() -> n.export_folder(dir, Callbacks.json(options)));
    }

    /** Writes a self-contained report.html: curves, memory plan, timeline. */
    public void report(String path) {
        report(path, null);
    }

    /** contents: a title, a summary and charts beside the engine's own, as a map or JSON text. */
    public void report(String path, Object contents) {
        run(() -> n.report(path, Callbacks.json(contents)));
    }

    /** Continues a prompt; the new ids. options may be null: Map.of("max_new_tokens", 20, "temperature", 0). */
    public int[] generate(int[] prompt, Object options) {
        return generate(prompt, options, null);
    }

    /** The same; the listener (may be null) hears of ids as they come, and stops by false. */
    public int[] generate(int[] prompt, Object options, TokenListener listener) {
        Callbacks.Tokens sink = listener == null ? null : new Callbacks.Tokens(listener);
        io.dsrt.swig.Ids made = call(() -> n.generated(Tensor.ints(prompt), Callbacks.json(options), sink));
        int[] ids = Tensor.ints(made.memory());
        made.delete();
        return ids;
    }

    /** The same for several prompts at once, of any lengths, which is much faster than one by one; the new ids of each. */
    public int[][] generateBatch(int[][] prompts, Object options) {
        return generateBatch(prompts, options, null);
    }

    /** The listener (may be null) hears of new ids of each row, and ends a row by false. */
    public int[][] generateBatch(int[][] prompts, Object options, RowTokenListener listener) {
        long[] lengths = Arrays.stream(prompts).mapToLong(p -> p.length).toArray();
        int[] all = Arrays.stream(prompts).flatMapToInt(Arrays::stream).toArray();
        Callbacks.RowTokens sink = listener == null ? null : new Callbacks.RowTokens(listener);
        io.dsrt.swig.Ids made = call(() -> n.generated_rows(Tensor.ints(all), Tensor.longs(lengths), Callbacks.json(options), sink));
        int[] ids = Tensor.ints(made.memory());
        long[] counts = Tensor.longs(made.counts());
        made.delete();
        int[][] rows = new int[counts.length][];
        for (int row = 0, at = 0; row < rows.length; at += rows[row++].length) rows[row] = Arrays.copyOfRange(ids, at, at + (int) counts[row]);
        return rows;
    }

    /** From text to text. options and listener may be null; the listener hears of the new text as it becomes certain, and stops by false. */
    public String generateText(Tokenizer tokenizer, String prompt, Object options, TextListener listener) {
        return generateText(tokenizer, prompt, true, options, listener);
    }

    /** specialTokens false: the prompt has them already, as a chat template's text. */
    public String generateText(Tokenizer tokenizer, String prompt, boolean specialTokens, Object options, TextListener listener) {
        StringBuilder all = new StringBuilder();
        boolean[] on = {true};
        try (TextStream stream = new TextStream(tokenizer)) {
            TextListener heard = piece -> {
                all.append(piece);
                if (on[0] && listener != null && !piece.isEmpty()) on[0] = listener.text(piece);
                return on[0];
            };
            generate(tokenizer.encode(prompt, null, specialTokens).ids, options, ids -> heard.text(stream.put(ids)));
            heard.text(stream.end());
        } catch (Exception e) {
            throw Callbacks.sneak(e);
        }
        return all.toString();
    }

    /** Frees threads, memory and files, and cancels a call that runs on another thread; later calls throw. */
    @Override
    public void close() {
        alive(n::close, this);
    }
}
