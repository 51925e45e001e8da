// Package dsrt trains large language models on libdsrt.
//
//	engine, err := dsrt.NewEngine("config.json")
//	data, err := engine.Data()
//	for {
//		step, err := engine.TrainBatch(data)
//		if err == io.EOF { break }   // the end of an epoch; the next call starts the next one
//		fmt.Println(step.Loss)
//	}
//
// A failed call returns an *Error; errors.Is tells them apart by code (ErrConfig, ErrNotFound ...). What a callback returns or panics with
// comes back from the call that ran it. Handles free themselves, and earlier by Close. Slices that go in are copied; Tensor.View lends the
// library's memory out without a copy, until it is closed.
package dsrt

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"

	"dsrt/internal/native"
)

// Code is the class of a failure. It is an error itself, for errors.Is.
type Code int

const (
	ErrInvalidArgument Code = -1
	ErrConfig          Code = -2
	ErrNotFound        Code = -3
	ErrIO              Code = -4
	ErrCorrupt         Code = -5
	ErrOutOfMemory     Code = -6
	ErrUnsupported     Code = -7
	ErrState           Code = -8
	ErrBusy            Code = -9
	ErrComm            Code = -10
	ErrTimeout         Code = -11
	ErrCancelled       Code = -12
	ErrDevice          Code = -13
	ErrUser            Code = -14
	ErrInternal        Code = -15
)

// String is the code's name, "DS_E_CONFIG".
func (c Code) String() string { return native.Status_name(int(c)) }

func (c Code) Error() string { return c.String() }

// Error is a failed call: its code, and the library's words, which name the key, file or tensor, the value found and what is accepted.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Code }

// PanicError is what a callback panicked with.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("a callback panicked: %v\n%s", e.Value, e.Stack)
}

// call runs f, which makes one call of the library, and fetches its failure on the same thread. keep are alive until it is over. Where a callback
// failed, that is what the call failed with: callbacks run on the thread of the call that they belong to.
func call(f func(), keep ...any) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f()
	runtime.KeepAlive(keep)
	code := native.Failed_code()
	if code == 0 {
		return nil
	}
	message := native.Failed_message()
	if Code(code) == ErrUser {
		said := &callbacksSaid
		if message == logFailed {
			said = &logSaid
		}
		if err := said.take(); err != nil {
			return err
		}
	}
	return &Error{Code(code), message}
}

// failures are what callbacks returned or panicked with, by the thread that they ran on, until the call that ran them is over.
type failures struct {
	mu sync.Mutex
	by map[int]error
}

// The log's can't stop the call that logged, so it is kept by itself.
var callbacksSaid, logSaid failures

func (f *failures) keep(err error) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by == nil {
		f.by = map[int]error{}
	}
	f.by[syscall.Gettid()] = err
	return int(ErrUser)
}

func (f *failures) take() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	thread := syscall.Gettid()
	err := f.by[thread]
	delete(f.by, thread)
	return err
}

// run runs a callback: 0, 1 where it says stop, below 0 where it fails.
func run(f func() (stop bool, err error)) (answer int) {
	defer func() {
		if v := recover(); v != nil {
			answer = callbacksSaid.keep(&PanicError{v, debug.Stack()})
		}
	}()
	stop, err := f()
	if err != nil {
		return callbacksSaid.keep(err)
	}
	if stop {
		return 1
	}
	return 0
}

// jsonText is text as it is, anything else as json.Marshal writes it, nil as "".
func jsonText(value any) (string, error) {
	switch v := value.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	}
	text, err := json.Marshal(value)
	return string(text), err
}

// Version is the library's, "0.1.0".
func Version() string { return native.Version() }

// ABIVersion is major and minor of the library's ABI.
func ABIVersion() (major, minor int) {
	number := int(native.Abi_version())
	return number >> 16, number & 0xffff
}

// BuildInfo is JSON: compiler, instruction levels, libraries, optional parts, devices.
func BuildInfo() string { return native.Build_info() }

// ConfigDescribe is JSON: every key of the config with type, default and meaning.
func ConfigDescribe() (text string, err error) {
	err = call(func() { text = native.Config_describe() })
	return
}

// Score is JSON: scores of predictions ("spans", "squad", "bleu"). Both are JSON text or anything that json.Marshal takes.
func Score(metric string, predictions, references any) (scores string, err error) {
	made, err := jsonText(predictions)
	if err != nil {
		return "", err
	}
	wanted, err := jsonText(references)
	if err != nil {
		return "", err
	}
	err = call(func() { scores = native.Score(metric, made, wanted) })
	return
}

// Level of the log.
type Level int

const (
	LevelTrace Level = iota
	LevelDebug
	LevelInfo
	LevelWarn
	LevelError
	LevelOff
)

const logFailed = "the host's log failed" // as the native side says it

type logSink struct {
	log    func(level Level, component, message string)
	handle native.LogSink
}

func (s *logSink) Log(level int, component, message string) (answer int) {
	defer func() {
		if v := recover(); v != nil {
			answer = logSaid.keep(&PanicError{v, debug.Stack()})
		}
	}()
	s.log(Level(level), component, message)
	return 0
}

func (s *logSink) Released() { go native.DeleteDirectorLogSink(s.handle) }

// SetLog sends messages of level and above to sink; nil: back to stderr, warnings and errors only. What sink panics with comes back as a
// *PanicError from the call that logged, once that has done its work.
func SetLog(sink func(level Level, component, message string), level Level) error {
	var handle native.LogSink
	if sink != nil {
		s := &logSink{log: sink}
		s.handle = native.NewDirectorLogSink(s)
		handle = s.handle
	}
	return call(func() { native.Set_log_sink(handle, int(level)) })
}
