use crate::config::{Config, Json};
use crate::data::Data;
use crate::error::{c_option, c_path, c_pointer, c_text, callback, check, handle, release, text_of, BoxError, Handed, Result};
use crate::tokenizer::Tokenizer;
use crate::graph::Graph;
use crate::tensor::{Batch, Tensor};
use dsrt_sys as sys;
use std::ffi::{c_void, CStr};
use std::os::raw::c_char;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::Arc;

handle!(
    /// A model, its optimizer and its schedule, trained with DeepSpeed's semantics.
    Engine, ds_engine, ds_engine_destroy
);
// What takes `&self` may be called from any thread, or answers `Code::Busy`.
unsafe impl Sync for Engine {}

struct CancelHandle(*mut sys::ds_cancel);
impl Drop for CancelHandle {
    fn drop(&mut self) {
        unsafe { sys::ds_cancel_destroy(self.0) }
    }
}
unsafe impl Send for CancelHandle {}
unsafe impl Sync for CancelHandle {}

/// A switch that ends running calls with `Code::Cancelled`. Clones are the same switch.
#[derive(Clone)]
pub struct Cancel(Arc<CancelHandle>);

impl Cancel {
    /// A switch that is off.
    pub fn new() -> Result<Cancel> {
        let mut ptr = null_mut();
        check(unsafe { sys::ds_cancel_create(&mut ptr) })?;
        Ok(Cancel(Arc::new(CancelHandle(ptr))))
    }

    /// Turns it on or off, from any thread.
    pub fn set(&self, on: bool) {
        unsafe { sys::ds_cancel_set((self.0).0, on as i32) };
    }
}

/// An optimizer of the host's own.
pub trait Optimizer: Send {
    /// Numbers of state an element: the engine keeps and checkpoints them, zeros at first.
    fn state_per_element(&self) -> usize;
    /// Changes weight and state of one span of a parameter in place.
    fn update(
        &mut self,
        parameter: &str,
        step: i64,
        lr: f64,
        weight: &mut [f32],
        gradient: &[f32],
        state: &mut [f32],
    ) -> std::result::Result<(), BoxError>;
}

struct Updater {
    optimizer: Box<dyn Optimizer>,
    per_element: usize,
}

unsafe extern "C" fn update(
    user: *mut c_void,
    parameter: *const c_char,
    step: i64,
    lr: f64,
    weight: *mut f32,
    gradient: *const f32,
    state: *mut f32,
    n: usize,
) -> i32 {
    let updater = &mut *(user as *mut Updater);
    callback(|| {
        use std::slice::{from_raw_parts, from_raw_parts_mut};
        let state: &mut [f32] = if updater.per_element > 0 { from_raw_parts_mut(state, n * updater.per_element) } else { &mut [] };
        let name = CStr::from_ptr(parameter).to_string_lossy();
        updater.optimizer.update(&name, step, lr, from_raw_parts_mut(weight, n), from_raw_parts(gradient, n), state)?;
        Ok(sys::DS_OK)
    })
}

/// An engine with parts that the host supplies.
pub struct EngineBuilder {
    config: Config,
    options: Result<*mut sys::ds_options>,
}

impl Drop for EngineBuilder {
    fn drop(&mut self) {
        if let Ok(options) = self.options {
            unsafe { sys::ds_options_destroy(options) }
        }
    }
}

impl EngineBuilder {
    fn with(mut self, f: impl FnOnce(*mut sys::ds_options) -> Result<i32>) -> EngineBuilder {
        if let Ok(options) = self.options {
            if let Err(e) = f(options) {
                unsafe { sys::ds_options_destroy(options) };
                self.options = Err(e);
            }
        }
        self
    }

    /// The model, in place of the config's.
    pub fn graph(self, graph: &Graph) -> EngineBuilder {
        self.with(|o| check(unsafe { sys::ds_options_set_graph(o, graph.ptr) }))
    }

    /// A switch that ends running calls.
    pub fn cancel(self, cancel: &Cancel) -> EngineBuilder {
        self.with(|o| check(unsafe { sys::ds_options_set_cancel(o, (cancel.0).0) }))
    }

    /// The communicator of the job, as `MPI_Comm_c2f` gives it.
    pub fn mpi(self, fortran_comm: i32) -> EngineBuilder {
        self.with(|o| check(unsafe { sys::ds_options_set_mpi(o, fortran_comm) }))
    }

