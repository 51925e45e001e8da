// Trains the model of examples/first/config.json, keeps a checkpoint, and lets the model write. Run it from the root of the repository:
//
//	go build -C examples/go -o train . && examples/go/train FOLDER STEPS [--resume]
//
// STEPS counts from the beginning of training, across runs. The last column is the loss again, bit by bit: all languages print the same.
package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"dsrt"
)

func train(folder string, steps float64, resume bool) error {
	engine, err := dsrt.NewEngine("examples/first/config.json")
	if err != nil {
		return err
	}
	defer engine.Close()
	data, err := engine.Data()
	if err != nil {
		return err
	}
	defer data.Close()
	if resume {
		if err := engine.Load(folder, ""); err != nil {
			return err
		}
	}
	at, err := engine.Metric("global_steps")
	if resume {
		fmt.Printf("resumed at step %.0f\n", at)
	}
	for at < steps {
		step, err := engine.TrainBatch(data)
		if err == io.EOF { // the next call begins the next epoch
			continue
		} else if err != nil {
			return err
		}
		at, _ = engine.Metric("global_steps")
		fmt.Printf("step %.0f  loss %.4f  %08x\n", at, step.Loss, math.Float32bits(step.Loss))
	}
	if err := engine.Save(folder, "", nil); err != nil {
		return err
	}
	return write(engine)
}

func write(engine *dsrt.Engine) error {
	tokenizer, err := dsrt.LoadTokenizer("examples/pretrain/tokenizer.json")
	if err != nil {
		return err
	}
	prompt, err := tokenizer.Encode("'Twas ")
	if err != nil {
		return err
	}
	ids, err := engine.Generate(prompt.IDs, map[string]any{"max_new_tokens": 60, "temperature": 0}, nil)
	if err != nil {
		return err
	}
	text, err := tokenizer.Decode(ids, true)
	fmt.Println("writes:", strings.ReplaceAll(text, "\n", " / "))
	return err
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: train FOLDER STEPS [--resume]")
		os.Exit(2)
	}
	steps, _ := strconv.ParseFloat(os.Args[2], 64)
	if err := train(os.Args[1], steps, len(os.Args) > 3); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
