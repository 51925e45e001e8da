package io.dsrt;

/** Text from ids that come a few at a time: every piece is whole, and all together are what decode makes of all ids. */
public final class TextStream extends Handle {
    private final io.dsrt.swig.TextStream n;

    public TextStream(Tokenizer tokenizer) {
        this(tokenizer, true);
    }

    public TextStream(Tokenizer tokenizer, boolean skipSpecial) {
        n = alive(new io.dsrt.swig.TextStream(tokenizer.n, skipSpecial), tokenizer);
        owns(n::delete);
    }

    /** The text that more ids have made certain, often empty. */
    public String put(int... ids) {
        return alive(n.piece(Tensor.ints(ids)), this);
    }

    /** What was held back, U+FFFD for half a character. The stream may be used anew. */
    public String end() {
        return alive(n.end(), this);
    }

    @Override
    public void close() {
        alive(n::close, this);
    }
}
