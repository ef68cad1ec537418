"""Comparisons: paired, joint, and honest about ranks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import prefcal as pc
from prefcal.comparing import ESTIMATORS


def simulated(seed: int, n: int = 400, m: int = 4):
    rng = np.random.default_rng([7, seed, n])
    scores = rng.normal(size=(n, m))
    return scores, pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])


@pytest.mark.parametrize("items", ["exchangeable", "labelled"])
def test_values_are_those_of_the_audit(items):
    scores, y = simulated(0)
    models = {"a": pc.PlackettLuce(scores), "b": pc.PlackettLuce(2.5 * scores), "c": pc.PlackettLuce(0.3 * scores)}
    found = pc.compare(models, y, items=items)
    for name, h in models.items():
        audit = pc.audit(h, y, items=items, draws=99)
        for s in found.standings:
            if s.model == name:
                result = audit[s.notion]
                value = result.debiased if s.estimator == "debiased" else result.metrics[s.estimator].value
                assert s.value == pytest.approx(value, rel=1e-6, abs=1e-9)
                if s.estimator != "debiased":
                    interval = result.metrics[s.estimator].interval
                    assert s.interval == pytest.approx(interval, rel=1e-6)


def test_a_model_does_not_differ_from_itself():
    scores, y = simulated(1)
    h = pc.PlackettLuce(scores)
    found = pc.compare({"a": h, "b": h}, y, items="exchangeable")
    for d in found.differences:
        assert (d.difference, d.interval, d.p_value, d.p_adjusted) == (0.0, (0.0, 0.0), 1.0, 1.0)
    assert all(s.ranks == (1, 2) for s in found.standings)


def test_order_of_models_only_changes_the_sign():
    scores, y = simulated(2)
    models = {"a": pc.PlackettLuce(scores), "b": pc.PlackettLuce(2 * scores)}
    one = pc.compare(models, y, items="exchangeable")
    two = pc.compare(dict(reversed(models.items())), y, items="exchangeable")
    for estimator in ESTIMATORS:
        a, b = (c.select("sub-2", estimator, "a", "b") for c in (one, two))
        assert a.difference == pytest.approx(b.difference, rel=1e-9)
        assert a.interval == pytest.approx(b.interval, rel=1e-9)
        assert a.p_value == pytest.approx(b.p_value, rel=1e-6, abs=1e-300)


def test_pairing_is_used():
    """Two nearly equal models: the paired interval is far narrower than two unpaired ones would be."""
    scores, y = simulated(3, n=500)
    found = pc.compare({"a": pc.PlackettLuce(scores), "b": pc.PlackettLuce(1.05 * scores)}, y, items="exchangeable")
    d = found.select("sub-2", "brier", "a", "b")
    alone = [s.interval[1] - s.interval[0] for s in found.standings if (s.notion, s.estimator) == ("sub-2", "brier")]
    assert d.interval[1] - d.interval[0] < 0.2 * math.hypot(*alone)


def test_differences_cover_their_population_value():
    """300 data sets of 300 instances: coverage of the Brier and accuracy difference within binomial error of 95 %."""
    hits = {"brier": 0, "log_loss": 0}
    big, y_big = simulated(99, n=200_000)
    whole = pc.compare(
        {"a": pc.PlackettLuce(big), "b": pc.PlackettLuce(1.6 * big)}, y_big, notions="sub-2", items="exchangeable"
    )
    runs = 300
    for seed in range(runs):
        scores, y = simulated(seed, n=300)
        found = pc.compare(
            {"a": pc.PlackettLuce(scores), "b": pc.PlackettLuce(1.6 * scores)},
            y,
            notions="sub-2",
            items="exchangeable",
        )
        for estimator in hits:
            low, high = found.select("sub-2", estimator, "a", "b").interval
            hits[estimator] += low <= whole.select("sub-2", estimator, "a", "b").difference <= high
    for estimator, count in hits.items():
        assert abs(count / runs - 0.95) < 4 * math.sqrt(0.95 * 0.05 / runs), (estimator, count)


def test_equally_good_models_are_seldom_told_apart():
    """The models' errors are alike (a: over-confident in even instances, b: in odd ones); 200 runs at 5 %."""
    wrong = 0
    for seed in range(200):
        scores, y = simulated(seed, n=200)
        factor = np.where(np.arange(200) % 2, 2.0, 1.0)[:, None]
        models = {"a": pc.PlackettLuce(scores * factor), "b": pc.PlackettLuce(scores * (3.0 - factor))}
        found = pc.compare(models, y, notions="sub-2", items="exchangeable")
        wrong += found.select("sub-2", "debiased", "a", "b").p_value <= 0.05
    assert wrong <= 200 * 0.05 + 4 * math.sqrt(200 * 0.05 * 0.95)


