package io.dsrt;

import io.dsrt.swig.Bridge;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.LongBuffer;

/** A dense row-major array. */
public final class Tensor extends Handle {
    final io.dsrt.swig.Tensor n;

    Tensor(io.dsrt.swig.Tensor n) {
        this.n = n;
        owns(n::delete);
    }

    private Tensor(DType type, long[] shape, ByteBuffer from) {
        this(new io.dsrt.swig.Tensor(type.ordinal(), longs(shape), from));
    }

    static ByteBuffer direct(long bytes) {
        return ByteBuffer.allocateDirect(Math.toIntExact(bytes)).order(ByteOrder.nativeOrder());
    }

    static ByteBuffer longs(long... values) {
        ByteBuffer out = direct(8L * values.length);
        out.asLongBuffer().put(values);
        return out;
    }

    static ByteBuffer ints(int... values) {
        ByteBuffer out = direct(4L * values.length);
        out.asIntBuffer().put(values);
        return out;
    }

    static long[] longs(ByteBuffer memory) {
        LongBuffer from = Bridge.ordered(memory).asLongBuffer();
        long[] out = new long[from.remaining()];
        from.get(out);
        return out;
    }

    static int[] ints(ByteBuffer memory) {
        java.nio.IntBuffer from = Bridge.ordered(memory).asIntBuffer();
        int[] out = new int[from.remaining()];
        from.get(out);
        return out;
    }

    /** A copy of values, whose number is the product of shape. */
    public static Tensor of(float[] values, long... shape) {
        ByteBuffer from = direct(4L * values.length);
        from.asFloatBuffer().put(values);
        return new Tensor(DType.FLOAT32, shape, from);
    }

    public static Tensor of(int[] values, long... shape) {
        return new Tensor(DType.INT32, shape, ints(values));
    }

    public static Tensor of(long[] values, long... shape) {
        return new Tensor(DType.INT64, shape, longs(values));
    }

    /** A copy of a direct buffer, from its beginning to its capacity, in native order. Nothing is copied on the way to the library. */
    public static Tensor of(DType type, ByteBuffer direct, long... shape) {
        if (!direct.isDirect()) throw DsrtException.invalid("Tensor.of: the buffer must be direct (ByteBuffer.allocateDirect)");
        return new Tensor(type, shape, direct);
    }

    public static Tensor zeros(DType type, long... shape) {
        return new Tensor(io.dsrt.swig.Tensor.zeros(type.ordinal(), longs(shape)));
    }

    public DType type() {
        return DType.values()[alive(n.kind(), this)];
    }

    public long[] shape() {
        return alive(longs(n.dims()), this);
    }

    public long count() {
        return alive(n.count(), this).longValue();
    }

    private ByteBuffer read(DType type, int size) {
        ByteBuffer into = direct(size * count());
        n.copy_out(type.ordinal(), into);
        return alive(into, this);
    }

    /** The contents, converted as a C cast does. */
    public float[] toFloats() {
        ByteBuffer from = read(DType.FLOAT32, 4);
        float[] out = new float[from.capacity() / 4];
        from.asFloatBuffer().get(out);
        return out;
    }

    public int[] toInts() {
        return ints(read(DType.INT32, 4));
    }

    public long[] toLongs() {
        return longs(read(DType.INT64, 8));
    }

    /** The tensor's memory, lent out without a copy until the view is closed. */
    public View view() {
        return alive(new View(new io.dsrt.swig.View(n)), this);
    }

    /** Frees the tensor; views stay. */
    @Override
    public void close() {
        alive(n::close, this);
    }

    /** Memory of a tensor with a life of its own, for as long as this or one of its buffers is reachable. None must be used after close(). */
    public static final class View extends Handle {
        private final io.dsrt.swig.View n;
        private final ByteBuffer memory; // what every buffer of this is a duplicate of, and keeps

        private View(io.dsrt.swig.View n) {
            this.n = n;
            memory = n.memory();
            owns(memory, n::delete);
        }

        /** A direct buffer in native order; asFloatBuffer() and its like see the numbers. */
        public ByteBuffer buffer() {
            return alive(Bridge.ordered(n.read_only() ? memory.asReadOnlyBuffer() : memory.duplicate()), this);
        }

        @Override
        public void close() {
            alive(n::close, this);
        }
    }
}
