package io.dsrt;

import io.dsrt.swig.Bridge;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.util.ArrayList;
import java.util.List;
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

    private static final String FAILED_LOG = "the host's log failed"; // as the native side says it
    // What a callback threw. Callbacks run on the thread of the call that they belong to. The log's can't stop the call, so it is kept by itself.
    private static final ThreadLocal<Throwable> THROWN = new ThreadLocal<>(), LOG_THREW = new ThreadLocal<>();

    private static int run(Callable<Boolean> callback) {
        try {
            return callback.call() ? GO_ON : STOP;
        } catch (Throwable t) {
            THROWN.set(t);
            return FAILED;
        }
    }

    /** What the call failed with: what a callback threw, where that is what failed. */
    static Throwable cause(DsrtException e) {
        if (e.code() != DsrtException.Code.USER) return e;
        ThreadLocal<Throwable> from = FAILED_LOG.equals(e.getMessage()) ? LOG_THREW : THROWN;
        Throwable t = from.get();
        from.remove();
        return t == null ? e : t;
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
        private final DataSource source;

        Source(DataSource source) {
            sweep();
            this.source = source;
            LIVE.add(this);
        }

        @Override
        public int next(io.dsrt.swig.Batch batch) {
            return run(() -> source.next(new Batch(batch, false)));
        }

        @Override
        public boolean keeps_cursor() {
            return source instanceof DataSource.WithCursor;
        }

        @Override
        public int save(io.dsrt.swig.Text cursor) {
            return run(() -> {
                cursor.put(((DataSource.WithCursor) source).save());
                return true;
            });
        }

        @Override
        public int restore(String cursor) {
            return run(() -> {
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
            return run(() -> {
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

    static final class HostOp extends io.dsrt.swig.HostOp {
        private final Op op;

        HostOp(Op op) {
            sweep();
            this.op = op;
            LIVE.add(this);
        }

        private static List<Op.Value> values(io.dsrt.swig.OpCall call, int list) {
            List<Op.Value> all = new ArrayList<>();
            for (int i = 0; i < call.count(list); ++i) {
                ByteBuffer memory = call.wanted(list, i) ? call.memory(list, i) : null;
                all.add(new Op.Value(DType.values()[call.kind(list, i)], Tensor.longs(call.dims(list, i)), memory));
            }
            return all;
        }

        @Override
        public boolean has_shapes() {
            return op instanceof Op.WithShapes;
        }

        @Override
        public boolean has_gradient() {
            return op instanceof Op.WithGradient;
        }

        @Override
        public int shapes(String attributes, io.dsrt.swig.OpCall call) {
            return run(() -> {
                for (long[] shape : ((Op.WithShapes) op).shapes(attributes, values(call, 0))) call.put_shape(Tensor.longs(shape));
                return true;
            });
        }

        @Override
        public int forward(String attributes, io.dsrt.swig.OpCall call) {
            return run(() -> {
                op.forward(attributes, values(call, 0), values(call, 1));
                return true;
            });
        }

        @Override
        public int backward(String attributes, io.dsrt.swig.OpCall call) {
            return run(() -> {
                ((Op.WithGradient) op).backward(attributes, values(call, 0), values(call, 1), values(call, 2), values(call, 3));
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
        private final TokenListener listener;

        Tokens(TokenListener listener) {
            sweep();
            this.listener = listener;
            LIVE.add(this);
        }

        @Override
        public int tokens(long ids, long n) {
            return run(() -> listener.tokens(ids(ids, n)));
        }

        @Override
        public void released() {
            LIVE.remove(this);
            RELEASED.add(this::delete);
        }
    }

    static final class RowTokens extends io.dsrt.swig.RowTokenSink {
        private final RowTokenListener listener;

        RowTokens(RowTokenListener listener) {
            sweep();
            this.listener = listener;
            LIVE.add(this);
        }

        @Override
        public int tokens(long row, long ids, long n) {
            return run(() -> listener.tokens((int) row, ids(ids, n)));
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
        private final Dsrt.LogListener listener;

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
                LOG_THREW.set(t);
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
