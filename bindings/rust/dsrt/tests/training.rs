//! The safe layer: training, callbacks, errors, panics, ownership.
use dsrt::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

fn config() -> Config {
    Config::new()
        .model(Json::object([
            ("architectures", Json::from(["GPT2LMHeadModel"])),
            ("model_type", "gpt2".into()),
            ("vocab_size", 11.into()),
            ("n_positions", 16.into()),
            ("n_embd", 8.into()),
            ("n_layer", 1.into()),
            ("n_head", 2.into()),
            ("resid_pdrop", 0.into()),
            ("embd_pdrop", 0.into()),
            ("attn_pdrop", 0.into()),
        ]))
        .micro_batch(2)
        .threads(1)
        .optimizer("SGD", [("lr", 0.1), ("momentum", 0.9)])
}

const IDS: [i64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn batch() -> Batch {
    Batch::new().unwrap().with("input_ids", &IDS, &[2, 4]).unwrap().with("labels", &IDS, &[2, 4]).unwrap()
}

#[derive(Debug)]
struct Broken(usize);
impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "row {} is broken", self.0)
    }
}
impl std::error::Error for Broken {}

/// Epochs of three batches; drops are counted.
struct Rows {
    at: usize,
    fail_at: usize,
    panic_at: usize,
    dropped: Arc<AtomicUsize>,
}
impl Rows {
    fn new() -> Rows {
        Rows { at: 0, fail_at: 0, panic_at: 0, dropped: Arc::new(AtomicUsize::new(0)) }
    }
}
impl Drop for Rows {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}
impl Source for Rows {
    fn next(&mut self, batch: &mut Batch) -> std::result::Result<bool, BoxError> {
        self.at += 1;
        if self.at == self.fail_at {
            return Err(Broken(self.at).into());
        }
        assert_ne!(self.at, self.panic_at, "a panic of the host's");
        if self.at % 4 == 0 {
            return Ok(false);
        }
        batch.set("input_ids", &Tensor::new(&IDS, &[2, 4])?)?;
        batch.set("labels", &Tensor::new(&IDS, &[2, 4])?)?;
        Ok(true)
    }
    fn keeps_cursor(&self) -> bool {
        true
    }
    fn save(&mut self) -> std::result::Result<String, BoxError> {
        Ok(self.at.to_string())
    }
    fn restore(&mut self, cursor: &str) -> std::result::Result<(), BoxError> {
        self.at = cursor.trim().parse()?;
        Ok(())
    }
}

#[test]
fn tensors_come_back_as_they_were() {
    let mut t = Tensor::new(&[1.5f32, -2.0, 3.0, 4.0], &[2, 2]).unwrap();
    assert_eq!((t.dtype(), t.shape(), t.len()), (DType::F32, vec![2, 2], 4));
    assert_eq!(t.to_vec::<i32>().unwrap(), [1, -2, 3, 4]);
    {
        let mut view = t.view::<f32>().unwrap();
        assert_eq!(&view[..2], [1.5, -2.0]);
        view[3] = 9.0;
    }
    assert_eq!(t.to_vec::<f32>().unwrap()[3], 9.0);
    assert!(t.view::<i64>().err().unwrap().to_string().contains("F32"));
    assert_eq!(Tensor::new(&[1i64, 2], &[3]).unwrap_err().code(), Code::InvalidArgument);
    assert!(Tensor::zeros(DType::Bf16, &[0, 3]).unwrap().is_empty());
}

