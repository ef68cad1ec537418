"""Neural Plackett-Luce; needs torch (the torch extra)."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import prefcal as pc
from prefcal.rankers import LinearPlackettLuce, NeuralPlackettLuce


def world(n: int, seed: int = 0, *, bent: bool = True):
    """Rankings of 4 items whose utilities bend with the features."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    scores = (
        3 * np.stack([np.abs(x[:, 0]), x[:, 1], x[:, 2] ** 2, np.zeros(n)], axis=1) if bent else x @ np.ones((3, 4))
    )
    orders = pc.PlackettLuce(scores).sample(1, rng)[:, 0]
    return x, np.argsort(orders, axis=1) + 1.0, scores


def test_without_torch_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    x, ranks, _ = world(20)
    with pytest.raises(ImportError, match=r"prefcal\[torch\]"):
        NeuralPlackettLuce().fit(x, ranks)


class TestWithTorch:
    @pytest.fixture(autouse=True)
    def _torch(self):
        pytest.importorskip("torch", reason="torch is not installed (the torch extra)")

    def test_it_learns_what_a_linear_model_cannot(self):
        x, ranks, _ = world(3000)
        x_test, ranks_test, scores = world(2000, 1)
        neural = NeuralPlackettLuce(epochs=60, random_state=1).fit(x, ranks)
        linear = LinearPlackettLuce().fit(x, ranks)
        assert neural.score(x_test, ranks_test) > linear.score(x_test, ranks_test) + 0.1
        orders = np.argsort(ranks_test, axis=1)
        lost = pc.PlackettLuce(scores).log_prob(orders) - neural.predict_distribution(x_test).log_prob(orders)
        assert lost.mean() < 0.1  # nats a ranking from the truth

    def test_same_seed_same_model_and_another_seed_another(self):
        x, ranks, _ = world(200)
        a, b, c = (NeuralPlackettLuce(epochs=5, random_state=s).fit(x, ranks).decision_function(x) for s in (0, 0, 1))
        assert np.array_equal(a, b)
        assert not np.allclose(a, c)

    def test_no_hidden_layer_is_the_linear_model(self):
        """Without hidden layers the minimum is that of the convex linear model (no ridge)."""
        x, ranks, _ = world(400, bent=False)
        flat = NeuralPlackettLuce(hidden=(), epochs=400, learning_rate=0.02, batch_size=400, validation=0.0).fit(
            x, ranks
        )
        linear = LinearPlackettLuce(alpha=0.0).fit(x, ranks)
        a, b = (r.decision_function(x) for r in (flat, linear))
        a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
        assert np.abs(a - b).max() < 0.02

    def test_partial_rankings_ties_and_weights(self):
        x, ranks, _ = world(300)
        holes = ranks.copy()
        holes[::3, 1] = np.nan
        holes[::3] = np.where(np.isnan(holes[::3]), np.nan, np.argsort(np.argsort(holes[::3], axis=1), axis=1) + 1.0)
        holes[1::3] = np.where(ranks[1::3] == 1, 1.0, 2.0)
        weight = np.ones(300)
        weight[:50] = 0.0
        model = NeuralPlackettLuce(epochs=5, validation=0.0).fit(x, holes, sample_weight=weight)
        other = NeuralPlackettLuce(epochs=5, validation=0.0).fit(x[50:], holes[50:])
        assert np.allclose(model.decision_function(x), other.decision_function(x))

    def test_stops_early_and_keeps_the_best(self):
        x, ranks, _ = world(150)
        model = NeuralPlackettLuce(epochs=500, patience=5, validation=0.3, learning_rate=0.01).fit(x, ranks)
        assert model.n_epochs_ < 500

    def test_scikit_learn_tools(self):
        x, ranks, _ = world(120)
        model = NeuralPlackettLuce(epochs=3)
        assert clone(model).get_params() == model.get_params()
        search = GridSearchCV(make_pipeline(StandardScaler(), model), {"neuralplackettluce__epochs": [1, 3]}, cv=2)
        assert search.fit(x, ranks).predict(x).shape == ranks.shape

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"validation": 0.9}, "validation"),
            ({"epochs": 0}, "epochs"),
            ({"hidden": (0,)}, "hidden"),
            ({"learning_rate": 0.0}, "learning_rate"),
        ],
    )
    def test_bad_options(self, options, words):
        x, ranks, _ = world(20)
        with pytest.raises(pc.PrefcalError, match=words):
            NeuralPlackettLuce(**options).fit(x, ranks)
