// The root of the SWIG interface: what all four languages (Python, Go, Java, C#) see of <dsrt/dsrt.hpp>.
// It makes the inner layer of a binding; the layer that its users see is written by hand in bindings/<language>.
// A topic file says what of a topic is left out, renamed or added; <language>/types.i and <language>/errors.i hold that language's typemaps.
// SPDX-License-Identifier: Apache-2.0
%module(directors="1", threads="1") native
%{
#include <dsrt/dsrt.hpp>

#include "host.hpp"
%}

%include <stdint.i>
%include <std_string.i>
#if defined(SWIGPYTHON)
%include "python/errors.i"
%include "python/types.i"
%include "python/callbacks.i"
#elif defined(SWIGGO)
%include "go/errors.i"
%include "go/types.i"
#elif defined(SWIGJAVA)
%include "java/errors.i"
%include "java/types.i"
#elif defined(SWIGCSHARP)
%include "csharp/errors.i"
%include "csharp/types.i"
#else
#error "bindings/swig has typemaps for Python, Go, Java and C#"
#endif

#ifndef SWIGPYTHON
%include "buffers.i"
#endif
%include "status.i"
%include "tensor.i"
%include "batch.i"
%include "tokenizer.i"
%include "data.i"
%include "graph.i"
%include "options.i"
%include "engine.i"

%ignore dsrt::Params::Params;
%ignore dsrt::Params::info;
namespace dsrt { struct Memory; }
%warnfilter(362) dsrt::detail::Handle;
%warnfilter(389) dsrt::Span;
// SWIG follows no #include: the headers of dsrt.hpp, in its order.
%include <dsrt/cpp/core.hpp>
%include <dsrt/cpp/library.hpp>
%include <dsrt/cpp/tensor.hpp>
%include <dsrt/cpp/tokenizer.hpp>
%include <dsrt/cpp/graph.hpp>
%include <dsrt/cpp/options.hpp>
%include <dsrt/cpp/data.hpp>
%include <dsrt/cpp/engine.hpp>
%include "host.hpp"