#[test]
fn a_source_feeds_training_and_its_place_is_kept() {
    let mut engine = Engine::new(config()).unwrap();
    let rows = Rows::new();
    let dropped = rows.dropped.clone();
    let mut data = Data::from_source(rows, Some(&engine)).unwrap();
    let steps: Vec<Step> = engine.epoch(&mut data).collect::<Result<_>>().unwrap();
    assert_eq!(steps.iter().map(|s| s.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(steps[2].loss < steps[0].loss);
    let dir = std::env::temp_dir().join(format!("dsrt-rust-{}", std::process::id()));
    engine.train_batch(&mut data).unwrap().unwrap();
    engine.save_as(&dir, Some("here"), Json::object([("client_state", "a \"state\"")])).unwrap();
    engine.load(&dir, Some("here")).unwrap();
    assert_eq!(engine.get("client_state").unwrap(), "\"a \\\"state\\\"\"");
    assert_eq!(engine.epoch(&mut data).count(), 2); // one of the second epoch's three is behind it
    std::fs::remove_dir_all(&dir).unwrap();
    drop(engine);
    assert_eq!(data.next_batch().unwrap_err().code(), Code::State);
    drop(data);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[test]
fn what_a_callback_fails_with_is_the_errors_source() {
    let mut engine = Engine::new(config()).unwrap();
    let mut rows = Rows::new();
    rows.fail_at = 2;
    let mut data = Data::from_source(rows, Some(&engine)).unwrap();
    engine.train_batch(&mut data).unwrap();
    let error = engine.train_batch(&mut data).unwrap_err();
    assert_eq!(error.code(), Code::User);
    assert_eq!(error.into_source().unwrap().downcast_ref::<Broken>().unwrap().0, 2);
    engine.forward(&batch()).unwrap(); // the engine lives on
    let error = engine.generate_with(&[1], Json::Null, |_| Err(Broken(5).into())).unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "row 5 is broken");
}

#[test]
fn a_callbacks_panic_goes_on_outside_of_c() {
    let mut rows = Rows::new();
    rows.panic_at = 1;
    let mut data = Data::from_source(rows, None).unwrap();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| data.next_batch().map(drop))).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("a panic of the host's"));
    assert!(data.next_batch().unwrap().is_some());
}

struct Momentum {
    fail: bool,
}
impl Optimizer for Momentum {
    fn state_per_element(&self) -> usize {
        1
    }
    fn update(&mut self, parameter: &str, _: i64, lr: f64, w: &mut [f32], g: &[f32], s: &mut [f32]) -> std::result::Result<(), BoxError> {
        if self.fail {
            return Err(format!("no rule for {}", parameter).into());
        }
        for ((w, g), s) in w.iter_mut().zip(g).zip(s) {
            *s = 0.9 * *s + g;
            *w -= lr as f32 * *s;
        }
        Ok(())
    }
}

#[test]
fn an_optimizer_of_ones_own_trains_as_the_built_in_one_does() {
    let run = |mut engine: Engine| -> Vec<f32> {
        (0..5)
            .map(|_| {
                let loss = engine.forward(&batch()).unwrap();
                engine.backward().unwrap();
                assert_eq!(engine.step().unwrap(), Outcome::Updated);
                loss
            })
            .collect()
    };
    let own = run(Engine::builder(config()).optimizer(Momentum { fail: false }).build().unwrap());
    let built_in = run(Engine::new(config()).unwrap());
    assert!(own.iter().zip(&built_in).all(|(a, b)| (a - b).abs() < 1e-5), "{:?} {:?}", own, built_in);
    assert!(own[4] < own[0]);
    let mut engine = Engine::builder(config()).optimizer(Momentum { fail: true }).build().unwrap();
    engine.forward(&batch()).unwrap();
    engine.backward().unwrap();
    assert!(engine.step().unwrap_err().into_source().unwrap().to_string().starts_with("no rule for "));
}

#[test]
fn tokens_stream_and_stop() {
    let mut engine = Engine::new(config()).unwrap();
    let mut heard = Vec::new();
    let options = || Json::object([("max_new_tokens", 5)]);
    let made = engine
        .generate_with(&[1, 2], options(), |ids| {
            heard.extend_from_slice(ids);
            Ok(true)
        })
        .unwrap();
    assert_eq!((made.len(), &made), (5, &heard));
    assert_eq!(engine.generate_with(&[1, 2], options(), |_| Ok(false)).unwrap().len(), 1);
}

