"""Keep several models loaded within a memory budget, each loaded once for any number of callers.

The least recently used model leaves first, and never while an answer is being written. Left out:
how a model is opened (`select_engine`) and where its folder comes from (the caller's `resolve`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from triptych.errors import GenerationError
from triptych.lm.generate.engine import Engine, EngineInfo

Open = Callable[[str], Engine]
SizeOf = Callable[[str], int]


class _Entry:
    def __init__(self, size_bytes: int, opened: Future[Engine]) -> None:
        self.size_bytes = size_bytes
        self.opened = opened
        self.users = 0


class Lease:
    """Hold a model loaded until released; use as a context manager."""

    def __init__(self, cache: ModelCache, key: str, engine: Engine) -> None:
        self.engine = engine
        self._cache: ModelCache | None = cache
        self._key = key

    def release(self) -> None:
        """Let the model go; releasing twice does nothing."""
        cache, self._cache = self._cache, None
        if cache is not None:
            cache._release(self._key)

    def __enter__(self) -> Engine:
        return self.engine

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.release()


class ModelCache:
    """Open models by key, share them, and close the idle ones when memory is short.

    Units: `memory_bytes` bounds the summed size of the weights; `size_of` tells a model's size
    before it is opened, so that memory is freed first.
    """

    def __init__(self, open_engine: Open, size_of: SizeOf, *, memory_bytes: int) -> None:
        self._open = open_engine
        self._size_of = size_of
        self._memory_bytes = memory_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._loader = ThreadPoolExecutor(thread_name_prefix="model-loader")
        self._lock = threading.Lock()
        self._closed = False

    def lease(self, key: str) -> Lease:
        """Return the model, opening it first where it is not loaded; blocks while it loads.

        Raises: GenerationError with code `memory` where it can never fit, `busy` where it could
            but every loaded model is in use; and whatever opening it raises.
        """
        size_bytes = self._size_of(key)
        with self._lock:
            self._check_open()
            entry = self._entries.get(key)
            if entry is None:
                leaving = self._free_memory(key, size_bytes)
                opened = self._loader.submit(self._load, key, leaving)
                entry = self._entries[key] = _Entry(size_bytes, opened)
            entry.users += 1
            self._entries.move_to_end(key)
        try:
            return Lease(self, key, entry.opened.result())
        except BaseException:
            self._forget(key, entry)
            raise

    def lease_loaded(self, key: str) -> Lease | None:
        """Return the model if it is loaded already; never blocks on loading."""
        with self._lock:
            self._check_open()
            entry = self._entries.get(key)
            if entry is None or not entry.opened.done() or entry.opened.exception() is not None:
                return None
            entry.users += 1
            self._entries.move_to_end(key)
            return Lease(self, key, entry.opened.result())

    def loaded(self) -> dict[str, EngineInfo]:
        """List what is loaded, least recently used first."""
        with self._lock:
            return {
                key: entry.opened.result().info
                for key, entry in self._entries.items()
                if entry.opened.done() and entry.opened.exception() is None
            }

    def close(self) -> None:
        """Close every model, cancelling what runs; further calls raise."""
        with self._lock:
            self._closed = True
            entries = list(self._entries.values())
            self._entries.clear()
        self._loader.shutdown()
        for entry in entries:
            if entry.opened.exception() is None:
                entry.opened.result().close()

    def _load(self, key: str, leaving: list[Engine]) -> Engine:
        for engine in leaving:
            engine.close()
        return self._open(key)

    def _forget(self, key: str, entry: _Entry) -> None:
        """Drop an entry that failed to load, so that the next call tries again."""
        with self._lock:
            entry.users -= 1
            failed = entry.opened.done() and entry.opened.exception() is not None
            if failed and self._entries.get(key) is entry:
                del self._entries[key]

    def _free_memory(self, key: str, size_bytes: int) -> list[Engine]:
        """Take idle models out, least recently used first; the loading thread closes them."""
        if size_bytes > self._memory_bytes:
            raise GenerationError(
                f"{key} needs {size_bytes / 2**20:.0f} MiB, the budget is "
                f"{self._memory_bytes / 2**20:.0f} MiB",
                hint="raise generate.cache_memory_bytes, or serve it as q8_0",
                code="memory",
            )
        used = sum(entry.size_bytes for entry in self._entries.values())
        leaving: list[str] = []
        for other, entry in self._entries.items():
            if used + size_bytes <= self._memory_bytes:
                break
            if entry.users == 0 and entry.opened.done():
                leaving.append(other)
                used -= entry.size_bytes
        if used + size_bytes > self._memory_bytes:
            raise GenerationError(
                f"no memory for {key} while the loaded models are answering",
                hint="try again in a moment, or raise generate.cache_memory_bytes",
                code="busy",
                retryable=True,
            )
        return [self._entries.pop(other).opened.result() for other in leaving]

    def _release(self, key: str) -> None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                entry.users -= 1

    def _check_open(self) -> None:
        if self._closed:
            raise GenerationError("the models are closed", code="closed")
