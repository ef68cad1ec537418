"""The cell table: exact bins, merging, clusters, weights, groups, and forecasts at 0 and 1."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefcal as pc
from prefcal.estimators.cells import (
    COVARIANCE_LIMIT,
    FINE,
    LOG_CELLS,
    N_CELLS,
    CellTable,
    cell_index,
    contrasts,
    merge_all,
)
from prefcal.estimators.events import Forecast
from prefcal.estimators.noise import event_variance, steady_scale
from strategies import seeds

USUAL_BINS = (10, 12, 14, 15, 16, 20, 30)


def cells_of(p: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return cell_index(p, np.log(p), np.log1p(-p))


def bin_of_cell(bins: int) -> np.ndarray:
    """(N_CELLS,) the bin that each fine cell lies in."""
    fine = np.concatenate([np.zeros(LOG_CELLS, int), np.arange(1, FINE - 1), np.full(LOG_CELLS, FINE - 1)])
    assert len(fine) == N_CELLS
    return fine // (FINE // bins)


def forecast_of(p: np.ndarray, member: np.ndarray | None = None) -> Forecast:
    with np.errstate(divide="ignore"):
        return Forecast(p, np.log(p), np.log1p(-p), member, np.empty(0))


def bins_of(p: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum(np.floor(p * bins), bins - 1).astype(int)


def edge_forecasts(bins: int) -> np.ndarray:
    """Every k/B, computed in the ways a program may compute it, and the neighbouring floats."""
    k = np.arange(bins + 1)
    edges = np.concatenate(
        [k / bins, k * (1.0 / bins), np.linspace(0, 1, bins + 1), np.cumsum(np.full(bins, 1 / bins))]
    )
    near = [edges, np.nextafter(edges, 0), np.nextafter(edges, 1), np.nextafter(np.nextafter(edges, 1), 1)]
    p = np.concatenate(near)
    return p[(p >= 0) & (p <= 1)]


@pytest.mark.parametrize("bins", USUAL_BINS)
def test_bins_of_an_audit_hold_floor_p_times_bins_at_every_edge(bins):
    """A forecast falls in bin floor(p B), p = 1 in the last, for p at and next to every edge (float arithmetic)."""
    p = edge_forecasts(bins)
    p = p[(p > 0) & (p < 1)]
    probs = np.full((len(p), 2, 2), np.nan)
    probs[:, 0, 1] = p
    result = pc.audit(
        pc.Pairwise(probs), pc.Outcomes.from_ranks([[1, 2]] * len(p)), notions=["sub-2:rankwise"], items="labelled",
        bins=bins, draws=99,
    )["sub-2:rankwise"]  # fmt: skip
    # Forecasts reach the bins through log odds, so the last bits may differ: only clear ones must keep their bin.
    clear = np.abs(p * bins - np.round(p * bins)) > 1e-9
    got = {round(point.low * bins): point.n for point in result.curve}
    both = np.concatenate([p, 1 - p])
    surely = np.bincount(bins_of(both[np.tile(clear, 2)], bins), minlength=bins)
    assert sum(got.values()) == 2 * len(p)
    assert all(got.get(b, 0) >= surely[b] for b in range(bins))


@pytest.mark.parametrize("bins", USUAL_BINS)
def test_usual_bins_are_unions_of_cells(bins):
    """At every edge k/B, and near it where floor(p B) is sure, the cell of p lies in the bin floor(p B)."""
    assert FINE % bins == 0
    edges = np.arange(bins + 1) / bins
    p = np.concatenate([edges, np.maximum(edges - 1e-13, 0), np.minimum(edges + 1e-13, 1)])
    assert np.array_equal(bin_of_cell(bins)[cells_of(p)], bins_of(p, bins))


@pytest.mark.parametrize("bins", USUAL_BINS)
def test_neighbours_of_an_edge_fall_on_one_of_its_sides(bins):
    p = edge_forecasts(bins)
    apart = np.abs(bin_of_cell(bins)[cells_of(p)] - bins_of(p, bins))
    assert apart.max() <= 1
    assert (apart[np.abs(p * bins - np.round(p * bins)) > 1e-12] == 0).all()


@pytest.mark.parametrize("bins", USUAL_BINS)
def test_usual_bins_are_unions_of_cells_at_random_forecasts(bins):
    rng = np.random.default_rng(bins)
    p = np.concatenate([rng.random(20_000), rng.beta(0.05, 0.05, 20_000)])
    assert np.array_equal(bin_of_cell(bins)[cells_of(p)], bins_of(p, bins))


def test_cells_increase_with_p_and_split_the_ends_on_a_log_scale():
    p = np.sort(np.concatenate([np.logspace(-320, -1e-9, 5000), 1 - np.logspace(-16, -3, 2000), [0.0, 1.0]]))
    cell = cells_of(p)
    assert (np.diff(cell) >= 0).all()
    assert (cell.min(), cell.max()) == (0, N_CELLS - 1)
    ends = np.array([1e-12, 1e-9, 1e-6, 1e-4])
    assert len(set(cells_of(ends).tolist())) == 4
    assert len(set(cells_of(1 - ends).tolist())) == 4
    assert cells_of(np.array([1e-300]))[0] == cells_of(np.array([0.0]))[0] == 0


def random_blocks(rng, *, instances: int, events: int, members: int, bins: int, ties: bool = True):
    """(forecast, y, weight, cell) of instances with some events unknown."""
    p = rng.random((instances, events))
    choices = [0.0, 1.0, 0.5] if ties else [0.0, 1.0]
    y = rng.choice(choices, size=p.shape)
    y[rng.random(p.shape) < 0.2] = np.nan
    weight = rng.integers(1, 4, size=(instances, 1)).astype(float) * np.ones_like(p)
    member = rng.integers(members, size=events)
    return forecast_of(p, member), y, weight, member * bins + bins_of(p, bins)


def take(block, rows):
    forecast, y, weight, cell = block
    part = forecast_of(forecast.p[rows], forecast.member)
    return part, y[rows], weight[rows], cell[rows]


def table_of(blocks, *, bins: int, members: int = 1, seed: int = 0) -> CellTable:
    table = CellTable(bins, members, seed)
    for block in blocks:
        table.add(*block)
    return table


SUMS = ("cells", "moments", "sums", "squares")


def assert_equal_tables(a: CellTable, b: CellTable, *, covariance: bool = True) -> None:
    assert a.config == b.config
    assert (a.n_instances, a.impossible, a.n_events) == (b.n_instances, b.impossible, b.n_events)
    for name in SUMS + (("covariance",) if covariance else ()):
        assert np.allclose(getattr(a, name), getattr(b, name), rtol=1e-12, atol=1e-12), name


@settings(max_examples=40, deadline=None)
@given(seed=seeds, members=st.sampled_from([1, 3]), cuts=st.lists(st.integers(0, 30), max_size=3))
def test_merging_is_associative_commutative_and_the_same_as_all_at_once(seed, members, cuts):
    rng = np.random.default_rng(seed)
    block = random_blocks(rng, instances=30, events=4, members=members, bins=10)
    edges = sorted({0, 30, *cuts})
    parts = [table_of([take(block, slice(a, b))], bins=10, members=members) for a, b in itertools.pairwise(edges)]
    whole = table_of([block], bins=10, members=members)
    empty = CellTable(10, members)
    assert_equal_tables(merge_all([*parts, empty]), whole)
    assert_equal_tables(empty + whole, whole)
    assert_equal_tables(merge_all(parts[::-1]), whole)
    if len(parts) > 2:
        assert_equal_tables(parts[0] + (parts[1] + parts[2]), (parts[0] + parts[1]) + parts[2])


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_the_order_of_rows_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    block = random_blocks(rng, instances=25, events=5, members=2, bins=15)
    order = rng.permutation(25)
    assert_equal_tables(table_of([block], bins=15, members=2), table_of([take(block, order)], bins=15, members=2))


def test_scales_keep_the_total_variance_and_do_not_depend_on_how_weights_are_stated():
    rng = np.random.default_rng(3)
    own, single = rng.random(12), rng.random(12)
    member = np.repeat(8 * single.reshape(3, 4).sum(axis=1), 4)
    scale = steady_scale(own, single, member, 50)
    prior = single * own.sum() / single.sum()
    low, high = np.minimum(own, prior), np.maximum(own, prior)
    assert ((low - 1e-12 <= scale**2) & (scale**2 <= high + 1e-12)).all()
    assert steady_scale(own, 7 * single, 7 * member, 50) == pytest.approx(scale)
    # Many instances: each cell's own variance; outcomes that cannot vary tell nothing of it.
    assert steady_scale(own, single, member, 10**12) ** 2 == pytest.approx(own, rel=1e-6)
    assert steady_scale(own, single, 1e12 * member, 50) ** 2 == pytest.approx(prior)
    assert steady_scale(own, 0 * single, member, 50) ** 2 == pytest.approx(own)


def test_variances_of_events_are_as_stated_or_as_seen():
    """Ten sure forecasts, three of them wrong, vary by 0.21 each, whatever they state; coins by what they state."""
    stated, weight = np.array([10 * 1e-6, 2.5, 0.0]), np.array([10.0, 10.0, 0.0])
    happened = np.array([7.0, 10.0, 0.0])
    assert event_variance(stated, weight, happened, happened) == pytest.approx([2.1, 2.5, 0.0])


def test_the_null_scale_is_what_forecasts_state_times_what_dependence_adds():
    """One event a cell and instance: sqrt(sum p (1 - p)), whatever happened; its copies: as many times."""
    rng = np.random.default_rng(1)
    p, cell = rng.uniform(0.1, 0.9, (400, 1)), np.zeros((400, 1), dtype=int)
    stated = math.sqrt((p * (1 - p)).sum())
    for rate in (0.2, 0.5, 1.0):
        y = (rng.random((400, 1)) < rate).astype(float)
        alone = table_of([(forecast_of(p), y, np.ones((400, 1)), cell)], bins=1)
        assert alone.scale(centred=False) == pytest.approx([stated])
        tripled = (forecast_of(np.repeat(p, 3, axis=1)), np.repeat(y, 3, axis=1), np.ones((400, 3)))
        assert table_of([(*tripled, np.zeros((400, 3), dtype=int))], bins=1).scale(centred=False) == pytest.approx(
            [3 * stated]
        )
        weighted = table_of([(forecast_of(p), y, np.full((400, 1), 5.0), cell)], bins=1)
        assert weighted.scale(centred=False) == pytest.approx([5 * stated])
        assert alone.normal_draws(4000, rng, centred=False).std() == pytest.approx(stated, rel=0.05)


def test_contrasts_are_the_total_and_the_tilt():
    rng = np.random.default_rng(2)
    sums = rng.normal(size=(7, 2 * 5))
    place = np.tile([-0.8, -0.4, 0.0, 0.4, 0.8], 2)
    assert contrasts(sums, 2) == pytest.approx(np.column_stack([sums.sum(axis=1), sums @ place]))
    for members in (2, 90):  # the matrix, and the multiplier sums
        forecast, y, weight, cell = random_blocks(rng, instances=300, events=4, members=members, bins=5)
        table = table_of([(forecast, y, weight, cell)], bins=5, members=members)
        assert table.exact_covariance == (members == 2)
        residual = np.nan_to_num(weight * (y - forecast.p))
        rows = np.zeros((300, 5 * members))
        np.add.at(rows, (np.arange(300)[:, None], cell), residual)
        want = contrasts(rows, members).T @ contrasts(rows, members)
        close = 1e-9 if members == 2 else 0.25  # 400 multiplier draws
        assert table.contrast_squares() == pytest.approx(want, rel=close, abs=close * np.trace(want))


def test_a_lone_event_has_more_than_its_own_luck_for_a_variance():
    """Forty coins in one bin, one event of probability 0.95 that happened in another: its own spread is that luck."""
    p = np.append(np.full(40, 0.5), 0.95)
    table = CellTable(10)
    y = np.append(np.tile([0.0, 1.0], 20), 1.0)
    cell = np.minimum((p * 10).astype(int), 9)
    table.add(forecast_of(p[:, None]), y[:, None], np.ones((41, 1)), cell[:, None])
    own, steady = np.sqrt(table.variances(centred=False))[9], table.scale(centred=False)[9]
    assert own == pytest.approx(0.05, rel=0.02)
    assert 0.17 < steady < 0.22  # the coin's own: sqrt(0.95 * 0.05) = 0.218
    assert table.normal_draws(4000, np.random.default_rng(0), centred=False)[:, 9].std() == pytest.approx(
        steady, rel=0.05
    )


@pytest.mark.parametrize("other", [CellTable(12), CellTable(10, 2), CellTable(10, 1, 7)])
def test_tables_of_different_configurations_do_not_merge(other):
    with pytest.raises(pc.UsageError, match="configuration"):
        CellTable(10) + other


@pytest.mark.parametrize("bins", [0, -1, FINE + 1])
def test_impossible_numbers_of_bins(bins):
    with pytest.raises(pc.UsageError, match="bins"):
        CellTable(bins)


def test_covariance_is_the_sum_of_outer_products_of_the_residual_sums():
    rng = np.random.default_rng(1)
    forecast, y, weight, cell = random_blocks(rng, instances=20, events=6, members=2, bins=5)
    table = table_of([(forecast, y, weight, cell)], bins=5, members=2)
    want = np.zeros((10, 10))
    for i in range(20):
        r = np.zeros(10)
        for e in range(6):
            if not math.isnan(y[i, e]):
                r[cell[i, e]] += weight[i, e] * (y[i, e] - forecast.p[i, e])
        want += np.outer(r, r)
    assert np.allclose(table.covariance, want, atol=1e-12)
    mean = table.residuals / table.n_instances
    n = table.n_instances
    used = want - n * np.outer(mean, mean)
    assert np.allclose(table.variances(centred=True), np.diag(used) * n / (n - 1))
    assert np.allclose(table.variances(centred=False), np.diag(want) * n / (n - 1))


@pytest.mark.parametrize("members", [3, 60])
def test_normal_draws_have_the_covariance_of_the_residual_sums(members):
    """Above the limit too, where the covariance is known through multiplier sums only."""
    rng = np.random.default_rng(2)
    bins = 10
    assert (members * bins > COVARIANCE_LIMIT) == (members == 60)
    block = random_blocks(rng, instances=400, events=4, members=members, bins=bins)
    parts = [table_of([take(block, slice(a, a + 100))], bins=bins, members=members) for a in range(0, 400, 100)]
    forecast, y, weight, cell = block
    sums = np.zeros((400, members * bins))
    residual = np.nan_to_num(weight * (y - forecast.p))
    for i in range(400):
        np.add.at(sums[i], cell[i], residual[i])
    want = (sums - sums.mean(axis=0)).var(axis=0, ddof=0)
    for table in (table_of([block], bins=bins, members=members), merge_all(parts)):
        draws = table.normal_draws(400, np.random.default_rng(0), centred=True)
        assert draws.shape == (400, members * bins)
        ratio = (draws**2).mean(axis=0).sum() / (400 * want.sum())
        assert ratio == pytest.approx(1, abs=0.12)
        spread = np.sqrt(400 * want.max() / len(draws))
        assert np.abs(draws.mean(axis=0)).max() < 5 * spread


def simulated(seed: int = 0, n: int = 120, m: int = 4):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, m))
    return rng, scores, pc.PlackettLuce(scores).sample(1, rng)[:, 0]


def same_numbers(a, b, *, rel: float = 1e-12) -> None:
    """Equal up to rounding; the interval of the error comes from normal draws, which row order may change."""
    assert a.value == pytest.approx(b.value, rel=rel, abs=1e-14)
    assert a.debiased == pytest.approx(b.debiased, rel=1e-9, abs=1e-12)
    assert a.interval == pytest.approx(b.interval, rel=0.05, abs=0.005)
    for name in ("accuracy", "mean_forecast", "brier", "log_loss"):
        assert a.metrics[name].value == pytest.approx(b.metrics[name].value, rel=rel), name
        assert a.metrics[name].interval == pytest.approx(b.metrics[name].interval, rel=1e-6), name


@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
def test_a_row_twice_in_one_cluster_is_a_row_of_weight_two(items):
    _, scores, orders = simulated()
    weights = np.where(np.arange(len(scores)) % 3 == 0, 2.0, 1.0)
    twice = np.repeat(np.arange(len(scores)), weights.astype(int))
    options = {"items": items, "draws": 99, "notions": ("sub-2", "top-1:confidence", "full")}
    weighted = pc.audit(pc.PlackettLuce(scores), pc.Outcomes.from_orders(orders), weights=weights, **options)
    doubled = pc.audit(
        pc.PlackettLuce(scores[twice]), pc.Outcomes.from_orders(orders[twice]), clusters=twice, **options
    )
    for notion in options["notions"]:
        same_numbers(weighted[notion], doubled[notion])
        assert weighted[notion].n_events < doubled[notion].n_events


def test_clusters_widen_intervals_as_dependent_rows_do():
    """Each row five times: with clusters the interval of one copy, without it a much narrower one."""
    _, scores, orders = simulated(1, n=200)
    five = np.repeat(np.arange(200), 5)
    options = {"items": "exchangeable", "draws": 99, "notions": ("sub-2",)}
    once = pc.audit(pc.PlackettLuce(scores), pc.Outcomes.from_orders(orders), **options)["sub-2"]
    y = pc.Outcomes.from_orders(orders[five])
    honest = pc.audit(pc.PlackettLuce(scores[five]), y, clusters=five, **options)["sub-2"]
    naive = pc.audit(pc.PlackettLuce(scores[five]), y, **options)["sub-2"]

    def width(interval):
        return interval[1] - interval[0]

    for name in ("accuracy", "mean_forecast", "brier", "log_loss", "temperature"):
        a, b, c = (width(r.metrics[name].interval) for r in (once, honest, naive))
        assert b == pytest.approx(a, rel=1e-6), name
        assert c == pytest.approx(a / math.sqrt(5), rel=0.02), name


@pytest.mark.parametrize("names", [[0, 1, 2], ["a", "b", "c"], [7.5, -1.0, 3.0]])
def test_names_of_clusters_do_not_matter(names):
    _, scores, orders = simulated(2, n=60)
    codes = np.arange(60) % 3
    shuffled = np.random.default_rng(0).permutation(60)
    h, y = pc.PlackettLuce(scores), pc.Outcomes.from_orders(orders)
    a = pc.audit(h, y, clusters=codes, draws=99)
    b = pc.audit(h, y, clusters=np.array(names)[codes], draws=99)
    c = pc.audit(h[shuffled], y[shuffled], clusters=codes[shuffled], draws=99)
    for other in (b, c):
        for notion in ("sub-2", "top-1:confidence"):
            same_numbers(a[notion], other[notion])


@pytest.mark.parametrize("weights", [None, "instance", "numbers"])
@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
def test_groups_sum_to_the_whole(items, weights):
    rng, scores, orders = simulated(3)
    group = rng.choice(["a", "b", "c"], size=len(scores))
    given_weights = rng.random(len(scores)) if weights == "numbers" else weights
    notions = ("sub-2", "top-1:confidence", "sub-3")
    h, y = pc.PlackettLuce(scores), pc.Outcomes.from_orders(orders)
    options = {"items": items, "weights": given_weights, "notions": notions, "draws": 99}
    whole = pc.audit(h, y, groups={"g": group}, **options)
    for notion in notions:
        total = whole.select(notion=notion)
        parts = [whole.select(notion=notion, group={"g": level}) for level in "abc"]
        assert sum(p.n_events for p in parts) == total.n_events
        assert sum(p.n_instances for p in parts) == total.n_instances
        mass = [sum(point.weight for point in p.curve) for p in parts]
        assert sum(mass) == pytest.approx(sum(point.weight for point in total.curve))
        for name in ("accuracy", "mean_forecast", "brier", "log_loss"):
            mean = sum(w * p.metrics[name].value for w, p in zip(mass, parts, strict=True)) / sum(mass)
            assert mean == pytest.approx(total.metrics[name].value)
        for level, part in zip("abc", parts, strict=True):
            rows = group == level
            own = None if weights is None else given_weights[rows] if weights == "numbers" else weights
            alone = pc.audit(h[rows], y[rows], **(options | {"weights": own})).select(notion=notion)
            same_numbers(part, alone)


def test_saturated_scores_keep_their_log_loss():
    """Scores up to 1e4: p is 1 to the last bit, the loss of a wrong call is still the score difference."""
    scores = np.array([[1e4, -1e4], [0.0, 1e4], [1e4, 0.0], [2.0, 2.0]])
    y = pc.Outcomes.from_ranks([[2, 1], [2, 1], [1, 2], [1, 2]])
    for notion in ("sub-2", "top-1:confidence"):
        result = pc.audit(pc.PlackettLuce(scores), y, notions=[notion], items="exchangeable", draws=99)[notion]
        assert result.metrics["log_loss"].value == pytest.approx((2e4 + math.log(2)) / 4, rel=1e-12)
        assert result.metrics["accuracy"].value == pytest.approx((0 + 1 + 1 + 0.5) / 4)
        assert result.value == pytest.approx((0.5 * 0 + abs(2 - 3)) / 4)
    labelled = pc.audit(pc.PlackettLuce(scores), y, notions=["sub-2"], items="labelled", draws=99)["sub-2"]
    assert labelled.metrics["log_loss"].value == pytest.approx((2e4 + math.log(2)) / 4, rel=1e-12)


@pytest.mark.parametrize("notion", ["sub-2", "top-1", "full", "top-1:confidence", "full:confidence"])
@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
def test_impossible_events_that_happen_are_an_honest_infinity(notion, items):
    """Probability exactly 0 and the event happens: log loss is infinite, null in JSON, and the note says so."""
    h = pc.Categorical([[0, 1, 2], [2, 1, 0]], [[1.0, 0.0]] * 3 + [[0.25, 0.75]] * 3)
    y = pc.Outcomes.from_orders([[2, 1, 0]] + [[0, 1, 2]] * 5)
    result = pc.audit(h, y, notions=[notion], items=items, draws=99)
    loss = result[notion].metrics["log_loss"]
    assert (loss.value, loss.interval) == (math.inf, None)
    assert "infinite" in loss.note
    record = next(r for r in json.loads(result.to_json())["results"] if r["estimator"] == "log_loss")
    assert (record["value"], record["interval"]) == (None, None)
    assert "infinite" in record["settings"]["note"]
    assert all(math.isfinite(result[notion].metrics[n].value) for n in ("accuracy", "mean_forecast", "brier"))


def test_certain_forecasts_that_are_right_have_no_loss():
    h = pc.Categorical([[0, 1, 2], [2, 1, 0]], [[1.0, 0.0]] * 4)
    y = pc.Outcomes.from_orders([[0, 1, 2]] * 4)
    for notion in ("sub-2", "top-1", "full", "top-1:confidence"):
        result = pc.audit(h, y, notions=[notion], draws=99)[notion]
        assert result.metrics["log_loss"].value == result.value == result.metrics["brier"].value == 0.0
