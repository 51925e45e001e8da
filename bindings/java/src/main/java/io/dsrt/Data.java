package io.dsrt;

import java.util.Iterator;
import java.util.NoSuchElementException;

/** A source of batches; iterating it goes through one epoch. */
public final class Data extends Handle implements Iterable<Batch> {
    final io.dsrt.swig.Data n;
    final Callbacks.Thrown thrown;

    private Data(io.dsrt.swig.Data n, Callbacks.Thrown thrown) {
        this.n = n;
        this.thrown = thrown;
        owns(n::delete);
    }

    /** The files that the engine's config names under "data". */
    public Data(Engine engine) {
        this(new io.dsrt.swig.Data(engine.n), (Callbacks.Thrown) null);
        alive((Object) null, engine);
    }

    /** Files with options of their own: a map or JSON text. engine null: all rows. */
    public Data(Object options, Engine engine) {
        this(new io.dsrt.swig.Data(Callbacks.json(options), engine == null ? null : engine.n), (Callbacks.Thrown) null);
        alive((Object) null, engine);
    }

    /** An iterator of the host's own. With an engine, its place is kept in the engine's checkpoints. */
    public static Data from(DataSource source, Engine engine) {
        Callbacks.Source wrapped = new Callbacks.Source(source);
        Data made = new Data(io.dsrt.swig.dsrt.open_source(wrapped, engine == null ? null : engine.n), wrapped.thrown);
        if (engine != null) engine.thrown.add(wrapped.thrown);
        return alive(made, engine);
    }

    /** The next micro-batch, or null at the end of an epoch; the call after that starts the next one. */
    public Batch next() {
        Batch batch = new Batch();
        try {
            return alive(n.next(batch.n), this) ? batch : null;
        } catch (DsrtException e) {
            throw thrown == null ? e : thrown.cause(e);
        }
    }

    @Override
    public Iterator<Batch> iterator() {
        return new Iterator<>() {
            private Batch ahead = Data.this.next();

            @Override
            public boolean hasNext() {
                return ahead != null;
            }

            @Override
            public Batch next() {
                if (ahead == null) throw new NoSuchElementException();
                Batch now = ahead;
                ahead = Data.this.next();
                return now;
            }
        };
    }

    @Override
    public void close() {
        alive(n::close, this);
    }
}