#[test]
fn prompts_go_on_together_as_they_do_alone() {
    let mut engine = Engine::new(config()).unwrap();
    let prompts = [vec![1, 2], vec![3], vec![4, 5, 6]];
    let options = || Json::object([("max_new_tokens", 4)]);
    let mut heard = vec![Vec::new(); 3];
    let made = engine
        .generate_batch_with(&prompts, options(), |row, ids| {
            heard[row].extend_from_slice(ids);
            Ok(true)
        })
        .unwrap();
    let alone: Vec<_> = prompts.iter().map(|p| engine.generate(p, options()).unwrap()).collect();
    assert_eq!((&made, &heard), (&alone, &alone));
    let ended = engine.generate_batch_with(&prompts, options(), |row, _| Ok(row != 1)).unwrap();
    assert_eq!(ended.iter().map(Vec::len).collect::<Vec<_>>(), [4, 1, 4]);
    let error = engine.generate_batch_with(&prompts, options(), |row, _| Err(Broken(row).into())).unwrap_err();
    assert!(error.into_source().unwrap().downcast_ref::<Broken>().is_some());
}

/// A tokenizer of eleven tokens, as many as the model's: letters, the two halves of "é" (ids 2 and 3), and a chat template.
fn halves() -> Tokenizer {
    let data = std::env::var("DSRT_TEST_DATA").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/data").into());
    Tokenizer::load(data + "/languages").unwrap()
}

#[test]
fn text_streams_in_whole_characters() {
    let tokenizer = halves();
    let mut stream = tokenizer.stream(true).unwrap();
    assert_eq!([0, 2, 3, 1].map(|id| stream.put(&[id]).unwrap()), ["a", "", "é", "b"]);
    assert_eq!(stream.put(&[0, 2]).unwrap() + &stream.end().unwrap(), "a\u{fffd}");
    let mut engine = Engine::new(config()).unwrap();
    let options = || Json::object([("max_new_tokens", 6)]);
    let mut pieces = String::new();
    let made = engine
        .generate_text_with(&tokenizer, &[0], options(), |piece| {
            pieces += piece;
            Ok(true)
        })
        .unwrap();
    let want = tokenizer.decode(&engine.generate(&[0], options()).unwrap(), true).unwrap();
    assert_eq!((&made, &pieces, &engine.generate_text(&tokenizer, "a", options()).unwrap()), (&want, &want, &want));
    let error = engine.generate_text_with(&tokenizer, &[0], options(), |_| Err(Broken(7).into())).unwrap_err();
    assert_eq!(error.into_source().unwrap().downcast_ref::<Broken>().unwrap().0, 7);
    let mut calls = 0;
    engine.generate_text_with(&tokenizer, &[0], options(), |_| (Ok(false), calls += 1).0).unwrap();
    assert_eq!(calls, 1);
}

#[test]
fn a_conversation_becomes_text() {
    let said = vec![Json::object([("role", "user"), ("content", "é?")])];
    let text = halves().chat_text(said, Json::object([("add_generation_prompt", true)])).unwrap();
    assert_eq!(text, "<user>é?<assistant>");
    assert_eq!(halves().chat_text("[]", "{\"template\": \"{{ x }}\"}").unwrap_err().code(), Code::InvalidArgument);
}

#[test]
fn predictions_are_scored() {
    let tags = || vec![Json::from(["B-PER", "O"])];
    assert!(score("spans", tags(), tags()).unwrap().contains("\"f1\":1.0"));
    assert!(score("taste", tags(), tags()).is_err());
}

#[test]
fn errors_say_what_the_library_says() {
    let error = Engine::new(config().set("optimiser.lr", 1)).unwrap_err();
    assert_eq!((error.code(), error.name()), (Code::Config, "DS_E_CONFIG"));
    assert!(error.to_string().contains("did you mean optimizer"));
    assert_eq!(Tokenizer::load("nul\0inside").unwrap_err().code(), Code::InvalidArgument);
    assert!(Engine::builder(config()).mpi(-5).build().is_err());
}

