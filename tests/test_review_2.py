"""Recalibration, conformal sets and their commands: what an adversarial reviewer found, kept from coming back."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc

import numpy as np
import pytest

import prefcal as pc
from prefcal.cli import main
from prefcal.cli.apply import columns
from prefcal.mending import RAW
from prefcal.recalibration import METHODS
from prefcal.recalibration.persistence import rebuild
from prefcal.report.mending import findings_of, render_mending

N = 60


def forecasts(kind: str, m: int = 3, seed: int = 0) -> pc.Distribution:
    """Random forecasts of a kind, far from Plackett-Luce where it is not that."""
    rng = np.random.default_rng(seed)
    scores = 2 * rng.normal(size=(N, m))
    odds = 3 * rng.normal(size=(N, m, m))
    probs = 1 / (1 + np.exp(odds.transpose(0, 2, 1) - odds))
    if kind == "Categorical":
        orders = np.array(list(itertools.permutations(range(m))))
        return pc.Categorical(orders, rng.dirichlet(np.full(len(orders), 0.5), size=N))
    if kind in ("Pairwise", "BabingtonSmith"):
        return getattr(pc, kind)(probs)
    if kind == "Mallows":
        return pc.Mallows(np.argsort(scores, axis=1).argsort(axis=1) + 1, rng.uniform(0.1, 0.9, N))
    if kind == "Samples":
        return pc.Samples(pc.PlackettLuce(scores).sample(12, rng))
    return pc.PlackettLuce(scores)


def noise(m: int = 3, seed: int = 1) -> pc.Outcomes:
    return pc.Outcomes.from_ratings(np.random.default_rng(seed).normal(size=(N, m)))


def inputs(method: str, m: int = 3) -> dict:
    rng = np.random.default_rng(5)
    return {
        "group-wise": {"groups": [f"g{i % 3}" for i in range(N)]},
        "context": {"features": {"length": rng.normal(size=N)}},
        "offset": {"item_features": {"length": rng.normal(size=(N, m))}},
    }.get(method, {})


CASES = [
    (method, kind)
    for method, cls in METHODS.items()
    for kind in cls.accepts
    if kind not in ("Mixture", "StagedPlackettLuce") and method != "ties"
]


@pytest.mark.parametrize(("method", "kind"), CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_map_that_keeps_the_order_keeps_the_first_choice_and_every_pair(method, kind, seed):
    h, more = forecasts(kind), inputs(method)
    fit = pc.recalibrate(h, noise(seed=seed), method, **more)
    if not fit.keeps_order:
        assert "order of the candidates is kept" not in fit.describe()
        return
    first, second = np.triu_indices(h.n_items, 1)
    after = fit(h, **more)
    turned = np.sign(h.pair_log_odds(first, second)) * np.sign(after.pair_log_odds(first, second)) < 0
    assert not turned.any()
    if h.has_rankings:
        logs = after.top_log_probs()
        chosen = h.top_log_probs().argmax(axis=1)
        assert (logs[np.arange(N), chosen] >= logs.max(axis=1) - 1e-12).all()


def test_a_temperature_of_listed_rankings_may_change_the_first_choice_and_says_so():
    h = forecasts("Categorical")
    fit = pc.recalibrate(h, noise(), "temperature")
    assert not fit.keeps_order
    assert (fit(h).top_log_probs().argmax(axis=1) != h.top_log_probs().argmax(axis=1)).any()
    assert (fit(h).probs.argmax(axis=1) == h.probs.argmax(axis=1)).all() or math.isinf(fit.temperature)


@pytest.mark.parametrize("kind", ["Categorical", "Pairwise", "BabingtonSmith"])
def test_a_temperature_is_for_the_kind_it_was_fitted_on(kind, tmp_path):
    fit = pc.recalibrate(forecasts(kind), noise(), "temperature")
    fit.save(tmp_path / "map.json")
    with pytest.raises(pc.UsageError, match=f"for {kind} forecasts, got PlackettLuce"):
        pc.load_recalibrator(tmp_path / "map.json")(forecasts("PlackettLuce"))
    moved = fit.document()
    moved["parameters"]["kind"] = "PlackettLuce"
    with pytest.raises(pc.DataError, match="accepts"):
        rebuild(moved)


@pytest.mark.parametrize(
    "method", ["temperature", "context", "group-wise", "stage-wise", "monotone", "uniform", "auto"]
)
def test_a_map_of_scores_that_rank_the_wrong_way_comes_back_the_same(method, tmp_path):
    h, more = forecasts("PlackettLuce", 4), inputs(method, 4)
    rng = np.random.default_rng(0)
    y = pc.Outcomes.from_orders(pc.PlackettLuce(-h.scores.dense()).sample(1, rng)[:, 0])
    fit = pc.recalibrate(h, y, method, **more)
    fit.save(tmp_path / "map.json")
    back = pc.load_recalibrator(tmp_path / "map.json")
    assert back == fit
    np.testing.assert_array_equal(back(h, **more).top_log_probs(), fit(h, **more).top_log_probs())


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_whatever_loads_can_be_saved_and_applied_in_words(method, kind):
    h, more = forecasts(kind), inputs(method)
    document = json.loads(json.dumps(pc.recalibrate(h, noise(), method, **more).document()))
    for name, value in document["parameters"].items():
        for bad in (None, [None, None], [0, None], 1e308, [1e308], 1e-320):
            changed = json.loads(json.dumps(document))
            changed["parameters"][name] = [bad] * len(value) if isinstance(value, list) and bad == 1e308 else bad
            try:
                fit = rebuild(changed)
                json.dumps(fit.document(), allow_nan=False)
                fit(h, **more)
            except pc.PrefcalError:
                continue


def test_cross_sets_need_no_kept_order_unless_they_are_about_pairs():
    h, y = forecasts("Categorical"), noise()
    sets = pc.conformal_sets(h, y, method="cross", folds=3, level=0.8)(h)
    assert np.isfinite(sets.contains(y)).all()
    with pytest.raises(pc.UsageError, match="keeps the order of candidates for partial-order"):
        pc.conformal_sets(h, y, event="partial-order", method="cross", folds=3)


@pytest.mark.parametrize("score", ["adaptive", "probability"])
def test_single_candidates_change_no_other_set(score):
    rng = np.random.default_rng(0)
    lists = [rng.normal(size=4).tolist() for _ in range(80)]
    ratings = [(np.array(s) + rng.gumbel(size=4)).tolist() for s in lists]
    new = pc.PlackettLuce([rng.normal(size=4).tolist() for _ in range(20)] + [[0.0]])
    found = []
    for more in (0, 40):
        h = pc.PlackettLuce(lists + [[1.0]] * more)
        y = pc.Outcomes.from_ratings(ratings + [[1.0]] * more)
        rule = pc.conformal_sets(h, y, level=0.7, score=score)
        assert (rule.n, rule.n_unusable) == ({None: 80}, more)
        found.append(rule(new).sizes)
    np.testing.assert_array_equal(*found)
    assert found[0][-1] == 1
    assert found[0][:-1].mean() < 4


@pytest.mark.parametrize("seed", [-1, 1.5, "x", None])
def test_a_seed_is_a_whole_number_everywhere(seed):
    h, y = forecasts("PlackettLuce"), noise()
    for ask in (
        lambda: pc.recalibrate(h, y, seed=seed), lambda: pc.mend(h, y, seed=seed),
        lambda: pc.conformal_sets(h, y, seed=seed), lambda: pc.compare({"a": h, "b": h}, y, seed=seed),
        lambda: pc.decisions.decisions(h, y, seed=seed),
    ):  # fmt: skip
        with pytest.raises(pc.UsageError, match="seed must be a whole number"):
            ask()


@pytest.fixture
def scores(tmp_path):
    """A score file with lists of 2 to 5 candidates."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(40):
        own = rng.normal(size=2 + i % 4)
        best = int(np.argmax(own / 3 + rng.gumbel(size=len(own))))
        rows.append(json.dumps({"scores": own.tolist(), "best": best, "subset": "ab"[i % 2]}))
    path = tmp_path / "scores.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "line",
    [
        "audit {s} --report {s}", "audit {s} --json {s}",
        "compare {s} {o} --report {o}", "compare {s} {o} --json {s}",
        "recalibrate {s} --save {s}", "recalibrate {s} --report {s}", "recalibrate {s} --save {n} --report {n}",
        "recalibrate {s} --save {n} --json {n}", "apply {m} {s} --out {s}", "apply {m} {s} --out {m}",
        "power --from {s} --json {s}",
    ],
)  # fmt: skip
def test_no_output_replaces_what_is_read_or_another_output(line, scores, tmp_path, capsys):
    other, saved = tmp_path / "other.jsonl", tmp_path / "map.json"
    other.write_bytes(scores.read_bytes())
    assert main(["recalibrate", str(scores), "--method", "temperature", "--save", str(saved), "--quiet"]) == 0
    before = {p: p.read_bytes() for p in (scores, other, saved)}
    words = line.format(s=scores, o=other, m=saved, n=tmp_path / "new.json").split()
    assert main(words) == 2
    assert "error: --" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in before} == before
    assert not (tmp_path / "new.json").exists()


