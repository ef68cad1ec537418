"""The pipeline: what may come in, what comes out, and how it is judged."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import prefcal as pc


def simulated(n: int = 80, m: int = 4, seed: int = 0, scale: float = 1.0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, m))
    return scale * scores, pc.PlackettLuce(scores).sample(1, rng)[:, 0]


def quick(h, y, **options):
    return pc.audit(h, y, **({"draws": 99, "items": "exchangeable"} | options))


SCORES, ORDERS = simulated()
H, Y = pc.PlackettLuce(SCORES), pc.Outcomes.from_orders(ORDERS)
RANKS = np.argsort(ORDERS, axis=1) + 1


@pytest.mark.parametrize(
    "wrap",
    [
        lambda a: a,
        lambda a: a.tolist(),
        lambda a: pd.DataFrame(a),
        lambda a: pl.DataFrame(a),
        lambda a: pa.table({str(j): a[:, j] for j in range(a.shape[1])}),
        lambda a: pd.Series(a.tolist()),
        lambda a: pl.Series(a.tolist()),
        lambda a: pa.array(a.tolist()),
        lambda a: [tuple(r) for r in a],
        lambda a: a.astype(np.float32) if a.dtype == float else a.astype(np.int16),
    ],
)
def test_kinds_of_input_give_the_same_audit(wrap):
    exact = quick(H, Y)
    got = quick(pc.PlackettLuce(wrap(SCORES)), pc.Outcomes.from_ranks(wrap(RANKS)))
    for notion in ("sub-2", "top-1:confidence"):
        assert got[notion].value == pytest.approx(exact[notion].value, abs=1e-6)
        assert got[notion].n_events == exact[notion].n_events


GROUPS = np.array(["a", "b", "c", "a"] * 20)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda g: {"g": g},
        lambda g: {"g": g.tolist()},
        lambda g: {"g": pd.Series(g)},
        lambda g: {"g": pd.Categorical(g)},
        lambda g: pd.DataFrame({"g": g}),
        lambda g: pd.DataFrame({"g": g}, index=range(100, 180)),
        lambda g: pl.DataFrame({"g": g}),
        lambda g: pa.table({"g": g}),
    ],
)
def test_kinds_of_groups_give_the_same_audit(wrap):
    want = quick(H, Y, groups={"g": GROUPS}).to_json()
    got = quick(H, Y, groups=wrap(GROUPS)).to_json()
    assert json.loads(got)["results"] == json.loads(want)["results"]


@pytest.mark.parametrize("wrap", [np.asarray, list, pd.Series, pl.Series, pa.array])
def test_a_bare_array_of_groups_is_the_field_group(wrap):
    audit = quick(H, Y, groups=wrap(GROUPS.tolist()))
    levels = [r.group for r in audit.results if r.notion == "sub-2"]
    assert levels == [None, {"group": "a"}, {"group": "b"}, {"group": "c"}]


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([2, 10, 1, 2] * 20, [1, 2, 10]),
        ([True, False] * 40, [False, True]),
        ([0.5, 0.25] * 40, [0.25, 0.5]),
        (["b", None, "a", "b"] * 20, ["(missing)", "a", "b"]),
        ([1.0, math.nan] * 40, [1.0, "(missing)"]),
        ([1, "1", 2, "x"] * 20, [1, 2, "1", "x"]),
        ([None] * 80, ["(missing)"]),
        (np.array(["2024-01-02", "2023-01-01"] * 40, dtype="datetime64[D]"), None),
    ],
)
def test_levels_of_a_group_are_plain_sorted_values(values, levels):
    audit = quick(H, Y, groups={"g": values}, notions=["sub-2"])
    got = [r.group["g"] for r in audit.results if r.group]
    if levels is not None:
        assert got == levels
        assert [type(a) for a in got] == [type(a) for a in levels]
    assert sum(r.n_instances for r in audit.results if r.group) == 80
    json.loads(audit.to_json(), parse_constant=pytest.fail)


def test_several_fields_are_grouped_apart():
    audit = quick(H, Y, groups={"g": GROUPS, "half": np.arange(80) % 2}, notions=["sub-2"])
    assert [tuple(r.group) for r in audit.results if r.group] == [("g",)] * 3 + [("half",)] * 2
    for field in ("g", "half"):
        assert sum(r.n_events for r in audit.results if r.group and field in r.group) == 6 * 80


ERRORS = [
    ("outcomes as forecasts", lambda: quick(Y, Y), pc.UsageError, "distribution"),
    ("scores as forecasts", lambda: quick(SCORES, Y), pc.UsageError, r"PlackettLuce\(scores\)"),
    ("ranks as outcomes", lambda: quick(H, RANKS), pc.UsageError, r"Outcomes"),
    ("too few outcomes", lambda: quick(H, Y[:79]), pc.DataError, "80 forecasts but 79"),
    ("too few forecasts", lambda: quick(H[:79], Y), pc.DataError, "79 forecasts but 80"),
    ("other items", lambda: quick(H, pc.Outcomes.from_ranks(RANKS[:, :3].argsort(1) + 1)), pc.DataError, "4 items"),
    (
        "an item that is not there",
        lambda: quick(pc.PlackettLuce(np.where(np.arange(4) == 3, np.nan, SCORES)), Y), pc.DataError, "instance 0",
    ),
    ("no notion", lambda: quick(H, Y, notions=[]), pc.UsageError, "no notion"),
    ("unknown notion", lambda: quick(H, Y, notions=["sub2"]), pc.UsageError, "unknown view 'sub2'"),
    ("unknown given", lambda: quick(H, Y, notions=["sub-2:x"]), pc.UsageError, "x"),
    ("too large a view", lambda: quick(H, Y, notions=["sub-5"]), pc.UsageError, "sub-5"),
    ("not a notion", lambda: quick(H, Y, notions=[3]), pc.UsageError, "3"),
    ("items", lambda: quick(H, Y, items="labeled"), pc.UsageError, "did you mean 'labelled'"),
    ("groups of another length", lambda: quick(H, Y, groups={"g": [1, 2]}), pc.DataError, "'g'.*80"),
    ("groups of two dimensions", lambda: quick(H, Y, groups={"g": np.ones((80, 2))}), pc.DataError, "'g'"),
    ("weights of another length", lambda: quick(H, Y, weights=[1.0]), pc.DataError, "80"),
    ("negative weights", lambda: quick(H, Y, weights=-np.ones(80)), pc.DataError, "instance 0"),
    ("NaN weights", lambda: quick(H, Y, weights=np.full(80, np.nan)), pc.DataError, "instance 0"),
    ("infinite weights", lambda: quick(H, Y, weights=np.full(80, np.inf)), pc.DataError, "instance 0"),
    ("no weight", lambda: quick(H, Y, weights=np.zeros(80)), pc.DataError, "all weights are 0"),
    ("weights by name", lambda: quick(H, Y, weights="instances"), pc.UsageError, "instance"),
    ("weights as text", lambda: quick(H, Y, weights=["a"] * 80), pc.DataError, "weights"),
    ("clusters of another length", lambda: quick(H, Y, clusters=[1, 2]), pc.DataError, "80"),
    ("tolerance", lambda: quick(H, Y, tolerance=0), pc.UsageError, "tolerance"),
    ("tolerance of 1", lambda: quick(H, Y, tolerance=1.0), pc.UsageError, "tolerance"),
    ("few draws", lambda: quick(H, Y, draws=98), pc.UsageError, "draws"),
    ("no bins", lambda: quick(H, Y, bins=0), pc.UsageError, "bins"),
    ("half a bin", lambda: quick(H, Y, bins=1.5), pc.UsageError, "bins"),
    ("too many bins", lambda: quick(H, Y, bins=5041), pc.UsageError, "bins"),
    ("seed", lambda: quick(H, Y, seed=-1), pc.UsageError, "seed"),
    ("seed as text", lambda: quick(H, Y, seed="0"), pc.UsageError, "seed"),
    (
        "a pair of an unknown instance", lambda: quick(H, pc.Outcomes.from_pairs([[80, 0, 1]], n_items=4)),
        pc.DataError, "80",
    ),
    ("frames", lambda: quick(H, Y).frame("dask"), pc.UsageError, "pandas"),
    ("a missing result", lambda: quick(H, Y)["full"], pc.UsageError, "full"),
    ("a missing group", lambda: quick(H, Y).select(notion="sub-2", group={"g": 1}), pc.UsageError, "no result"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "match"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS])
def test_errors_say_what_is_wrong(call, kind, match):
    with pytest.raises(kind, match=match):
        call()


def test_a_notion_may_be_named_alone_and_twice():
    assert [r.notion for r in quick(H, Y, notions="sub-2").results] == ["sub-2"]
    assert len(quick(H, Y, notions=["sub-2", "sub-2"]).results) == 1
    assert len(quick(H, Y, notions=["top-1", "top-1:rankwise"]).results) == 1
    assert quick(H, Y, notions=[pc.Notion.parse("top-1")])["top-1:rankwise"].n_instances == 80


def test_results_come_in_the_order_asked_for():
    notions = ["top-1:confidence", "full:canonical", "sub-2", "full"]
    audit = quick(H, Y, notions=notions, groups={"g": GROUPS})
    assert list(dict.fromkeys(r.notion for r in audit.results)) == notions


@pytest.mark.parametrize("kind", ["permutation", "mask", "slice", "indices", "resample"])
def test_forecasts_and_outcomes_index_alike(kind):
    """h[rows], y[rows] is the audit of those rows, whatever rows are."""
    rng = np.random.default_rng(1)
    rows = {
        "permutation": rng.permutation(80), "mask": rng.random(80) > 0.5, "slice": slice(30, 75),
        "indices": np.array([79, 3, 40, 41, 7, 0]), "resample": rng.integers(80, size=80),
    }[kind]  # fmt: skip
    part = quick(H[rows], Y[rows])
    fresh = quick(pc.PlackettLuce(SCORES[rows]), pc.Outcomes.from_orders(ORDERS[rows]))
    for notion in ("sub-2", "top-1:confidence"):
        assert part[notion].value == fresh[notion].value
        assert part[notion].metrics == fresh[notion].metrics
    assert (Y[rows][:3].dense() == pc.Outcomes.from_orders(ORDERS[rows]).dense()[:3]).all()


def pair_records(seed: int = 0):
    """Several comparisons of an instance, in mixed order: (instance, better, worse)."""
    rng = np.random.default_rng(seed)
    triples = [
        (i, *(ORDERS[i][sorted(rng.choice(4, 2, replace=False))].tolist()))
        for i in range(80)
        for _ in range(rng.integers(0, 5))
    ]
    return [triples[j] for j in rng.permutation(len(triples))]


@pytest.mark.parametrize("weights", [None, "instance"])
def test_records_of_single_comparisons(weights):
    """One record a comparison; those of an instance form one cluster, and one unit of weight if asked."""
    records = pair_records()
    result = quick(H, pc.Outcomes.from_pairs(records, n_items=4), notions=["sub-2"], weights=weights)["sub-2"]
    number = np.bincount([i for i, *_ in records], minlength=80)
    per = {i: [] for i in range(80)}
    for i, a, b in records:
        d = SCORES[i, a] - SCORES[i, b]
        per[i].append((float(d > 0), 1 / (1 + math.exp(-abs(d)))))
    w = {i: (1.0 if weights is None else 1 / max(number[i], 1)) for i in per}
    total = sum(w[i] * len(e) for i, e in per.items())
    accuracy = sum(w[i] * y for i, e in per.items() for y, _ in e) / total
    assert result.n_events == len(records)
    assert result.n_instances == (number > 0).sum()
    assert result.metrics["accuracy"].value == pytest.approx(accuracy)
    # The interval of a ratio, by instance: sum over instances of (sum of w (y - accuracy))^2.
    squares = sum(sum(w[i] * (y - accuracy) for y, _ in e) ** 2 for i, e in per.items())
    n = result.n_instances
    half = 1.959964 * math.sqrt(squares * n / (n - 1)) / total
    assert result.metrics["accuracy"].interval == pytest.approx((accuracy - half, accuracy + half), rel=1e-6)


def test_groups_weights_and_clusters_of_records_may_be_given_by_forecast_or_by_record():
    records = pair_records(1)
    y = pc.Outcomes.from_pairs(records, n_items=4)
    instance = np.array([i for i, *_ in records])
    weights, codes = np.random.default_rng(0).random(80), np.arange(80) // 4
    a = quick(H, y, notions=["sub-2"], groups={"g": GROUPS}, weights=weights, clusters=codes)
    b = quick(
        H, y, notions=["sub-2"], groups={"g": GROUPS[instance]}, weights=weights[instance], clusters=codes[instance]
    )
    assert a.to_json().split('"results"')[1] == b.to_json().split('"results"')[1]


def holm(p):
    order = np.argsort(p)
    adjusted, running = np.empty(len(p)), 0.0
    for place, i in enumerate(order):
        running = max(running, min(1.0, p[i] * (len(p) - place)))
        adjusted[i] = running
    return adjusted


def test_p_values_of_groups_are_adjusted_by_holm_field_by_field():
    scores, orders = simulated(300, seed=3, scale=1.4)
    rng = np.random.default_rng(0)
    groups = {"a": rng.integers(6, size=300), "b": rng.integers(3, size=300)}
    audit = quick(pc.PlackettLuce(scores), pc.Outcomes.from_orders(orders), groups=groups, draws=999)
    for notion in ("sub-2", "top-1:confidence"):
        whole = audit.select(notion=notion)
        assert whole.p_adjusted == whole.p_value
        for field in groups:
            part = [r for r in audit.results if r.notion == notion and r.group and field in r.group]
            assert len(part) == len(set(groups[field]))
            assert [r.p_adjusted for r in part] == pytest.approx(holm([r.p_value for r in part]))
            for r in part:
                assert r.verdict != "miscalibrated" or r.p_adjusted <= 0.05


@pytest.mark.parametrize("notion", ["sub-2", "top-1:confidence", "top-1", "full"])
@pytest.mark.parametrize("scale", [1.0, 1.3, 3.0])
@pytest.mark.parametrize("n", [40, 300, 2500])
def test_verdicts_follow_the_stated_rule(notion, scale, n):
    scores, orders = simulated(n, seed=n, scale=scale)
    r = quick(pc.PlackettLuce(scores), pc.Outcomes.from_orders(orders), notions=[notion], draws=199)[notion]
    assert 0 <= r.interval[0] <= r.interval[1] <= 1
    assert 0 < r.p_value <= 1
    if r.interval[1] < r.settings["tolerance"]:
        assert r.verdict == "calibrated"
    elif r.verdict == "miscalibrated":
        assert r.p_value <= 0.05
    else:
        assert r.verdict == "undetermined"
    if r.verdict == "miscalibrated":
        assert r.interval[0] > 0 or r.debiased > 0
    assert scale < 3 or n < 300 or r.verdict == "miscalibrated"
    assert scale > 1 or r.verdict != "miscalibrated"
    assert n > 40 or notion != "top-1:confidence" or scale > 1 or r.verdict == "undetermined"


def test_tolerance_of_rankwise_notions_is_a_total_variation():
    """A mean over W outcomes sharing one unit of probability: tolerance 2 / W of the stated one."""
    for notion, outcomes in (
        ("sub-2", 2),
        ("top-1", 4),
        ("sub-3", 6),
        ("full", 24),
        ("topset-2", 6),
        ("position", 4),
    ):
        r = quick(H, Y, notions=[notion], tolerance=0.06)[notion]
        assert r.settings["tolerance"] == pytest.approx(0.06 * 2 / outcomes)
    assert quick(H, Y, notions=["full:confidence"])["full:confidence"].settings["tolerance"] == 0.05


RECORD = {
    "model", "notion", "group", "estimator", "value", "null_mean", "debiased", "interval", "p_value", "p_adjusted",
    "n_events", "n_instances", "verdict", "settings", "curve",
}  # fmt: skip
POINT = {"low", "high", "n", "weight", "mean_forecast", "mean_outcome", "interval", "null_band"}


def hostile_audit() -> pc.Audit:
    """Infinite losses, infinite temperatures, NaN and None groups, names with markup."""
    rng = np.random.default_rng(0)
    h = pc.Categorical([[0, 1, 2], [2, 1, 0]], [[1.0, 0.0]] * 20 + [[0.5, 0.5]] * 20)
    y = pc.Outcomes.from_orders([[2, 1, 0], [0, 1, 2]] * 20)
    groups = {"<script>": [math.nan, None, "a\nb", 1] * 10}
    audit = quick(h, y, notions=["sub-2", "full", "full:canonical"], groups=groups, model='"<b>\u202e')
    flat = pc.PlackettLuce(rng.choice([-1e4, 0, 1e4], size=(40, 3)))
    return audit.merge(quick(flat, y, model="flat"))


def test_the_document_is_strict_json_of_the_agreed_schema(tmp_path):
    audit = hostile_audit()
    path = tmp_path / "a.json"
    text = audit.to_json(path)
    assert path.read_text(encoding="utf-8") == text
    document = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert set(document) == {"schema", "prefcal", "created", "inputs", "results", "warnings"}
    assert (document["schema"], document["prefcal"]) == (1, pc.__version__)
    main = [r for r in document["results"] if r["estimator"] in ("ece", "skce")]
    assert len(main) == len(audit.results)
    for record in document["results"]:
        assert set(record) == RECORD
        assert record["interval"] is None or len(record["interval"]) == 2
        assert record["group"] is None or len(record["group"]) == 1
        for point in record["curve"]:
            assert set(point) == POINT
    for record in main:
        assert record["verdict"] in ("calibrated", "miscalibrated", "undetermined")
        assert isinstance(record["value"], float)
        assert bool(record["curve"]) == (record["estimator"] == "ece")
    for record in document["results"]:
        if record not in main:
            assert (record["verdict"], record["curve"]) == (None, [])
            assert record["p_value"] is None or 0 < record["p_value"] <= 1
            if record["value"] is None or record["interval"] is None or None in record["interval"]:
                assert record["settings"]["note"]


def test_curve_points_are_the_bins():
    r = quick(H, Y, bins=8)["sub-2"]
    events = []
    for s, o in zip(SCORES, ORDERS, strict=True):
        place = {a: i for i, a in enumerate(o)}
        for a in range(4):
            for b in range(a + 1, 4):
                d = s[a] - s[b]
                events.append((1 / (1 + math.exp(-abs(d))), float((d > 0) == (place[a] < place[b]))))
    for point in r.curve:
        inside = [(p, y) for p, y in events if math.floor(p * 8) == round(point.low * 8)]
        assert (point.n, point.weight) == (len(inside), len(inside))
        assert point.high - point.low == pytest.approx(1 / 8)
        assert point.mean_forecast == pytest.approx(np.mean([p for p, _ in inside]))
        assert point.mean_outcome == pytest.approx(np.mean([y for _, y in inside]))
        assert point.interval[0] <= point.mean_outcome <= point.interval[1]
        assert point.null_band[0] <= point.mean_forecast <= point.null_band[1]
    assert sum(point.n for point in r.curve) == len(events)


@pytest.mark.parametrize("backend", ["pyarrow", "pandas", "polars"])
def test_frames(backend):
    audit = quick(H, Y, notions=["sub-2", "full:canonical"], groups={"g": GROUPS})
    frame = audit.frame(backend)
    columns = list(frame.column_names if backend == "pyarrow" else frame.columns)
    assert {"model", "notion", "group", "estimator", "value", "low", "high", "p_value", "verdict"} <= set(columns)
    assert len(frame) == len(audit.records())
    if backend == "pandas":
        row = frame[(frame.notion == "sub-2") & (frame.estimator == "ece") & frame.group.isna()].iloc[0]
        assert row.value == audit["sub-2"].value
        assert (row.low, row.high) == audit["sub-2"].interval


def test_merged_audits_keep_models_apart():
    a = quick(H, Y, model="a")
    b = quick(pc.PlackettLuce(2 * SCORES), Y, model="b")
    both = a.merge(b)
    assert both.models == ["a", "b"]
    assert both.select(notion="sub-2", model="b").value == b["sub-2"].value
    with pytest.raises(pc.UsageError, match="several models"):
        both["sub-2"]


@pytest.mark.parametrize("n", [1, 2])
def test_one_and_two_instances_are_undetermined(n):
    for items in ("labelled", "exchangeable"):
        audit = quick(H[:n], Y[:n], notions=["sub-2", "top-1:confidence", "full"], items=items)
        for r in audit.results:
            assert r.verdict == "undetermined"
            assert all(math.isfinite(x) for x in (r.value, r.null_mean, r.debiased, *r.interval, r.p_value))
        json.loads(audit.to_json(), parse_constant=pytest.fail)


def test_default_items():
    assert pc.audit(H, Y, draws=99).results[0].items == "labelled"
    ragged = pc.PlackettLuce([[1.0, 2.0], [1.0, 2.0, 3.0]] * 5)
    y = pc.Outcomes.from_ranks([[1, 2], [1, 2, 3]] * 5)
    assert pc.audit(ragged, y, draws=99).results[0].items == "exchangeable"


def test_created_follows_source_date_epoch(monkeypatch):
    audit = quick(H, Y, notions=["sub-2"])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert audit.document()["created"] == "1970-01-02T00:00:00+00:00"


def test_inputs_are_not_changed():
    scores, ranks, weights = SCORES.copy(), RANKS.astype(float), np.ones(80)
    groups = np.array([None, "a"] * 40, dtype=object)
    kept = groups.copy()
    quick(pc.PlackettLuce(scores), pc.Outcomes.from_ranks(ranks), weights=weights, groups={"g": groups})
    assert np.array_equal(scores, SCORES)
    assert np.array_equal(ranks, RANKS)
    assert (weights == 1).all()
    assert groups.tolist() == kept.tolist()
