import io.dsrt.Batch;
import io.dsrt.DType;
import io.dsrt.Data;
import io.dsrt.DsrtException;
import io.dsrt.Engine;
import io.dsrt.Tensor;
import io.dsrt.Tokenizer;
import java.util.Map;
import java.util.function.Supplier;

/** The mistakes of tests/bindings/mistakes.c, in Java. */
public class Mistakes {
    static final String CONFIG = "{\"model\": {\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"vocab_size\": 11, "
        + "\"n_positions\": 16, \"n_embd\": 8, \"n_layer\": 1, \"n_head\": 2}, \"threads\": 1, \"train_micro_batch_size_per_gpu\": 2, "
        + "\"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.01}}}";

    static <T> T say(String what, Supplier<T> call) {
        try {
            T made = call.get();
            System.out.println(what + ": DS_OK: went well");
            return made;
        } catch (DsrtException e) {
            System.out.println(what + ": " + e.code().cName() + ": " + e.getMessage());
            return null;
        }
    }

    static void say(String what, Runnable call) {
        say(what, () -> {
            call.run();
            return null;
        });
    }

    public static void main(String[] arguments) {
        say("unknown key", () -> new Engine("{\"optimiser\": {}}"));
        say("broken json", () -> new Engine("{\"model\": "));
        say("no model", () -> new Engine(Map.of("model", "no/such/folder")));
        say("no config", () -> new Engine("no/such/config.json"));
        Engine engine = say("good config", () -> new Engine(CONFIG));
        say("early backward", () -> engine.backward());
        say("early step", (Supplier<Object>) engine::step);
        say("unknown metric", (Supplier<Object>) () -> engine.metric("speed"));
        say("unknown parameter", () -> engine.param("h.7.w", Engine.What.WEIGHT));
        say("unknown setting", () -> engine.set("optimizer.params.lear", 1));
        say("bad setting", () -> engine.set("optimizer.params.lr", "fast"));
        say("fixed setting", () -> engine.set("seed", 1));
        say("unknown value", (Supplier<Object>) () -> engine.get("no.such.key"));
        say("no checkpoint", () -> engine.load("no/such/folder"));
        say("early output", (Supplier<Object>) () -> engine.output("logits"));
        say("bad shape", () -> Tensor.zeros(DType.FLOAT32, -2));
        Tensor tensor = say("tensor", () -> Tensor.of(new long[] {1, 2, 30}, 1, 3));
        Batch batch = say("batch", () -> new Batch());
        say("nothing of that name", (Supplier<Object>) () -> batch.get("labels"));
        say("empty batch", (Supplier<Object>) () -> engine.predict(batch, "logits"));
        say("ids", (Supplier<Object>) () -> batch.set("input_ids", tensor));
        say("id beyond the vocabulary", (Supplier<Object>) () -> engine.predict(batch, "logits"));
        say("unknown input", (Supplier<Object>) () -> batch.set("colour", tensor));
        say("unknown input used", (Supplier<Object>) () -> engine.predict(batch, "logits"));
        say("no data", () -> new Data("{\"files\": \"no/such/rows.csv\", \"columns\": {\"text\": \"review\"}}", null));
        say("unknown data option", () -> new Data(Map.of("file", "rows.csv"), null));
        say("no tokenizer", () -> new Tokenizer("no/such/tokenizer.json"));
        say("bad prompt", (Supplier<Object>) () -> engine.generate(new int[] {99}, null));
        say("bad option", (Supplier<Object>) () -> engine.generate(new int[] {99}, Map.of("heat", 1)));
    }
}
