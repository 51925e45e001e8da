using System;
using System.Runtime.InteropServices;

namespace Dsrt {

/// <summary>The type of a tensor's elements; the numbers are those of C.</summary>
public enum DType { Float32, Float16, BFloat16, Float64, Int32, Int64, UInt8, Bool, Int8, Float8E4M3, Float8E5M2 }

// Memory that one side lends the other, as the native side has it.
[StructLayout(LayoutKind.Sequential)]
struct Memory {
    internal IntPtr Data;
    internal UIntPtr Bytes;

    internal unsafe delegate T Use<T>(Memory memory);

    // Lends the memory of an array for the time of a call.
    internal static unsafe T Lend<E, T>(ReadOnlySpan<E> values, Use<T> use) where E : struct {
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(values);
        fixed (byte* p = &MemoryMarshal.GetReference(bytes)) return use(new Memory { Data = (IntPtr)p, Bytes = (UIntPtr)bytes.Length });
    }

    internal unsafe Span<T> Span<T>() where T : struct { return MemoryMarshal.Cast<byte, T>(new Span<byte>((void*)Data, checked((int)Bytes))); }

    internal T[] Copy<T>() where T : struct { return Bytes == UIntPtr.Zero ? new T[0] : Span<T>().ToArray(); }
}

/// <summary>A dense row-major array.</summary>
public sealed class Tensor : IDisposable {
    internal readonly Swig.Tensor n;

    internal Tensor(Swig.Tensor n) { this.n = n; }

    static DType TypeOf<T>() {
        if (typeof(T) == typeof(float)) return DType.Float32;
        if (typeof(T) == typeof(double)) return DType.Float64;
        if (typeof(T) == typeof(int)) return DType.Int32;
        if (typeof(T) == typeof(long)) return DType.Int64;
        if (typeof(T) == typeof(byte)) return DType.UInt8;
        if (typeof(T) == typeof(sbyte)) return DType.Int8;
        if (typeof(T) == typeof(bool)) return DType.Bool;
        throw new DsrtException(Code.InvalidArgument, "Tensor: elements are float, double, int, long, byte, sbyte or bool, not " + typeof(T).Name);
    }

    /// <summary>A copy of values, whose number is the product of shape.</summary>
    public static Tensor Of<T>(ReadOnlySpan<T> values, params long[] shape) where T : struct {
        DType type = TypeOf<T>();
        // A span cannot be captured by the inner function; its memory can.
        Memory from = new Memory();
        return Memory.Lend(values, m => {
            from = m;
            return Memory.Lend<long, Tensor>(shape, s => new Tensor(new Swig.Tensor((int)type, s, from)));
        });
    }

    public static Tensor Of<T>(T[] values, params long[] shape) where T : struct {
        if (values == null) throw new ArgumentNullException(nameof(values));
        return Of(new ReadOnlySpan<T>(values), shape);
    }

    public static Tensor Zeros(DType type, params long[] shape) {
        return Memory.Lend<long, Tensor>(shape, s => new Tensor(Swig.Tensor.zeros((int)type, s)));
    }

    public DType Type { get { return (DType)n.kind(); } }

    public long[] Shape {
        get {
            long[] shape = n.dims().Copy<long>();
            GC.KeepAlive(this);
            return shape;
        }
    }

    public long Count { get { return (long)n.count(); } }

    /// <summary>The contents, converted as a C cast does.</summary>
    public T[] ToArray<T>() where T : struct {
        var values = new T[Count];
        CopyTo(new Span<T>(values));
        return values;
    }

    /// <summary>The same into memory of the caller's, of exactly Count numbers.</summary>
    public void CopyTo<T>(Span<T> into) where T : struct {
        DType type = TypeOf<T>();
        Memory.Lend<T, object>(into, m => {
            n.copy_out((int)type, m);
            return null;
        });
    }

    /// <summary>The tensor's memory, lent out without a copy until the view is disposed of.</summary>
    public TensorView View() { return new TensorView(new Swig.View(n), Type); }

    /// <summary>Frees the tensor; views stay.</summary>
    public void Dispose() { n.close(); }

    /// <summary>Memory of a tensor with a life of its own. Only Dispose frees it, since the garbage collector doesn't see spans; they must not be
    /// used afterwards.</summary>
    public sealed class TensorView : IDisposable {
        readonly Swig.View n;
        readonly DType type;

        internal TensorView(Swig.View n, DType type) {
            this.n = n;
            this.type = type;
            GC.SuppressFinalize(n);
        }

        public Span<T> Span<T>() where T : struct {
            Memory memory = n.memory();
            if (TypeOf<T>() != type) throw new DsrtException(Code.InvalidArgument, "TensorView: the tensor holds " + type + ", not " + TypeOf<T>());
            if (n.read_only()) throw new DsrtException(Code.InvalidArgument, "TensorView: the memory is read-only");
            return memory.Span<T>();
        }

        public void Dispose() {
            n.close();
            GC.ReRegisterForFinalize(n);
        }
    }
}

/// <summary>Named tensors, by Hugging Face's names: input_ids, attention_mask, labels ...</summary>
public sealed class Batch : IDisposable {
    internal readonly Swig.Batch n;

    public Batch() : this(new Swig.Batch()) {}

    internal Batch(Swig.Batch n) { this.n = n; }

    /// <summary>A new tensor with the contents under name; assigned, the tensor's contents as of now.</summary>
    public Tensor this[string name] {
        get { return new Tensor(n.find(name)); }
        set { n.put(name, value.n); }
    }

    public Batch Set<T>(string name, T[] values, params long[] shape) where T : struct {
        using (Tensor t = Tensor.Of(values, shape)) this[name] = t;
        return this;
    }

    public void Dispose() { n.close(); }
}

}
