package io.dsrt;

/** A switch that any thread may set: running calls of the engines it was given to end with code CANCELLED. */
public final class Cancel extends Handle {
    final io.dsrt.swig.Cancel n = new io.dsrt.swig.Cancel();

    public Cancel() {
        owns(n::delete);
    }

    public void set(boolean on) {
        alive(() -> n.set(on), this);
    }

    @Override
    public void close() {
        alive(n::close, this);
    }
}
