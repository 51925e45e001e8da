/* dsrt: training of large language models behind a plain C ABI. This header gives everything that is stable.
   C99 and C++11. abi.h states the conventions that every call follows.
   SPDX-License-Identifier: Apache-2.0 */
#ifndef DSRT_DSRT_H
#define DSRT_DSRT_H

#include <dsrt/abi.h>
#include <dsrt/status.h>
#include <dsrt/tensor.h>
#include <dsrt/batch.h>
#include <dsrt/tokenizer.h>
#include <dsrt/data.h>
#include <dsrt/graph.h>
#include <dsrt/options.h>
#include <dsrt/engine.h>

#endif /* DSRT_DSRT_H */
