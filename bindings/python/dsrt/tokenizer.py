"""Tokenizers: text to ids and back, equal to Hugging Face's on the same files."""
from __future__ import annotations

import os
from typing import Any, Sequence

from . import native
from .library import json_text, path_text
from .tensor import Batch


class Encoding:
    """One tokenised text: ids, type_ids, and offsets, which are pairs of code points."""

    __slots__ = ("ids", "type_ids", "offsets")

    def __init__(self, made: native.Encoding):
        self.ids: list[int] = list(made.token_ids())
        self.type_ids: list[int] = list(made.segment_ids())
        flat = made.begin_end()
        self.offsets: list[tuple[int, int]] = list(zip(flat[0::2], flat[1::2]))

    def __len__(self) -> int:
        return len(self.ids)


class Tokenizer:
    """Reads a tokenizer.json, a vocab.txt, a sentencepiece model, or a folder that holds one. Any number of threads may use it."""

    def __init__(self, path: str | os.PathLike[str]):
        self._native = native.Tokenizer(path_text(path))

    def encode(self, text: str, pair: str | None = None, add_special_tokens: bool = True) -> Encoding:
        return Encoding(self._native.encode(text, pair, add_special_tokens))

    def __call__(self, texts: str | Sequence[str], pairs: Sequence[str] | None = None, **options: Any) -> Batch:
        """input_ids, attention_mask and, with pairs, token_type_ids. Options as in transformers: max_length, truncation, padding,
        pad_to_multiple_of, padding_side, truncation_side, add_special_tokens, pad_id."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        return Batch._of(self._native.encode_batch(texts, list(pairs or ()), json_text(options or None)))

    def apply_chat_template(self, messages: Any, **options: Any) -> str:
        """The text of a conversation, [{"role": "user", "content": ...}, ...], as the tokenizer's own template writes it."""
        return self._native.apply_chat_template(json_text(messages), json_text(options or None))

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._native.text([int(i) for i in ids], skip_special_tokens)

    def close(self) -> None:
        self._native.close()

    def __enter__(self) -> Tokenizer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
