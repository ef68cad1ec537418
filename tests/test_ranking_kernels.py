"""Kernels between rankings against scipy and enumeration; random features are unbiased."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

import prefcal as pc
from prefcal.estimators.ranking_kernels import MallowsFeatures, kendall_embedding, kendall_kernel, mallows_kernel

RANKS_4 = np.array(list(itertools.permutations(range(1, 5))))


def test_kendall_kernel_is_kendalls_tau():
    rng = np.random.default_rng(0)
    a, b = rng.permuted(np.tile(np.arange(1, 8), (6, 1)), axis=1), rng.permuted(np.tile(np.arange(7), (5, 1)), axis=1)
    expected = [[kendalltau(x, y).statistic for y in b] for x in a]
    np.testing.assert_allclose(kendall_kernel(a, b), expected, atol=1e-12)


def test_mallows_kernel_counts_discordant_pairs():
    for x, y in itertools.product(RANKS_4[:5], RANKS_4):
        pairs = itertools.combinations(range(4), 2)
        discordant = sum((x[a] - x[b]) * (y[a] - y[b]) < 0 for a, b in pairs)
        assert mallows_kernel([x], [y], decay=2.5)[0, 0] == pytest.approx(np.exp(-2.5 * discordant / 6))


def test_the_mallows_kernel_is_universal_and_the_kendall_kernel_sees_pairs_only():
    """All 24 rankings: the Mallows matrix has full rank; two laws with equal pairs are one for the Kendall kernel."""
    assert np.linalg.eigvalsh(mallows_kernel(RANKS_4, RANKS_4))[0] > 1e-3
    assert np.linalg.matrix_rank(kendall_kernel(RANKS_4, RANKS_4)) == 6
    gap = np.zeros(24)
    gap[0] = gap[-1] = 0.5  # half 1234 and half 4321: every pair is even, as under the uniform law
    gap -= 1 / 24
    assert gap @ kendall_kernel(RANKS_4, RANKS_4) @ gap == pytest.approx(0, abs=1e-12)
    assert gap @ mallows_kernel(RANKS_4, RANKS_4) @ gap > 0.05


@pytest.mark.parametrize("decay", [0.5, 4.0])
def test_random_features_are_unbiased(decay):
    features = MallowsFeatures.draw(4, 100_000, decay, np.random.default_rng(1))(RANKS_4).astype(float)
    found = features @ features.T / features.shape[1]
    np.testing.assert_allclose(found, mallows_kernel(RANKS_4, RANKS_4, decay), atol=5 * np.sqrt(1.5 / 100_000))


@settings(max_examples=30, deadline=None)
@given(m=st.integers(2, 9), seed=st.integers(0, 2**16))
def test_kernels_do_not_depend_on_the_names_of_items(m, seed):
    rng = np.random.default_rng(seed)
    ranks = rng.permuted(np.tile(np.arange(1, m + 1), (4, 1)), axis=1)
    names = rng.permutation(m)
    for kernel in (kendall_kernel, mallows_kernel):
        np.testing.assert_allclose(kernel(ranks, ranks), kernel(ranks[:, names], ranks[:, names]), atol=1e-12)
        np.testing.assert_allclose(np.diag(kernel(ranks, ranks)), 1.0)


def test_embedding_is_blind_to_scale_and_ties_are_zero():
    np.testing.assert_array_equal(kendall_embedding([[0.1, 5.0, 5.0]]), [[1, 1, 0]])


@pytest.mark.parametrize("decay", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_decay_is_refused(decay):
    with pytest.raises(pc.UsageError, match="decay"):
        mallows_kernel([[1, 2]], [[1, 2]], decay)


@pytest.mark.parametrize(("a", "b"), [([[1, 2]], [[1, 2, 3]]), ([1, 2], [[1, 2]]), ([[1]], [[1]])])
def test_rankings_of_different_sizes_are_refused(a, b):
    with pytest.raises(pc.UsageError, match="ranks"):
        kendall_kernel(a, b)