def test_a_negative_seed_is_bad_usage_for_every_command(scores, capsys):
    for command in ("audit", "recalibrate"):
        assert main([command, str(scores), "--seed", "-1"]) == 2
    assert main(["compare", str(scores), f"b={scores}", "--seed", "-1"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_pair_probabilities_are_written_for_the_candidates_that_there_are(scores, tmp_path):
    saved, out = tmp_path / "map.json", tmp_path / "out.jsonl"
    assert main(["recalibrate", str(scores), "--method", "uniform", "--save", str(saved), "--quiet"]) == 0
    assert main(["apply", str(saved), str(scores), "--out", str(out)]) == 0
    read = [json.loads(line)["scores"] for line in scores.read_text(encoding="utf-8").splitlines()]
    fit = pc.load_recalibrator(saved)
    for own, row in zip(read, map(json.loads, out.read_text(encoding="utf-8").splitlines()), strict=True):
        alone = fit(pc.PlackettLuce([own]))
        assert np.shape(row["pair_probs"]) == (len(own), len(own))
        np.testing.assert_allclose(row["best_probs"], np.exp(alone.top_log_probs()[0]), rtol=1e-12)
        for a, b in itertools.combinations(range(len(own)), 2):
            p = 1 / (1 + math.exp(-alone.pair_log_odds(np.array([a]), np.array([b]))[0, 0]))
            assert row["pair_probs"][a][b] == pytest.approx(p, rel=1e-12)
            assert row["pair_probs"][b][a] == pytest.approx(1 - p, rel=1e-9)


def test_one_long_list_does_not_swell_the_others():
    sizes = [400] + [2] * 200
    h = pc.PlackettLuce([np.zeros(k).tolist() for k in sizes])
    fit = pc.recalibrate(forecasts("PlackettLuce"), noise(), "uniform")
    found = columns(fit(h))["pair_probs"]
    assert [p.shape for p in found] == [(k, k) for k in sizes]


def numbers_of(found: object, path: tuple = ()) -> dict:
    """Every number of a nested document by its path."""
    if isinstance(found, dict):
        return {k: v for name, part in found.items() for k, v in numbers_of(part, (*path, name)).items()}
    if isinstance(found, list):
        return {k: v for i, part in enumerate(found) for k, v in numbers_of(part, (*path, i)).items()}
    return {path: found} if isinstance(found, float) else {}


def test_decisions_do_not_depend_on_how_data_are_stored():
    """Many claims and spreads are equal; which row or candidate comes first must not matter."""
    rng = np.random.default_rng(0)
    shown = rng.permuted(np.tile([0.3, -0.4, 1.1, 0.6], (N, 1)), axis=1) * np.repeat([1.0, 2.0], N // 2)[:, None]
    ranks = rng.permuted(np.tile([1.0, 2.0, 3.0, 4.0], (N, 1)), axis=1)

    def found(rows: np.ndarray, columns: list[int], **more) -> dict:
        h, y = pc.PlackettLuce(shown[rows][:, columns]), pc.Outcomes.from_ranks(ranks[rows][:, columns])
        return numbers_of(pc.decisions.decisions(h, y, draws=40, **more).document())

    every, plain = np.arange(N), [0, 1, 2, 3]
    base = found(every, plain)
    assert len(base) > 100
    assert found(rng.permutation(N), plain) == pytest.approx(base, rel=1e-9, nan_ok=True)
    assert found(every, [2, 0, 3, 1]) == pytest.approx(base, rel=1e-9, nan_ok=True)
    twice = np.concatenate([every, every[::3]])
    weights = np.where(every % 3 == 0, 2.0, 1.0)
    parts = (found(every, plain, weights=weights), found(twice, plain, clusters=twice))
    slopes = [{k: v for k, v in part.items() if "by_spread" in k} for part in parts]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-6, nan_ok=True)


def test_lists_of_very_many_candidates_have_their_decisions():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 1100))
    scores[0, :2] = 9.0  # two share the first place
    best = [0, int(scores[1].argmax()), int(scores[2].argmin())]
    found = pc.decisions.best_of_n(pc.PlackettLuce(scores), pc.Outcomes.from_best(best, n_items=1100))
    (all_of,) = [s for s in found.sizes if s.n == 1100]
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    assert all_of.claimed.value == pytest.approx(float((p.max(axis=1) / p.sum(axis=1)).mean()), rel=1e-9)
    assert all_of.realised.value == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert {s.n for s in found.sizes} >= {2, 16}
    assert 32 in found.left_out


