use crate::config::Json;
use crate::error::{c_named, c_option, c_path, c_pointer, c_text, check, handle, text_of, Result};
use crate::tensor::Batch;
use dsrt_sys as sys;
use std::os::raw::c_char;
use std::ptr::null;

handle!(
    /// Text to ids and back, equal to Hugging Face's on the same files. Any number of threads may share it.
    Tokenizer, ds_tokenizer, ds_tokenizer_destroy
);
unsafe impl Sync for Tokenizer {}

handle!(EncodingHandle, ds_encoding, ds_encoding_destroy);

/// One tokenised text. Offsets are pairs of code points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Encoding {
    pub ids: Vec<i32>,
    pub type_ids: Vec<i32>,
    pub offsets: Vec<(i64, i64)>,
}

impl Tokenizer {
    /// Reads a tokenizer.json, a vocab.txt, a sentencepiece model, or a folder that holds one.
    pub fn load(path: impl AsRef<std::path::Path>) -> Result<Tokenizer> {
        let path = c_path(path.as_ref())?;
        Tokenizer::made(|out| unsafe { sys::ds_tokenizer_load(path.as_ptr(), out) })
    }

    /// Tokenises a text, with the file's special tokens.
    pub fn encode(&self, text: &str) -> Result<Encoding> {
        self.encode_pair(text, None, true)
    }

    /// Tokenises a text and a pair.
    pub fn encode_pair(&self, text: &str, pair: Option<&str>, special_tokens: bool) -> Result<Encoding> {
        let (second, bytes) = pair.map_or((null(), 0), |p| (p.as_ptr() as *const c_char, p.len()));
        let made = EncodingHandle::made(|made| unsafe {
            sys::ds_tokenizer_encode(self.ptr, text.as_ptr() as *const c_char, text.len(), second, bytes, special_tokens as i32, made)
        })?;
        let mut out = Encoding::default();
        let (mut numbers, mut ends, mut n) = (null(), null(), 0);
        unsafe {
            sys::ds_encoding_ids(made.ptr, &mut numbers, &mut n);
            out.ids.extend((0..n).map(|i| *numbers.add(i)));
            sys::ds_encoding_type_ids(made.ptr, &mut numbers, &mut n);
            out.type_ids.extend((0..n).map(|i| *numbers.add(i)));
            sys::ds_encoding_offsets(made.ptr, &mut ends, &mut n);
            out.offsets.extend((0..n).map(|i| (*ends.add(2 * i), *ends.add(2 * i + 1))));
        }
        Ok(out)
    }

    /// input_ids, attention_mask and, with pairs, token_type_ids. Options as in transformers, as an object, or `Json::Null`.
    pub fn encode_batch(&self, texts: &[&str], pairs: Option<&[&str]>, options: impl Into<Json>) -> Result<Batch> {
        let batch = Batch::new()?;
        let options = options.into().given();
        let options = c_option(options.as_deref())?;
        let owned = |name: &str, all: &[&str]| {
            all.iter().enumerate().map(|(i, t)| c_named(&format!("{name}[{i}]"), t)).collect::<Result<Vec<_>>>()
        };
        let (first, second) = (owned("texts", texts)?, owned("pairs", pairs.unwrap_or(&[]))?);
        if pairs.is_some() && second.len() != first.len() {
            let message = format!("pairs: {} for {} texts; give as many, or none", second.len(), first.len());
            return Err(crate::Error::new(sys::DS_E_INVALID_ARGUMENT, message));
        }
        let pointers = |all: &[std::ffi::CString]| all.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
        let (first, second) = (pointers(&first), pointers(&second));
        let second = if pairs.is_some() { second.as_ptr() } else { null() };
        check(unsafe { sys::ds_tokenizer_encode_batch(self.ptr, first.as_ptr(), second, first.len(), c_pointer(&options), batch.ptr) })?;
        Ok(batch)
    }

    /// The text of ids.
    pub fn decode(&self, ids: &[i32], skip_special: bool) -> Result<String> {
        text_of(|text, bytes| unsafe { sys::ds_tokenizer_decode(self.ptr, ids.as_ptr(), ids.len(), skip_special as i32, text, bytes) })
    }

    /// A conversation as its model wants it, by the tokenizer's chat template. `messages`: a list of `Json::object([("role", "user"), ("content",
    /// "Hello")])`, or JSON text; `options`: an object (`add_generation_prompt` ...), or `Json::Null`. Encode the text without special tokens.
    pub fn chat_text(&self, messages: impl Into<Json>, options: impl Into<Json>) -> Result<String> {
        let messages = c_text(&messages.into().given().unwrap_or_default())?;
        let options = c_option(options.into().given().as_deref())?;
        text_of(|text, _| unsafe { sys::ds_tokenizer_apply_chat_template(self.ptr, messages.as_ptr(), c_pointer(&options), text) })
    }

    /// Text from ids that come a few at a time.
    pub fn stream(&self, skip_special: bool) -> Result<TextStream> {
        TextStream::made(|out| unsafe { sys::ds_text_stream_create(self.ptr, skip_special as i32, out) })
    }
}

handle!(
    /// Text from ids that come a few at a time: every piece is whole, and all together are what `decode` makes of all ids. It keeps the tokenizer.
    TextStream, ds_text_stream, ds_text_stream_destroy
);

impl TextStream {
    /// The text that more ids have made certain, often empty.
    pub fn put(&mut self, ids: &[i32]) -> Result<String> {
        if ids.is_empty() {
            return Ok(String::new());
        }
        self.piece(ids.as_ptr(), ids.len())
    }

    /// What was held back, U+FFFD for half a character. The stream may be used anew.
    pub fn end(&mut self) -> Result<String> {
        self.piece(null(), 0)
    }

    fn piece(&mut self, ids: *const i32, n: usize) -> Result<String> {
        text_of(|text, bytes| unsafe { sys::ds_text_stream_put(self.ptr, ids, n, text, bytes) })
    }
}
