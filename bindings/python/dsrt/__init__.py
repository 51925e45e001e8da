"""Training of large language models on libdsrt.

    import dsrt

    with dsrt.Engine("config.json") as engine, dsrt.Data(engine) as data:
        for step in engine.steps(data):
            print(step.loss)
        engine.export("tuned")

Arrays of numpy, tensors of torch and whatever else speaks DLPack go in and come out without a copy. A failed call raises a subclass of
dsrt.Error; what a callback raises comes out of the call that ran it. Long calls let other threads of Python run. Callbacks are held outside of
Python, where its garbage collector doesn't look: what refers to itself through one (self.data = Data.from_batches(engine, self.epoch)) is freed
once that is closed.
"""
from . import errors
from .data import Data
from .engine import Cancel, Engine, Optimizer, Parameters, Step, plan
from .errors import Error
from .graph import Graph, Op
from .library import LogLevel, abi_version, build_info, config_describe, score, set_log, version
from .progress import Progress
from .tensor import Batch, DType, Tensor
from .tokenizer import Encoding, TextStream, Tokenizer

__version__ = version()
__all__ = ["Batch", "Cancel", "Data", "DType", "Encoding", "Engine", "Error", "Graph", "LogLevel", "Op", "Optimizer", "Parameters", "Progress", "Step",
           "Tensor", "TextStream", "Tokenizer", "abi_version", "build_info", "config_describe", "errors", "plan", "score", "set_log", "version"]
