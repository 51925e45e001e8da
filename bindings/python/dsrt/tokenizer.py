"""Tokenizers: text to ids and back, equal to Hugging Face's on the same files."""
from __future__ import annotations

import os
from typing import Any, Callable, Sequence

from . import native
from .library import json_text, path_text
from .library import text as utf8
from .tensor import Batch, integers


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


def _texts(name: str, texts: str | Sequence[str]) -> list[str]:
    return [utf8(f"{name}[{i}]", t) for i, t in enumerate([texts] if isinstance(texts, str) else texts)]


class Tokenizer:
    """Reads a tokenizer.json, a vocab.txt, a sentencepiece model, or a folder that holds one. Any number of threads may use it."""

    def __init__(self, path: str | os.PathLike[str]):
        self._native = native.Tokenizer(path_text(path))

    def encode(self, text: str, pair: str | None = None, add_special_tokens: bool = True) -> Encoding:
        return Encoding(self._native.encode(utf8("text", text), None if pair is None else utf8("pair", pair), bool(add_special_tokens)))

    def __call__(self, texts: str | Sequence[str], pairs: str | Sequence[str] | None = None, **options: Any) -> Batch:
        """input_ids, attention_mask and, with pairs, token_type_ids. Options as in transformers: max_length, truncation, padding,
        pad_to_multiple_of, padding_side, truncation_side, add_special_tokens, pad_id."""
        first, second = _texts("texts", texts), _texts("pairs", () if pairs is None else pairs)
        return Batch._of(self._native.encode_batch(first, second, json_text(options or None)))

    def apply_chat_template(self, messages: Any, **options: Any) -> str:
        """The text of a conversation, [{"role": "user", "content": ...}, ...], as the tokenizer's own template writes it."""
        return self._native.apply_chat_template("null" if messages is None else json_text(messages, "messages"), json_text(options or None))

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._native.text(integers("ids", ids), bool(skip_special_tokens))

    def stream(self, skip_special_tokens: bool = True) -> TextStream:
        return TextStream(self, skip_special_tokens=skip_special_tokens)

    def close(self) -> None:
        self._native.close()

    def __enter__(self) -> Tokenizer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class TextStream:
    """Text from ids that come a few at a time: every piece is whole, and all pieces together are what decode makes of all ids.

        with dsrt.TextStream(tokenizer, lambda piece: print(piece, end="", flush=True)) as stream:
            engine.generate(ids, stream)

    Called with ids, as generate does, it hands on_text what they made certain; leaving the block hands it the rest. put and end do without on_text.
    """

    def __init__(self, tokenizer: Tokenizer, on_text: Callable[[str], Any] | None = None, skip_special_tokens: bool = True):
        self._native = native.TextStream(tokenizer._native, skip_special_tokens)
        self._on_text = on_text

    def put(self, ids: Sequence[int]) -> str:
        """The text that more ids have made certain, often empty."""
        return self._native.piece(integers("ids", ids))

    def end(self) -> str:
        """What was held back, U+FFFD for half a character. The stream may be used anew."""
        return self._native.end()

    def __call__(self, ids: Sequence[int]) -> Any:
        piece = self.put(ids)
        return self._on_text(piece) if piece and self._on_text else None

    def close(self) -> None:
        self._native.close()

    def __enter__(self) -> TextStream:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        rest = self.end() if kind is None else ""
        self.close()
        if rest and self._on_text:
            self._on_text(rest)
