package dsrt

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"
)

const config = `{"model": {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 11, "n_positions": 16, "n_embd": 8, "n_layer": 1,
	"n_head": 2, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}, "threads": 1, "train_micro_batch_size_per_gpu": 2,
	"optimizer": {"type": "SGD", "params": {"lr": 0.1, "momentum": 0.9}}}`

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func tinyBatch() *Batch {
	b := NewBatch()
	fill(b)
	return b
}

func fill(b *Batch) error {
	ids := []int64{1, 2, 3, 4, 5, 6, 7, 8}
	if err := Put(b, "input_ids", ids, 2, 4); err != nil {
		return err
	}
	return Put(b, "labels", ids, 2, 4)
}

func TestTensorsComeBackAsTheyWere(t *testing.T) {
	x := must(NewTensor([]float32{1.5, -2, 3, 4}, 2, 2))
	if x.DType() != Float32 || !reflect.DeepEqual(x.Shape(), []int{2, 2}) || x.Len() != 4 {
		t.Fatal(x.DType(), x.Shape())
	}
	if got := must(Values[int32](x)); !reflect.DeepEqual(got, []int32{1, -2, 3, 4}) {
		t.Fatal(got)
	}
	if must(NewTensor([]bool{true, false})).DType() != Bool || must(Zeros(BFloat16, 3)).Len() != 3 {
		t.Fatal("types")
	}
	if _, err := NewTensor([]int64{1, 2}, 3); !errors.Is(err, ErrInvalidArgument) {
		t.Fatal(err)
	}
}

func TestAViewIsTheTensorsMemoryAndOutlivesIt(t *testing.T) {
	x := must(NewTensor([]float32{1, 2, 3}))
	view := must(x.View())
	slice := must(Slice[float32](view))
	slice[1] = 9
	if got := must(x.Float32s()); got[1] != 9 {
		t.Fatal(got)
	}
	if _, err := Slice[int32](view); !errors.Is(err, ErrInvalidArgument) {
		t.Fatal(err)
	}
	x.Close()
	if slice[1] != 9 {
		t.Fatal(slice)
	}
	view.Close()
	if x.DType() != -1 {
		t.Fatal("a closed tensor has no type")
	}
}

type batches struct{ at, n, failAt int }

var errBroken = errors.New("row 2 is broken")

func (s *batches) Next(b *Batch) error {
	s.at++
	switch {
	case s.at == s.failAt:
		return errBroken
	case s.at%(s.n+1) == 0:
		return io.EOF
	}
	return fill(b)
}

type cursor struct {
	batches
	restored string
}

func (s *cursor) Save() (string, error)     { return `{"at": ` + strconv.Itoa(s.at) + "}", nil }
func (s *cursor) Restore(text string) error { s.restored = text; return nil }

func TestASourceOfOnesOwnFeedsTrainingAndItsPlaceIsKept(t *testing.T) {
	engine := must(NewEngine(config))
	defer engine.Close()
	source := &cursor{batches: batches{n: 3}}
	data := must(NewData(source, engine))
	defer data.Close()
	steps := 0
	for {
		step, err := engine.TrainBatch(data)
		if err == io.EOF {
			break
		}
		ok(t, err)
		if step.Loss < 1 || step.Loss > 4 {
			t.Fatal(step)
		}
		steps++
	}
	dir := t.TempDir()
	ok(t, engine.Save(dir, "", map[string]any{"client_state": 7}))
	ok(t, engine.Load(dir, ""))
	if steps != 3 || !strings.Contains(source.restored, `"at"`) || must(engine.Get("client_state")) != "7" {
		t.Fatal(steps, source.restored, must(engine.Get("client_state")))
	}
}

func TestACallbacksErrorComesOutOfTheCall(t *testing.T) {
	engine := must(NewEngine(config))
	data := must(NewData(&batches{n: 9, failAt: 2}, engine))
	_, err := engine.TrainBatch(data)
	ok(t, err)
	if _, err = engine.TrainBatch(data); err != errBroken {
		t.Fatal(err)
	}
	if _, err = engine.TrainBatch(data); err != nil {
		t.Fatal("the engine lives on, but says", err)
	}
	alone := must(NewData(&batches{failAt: 1}, nil))
	if _, err = alone.Next(); err != errBroken {
		t.Fatal(err)
	}
	_, err = engine.Generate([]int32{1}, nil, func([]int32) error { panic("in Go") })
	var p *PanicError
	if !errors.As(err, &p) || p.Value != "in Go" || !strings.Contains(string(p.Stack), "TestACallbacksError") {
		t.Fatal(err)
	}
}

type momentum struct{ fail error }

func (momentum) StatePerElement() int { return 1 }

