"""Lists smoothed by the Mallows kernel: against the sum over the list and all m! rankings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefcal as pc
import strategies
from prefcal.distributions.smoothed import Smoothed, distances
from prefcal.errors import DataError
from recalibration_contract import check_marginals


def brute(h: pc.Categorical, phi: float) -> np.ndarray:
    """(n, m!) probabilities in lexicographic order, from the definition."""
    every = list(itertools.permutations(range(h.n_items)))
    kernel = np.empty((len(h.orders), len(every)))
    for r, listed in enumerate(h.orders):
        place = np.argsort(listed)
        for k, order in enumerate(every):
            kernel[r, k] = phi ** sum(place[a] > place[b] for a, b in itertools.combinations(order, 2))
    return h.probs @ (kernel / kernel.sum(axis=1, keepdims=True))


@settings(max_examples=30, deadline=None)
@given(st.data(), st.sampled_from([0.0, 0.01, 0.4, 1.0]) | st.floats(0.0, 1.0))
def test_every_number_is_the_sum_over_the_list(draw, phi):
    m = draw.draw(st.integers(2, 4))
    every = np.array(list(itertools.permutations(range(m))))
    r = draw.draw(st.integers(1, min(len(every), 8)))
    listed = every[draw.draw(st.permutations(range(len(every))))[:r]]
    base = pc.Categorical(listed, draw.draw(strategies.distribution_rows(3, r)))
    h = Smoothed(base, phi)
    np.testing.assert_allclose(np.exp([h.log_prob(o) for o in every]).T, brute(base, phi), atol=1e-12)
    check_marginals(h)
    np.testing.assert_array_equal(np.exp(h.log_prob(h.mode())).round(9), brute(base, phi).max(axis=1).round(9))
    for part in (h[1], h[[1, 2]], h[1:]):
        np.testing.assert_allclose(part.log_prob(every[0]), h.log_prob(every[0])[1 : 1 + len(part)])


@pytest.mark.parametrize("phi", [0.0, 0.3, 1.0])
def test_draws_follow_the_probabilities(phi):
    base = pc.Categorical([[0, 1, 2], [2, 1, 0]], [[0.8, 0.2], [0.1, 0.9]])
    drawn = Smoothed(base, phi).sample(20_000, 0)
    for k, order in enumerate(itertools.permutations(range(3))):
        share = (drawn == order).all(axis=2).mean(axis=1)
        p = brute(base, phi)[:, k]
        assert (np.abs(share - p) <= 4.5 * np.sqrt(p * (1 - p) / 20_000) + 1e-12).all()


def test_the_ends_are_the_list_and_the_uniform_distribution():
    base = pc.Categorical([[0, 1, 2], [2, 1, 0]], [[0.8, 0.2]])
    for order in itertools.permutations(range(3)):
        assert np.exp(Smoothed(base, 0.0).log_prob(order)[0]) == pytest.approx(np.exp(base.log_prob(order)[0]))
        assert np.exp(Smoothed(base, 1.0).log_prob(order)[0]) == pytest.approx(1 / 6)


def test_many_items_and_long_lists():
    """Fifteen items: pairs agree with draws, and an audit takes the model."""
    rng = np.random.default_rng(1)
    listed = np.argsort(rng.random((40, 15)), axis=1)
    h = Smoothed(pc.Categorical(listed, rng.dirichlet(np.ones(40), size=6)), 0.6)
    drawn = np.argsort(h.sample(4000, 2), axis=2)
    a, b = np.triu_indices(15, 1)
    share = (drawn[:, :, a] < drawn[:, :, b]).mean(axis=1)
    p = 1 / (1 + np.exp(-h.pair_log_odds(a, b)))
    np.testing.assert_allclose(p, h.marginal("sub-2").probs[..., 0], atol=1e-12)
    assert np.abs((share - p) / np.sqrt(p * (1 - p) / 4000)).max() < 5.0
    y = pc.Outcomes.from_orders(h.sample(1, 3)[:, 0])
    assert pc.audit(h, y, notions=["sub-2"], items="labelled", draws=99)["sub-2"].n_instances == 6


def test_distances():
    rng = np.random.default_rng(4)
    one, two = np.argsort(rng.random((5, 6)), axis=1), np.argsort(rng.random((7, 6)), axis=1)
    place = np.argsort(two, axis=1)
    expected = [[sum(p[a] > p[b] for a, b in itertools.combinations(o, 2)) for p in place] for o in one]
    np.testing.assert_array_equal(distances(one, two), expected)


@pytest.mark.parametrize("phi", [-0.1, 1.1, float("nan")])
def test_a_dispersion_outside_its_range_is_refused(phi):
    with pytest.raises(DataError, match="dispersion"):
        Smoothed(pc.Categorical([[0, 1]], [[1.0]]), phi)
