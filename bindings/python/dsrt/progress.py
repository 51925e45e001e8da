"""Progress of a training run: a line that is redrawn on a terminal, a bar in a notebook, now and then a line elsewhere."""
from __future__ import annotations

import html
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from .engine import Engine, Step


def _notebook() -> Any:
    """IPython's display function where a kernel shows what it is given, else None."""
    try:
        shell = sys.modules["IPython"].get_ipython()
        if shell is None or not hasattr(shell, "kernel"):
            return None
        from IPython.display import HTML, display
        return lambda text, handle: handle.update(HTML(text)) or handle if handle else display(HTML(text), display_id=True)
    except (KeyError, AttributeError, ImportError):
        return None


class Progress:
    """with dsrt.Progress(engine, total=300) as progress: for step in engine.steps(data): progress(step)"""

    def __init__(self, engine: Engine, total: int | None = None, *, file: TextIO | None = None, every: float = 0.2):
        self._engine, self._total, self._every = engine, total, every
        self._file = file or sys.stderr
        self._terminal = self._file.isatty()
        self._show, self._handle = (None if file else _notebook()), None
        self._start = self._drawn = time.monotonic()
        self._last: Step | None = None
        self._steps = 0

    def __call__(self, step: Step) -> None:
        self._last = step
        self._steps += 1
        now = time.monotonic()
        if self._steps == 1 or now - self._drawn >= (self._every if self._terminal or self._show else max(self._every, 10)):
            self._draw(now)

    def _draw(self, now: float, end: bool = False) -> None:
        self._drawn = now
        step, spent = self._last, now - self._start
        if step is None:
            return
        count = f"{step.number}/{self._total}" if self._total else f"{step.number}"
        left = f", {(self._total - step.number) * spent / self._steps:.0f} s left" if self._total and not end else f", {spent:.0f} s"
        words = f"step {count}  loss {step.loss:.4f}  lr {self._engine.metric('lr'):.3g}  {self._engine.metric('tokens_per_second'):.0f} tokens/s{left}"
        if self._show:
            bar = f"<progress max={self._total} value={step.number}></progress> " if self._total else ""
            self._handle = self._show(f"<div>{bar}<code>{html.escape(words)}</code></div>", self._handle)
        elif self._terminal:
            self._file.write(f"\r\x1b[K{words}" + ("\n" if end else ""))
            self._file.flush()
        else:
            self._file.write(words + "\n")

    def close(self) -> None:
        self._draw(time.monotonic(), end=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
