package io.dsrt;

import java.util.Iterator;
import java.util.NoSuchElementException;

/** A source of batches; iterating it goes through one epoch. */
public final class Data extends Handle implements Iterable<Batch> {
    final io.dsrt.swig.Data n;

    private Data(io.dsrt.swig.Data n) {
        this.n = n;
        owns(n::delete);
    }

    /** The files that the engine's config names under "data". */
    public Data(Engine engine) {
        this(new io.dsrt.swig.Data(engine.n));
        alive((Object) null, engine);
    }

    /** Files with options of their own: a map or JSON text. engine null: all rows. */
    public Data(Object options, Engine engine) {
        this(new io.dsrt.swig.Data(Callbacks.json(options), engine == null ? null : engine.n));
        alive((Object) null, engine);
    }

    /** An iterator of the host's own. With an engine, its place is kept in the engine's checkpoints. */
    public static Data from(DataSource source, Engine engine) {
        return alive(new Data(io.dsrt.swig.dsrt.open_source(new Callbacks.Source(source), engine == null ? null : engine.n)), engine);
    }

    /** The next micro-batch, or null at the end of an epoch; the call after that starts the next one. */
    public Batch next() {
        Batch batch = new Batch();
        return alive(n.next(batch.n), this) ? batch : null;
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