#[test]
fn handles_move_and_share_as_the_types_say() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Engine>();
    send::<Data>();
    sync::<Tokenizer>();
    sync::<Tensor>();
    let cancel = Cancel::new().unwrap();
    let mut engine = Engine::builder(config()).cancel(&cancel).build().unwrap();
    let switch = cancel.clone();
    let trainer = std::thread::spawn(move || loop {
        if let Err(e) = engine.forward(&batch()).and_then(|_| engine.backward()).and_then(|_| engine.step()) {
            return e.code();
        }
    });
    std::thread::sleep(std::time::Duration::from_millis(30));
    switch.set(true);
    assert_eq!(trainer.join().unwrap(), Code::Cancelled);
}

#[test]
fn graphs_and_parameters() {
    let mut g = Graph::new().unwrap();
    let x = g.input("x", DType::F32, &[-1, 3]).unwrap();
    let w = g.param("w", &[3, 1], Json::object([("type", "ones")])).unwrap();
    let y = g.op("matmul", &[x, w], Json::Null).unwrap();
    g.output("y", y).unwrap();
    let squares = g.op("mul", &[y, y], Json::Null).unwrap();
    let loss = g.op("mean", &[squares], Json::Null).unwrap();
    g.loss(loss).unwrap();
    let config = Config::new().micro_batch(1).threads(1).optimizer("SGD", [("lr", 0.1)]);
    let mut engine = Engine::builder(config).graph(&g).build().unwrap();
    drop(g);
    let input = Batch::new().unwrap().with("x", &[1f32, 2.0, 3.0], &[1, 3]).unwrap();
    assert_eq!(engine.forward(&input).unwrap(), 36.0);
    engine.backward().unwrap();
    assert_eq!(engine.param("w", What::Grad).unwrap().to_vec::<f32>().unwrap(), [12.0, 24.0, 36.0]);
    assert_eq!(engine.params().unwrap(), [Param { name: "w".into(), shape: vec![3, 1], trainable: true }]);
}

#[test]
fn a_model_is_scored_on_rows() {
    let rows = std::env::temp_dir().join(format!("dsrt-rust-{}.jsonl", std::process::id()));
    std::fs::write(&rows, "{\"ids\": [1, 2, 3, 4]}\n{\"ids\": [4, 3, 2]}\n{\"ids\": [5, 6, 7, 1, 2]}\n").unwrap();
    let options = || {
        Json::object([
            ("files", Json::from(rows.to_str().unwrap())),
            ("format", "jsonl".into()),
            ("task", "causal".into()),
            ("columns", Json::object([("input_ids", "ids")])),
        ])
    };
    let mut engine = Engine::new(config()).unwrap();
    let scores = engine.evaluate(options(), Json::Null).unwrap();
    assert!(scores.contains("\"rows\":3") && scores.contains("\"perplexity\":"), "{}", scores);
    assert_eq!(engine.evaluate(options(), Json::object([("metric", 1)])).unwrap_err().code(), Code::InvalidArgument);
    let mut data = engine.open_data(options()).unwrap();
    let loss = engine.eval(&data.next_batch().unwrap().unwrap()).unwrap();
    assert!((1.0..4.0).contains(&loss), "{}", loss);
    assert!(Data::open(options()).unwrap_err().to_string().contains("batch_size"));
    std::fs::remove_file(&rows).unwrap();
}

