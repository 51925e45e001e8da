//! Trains the model of examples/first/config.json, keeps a checkpoint, and lets the model write. Run it from the root of the repository:
//!
//!     cargo run --release --manifest-path bindings/rust/Cargo.toml --example train -- FOLDER STEPS [--resume]
//!
//! STEPS counts from the beginning of training, across runs. The last column is the loss again, bit by bit: all languages print the same.
use dsrt::{Engine, Json, Tokenizer};

fn train(folder: &str, steps: f64, resume: bool) -> dsrt::Result<()> {
    let mut engine = Engine::new("examples/first/config.json")?;
    let mut data = engine.data()?;
    if resume {
        engine.load(folder, None)?;
        println!("resumed at step {}", engine.metric("global_steps")?);
    }
    while engine.metric("global_steps")? < steps {
        // None is the end of an epoch; the next call begins the next one.
        if let Some(step) = engine.train_batch(&mut data)? {
            println!("step {}  loss {:.4}  {:08x}", step.number, step.loss, step.loss.to_bits());
        }
    }
    engine.save(folder)?;

    let tokenizer = Tokenizer::load("examples/pretrain/tokenizer.json")?;
    let options = Json::object([("max_new_tokens", 60), ("temperature", 0)]);
    let ids = engine.generate(&tokenizer.encode("'Twas ")?.ids, options)?;
    println!("writes: {}", tokenizer.decode(&ids, true)?.replace('\n', " / "));
    Ok(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.len() < 2 {
        eprintln!("usage: train FOLDER STEPS [--resume]");
        std::process::exit(2);
    }
    if let Err(e) = train(&arguments[0], arguments[1].parse().unwrap_or(0.0), arguments.len() > 2) {
        eprintln!("{}: {}", e.name(), e);
        std::process::exit(1);
    }
}
