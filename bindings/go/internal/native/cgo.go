// Package native is what SWIG makes of dsrt.hpp; package dsrt is for use.
package native

// #cgo pkg-config: dsrt
// #cgo CXXFLAGS: -std=c++17 -g0 -w
import "C"
