"""The study's two neural networks, trained as published (optional dependency: torch).

Published settings: hidden layers 64 and 32 with ReLU, Adam with learning rate 0.001, 50 epochs, batches of 64,
features as they are; batches drawn by a generator seeded 42 in every fold.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.errors import MissingExtraError

HIDDEN: Final = (64, 32)
EPOCHS: Final = 50
BATCH: Final = 64
LEARNING_RATE: Final = 1e-3
BATCH_SEED: Final = 42
#: Logit that the published rank classifier gives to each ranking that the data do not hold.
UNSEEN_LOGIT: Final = -20.0


def load_torch(caller: str) -> Any:
    """Import torch, or say how to install it."""
    try:
        import torch
    except ImportError:
        raise MissingExtraError(caller, "torch", "torch") from None
    return torch


@contextlib.contextmanager
def single_thread(torch: Any) -> Iterator[None]:
    """One thread: sums are then added in one order, and other processes have the other cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def mlp(torch: Any, inputs: int, outputs: int) -> Any:
    """Multilayer perceptron with the published hidden layers and torch's default initialisation."""
    layers: list[Any] = []
    width = inputs
    for hidden in HIDDEN:
        layers += [torch.nn.Linear(width, hidden), torch.nn.ReLU()]
        width = hidden
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, outputs))


def published_initialisation(
    torch: Any, *, inputs: int, items: int, classes: int, fold: int, seed: int
) -> tuple[Any, Any]:
    """The (rank classifier, Plackett-Luce) networks of a fold, untrained, as one seeded run over all folds has them.

    The published run seeds torch once and makes three networks in each fold (classifier, Plackett-Luce, and a second
    Plackett-Luce that it never trains), so the weights of fold f depend on all networks made before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(fold + 1):
            classifier, plackett_luce = mlp(torch, inputs, classes), mlp(torch, inputs, items)
            mlp(torch, inputs, items)
    return classifier, plackett_luce


def train(torch: Any, network: Any, features: FloatArray, loss: Callable[[Any, Any], Any]) -> Any:
    """Train in place; ``loss(outputs, rows)`` is the mean loss of a batch of rows."""
    x = torch.tensor(features, dtype=torch.float32)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(BATCH_SEED)
    network.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x), BATCH):
            rows = order[start : start + BATCH]
            optimizer.zero_grad()
            loss(network(x[rows]), rows).backward()
            optimizer.step()
    network.eval()
    return network


def train_plackett_luce(torch: Any, network: Any, features: FloatArray, orders: IntArray) -> Any:
    """Minimise the mean Plackett-Luce negative log-likelihood of (n, m) orderings."""
    best_first = torch.tensor(orders, dtype=torch.long)

    def loss(outputs: Any, rows: Any) -> Any:
        # The published code takes the softmax first and logarithms of it, floored at the smallest float, after.
        weights = torch.softmax(outputs, dim=-1).gather(1, best_first[rows])
        left = weights.flip(-1).cumsum(-1).flip(-1)
        tiny = torch.finfo(weights.dtype).tiny
        return -(weights.clamp_min(tiny).log() - left.clamp_min(tiny).log()).sum(-1).mean()

    return train(torch, network, features, loss)


def train_classifier(torch: Any, network: Any, features: FloatArray, classes: IntArray) -> Any:
    """Minimise the mean cross entropy of class numbers (n,)."""
    target = torch.tensor(classes, dtype=torch.long)
    cross_entropy = torch.nn.CrossEntropyLoss()
    return train(torch, network, features, lambda outputs, rows: cross_entropy(outputs, target[rows]))


def fit_temperature(torch: Any, logits: FloatArray, classes: IntArray) -> float:
    """Temperature of least cross entropy on calibration rows by the published optimiser: L-BFGS, rate .01, 50 steps.

    With that rate and number of steps it need not reach the minimum; that is part of the published models.
    """
    z, target = torch.tensor(logits, dtype=torch.float32), torch.tensor(classes, dtype=torch.long)
    temperature = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.LBFGS([temperature], lr=0.01, max_iter=50)
    cross_entropy = torch.nn.CrossEntropyLoss()

    def evaluate() -> Any:
        optimizer.zero_grad()
        value = cross_entropy(z / temperature, target)
        value.backward()
        return value

    optimizer.step(evaluate)
    return float(temperature.item())


def outputs(torch: Any, network: Any, features: FloatArray) -> FloatArray:
    """Outputs (n, k) of a network."""
    with torch.no_grad():
        raw = network(torch.tensor(features, dtype=torch.float32))
    values: FloatArray = raw.numpy().astype(np.float64)
    return values


def unseen_share(above: FloatArray, m: int) -> FloatArray:
    """Share (n,) of a published rank classifier's probability that is a uniform distribution over all m! rankings.

    Each ranking without a class has the logit ``UNSEEN_LOGIT``: for m = 15 items their number outweighs it.

    Parameters
    ----------
    above
        (n, r) logarithms of what the classes' exponentiated logits have above exp(``UNSEEN_LOGIT``).
    """
    spread = UNSEEN_LOGIT + math.lgamma(m + 1)
    share: FloatArray = np.exp(spread - np.logaddexp(np.logaddexp.reduce(above, axis=1), spread))
    return share