func (m momentum) Update(_ string, _ int64, lr float64, weight, gradient, state []float32) error {
	for i, g := range gradient {
		state[i] = 0.9*state[i] + g
		weight[i] -= float32(lr) * state[i]
	}
	return m.fail
}

func TestAnOptimizerOfOnesOwnTrainsAsTheBuiltInOneDoes(t *testing.T) {
	losses := func(options ...Option) (all []float32) {
		engine := must(NewEngine(config, options...))
		defer engine.Close()
		for i := 0; i < 5; i++ {
			all = append(all, must(engine.Forward(tinyBatch())))
			ok(t, engine.Backward())
			if must(engine.Step()) != Updated {
				t.Fatal("no update")
			}
		}
		return
	}
	own, builtIn := losses(WithOptimizer(momentum{})), losses()
	for i := range own {
		if math.Abs(float64(own[i]-builtIn[i])) > 1e-5 || own[4] >= own[0] {
			t.Fatal(own, builtIn)
		}
	}
	engine := must(NewEngine(config, WithOptimizer(momentum{fail: errBroken})))
	must(engine.Forward(tinyBatch()))
	ok(t, engine.Backward())
	if _, err := engine.Step(); err != errBroken {
		t.Fatal(err)
	}
}

func TestTokensStreamAndStop(t *testing.T) {
	engine := must(NewEngine(config))
	var heard []int32
	made := must(engine.Generate([]int32{1, 2}, map[string]any{"max_new_tokens": 5, "temperature": 0}, func(ids []int32) error {
		heard = append(heard, ids...)
		return nil
	}))
	if len(made) != 5 || !reflect.DeepEqual(made, heard) {
		t.Fatal(made, heard)
	}
	stopped := must(engine.Generate([]int32{1, 2}, nil, func(ids []int32) error { return io.EOF }))
	if len(stopped) != 1 {
		t.Fatal(stopped)
	}
}

func TestPromptsGoOnTogetherAsTheyDoAlone(t *testing.T) {
	engine := must(NewEngine(config))
	prompts, options := [][]int32{{1, 2}, {3}, {4, 5, 6}}, map[string]any{"max_new_tokens": 4}
	heard := make([][]int32, 3)
	made := must(engine.GenerateBatch(prompts, options, func(row int, ids []int32) error {
		heard[row] = append(heard[row], ids...)
		return nil
	}))
	for row, prompt := range prompts {
		if alone := must(engine.Generate(prompt, options, nil)); !reflect.DeepEqual(made[row], alone) || !reflect.DeepEqual(heard[row], alone) {
			t.Fatal(row, made, heard, alone)
		}
	}
	made = must(engine.GenerateBatch(prompts, options, func(row int, ids []int32) error {
		if row == 1 {
			return io.EOF
		}
		return nil
	}))
	if len(made[0]) != 4 || len(made[1]) != 1 || len(made[2]) != 4 {
		t.Fatal(made)
	}
	if _, err := engine.GenerateBatch(prompts, options, func(int, []int32) error { return errBroken }); err != errBroken {
		t.Fatal(err)
	}
}

// A tokenizer of eleven tokens, as many as the model's: letters, the two halves of "é" (ids 2 and 3), and a chat template.
func halves() *Tokenizer {
	data := os.Getenv("DSRT_TEST_DATA")
	if data == "" {
		data = "../../tests/data"
	}
	return must(LoadTokenizer(filepath.Join(data, "languages")))
}

func TestTextStreamsInWholeCharacters(t *testing.T) {
	tokenizer := halves()
	stream := must(tokenizer.Stream(true))
	for i, want := range []string{"a", "", "é", "b"} {
		if got := must(stream.Put([]int32{[]int32{0, 2, 3, 1}[i]})); got != want {
			t.Fatal(i, got)
		}
	}
	if got := must(stream.Put([]int32{0, 2})) + must(stream.End()); got != "a\ufffd" {
		t.Fatal(got)
	}
	engine := must(NewEngine(config))
	options := map[string]any{"max_new_tokens": 6}
	var pieces []string
	made := must(engine.GenerateText(tokenizer, "a", true, options, func(piece string) error {
		pieces = append(pieces, piece)
		return nil
	}))
	want := must(tokenizer.Decode(must(engine.Generate([]int32{0}, options, nil)), true))
	if made != want || strings.Join(pieces, "") != want {
		t.Fatal(made, pieces, want)
	}
	if _, err := engine.GenerateText(tokenizer, "a", true, options, func(string) error { return errBroken }); err != errBroken {
		t.Fatal(err)
	}
	calls := 0
	must(engine.GenerateText(tokenizer, "a", true, options, func(string) error { calls++; return io.EOF }))
	if calls != 1 {
		t.Fatal(calls)
	}
}

