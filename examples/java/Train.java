import io.dsrt.Data;
import io.dsrt.DsrtException;
import io.dsrt.Engine;
import io.dsrt.Tokenizer;
import java.util.Map;

/**
 * Trains the model of examples/first/config.json, keeps a checkpoint, and lets the model write. Run it from the root of the repository:
 * <pre>java -cp dsrt.jar examples/java/Train.java FOLDER STEPS [--resume]</pre>
 * STEPS counts from the beginning of training, across runs. The last column is the loss again, bit by bit: all languages print the same.
 */
public class Train {
    static void train(String folder, double steps, boolean resume) {
        try (Engine engine = new Engine("examples/first/config.json"); Data data = new Data(engine)) {
            if (resume) {
                engine.load(folder);
                System.out.printf("resumed at step %.0f%n", engine.metric("global_steps"));
            }
            while (engine.metric("global_steps") < steps) {
                Engine.Step step = engine.trainBatch(data);
                if (step == null) continue; // the next call begins the next epoch
                System.out.printf("step %d  loss %.4f  %08x%n", step.number, step.loss, Float.floatToIntBits(step.loss));
            }
            engine.save(folder);

            try (Tokenizer tokenizer = new Tokenizer("examples/pretrain/tokenizer.json")) {
                int[] prompt = tokenizer.encode("'Twas ").ids;
                int[] ids = engine.generate(prompt, Map.of("max_new_tokens", 60, "temperature", 0));
                System.out.println("writes: " + tokenizer.decode(ids, true).replace("\n", " / "));
            }
        }
    }

    public static void main(String[] arguments) {
        if (arguments.length < 2) {
            System.err.println("usage: Train FOLDER STEPS [--resume]");
            System.exit(2);
        }
        try {
            train(arguments[0], Double.parseDouble(arguments[1]), arguments.length > 2);
        } catch (DsrtException e) {
            System.err.println(e.code().cName() + ": " + e.getMessage());
            System.exit(1);
        }
    }
}
