package io.dsrt;

import java.nio.ByteBuffer;
import java.util.Map;

/** A model that the host builds out of ops. Values are numbers; NONE is an optional input that is left out. */
public final class Graph extends Handle {
    public static final int NONE = -1;
    final io.dsrt.swig.Graph n;

    public Graph() {
        this(new io.dsrt.swig.Graph());
    }

    private Graph(io.dsrt.swig.Graph n) {
        this.n = n;
        owns(n::delete);
    }

    /** Reads the text form, the one that DSRT_DUMP writes. */
    public static Graph parse(String text) {
        return new Graph(io.dsrt.swig.dsrt.parse_graph(text));
    }

    /** -1 in the shape is bound at run time, the first to rows, the second to length. */
    public int input(String name, DType type, long... shape) {
        return alive(n.new_input(name, type.ordinal(), Tensor.longs(shape)), this);
    }

    /** A trainable parameter; init as Map.of("type", "ones"), null: zeros. */
    public int param(String name, Map<String, ?> init, long... shape) {
        return alive(n.new_param(name, DType.FLOAT32.ordinal(), Tensor.longs(shape), Callbacks.json(init)), this);
    }

    /** An op with one output. attributes may be null. */
    public int op(String name, Map<String, ?> attributes, int... inputs) {
        return ops(name, attributes, 1, inputs)[0];
    }

    public int[] ops(String name, Map<String, ?> attributes, int outputs, int... inputs) {
        ByteBuffer made = Tensor.direct(4L * outputs);
        n.call(name, Tensor.ints(inputs), Callbacks.json(attributes), made);
        return alive(Tensor.ints(made), this);
    }

    /** Makes name an op of this graph, for op, ops and read. The graph, and engines made of it, keep it. */
    public void defineOp(String name, Op op) {
        int outputs = op instanceof Op.WithShapes ? ((Op.WithShapes) op).outputs() : 1;
        alive(() -> n.define(name, outputs, new Callbacks.HostOp(op)), this);
    }

    /** Reads the text form into a graph without values, which may have ops of the host's own. */
    public void read(String text) {
        alive(() -> n.read(text), this);
    }

    /** A model family's body: its output of input_ids, attention_mask, token_type_ids, position_ids. */
    public int model(String folder, String output, Map<String, ?> options, int... inputs) {
        return alive(n.embed(folder, Tensor.ints(inputs), output, Callbacks.json(options)), this);
    }

    public void output(String name, int value) {
        alive(() -> n.output(name, value), this);
    }

    public void loss(int value) {
        alive(() -> n.loss(value), this);
    }

    @Override
    public void close() {
        alive(n::close, this);
    }
}
