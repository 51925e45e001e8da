using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;

namespace Dsrt {

/// <summary>What a step came to: Updated, Skipped (an fp16 gradient overflowed), Pending (more micro-batches are needed).</summary>
public enum Outcome { Updated, Skipped, Pending }

/// <summary>What of a parameter.</summary>
public enum What { Weight, Grad, FirstMoment, SecondMoment }

/// <summary>One step of TrainBatch.</summary>
public sealed class Step {
    public long Number { get; internal set; }
    public float Loss { get; internal set; }
    public Outcome Outcome { get; internal set; }
}

/// <summary>A parameter, by its name in model.safetensors.</summary>
public sealed class Param {
    public string Name { get; internal set; }
    public long[] Shape { get; internal set; }
    public bool Trainable { get; internal set; }
}

/// <summary>A switch that any thread may set: running calls of the engines it was given to end with Code.Cancelled.</summary>
public sealed class Cancel : IDisposable {
    internal readonly Swig.Cancel n = new Swig.Cancel();

    public void Set(bool on = true) { n.set(on); }

    public void Dispose() { n.close(); }
}

/// <summary>A model, its optimizer and its schedule, trained with DeepSpeed's semantics. One call at a time (Code.Busy), but for Metric.</summary>
public sealed class Engine : IDisposable {
    internal readonly Swig.Engine n;

    /// <summary>config: an object by its properties (new { model = "minilm" }), a dictionary, JSON text, the path of a JSON file, or null for
    /// what DSRT_CONFIG or DEEPSPEED_CONFIG holds. mpi: the communicator of the job, as MPI_Comm_c2f gives it.</summary>
    public Engine(object config, Graph graph = null, Cancel cancel = null, IOptimizer optimizer = null, int? mpi = null) {
        using (Swig.Options options = MakeOptions(graph, cancel, optimizer, mpi)) n = Call(() => new Swig.Engine(Json.Text(config), options));
    }

    internal static Swig.Options MakeOptions(Graph graph, Cancel cancel, IOptimizer optimizer, int? mpi) {
        var options = new Swig.Options();
        if (graph != null) options.set_graph(graph.n);
        if (cancel != null) options.set_cancel(cancel.n);
        if (mpi.HasValue) options.set_mpi(mpi.Value);
        if (optimizer != null) options.set_updater(optimizer.StatePerElement, new OptimizerCallback(optimizer));
        return options;
    }

    static T Call<T>(Func<T> call) { return Thrown.Call(call); }

    static void Call(Action call) {
        Call<object>(() => {
            call();
            return null;
        });
    }

    /// <summary>Runs one micro-batch in training mode; the mean loss over unignored labels.</summary>
    public float Forward(Batch b) { return Call(() => n.forward(b.n)); }

    /// <summary>The same without waiting for a loss; labels are not needed.</summary>
    public void ForwardOnly(Batch b) { Call(() => n.forward_only(b.n)); }

    public void Backward() { Call(() => n.backward()); }

    /// <summary>The gradient of a loss of the host's own, by output name.</summary>
    public void Backward(Batch gradients) { Call(() => n.backward_from(gradients.n)); }

    public Outcome Step() { return (Outcome)Call(() => n.update()); }

    public void ZeroGrad() { Call(() => n.zero_grad()); }

    /// <summary>Forward, backward and step over one global batch; null at the end of an epoch, and nothing was done.</summary>
    public Step TrainBatch(Data data) {
        using (Swig.Trained t = Call(() => n.train(data.n)))
            return t.outcome == 3 ? null : new Step { Number = (long)Metric("global_steps"), Loss = t.loss, Outcome = (Outcome)t.outcome };
    }

    /// <summary>Trains while it is iterated, to the end of an epoch.</summary>
    public IEnumerable<Step> Epoch(Data data) {
        for (Step step; (step = TrainBatch(data)) != null;) yield return step;
    }

    /// <summary>The loss without dropout; a pending forward and gradients stay.</summary>
    public float Eval(Batch b) { return Call(() => n.eval(b.n)); }

    /// <summary>JSON: the scores of the model's task on rows. data as Data's options, null: what the config's split keeps from training.</summary>
    public string Evaluate(object data = null, object options = null) { return Call(() => n.evaluate(Json.Text(data), Json.Text(options))); }

    /// <summary>An output without dropout, labels or loss.</summary>
    public Tensor Predict(Batch b, string output = "logits") {
        Call(() => n.eval_only(b.n));
        return Output(output);
    }

    /// <summary>An output of the later of the last forward and the last eval, a snapshot.</summary>
    public Tensor Output(string name) { return Call(() => new Tensor(n.output_of(name))); }

