//! The mistakes of tests/bindings/mistakes.c, in Rust.
use dsrt::{Batch, DType, Data, Engine, Json, Tensor, Tokenizer, What};

const CONFIG: &str = r#"{"model": {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 11, "n_positions": 16, "n_embd": 8,
    "n_layer": 1, "n_head": 2}, "threads": 1, "train_micro_batch_size_per_gpu": 2, "optimizer": {"type": "AdamW", "params": {"lr": 0.01}}}"#;

fn say<T>(what: &str, result: dsrt::Result<T>) -> Option<T> {
    match result {
        Ok(made) => {
            println!("{}: DS_OK: went well", what);
            Some(made)
        }
        Err(e) => {
            println!("{}: {}: {}", what, e.name(), e);
            None
        }
    }
}

fn main() {
    say("unknown key", Engine::new(r#"{"optimiser": {}}"#));
    say("broken json", Engine::new(r#"{"model": "#));
    say("no model", Engine::new(r#"{"model": "no/such/folder"}"#));
    say("no config", Engine::new("no/such/config.json"));
    let mut engine = say("good config", Engine::new(CONFIG)).unwrap();
    say("early backward", engine.backward());
    say("early step", engine.step());
    say("unknown metric", engine.metric("speed"));
    say("unknown parameter", engine.param("h.7.w", What::Weight));
    say("unknown setting", engine.set("optimizer.params.lear", 1));
    say("bad setting", engine.set("optimizer.params.lr", "fast"));
    say("fixed setting", engine.set("seed", 1));
    say("unknown value", engine.get("no.such.key"));
    say("no checkpoint", engine.load("no/such/folder", None));
    say("early output", engine.output("logits"));
    say("bad shape", Tensor::zeros(DType::F32, &[-2i64 as usize]));
    let tensor = say("tensor", Tensor::new(&[1i64, 2, 30], &[1, 3])).unwrap();
    let mut batch = say("batch", Batch::new()).unwrap();
    say("nothing of that name", batch.get("labels"));
    say("empty batch", engine.predict(&batch, "logits"));
    say("ids", batch.set("input_ids", &tensor));
    say("id beyond the vocabulary", engine.predict(&batch, "logits"));
    say("unknown input", batch.set("colour", &tensor));
    say("unknown input used", engine.predict(&batch, "logits"));
    say("no data", Data::open(r#"{"files": "no/such/rows.csv", "columns": {"text": "review"}}"#));
    say("unknown data option", Data::open(Json::object([("file", "rows.csv")])));
    say("no tokenizer", Tokenizer::load("no/such/tokenizer.json"));
    say("bad prompt", engine.generate(&[99], Json::Null));
    say("bad option", engine.generate(&[99], Json::object([("heat", 1)])));
}
