"""What maps and mendings say in words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import prefcal as pc
from fabricated_forecasts import map_inputs, some_pairs, stated_pairs
from prefcal.recalibration import METHODS
from prefcal.report.mending import findings_of, render_mending


@pytest.mark.parametrize(
    ("method", "kind"),
    [(m, k) for m, cls in METHODS.items() for k in ("PlackettLuce", "Pairwise") if k in cls.accepts],
)
def test_a_description_begins_with_a_capital(method, kind):
    rng = np.random.default_rng(0)
    h: pc.Distribution = pc.PlackettLuce(rng.normal(size=(80, 4)))
    y = pc.Outcomes.from_ratings(rng.integers(1, 4, (80, 4)), ties="equal")
    if kind == "Pairwise":
        h = stated_pairs(h)
    if method == "stage-wise":
        y = pc.Outcomes.from_orders(np.argsort(rng.random((80, 4)), axis=1))
    text = pc.recalibrate(h, y, method, **map_inputs(method, 80, 4)).describe()
    sentences = [text, *text.replace("e.g. ", "").split(". ")[1:]]
    names = ("none", *METHODS)  # auto names the chosen method in a sentence of its own
    assert all(s[0].isupper() or s[0].isdigit() or s.startswith(names) for s in sentences), text
    assert ".." not in text


@pytest.mark.parametrize(
    ("impossible", "words"), [(1, "1 record happened although it was"), (2, "2 records happened")]
)
def test_one_record_is_singular(impossible, words):
    rng = np.random.default_rng(0)
    orders = np.array(list(itertools.permutations(range(3))))
    probs = np.tile(np.r_[0.0, np.full(5, 0.2)], (60, 1))
    at = np.r_[np.zeros(impossible, dtype=int), rng.integers(1, 6, 60 - impossible)]
    found = pc.mend(
        pc.Categorical(orders, probs), pc.Outcomes.from_orders(orders[at]), "temperature", notions="sub-2"
    )
    assert found.log_loss["before"].note.startswith(words)
    text = render_mending(found)
    assert words in text


def test_warnings_of_a_map_are_sentences_and_names_stay():
    h, y = some_pairs(4)
    found = pc.mend(pc.PlackettLuce(-h.scores.dense()), y, "temperature", model="judge")
    texts = [f.text for f in findings_of(found) if f.title.startswith("Read this")]
    assert any(t.startswith("judge (raw): left out") for t in texts)
    assert all(t[0].isupper() or t.startswith("judge") for t in texts)
    assert len(texts) > 1
