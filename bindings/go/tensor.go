package dsrt

import (
	"fmt"
	"runtime"
	"unsafe"

	"dsrt/internal/native"
)

// DType is the type of a tensor's elements.
type DType int

const (
	Float32 DType = iota
	Float16
	BFloat16
	Float64
	Int32
	Int64
	Uint8
	Bool
	Int8
	Float8E4M3
	Float8E5M2
)

// Number is a type of Go that tensors are made from and read into.
type Number interface {
	float32 | float64 | int32 | int64 | uint8 | int8 | bool
}

func dtypeOf[T Number]() DType {
	var zero T
	switch any(zero).(type) {
	case float32:
		return Float32
	case float64:
		return Float64
	case int32:
		return Int32
	case int64:
		return Int64
	case uint8:
		return Uint8
	case int8:
		return Int8
	}
	return Bool
}

// bytesOf is the memory of a slice; numbersOf the other way.
func bytesOf[T any](values []T) []byte {
	if len(values) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), len(values)*int(unsafe.Sizeof(values[0])))
}

func numbersOf[T any](memory []byte) []T {
	var zero T
	if len(memory) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&memory[0])), len(memory)/int(unsafe.Sizeof(zero)))
}

func at[T any](address int64, n int64) []T {
	if n == 0 {
		return nil
	}
	return numbersOf[T](native.Memory_at(address, n*int64(unsafe.Sizeof(*new(T)))))
}

func dims(shape []int) []int64 {
	out := make([]int64, len(shape))
	for i, d := range shape {
		out[i] = int64(d)
	}
	return out
}

func ints(memory []byte) []int {
	var out []int
	for _, d := range numbersOf[int64](memory) {
		out = append(out, int(d))
	}
	return out
}

// Tensor is a dense row-major array.
type Tensor struct{ n native.Tensor }

func tensorOf(n native.Tensor) *Tensor {
	t := &Tensor{n}
	runtime.SetFinalizer(t, func(t *Tensor) { native.DeleteTensor(t.n) })
	return t
}

// NewTensor copies values; without a shape they are one dimension.
func NewTensor[T Number](values []T, shape ...int) (*Tensor, error) {
	if len(shape) == 0 {
		shape = []int{len(values)}
	}
	from := bytesOf(values)
	return made(func() native.Tensor { return native.NewTensor(int(dtypeOf[T]()), bytesOf(dims(shape)), from) }, from)
}

// Zeros makes a tensor of zeros.
func Zeros(dtype DType, shape ...int) (*Tensor, error) {
	return made(func() native.Tensor { return native.TensorZeros(int(dtype), bytesOf(dims(shape))) })
}

func made(make func() native.Tensor, keep ...any) (*Tensor, error) {
	var n native.Tensor
	if err := call(func() { n = make() }, keep...); err != nil {
		return nil, err
	}
	return tensorOf(n), nil
}

// DType is the type of the elements; -1 once the tensor is closed.
func (t *Tensor) DType() DType {
	dtype := DType(-1)
	if err := call(func() { dtype = DType(t.n.Kind()) }, t); err != nil {
		return -1
	}
	return dtype
}

// Shape is nil once the tensor is closed.
func (t *Tensor) Shape() (shape []int) {
	if call(func() { shape = ints(t.n.Dims()) }, t) != nil {
		return nil
	}
	return
}

// Len is the number of elements.
func (t *Tensor) Len() int {
	n := 1
	for _, d := range t.Shape() {
		n *= d
	}
	return n
}

// Values are the contents, converted to T as a C cast does.
func Values[T Number](t *Tensor) ([]T, error) {
	out := make([]T, t.Len())
	err := call(func() { t.n.Copy_out(int(dtypeOf[T]()), bytesOf(out)) }, t, out)
	return out, err
}

// Float32s are the contents as float32.
func (t *Tensor) Float32s() ([]float32, error) { return Values[float32](t) }

// Close frees the tensor before the garbage collector does.
func (t *Tensor) Close() error { t.n.Close(); return nil }

// View is the memory of a tensor, lent out. It lives until Close, whatever happens to the tensor, and only Close frees it: the garbage
// collector doesn't see slices of it. They must not be used afterwards.
type View struct {
	n     native.View
	dtype DType
}

// View lends the tensor's memory out without a copy.
func (t *Tensor) View() (*View, error) {
	v := &View{dtype: t.DType()}
	if err := call(func() { v.n = native.NewView(t.n) }, t); err != nil {
		return nil, err
	}
	return v, nil
}

// Slice is the view's memory as numbers; T must be its type.
func Slice[T Number](v *View) ([]T, error) {
	if v.n == nil {
		return nil, &Error{ErrState, "this view is closed"}
	}
	if want := dtypeOf[T](); want != v.dtype {
		return nil, &Error{ErrInvalidArgument, fmt.Sprintf("dsrt.Slice: the tensor holds type %d, not %d", v.dtype, want)}
	}
	return numbersOf[T](v.n.Memory()), nil
}

// Close takes the memory back.
func (v *View) Close() error {
	if v.n != nil {
		native.DeleteView(v.n)
		v.n = nil
	}
	return nil
}

// Batch is a set of named tensors, by Hugging Face's names: input_ids, attention_mask, labels ...
type Batch struct{ n native.Batch }

// NewBatch makes an empty batch.
func NewBatch() *Batch { return batchOf(native.NewBatch()) }

func batchOf(n native.Batch) *Batch {
	b := &Batch{n}
	runtime.SetFinalizer(b, func(b *Batch) { native.DeleteBatch(b.n) })
	return b
}

// Set puts t's contents as of now under name.
func (b *Batch) Set(name string, t *Tensor) error { return call(func() { b.n.Put(name, t.n) }, b, t) }

// Put is Set for numbers of Go.
func Put[T Number](b *Batch, name string, values []T, shape ...int) error {
	t, err := NewTensor(values, shape...)
	if err != nil {
		return err
	}
	defer t.Close()
	return b.Set(name, t)
}

// Get is a new tensor with the contents under name.
func (b *Batch) Get(name string) (*Tensor, error) {
	var n native.Tensor
	if err := call(func() { n = b.n.Find(name) }, b); err != nil {
		return nil, err
	}
	return tensorOf(n), nil
}

// Close frees the batch before the garbage collector does.
func (b *Batch) Close() error { b.n.Close(); return nil }