#[test]
fn files_come_and_go() {
    let dir = std::env::temp_dir().join(format!("dsrt-rust-files-{}", std::process::id()));
    let (name, weights_only) = ("transformer.ln_f.weight", || Json::object([("weights_only", true)]));
    let mut engine = Engine::new(config()).unwrap();
    engine.save_as(&dir, Some("here"), weights_only()).unwrap();
    engine.set_param(name, What::Weight, &Tensor::new(&[0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], &[8]).unwrap()).unwrap();
    assert_eq!(engine.param(name, What::Weight).unwrap().to_vec::<f32>().unwrap()[3], 3.0);
    engine.load_as(&dir, Some("here"), weights_only()).unwrap();
    assert_eq!(engine.param(name, What::Weight).unwrap().to_vec::<f32>().unwrap()[3], 1.0);
    engine.export_as(dir.join("tuned"), Json::object([("dtype", "bf16")])).unwrap();
    assert!(dir.join("tuned/model.safetensors").exists());
    engine.report_with(dir.join("report.html"), Json::object([("title", "A run of Rust's")])).unwrap();
    assert!(std::fs::read_to_string(dir.join("report.html")).unwrap().contains("A run of Rust"));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_loss_of_ones_own() {
    let mut engine = Engine::new(config()).unwrap();
    engine.forward_only(&batch()).unwrap();
    let gradient: Vec<f32> = (0..88).map(|i| (i % 3) as f32).collect();
    engine.backward_from(&Batch::new().unwrap().with("logits", &gradient, &[2, 4, 11]).unwrap()).unwrap();
    let size = |e: &mut Engine| e.param("transformer.wte.weight", What::Grad).unwrap().to_vec::<f32>().unwrap().iter().map(|g| g.abs()).sum::<f32>();
    assert!(size(&mut engine) > 0.0);
    engine.zero_grad().unwrap();
    assert_eq!(size(&mut engine), 0.0);
    engine.set("optimizer.params.lr", 0.05).unwrap();
    assert!((engine.metric("lr").unwrap() - 0.05).abs() < 1e-9);
    assert!(engine.predict(&batch(), "logits").unwrap().to_vec::<f32>().unwrap().len() == 88);
}

#[test]
fn a_familys_body_is_part_of_a_graph() {
    let data = std::env::var("DSRT_TEST_DATA").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/data").into());
    let mut g = Graph::new().unwrap();
    let ids = g.input("input_ids", DType::I64, &[-1, -1]).unwrap();
    let h = g.model(&(data + "/models/bert-mlm"), &[ids], "last_hidden_state", Json::object([("prefix", "bert.")])).unwrap();
    let loss = g.op("mean", &[h], Json::Null).unwrap();
    g.loss(loss).unwrap();
    assert!(Engine::builder(op_config()).graph(&g).build().unwrap().params().unwrap()[0].name.starts_with("bert."));
    assert!(Graph::ops_json().unwrap().contains("layernorm") && build_info().contains("compiler"));
    let vocabulary = std::env::temp_dir().join(format!("dsrt-rust-{}.txt", std::process::id()));
    std::fs::write(&vocabulary, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nfilm\n##s\n").unwrap();
    let tokenizer = Tokenizer::load(&vocabulary).unwrap();
    std::fs::remove_file(&vocabulary).unwrap();
    assert_eq!(tokenizer.encode_pair("good films", Some("good"), true).unwrap().type_ids, [0, 0, 0, 0, 0, 1, 1]);
    let padded = tokenizer.encode_batch(&["good", "films good"], None, Json::Null).unwrap();
    assert_eq!(padded.get("input_ids").unwrap().to_vec::<i64>().unwrap(), [2, 5, 3, 0, 0, 2, 6, 7, 5, 3]);
}

/// y = factor * x * x, and the sum of each row of y.
struct Square;
impl Square {
    fn factor(attributes: &str) -> f32 {
        attributes.split(&[':', '}'][..]).nth(1).map_or(1.0, |n| n.trim().parse().unwrap())
    }
}
impl Op for Square {
    fn outputs(&self) -> usize {
        2
    }
    fn shapes(&self, _: &str, inputs: &[OpInput<'_>]) -> std::result::Result<Vec<Vec<i64>>, BoxError> {
        match inputs {
            [x] if x.shape().len() == 2 && x.values::<f32>().is_empty() => Ok(vec![x.shape().to_vec(), x.shape()[..1].to_vec()]),
            _ => Err("square takes one matrix".into()),
        }
    }
    fn forward(&self, attributes: &str, inputs: &[OpInput<'_>], outputs: &mut [OpOutput<'_>]) -> std::result::Result<(), BoxError> {
        let (f, columns) = (Square::factor(attributes), inputs[0].shape()[1] as usize);
        let x = inputs[0].values::<f32>();
        outputs[0].values().iter_mut().zip(x).for_each(|(y, x)| *y = f * x * x);
        outputs[1].values().iter_mut().zip(x.chunks(columns)).for_each(|(s, row)| *s = row.iter().map(|x| f * x * x).sum());
        Ok(())
    }
    fn differentiable(&self) -> bool {
        true
    }
    fn backward(
        &self,
        attributes: &str,
        inputs: &[OpInput<'_>],
        _: &[OpInput<'_>],
        given: &[OpInput<'_>],
        wanted: &mut [OpOutput<'_>],
    ) -> std::result::Result<(), BoxError> {
        let (f, columns) = (Square::factor(attributes), inputs[0].shape()[1] as usize);
        let (x, dy, dsums) = (inputs[0].values::<f32>(), given[0].values::<f32>(), given[1].values::<f32>());
        for (i, dx) in wanted[0].values().iter_mut().enumerate() {
            *dx = 2.0 * f * x[i] * (dy[i] + dsums[i / columns]);
        }
        Ok(())
    }
}

/// Its output is its input; then it fails, or panics.
struct Plain {
    fail: bool,
    panic: bool,
    dropped: Arc<AtomicUsize>,
}
impl Op for Plain {
    fn forward(&self, _: &str, inputs: &[OpInput<'_>], outputs: &mut [OpOutput<'_>]) -> std::result::Result<(), BoxError> {
        assert!(!self.panic, "a panic of the op's");
        outputs[0].values().copy_from_slice(inputs[0].values());
        if self.fail {
            Err(Broken(3).into())
        } else {
            Ok(())
        }
    }
}
impl Drop for Plain {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

fn rows_of_three() -> Batch {
    Batch::new().unwrap().with("x", &[1f32, -2.0, 3.0, 0.5, 4.0, -1.0], &[2, 3]).unwrap()
}

fn op_config() -> Config {
    Config::new().micro_batch(2).threads(1).optimizer("SGD", [("lr", 0.01)])
}

#[test]
fn an_op_of_ones_own_trains_as_ops_of_the_library_do() {
    let text = |body: &str| {
        format!(
            "graph m(%x: f32[rows,3], param %w: f32[3,2] normal 0.5) {{\n  %h = matmul %x, %w\n{}  %a = mean %y\n  %b = mean %s\n  \
             %loss = add %a, %b\n  loss = %loss\n}}\n",
            body
        )
    };
    let losses = |g: Graph| -> Vec<f32> {
        let mut engine = Engine::builder(op_config()).graph(&g).build().unwrap();
        drop(g);
        (0..4)
            .map(|_| {
                let loss = engine.forward(&rows_of_three()).unwrap();
                engine.backward().unwrap();
                engine.step().unwrap();
                loss
            })
            .collect()
    };
    let mut own = Graph::new().unwrap();
    own.define_op("square", Square).unwrap();
    own.read(&text("  %y, %s = square %h {factor = 2}\n")).unwrap();
    assert!(Engine::builder(op_config()).graph(&own).plan().unwrap().contains("memory"));
    let built_in = Graph::parse(&text("  %q = mul %h, %h\n  %y = scale %q {factor = 2}\n  %s = sum %y {axes = [1]}\n")).unwrap();
    let (got, want) = (losses(own), losses(built_in));
    assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs()), "{:?} {:?}", got, want);
    assert!(want[3] < want[0]);
}

#[test]
fn what_an_op_fails_with_is_the_errors_source() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let engine_of = |fail, panic| {
        let mut g = Graph::new().unwrap();
        g.define_op("plain", Plain { fail, panic, dropped: dropped.clone() }).unwrap();
        g.read("graph m(%x: f32[rows,3], param %w: f32[3] ones) {\n  %h = mul %x, %w\n  %y = plain %h\n  %loss = mean %y\n  output y = %y\n  loss = %loss\n}\n")
            .unwrap();
        Engine::builder(op_config()).graph(&g).build().unwrap()
    };
    let error = engine_of(true, false).eval(&rows_of_three()).unwrap_err();
    assert_eq!((error.code(), error.into_source().unwrap().downcast_ref::<Broken>().unwrap().0), (Code::User, 3));
    let mut panicking = engine_of(false, true);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panicking.eval(&rows_of_three()).map(drop))).unwrap_err();
    assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "a panic of the op's");
    drop(panicking);
    let mut engine = engine_of(false, false);
    let error = engine.forward(&rows_of_three()).unwrap_err();
    assert_eq!(error.code(), Code::Unsupported);
    assert!(error.to_string().contains("plain: this op has no gradient"), "{}", error);
    let mut g = Graph::new().unwrap();
    g.define_op("square", Square).unwrap();
    let x = g.input("x", DType::F32, &[-1]).unwrap();
    let error = g.ops("square", &[x], Json::Null, 2).unwrap_err();
    assert_eq!(error.into_source().unwrap().to_string(), "square takes one matrix");
    assert!(g.define_op("matmul", Square).unwrap_err().to_string().contains("already"));
    drop(engine);
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
}

#[test]
fn the_log_arrives() {
    let lines = Arc::new(AtomicUsize::new(0));
    let count = lines.clone();
    set_log(Level::Trace, move |_, _, _| {
        count.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    drop(Engine::new(config()).unwrap());
    reset_log().unwrap();
    assert!(lines.load(Ordering::SeqCst) > 0);
    assert_eq!(Arc::strong_count(&lines), 1); // the sink was released
    let this = std::thread::current().id(); // other tests log on their threads
    let armed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let trigger = armed.clone();
    set_log(Level::Trace, move |_, _, _| {
        if std::thread::current().id() == this && trigger.swap(false, Ordering::SeqCst) {
            panic!("in the log")
        }
    })
    .unwrap();
    let panic = std::panic::catch_unwind(|| {
        armed.store(true, Ordering::SeqCst);
        Engine::new(config()).map(drop)
    })
    .unwrap_err();
    assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "in the log");
    reset_log().unwrap();
    drop(Engine::new(config()).unwrap());
    assert_eq!((version(), abi_version().0), ("0.1.0", 0));
    assert!(plan(config()).unwrap().contains("memory") && config_describe().unwrap().contains("gradient_clipping"));
}

#[test]
fn json_is_written_as_it_should() {
    let json = Json::object([("a", Json::from("q\"\\\n\u{1F600}")), ("b", Json::from(vec![1.5, 2.0])), ("c", Json::Null)]);
    assert_eq!(json.to_string(), "{\"a\": \"q\\\"\\\\\\u000a\u{1F600}\", \"b\": [1.5, 2.0], \"c\": null}");
}

struct Replacing;
impl Source for Replacing {
    fn next(&mut self, b: &mut Batch) -> std::result::Result<bool, BoxError> {
        *b = batch();
        Ok(true)
    }
}

#[test]
fn a_source_that_replaces_its_batch_is_told() {
    let mut data = Data::from_source(Replacing, None).unwrap();
    let error = data.next_batch().unwrap_err();
    assert!(error.into_source().unwrap().to_string().contains("assigned its batch"));
}

#[test]
fn a_config_that_is_text_refuses_keys() {
    let error = Engine::new(Config::from("config.json").set("seed", 3)).unwrap_err();
    assert!(error.code() == Code::InvalidArgument && error.to_string().contains("seed"), "{}", error);
}

#[test]
fn options_may_be_json_text_in_every_call() {
    let mut engine = Engine::new(config()).unwrap();
    let dir = std::env::temp_dir().join(format!("dsrt-rust-text-{}", std::process::id()));
    engine.save_as(&dir, None, r#"{"client_state": 3}"#).unwrap();
    engine.load(&dir, None).unwrap();
    assert_eq!(engine.get("client_state").unwrap(), "3");
    std::fs::remove_dir_all(&dir).unwrap();
    let mut g = Graph::new().unwrap();
    g.param("w", &[3, 1], r#"{"type": "ones"}"#).unwrap();
}

#[test]
#[cfg(unix)]
fn paths_that_are_not_utf8_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(b"/tmp/x\xff"));
    let error = Tokenizer::load(path).unwrap_err();
    assert!(error.code() == Code::InvalidArgument && error.to_string().contains("not UTF-8"), "{}", error);
    assert_eq!(Engine::new(path).unwrap_err().code(), Code::InvalidArgument);
}
