"""Simulate whether tests, intervals and bias corrections keep their promises.

    python benchmarks/validity/run.py --out DIR [--runs R] [--cells TEXT ...] [--minutes T]
    python benchmarks/validity/run.py --out DIR --table

Each batch of data sets is one line a notion in DIR/batches.jsonl; a run that was stopped goes on where it was, and a
later run with more ``--runs`` adds batches. Everything is seeded by the cell's name and the batch's number: the order
does not matter. ``--table`` sums the batches up in results.json and others.json beside this file, and renders
docs/validity.md.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from others import other_cells  # noqa: E402
from simulation import cells  # noqa: E402
from tables import render, summarise  # noqa: E402
from tables_others import render_others, summarise_others  # noqa: E402


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=1000, help="data sets of a cell; fewer of miscalibrated ones")
    parser.add_argument("--cells", nargs="*", default=[""], help="only cells whose name contains one of these")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this long")
    parser.add_argument("--table", action="store_true", help="sum up what is there and render the page")
    parser.add_argument("--results", type=Path, default=HERE, help="the folder where --table puts the sums")
    parser.add_argument("--page", type=Path, default=HERE.parents[1] / "docs" / "validity.md", help="and the page")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "batches.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if options.table:
        results, others = summarise(records), summarise_others(records)
        for name, rows in (("results", results), ("others", others)):
            lines = ",\n".join(json.dumps(row) for row in rows)
            (options.results / f"{name}.json").write_text(f"[\n{lines}\n]\n")
        options.page.write_text(render(results) + render_others(others), encoding="utf-8")
        return
    done = {(r["cell"], r["batch"]) for r in records}
    wanted = [
        (index, order, cell)
        for order, cell in enumerate((*cells(), *other_cells()))
        if any(text in cell.name for text in options.cells)
        for index in range(cell.batches(options.runs))
        if (cell.name, index) not in done
    ]
    end = time.monotonic() + 60 * options.minutes
    for count, (index, _, cell) in enumerate(
        sorted(wanted, key=lambda job: job[:2])
    ):  # a few runs of all cells first
        if time.monotonic() > end:
            break
        found = cell.batch(index)
        with path.open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in found)
        print(f"{count + 1}/{len(wanted)} {cell.name} batch {index}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