func TestAConversationBecomesText(t *testing.T) {
	said := []map[string]string{{"role": "user", "content": "é?"}}
	if text := must(halves().ChatText(said, map[string]any{"add_generation_prompt": true})); text != "<user>é?<assistant>" {
		t.Fatal(text)
	}
	if _, err := halves().ChatText("[]", nil); !errors.Is(err, ErrInvalidArgument) {
		t.Fatal(err)
	}
}

func TestPredictionsAreScored(t *testing.T) {
	tags := [][]string{{"B-PER", "O"}}
	if scores := must(Score("spans", tags, tags)); !strings.Contains(scores, `"f1":1.0`) {
		t.Fatal(scores)
	}
	if _, err := Score("taste", tags, tags); err == nil {
		t.Fatal("no such metric")
	}
}

func TestErrorsAreTold(t *testing.T) {
	_, err := NewEngine(map[string]any{"optimiser": 1})
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrConfig) || errors.Is(err, ErrIO) || !strings.Contains(err.Error(), "did you mean optimizer") {
		t.Fatal(err)
	}
	if ErrConfig.String() != "DS_E_CONFIG" || ErrInternal.String() != "DS_E_INTERNAL" {
		t.Fatal(ErrConfig)
	}
	engine := must(NewEngine(config))
	engine.Close()
	engine.Close()
	if _, err := engine.Forward(tinyBatch()); !errors.Is(err, ErrState) {
		t.Fatal(err)
	}
	if _, err := engine.Generate([]int32{1}, nil, func([]int32) error { return engine.ZeroGrad() }); err == nil {
		t.Fatal("a closed engine wrote")
	}
}

// Failures of many goroutines at once: each hears of its own.
func TestEachGoroutineHearsItsOwnError(t *testing.T) {
	done := make(chan error)
	for g := 0; g < 16; g++ {
		go func(g int) {
			for i := 0; i < 100; i++ {
				name := fmt.Sprintf("no/such/place/%d/%d", g, i)
				if _, err := LoadTokenizer(name); err == nil || !strings.Contains(err.Error(), name+":") {
					done <- fmt.Errorf("%s: %v", name, err)
					return
				}
				runtime.Gosched()
			}
			done <- nil
		}(g)
	}
	for g := 0; g < 16; g++ {
		ok(t, <-done)
	}
}

func TestASwitchEndsARunFromAnotherGoroutine(t *testing.T) {
	stop := NewCancel()
	engine := must(NewEngine(config, WithCancel(stop)))
	data := must(NewData(&batches{n: 1000}, engine))
	go func() {
		time.Sleep(20 * time.Millisecond)
		stop.Set(true)
	}()
	for {
		if _, err := engine.TrainBatch(data); err != nil && err != io.EOF {
			if !errors.Is(err, ErrCancelled) {
				t.Fatal(err)
			}
			break
		}
	}
	stop.Set(false)
	if _, err := engine.TrainBatch(data); err != nil {
		t.Fatal(err)
	}
}

func TestTheLogArrives(t *testing.T) {
	lines := 0
	ok(t, SetLog(func(Level, string, string) { lines++ }, LevelTrace))
	must(NewEngine(config)).Close()
	if lines == 0 {
		t.Fatal("no line")
	}
	ok(t, SetLog(func(Level, string, string) { panic("in the log") }, LevelTrace))
	_, err := NewEngine(config)
	var p *PanicError
	if !errors.As(err, &p) || p.Value != "in the log" {
		t.Fatal(err)
	}
	ok(t, SetLog(nil, LevelWarn))
	must(NewEngine(config)).Close()
	if major, _ := ABIVersion(); major != 0 || Version() != "0.1.0" || !strings.Contains(BuildInfo(), "compiler") || !strings.Contains(must(ConfigDescribe()), "zero_optimization") {
		t.Fatal(major, Version())
	}
}

