package dsrt

import (
	"encoding/json"
	"io"
	"runtime"
	"strings"

	"dsrt/internal/native"
)

// Engine is a model, its optimizer and its schedule. One call at a time (ErrBusy); Metric and Cancel.Set from any goroutine.
type Engine struct{ n native.Engine }

func (e *Engine) native() native.Engine {
	if e == nil {
		return nil
	}
	return e.n
}

// Option is a part that the host supplies beside the config.
type Option func(native.Options)

// WithGraph takes the model from a graph in place of the config's.
func WithGraph(g *Graph) Option { return func(o native.Options) { o.Set_graph(g.n) } }

// WithCancel lets a switch end running calls.
func WithCancel(c *Cancel) Option { return func(o native.Options) { o.Set_cancel(c.n) } }

// WithMPI gives the job's communicator, as MPI_Comm_c2f does.
func WithMPI(fortranComm int) Option {
	return func(o native.Options) { o.Set_mpi(fortranComm) }
}

// Optimizer is an optimizer of the host's own: it changes weight and state in place. state holds StatePerElement numbers an element, zeros
// at first, and is checkpointed. The slices are the library's, of one span of a parameter, and not to be kept.
type Optimizer interface {
	StatePerElement() int
	Update(parameter string, step int64, lr float64, weight, gradient, state []float32) error
}

type updater struct {
	optimizer Optimizer
	handle    native.Updater
}

func (u *updater) Update(parameter string, step int64, lr float64, weight, gradient, state, n int64) int {
	return run(func() (bool, error) {
		return false, u.optimizer.Update(parameter, step, lr, at[float32](weight, n), at[float32](gradient, n),
			at[float32](state, n*int64(u.optimizer.StatePerElement())))
	})
}

func (u *updater) Released() { go native.DeleteDirectorUpdater(u.handle) }

// WithOptimizer uses an optimizer of the host's own in place of the config's.
func WithOptimizer(optimizer Optimizer) Option {
	return func(o native.Options) {
		u := &updater{optimizer: optimizer}
		u.handle = native.NewDirectorUpdater(u)
		o.Set_updater(optimizer.StatePerElement(), u.handle)
	}
}

// NewEngine makes an engine. config: JSON text, the path of a JSON file, "" for what DSRT_CONFIG or DEEPSPEED_CONFIG holds, or anything that
// json.Marshal makes an object of.
func NewEngine(config any, options ...Option) (*Engine, error) {
	text, err := jsonText(config)
	if err != nil {
		return nil, err
	}
	e := &Engine{}
	if err = withOptions(options, func(o native.Options) { e.n = native.NewEngine__SWIG_0(text, o) }); err != nil {
		return nil, err
	}
	runtime.SetFinalizer(e, func(e *Engine) { native.DeleteEngine(e.n) })
	return e, nil
}

// withOptions makes a call with the options that the library takes.
func withOptions(options []Option, f func(native.Options)) error {
	var o native.Options
	if len(options) > 0 {
		o = native.NewOptions()
		defer native.DeleteOptions(o)
	}
	for _, option := range options {
		if err := call(func() { option(o) }); err != nil {
			return err
		}
	}
	return call(func() { f(o) })
}

// Plan is JSON: what a run would need in memory, FLOPs and traffic. Runs nothing.
func Plan(config any, options ...Option) (report string, err error) {
	text, err := jsonText(config)
	if err != nil {
		return "", err
	}
	err = withOptions(options, func(o native.Options) { report = native.EnginePlan__SWIG_0(text, o) })
	return
}

// do makes a call of the engine.
func (e *Engine) do(f func(), keep ...any) error { return call(f, e, keep) }

// Forward runs one micro-batch in training mode; the mean loss over unignored labels.
func (e *Engine) Forward(b *Batch) (loss float32, err error) {
	err = e.do(func() { loss = e.n.Forward(b.n) }, b)
	return
}

// ForwardOnly doesn't wait for a loss, and needs no labels.
func (e *Engine) ForwardOnly(b *Batch) error { return e.do(func() { e.n.Forward_only(b.n) }, b) }

// Backward adds the gradient of the last forward's loss.
func (e *Engine) Backward() error { return e.do(func() { e.n.Backward() }) }

// BackwardFrom does so for a loss of the host's own: gradients by output name.
func (e *Engine) BackwardFrom(gradients *Batch) error {
	return e.do(func() { e.n.Backward_from(gradients.n) }, gradients)
}

// Outcome of a step.
type Outcome int

const (
	Updated Outcome = iota
	Skipped         // an fp16 gradient overflowed
	Pending         // more micro-batches are needed
)

// Step updates once as many backwards were counted as the config accumulates.
func (e *Engine) Step() (o Outcome, err error) {
	err = e.do(func() { o = Outcome(e.n.Update()) })
	return
}

// ZeroGrad drops the gradients accumulated so far.
func (e *Engine) ZeroGrad() error { return e.do(func() { e.n.Zero_grad() }) }

// TrainStep is one step of TrainBatch.
type TrainStep struct {
	Loss    float32
	Skipped bool
}