def test_ranks_leave_open_what_the_data_leave_open():
    scores, y = simulated(4, n=2000)
    models = {
        "good": pc.PlackettLuce(scores),
        "good too": pc.PlackettLuce(1.001 * scores),
        "sure": pc.PlackettLuce(5 * scores),
    }
    found = pc.compare(models, y, notions="sub-2", items="exchangeable")
    ranks = {s.model: s.ranks for s in found.standings if s.estimator == "log_loss"}
    assert ranks["sure"] == (3, 3)
    assert ranks["good"][0] == 1
    assert max(ranks["good"][1], ranks["good too"][1]) == 2


def test_clusters_widen_and_records_join_their_instance():
    scores, y = simulated(5, n=200)
    rows = np.repeat(np.arange(200), 3)
    a, b = pc.PlackettLuce(scores[rows]), pc.PlackettLuce(2 * scores[rows])
    once = pc.compare({"a": pc.PlackettLuce(scores), "b": pc.PlackettLuce(2 * scores)}, y, notions="sub-2")
    thrice = pc.compare({"a": a, "b": b}, y[rows], notions="sub-2", clusters=rows)
    for estimator in ESTIMATORS:
        one, other = (c.select("sub-2", estimator, "a", "b") for c in (once, thrice))
        assert one.difference == pytest.approx(other.difference, rel=1e-9)
        assert one.interval == pytest.approx(other.interval, rel=1e-6)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        pytest.param(lambda s: {"a": pc.PlackettLuce(s)}, "at least two", id="one model"),
        pytest.param(
            lambda s: {"a": pc.PlackettLuce(s), "b": pc.PlackettLuce(s[:9])}, "model 'b'", id="other instances"
        ),
    ],
)
def test_errors_say_what_is_wrong(models, message):
    scores, y = simulated(6, n=50)
    with pytest.raises(pc.PrefcalError, match=message):
        pc.compare(models(scores), y)


def test_vector_notions_are_refused():
    scores, y = simulated(6, n=50)
    with pytest.raises(pc.UsageError, match="vector notion"):
        pc.compare({"a": pc.PlackettLuce(scores), "b": pc.PlackettLuce(scores)}, y, notions="full:canonical")


def test_ranges_hold_the_true_ranks():
    """Seven models, 60 data sets: all true ranks lie in their ranges together at least as often as promised."""
    rng = np.random.default_rng(11)
    held = dict.fromkeys(ESTIMATORS, 0)
    truth: dict[tuple[str, str], float] = {}
    for run in range(-1, 60):
        n = 60_000 if run < 0 else 300
        scores, noise = rng.normal(size=(2, n, 4))
        y = pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])
        scale = {"honest": 1.0, "sharp": 1.25, "flat": 0.8, "sure": 1.6, "timid": 0.55}
        models = {name: pc.PlackettLuce(c * scores) for name, c in scale.items()}
        models |= {name: pc.PlackettLuce(scores + c * noise) for name, c in (("noisy", 0.5), ("noisier", 0.9))}
        found = pc.compare(models, y, notions="sub-2", items="exchangeable")
        if run < 0:
            truth = {(s.estimator, s.model): s.value for s in found.standings}
            continue
        for estimator, smaller in ESTIMATORS.items():
            value = {m: truth[estimator, m] if smaller else -truth[estimator, m] for m in models}
            held[estimator] += all(
                s.ranks[0] <= 1 + sum(v < value[s.model] - 1e-9 for v in value.values())
                and s.ranks[1] >= len(models) - sum(v > value[s.model] + 1e-9 for v in value.values())
                for s in found.standings
                if s.estimator == estimator
            )
    for estimator, count in held.items():
        assert count >= 60 * 0.95 - 3 * math.sqrt(60 * 0.05 * 0.95), estimator


