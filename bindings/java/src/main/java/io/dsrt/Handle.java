package io.dsrt;

import java.lang.ref.Cleaner;
import java.lang.ref.Reference;

/** What owns something of the library: freed when it is no longer reachable, or earlier by close(); calls afterwards throw. */
abstract class Handle implements AutoCloseable {
    private static final Cleaner CLEANER = Cleaner.create();

    /** Frees `delete`'s object once this is unreachable. delete must not refer to this. */
    final void owns(Runnable delete) {
        owns(this, delete);
    }

    /** The same once `by` is unreachable. */
    static void owns(Object by, Runnable delete) {
        CLEANER.register(by, delete);
    }

    /** The result of a call during which these objects must not be freed. */
    static <T> T alive(T result, Object... during) {
        for (Object o : during) Reference.reachabilityFence(o);
        return result;
    }

    static void alive(Runnable call, Object... during) {
        try {
            call.run();
        } finally {
            for (Object o : during) Reference.reachabilityFence(o);
        }
    }

    @Override
    public abstract void close();
}