// TrainBatch is forward, backward and step over one global batch; io.EOF at the end of an epoch, and nothing was done.
func (e *Engine) TrainBatch(d *Data) (step TrainStep, err error) {
	outcome := 0
	err = e.do(func() {
		t := e.n.Train(d.n)
		if t != nil && t.Swigcptr() != 0 {
			step.Loss, outcome = t.GetLoss(), t.GetOutcome()
			native.DeleteTrained(t)
		}
	}, d)
	if err != nil {
		return step, err
	}
	if outcome == 3 {
		return step, io.EOF
	}
	step.Skipped = outcome == 1
	return step, nil
}

// Eval is the loss without dropout. EvalOnly needs no labels; Output reads either's outputs.
func (e *Engine) Eval(b *Batch) (loss float32, err error) {
	err = e.do(func() { loss = e.n.Eval(b.n) }, b)
	return
}

func (e *Engine) EvalOnly(b *Batch) error { return e.do(func() { e.n.Eval_only(b.n) }, b) }

// Predict is an output without dropout, labels or loss: "logits" ...
func (e *Engine) Predict(b *Batch, output string) (*Tensor, error) {
	if err := e.EvalOnly(b); err != nil {
		return nil, err
	}
	return e.Output(output)
}

// Evaluate is JSON: the scores of the model's task on rows. data as OpenData's options, nil: what the config's split keeps from training.
func (e *Engine) Evaluate(data, options any) (scores string, err error) {
	rows, err := jsonText(data)
	if err != nil {
		return "", err
	}
	text, err := jsonText(options)
	if err != nil {
		return "", err
	}
	err = e.do(func() { scores = e.n.Evaluate(rows, text) })
	return
}

// Output is an output of the later of the last forward and the last eval: "logits" ... A snapshot.
func (e *Engine) Output(name string) (*Tensor, error) {
	return e.tensor(func() native.Tensor { return e.n.Output_of(name) })
}

func (e *Engine) tensor(f func() native.Tensor) (*Tensor, error) {
	var n native.Tensor
	if err := e.do(func() { n = f() }); err != nil {
		return nil, err
	}
	return tensorOf(n), nil
}

// Metric is a number about the run: loss, lr, grad_norm, global_steps, tokens_per_second ... From any goroutine.
func (e *Engine) Metric(name string) (value float64, err error) {
	err = call(func() { value = e.n.Metric(name) }, e)
	return
}

// Set changes a key at run time: "optimizer.params.lr", "gradient_clipping" ... value: anything json.Marshal takes.
func (e *Engine) Set(key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return e.do(func() { e.n.Set_json(key, string(text)) })
}

// Get is the effective value of a key as JSON; "" is the whole effective config, "client_state" what the loaded checkpoint held.
func (e *Engine) Get(key string) (text string, err error) {
	err = e.do(func() { text = e.n.Get_json(key) })
	return
}

// Param is a parameter by its name in model.safetensors.
type Param struct {
	Name      string
	Shape     []int
	Trainable bool
}

// Params lists the engine's parameters.
func (e *Engine) Params() ([]Param, error) {
	var all []Param
	err := e.do(func() {
		list := e.n.Parameters_list()
		if list == nil || list.Swigcptr() == 0 {
			return
		}
		defer native.DeleteParams(list)
		for i := int64(0); i < list.Count(); i++ {
			all = append(all, Param{list.Name(i), ints(list.Dims(i)), list.Trainable(i)})
		}
	})
	return all, err
}

// What of a parameter.
type What int

const (
	Weight What = iota
	Grad
	FirstMoment
	SecondMoment
)

// Param is a whole tensor in float32. SetParam replaces it.
func (e *Engine) Param(name string, what What) (*Tensor, error) {
	return e.tensor(func() native.Tensor { return e.n.Parameter(name, int(what)) })
}

func (e *Engine) SetParam(name string, what What, t *Tensor) error {
	return e.do(func() { e.n.Put_param(name, int(what), t.n) }, t)
}

// Save writes a checkpoint; tag "": global_step<N>; options nil, or map[string]any{"client_state": ..., "async": true}.
func (e *Engine) Save(dir, tag string, options any) error {
	text, err := jsonText(options)
	if err != nil {
		return err
	}
	return e.do(func() { e.n.Save(dir, tag, text) })
}

// Load loads one, written under any layout; tag "": the latest.
func (e *Engine) Load(dir, tag string) error { return e.LoadAs(dir, tag, nil) }

// LoadAs does so with options: map[string]any{"weights_only": true}.
func (e *Engine) LoadAs(dir, tag string, options any) error {
	text, err := jsonText(options)
	if err != nil {
		return err
	}
	return e.do(func() { e.n.Load(dir, tag, text) })
}

// Export writes a Hugging Face folder. ExportAs takes options: map[string]any{"dtype": "bf16", "adapter": true ...}.
func (e *Engine) Export(dir string) error { return e.ExportAs(dir, nil) }

func (e *Engine) ExportAs(dir string, options any) error {
	text, err := jsonText(options)
	if err != nil {
		return err
	}
	return e.do(func() { e.n.Export_folder(dir, text) })
}

