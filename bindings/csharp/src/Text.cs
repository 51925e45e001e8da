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
    readonly Swig.Tokenizer n;

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

    public void Dispose() { n.close(); }
}

}