    /// An optimizer in place of the config's.
    pub fn optimizer(self, optimizer: impl Optimizer + 'static) -> EngineBuilder {
        self.with(|o| {
            let per_element = optimizer.state_per_element();
            let user = Box::into_raw(Box::new(Updater { optimizer: Box::new(optimizer), per_element }));
            let callbacks = sys::ds_optimizer_callbacks {
                struct_size: std::mem::size_of::<sys::ds_optimizer_callbacks>(),
                user: user as *mut c_void,
                floats_per_element: per_element as i32,
                update: Some(update),
                release: Some(release::<Updater>),
            };
            let status = unsafe { sys::ds_options_set_optimizer(o, &callbacks) };
            if status < 0 {
                drop(unsafe { Box::from_raw(user) });
            }
            check(status)
        })
    }

    /// The options that there are, or what one of the parts failed with.
    fn options(&mut self) -> Result<*mut sys::ds_options> {
        let options = std::mem::replace(&mut self.options, Ok(null_mut()))?;
        self.options = Ok(options);
        Ok(options)
    }

    /// JSON: what a run would need in memory, FLOPs and traffic. Runs nothing.
    pub fn plan(mut self) -> Result<String> {
        let (options, text) = (self.options()?, self.config.text()?);
        text_of(|out, _| unsafe { sys::ds_plan(c_pointer(&text), options, out) })
    }

    /// Makes the engine.
    pub fn build(mut self) -> Result<Engine> {
        let (options, text) = (self.options()?, self.config.text()?);
        Engine::made(|out| unsafe { sys::ds_engine_create(c_pointer(&text), options, out) })
    }
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The parameters were updated.
    Updated,
    /// An fp16 gradient overflowed, and the update was skipped.
    Skipped,
    /// More micro-batches are needed.
    Pending,
}

/// One step of `train_batch`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Steps so far, this one included.
    pub number: u64,
    /// The step's normalised loss.
    pub loss: f32,
    /// Updated or skipped.
    pub outcome: Outcome,
}

/// A parameter, by its name in model.safetensors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Param {
    pub name: String,
    pub shape: Vec<usize>,
    pub trainable: bool,
}

/// What of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(i32)]
pub enum What {
    Weight,
    Grad,
    FirstMoment,
    SecondMoment,
}

impl Engine {
    /// An engine of a config: a [`Config`], JSON text, or the path of a JSON file.
    pub fn new(config: impl Into<Config>) -> Result<Engine> {
        let text = config.into().text()?;
        Engine::made(|out| unsafe { sys::ds_engine_create(c_pointer(&text), null(), out) })
    }

    /// The same with parts that the host supplies.
    pub fn builder(config: impl Into<Config>) -> EngineBuilder {
        let mut options = null_mut();
        let made = check(unsafe { sys::ds_options_create(&mut options) }).map(|_| options);
        EngineBuilder { config: config.into(), options: made }
    }

    /// The files that the config names under "data".
    pub fn data(&self) -> Result<Data> {
        Data::open_with(None, self.ptr)
    }

    /// Files with options of their own.
    pub fn open_data(&self, options: impl Into<Json>) -> Result<Data> {
        Data::open_with(Some(options.into()), self.ptr)
    }

    /// Runs one micro-batch in training mode; the mean loss over unignored labels.
    pub fn forward(&mut self, batch: &Batch) -> Result<f32> {
        let mut loss = 0.0;
        check(unsafe { sys::ds_forward(self.ptr, batch.ptr, &mut loss) })?;
        Ok(loss)
    }

    /// The same without waiting for a loss; labels are not needed.
    pub fn forward_only(&mut self, batch: &Batch) -> Result<()> {
        check(unsafe { sys::ds_forward(self.ptr, batch.ptr, null_mut()) }).map(drop)
    }

    /// Adds the gradient of the last forward's loss.
    pub fn backward(&mut self) -> Result<()> {
        check(unsafe { sys::ds_backward(self.ptr) }).map(drop)
    }

    /// The same for a loss of the host's own: gradients by output name.
    pub fn backward_from(&mut self, gradients: &Batch) -> Result<()> {
        check(unsafe { sys::ds_backward_from(self.ptr, gradients.ptr) }).map(drop)
    }

    /// Updates once as many backwards were counted as the config accumulates.
    pub fn step(&mut self) -> Result<Outcome> {
        Ok(match check(unsafe { sys::ds_step(self.ptr) })? {
            sys::DS_SKIPPED => Outcome::Skipped,
            sys::DS_PENDING => Outcome::Pending,
            _ => Outcome::Updated,
        })
    }