@pytest.mark.slow
def test_a_plan_for_long_lists_stays_in_memory():
    tracemalloc.start()
    found = pc.power(m=100, temperature=2.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5e9
    assert 2 < found.n.value < 20


def test_a_plan_has_a_largest_number_of_candidates():
    with pytest.raises(pc.UsageError, match="m must be at most 1000"):
        pc.power(m=4096, temperature=2.0)


def test_mending_names_the_method_of_each_fold_and_works_on_few_units():
    h, y = forecasts("PlackettLuce"), noise()
    found = pc.mend(h, y, items="exchangeable")
    assert len(found.chosen) == 5
    assert set(found.chosen) <= set(METHODS) - {"auto"}
    few = pc.mend(h[:6], y[:6], folds=3, items="exchangeable")
    assert len(few.chosen) == 3


def test_mending_weighs_as_an_audit_does():
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce([rng.normal(size=2 + i % 4).tolist() for i in range(N)])
    y = pc.Outcomes.from_ratings([rng.normal(size=2 + i % 4).tolist() for i in range(N)])
    found = pc.mend(h, y, "temperature", weights="instance", notions=["sub-2"]).before["sub-2"]
    alone = pc.audit(h, y, weights="instance", notions=["sub-2"])["sub-2"]
    assert (found.value, found.settings["weights"]) == (alone.value, "instance")
    assert alone.value != pc.audit(h, y, notions=["sub-2"])["sub-2"].value


def test_mending_pairwise_forecasts_is_valid_json():
    found = pc.mend(forecasts("Pairwise"), noise(), notions=["sub-2"], folds=3)
    assert json.loads(found.to_json())["same_top"] is None


def test_mending_what_had_probability_0_says_so():
    orders = np.array(list(itertools.permutations(range(3))))
    rng = np.random.default_rng(0)
    h = pc.Samples(orders[rng.integers(0, 6, size=(N, 2))])
    found = pc.mend(h, noise(), "uniform", notions=["sub-2"], folds=3)
    loss = found.log_loss
    assert loss["before"].value == math.inf
    assert math.isfinite(loss["after"].value)
    assert loss["difference"].value == -math.inf
    (said,) = [f for f in findings_of(found) if "log loss" in f.text.lower() and "infinity" in f.text]
    assert said.severity == "good"
    assert RAW in found.before.models[0]
    assert "does not change detectably" not in said.title
    json.loads(found.to_json())
    assert render_mending(found)
