package dsrt

import (
	"io"
	"runtime"

	"dsrt/internal/native"
)

// Data is a source of batches.
type Data struct{ n native.Data }

func dataOf(make func() native.Data, keep any) (*Data, error) {
	d := &Data{}
	if err := call(func() { d.n = make() }, keep); err != nil {
		return nil, err
	}
	runtime.SetFinalizer(d, func(d *Data) { native.DeleteData(d.n) })
	return d, nil
}

// Data opens the files that the engine's config names under "data".
func (e *Engine) Data() (*Data, error) {
	return dataOf(func() native.Data { return native.NewData(e.n) }, e)
}

// OpenData opens files with options of their own (ConfigDescribe lists them under "data"). engine nil: all rows.
func OpenData(options any, engine *Engine) (*Data, error) {
	text, err := jsonText(options)
	if err != nil {
		return nil, err
	}
	return dataOf(func() native.Data { return native.NewData__SWIG_0(text, engine.native()) }, engine)
}

// Source is an iterator of the host's own. Next fills the batch, which is empty and not to be kept, or returns io.EOF at the end of an
// epoch; the call after that starts the next one. A Source that is a CursorSource too has its place kept in checkpoints.
type Source interface{ Next(*Batch) error }

// CursorSource gives its place as JSON text, and goes back to such a place.
type CursorSource interface {
	Source
	Save() (string, error)
	Restore(cursor string) error
}

type source struct {
	source Source
	handle native.BatchSource
}

func (s *source) Next(n native.Batch) int {
	return run(func() (bool, error) {
		err := s.source.Next(&Batch{n})
		if err == io.EOF {
			return true, nil
		}
		return false, err
	})
}

func (s *source) Keeps_cursor() bool {
	_, keeps := s.source.(CursorSource)
	return keeps
}

func (s *source) Save(cursor native.Text) int {
	return run(func() (bool, error) {
		text, err := s.source.(CursorSource).Save()
		if err == nil {
			cursor.Put(text)
		}
		return false, err
	})
}

func (s *source) Restore(cursor string) int {
	return run(func() (bool, error) { return false, s.source.(CursorSource).Restore(cursor) })
}

func (s *source) Released() { go native.DeleteDirectorBatchSource(s.handle) }

// NewData wraps an iterator of the host's own.
func NewData(from Source, engine *Engine) (*Data, error) {
	s := &source{source: from}
	s.handle = native.NewDirectorBatchSource(s)
	return dataOf(func() native.Data { return native.Open_source(s.handle, engine.native()) }, engine)
}

// Next is the next micro-batch, or io.EOF at the end of an epoch; the call after that starts the next one.
func (d *Data) Next() (*Batch, error) {
	b := NewBatch()
	more := false
	if err := call(func() { more = d.n.Next(b.n) }, d, b); err != nil {
		return nil, err
	}
	if !more {
		return nil, io.EOF
	}
	return b, nil
}

// Close frees the data's threads and files.
func (d *Data) Close() error { d.n.Close(); return nil }