    /// Drops the gradients accumulated so far.
    pub fn zero_grad(&mut self) -> Result<()> {
        check(unsafe { sys::ds_zero_grad(self.ptr) }).map(drop)
    }

    /// Forward, backward and step over one global batch; `None` at the end of an epoch.
    pub fn train_batch(&mut self, data: &mut Data) -> Result<Option<Step>> {
        let mut loss = 0.0;
        let outcome = match check(unsafe { sys::ds_train_batch(self.ptr, data.ptr, &mut loss) })? {
            sys::DS_END => return Ok(None),
            sys::DS_SKIPPED => Outcome::Skipped,
            _ => Outcome::Updated,
        };
        Ok(Some(Step { number: self.metric("global_steps")? as u64, loss, outcome }))
    }

    /// Trains while it is iterated, to the end of an epoch.
    pub fn epoch<'a>(&'a mut self, data: &'a mut Data) -> Epoch<'a> {
        Epoch { engine: self, data, over: false }
    }

    /// The loss without dropout; a pending forward and gradients stay.
    pub fn eval(&mut self, batch: &Batch) -> Result<f32> {
        let mut loss = 0.0;
        check(unsafe { sys::ds_eval(self.ptr, batch.ptr, &mut loss) })?;
        Ok(loss)
    }

    /// JSON: the scores of the model's task on rows. `data` as `open_data`'s options, `Json::Null`: what the config's split keeps from training.
    pub fn evaluate(&mut self, data: impl Into<Json>, options: impl Into<Json>) -> Result<String> {
        let (data, options) = (c_option(data.into().given().as_deref())?, c_option(options.into().given().as_deref())?);
        text_of(|out, _| unsafe { sys::ds_evaluate(self.ptr, c_pointer(&data), c_pointer(&options), out) })
    }

    /// An output without dropout, labels or loss: "logits" ...
    pub fn predict(&mut self, batch: &Batch, output: &str) -> Result<Tensor> {
        check(unsafe { sys::ds_eval(self.ptr, batch.ptr, null_mut()) })?;
        self.output(output)
    }

    /// An output of the later of the last forward and the last eval, a snapshot.
    pub fn output(&mut self, name: &str) -> Result<Tensor> {
        let name = c_text(name)?;
        Tensor::made(|out| unsafe { sys::ds_output(self.ptr, name.as_ptr(), out) })
    }

    /// A number about the run: loss, lr, grad_norm, global_steps, tokens_per_second ...
    pub fn metric(&self, name: &str) -> Result<f64> {
        let name = c_text(name)?;
        let mut value = 0.0;
        check(unsafe { sys::ds_metric(self.ptr, name.as_ptr(), &mut value) })?;
        Ok(value)
    }

    /// Changes at run time what can be: "optimizer.params.lr", "gradient_clipping" ...
    pub fn set(&mut self, key: &str, value: impl Into<Json>) -> Result<()> {
        let (key, json) = (c_text(key)?, c_text(&value.into().to_string())?);
        check(unsafe { sys::ds_engine_set(self.ptr, key.as_ptr(), json.as_ptr()) }).map(drop)
    }

    /// The effective value of a key, as JSON; "" is the whole effective config.
    pub fn get(&self, key: &str) -> Result<String> {
        let key = c_text(key)?;
        text_of(|out, _| unsafe { sys::ds_engine_get(self.ptr, key.as_ptr(), out) })
    }

    /// The parameters, by the names of model.safetensors.
    pub fn params(&self) -> Result<Vec<Param>> {
        let mut n = 0;
        check(unsafe { sys::ds_param_count(self.ptr, &mut n) })?;
        (0..n)
            .map(|i| {
                let (mut name, mut ndim, mut shape, mut trainable) = (null(), 0, null(), 0);
                check(unsafe { sys::ds_param_name(self.ptr, i, &mut name) })?;
                check(unsafe { sys::ds_param_info(self.ptr, name, &mut ndim, &mut shape, &mut trainable) })?;
                Ok(Param {
                    name: unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned(),
                    shape: (0..ndim as usize).map(|d| unsafe { *shape.add(d) } as usize).collect(),
                    trainable: trainable != 0,
                })
            })
            .collect()
    }

