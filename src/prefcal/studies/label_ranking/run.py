"""Run the study's jobs: in parallel, resumable, with the same numbers in whatever order they finish."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from prefcal.errors import PrefcalError, UsageError
from prefcal.studies.label_ranking.evaluate import evaluate_named
from prefcal.studies.label_ranking.models import builder
from prefcal.studies.label_ranking.protocol import Job, ProtocolName, Settings, cuts, split
from prefcal.studies.label_ranking.sets import StudySet, load_set
from prefcal.studies.label_ranking.store import Store

#: Environment that keeps numerical libraries of a worker on one core: the workers have one core each.
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
#: Jobs before which no remaining time is stated.
_ENOUGH: Final = 5


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Parameters
    ----------
    done, total
        Jobs of this call that are finished, and all that it had to do.
    kept
        Jobs that the store held already.
    elapsed
        Seconds.
    remaining
        Estimated seconds, None while too little is known.
    last
        The job that finished last.
    """

    done: int
    total: int
    kept: int
    elapsed: float
    remaining: float | None
    last: Job | None


Listener = Callable[[Progress], None]


def plan(
    protocol: ProtocolName,
    datasets: Sequence[str],
    models: Sequence[str],
    settings: Settings,
    *,
    ablate: bool = False,
) -> list[Job]:
    """All jobs, data sets in the given order.

    Raises
    ------
    UsageError
        For an unknown model, or one that a protocol does not have.
    """
    for model in models:
        builder(model, protocol)
    return [
        Job(protocol, dataset, model, fold, cut)
        for dataset in dict.fromkeys(datasets)
        for model in dict.fromkeys(models)
        for cut in cuts(protocol, ablate=ablate)
        for fold in range(settings.folds)
    ]


def run(store: Store, jobs: Sequence[Job], *, processes: int = 1, listener: Listener | None = None) -> Progress:
    """Do the jobs that the store lacks.

    Each finished job is written by the process that did it, so a run killed at any moment loses the fits in progress
    only, and running again does the rest.

    Parameters
    ----------
    store
        Where rows go; it is locked while this runs.
    jobs
        What :func:`plan` made.
    processes
        Worker processes; 1 works in this process. The numbers do not depend on it.
    listener
        Called after each finished job.

    Raises
    ------
    UsageError, DataError
        From a job (its name is in the message); the jobs that were running are finished first.
    """
    if processes < 1:
        raise UsageError(f"processes must be at least 1, got {processes}")
    with store.lock():
        missing = [job for job in jobs if not store.has(job)]
        sets = _check(missing, store)
        clock = _Clock({name: _size(d) for name, d in sets.items()}, missing, len(jobs) - len(missing))
        if processes == 1:
            with one_thread():
                for job in missing:
                    seconds = _work(store, job)
                    _tell(listener, clock.finished(job, seconds, 1))
        elif missing:
            _pooled(store, missing, processes, clock, listener)
    return clock.state(1)


def _pooled(store: Store, jobs: Sequence[Job], processes: int, clock: _Clock, listener: Listener | None) -> None:
    # Spawned, not forked: a fork of a process that has started threads (torch, BLAS) may hang.
    context = multiprocessing.get_context("spawn")
    with (
        one_thread(),
        ProcessPoolExecutor(processes, context, initializer=_leave_with_parent, initargs=(os.getpid(),)) as pool,
    ):
        futures: dict[Future[float], Job] = {pool.submit(_work, store, job): job for job in jobs}
        failure: PrefcalError | None = None
        pending = set(futures)
        try:
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    if future.cancelled():
                        continue
                    try:
                        seconds = future.result()
                    except PrefcalError as error:
                        failure = failure or error
                        for other in pending:
                            other.cancel()
                    else:
                        _tell(listener, clock.finished(futures[future], seconds, processes))
        except BrokenProcessPool:
            raise UsageError(
                "a worker process was killed (out of memory?); finished fits are stored: run the same command again, "
                "with fewer processes if memory is short"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        if failure is not None:
            raise failure


def _work(store: Store, job: Job) -> float:
    """Do one job and store it; returns the seconds it took."""
    start = time.perf_counter()
    store.write(job, evaluate_named(_loaded(job.dataset), job, store.settings))
    return time.perf_counter() - start


@lru_cache(maxsize=2)
def _loaded(name: str) -> StudySet:
    return load_set(name)


def _leave_with_parent(parent: int) -> None:
    """End this worker when the process that started it is gone: a killed run leaves nothing behind."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS on one thread, here and in processes started meanwhile."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        with threadpool_limits(1):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _check(jobs: Sequence[Job], store: Store) -> dict[str, StudySet]:
    """Load every set once: bad data stop the run before the first hour, not after it."""
    sets = {}
    for job in jobs:
        if job.dataset not in sets:
            data = sets[job.dataset] = load_set(job.dataset)
            split(data, job, store.settings)
    stored = {row["dataset"]: row["data_sha256"] for row in store.rows()} if sets else {}
    for name, data in sets.items():
        if stored.get(name, data.sha256) != data.sha256:
            raise UsageError(
                f"{store.folder} holds results of other data under the name {name!r}; name another folder"
            )
    return sets


def _size(data: StudySet) -> tuple[float, float]:
    """How a fit's time grows, roughly as seen: with sqrt(rows x items^2), and for RC with its number of classes."""
    return math.sqrt(len(data) * data.n_items**2), math.sqrt(1 + len(np.unique(data.ranks, axis=0)) / 1000)


def _tell(listener: Listener | None, progress: Progress) -> None:
    if listener is not None:
        listener(progress)


class _Clock:
    """Remaining time from what finished jobs took.

    A model that has finished a fold of the same data takes as long again. Elsewhere time grows with the data's size
    (see ``_size``), at the rate of the model's finished jobs; the median rate is robust against the first jobs of
    each process, which load libraries.
    """

    def __init__(self, sizes: dict[str, tuple[float, float]], jobs: Sequence[Job], kept: int) -> None:
        self.start = time.perf_counter()
        self.sizes, self.kept = sizes, kept
        self.open = dict.fromkeys(jobs)
        self.total = len(jobs)
        self.seconds: dict[tuple[str, str], list[float]] = {}
        self.last: Job | None = None

    def size(self, name: str, model: str) -> float:
        plain, of_classes = self.sizes[name]
        return plain * of_classes if model == "rc" else plain

    def finished(self, job: Job, seconds: float, processes: int) -> Progress:
        self.seconds.setdefault((job.dataset, job.model), []).append(seconds)
        self.open.pop(job, None)
        self.last = job
        return self.state(processes)

    def state(self, processes: int) -> Progress:
        return Progress(
            self.total - len(self.open),
            self.total,
            self.kept,
            time.perf_counter() - self.start,
            self.remaining(processes),
            self.last,
        )

    def remaining(self, processes: int) -> float | None:
        if not self.open:
            return 0.0
        if self.total - len(self.open) < _ENOUGH:
            return None
        rates: dict[str, list[float]] = {}
        for (name, model), times in self.seconds.items():
            rates.setdefault(model, []).append(statistics.median(times) / self.size(name, model))
        by_model = {model: statistics.median(r) for model, r in rates.items()}
        overall = statistics.median(by_model.values())
        total = 0.0
        for job in self.open:
            known = self.seconds.get((job.dataset, job.model))
            rate = by_model.get(job.model, overall)
            total += statistics.median(known) if known else rate * self.size(job.dataset, job.model)
        return total / processes
