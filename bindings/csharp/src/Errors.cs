using System;

namespace Dsrt {

/// <summary>The class of a failure; the numbers are those of C.</summary>
public enum Code {
    InvalidArgument = -1, Config = -2, NotFound = -3, Io = -4, Corrupt = -5, OutOfMemory = -6, Unsupported = -7, State = -8, Busy = -9, Comm = -10,
    Timeout = -11, Cancelled = -12, Device = -13, User = -14, Internal = -15
}

/// <summary>A failed call: its code, and the library's words, which name the key, file or tensor, the value found and what is accepted.</summary>
public sealed class DsrtException : Exception {
    public Code Code { get; }

    /// <summary>The code's name in C, "DS_E_CONFIG".</summary>
    public string CodeName { get { return Swig.native.status_name((int)Code); } }

    internal DsrtException(Code code, string message) : base(message) { Code = code; }

    // Called by the native side: the failure of a call, or what the log threw during it.
    internal static Exception Of(int code, string message) {
        var made = new DsrtException((Code)code, message);
        return made.Code == Code.User ? LogCallback.Cause(made) : made;
    }
}

/// <summary>Levels of the log.</summary>
public enum LogLevel { Trace, Debug, Info, Warn, Error, Off }

/// <summary>The library itself: versions, the config's keys, the log.</summary>
public static class Library {
    public static string Version { get { return Swig.native.version(); } }

    /// <summary>Major &lt;&lt; 16 | minor of the library's ABI.</summary>
    public static int AbiVersion { get { return (int)Swig.native.abi_version(); } }

    /// <summary>JSON: compiler, instruction levels, libraries, optional parts, devices.</summary>
    public static string BuildInfo { get { return Swig.native.build_info(); } }

    /// <summary>JSON: every key of the config with type, default and meaning.</summary>
    public static string ConfigDescribe() { return Swig.native.config_describe(); }

    /// <summary>JSON: every op of graphs with inputs, outputs and attributes.</summary>
    public static string GraphOps() { return Swig.Graph.ops_json(); }

    /// <summary>JSON: what a run of this config would need in memory, FLOPs and traffic. Runs nothing.</summary>
    public static string Plan(object config, Graph graph = null, IOptimizer optimizer = null) {
        using (Swig.Options options = Engine.MakeOptions(graph, null, optimizer, null)) return Swig.Engine.plan(Json.Text(config), options);
    }

    /// <summary>JSON: scores of predictions ("spans", "squad", "bleu"). Both are sequences or JSON text.</summary>
    public static string Score(string metric, object predictions, object references) {
        return Swig.native.score(metric, Json.Text(predictions), Json.Text(references));
    }

    /// <summary>Sends messages of level and above to the sink; null: back to stderr, warnings and errors only. What the sink throws comes out of
    /// the call that logged, once that has done its work.</summary>
    public static void SetLog(Action<LogLevel, string, string> sink, LogLevel level = LogLevel.Info) {
        Swig.native.set_log_sink(sink == null ? null : new LogCallback(sink), (int)level);
    }
}

}
