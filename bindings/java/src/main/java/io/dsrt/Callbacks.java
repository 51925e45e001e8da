package io.dsrt;

import io.dsrt.swig.Bridge;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;

/** Callbacks of Java as objects that C++ calls. What they throw is kept here until the call that ran them is over: nothing unwinds through C++. */
final class Callbacks {
    private Callbacks() {}

    private static final int FAILED = -14, GO_ON = 0, STOP = 1;
    private static final Set<Object> LIVE = ConcurrentHashMap.newKeySet(); // C++ refers to these
    private static final Queue<Runnable> RELEASED = new ConcurrentLinkedQueue<>();

    /** Frees what C++ no longer refers to. Not in released() itself, which still runs in the object. */
    private static void sweep() {
        for (Runnable delete; (delete = RELEASED.poll()) != null; ) delete.run();
    }

    /** What a callback threw. */
    static final class Thrown {
        private Throwable thrown;

        synchronized int run(Callable<Boolean> callback) {
            try {
                return callback.call() ? GO_ON : STOP;
            } catch (Throwable t) {
                thrown = t;
                return FAILED;
            }
        }

        /** Throws what a callback threw, where the call failed because of it. */
        synchronized RuntimeException cause(DsrtException e) {
            Throwable t = thrown;
            thrown = null;
            if (t == null || e.code() != DsrtException.Code.USER) return e;
            return sneak(t);
        }
    }

    /** Throws it as it was, checked or not. */
    static RuntimeException sneak(Throwable t) {
        return Callbacks.<RuntimeException>cast(t);
    }

    @SuppressWarnings("unchecked")
    private static <T extends Throwable> RuntimeException cast(Throwable t) throws T {
        throw (T) t;
    }

    static final class Source extends io.dsrt.swig.BatchSource {
        final Thrown thrown = new Thrown();
        private final DataSource source;

        Source(DataSource source) {
            sweep();
            this.source = source;
            LIVE.add(this);
        }

        @Override
        public int next(io.dsrt.swig.Batch batch) {
            return thrown.run(() -> source.next(new Batch(batch, false)));
        }

        @Override
        public boolean keeps_cursor() {
            return source instanceof DataSource.WithCursor;
        }

        @Override
        public int save(io.dsrt.swig.Text cursor) {
            return thrown.run(() -> {
                cursor.put(((DataSource.WithCursor) source).save());
                return true;
            });
        }

        @Override
        public int restore(String cursor) {
            return thrown.run(() -> {
                ((DataSource.WithCursor) source).restore(cursor);
                return true;
            });
        }

        @Override
        public void released() {
            LIVE.remove(this);
            RELEASED.add(this::delete);
        }
    }

    static final class Updater extends io.dsrt.swig.Updater {
        final Thrown thrown = new Thrown();
        private final Optimizer optimizer;

        Updater(Optimizer optimizer) {
            sweep();
            this.optimizer = optimizer;
            LIVE.add(this);
        }

        private static FloatBuffer floats(long address, long n) {
            return Bridge.ordered(io.dsrt.swig.dsrt.memory_at(address, 4 * n)).asFloatBuffer();
        }

        @Override
        public int update(String parameter, long step, double lr, long weight, long gradient, long state, long n) {
            return thrown.run(() -> {
                optimizer.update(parameter, step, lr, floats(weight, n), floats(gradient, n).asReadOnlyBuffer(),
                    floats(state, n * optimizer.statePerElement()));
                return true;
            });
        }

        @Override
        public void released() {
            LIVE.remove(this);
            RELEASED.add(this::delete);
        }
    }

    static final class Tokens extends io.dsrt.swig.TokenSink {
        final Thrown thrown = new Thrown();
        private final TokenListener listener;

        Tokens(TokenListener listener) {
            sweep();
            this.listener = listener;
            LIVE.add(this);
        }

        @Override
        public int tokens(long ids, long n) {
            return thrown.run(() -> listener.tokens(ids(ids, n)));
        }

        @Override
        public void released() {
            LIVE.remove(this);
            RELEASED.add(this::delete);
        }
    }

    static final class RowTokens extends io.dsrt.swig.RowTokenSink {
        final Thrown thrown = new Thrown();
        private final RowTokenListener listener;

        RowTokens(RowTokenListener listener) {
            sweep();
            this.listener = listener;
            LIVE.add(this);
        }

        @Override
        public int tokens(long row, long ids, long n) {
            return thrown.run(() -> listener.tokens((int) row, ids(ids, n)));
        }

        @Override
        public void released() {
            LIVE.remove(this);
            RELEASED.add(this::delete);
        }
    }

    private static int[] ids(long address, long n) {
        int[] copy = new int[(int) n];
        IntBuffer memory = Bridge.ordered(io.dsrt.swig.dsrt.memory_at(address, 4 * n)).asIntBuffer();
        memory.get(copy);
        return copy;
    }

    static final class Sink extends io.dsrt.swig.LogSink {
        private static final String FAILED_LOG = "the host's log failed"; // as the native side says it
        private static final ThreadLocal<Throwable> THROWN = new ThreadLocal<>(); // by the call of this thread that logged
        private final Dsrt.LogListener listener;

        /** What the log threw, where that is what failed. */
        static Throwable cause(DsrtException e) {
            Throwable t = THROWN.get();
            THROWN.remove();
            return t == null || !FAILED_LOG.equals(e.getMessage()) ? e : t;
        }

        Sink(Dsrt.LogListener listener) {
            sweep();
            this.listener = listener;
            LIVE.add(this);
        }

        @Override
        public int log(int level, String component, String message) {
            try {
                listener.log(Dsrt.Level.values()[level], component, message);
                return GO_ON;
            } catch (Throwable t) {
                THROWN.set(t);
                return FAILED;
            }
        }

        @Override
        public void released() {
            LIVE.remove(this);
            RELEASED.add(this::delete);
        }
    }

    static int live() {
        return LIVE.size();
    }

    static String json(Object value) {
        return value == null || value instanceof String ? (String) value : Json.write(value);
    }
}
