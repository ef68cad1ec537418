"""Kernel estimates by random features: 100,000 instances of 10 items, against all pairs of instances on a few.

For each notion a fresh process makes the estimate with its null law, p-value and interval, and reports its time and
peak memory (the target is under 60 s and under 1 GiB). In the same run the quadratic way (all pairs of instances) is
timed on fewer instances beside the features on the same ones: their ratio, and the two values. Times
are CPU seconds of the process; with OMP_NUM_THREADS=1 that is the wall time of an idle core. The ratio grows with n.

Run: python benchmarks/bench_kernel.py [--instances 100000] [--items 10] [--few 2000] [--notions full:canonical ...]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

import prefcal as pc
from prefcal.estimators import kernel_exact
from prefcal.estimators.kernel import kernel_error
from prefcal.notions.notion import Notion

NOTIONS = ("full:canonical", "sub-2:full", "sub-3:canonical", "top-1:canonical", "position:canonical")


def data(n: int, m: int, seed: int = 0) -> tuple[pc.PlackettLuce, pc.Outcomes]:
    """Over-confident Plackett-Luce forecasts (temperature 1.25) and outcomes."""
    rng = np.random.default_rng(seed)
    truth = pc.PlackettLuce(rng.normal(size=(n, m)))
    return truth.scaled(1.25), pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])


def by_features(n: int, m: int, notion: str) -> tuple[float, str]:
    h, y = data(n, m)
    start = time.process_time()
    found = kernel_error(h, y, Notion.parse(notion), "labelled", weights=np.ones(n), clusters=None, seed=0)
    seconds = time.process_time() - start
    return seconds, (
        f"{found.value:.6f} (null mean {found.null.mean:.6f}, p = {found.null.p_value:.3f}, {found.features} "
        f"features, {found.references} references, {found.null.draws} null draws by {found.null_method})"
    )


def by_pairs(n: int, m: int, notion: str) -> tuple[float, str]:
    h, y = data(n, m)
    start = time.process_time()
    found = kernel_exact.exact_kernel_error(h, y, notion)
    return time.process_time() - start, f"{found.value:.6f} ({found.null.draws} null draws)"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=10)
    parser.add_argument("--few", type=int, default=2_000)
    parser.add_argument("--notions", nargs="+", default=list(NOTIONS))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        seconds, text = by_features(options.instances, options.items, options.notions[0])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{seconds:.1f} CPU seconds, peak {peak:.0f} MiB: {text}")
        return
    for notion in options.notions:
        command = [sys.executable, __file__, "--child", "--notions", notion]
        command += ["--instances", str(options.instances), "--items", str(options.items)]
        child = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"{notion}, {options.instances} x {options.items}: {child.stdout.strip()}", flush=True)
    for notion in options.notions:  # afterwards: a child's peak memory counts that of the process that started it
        kernel_exact.MOST_RANKINGS = 20 * options.few
        few = min(options.few, 400) if notion == "full:canonical" and options.items > 5 else options.few
        features, value = by_features(few, options.items, notion)
        pairs, exact = by_pairs(few, options.items, notion)
        print(f"{notion}, {few} instances: features {features:.2f} s, {value}")
        print(
            f"{notion}, {few} instances: all pairs {pairs:.2f} s, {exact}; ratio {pairs / features:.1f}", flush=True
        )


if __name__ == "__main__":
    main()
