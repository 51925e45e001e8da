package dsrt

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Rows of ids, and how they are read.
func rowsOfIDs(t *testing.T) map[string]any {
	rows := filepath.Join(t.TempDir(), "rows.jsonl")
	ok(t, os.WriteFile(rows, []byte("{\"ids\": [1, 2, 3, 4]}\n{\"ids\": [4, 3, 2]}\n{\"ids\": [5, 6, 7, 1, 2]}\n"), 0o600))
	return map[string]any{"files": rows, "format": "jsonl", "task": "causal", "columns": map[string]any{"input_ids": "ids"}}
}

func TestAModelIsScoredOnRows(t *testing.T) {
	engine, rows := must(NewEngine(config)), rowsOfIDs(t)
	if scores := must(engine.Evaluate(rows, nil)); !strings.Contains(scores, `"rows":3`) || !strings.Contains(scores, `"perplexity":`) {
		t.Fatal(scores)
	}
	if _, err := engine.Evaluate(rows, map[string]any{"metric": 1}); !errors.Is(err, ErrInvalidArgument) {
		t.Fatal(err)
	}
	if loss := must(engine.Eval(must(must(OpenData(rows, engine)).Next()))); loss < 1 || loss > 4 {
		t.Fatal(loss)
	}
	rows["batch_size"] = 3
	if first := must(must(OpenData(rows, nil)).Next()); !reflect.DeepEqual(must(first.Get("input_ids")).Shape(), []int{3, 5}) {
		t.Fatal(must(first.Get("input_ids")).Shape())
	}
	if !strings.Contains(must(Plan(config)), "memory") {
		t.Fatal("no plan")
	}
}

func TestFilesComeAndGo(t *testing.T) {
	engine, dir := must(NewEngine(config)), t.TempDir()
	const name = "transformer.ln_f.weight"
	w := must(must(engine.Param(name, Weight)).Float32s())
	ok(t, engine.Save(dir, "here", map[string]any{"weights_only": true}))
	for i := range w {
		w[i] = float32(i)
	}
	ok(t, engine.SetParam(name, Weight, must(NewTensor(w))))
	if got := must(must(engine.Param(name, Weight)).Float32s()); !reflect.DeepEqual(got, w) {
		t.Fatal(got)
	}
	ok(t, engine.LoadAs(dir, "here", map[string]any{"weights_only": true}))
	if got := must(must(engine.Param(name, Weight)).Float32s()); got[3] != 1 {
		t.Fatal(got)
	}
	ok(t, engine.ExportAs(filepath.Join(dir, "tuned"), map[string]any{"dtype": "bf16"}))
	ok(t, engine.Report(filepath.Join(dir, "report.html"), map[string]any{"title": "A run of Go's"}))
	report := string(must(os.ReadFile(filepath.Join(dir, "report.html"))))
	if _, err := os.Stat(filepath.Join(dir, "tuned", "model.safetensors")); err != nil || !strings.Contains(report, "A run of Go") {
		t.Fatal(err)
	}
}

func TestALossOfOnesOwn(t *testing.T) {
	engine := must(NewEngine(config))
	ok(t, engine.ForwardOnly(tinyBatch()))
	gradients := NewBatch()
	ones := make([]float32, 2*4*11)
	for i := range ones {
		ones[i] = float32(i % 3)
	}
	ok(t, Put(gradients, "logits", ones, 2, 4, 11))
	if logits := must(engine.Output("logits")); logits.Len() != len(ones) {
		t.Fatal(logits.Shape())
	}
	ok(t, engine.BackwardFrom(gradients))
	size := func() (sum float64) {
		for _, g := range must(must(engine.Param("transformer.wte.weight", Grad)).Float32s()) {
			sum += math.Abs(float64(g))
		}
		return
	}
	if size() == 0 {
		t.Fatal("no gradient")
	}
	ok(t, engine.ZeroGrad())
	if size() != 0 {
		t.Fatal("gradients are left")
	}
	ok(t, engine.Set("optimizer.params.lr", 0.05))
	if lr := must(engine.Metric("lr")); math.Abs(lr-0.05) > 1e-9 || !strings.Contains(must(engine.Get("optimizer")), "0.05") {
		t.Fatal(lr)
	}
	if _, err := NewEngine(config, WithMPI(-5)); err == nil {
		t.Fatal("there is no such communicator")
	}
}

func TestAFamilysBodyIsPartOfAGraph(t *testing.T) {
	data := os.Getenv("DSRT_TEST_DATA")
	if data == "" {
		data = "../../tests/data"
	}
	g := NewGraph()
	h := must(g.Model(filepath.Join(data, "models/bert-mlm"), "last_hidden_state", map[string]any{"prefix": "bert."}, must(g.Input("input_ids", Int64, -1, -1))))
	ok(t, g.Loss(must(g.Op("mean", nil, h))))
	engine := must(NewEngine(opConfig, WithGraph(g)))
	if p := must(engine.Params()); !strings.HasPrefix(p[0].Name, "bert.") {
		t.Fatal(p[0])
	}
	if !strings.Contains(must(GraphOps()), "layernorm") {
		t.Fatal("no list of ops")
	}
	halves().Close()
	g.Close()
}
