import io.dsrt.Engine;

public class Calls {
    public static void main(String[] arguments) {
        try (Engine engine = new Engine("examples/first/config.json")) {
            double best = 1e18;
            for (int round = 0; round < 20; ++round) {
                long begin = System.nanoTime();
                for (int i = 0; i < 20000; ++i) engine.metric("global_steps");
                best = Math.min(best, (System.nanoTime() - begin) / 20000.0);
            }
            System.out.printf("%.0f%n", best);
        }
    }
}