def found_for(n_models: int, n: int = 150) -> pc.Comparison:
    scores, y = simulated(12, n=n)
    factor = np.linspace(0.6, 3.0, n_models)
    models = {f"model {i}": pc.PlackettLuce(c * scores) for i, c in enumerate(factor)}
    return pc.compare(models, y, items="exchangeable")


def test_document_frames_and_files(tmp_path):
    found = found_for(3)
    document = json.loads(found.to_json(tmp_path / "c.json"))
    assert json.loads((tmp_path / "c.json").read_text()) == document
    assert (document["schema"], document["prefcal"], document["warnings"]) == (1, pc.__version__, [])
    assert document["settings"]["bins"] == 15
    assert len(document["differences"]) == 2 * 4 * 3
    for what, rows in (("standings", found.standings), ("differences", found.differences)):
        table = found.frame(what)
        assert table.num_rows == len(rows)
        assert table["low"].to_pylist() == [r.interval[0] for r in rows]
        assert found.frame(what, backend="pandas").shape == (len(rows), table.num_columns)
        assert found.frame(what, backend="polars").shape == (len(rows), table.num_columns)
    with pytest.raises(pc.UsageError, match="standings"):
        found.frame("others")
    with pytest.raises(pc.UsageError, match="pyarrow"):
        found.frame(backend="excel")


def test_default_notions_that_cannot_be_compared_are_left_out_with_a_word():
    """Pairs of three candidates: nothing is known about the best. A notion that is named must still fail."""
    scores, _ = simulated(5, n=80)
    rng = np.random.default_rng(1)
    ranks = np.full(scores.shape, np.nan)
    for i in range(len(ranks)):
        ranks[i, rng.choice(scores.shape[1], 2, replace=False)] = [1, 2]
    y = pc.Outcomes.from_ranks(ranks)
    models = {"a": pc.PlackettLuce(scores), "b": pc.PlackettLuce(2 * scores)}
    found = pc.compare(models, y, items="exchangeable")
    assert set(found.n_instances) == {"sub-2"}
    assert ["top-1:confidence" in w for w in found.warnings] == [True]
    with pytest.raises(pc.DataError, match="top-1:confidence"):
        pc.compare(models, y, items="exchangeable", notions=["sub-2", "top-1:confidence"])
    with pytest.raises(pc.PrefcalError):
        pc.compare(models, pc.Outcomes.from_ranks(np.ones_like(scores)), items="exchangeable")


@pytest.mark.parametrize("size", [1e90, 1e150, 1e300, 1.7e308])
def test_scores_of_any_size_are_compared(size):
    """A loss beyond 1e100 nats is infinite; the errors and all other models stay as they are."""
    scores, y = simulated(6, n=60)
    models = {"huge": pc.PlackettLuce(scores / np.abs(scores).max() * size), "plain": pc.PlackettLuce(scores)}
    found = pc.compare(models, y, notions="sub-2", items="exchangeable")
    alone = pc.compare({"plain": models["plain"], "b": pc.PlackettLuce(2 * scores)}, y, notions="sub-2")
    value = {(s.model, s.estimator): s.value for s in found.standings}
    assert value["huge", "debiased"] > value["plain", "debiased"]
    assert math.isinf(value["huge", "log_loss"]) == (size > 1e100)
    assert value["plain", "log_loss"] == next(
        s.value for s in alone.standings if (s.model, s.estimator) == ("plain", "log_loss")
    )


def test_a_notion_that_is_named_again_counts_once():
    scores, y = simulated(7, n=60)
    models = {"a": pc.PlackettLuce(scores), "b": pc.PlackettLuce(2 * scores)}
    twice = pc.compare(models, y, notions=["sub-2", "sub-2:canonical"], items="exchangeable")
    assert twice.document() == pc.compare(models, y, notions="sub-2:canonical", items="exchangeable").document()


def test_another_kind_of_items_is_refused():
    scores, y = simulated(7, n=60)
    h = pc.PlackettLuce(scores)
    for ask in (
        lambda: pc.compare({"a": h, "b": h.scaled(2.0)}, y, items="exchangable"),
        lambda: pc.worst_group(h, y, {"half": np.arange(60) % 2}, items="exchangable"),
        lambda: pc.audit(h, y, items="exchangable"),
        lambda: pc.mend(h, y, "temperature", items="exchangable"),
    ):
        with pytest.raises(pc.UsageError, match="did you mean 'exchangeable'"):
            ask()
