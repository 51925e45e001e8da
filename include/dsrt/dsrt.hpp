// dsrt for C++17 and later: the C ABI with ownership, exceptions, strings and spans. Header-only: nothing here crosses the ABI but C.
//
// Every class owns one handle and moves. A failed call throws dsrt::Error with the code and the message of ds_last_error. An exception
// thrown by a callback passes through the library as an error code and comes out of the call that ran it; the log's comes out once that
// call has done its work. close() destroys before the destructor does; calls on a closed object throw DS_E_INVALID_ARGUMENT. The headers
// of the C calls say what each call means. cpp/ has a header a topic; this one includes them all.
// SPDX-License-Identifier: Apache-2.0
#ifndef DSRT_DSRT_HPP
#define DSRT_DSRT_HPP

#include <dsrt/cpp/core.hpp>
#include <dsrt/cpp/library.hpp>
#include <dsrt/cpp/tensor.hpp>
#include <dsrt/cpp/tokenizer.hpp>
#include <dsrt/cpp/graph.hpp>
#include <dsrt/cpp/options.hpp>
#include <dsrt/cpp/data.hpp>
#include <dsrt/cpp/engine.hpp>

#endif  // DSRT_DSRT_HPP
