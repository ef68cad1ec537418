"""Progress on stderr for work that takes over a second: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

_PATIENCE = 1.0  # seconds before anything is shown
_PLAIN_EVERY = 10.0  # seconds between plain lines


class Progress:
    """Shows the task in hand; silent for quick work."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.terminal = self.stream.isatty()
        self._drawn = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._clear()

    @contextmanager
    def task(self, name: str) -> Iterator[Callable[[int, int | None], None]]:
        """Yield ``advance(done, total)`` to call now and then while a task runs."""
        start = time.monotonic()
        last = start + _PATIENCE - (0.1 if self.terminal else _PLAIN_EVERY)

        def advance(done: int, total: int | None) -> None:
            nonlocal last
            now = time.monotonic()
            if now - start < _PATIENCE or now - last < (0.1 if self.terminal else _PLAIN_EVERY):
                return
            last = now
            self._show(name, done / total if total else None, now - start)

        yield advance
        if time.monotonic() - start >= _PATIENCE:
            self._clear()
            print(f"{name}: {time.monotonic() - start:.1f} s", file=self.stream)

    def _show(self, name: str, share: float | None, elapsed: float) -> None:
        part = f"{100 * share:3.0f} %" if share is not None else f"{elapsed:.0f} s"
        if not self.terminal:
            print(f"{name}: {part}", file=self.stream)
            return
        bar = "" if share is None else "#" * int(20 * share) + "-" * (20 - int(20 * share)) + " "
        self.stream.write(f"\r\x1b[2K{bar}{part} {name[-50:]}")
        self.stream.flush()
        self._drawn = True

    def _clear(self) -> None:
        if self._drawn:
            self.stream.write("\r\x1b[2K")
            self.stream.flush()
            self._drawn = False