// Report writes a self-contained report.html. contents may be nil.
func (e *Engine) Report(path string, contents any) error {
	text, err := jsonText(contents)
	if err != nil {
		return err
	}
	return e.do(func() { e.n.Report(path, text) })
}

type tokenSink struct {
	hear   func(ids []int32) error
	handle native.TokenSink
}

func (s *tokenSink) Tokens(ids, n int64) int {
	return run(func() (bool, error) {
		err := s.hear(append([]int32(nil), at[int32](ids, n)...))
		if err == io.EOF {
			return true, nil
		}
		return false, err
	})
}

func (s *tokenSink) Released() { go native.DeleteDirectorTokenSink(s.handle) }

// Generate continues a prompt; the new ids. options nil, or map[string]any{"max_new_tokens": 20, "temperature": 0}. onTokens (may be nil)
// hears of ids as they come; io.EOF stops, another error comes back from this call.
func (e *Engine) Generate(prompt []int32, options any, onTokens func(ids []int32) error) ([]int32, error) {
	text, err := jsonText(options)
	if err != nil {
		return nil, err
	}
	var sink *tokenSink
	var handle native.TokenSink
	if onTokens != nil {
		sink = &tokenSink{hear: onTokens}
		sink.handle = native.NewDirectorTokenSink(sink)
		handle = sink.handle
	}
	var made []int32
	err = e.do(func() {
		ids := e.n.Generated(bytesOf(prompt), text, handle)
		if ids != nil && ids.Swigcptr() != 0 {
			made = append(made, numbersOf[int32](ids.Memory())...)
			native.DeleteIds(ids)
		}
	}, prompt)
	return made, err
}

type rowTokenSink struct {
	hear   func(row int, ids []int32) error
	handle native.RowTokenSink
}

func (s *rowTokenSink) Tokens(row, ids, n int64) int {
	return run(func() (bool, error) {
		err := s.hear(int(row), append([]int32(nil), at[int32](ids, n)...))
		if err == io.EOF {
			return true, nil
		}
		return false, err
	})
}

func (s *rowTokenSink) Released() { go native.DeleteDirectorRowTokenSink(s.handle) }

// GenerateBatch does the same for several prompts at once, of any lengths, which is much faster than one by one; the new ids of each.
// onTokens (may be nil) hears of new ids of a row; io.EOF ends that row, another error comes back from this call.
func (e *Engine) GenerateBatch(prompts [][]int32, options any, onTokens func(row int, ids []int32) error) ([][]int32, error) {
	text, err := jsonText(options)
	if err != nil {
		return nil, err
	}
	var all []int32
	var lengths []int64
	for _, prompt := range prompts {
		all = append(all, prompt...)
		lengths = append(lengths, int64(len(prompt)))
	}
	var sink *rowTokenSink
	var handle native.RowTokenSink
	if onTokens != nil {
		sink = &rowTokenSink{hear: onTokens}
		sink.handle = native.NewDirectorRowTokenSink(sink)
		handle = sink.handle
	}
	var rows [][]int32
	err = e.do(func() {
		ids := e.n.Generated_rows(bytesOf(all), bytesOf(lengths), text, handle)
		if ids == nil || ids.Swigcptr() == 0 {
			return
		}
		defer native.DeleteIds(ids)
		made := append([]int32(nil), numbersOf[int32](ids.Memory())...)
		for _, n := range numbersOf[int64](ids.Counts()) {
			rows, made = append(rows, made[:n:n]), made[n:]
		}
	}, all, lengths)
	return rows, err
}

// GenerateText goes from text to text. onText (may be nil) hears of the new text as it becomes certain, in whole characters; io.EOF stops.
// options as Generate's. specialTokens false: the prompt has them already, as a chat template's text.
func (e *Engine) GenerateText(t *Tokenizer, prompt string, specialTokens bool, options any, onText func(piece string) error) (string, error) {
	encoded, err := t.EncodePair(prompt, "", specialTokens)
	if err != nil {
		return "", err
	}
	stream, err := t.Stream(true)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	var all strings.Builder
	stopped := false
	heard := func(piece string, err error) error {
		all.WriteString(piece)
		if err != nil || stopped || onText == nil || piece == "" {
			return err
		}
		err = onText(piece)
		stopped = err == io.EOF
		return err
	}
	if _, err = e.Generate(encoded.IDs, options, func(ids []int32) error { return heard(stream.Put(ids)) }); err != nil {
		return all.String(), err
	}
	if err = heard(stream.End()); err == io.EOF {
		err = nil
	}
	return all.String(), err
}

// Close frees threads, memory and files, and cancels a call that runs in another goroutine; later calls fail.
func (e *Engine) Close() error { e.n.Close(); return nil }

// Cancel is a switch that ends running calls with ErrCancelled.
type Cancel struct{ n native.Cancel }

// NewCancel makes a switch that is off.
func NewCancel() *Cancel {
	c := &Cancel{native.NewCancel()}
	runtime.SetFinalizer(c, func(c *Cancel) { native.DeleteCancel(c.n) })
	return c
}

// Set turns it on or off.
func (c *Cancel) Set(on bool) { _ = call(func() { c.n.Set(on) }, c) }
