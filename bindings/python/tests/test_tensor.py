"""Tensors: numbers in and out, without copies where that can be."""
import array
import gc
import unittest

import dsrt
import support
from dsrt import DType, Tensor

try:
    import numpy as np
except ImportError:
    np = None
try:
    import torch
except ImportError:
    torch = None

needs_numpy = unittest.skipIf(np is None, "numpy is not installed")


class Plain(unittest.TestCase):
    def test_nested_lists_become_int64_or_float32(self):
        t = Tensor([[1, 2, 3], [4, 5, 6]])
        self.assertEqual((t.shape, t.dtype, t.tolist()), ((2, 3), DType.INT64, [[1, 2, 3], [4, 5, 6]]))
        self.assertEqual(Tensor([0.5, 2]).dtype, DType.FLOAT32)
        self.assertEqual(Tensor(7).item(), 7)
        with self.assertRaisesRegex(ValueError, "different lengths"):
            Tensor([[1, 2], [3]])

    def test_buffers_keep_their_type(self):
        t = Tensor(array.array("d", [1.5, 2.5]))
        self.assertEqual((t.dtype, t.tolist()), (DType.FLOAT64, [1.5, 2.5]))
        with self.assertRaisesRegex(TypeError, "format 'H'"):
            Tensor(array.array("H", [1]))

    def test_conversion_is_a_c_cast(self):
        self.assertEqual(Tensor([1.75, -2.75]).astype(DType.INT32).tolist(), [1, -2])
        self.assertEqual(Tensor([1.0, 0.5], DType.BFLOAT16).dtype, DType.BFLOAT16)
        with self.assertRaises(dsrt.errors.UnsupportedError):
            Tensor([1, 2], DType.FLOAT8_E4M3)

    def test_zeros_and_empty(self):
        self.assertEqual(Tensor.zeros((2, 2)).tolist(), [[0, 0], [0, 0]])
        self.assertEqual(Tensor.zeros((0, 3)).tolist(), [])
        self.assertEqual(Tensor.zeros((2, 0)).tolist(), [[], []])
        self.assertEqual(Tensor.zeros((2, 0, 3)).tolist(), [[], []])
        self.assertEqual(Tensor.zeros((1, 2, 2)).tolist(), [[[0, 0], [0, 0]]])

    def test_a_bad_shape_is_a_value_error_of_the_library(self):
        with self.assertRaises(dsrt.errors.InvalidArgumentError) as caught:
            Tensor.zeros((-2,))
        self.assertIsInstance(caught.exception, ValueError)
        self.assertIn("-2", str(caught.exception))


@needs_numpy
class Numpy(unittest.TestCase):
    def test_in_without_a_copy(self):
        a = np.arange(6, dtype=np.float32).reshape(2, 3)
        t = Tensor(a)
        a[1, 2] = 42
        self.assertEqual(t.tolist()[1][2], 42)

    def test_a_batch_keeps_what_it_was_given(self):
        a = np.array(support.IDS)
        batch = dsrt.Batch(input_ids=a)
        a[:] = 0
        self.assertEqual(batch["input_ids"].tolist(), support.IDS)

    def test_arrays_in_fortrans_order_and_numpys_integers(self):
        a = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
        a.flags.writeable = False
        self.assertEqual(Tensor(a).tolist(), [[0, 1, 2], [3, 4, 5]])
        self.assertEqual(Tensor(memoryview(a)).tolist(), [[0, 1, 2], [3, 4, 5]])
        self.assertEqual(Tensor([np.int32(1), np.int64(2)]).dtype, DType.INT64)

    def test_copies_are_made_as_numpy_asks(self):
        t = Tensor([1.0, 2.0])
        t.__array__(np.float32, copy=True)[0] = 9
        self.assertEqual(t.tolist(), [1, 2])
        t.__array__(np.float32, copy=False)[0] = 9
        self.assertEqual(t.tolist(), [9, 2])
        self.assertEqual(t.__array__(np.float64).dtype, np.float64)
        for tensor, wanted in ((t, np.float64), (t.astype(DType.BFLOAT16), None)):
            with self.assertRaises(ValueError):
                tensor.__array__(wanted, copy=False)

    def test_out_without_a_copy(self):
        t = Tensor([1.0, 2.0])
        a = np.asarray(t)
        a[0] = 9
        self.assertEqual(t.tolist(), [9, 2])
        self.assertEqual(np.from_dlpack(t).tolist(), [9, 2])
        self.assertEqual(np.from_dlpack(t).__array_interface__["data"][0], a.__array_interface__["data"][0])

    def test_memory_outlives_the_tensor_on_either_side(self):
        a = Tensor([1.0, 2.0]).numpy()
        b = np.from_dlpack(Tensor([3.0, 4.0]))
        t = Tensor(np.array([5.0, 6.0]))
        gc.collect()
        junk = [np.full(2, 7.0) for _ in range(1000)]
        self.assertEqual((a.tolist(), b.tolist(), t.tolist(), len(junk)), ([1, 2], [3, 4], [5, 6], 1000))

    def test_arrays_that_dlpack_refuses_are_copied(self):
        a = np.arange(4)
        a.flags.writeable = False
        self.assertEqual(Tensor(a).tolist(), [0, 1, 2, 3])
        self.assertEqual(Tensor(np.array([True, False])).dtype, DType.BOOL)

    def test_strided_arrays_are_read_in_their_order(self):
        a = np.arange(12, dtype=np.float32).reshape(3, 4)
        self.assertEqual(Tensor(a.T).tolist(), a.T.tolist())
        self.assertEqual(Tensor(a[::-1, ::2]).tolist(), a[::-1, ::2].tolist())

    def test_every_type_that_numpy_has_goes_there_and_back(self):
        for kind in ("f4", "f2", "f8", "i4", "i8", "u1", "i1", "?"):
            a = np.array([0, 1, 1], kind)
            self.assertEqual(Tensor(a).numpy().dtype, a.dtype)
            self.assertEqual(Tensor(a).numpy().tolist(), a.tolist())

    def test_bfloat16_comes_out_as_float32(self):
        a = Tensor([1.0, 2.5], DType.BFLOAT16).numpy()
        self.assertEqual((a.dtype, a.tolist()), (np.float32, [1, 2.5]))

    def test_no_memory_is_lost(self):
        import tracemalloc
        a = np.ones(1000, np.float32)
        for _ in range(100):
            Tensor(a).numpy()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2000):
            np.from_dlpack(Tensor(a))
            Tensor(a).numpy()
        gc.collect()
        self.assertLess(tracemalloc.get_traced_memory()[0] - before, 100_000)
        tracemalloc.stop()


@unittest.skipIf(torch is None, "torch is not installed")
class Torch(unittest.TestCase):
    def test_both_ways_without_a_copy(self):
        x = torch.arange(4, dtype=torch.float32)
        t = Tensor(x)
        x[0] = 5
        self.assertEqual(t.tolist(), [5, 1, 2, 3])
        y = torch.from_dlpack(t.astype(DType.BFLOAT16))
        self.assertEqual((y.dtype, y.tolist()), (torch.bfloat16, [5, 1, 2, 3]))

    def test_logits_come_back_as_torch_tensors(self):
        with dsrt.Engine(support.CONFIG) as engine:
            logits = torch.from_dlpack(engine.predict(input_ids=torch.tensor(support.IDS)))
        self.assertEqual(tuple(logits.shape), (2, 4, 11))


if __name__ == "__main__":
    support.main()
