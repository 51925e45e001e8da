// The mistakes of tests/bindings/mistakes.c, in Go.
package main

import (
	"errors"
	"fmt"

	"dsrt"
)

const config = `{"model": {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 11, "n_positions": 16, "n_embd": 8, "n_layer": 1,
	"n_head": 2}, "threads": 1, "train_micro_batch_size_per_gpu": 2, "optimizer": {"type": "AdamW", "params": {"lr": 0.01}}}`

func say(what string, err error) {
	var e *dsrt.Error
	switch {
	case err == nil:
		fmt.Printf("%s: DS_OK: went well\n", what)
	case errors.As(err, &e):
		fmt.Printf("%s: %s: %s\n", what, e.Code, e.Message)
	default:
		fmt.Printf("%s: %v\n", what, err)
	}
}

// failed is what is left of a call with a result.
func failed[T any](_ T, err error) error { return err }

func main() {
	say("unknown key", failed(dsrt.NewEngine(`{"optimiser": {}}`)))
	say("broken json", failed(dsrt.NewEngine(`{"model": `)))
	say("no model", failed(dsrt.NewEngine(`{"model": "no/such/folder"}`)))
	say("no config", failed(dsrt.NewEngine("no/such/config.json")))
	engine, err := dsrt.NewEngine(config)
	say("good config", err)
	say("early backward", engine.Backward())
	say("early step", failed(engine.Step()))
	say("unknown metric", failed(engine.Metric("speed")))
	say("unknown parameter", failed(engine.Param("h.7.w", dsrt.Weight)))
	say("unknown setting", engine.Set("optimizer.params.lear", 1))
	say("bad setting", engine.Set("optimizer.params.lr", "fast"))
	say("fixed setting", engine.Set("seed", 1))
	say("unknown value", failed(engine.Get("no.such.key")))
	say("no checkpoint", engine.Load("no/such/folder", ""))
	say("early output", failed(engine.Output("logits")))
	say("bad shape", failed(dsrt.Zeros(dsrt.Float32, -2)))
	tensor, err := dsrt.NewTensor([]int64{1, 2, 30}, 1, 3)
	say("tensor", err)
	batch := dsrt.NewBatch()
	say("batch", nil)
	say("nothing of that name", failed(batch.Get("labels")))
	say("empty batch", engine.EvalOnly(batch))
	say("ids", batch.Set("input_ids", tensor))
	say("id beyond the vocabulary", engine.EvalOnly(batch))
	say("unknown input", batch.Set("colour", tensor))
	say("unknown input used", engine.EvalOnly(batch))
	say("no data", failed(dsrt.OpenData(`{"files": "no/such/rows.csv", "columns": {"text": "review"}}`, nil)))
	say("unknown data option", failed(dsrt.OpenData(`{"file": "rows.csv"}`, nil)))
	say("no tokenizer", failed(dsrt.LoadTokenizer("no/such/tokenizer.json")))
	say("bad prompt", failed(engine.Generate([]int32{99}, nil, nil)))
	say("bad option", failed(engine.Generate([]int32{99}, `{"heat": 1}`, nil)))
}
