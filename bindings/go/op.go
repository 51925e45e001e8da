package dsrt

import "dsrt/internal/native"

// Op is an op of the host's own, for Graph.DefineOp: Forward writes the output, which is shaped as the first input. attributes is the JSON object
// that Graph.Op or the text gave, "{}" without. One with several outputs, or of other shapes, is a ShapedOp; one with a gradient a
// DifferentiableOp. An error or a panic comes out of the call that ran it. Engines of two goroutines may run an op at the same time.
type Op interface {
	Forward(attributes string, inputs, outputs []OpValue) error
}

// DifferentiableOp writes the inputs' gradients from inputs, outputs and the outputs' gradients; one that nobody wants is not Wanted.
type DifferentiableOp interface {
	Op
	Backward(attributes string, inputs, outputs, outputGradients, inputGradients []OpValue) error
}

// ShapedOp says how many outputs it has, 1 to 8, and how they are shaped. While a graph is built, rows and length are large numbers: hand them
// on, or their products, as they are.
type ShapedOp interface {
	Op
	Outputs() int
	Shapes(attributes string, inputs []OpValue) ([][]int, error)
}

// OpValue is a value that an op is called with: dense, row-major, the library's memory, and not to be kept. Inputs are Float32, Int32 (ids) or
// Uint8 (masks), outputs and gradients Float32.
type OpValue struct {
	DType  DType
	Shape  []int
	Wanted bool // false: there is nothing to read or to write
	memory []byte
}

// Float32s is the value's memory, nil where it is of another type or there is none. Int32s and Uint8s likewise.
func (v OpValue) Float32s() []float32 { return opNumbers[float32](v) }

func (v OpValue) Int32s() []int32 { return opNumbers[int32](v) }

func (v OpValue) Uint8s() []uint8 { return opNumbers[uint8](v) }

func opNumbers[T Number](v OpValue) []T {
	if dtypeOf[T]() != v.DType {
		return nil
	}
	return numbersOf[T](v.memory)
}

type hostOp struct {
	op     Op
	handle native.HostOp
}

func opValues(c native.OpCall, list int) []OpValue {
	values := make([]OpValue, c.Count(list))
	for i := range values {
		values[i] = OpValue{DType(c.Kind(list, i)), ints(c.Dims(list, i)), c.Wanted(list, i), nil}
		if values[i].Wanted {
			values[i].memory = c.Memory(list, i)
		}
	}
	return values
}

func (o *hostOp) Forward(attributes string, c native.OpCall) int {
	return run(func() (bool, error) { return false, o.op.Forward(attributes, opValues(c, 0), opValues(c, 1)) })
}

func (o *hostOp) Has_gradient() bool {
	_, has := o.op.(DifferentiableOp)
	return has
}

func (o *hostOp) Backward(attributes string, c native.OpCall) int {
	return run(func() (bool, error) {
		return false, o.op.(DifferentiableOp).Backward(attributes, opValues(c, 0), opValues(c, 1), opValues(c, 2), opValues(c, 3))
	})
}

func (o *hostOp) Has_shapes() bool {
	_, has := o.op.(ShapedOp)
	return has
}

func (o *hostOp) Shapes(attributes string, c native.OpCall) int {
	return run(func() (bool, error) {
		shapes, err := o.op.(ShapedOp).Shapes(attributes, opValues(c, 0))
		for _, shape := range shapes {
			c.Put_shape(bytesOf(dims(shape)))
		}
		return false, err
	})
}

func (o *hostOp) Released() { go native.DeleteDirectorHostOp(o.handle) }

// DefineOp makes name an op of this graph, for Op, Ops and Read. The graph, and engines made of it, keep it.
func (g *Graph) DefineOp(name string, op Op) error {
	o, outputs := &hostOp{op: op}, 1
	if shaped, has := op.(ShapedOp); has {
		outputs = shaped.Outputs()
	}
	o.handle = native.NewDirectorHostOp(o)
	return call(func() { g.n.Define(name, outputs, o.handle) }, g)
}
