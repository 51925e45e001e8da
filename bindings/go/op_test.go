package dsrt

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
)

// square is y = factor * x * x and the sum of each row of y.
type square struct{}

func (square) Outputs() int { return 2 }

func (square) Shapes(_ string, in []OpValue) ([][]int, error) {
	if len(in) != 1 || len(in[0].Shape) != 2 || in[0].Wanted || in[0].Float32s() != nil {
		return nil, errors.New("square takes one matrix")
	}
	return [][]int{in[0].Shape, in[0].Shape[:1]}, nil
}

func factor(attributes string) (float32, error) {
	var given struct{ Factor float32 }
	err := json.Unmarshal([]byte(attributes), &given)
	return given.Factor, err
}

func (square) Forward(attributes string, in, out []OpValue) error {
	f, err := factor(attributes)
	x, y, sums := in[0].Float32s(), out[0].Float32s(), out[1].Float32s()
	for i := range sums {
		sums[i] = 0
	}
	for i := range x {
		y[i] = f * x[i] * x[i]
		sums[i/in[0].Shape[1]] += y[i]
	}
	return err
}

func (square) Backward(attributes string, in, _, given, wanted []OpValue) error {
	f, err := factor(attributes)
	x, dy, dsums, dx := in[0].Float32s(), given[0].Float32s(), given[1].Float32s(), wanted[0].Float32s()
	for i := range dx {
		dx[i] = 2 * f * x[i] * (dy[i] + dsums[i/in[0].Shape[1]])
	}
	return err
}

type plain struct{ fail func() error }

func (p plain) Forward(_ string, in, out []OpValue) error {
	copy(out[0].Float32s(), in[0].Float32s())
	return p.fail()
}

const opConfig = `{"optimizer": {"type": "SGD", "params": {"lr": 0.01}}, "train_micro_batch_size_per_gpu": 2, "threads": 1}`

func rowsOfThree() *Batch {
	b := NewBatch()
	if err := Put(b, "x", []float32{1, -2, 3, 0.5, 4, -1}, 2, 3); err != nil {
		panic(err)
	}
	return b
}

func TestAnOpOfOnesOwnTrainsAsOpsOfTheLibraryDo(t *testing.T) {
	text := func(body string) string {
		return "graph m(%x: f32[rows,3], param %w: f32[3,2] normal 0.5) {\n  %h = matmul %x, %w\n" + body +
			"  %a = mean %y\n  %b = mean %s\n  %loss = add %a, %b\n  loss = %loss\n}\n"
	}
	losses := func(g *Graph) (all []float32) {
		engine := must(NewEngine(opConfig, WithGraph(g)))
		g.Close()
		for i := 0; i < 4; i++ {
			all = append(all, must(engine.Forward(rowsOfThree())))
			ok(t, engine.Backward())
			must(engine.Step())
		}
		return
	}
	own := NewGraph()
	ok(t, own.DefineOp("square", square{}))
	ok(t, own.Read(text("  %y, %s = square %h {factor = 2}\n")))
	builtIn := must(ParseGraph(text("  %q = mul %h, %h\n  %y = scale %q {factor = 2}\n  %s = sum %y {axes = [1]}\n")))
	got, want := losses(own), losses(builtIn)
	for i := range want {
		if math.Abs(float64(got[i]-want[i])) > 1e-5*math.Abs(float64(want[i])) || want[3] >= want[0] {
			t.Fatal(got, want)
		}
	}
}

func TestWhatAnOpReturnsOrPanicsWithComesOutOfTheCall(t *testing.T) {
	fails := []func() error{func() error { return errBroken }, func() error { panic("in Go") }}
	for i, fail := range fails {
		g := NewGraph()
		ok(t, g.DefineOp("plain", plain{fail}))
		ok(t, g.Output("y", must(g.Op("plain", nil, must(g.Input("x", Float32, -1, 3)), must(g.Param("w", nil, 3))))))
		engine := must(NewEngine(opConfig, WithGraph(g)))
		_, err := engine.Predict(rowsOfThree(), "y")
		var p *PanicError
		if i == 0 && err != errBroken || i == 1 && (!errors.As(err, &p) || p.Value != "in Go") {
			t.Fatal(err)
		}
	}
	g := NewGraph()
	ok(t, g.DefineOp("square", square{}))
	if _, err := g.Ops("square", nil, 2, must(g.Input("x", Float32, -1))); err == nil || err.Error() != "square takes one matrix" {
		t.Fatal(err)
	}
	if err := g.DefineOp("matmul", square{}); !errors.Is(err, ErrInvalidArgument) || !strings.Contains(err.Error(), "already") {
		t.Fatal(err)
	}
	g = NewGraph()
	ok(t, g.DefineOp("plain", plain{func() error { return nil }}))
	h := must(g.Op("mul", nil, must(g.Input("x", Float32, -1, 3)), must(g.Param("w", nil, 3))))
	ok(t, g.Loss(must(g.Op("mean", nil, must(g.Op("plain", nil, h))))))
	engine := must(NewEngine(opConfig, WithGraph(g)))
	if _, err := engine.Forward(rowsOfThree()); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "plain: this op has no gradient") {
		t.Fatal(err)
	}
	if loss := must(engine.Eval(rowsOfThree())); loss != 0 {
		t.Fatal(loss)
	}
}
