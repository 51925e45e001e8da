package io.dsrt;

/** The library itself: versions, the config's keys, the log. */
public final class Dsrt {
    private Dsrt() {}

    /** Levels of the log. */
    public enum Level { TRACE, DEBUG, INFO, WARN, ERROR, OFF }

    /** Receives messages of the log. */
    @FunctionalInterface
    public interface LogListener {
        void log(Level level, String component, String message);
    }

    /** "0.1.0". */
    public static String version() {
        return io.dsrt.swig.dsrt.version();
    }

    /** Major << 16 | minor of the library's ABI. */
    public static int abiVersion() {
        return (int) io.dsrt.swig.dsrt.abi_version();
    }

    /** JSON: compiler, instruction levels, libraries, optional parts, devices. */
    public static String buildInfo() {
        return io.dsrt.swig.dsrt.build_info();
    }

    /** JSON: every key of the config with type, default and meaning. */
    public static String configDescribe() {
        return io.dsrt.swig.dsrt.config_describe();
    }

    /** JSON: every op of graphs with inputs, outputs and attributes. */
    public static String graphOps() {
        return io.dsrt.swig.Graph.ops_json();
    }

    /** JSON: what a run of this config would need in memory, FLOPs and traffic. Runs nothing. */
    public static String plan(Object config) {
        return plan(config, null);
    }

    /** With parts of the host's own, such as a graph; options may be null. */
    public static String plan(Object config, Engine.Options options) {
        io.dsrt.swig.Options o = Engine.Options.made(options);
        try {
            return Handle.alive(io.dsrt.swig.Engine.plan(Callbacks.json(config), o), options);
        } finally {
            if (o != null) o.delete();
        }
    }

    /** JSON: scores of predictions ("spans", "squad", "bleu"). Both are lists or JSON text. */
    public static String score(String metric, Object predictions, Object references) {
        return io.dsrt.swig.dsrt.score(metric, Callbacks.json(predictions), Callbacks.json(references));
    }

    /** Sends messages of level and above to the listener; null: back to stderr, warnings and errors only. What the listener throws comes out of the
     * call that logged, once that has done its work. */
    public static void setLog(LogListener listener, Level level) {
        io.dsrt.swig.dsrt.set_log_sink(listener == null ? null : new Callbacks.Sink(listener), level.ordinal());
    }
}
