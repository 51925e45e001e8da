using System;
using System.Diagnostics;
using Dsrt;

static class Calls {
    static void Main() {
        using (var engine = new Engine("examples/first/config.json")) {
            double best = 1e18;
            for (int round = 0; round < 20; ++round) {
                Stopwatch watch = Stopwatch.StartNew();
                for (int i = 0; i < 20000; ++i) engine.Metric("global_steps");
                best = Math.Min(best, watch.Elapsed.TotalMilliseconds * 1e6 / 20000);
            }
            Console.WriteLine("{0:F0}", best);
        }
    }
}
