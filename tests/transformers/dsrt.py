"""The C ABI through ctypes: as much of it as these checks need."""
import ctypes as C
import json
import os

import numpy as np

_lib = C.CDLL(os.environ["DSRT_LIBRARY"])
_lib.ds_last_error.restype = _lib.ds_status_name.restype = C.c_char_p
DTYPES = {np.dtype(np.float32): 0, np.dtype(np.int32): 4, np.dtype(np.int64): 5, np.dtype(np.bool_): 7}


class Error(Exception):
    pass


def call(name, *args):
    status = getattr(_lib, name)(*args)
    if status < 0:
        raise Error(f"{name}: {_lib.ds_status_name(status).decode()}: {_lib.ds_last_error().decode()}")
    return status


def text(value):
    return None if value is None else value.encode() if isinstance(value, str) else json.dumps(value).encode()


class Handle:
    kind = ""

    def __init__(self):
        self.p = C.c_void_p()

    def __del__(self):
        getattr(_lib, f"ds_{self.kind}_destroy")(self.p)


class Tensor(Handle):
    kind = "tensor"

    def __init__(self, array=None):
        super().__init__()
        if array is not None:
            array = np.ascontiguousarray(array)
            shape = (C.c_int64 * array.ndim)(*array.shape)
            call("ds_tensor_create", DTYPES[array.dtype], array.ndim, shape, array.ctypes.data_as(C.c_void_p), C.c_size_t(array.nbytes), C.byref(self.p))

    def numpy(self, dtype=np.float32):
        ndim, shape = C.c_int32(), C.POINTER(C.c_int64)()
        call("ds_tensor_info", self.p, None, C.byref(ndim), C.byref(shape))
        out = np.empty([shape[i] for i in range(ndim.value)], dtype)
        call("ds_tensor_read", self.p, DTYPES[out.dtype], out.ctypes.data_as(C.c_void_p), C.c_size_t(out.nbytes))
        return out


class Batch(Handle):
    kind = "batch"

    def __init__(self, **tensors):
        super().__init__()
        call("ds_batch_create", C.byref(self.p))
        for name, array in tensors.items():
            tensor = Tensor(array)  # lives until the batch has it
            call("ds_batch_set", self.p, text(name), tensor.p)

    def get(self, name):
        t = Tensor()
        call("ds_batch_get", self.p, text(name), C.byref(t.p))
        return t.numpy(np.int64)


class Engine(Handle):
    kind = "engine"

    def __init__(self, config):
        super().__init__()
        call("ds_engine_create", text(config), None, C.byref(self.p))

    def set_param(self, name, array):
        t = Tensor(array)
        call("ds_param_set", self.p, text(name), 0, t.p)

    def eval(self, batch, loss=True):
        value = C.c_float()
        call("ds_eval", self.p, batch.p, C.byref(value) if loss else None)
        return value.value

    def forward(self, batch):
        value = C.c_float()
        call("ds_forward", self.p, batch.p, C.byref(value))
        return value.value

    def backward(self):
        call("ds_backward", self.p)

    def step(self):
        call("ds_step", self.p)

    def train(self, batch):
        call("ds_forward", self.p, batch.p, None)
        self.backward()
        self.step()

    def params(self):
        count, name = C.c_size_t(), C.c_char_p()
        call("ds_param_count", self.p, C.byref(count))
        names = []
        for i in range(count.value):
            call("ds_param_name", self.p, C.c_size_t(i), C.byref(name))
            names.append(name.value.decode())
        return names

    def param(self, name, what=0):
        """what: 0 the weight, 1 its gradient."""
        t = Tensor()
        call("ds_param_get", self.p, text(name), what, C.byref(t.p))
        return t.numpy()

    def output(self, name):
        t = Tensor()
        call("ds_output", self.p, text(name), C.byref(t.p))
        return t.numpy()

    def generate(self, prompts, options):
        """The new ids of each prompt."""
        flat = [i for prompt in prompts for i in prompt]
        lengths = (C.c_size_t * len(prompts))(*[len(p) for p in prompts])
        ids, counts = C.POINTER(C.c_int32)(), C.POINTER(C.c_size_t)()
        call("ds_generate_batch", self.p, (C.c_int32 * len(flat))(*flat), lengths, C.c_size_t(len(prompts)), text(options), None, None, C.byref(ids), C.byref(counts))
        try:
            sizes = counts[:len(prompts)]
            made = iter(ids[:sum(sizes)])
            return [[next(made) for _ in range(n)] for n in sizes]
        finally:
            _lib.ds_free(ids)
            _lib.ds_free(counts)

    def export(self, folder, options):
        call("ds_export", self.p, text(str(folder)), text(options))


class Tokenizer(Handle):
    kind = "tokenizer"

    def __init__(self, path):
        super().__init__()
        call("ds_tokenizer_load", text(str(path)), C.byref(self.p))

    def encode(self, first, pair=None, special=True):
        """ids, type ids, offsets"""
        e, n, ints, longs = C.c_void_p(), C.c_size_t(), C.POINTER(C.c_int32)(), C.POINTER(C.c_int64)()
        first, pair = first.encode(), None if pair is None else pair.encode()
        call("ds_tokenizer_encode", self.p, first, C.c_size_t(len(first)), pair, C.c_size_t(len(pair or b"")), int(special), C.byref(e))
        try:
            call("ds_encoding_ids", e, C.byref(ints), C.byref(n))
            ids = ints[:n.value]
            call("ds_encoding_type_ids", e, C.byref(ints), C.byref(n))
            types = ints[:n.value]
            call("ds_encoding_offsets", e, C.byref(longs), C.byref(n))
            ends = longs[:2 * n.value]
        finally:
            _lib.ds_encoding_destroy(e)
        return ids, types, list(zip(ends[::2], ends[1::2]))

    def encode_batch(self, texts, pairs, options):
        strings = lambda list_: None if list_ is None else (C.c_char_p * len(list_))(*[t.encode() for t in list_])
        batch = Batch()
        call("ds_tokenizer_encode_batch", self.p, strings(texts), strings(pairs), C.c_size_t(len(texts)), text(options), batch.p)
        return batch

    def decode(self, ids, skip_special):
        out, n = C.c_void_p(), C.c_size_t()
        call("ds_tokenizer_decode", self.p, (C.c_int32 * len(ids))(*ids), C.c_size_t(len(ids)), int(skip_special), C.byref(out), C.byref(n))
        try:
            return C.string_at(out, n.value).decode()
        finally:
            _lib.ds_free(out)
