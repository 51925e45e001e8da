using System;

namespace Dsrt {

/// <summary>An op of the host's own, for Graph.DefineOp. What it throws comes out of the call that ran it. Engines of two threads may run it at the
/// same time.</summary>
public interface IOp {
    /// <summary>Writes the output, which is shaped as the first input. attributes: the JSON object that the graph gave, "{}" without.</summary>
    void Forward(string attributes, OpValue[] inputs, OpValue[] outputs);
}

/// <summary>One with a gradient.</summary>
public interface IDifferentiableOp : IOp {
    /// <summary>Writes the inputs' gradients, but for those that are not wanted.</summary>
    void Backward(string attributes, OpValue[] inputs, OpValue[] outputs, OpValue[] outputGradients, OpValue[] inputGradients);
}

/// <summary>One with several outputs, or of other shapes.</summary>
public interface IShapedOp : IOp {
    /// <summary>1 to 8.</summary>
    int Outputs { get; }

    /// <summary>The outputs' shapes. While a graph is built, rows and length are large numbers: hand them on, or their products, as they are.</summary>
    long[][] Shapes(string attributes, OpValue[] inputs);
}

/// <summary>A value that an op is called with: dense, row-major, the library's memory, for the time of the call. Inputs are Float32, Int32 (ids) or
/// UInt8 (masks), outputs and gradients Float32.</summary>
public sealed class OpValue {
    readonly Memory memory;

    internal OpValue(DType type, long[] shape, bool wanted, Memory memory) {
        Type = type;
        Shape = shape;
        Wanted = wanted;
        this.memory = memory;
    }

    public DType Type { get; }
    public long[] Shape { get; }

    /// <summary>False: there is nothing to read or to write.</summary>
    public bool Wanted { get; }

    public Span<float> Floats { get { return As<float>(DType.Float32); } }
    public Span<int> Ints { get { return As<int>(DType.Int32); } }
    public Span<byte> Bytes { get { return As<byte>(DType.UInt8); } }

    Span<T> As<T>(DType asked) where T : struct {
        if (!Wanted) throw new DsrtException(Code.InvalidArgument, "OpValue: nothing is to be read or written");
        if (asked != Type) throw new DsrtException(Code.InvalidArgument, "OpValue: it holds " + Type + ", not " + asked);
        return memory.Span<T>();
    }
}

}
