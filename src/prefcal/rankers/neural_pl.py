"""Neural Plackett-Luce: log-utilities by a multilayer perceptron (optional dependency: torch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prefcal.data.ragged import FloatArray
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, MissingExtraError, UsageError
from prefcal.rankers.base import LabelRanker, check_count, check_number
from prefcal.rankers.linear_pl import standardization
from prefcal.rankers.stages import Stages


class NeuralPlackettLuce(LabelRanker):
    """Plackett-Luce whose log-utilities are the outputs of a multilayer perceptron with ReLU units.

    Minimises the weighted mean of ``-log P(ranking_i | x_i)`` by Adam. Partial rankings and ties enter with their
    exact likelihood (see :class:`~prefcal.rankers.stages.Stages`). With a validation share, the weights of the epoch
    of least validation loss are kept, and training stops after ``patience`` epochs without a better one: networks
    trained longer rank as well but grow over-confident.

    Parameters
    ----------
    hidden
        Sizes of the hidden layers.
    epochs
        Most passes over the data.
    batch_size, learning_rate, weight_decay
        Of Adam; ``weight_decay`` is its L2 penalty.
    standardize
        Scale features to mean 0 and standard deviation 1 before the fit.
    validation
        Share of the rows held out for stopping, in [0, 0.5]; 0 trains for all epochs.
    patience
        Epochs without a better validation loss before training stops.
    random_state
        Seed of the initial weights, the batches and the held-out rows.

    Attributes
    ----------
    network_
        The torch module.
    n_epochs_
        Epochs trained.
    loss_
        Mean training loss of the last epoch.

    Notes
    -----
    One thread is used: sums are then added in one order, and the same seed gives the same model.

    References
    ----------
    The label-ranking study of arXiv 2605.30447 uses hidden layers of 64 and 32 units.
    """

    network_: Any
    n_epochs_: int
    loss_: float

    def __init__(
        self,
        hidden: Sequence[int] = (64, 32),
        *,
        epochs: int = 200,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        standardize: bool = True,
        validation: float = 0.1,
        patience: int = 20,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.standardize = standardize
        self.validation = validation
        self.patience = patience
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NeuralPlackettLuce:
        """Fit; see :class:`LabelRanker` for the target and the weights.

        Raises
        ------
        DataError
            For bad features, ranks or weights, and items never compared with another.
        MissingExtraError
            Without torch.
        """
        torch = _torch()
        hidden = [check_count("hidden", size) for size in self.hidden]
        epochs, batch = check_count("epochs", self.epochs), check_count("batch_size", self.batch_size)
        patience = check_count("patience", self.patience)
        rate = check_number("learning_rate", self.learning_rate, low=0.0, open_low=True)
        decay = check_number("weight_decay", self.weight_decay, low=0.0)
        share = check_number("validation", self.validation, low=0.0)
        if share > 0.5:
            raise UsageError(f"validation must be at most 0.5, got {share}")
        features, ranks, weight = self._training_data(X, y, sample_weight)
        self._center, self._scale = standardization(features, weight, enabled=self.standardize)
        rng = np.random.default_rng(self.random_state)
        order = rng.permutation(len(features))
        held, rows = np.split(order, [int(share * len(features))])
        if len(rows) == 0:
            raise DataError(f"no row is left to fit: {len(features)} rows, {len(held)} of them held out")

        def loss_and_slope(scores: FloatArray, chosen: Any) -> tuple[float, FloatArray]:
            value, slope = Stages(ranks[chosen]).value_and_gradient(scores)
            w = weight[chosen] / weight[chosen].sum()
            return -float(w @ value), -w[:, None] * slope

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(rng.integers(2**31)))
                self.network_ = _perceptron(torch, features.shape[1], hidden, self.n_items_)
            inputs = self._inputs(torch, features)
            optimizer = torch.optim.Adam(self.network_.parameters(), lr=rate, weight_decay=decay)
            best, kept, waited = np.inf, None, 0
            for epoch in range(1, epochs + 1):
                total = 0.0
                shuffled = rng.permutation(rows)
                for start in range(0, len(rows), batch):
                    chosen = shuffled[start : start + batch]
                    optimizer.zero_grad()
                    output = self.network_(inputs[chosen])
                    value, slope = loss_and_slope(output.detach().numpy(), chosen)
                    output.backward(torch.from_numpy(slope))
                    optimizer.step()
                    total += value * len(chosen)
                self.n_epochs_, self.loss_ = epoch, total / len(rows)
                if len(held):
                    with torch.no_grad():
                        value, _ = loss_and_slope(self.network_(inputs[held]).numpy(), held)
                    if value < best:
                        best, waited = value, 0
                        kept = {k: v.clone() for k, v in self.network_.state_dict().items()}
                    else:
                        waited += 1
                        if waited >= patience:
                            break
            if kept is not None:
                self.network_.load_state_dict(kept)
            self.network_.eval()
        finally:
            torch.set_num_threads(threads)
        return self

    def decision_function(self, X: Any) -> FloatArray:
        """Log-utilities (n, m)."""
        torch = _torch()
        features = self._features(X)
        with torch.no_grad():
            scores: FloatArray = self.network_(self._inputs(torch, features)).numpy()
        return scores

    def predict_distribution(self, X: Any) -> PlackettLuce:
        """Plackett-Luce distribution of each of (n, p) instances."""
        return PlackettLuce(self.decision_function(X))

    def _inputs(self, torch: Any, features: FloatArray) -> Any:
        return torch.from_numpy(np.ascontiguousarray((features - self._center) / self._scale))


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise MissingExtraError("NeuralPlackettLuce", "torch", "torch") from None
    return torch


def _perceptron(torch: Any, inputs: int, hidden: list[int], outputs: int) -> Any:
    layers: list[Any] = []
    width = inputs
    for size in hidden:
        layers += [torch.nn.Linear(width, size, dtype=torch.float64), torch.nn.ReLU()]
        width = size
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, outputs, dtype=torch.float64))
