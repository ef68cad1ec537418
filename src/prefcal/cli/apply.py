"""``prefcal apply``: a saved map on a score file, written as a new score file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prefcal.cli.audit import check_targets, distribution, named_files, read_file
from prefcal.cli.progress import Progress
from prefcal.cli.recalibrate import context
from prefcal.data.ragged import FloatArray, Ragged
from prefcal.data.writing import check_ending, records, render
from prefcal.distributions.base import Distribution
from prefcal.distributions.pairwise import Pairwise
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import UsageError


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from prefcal.recalibration import load_recalibrator

    models = named_files(options, [options.feature, options.item_feature])
    if len(models) != 1:
        raise UsageError(f"one score file at a time, got {len(models)}")
    ((name, path),) = models
    check_targets(None, None, out=options.out, inputs=[path, options.map])
    check_ending(options.out)
    fitted = load_recalibrator(options.map)
    with Progress() as progress:
        file = read_file(path, name, options, progress, item_columns=options.item_feature, outcomes="optional")
        with progress.task(f"applying {options.map}"):
            mended = fitted(distribution(file), **context(file, options.feature, options.item_feature, options.group))
            content = render(options.out, records(file, columns(mended)))
    target = Path(options.out)
    target.write_bytes(content)
    print(f"{fitted.describe()}", file=sys.stderr)
    print(f"wrote {options.out}", file=sys.stderr)
    return 0


def columns(h: Distribution) -> dict[str, Ragged | Sequence[FloatArray]]:
    """What is written of a distribution.

    ``scores`` where it is Plackett-Luce. Otherwise its exact probabilities: ``best_probs``, one a candidate, and
    ``pair_probs``, entry [a][b] the probability that a is better than b. Either can be read and audited again; of
    the latter only ``sub-2`` and, with ``best_probs``, ``top-1``.
    """
    if isinstance(h, PlackettLuce):
        return {"scores": h.scores}
    sizes = h.sizes
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
    out: dict[str, Ragged | Sequence[FloatArray]] = {}
    if h.has_best:
        best = np.exp(h.top_log_probs())
        inside = np.arange(h.n_items) < sizes[:, None]
        out["best_probs"] = Ragged(best[inside], offsets, None, h.n_items)
    out["pair_probs"] = list(h.probs) if isinstance(h, Pairwise) else _pair_probs(h)
    return out


def _pair_probs(h: Distribution) -> list[FloatArray]:
    """One (m, m) array an instance, m its own number of candidates; NaN on the diagonal."""
    out: list[FloatArray] = [np.empty((0, 0))] * len(h)
    for block in h.blocks():
        m = block.dist.n_items
        first, second = np.triu_indices(m, 1)
        odds = block.dist.pair_log_odds(first, second)
        p: FloatArray = np.full((len(odds), m, m), np.nan)
        with np.errstate(over="ignore"):
            p[:, first, second] = 1 / (1 + np.exp(-odds))
            p[:, second, first] = 1 / (1 + np.exp(odds))
        for row, own in zip(np.arange(len(h))[block.rows], p, strict=True):
            out[row] = own
    return out
