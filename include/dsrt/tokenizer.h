/* Tokenizers: text to ids and back, equal to Hugging Face's `tokenizers` on the same files.
   SPDX-License-Identifier: Apache-2.0 */
#ifndef DSRT_TOKENIZER_H
#define DSRT_TOKENIZER_H

#include <dsrt/batch.h>

DS_BEGIN_DECLS

/* Reads a tokenizer.json, a vocab.txt, a sentencepiece model, or a folder that holds one of them. Immutable afterwards: any number of
   threads may use it. DS_E_NOT_FOUND, DS_E_IO, DS_E_CORRUPT name the file; DS_E_UNSUPPORTED a component that is not built. */
DS_API ds_status ds_tokenizer_load(const char *path, ds_tokenizer **out);

/* Tokenises a text, or a text and a pair (NULL: none). Bad UTF-8 reads as U+FFFD. add_special_tokens: 0 or 1, the file's template.
   The file's own truncation and padding are ignored. */
DS_API ds_status ds_tokenizer_encode(const ds_tokenizer *t, const char *text, size_t text_bytes, const char *pair, size_t pair_bytes,
                                     int32_t add_special_tokens, ds_encoding **out);

/* The encoding's numbers, one a token; they belong to it and live until it is destroyed. n is the number of tokens.
   Offsets: 2n numbers, begin and end of each token in Unicode code points of its own text (a pair's begin at 0); special tokens 0, 0. */
DS_API ds_status ds_encoding_ids(const ds_encoding *e, const int32_t **ids, size_t *n);
DS_API ds_status ds_encoding_type_ids(const ds_encoding *e, const int32_t **ids, size_t *n);
DS_API ds_status ds_encoding_offsets(const ds_encoding *e, const int64_t **begin_end, size_t *n);
DS_API void ds_encoding_destroy(ds_encoding *e); /* Frees it and its numbers. NULL is fine. */

/* Tokenises n NUL-terminated texts (each with its pair, unless pairs is NULL) and sets input_ids and attention_mask, i64, n x length, in
   `out`, and token_type_ids where pairs are given or the template uses them. options_json, or NULL for the defaults, as in transformers'
   tokenizer(texts, ...):
     "add_special_tokens"  default true
     "max_length"          tokens a row, special ones included
     "truncation"          true (default where max_length is given) or "longest_first", "only_first", "only_second", false
     "truncation_side"     "right" or "left": the end or the beginning is cut
     "padding"             "longest" (default), "max_length", or false: all texts must then come out equally long
     "padding_side"        "right" or "left"
     "pad_to_multiple_of"  the length is rounded up to a multiple
     "pad_id"              default: the tokenizer's padding token, else its end of text, else 0
   Sides that are not given are those of the tokenizer's files (tokenizer_config.json, else tokenizer.json), else right. On an error `out`
   is unchanged. */
DS_API ds_status ds_tokenizer_encode_batch(const ds_tokenizer *t, const char *const *texts, const char *const *pairs, size_t n,
                                           const char *options_json, ds_batch *out);

/* The text of n ids, NUL-terminated; *bytes, without the NUL, may be NULL. skip_special: 1 leaves special tokens out.
   *text belongs to the caller: ds_free. An id that the vocabulary lacks has no text. */
DS_API ds_status ds_tokenizer_decode(const ds_tokenizer *t, const int32_t *ids, size_t n, int32_t skip_special, char **text,
                                     size_t *bytes);

/* A conversation as the text that a chat model continues, by the tokenizer's chat template (chat_template.jinja or tokenizer_config.json in
   its folder), as transformers' apply_chat_template(tokenize=False). Encode the text with add_special_tokens 0: the template writes them.
   messages_json: [{"role": "user", "content": "Hello"}, ...]. options_json, or NULL:
     "add_generation_prompt"  true ends the text where the assistant begins to speak; default false
     "template"               the name of one of the folder's templates, or a template's text; default: "tool_use" with tools where
                              there is one, else the folder's default
     "tools", "documents"     lists, as the template takes them
     "variables"              an object: more names that the template sees
   Templates are Jinja, bounded in time and memory; what one raises is DS_E_INVALID_ARGUMENT. DS_E_NOT_FOUND: no template. *text: ds_free. */
DS_API ds_status ds_tokenizer_apply_chat_template(const ds_tokenizer *t, const char *messages_json, const char *options_json, char **text);

/* Text from ids that come a few at a time, as ds_generate's callback gets them: every piece is whole UTF-8, and all pieces together are what
   ds_tokenizer_decode makes of all ids. skip_special as there. The stream keeps the tokenizer. */
DS_API ds_status ds_text_stream_create(const ds_tokenizer *t, int32_t skip_special, ds_text_stream **out);
/* The text that n more ids have made certain, often empty: a character spread over tokens comes with its last byte, and the text of a run of
   byte tokens ("<0x0A>") with the token behind it, as one bad byte would turn all of the run into U+FFFD. ids NULL: the end; what was held
   back comes, U+FFFD for half a character, and the stream may be used anew. *text is NUL-terminated; *bytes may be NULL; ds_free. */
DS_API ds_status ds_text_stream_put(ds_text_stream *s, const int32_t *ids, size_t n, char **text, size_t *bytes);
DS_API void ds_text_stream_destroy(ds_text_stream *s); /* Frees it; what it holds back is dropped. NULL is fine. */

DS_API void ds_tokenizer_destroy(ds_tokenizer *t); /* Frees it; streams and data that use it keep it. NULL is fine. */

DS_END_DECLS

#endif /* DSRT_TOKENIZER_H */
