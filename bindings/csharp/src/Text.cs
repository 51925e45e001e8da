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

/// <summary>Text to ids and back, equal to Hugging Face's on the same files. Any number of threads may use it.</summary>
public sealed class Tokenizer : IDisposable {
    internal readonly Swig.Tokenizer n;

    /// <summary>Reads a tokenizer.json, a vocab.txt, a sentencepiece model, or a folder that holds one.</summary>
    public Tokenizer(string path) { n = new Swig.Tokenizer(path); }

    public Encoding Encode(string text, string pair = null, bool specialTokens = true) { return new Encoding(n.encode_text(text, pair, specialTokens)); }

    static byte[] Joined(IEnumerable<string> texts) {
        var all = new List<byte>();
        foreach (string t in texts ?? new string[0]) {
            all.AddRange(System.Text.Encoding.UTF8.GetBytes(t));
            all.Add(0);
        }
        return all.ToArray();
    }

    /// <summary>input_ids, attention_mask and, with pairs, token_type_ids. Options as in transformers: new { max_length = 128 }.</summary>
    public Batch Encode(IEnumerable<string> texts, IEnumerable<string> pairs = null, object options = null) {
        return Memory.Lend<byte, Batch>(Joined(texts), t => Memory.Lend<byte, Batch>(Joined(pairs), p => new Batch(n.encode_texts(t, p, Json.Text(options)))));
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
