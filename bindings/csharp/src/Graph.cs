using System;

namespace Dsrt {

/// <summary>A model that the host builds out of ops. Values are numbers; None is an optional input that is left out.</summary>
public sealed class Graph : IDisposable {
    public const int None = -1;
    internal readonly Swig.Graph n;

    public Graph() : this(new Swig.Graph()) {}

    Graph(Swig.Graph n) { this.n = n; }

    /// <summary>Reads the text form, the one that DSRT_DUMP writes.</summary>
    public static Graph Parse(string text) { return new Graph(Swig.native.parse_graph(text)); }

    /// <summary>-1 in the shape is bound at run time, the first to rows, the second to length.</summary>
    public int Input(string name, DType type, params long[] shape) { return Memory.Lend<long, int>(shape, s => n.new_input(name, (int)type, s)); }

    /// <summary>A trainable parameter; init as new { type = "ones" }, null: zeros.</summary>
    public int Param(string name, object init, params long[] shape) {
        return Memory.Lend<long, int>(shape, s => n.new_param(name, (int)DType.Float32, s, Json.Text(init)));
    }

    /// <summary>An op with one output. attributes may be null.</summary>
    public int Op(string name, object attributes, params int[] inputs) { return Ops(name, attributes, 1, inputs)[0]; }

    public int[] Ops(string name, object attributes, int outputs, params int[] inputs) {
        var made = new int[outputs];
        Thrown.Call(() => Memory.Lend<int, object>(inputs, i => Memory.Lend<int, object>(made, o => {
            n.call(name, i, Json.Text(attributes), o);
            return null;
        })));
        return made;
    }

    /// <summary>Makes name an op of this graph, for Op, Ops and Read. The graph, and engines made of it, keep it.</summary>
    public void DefineOp(string name, IOp op) { n.define(name, op is IShapedOp ? ((IShapedOp)op).Outputs : 1, new OpCallback(op)); }

    /// <summary>Reads the text form into a graph without values, which may have ops of the host's own.</summary>
    public void Read(string text) {
        Thrown.Call<object>(() => {
            n.read(text);
            return null;
        });
    }

    /// <summary>A model family's body: its output of input_ids, attention_mask, token_type_ids, position_ids.</summary>
    public int Model(string folder, string output, object options, params int[] inputs) {
        return Memory.Lend<int, int>(inputs, i => n.embed(folder, i, output, Json.Text(options)));
    }

    public void Output(string name, int value) { n.output(name, value); }

    public void Loss(int value) { n.loss(value); }

    public void Dispose() { n.close(); }
}

}
