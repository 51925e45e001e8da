package io.dsrt;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.util.List;

/** An op of the host's own, for Graph.defineOp. What it throws comes out of the call that ran it. Engines of two threads may run it at the same time. */
@FunctionalInterface
public interface Op {
    /** Writes the output, which is shaped as the first input. attributes: the JSON object that the graph gave, "{}" without. */
    void forward(String attributes, List<Value> inputs, List<Value> outputs) throws Exception;

    /** One with a gradient. */
    interface WithGradient extends Op {
        /** Writes the inputs' gradients, but for those that are not wanted. */
        void backward(String attributes, List<Value> inputs, List<Value> outputs, List<Value> outputGradients, List<Value> inputGradients) throws Exception;
    }

    /** One with several outputs, or of other shapes. */
    interface WithShapes extends Op {
        /** 1 to 8. */
        int outputs();

        /** The outputs' shapes. While a graph is built, rows and length are large numbers: hand them on, or their products, as they are. */
        List<long[]> shapes(String attributes, List<Value> inputs) throws Exception;
    }

    /** A value: dense, row-major, the library's memory, and not to be kept. Inputs are FLOAT32, INT32 (ids) or UINT8 (masks), outputs and gradients
     * FLOAT32. */
    final class Value {
        public final DType type;
        public final long[] shape;
        private final ByteBuffer memory;

        Value(DType type, long[] shape, ByteBuffer memory) {
            this.type = type;
            this.shape = shape;
            this.memory = memory;
        }

        /** False: there is nothing to read or to write. */
        public boolean wanted() {
            return memory != null;
        }

        private ByteBuffer as(DType asked) {
            if (memory == null || asked != type) throw DsrtException.invalid("Op.Value: " + (memory == null ? "nothing is to be read or written" : "it holds " + type + ", not " + asked));
            return memory.duplicate().order(ByteOrder.nativeOrder());
        }

        public FloatBuffer floats() {
            return as(DType.FLOAT32).asFloatBuffer();
        }

        public IntBuffer ints() {
            return as(DType.INT32).asIntBuffer();
        }

        public ByteBuffer bytes() {
            return as(DType.UINT8);
        }
    }
}
