package io.dsrt;

import io.dsrt.swig.Texts;
import java.util.List;
import java.util.Map;

/** Text to ids and back, equal to Hugging Face's on the same files. Any number of threads may use it. */
public final class Tokenizer extends Handle {
    final io.dsrt.swig.Tokenizer n;

    /** Reads a tokenizer.json, a vocab.txt, a sentencepiece model, or a folder that holds one. */
    public Tokenizer(String path) {
        n = new io.dsrt.swig.Tokenizer(path);
        owns(n::delete);
    }

    /** One tokenised text. offsets holds begin and end of each token, in code points. */
    public static final class Encoding {
        public final int[] ids, typeIds;
        public final long[] offsets;

        private Encoding(io.dsrt.swig.Encoding e) {
            ids = Tensor.ints(e.id_memory());
            typeIds = Tensor.ints(e.type_memory());
            offsets = Tensor.longs(e.offset_memory());
            e.delete();
        }
    }

    public Encoding encode(String text) {
        return encode(text, null, true);
    }

    /** pair null: none. */
    public Encoding encode(String text, String pair, boolean specialTokens) {
        return alive(new Encoding(n.encode_text(text, pair, specialTokens)), this);
    }

    private static Texts texts(List<String> all) {
        Texts texts = new Texts();
        if (all != null) all.forEach(texts::put);
        return texts;
    }

    /** input_ids, attention_mask and, with pairs, token_type_ids. pairs and options may be null; options as in transformers (max_length ...). */
    public Batch encode(List<String> texts, List<String> pairs, Map<String, ?> options) {
        Texts first = texts(texts), second = texts(pairs);
        try {
            return alive(new Batch(n.encode_texts(first, second, Callbacks.json(options)), true), this);
        } finally {
            first.delete();
            second.delete();
        }
    }

    public String decode(int[] ids, boolean skipSpecial) {
        return alive(n.text_of(Tensor.ints(ids), skipSpecial), this);
    }

    /** A conversation as its model wants it, by the tokenizer's chat template. messages: List.of(Map.of("role", "user", "content", ...)), or JSON
     * text; options may be null: Map.of("add_generation_prompt", true). Encode the text without special tokens. */
    public String applyChatTemplate(Object messages, Map<String, ?> options) {
        return alive(n.apply_chat_template(Callbacks.json(messages), Callbacks.json(options)), this);
    }

    @Override
    public void close() {
        alive(n::close, this);
    }
}
