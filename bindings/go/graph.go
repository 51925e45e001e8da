package dsrt

import (
	"runtime"

	"dsrt/internal/native"
)

// Graph is a model that the host builds out of ops.
type Graph struct{ n native.Graph }

// Value is a number of a graph's. NoValue stands for an optional input that is left out.
type Value int32

const NoValue Value = -1

func graphOf(n native.Graph) *Graph {
	g := &Graph{n}
	runtime.SetFinalizer(g, func(g *Graph) { native.DeleteGraph(g.n) })
	return g
}

// NewGraph makes an empty graph.
func NewGraph() *Graph { return graphOf(native.NewGraph()) }

// ParseGraph reads the text form, the one that DSRT_DUMP writes.
func ParseGraph(text string) (*Graph, error) {
	var n native.Graph
	if err := call(func() { n = native.Parse_graph(text) }); err != nil {
		return nil, err
	}
	return graphOf(n), nil
}

// GraphOps is JSON: every op with inputs, outputs and attributes.
func GraphOps() (text string, err error) {
	err = call(func() { text = native.GraphOps_json() })
	return
}

// Input adds an input; -1 in its shape is bound at run time, the first to rows, the second to length.
func (g *Graph) Input(name string, dtype DType, shape ...int) (v Value, err error) {
	err = call(func() { v = Value(g.n.New_input(name, int(dtype), bytesOf(dims(shape)))) }, g)
	return
}

// Param adds a trainable parameter; init as map[string]any{"type": "normal", "std": 0.02}, nil: zeros.
func (g *Graph) Param(name string, init any, shape ...int) (v Value, err error) {
	text, err := jsonText(init)
	if err != nil {
		return 0, err
	}
	err = call(func() { v = Value(g.n.New_param(name, int(Float32), bytesOf(dims(shape)), text)) }, g)
	return
}

// Op adds an op with one output. attributes may be nil.
func (g *Graph) Op(name string, attributes any, inputs ...Value) (Value, error) {
	out, err := g.Ops(name, attributes, 1, inputs...)
	if err != nil {
		return NoValue, err
	}
	return out[0], nil
}

// Ops adds an op with several outputs.
func (g *Graph) Ops(name string, attributes any, outputs int, inputs ...Value) ([]Value, error) {
	text, err := jsonText(attributes)
	if err != nil {
		return nil, err
	}
	out := make([]Value, outputs)
	err = call(func() { g.n.Call(name, bytesOf(inputs), text, bytesOf(out)) }, g, inputs, out)
	return out, err
}

// Read reads the text form into a graph without values, which may have ops of the host's own.
func (g *Graph) Read(text string) error { return call(func() { g.n.Read(text) }, g) }

// Model embeds a model family's body: its output of input_ids, attention_mask, token_type_ids, position_ids.
func (g *Graph) Model(folder, output string, options any, inputs ...Value) (v Value, err error) {
	text, err := jsonText(options)
	if err != nil {
		return 0, err
	}
	err = call(func() { v = Value(g.n.Embed(folder, bytesOf(inputs), output, text)) }, g, inputs)
	return
}

// Output names a value as an output, Loss as the loss.
func (g *Graph) Output(name string, v Value) error {
	return call(func() { g.n.Output(name, int(v)) }, g)
}

func (g *Graph) Loss(v Value) error { return call(func() { g.n.Loss(int(v)) }, g) }

// Close frees the graph before the garbage collector does.
func (g *Graph) Close() error { g.n.Close(); return nil }
