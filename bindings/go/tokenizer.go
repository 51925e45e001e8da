package dsrt

import (
	"runtime"

	"dsrt/internal/native"
)

// Tokenizer makes ids of text and text of ids, as Hugging Face's do on the same files. Any number of goroutines may use it.
type Tokenizer struct{ n native.Tokenizer }

// LoadTokenizer reads a tokenizer.json, a vocab.txt, a sentencepiece model, or a folder that holds one.
func LoadTokenizer(path string) (*Tokenizer, error) {
	t := &Tokenizer{}
	if err := call(func() { t.n = native.NewTokenizer(path) }); err != nil {
		return nil, err
	}
	runtime.SetFinalizer(t, func(t *Tokenizer) { native.DeleteTokenizer(t.n) })
	return t, nil
}

// Encoding is one tokenised text. Offsets are pairs of code points.
type Encoding struct {
	IDs, TypeIDs []int32
	Offsets      [][2]int64
}

// Encode tokenises a text, with the file's special tokens.
func (t *Tokenizer) Encode(text string) (*Encoding, error) { return t.EncodePair(text, "", true) }

// EncodePair tokenises a text and a pair ("": none).
func (t *Tokenizer) EncodePair(text, pair string, specialTokens bool) (*Encoding, error) {
	var n native.Encoding
	if err := call(func() { n = t.n.Encode_text(text, pair, specialTokens) }, t); err != nil {
		return nil, err
	}
	defer native.DeleteEncoding(n)
	return &Encoding{append([]int32(nil), numbersOf[int32](n.Id_memory())...), append([]int32(nil), numbersOf[int32](n.Type_memory())...),
		append([][2]int64(nil), numbersOf[[2]int64](n.Offset_memory())...)}, nil
}

// EncodeBatch makes input_ids, attention_mask and, with pairs, token_type_ids. pairs and options may be nil; options as in transformers:
// map[string]any{"max_length": 128, "padding": "longest"}.
func (t *Tokenizer) EncodeBatch(texts, pairs []string, options any) (*Batch, error) {
	text, err := jsonText(options)
	if err != nil {
		return nil, err
	}
	first, second := textsOf(texts), textsOf(pairs)
	defer native.DeleteTexts(first)
	defer native.DeleteTexts(second)
	var n native.Batch
	if err := call(func() { n = t.n.Encode_texts(first, second, text) }, t); err != nil {
		return nil, err
	}
	return batchOf(n), nil
}

func textsOf(all []string) native.Texts {
	texts := native.NewTexts()
	for _, s := range all {
		texts.Put(s)
	}
	return texts
}

// Decode is the text of ids.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) (text string, err error) {
	err = call(func() { text = t.n.Text_of(bytesOf(ids), skipSpecial) }, t, ids)
	return
}

// ChatText is a conversation as its model wants it, by the tokenizer's chat template. messages: JSON text or anything that json.Marshal makes
// [{"role": "user", "content": ...}] of; options nil, or map[string]any{"add_generation_prompt": true}. Encode the text without special tokens.
func (t *Tokenizer) ChatText(messages, options any) (text string, err error) {
	said, err := jsonText(messages)
	if err != nil {
		return "", err
	}
	with, err := jsonText(options)
	if err != nil {
		return "", err
	}
	err = call(func() { text = t.n.Apply_chat_template(said, with) }, t)
	return
}

// TextStream makes text of ids that come a few at a time: every piece is whole UTF-8, and all together are what Decode makes of all ids.
type TextStream struct{ n native.TextStream }

// Stream begins one.
func (t *Tokenizer) Stream(skipSpecial bool) (*TextStream, error) {
	s := &TextStream{}
	if err := call(func() { s.n = native.NewTextStream__SWIG_0(t.n, skipSpecial) }, t); err != nil {
		return nil, err
	}
	runtime.SetFinalizer(s, func(s *TextStream) { native.DeleteTextStream(s.n) })
	return s, nil
}

// Put is the text that more ids have made certain, often empty.
func (s *TextStream) Put(ids []int32) (text string, err error) {
	err = call(func() { text = s.n.Piece(bytesOf(ids)) }, s, ids)
	return
}

// End is what was held back, U+FFFD for half a character. The stream may be used anew.
func (s *TextStream) End() (text string, err error) {
	err = call(func() { text = s.n.End() }, s)
	return
}

// Close frees the stream before the garbage collector does.
func (s *TextStream) Close() error { s.n.Close(); return nil }

// Close frees the tokenizer before the garbage collector does.
func (t *Tokenizer) Close() error { t.n.Close(); return nil }
