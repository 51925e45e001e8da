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
            private Batch found; // by hasNext() only: what is read ahead is lost to a checkpoint
            private boolean over;

            @Override
            public boolean hasNext() {
                if (found == null && !over) over = (found = Data.this.next()) == null;
                return !over;
            }

            @Override
            public Batch next() {
                if (!hasNext()) throw new NoSuchElementException();
                Batch now = found;
                found = null;
                return now;
            }
        };
    }

    @Override
    public void close() {
        alive(n::close, this);
    }
}
