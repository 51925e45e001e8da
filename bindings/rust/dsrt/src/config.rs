use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A JSON value, for configs and options. `From` makes it of Rust's own.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Json {
    Null,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// An object of pairs.
    pub fn object<K: Into<String>, V: Into<Json>>(pairs: impl IntoIterator<Item = (K, V)>) -> Json {
        Json::Object(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// As options: none for null, text as it stands (JSON already).
    pub(crate) fn given(self) -> Option<String> {
        match self {
            Json::Null => None,
            Json::Text(text) => Some(text),
            json => Some(json.to_string()),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Json::Integer(i) => write!(out, "{}", i).unwrap(),
            Json::Number(x) if x.is_finite() => write!(out, "{:?}", x).unwrap(),
            Json::Number(_) => out.push_str("null"),
            Json::Text(t) => quote(t, out),
            Json::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(pairs) => {
                out.push('{');
                for (i, (key, value)) in pairs.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    quote(key, out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => write!(out, "\\u{:04x}", c as u32).unwrap(),
            c => out.push(c),
        }
    }
    out.push('"');
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::new();
        self.write(&mut out);
        f.write_str(&out)
    }
}

macro_rules! json_from {
    ($($from:ty => $make:expr),* $(,)?) => {$(
        impl From<$from> for Json {
            fn from(value: $from) -> Json {
                #[allow(clippy::redundant_closure_call)]
                ($make)(value)
            }
        }
    )*};
}
json_from!(
    bool => Json::Bool,
    i32 => |v| Json::Integer(v as i64),
    i64 => Json::Integer,
    usize => |v| Json::Integer(v as i64),
    f64 => Json::Number,
    &str => |v: &str| Json::Text(v.to_string()),
    String => Json::Text,
);
impl<T: Into<Json>> From<Vec<T>> for Json {
    fn from(items: Vec<T>) -> Json {
        Json::List(items.into_iter().map(Into::into).collect())
    }
}
impl<T: Into<Json>, const N: usize> From<[T; N]> for Json {
    fn from(items: [T; N]) -> Json {
        Json::List(items.into_iter().map(Into::into).collect())
    }
}

/// A config: built here key by key, or text (JSON, or the path of a JSON file).
#[derive(Clone, Debug)]
pub struct Config(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Built(Json),
    Text(String),
    Environment,
    Mistaken(String),
}

impl Default for Config {
    fn default() -> Config {
        Config::new()
    }
}

impl Config {
    /// A config without keys.
    pub fn new() -> Config {
        Config(Kind::Built(Json::Object(BTreeMap::new())))
    }

    /// What DSRT_CONFIG, else DEEPSPEED_CONFIG holds.
    pub fn from_env() -> Config {
        Config(Kind::Environment)
    }

    /// Sets a key by its path: `set("optimizer.params.lr", 5e-5)`. A config that is text has no keys to set: then making the engine fails.
    pub fn set(mut self, path: &str, value: impl Into<Json>) -> Config {
        if let Kind::Built(root) = &mut self.0 {
            let mut at = root;
            for key in path.split('.') {
                if !matches!(at, Json::Object(_)) {
                    *at = Json::Object(BTreeMap::new());
                }
                at = match at {
                    Json::Object(pairs) => pairs.entry(key.to_string()).or_insert(Json::Null),
                    _ => unreachable!(),
                };
            }
            *at = value.into();
        } else if !matches!(self.0, Kind::Mistaken(_)) {
            self.0 = Kind::Mistaken(format!("Config::set(\"{path}\"): this config is text, a file or the environment's, whose keys can't be set here"));
        }
        self
    }

    /// A Hugging Face folder, or its config.json as an object.
    pub fn model(self, model: impl Into<Json>) -> Config {
        self.set("model", model)
    }

    /// Rows of a micro-batch.
    pub fn micro_batch(self, rows: usize) -> Config {
        self.set("train_micro_batch_size_per_gpu", rows)
    }

    /// Micro-batches of a step.
    pub fn accumulate(self, micro_batches: usize) -> Config {
        self.set("gradient_accumulation_steps", micro_batches)
    }

    /// The optimizer and its parameters.
    pub fn optimizer<'a, V: Into<Json>>(self, name: &str, params: impl IntoIterator<Item = (&'a str, V)>) -> Config {
        self.set("optimizer.type", name).set("optimizer.params", Json::object(params))
    }

    /// The schedule and its parameters.
    pub fn scheduler<'a, V: Into<Json>>(self, name: &str, params: impl IntoIterator<Item = (&'a str, V)>) -> Config {
        self.set("scheduler.type", name).set("scheduler.params", Json::object(params))
    }

    /// Mixed precision in bfloat16.
    pub fn bf16(self) -> Config {
        self.set("bf16.enabled", true)
    }

    /// The seed of everything random.
    pub fn seed(self, seed: i64) -> Config {
        self.set("seed", seed)
    }

    /// Compute threads.
    pub fn threads(self, threads: usize) -> Config {
        self.set("threads", threads)
    }

    pub(crate) fn text(&self) -> Result<Option<std::ffi::CString>> {
        match &self.0 {
            Kind::Built(json) => crate::error::c_text(&json.to_string()).map(Some),
            Kind::Text(text) => crate::error::c_text(text).map(Some),
            Kind::Environment => Ok(None),
            Kind::Mistaken(words) => Err(Error::new(dsrt_sys::DS_E_INVALID_ARGUMENT, words.clone())),
        }
    }
}

impl From<&str> for Config {
    fn from(text: &str) -> Config {
        Config(Kind::Text(text.to_string()))
    }
}
impl From<String> for Config {
    fn from(text: String) -> Config {
        Config(Kind::Text(text))
    }
}
impl From<&std::path::Path> for Config {
    fn from(path: &std::path::Path) -> Config {
        Config(match path.to_str() {
            Some(text) => Kind::Text(text.to_string()),
            None => Kind::Mistaken(format!("the path {:?} is not UTF-8", path)),
        })
    }
}
impl From<Json> for Config {
    fn from(json: Json) -> Config {
        Config(Kind::Built(json))
    }
}
impl From<&Config> for Config {
    fn from(config: &Config) -> Config {
        config.clone()
    }
}
