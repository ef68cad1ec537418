"""Audit of 100,000 prompts x 10 candidates from Parquet against a bare numpy pass over the same 4.5 million pairs.

Prints the ratio of the whole audit (reading, sub-2 and top-1, cell tables, null law, intervals, temperature) to the
bare pass (scores already in memory: probability of each pair, its bin, three sums), medians of several runs, and the
peak memory of a fresh process that runs the audit. The target is a ratio of at most 5 and under 1 GiB.

Run: python benchmarks/bench_audit.py [--prompts 100000] [--runs 7]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def make_file(path: Path, prompts: int, seed: int = 0) -> None:
    """Write calibrated Plackett-Luce scores and full ranks as Parquet list columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(prompts, 10))
    order = np.argsort(-(scores + rng.gumbel(size=scores.shape)), axis=1)
    ranks = np.argsort(order, axis=1) + 1
    columns = {
        name: pa.ListArray.from_arrays(np.arange(0, 10 * prompts + 1, 10, dtype=np.int32), pa.array(values.ravel()))
        for name, values in (("scores", scores), ("ranks", ranks))
    }
    pq.write_table(pa.table(columns), path)


def bare_pass(scores: np.ndarray, ranks: np.ndarray, bins: int = 15) -> float:
    """ECE of sub-2 by plain numpy: what anyone would write first."""
    first, second = np.triu_indices(scores.shape[1], 1)
    margin = scores[:, first] - scores[:, second]
    p = 1 / (1 + np.exp(-np.abs(margin)))
    y = (margin > 0) == (ranks[:, first] < ranks[:, second])
    cell = np.minimum((p * bins).astype(np.int64), bins - 1).ravel()
    n = np.bincount(cell, minlength=bins)
    sum_p = np.bincount(cell, p.ravel(), minlength=bins)
    sum_y = np.bincount(cell, y.ravel(), minlength=bins)
    return float(np.abs(sum_y - sum_p).sum() / n.sum())


def audit_file(path: Path) -> float:
    """The same number, and everything else, by prefcal."""
    from prefcal.cli.audit import audit_scores
    from prefcal.data.readers import read

    return audit_scores(read(path), notions=[])["sub-2"].value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        audit_file(options.child)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.parquet"
        make_file(path, options.prompts)
        from prefcal.data.readers import read

        file = read(path)
        scores, ranks = file.scores.dense(), file.outcomes.dense()
        times: dict[str, list[float]] = {"bare": [], "audit": []}
        for _ in range(options.runs):
            for name, work in (("bare", lambda: bare_pass(scores, ranks)), ("audit", lambda: audit_file(path))):
                start = time.perf_counter()
                value = work()
                times[name].append(time.perf_counter() - start)
                if name == "bare":
                    expected = value
        assert abs(value - expected) < 1e-9, (value, expected)
        child = subprocess.run(
            [sys.executable, __file__, "--child", str(path)], capture_output=True, text=True, check=True
        )
    bare, audit = (statistics.median(times[k]) for k in ("bare", "audit"))
    print(f"bare pass {bare:.3f} s, audit {audit:.3f} s (medians of {options.runs}), ratio {audit / bare:.2f}")
    print(f"peak memory of a fresh process: {int(child.stdout) / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
