// Trains the model of examples/first/config.json, keeps a checkpoint, and lets the model write. Run it from the root of the repository:
//     mcs -r:Dsrt.dll examples/csharp/Train.cs -out:Train.exe && mono Train.exe FOLDER STEPS [--resume]
// STEPS counts from the beginning of training, across runs. The last column is the loss again, bit by bit: all languages print the same.
using System;
using System.Globalization;
using Dsrt;

static class Train {
    static void Run(string folder, double steps, bool resume) {
        using (var engine = new Engine("examples/first/config.json"))
        using (var data = new Data(engine)) {
            if (resume) {
                engine.Load(folder);
                Console.WriteLine("resumed at step {0}", engine.Metric("global_steps"));
            }
            while (engine.Metric("global_steps") < steps) {
                Step step = engine.TrainBatch(data);
                if (step == null) continue;  // the next call begins the next epoch
                int bits = BitConverter.ToInt32(BitConverter.GetBytes(step.Loss), 0);
                Console.WriteLine("step {0}  loss {1:F4}  {2:x8}", step.Number, step.Loss, bits);
            }
            engine.Save(folder);

            using (var tokenizer = new Tokenizer("examples/pretrain/tokenizer.json")) {
                int[] ids = engine.Generate(tokenizer.Encode("'Twas ").Ids, new { max_new_tokens = 60, temperature = 0 });
                Console.WriteLine("writes: " + tokenizer.Decode(ids).Replace("\n", " / "));
            }
        }
    }

    static int Main(string[] arguments) {
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        if (arguments.Length < 2) {
            Console.Error.WriteLine("usage: Train FOLDER STEPS [--resume]");
            return 2;
        }
        try {
            Run(arguments[0], double.Parse(arguments[1]), arguments.Length > 2);
            return 0;
        } catch (DsrtException e) {
            Console.Error.WriteLine(e.CodeName + ": " + e.Message);
            return 1;
        }
    }
}