    /// A whole parameter, or its gradient or moment, in f32.
    pub fn param(&mut self, name: &str, what: What) -> Result<Tensor> {
        let name = c_text(name)?;
        Tensor::made(|out| unsafe { sys::ds_param_get(self.ptr, name.as_ptr(), what as i32, out) })
    }

    /// Replaces it.
    pub fn set_param(&mut self, name: &str, what: What, tensor: &Tensor) -> Result<()> {
        let name = c_text(name)?;
        check(unsafe { sys::ds_param_set(self.ptr, name.as_ptr(), what as i32, tensor.ptr) }).map(drop)
    }

    /// Writes a checkpoint, named after the step.
    pub fn save(&mut self, dir: impl AsRef<Path>) -> Result<()> {
        self.save_as(dir, None, Json::Null)
    }

    /// The same with a tag, and options as `Json::object([("client_state", 3)])`, or `Json::Null`.
    pub fn save_as(&mut self, dir: impl AsRef<Path>, tag: Option<&str>, options: impl Into<Json>) -> Result<()> {
        let options = options.into().given();
        let (dir, tag, options) = (c_path(dir.as_ref())?, c_option(tag)?, c_option(options.as_deref())?);
        check(unsafe { sys::ds_save(self.ptr, dir.as_ptr(), c_pointer(&tag), c_pointer(&options)) }).map(drop)
    }

    /// Loads a checkpoint, the latest without a tag.
    pub fn load(&mut self, dir: impl AsRef<Path>, tag: Option<&str>) -> Result<()> {
        self.load_as(dir, tag, Json::Null)
    }

    /// The same with options as `Json::object([("weights_only", true)])`, or `Json::Null`.
    pub fn load_as(&mut self, dir: impl AsRef<Path>, tag: Option<&str>, options: impl Into<Json>) -> Result<()> {
        let options = c_option(options.into().given().as_deref())?;
        let (dir, tag) = (c_path(dir.as_ref())?, c_option(tag)?);
        check(unsafe { sys::ds_load(self.ptr, dir.as_ptr(), c_pointer(&tag), c_pointer(&options)) }).map(drop)
    }

    /// Writes a Hugging Face folder.
    pub fn export(&mut self, dir: impl AsRef<Path>) -> Result<()> {
        self.export_as(dir, Json::Null)
    }

    /// The same with options: `Json::object([("dtype", "bf16")])`, or `[("adapter", true)]` for a LoRA adapter alone.
    pub fn export_as(&mut self, dir: impl AsRef<Path>, options: impl Into<Json>) -> Result<()> {
        let (dir, options) = (c_path(dir.as_ref())?, c_option(options.into().given().as_deref())?);
        check(unsafe { sys::ds_export(self.ptr, dir.as_ptr(), c_pointer(&options)) }).map(drop)
    }

    /// Writes a self-contained report.html: curves, memory plan, timeline.
    pub fn report(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.report_with(path, Json::Null)
    }

    /// The same with a title, a summary and charts beside the engine's own, as an object.
    pub fn report_with(&mut self, path: impl AsRef<Path>, contents: impl Into<Json>) -> Result<()> {
        let (path, contents) = (c_path(path.as_ref())?, c_option(contents.into().given().as_deref())?);
        check(unsafe { sys::ds_report(self.ptr, path.as_ptr(), c_pointer(&contents)) }).map(drop)
    }

    /// Continues a prompt; the new ids. Options as `Json::object([("max_new_tokens", 20)])`, or `Json::Null`.
    pub fn generate(&mut self, prompt: &[i32], options: impl Into<Json>) -> Result<Vec<i32>> {
        self.generate_with(prompt, options, |_| Ok(true))
    }

    /// The same; `on_tokens` hears of ids as they come, and stops by `Ok(false)`.
    pub fn generate_with<F>(&mut self, prompt: &[i32], options: impl Into<Json>, mut on_tokens: F) -> Result<Vec<i32>>
    where
        F: FnMut(&[i32]) -> std::result::Result<bool, BoxError>,
    {
        unsafe extern "C" fn hear<F>(ids: *const i32, n: usize, user: *mut c_void) -> i32
        where
            F: FnMut(&[i32]) -> std::result::Result<bool, BoxError>,
        {
            let on_tokens = &mut *(user as *mut F);
            callback(|| Ok(if on_tokens(std::slice::from_raw_parts(ids, n))? { 0 } else { 1 }))
        }
        let options = c_option(options.into().given().as_deref())?;
        let (mut ids, mut n) = (Handed::none(), 0);
        let user = &mut on_tokens as *mut F as *mut c_void;
        check(unsafe {
            sys::ds_generate(self.ptr, prompt.as_ptr(), prompt.len(), c_pointer(&options), Some(hear::<F>), user, &mut ids.0, &mut n)
        })?;
        Ok(ids.to_vec(n))
    }