    /// <summary>loss, lr, grad_norm, global_steps, tokens_per_second ... at any time, from any thread.</summary>
    public double Metric(string name) { return n.metric(name); }

    /// <summary>Changes at run time what can be: "optimizer.params.lr", "gradient_clipping" ...</summary>
    public void Set(string key, object value) { Call(() => n.set_json(key, Json.Write(value))); }

    /// <summary>The effective value of a key, as JSON; "" is the whole effective config.</summary>
    public string Get(string key) { return Call(() => n.get_json(key)); }

    public IReadOnlyList<Param> Params() {
        var all = new List<Param>();
        using (Swig.Params list = Call(() => n.parameters_list()))
            for (uint i = 0; i < list.count(); ++i) all.Add(new Param { Name = list.name(i), Shape = list.dims(i).Copy<long>(), Trainable = list.trainable(i) });
        return all;
    }

    /// <summary>A whole parameter, or its gradient or moment, in float32.</summary>
    public Tensor GetParam(string name, What what = What.Weight) { return Call(() => new Tensor(n.parameter(name, (int)what))); }

    public void SetParam(string name, Tensor t, What what = What.Weight) { Call(() => n.put_param(name, (int)what, t.n)); }

    /// <summary>Writes a checkpoint. options: new { client_state = 3 }.</summary>
    public void Save(string dir, string tag = null, object options = null) { Call(() => n.save(dir, tag, Json.Text(options))); }

    /// <summary>Loads a checkpoint, the latest without a tag. options: new { weights_only = true }.</summary>
    public void Load(string dir, string tag = null, object options = null) { Call(() => n.load(dir, tag, Json.Text(options))); }

    /// <summary>Writes a Hugging Face folder. options: new { dtype = "bf16" }, or new { adapter = true } for a LoRA adapter alone.</summary>
    public void Export(string dir, object options = null) { Call(() => n.export_folder(dir, Json.Text(options))); }

    /// <summary>Writes a self-contained report.html: curves, memory plan, timeline. contents: a title, a summary and charts beside the engine's own.</summary>
    public void Report(string path, object contents = null) { Call(() => n.report(path, Json.Text(contents))); }

    /// <summary>Continues a prompt; the new ids. options: new { max_new_tokens = 20 }. onTokens hears of ids as they come, and stops by false.</summary>
    public int[] Generate(int[] prompt, object options = null, Func<int[], bool> onTokens = null) {
        TokenCallback sink = onTokens == null ? null : new TokenCallback(onTokens);
        Swig.Ids made = Call(() => Memory.Lend<int, Swig.Ids>(prompt, p => n.generated(p, Json.Text(options), sink)));
        using (made) return made.memory().Copy<int>();
    }

    /// <summary>The same for several prompts at once, of any lengths, which is much faster than one by one; the new ids of each. onTokens(row, ids)
    /// ends a row by false.</summary>
    public int[][] GenerateBatch(int[][] prompts, object options = null, Func<int, int[], bool> onTokens = null) {
        RowTokenCallback sink = onTokens == null ? null : new RowTokenCallback(onTokens);
        int[] all = prompts.SelectMany(p => p).ToArray();
        long[] lengths = prompts.Select(p => p.LongLength).ToArray();
        Swig.Ids made = Call(() => Memory.Lend<int, Swig.Ids>(all, p => Memory.Lend<long, Swig.Ids>(lengths, l => n.generated_rows(p, l, Json.Text(options), sink))));
        using (made) {
            int[] ids = made.memory().Copy<int>();
            int at = 0;
            return made.counts().Copy<long>().Select(count => {
                int[] row = ids.Skip(at).Take((int)count).ToArray();
                at += row.Length;
                return row;
            }).ToArray();
        }
    }

    /// <summary>From text to text. onText hears of the new text as it becomes certain, in whole characters, and stops by false. specialTokens false:
    /// the prompt has them already, as a chat template's text.</summary>
    public string GenerateText(Tokenizer tokenizer, string prompt, object options = null, Func<string, bool> onText = null, bool specialTokens = true) {
        var all = new StringBuilder();
        bool on = true;
        Func<string, bool> heard = piece => {
            all.Append(piece);
            if (on && onText != null && piece.Length > 0) on = onText(piece);
            return on;
        };
        using (var stream = new TextStream(tokenizer)) {
            Generate(tokenizer.Encode(prompt, null, specialTokens).Ids, options, ids => heard(stream.Put(ids)));
            heard(stream.End());
        }
        return all.ToString();
    }

    /// <summary>Frees threads, memory and files, and cancels a call that runs on another thread; later calls throw.</summary>
    public void Dispose() { n.close(); }
}

}
