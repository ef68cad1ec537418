"""Records and files of scores, good and bad, for tests of the readers."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

GOOD = {"scores": [0.5, 1.5, 2.5], "best": 1}


def lines(*rows):
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows).encode()


def parquet(**columns):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def long(*rows, names=("instance", "score", "rank")):
    return ("\n".join(",".join(map(str, r)) for r in (names, *rows)) + "\n").encode()
