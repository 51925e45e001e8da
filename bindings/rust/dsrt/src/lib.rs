//! Training of large language models on libdsrt.
//!
//! ```no_run
//! # fn main() -> dsrt::Result<()> {
//! let config = dsrt::Config::new()
//!     .model("minilm")
//!     .micro_batch(32)
//!     .optimizer("AdamW", [("lr", 5e-5)])
//!     .set("data.files", "reviews.csv")
//!     .set("data.columns.text", "review")
//!     .set("data.columns.label", "good");
//! let mut engine = dsrt::Engine::new(config)?;
//! let mut data = engine.data()?;
//! for step in engine.epoch(&mut data) {
//!     println!("loss {:.4}", step?.loss);
//! }
//! engine.export("tuned")
//! # }
//! ```
//!
//! A failed call is an [`Error`] with a [`Code`] and the library's words. What a callback fails with is that error's `source`; what it panics
//! with goes on as a panic, outside of C. Handles free themselves. All of them may move to other threads; an engine belongs to one call at a
//! time, which `&mut` says.
#![warn(missing_docs)]

mod config;
mod data;
mod engine;
mod error;
mod graph;
mod library;
mod op;
mod tensor;
mod tokenizer;

pub use config::{Config, Json};
pub use data::{Batches, Data, Source};
pub use engine::{Cancel, Engine, EngineBuilder, Epoch, Optimizer, Outcome, Param, Step, What};
pub use error::{BoxError, Code, Error, Result};
pub use graph::{Graph, Value};
pub use library::{abi_version, build_info, config_describe, plan, reset_log, score, set_log, version, Level};
pub use op::{Op, OpInput, OpOutput};
pub use tensor::{Batch, DType, Element, Tensor, View};
pub use tokenizer::{Encoding, TextStream, Tokenizer};