    /// Continues several prompts at once, of any lengths, which is much faster than one by one; the new ids of each.
    pub fn generate_batch<P: AsRef<[i32]>>(&mut self, prompts: &[P], options: impl Into<Json>) -> Result<Vec<Vec<i32>>> {
        self.generate_batch_with(prompts, options, |_, _| Ok(true))
    }

    /// The same; `on_tokens(row, ids)` hears of new ids of a row, and ends that row by `Ok(false)`.
    pub fn generate_batch_with<P, F>(&mut self, prompts: &[P], options: impl Into<Json>, mut on_tokens: F) -> Result<Vec<Vec<i32>>>
    where
        P: AsRef<[i32]>,
        F: FnMut(usize, &[i32]) -> std::result::Result<bool, BoxError>,
    {
        unsafe extern "C" fn hear<F>(row: usize, ids: *const i32, n: usize, user: *mut c_void) -> i32
        where
            F: FnMut(usize, &[i32]) -> std::result::Result<bool, BoxError>,
        {
            let on_tokens = &mut *(user as *mut F);
            callback(|| Ok(if on_tokens(row, std::slice::from_raw_parts(ids, n))? { 0 } else { 1 }))
        }
        let options = c_option(options.into().given().as_deref())?;
        let all: Vec<i32> = prompts.iter().flat_map(|p| p.as_ref().iter().copied()).collect();
        let lengths: Vec<usize> = prompts.iter().map(|p| p.as_ref().len()).collect();
        let (mut ids, mut counts) = (Handed::none(), Handed::none());
        let user = &mut on_tokens as *mut F as *mut c_void;
        let (pointer, hear) = (c_pointer(&options), Some(hear::<F> as unsafe extern "C" fn(usize, *const i32, usize, *mut c_void) -> i32));
        check(unsafe {
            sys::ds_generate_batch(self.ptr, all.as_ptr(), lengths.as_ptr(), lengths.len(), pointer, hear, user, &mut ids.0, &mut counts.0)
        })?;
        let counts = counts.to_vec(lengths.len());
        let made = ids.to_vec(counts.iter().sum());
        let mut at = 0;
        Ok(counts.into_iter().map(|n| (made[at..at + n].to_vec(), at += n).0).collect())
    }

    /// From text to text: `prompt` is encoded with the tokenizer's special tokens.
    pub fn generate_text(&mut self, tokenizer: &Tokenizer, prompt: &str, options: impl Into<Json>) -> Result<String> {
        let ids = tokenizer.encode(prompt)?.ids;
        self.generate_text_with(tokenizer, &ids, options, |_| Ok(true))
    }

    /// From ids to text; `on_text` hears of the new text as it becomes certain, in whole characters, and stops by `Ok(false)`.
    pub fn generate_text_with<F>(&mut self, tokenizer: &Tokenizer, prompt: &[i32], options: impl Into<Json>, mut on_text: F) -> Result<String>
    where
        F: FnMut(&str) -> std::result::Result<bool, BoxError>,
    {
        let (mut stream, mut all, mut on) = (tokenizer.stream(true)?, String::new(), true);
        let mut heard = |piece: String| {
            all.push_str(&piece);
            if on && !piece.is_empty() {
                on = on_text(&piece)?;
            }
            Ok::<bool, BoxError>(on)
        };
        self.generate_with(prompt, options, |ids| heard(stream.put(ids)?))?;
        heard(stream.end()?).map_err(|e| crate::Error::of_callback(e))?;
        Ok(all)
    }
}

/// Steps to the end of an epoch or to the first error.
pub struct Epoch<'a> {
    engine: &'a mut Engine,
    data: &'a mut Data,
    over: bool,
}

impl Iterator for Epoch<'_> {
    type Item = Result<Step>;
    fn next(&mut self) -> Option<Result<Step>> {
        if self.over {
            return None;
        }
        let item = self.engine.train_batch(self.data).transpose();
        self.over = !matches!(item, Some(Ok(_)));
        item
    }
}

impl Epoch<'_> {
    /// The engine, between steps.
    pub fn engine(&mut self) -> &mut Engine {
        self.engine
    }
}
