"""Settings of the study: how data are split, what is measured, and on which forecasts."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import asdict, dataclass
from typing import Final, Literal

import numpy as np

from prefcal.data.ragged import IntArray
from prefcal.errors import UsageError
from prefcal.studies.label_ranking.sets import StudySet
from prefcal.views import View

ProtocolName = Literal["published", "exact"]
Cut = Literal["tail", "random"]
Support = Literal["all", "observed"]

#: Sets whose forecasts the published code cuts to the rankings that occur in the data. (It lists "pendigit", which is
#: no set's name, so pendigits is not cut there.)
TRUNCATED: Final = ("movies", "letter", "libras", "vowel", "yeast")
#: From this many items on the published code averages over the tuples seen in the test fold only.
OBSERVED_TUPLES_FROM: Final = 8
DEFAULT_NOTIONS: Final = ("sub-2", "sub-3", "top-1", "top-2", "full")
KERNEL_VIEWS: Final = ("sub-2", "top-1", "full")
#: Share of a training part that fits the models; the rest calibrates (published).
FIT_SHARE: Final = 0.8


@dataclass(frozen=True, slots=True)
class Settings:
    """What every row of a store has in common; another choice needs another store.

    Parameters
    ----------
    folds
        Cross-validation folds.
    seed
        Of splits, models, null draws and samples of subsets.
    notions
        Views whose rankwise errors are measured.
    bins
        Equal-width bins.
    draws
        Outcomes drawn from the forecasts for each null law.
    budget
        Test rows x ordered tuples of one notion that are all evaluated; beyond it a seeded sample of subsets is.
    kernel
        Whether the Dirichlet-kernel error is measured too.
    """

    folds: int = 5
    seed: int = 42
    notions: tuple[str, ...] = DEFAULT_NOTIONS
    bins: int = 10
    draws: int = 199
    budget: int = 4_000_000
    kernel: bool = True

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("seed", 0), ("bins", 1), ("draws", 19), ("budget", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(f"{name} must be a whole number >= {least}, got {value!r}")
        for notion in self.notions:
            if View.parse(notion).kind not in ("sub", "top", "full"):
                raise UsageError.unknown("notion of the study", notion, ("sub-K", "top-K", "full"))

    def digest(self) -> str:
        """Short hash of all settings."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, order=True)
class Job:
    """One fit: the unit that is stored, lost or resumed.

    ``cut`` is how the training part is divided into fitting and calibration rows: ``tail``, the last rows of the
    file calibrate (published); ``random``.
    """

    protocol: ProtocolName
    dataset: str
    model: str
    fold: int
    cut: Cut

    @property
    def key(self) -> str:
        """Name of the job, safe as a file name."""
        parts = (self.protocol, self.dataset, self.model, str(self.fold), self.cut)
        plain = "--".join("".join(c if c.isalnum() or c in ".-_" else "_" for c in part) for part in parts)
        return f"{plain}--{zlib.crc32(repr(parts).encode()):08x}"

    def seed(self, settings: Settings, purpose: str) -> list[int]:
        """Entropy for a Generator that depends on this job alone, not on the order in which jobs run."""
        words = (self.protocol, self.dataset, self.model, self.cut, purpose)
        return [settings.seed, self.fold, *(zlib.crc32(w.encode()) for w in words)]


@dataclass(frozen=True, slots=True)
class Variant:
    """How one set of forecasts is measured.

    Parameters
    ----------
    support
        ``observed``: forecasts are cut to the rankings that occur in the data, without renormalising (published, for
        the sets of ``TRUNCATED``); ``all``: exact marginals.
    mass_filter
        Keep only the most frequent rankings that make up 95 % of the test fold, and the rows that show them, without
        renormalising (published, in the ``95_prob_mass`` results).
    null
        Whether a null law and a test stand beside the error.
    """

    support: Support
    mass_filter: bool
    null: bool


def variants(job: Job) -> tuple[Variant, ...]:
    """What is measured on the forecasts of one fit: as published with and without filter, and exactly.

    The first is what the protocol reports. The exact measurement of a published fit tells what truncation alone does.
    """
    exact = Variant("all", False, True)
    if job.protocol == "exact":
        return (exact,)
    if job.dataset not in TRUNCATED:
        return (exact, Variant("all", True, False))
    return (Variant("observed", False, False), Variant("observed", True, False), exact)


def cuts(protocol: ProtocolName, *, ablate: bool) -> tuple[Cut, ...]:
    """Cuts of the training part that a protocol runs; ``ablate`` adds the published protocol with a random cut."""
    if protocol == "exact":
        return ("random",)
    return ("tail", "random") if ablate else ("tail",)


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of one fold."""

    fit: IntArray
    calibration: IntArray
    test: IntArray


def split(data: StudySet, job: Job, settings: Settings) -> Split:
    """Rows that fit, calibrate and test.

    ``published``: scikit-learn's shuffled KFold with the study's seed. ``exact``: the same, stratified by ranking
    (rankings rarer than the folds count with those of the same best item) wherever some ranking or best item is
    frequent enough.

    Raises
    ------
    UsageError
        When there are fewer rows than folds, or too few to fit and calibrate.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    n = len(data)
    if n < settings.folds:
        raise UsageError(f"{data.name}: {n} rows for {settings.folds} folds; lower --folds or add rows")
    strata = stratify(data, settings.folds) if job.protocol == "exact" else np.zeros(n, dtype=np.intp)
    if strata.any():
        folds = StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed).split(strata, strata)
    else:
        folds = KFold(settings.folds, shuffle=True, random_state=settings.seed).split(strata)
    train, test = list(folds)[job.fold]
    if job.cut == "random":
        rng = np.random.default_rng([settings.seed, job.fold, zlib.crc32(data.name.encode())])
        train = rng.permutation(train)
    at = int(FIT_SHARE * len(train))
    if at < 2 or at == len(train):
        raise UsageError(f"{data.name}: {len(train)} training rows are too few to fit and to calibrate")
    return Split(np.sort(train[:at]), np.sort(train[at:]), test)


def stratify(data: StudySet, folds: int) -> IntArray:
    """Strata (n,) of at least ``folds`` rows each, numbered from 0: rankings, else best items, else one rest."""
    _, ranking, counts = np.unique(data.ranks, axis=0, return_inverse=True, return_counts=True)
    ranking = ranking.reshape(-1)
    label = np.where(counts[ranking] >= folds, ranking, -1)
    best = data.ranks.argmin(axis=1)
    rare = label < 0
    frequent = np.bincount(best[rare], minlength=data.n_items) >= folds
    label[rare & frequent[best]] = len(counts) + best[rare & frequent[best]]
    rest = label < 0
    if 0 < rest.sum() < folds:  # too few for a stratum of their own: they join the largest
        values, sizes = np.unique(label[~rest], return_counts=True)
        label[rest] = values[sizes.argmax()] if len(values) else 0
    return np.unique(label, return_inverse=True)[1].reshape(-1)


def notions_for(settings: Settings, m: int) -> tuple[str, ...]:
    """The settings' notions that have a meaning for ``m`` items, each once (sub-3 of 3 items is ``full``)."""
    names: list[str] = []
    for notion in settings.notions:
        view = View.parse(notion)
        if view.k > m:
            continue
        name = view.resolve(m).name
        if name not in names:
            names.append(name)
    return tuple(names)
