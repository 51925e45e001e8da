using System;
using System.Collections;
using System.Collections.Generic;

namespace Dsrt {

/// <summary>A source of batches; foreach goes through one epoch.</summary>
public sealed class Data : IDisposable, IEnumerable<Batch> {
    internal readonly Swig.Data n;

    Data(Swig.Data n) { this.n = n; }

    /// <summary>The files that the engine's config names under "data".</summary>
    public Data(Engine engine) : this(new Swig.Data(engine.n)) {}

    /// <summary>Files with options of their own: new { files = "rows.csv" }, a dictionary or JSON text. engine null: all rows.</summary>
    public Data(object options, Engine engine) : this(new Swig.Data(Json.Text(options), engine == null ? null : engine.n)) {}

    /// <summary>An iterator of the host's own. With an engine, its place is kept in the engine's checkpoints.</summary>
    public static Data From(IDataSource source, Engine engine) {
        return new Data(Swig.native.open_source(new SourceCallback(source), engine == null ? null : engine.n));
    }

    /// <summary>The next micro-batch, or null at the end of an epoch; the call after that starts the next one.</summary>
    public Batch Next() {
        var batch = new Batch();
        return Thrown.Call(() => n.next(batch.n)) ? batch : null;
    }

    public IEnumerator<Batch> GetEnumerator() {
        for (Batch b; (b = Next()) != null;) yield return b;
    }

    IEnumerator IEnumerable.GetEnumerator() { return GetEnumerator(); }

    public void Dispose() { n.close(); }
}

}
