package io.dsrt;

/** Named tensors, by Hugging Face's names: input_ids, attention_mask, labels ... */
public final class Batch extends Handle {
    final io.dsrt.swig.Batch n;

    public Batch() {
        this(new io.dsrt.swig.Batch(), true);
    }

    Batch(io.dsrt.swig.Batch n, boolean owned) {
        this.n = n;
        if (owned) owns(n::delete);
    }

    /** Puts the tensor's contents as of now under name. */
    public Batch set(String name, Tensor t) {
        n.put(name, t.n);
        return alive(this, t);
    }

    public Batch set(String name, long[] values, long... shape) {
        try (Tensor t = Tensor.of(values, shape)) {
            return set(name, t);
        }
    }

    public Batch set(String name, float[] values, long... shape) {
        try (Tensor t = Tensor.of(values, shape)) {
            return set(name, t);
        }
    }

    /** A new tensor with the contents under name. */
    public Tensor get(String name) {
        return alive(new Tensor(n.find(name)), this);
    }

    @Override
    public void close() {
        alive(n::close, this);
    }
}
