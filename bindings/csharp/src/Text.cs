using System;
using System.Collections.Generic;
using System.Text;

namespace Dsrt {

/// <summary>One tokenised text. Offsets holds begin and end of each token, in code points.</summary>
public sealed class Encoding {
    public int[] Ids { get; }
    public int[] TypeIds { get; }
    public long[] Offsets { get; }

    internal Encoding(Swig.Encoding e) {
        Ids = e.id_memory().Copy<int>();
        TypeIds = e.type_memory().Copy<int>();
        Offsets = e.offset_memory().Copy<long>();
        e.Dispose();
    }
}

// Texts on their way to C++.
static class Native {
    // They end at a NUL there: one inside is refused.
    internal static string Text(string text, string name = "the text") {
        int at = text == null ? -1 : text.IndexOf('\0');
        if (at < 0) return text;
        throw new DsrtException(Code.InvalidArgument, name + " holds a NUL at byte " + System.Text.Encoding.UTF8.GetByteCount(text.Substring(0, at)));
    }
}

/// <summary>Text to ids and back, equal to Hugging Face's on the same files. Any number of threads may use it.</summary>
public sealed class Tokenizer : IDisposable {
    internal readonly Swig.Tokenizer n;

    /// <summary>Reads a tokenizer.json, a vocab.txt, a sentencepiece model, or a folder that holds one.</summary>
    public Tokenizer(string path) { n = new Swig.Tokenizer(path); }

    public Encoding Encode(string text, string pair = null, bool specialTokens = true) { return new Encoding(n.encode_text(text, pair, specialTokens)); }

    static Swig.Texts Texts(string name, IEnumerable<string> all) {
        var texts = new Swig.Texts();
        int i = 0;
        foreach (string t in all ?? new string[0]) texts.put(Native.Text(t, name + "[" + i++ + "]"));
        return texts;
    }

    /// <summary>input_ids, attention_mask and, with pairs, token_type_ids. Options as in transformers: new { max_length = 128 }.</summary>
    public Batch Encode(IEnumerable<string> texts, IEnumerable<string> pairs = null, object options = null) {
        using (Swig.Texts first = Texts("texts", texts), second = Texts("pairs", pairs)) return new Batch(n.encode_texts(first, second, Json.Text(options)));
    }

    public string Decode(int[] ids, bool skipSpecial = true) { return Memory.Lend<int, string>(ids, m => n.text_of(m, skipSpecial)); }

    /// <summary>A conversation as its model wants it, by the tokenizer's chat template. messages: new[] { new { role = "user", content = "Hello" } },
    /// or JSON text; options: new { add_generation_prompt = true }. Encode the text without special tokens.</summary>
    public string ApplyChatTemplate(object messages, object options = null) { return n.apply_chat_template(Json.Text(messages), Json.Text(options)); }

    public void Dispose() { n.close(); }
}

/// <summary>Text from ids that come a few at a time: every piece is whole, and all together are what Decode makes of all ids.</summary>
public sealed class TextStream : IDisposable {
    readonly Swig.TextStream n;

    public TextStream(Tokenizer tokenizer, bool skipSpecial = true) { n = new Swig.TextStream(tokenizer.n, skipSpecial); }

    /// <summary>The text that more ids have made certain, often empty.</summary>
    public string Put(params int[] ids) { return Memory.Lend<int, string>(ids, m => n.piece(m)); }

    /// <summary>What was held back, U+FFFD for half a character. The stream may be used anew.</summary>
    public string End() { return n.end(); }

    public void Dispose() { n.close(); }
}

}
