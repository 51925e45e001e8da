using System;
using System.Collections;
using System.Collections.Generic;

namespace Dsrt {

/// <summary>A source of batches; foreach goes through one epoch.</summary>
public sealed class Data : IDisposable, IEnumerable<Batch> {
    internal readonly Swig.Data n;
    internal readonly Thrown thrown;

    Data(Swig.Data n, Thrown thrown) {
        this.n = n;
        this.thrown = thrown;
    }

    /// <summary>The files that the engine's config names under "data".</summary>
    public Data(Engine engine) : this(new Swig.Data(engine.n), null) {}

    /// <summary>Files with options of their own: new { files = "rows.csv" }, a dictionary or JSON text. engine null: all rows.</summary>
    public Data(object options, Engine engine) : this(new Swig.Data(Json.Text(options), engine == null ? null : engine.n), null) {}

    /// <summary>An iterator of the host's own. With an engine, its place is kept in the engine's checkpoints.</summary>
    public static Data From(IDataSource source, Engine engine) {
        var wrapped = new SourceCallback(source);
        var made = new Data(Swig.native.open_source(wrapped, engine == null ? null : engine.n), wrapped.Thrown);
        if (engine != null) engine.Hears(wrapped.Thrown);
        return made;
    }

    /// <summary>The next micro-batch, or null at the end of an epoch; the call after that starts the next one.</summary>
    public Batch Next() {
        var batch = new Batch();
        try {
            return n.next(batch.n) ? batch : null;
        } catch (DsrtException e) {
            if (thrown != null) thrown.Rethrow(e);
            throw;
        }
    }

    public IEnumerator<Batch> GetEnumerator() {
        for (Batch b; (b = Next()) != null;) yield return b;
    }

    IEnumerator IEnumerable.GetEnumerator() { return GetEnumerator(); }

    public void Dispose() { n.close(); }
}

}
