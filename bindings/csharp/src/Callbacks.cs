using System;
using System.Collections.Generic;
using System.Runtime.ExceptionServices;

namespace Dsrt {

/// <summary>An iterator of the host's own over micro-batches.</summary>
public interface IDataSource {
    /// <summary>Fills the batch, which is empty and not to be kept; false at the end of an epoch. The call after that starts the next one.</summary>
    bool Next(Batch batch);
}

/// <summary>One whose place is kept in checkpoints, as JSON text.</summary>
public interface ICursorDataSource : IDataSource {
    string Save();
    void Restore(string cursor);
}

/// <summary>An optimizer of the host's own.</summary>
public interface IOptimizer {
    /// <summary>Numbers of state an element: the engine keeps and checkpoints them, zeros at first.</summary>
    int StatePerElement { get; }

    /// <summary>Changes weight and state of one span of a parameter in place. The spans are the library's memory.</summary>
    void Update(string parameter, long step, double lr, Span<float> weight, ReadOnlySpan<float> gradient, Span<float> state);
}

// What a callback threw, until the call that ran it is over: nothing unwinds through C++. Callbacks run on the thread of the call that they belong to.
static class Thrown {
    [ThreadStatic] static ExceptionDispatchInfo thrown;

    internal static int Run(Func<bool> callback) {
        try {
            return callback() ? 0 : 1;
        } catch (Exception e) {
            thrown = ExceptionDispatchInfo.Capture(e);
            return (int)Code.User;
        }
    }

    // Makes a call. What one of its callbacks threw is thrown as it was, with its stack.
    internal static T Call<T>(Func<T> call) {
        try {
            return call();
        } catch (DsrtException e) when (e.Code == Code.User) {
            ExceptionDispatchInfo t = thrown;
            thrown = null;
            if (t != null) t.Throw();
            throw;
        }
    }
}

// Objects that C++ calls stay here until it has released them.
static class Live {
    static readonly HashSet<object> all = new HashSet<object>();

    internal static void Add(object o) {
        lock (all) all.Add(o);
    }

    internal static void Remove(object o) {
        lock (all) all.Remove(o);
    }
}

sealed class SourceCallback : Swig.BatchSource {
    readonly IDataSource source;

    internal SourceCallback(IDataSource source) {
        this.source = source;
        Live.Add(this);
    }

    public override int next(Swig.Batch batch) { return Thrown.Run(() => source.Next(new Batch(batch))); }

    public override bool keeps_cursor() { return source is ICursorDataSource; }

    public override int save(Swig.Text cursor) {
        return Thrown.Run(() => {
            cursor.put(((ICursorDataSource)source).Save());
            return true;
        });
    }

    public override int restore(string cursor) {
        return Thrown.Run(() => {
            ((ICursorDataSource)source).Restore(cursor);
            return true;
        });
    }

    public override void released() { Live.Remove(this); }
}

sealed class OptimizerCallback : Swig.Updater {
    readonly IOptimizer optimizer;

    internal OptimizerCallback(IOptimizer optimizer) {
        this.optimizer = optimizer;
        Live.Add(this);
    }

    static unsafe Span<float> Floats(long address, long n) { return new Span<float>((void*)address, checked((int)n)); }

    public override int update(string parameter, long step, double lr, long weight, long gradient, long state, long n) {
        return Thrown.Run(() => {
            optimizer.Update(parameter, step, lr, Floats(weight, n), Floats(gradient, n), Floats(state, n * optimizer.StatePerElement));
            return true;
        });
    }

    public override void released() { Live.Remove(this); }
}

sealed class OpCallback : Swig.HostOp {
    readonly IOp op;

    internal OpCallback(IOp op) {
        this.op = op;
        Live.Add(this);
    }

    static OpValue[] Values(Swig.OpCall call, int list) {
        var all = new OpValue[call.count(list)];
        for (int i = 0; i < all.Length; ++i)
            all[i] = new OpValue((DType)call.kind(list, i), call.dims(list, i).Copy<long>(), call.wanted(list, i), call.memory(list, i));
        return all;
    }

    public override bool has_shapes() { return op is IShapedOp; }

    public override bool has_gradient() { return op is IDifferentiableOp; }

    public override int shapes(string attributes, Swig.OpCall call) {
        return Thrown.Run(() => {
            foreach (long[] shape in ((IShapedOp)op).Shapes(attributes, Values(call, 0)))
                Memory.Lend<long, object>(shape, s => {
                    call.put_shape(s);
                    return null;
                });
            return true;
        });
    }

    public override int forward(string attributes, Swig.OpCall call) {
        return Thrown.Run(() => {
            op.Forward(attributes, Values(call, 0), Values(call, 1));
            return true;
        });
    }

    public override int backward(string attributes, Swig.OpCall call) {
        return Thrown.Run(() => {
            ((IDifferentiableOp)op).Backward(attributes, Values(call, 0), Values(call, 1), Values(call, 2), Values(call, 3));
            return true;
        });
    }

    public override void released() { Live.Remove(this); }
}

sealed class TokenCallback : Swig.TokenSink {
    readonly Func<int[], bool> onTokens;

    internal TokenCallback(Func<int[], bool> onTokens) {
        this.onTokens = onTokens;
        Live.Add(this);
    }

    internal static unsafe int[] Copy(long ids, long n) { return new Span<int>((void*)ids, checked((int)n)).ToArray(); }

    public override int tokens(long ids, long n) { return Thrown.Run(() => onTokens(Copy(ids, n))); }

    public override void released() { Live.Remove(this); }
}

sealed class RowTokenCallback : Swig.RowTokenSink {
    readonly Func<int, int[], bool> onTokens;

    internal RowTokenCallback(Func<int, int[], bool> onTokens) {
        this.onTokens = onTokens;
        Live.Add(this);
    }

    public override int tokens(long row, long ids, long n) { return Thrown.Run(() => onTokens((int)row, TokenCallback.Copy(ids, n))); }

    public override void released() { Live.Remove(this); }
}

sealed class LogCallback : Swig.LogSink {
    const string FailedLog = "the host's log failed";  // as the native side says it
    [ThreadStatic] static Exception thrown;            // during the call of this thread that logged
    readonly Action<LogLevel, string, string> sink;

    // What the log threw, where that is what failed.
    internal static Exception Cause(DsrtException e) {
        Exception t = thrown;
        thrown = null;
        return t == null || e.Message != FailedLog ? e : t;
    }

    internal LogCallback(Action<LogLevel, string, string> sink) {
        this.sink = sink;
        Live.Add(this);
    }

    public override int log(int level, string component, string message) {
        try {
            sink((LogLevel)level, component, message);
            return 0;
        } catch (Exception e) {
            thrown = e;
            return (int)Code.User;
        }
    }

    public override void released() { Live.Remove(this); }
}

}