func TestGraphsAndTokenizers(t *testing.T) {
	g := NewGraph()
	x := must(g.Input("x", Float32, -1, 3))
	w := must(g.Param("w", map[string]any{"type": "ones"}, 3, 1))
	y := must(g.Op("matmul", nil, x, w))
	ok(t, g.Output("y", y))
	ok(t, g.Loss(must(g.Op("mean", nil, must(g.Op("mul", nil, y, y))))))
	engine := must(NewEngine(`{"optimizer": {"type": "SGD", "params": {"lr": 0.1}}, "train_micro_batch_size_per_gpu": 1, "threads": 1}`, WithGraph(g)))
	b := NewBatch()
	ok(t, Put(b, "x", []float32{1, 2, 3}, 1, 3))
	if loss := must(engine.Forward(b)); loss != 36 {
		t.Fatal(loss)
	}
	if p := must(engine.Params()); len(p) != 1 || p[0].Name != "w" || !reflect.DeepEqual(p[0].Shape, []int{3, 1}) || !p[0].Trainable {
		t.Fatal(p)
	}
	vocab := filepath.Join(t.TempDir(), "vocab.txt")
	ok(t, os.WriteFile(vocab, []byte("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nfilm\n##s\n"), 0o600))
	tokenizer := must(LoadTokenizer(vocab))
	e := must(tokenizer.Encode("good films"))
	if !reflect.DeepEqual(e.IDs, []int32{2, 5, 6, 7, 3}) || e.Offsets[3] != [2]int64{9, 10} || must(tokenizer.Decode(e.IDs, true)) != "good films" {
		t.Fatal(e)
	}
	ids := must(must(tokenizer.EncodeBatch([]string{"good", "films good"}, nil, nil)).Get("input_ids"))
	if !reflect.DeepEqual(must(Values[int64](ids)), []int64{2, 5, 3, 0, 0, 2, 6, 7, 5, 3}) {
		t.Fatal(must(Values[int64](ids)))
	}
}

func resident() int {
	text := must(os.ReadFile("/proc/self/statm"))
	return must(strconv.Atoi(strings.Fields(string(text))[1])) * 4096
}

func TestHandlesLeaveNothingBehind(t *testing.T) {
	engine, tokenizer := must(NewEngine(config)), halves()
	round := func(n int, close bool) {
		for i := 0; i < n; i++ {
			b := tinyBatch()
			g := NewGraph()
			_ = must(g.Input("x", Float32, -1))
			p := must(engine.Param("transformer.ln_f.bias", Weight))
			d := must(NewData(&batches{}, nil))
			s := must(tokenizer.Stream(true))
			must(s.Put([]int32{0}))
			NewCancel()
			if close {
				b.Close()
				g.Close()
				p.Close()
				d.Close()
				s.Close()
			} else if i%500 == 0 {
				runtime.GC()
			}
		}
		for i := 0; i < 3; i++ { // finalizers, and the goroutines that they leave
			runtime.GC()
			time.Sleep(20 * time.Millisecond)
		}
	}
	round(2000, true)
	round(2000, false)
	// A leak is there each time; threads that a busy machine makes and finalizers that come late are not.
	grown := math.MaxInt
	for tries := 0; grown > 16<<20; tries++ {
		if tries == 3 {
			t.Fatalf("%d MiB more", grown>>20)
		}
		before := resident()
		round(10000, true)
		round(10000, false)
		debug.FreeOSMemory()
		grown = resident() - before
	}
	for i := 0; i < 20; i++ {
		must(NewEngine(config)).Close()
	}
	before := resident()
	for i := 0; i < 100; i++ {
		must(NewEngine(config)).Close()
	}
	if grown := resident() - before; grown > 16<<20 {
		t.Fatalf("%d MiB more after 100 engines", grown>>20)
	}
}

func TestViewsAreFreedByCloseOnly(t *testing.T) {
	tensor := must(Zeros(Float32, 1<<20))
	view := must(tensor.View())
	numbers := must(Slice[float32](view))
	numbers[1<<20-1] = 9
	view = nil
	tensor.Close()
	for i := 0; i < 3; i++ {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	if numbers[1<<20-1] != 9 {
		t.Fatal(numbers[1<<20-1])
	}
	if _, err := tensor.Float32s(); !errors.Is(err, ErrState) || err.Error() != "this tensor is closed" {
		t.Fatal(err)
	}
	short := must(NewTensor([]float32{1}))
	closed := must(short.View())
	closed.Close()
	closed.Close()
	if _, err := Slice[float32](closed); !errors.Is(err, ErrState) {
		t.Fatal(err)
	}
}

func TestWhatCWouldMisreadIsRefused(t *testing.T) {
	if _, err := NewTensor([]float32{}, 2); err == nil || err.Error() != "a tensor f32[2] has 8 bytes, but bytes is 0" {
		t.Fatal(err)
	}
	tokenizer := must(LoadTokenizer(os.Getenv("DSRT_TEST_DATA") + "/languages"))
	if _, err := tokenizer.EncodeBatch([]string{"a", "b\x00b"}, nil, nil); err == nil || err.Error() != "texts[1] holds a NUL at byte 1" {
		t.Fatal(err)
	}
	if _, err := LoadTokenizer("a\x00b"); !errors.Is(err, ErrInvalidArgument) {
		t.Fatal(err)
	}
}
