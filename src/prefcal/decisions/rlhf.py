"""A small exact model of RLHF: what a reward model's miscalibration does to the policy trained on it.

Finitely many prompts and answers, a known true reward, a reference policy, and the closed-form policy that maximises
E[r] - beta KL(pi || pi0). Nothing is sampled but, where asked for, the pairs that a temperature is fitted on. True
rewards are on the Bradley-Terry scale: answer a beats b with probability sigmoid(R_a - R_b).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.decisions.worlds import World, log_softmax, sigmoid
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError
from prefcal.estimators.temperature import temperature
from prefcal.result import Estimate, plain

_EXACT = "exact: an expectation over finitely many prompts and answers"


# ------------------------------------------------------------------------------------------------------- policies


def policy(reward: FloatArray, log_ref: FloatArray, beta: float) -> FloatArray:
    """Log probabilities of the policy that maximises E[reward] - beta KL(pi || pi_ref).

    pi is pi_ref exp(reward / beta), normalised in each prompt. ``beta`` = inf gives the reference policy, 0 the
    reference policy restricted to the answers of largest reward (-inf elsewhere).
    """
    if math.isnan(beta) or beta < 0:
        raise UsageError(f"beta must be >= 0, got {beta!r}")
    if math.isinf(beta):
        return log_ref
    if beta == 0:
        best = reward == reward.max(axis=1, keepdims=True)
        return log_softmax(np.where(best, log_ref, -np.inf))
    # Differences first: reward / beta alone may be too large to hold the reference policy's digits.
    return log_softmax(log_ref + (reward - reward.max(axis=1, keepdims=True)) / beta)


def kl(log_policy: FloatArray, log_ref: FloatArray) -> float:
    """KL(pi || pi_ref) in nats, mean over prompts."""
    p = np.exp(log_policy)
    return float(np.where(p > 0, p * (np.where(p > 0, log_policy, 0.0) - log_ref), 0.0).sum(axis=1).mean())


def gain(reward: FloatArray, log_policy: FloatArray, log_ref: FloatArray) -> float:
    """E_pi[reward] - E_ref[reward], mean over prompts."""
    return float(((np.exp(log_policy) - np.exp(log_ref)) * reward).sum(axis=1).mean())


def win_rate(world: World, log_policy: FloatArray) -> float:
    """Probability that an answer of the policy beats one of the reference policy, mean over prompts."""
    wins = sigmoid(world.reward[:, :, None] - world.reward[:, None, :])
    return float(np.einsum("xa,xab,xb->x", np.exp(log_policy), wins, np.exp(world.log_ref)).mean())


@dataclass(frozen=True, slots=True)
class Trained:
    """The policy trained on one reward model with KL weight ``beta``.

    Parameters
    ----------
    beta
        The KL weight meant.
    true_gain, claimed_gain
        Gain in true reward over the reference policy, and in the reward that training saw.
    over_optimisation
        Claimed minus true gain.
    kl, win_rate
        KL(pi || pi_ref) in nats; probability to beat the reference policy by the true reward.
    loss
        What is lost of the objective E[R] - beta KL, against the best policy for the true reward; it equals
        beta KL(pi || pi_best). NaN for beta 0 and infinity.
    """

    beta: float
    true_gain: Estimate
    claimed_gain: Estimate
    over_optimisation: Estimate
    kl: Estimate
    win_rate: Estimate
    loss: Estimate


NUMBERS = ("true_gain", "claimed_gain", "over_optimisation", "kl", "win_rate", "loss")


def train(world: World, reward: FloatArray, beta: float) -> dict[str, float]:
    """The numbers of :class:`Trained` for one reward model, exact."""
    log_policy = policy(reward, world.log_ref, beta)
    true, claimed = (gain(r, log_policy, world.log_ref) for r in (world.reward, reward))
    best = policy(world.reward, world.log_ref, beta)
    loss = max(beta * kl(log_policy, best), 0.0) if 0 < beta < math.inf else math.nan  # rounding may fall below 0
    return {
        "true_gain": true, "claimed_gain": claimed, "over_optimisation": claimed - true,
        "kl": kl(log_policy, world.log_ref), "win_rate": win_rate(world, log_policy), "loss": loss,
    }  # fmt: skip


# -------------------------------------------------------------------------------------------------- recalibration


def population_slope(world: World, reward: FloatArray, prompts: Any = slice(None)) -> float:
    """The slope a that infinitely many preference pairs give: sigmoid(a (r_a - r_b)) fits the true preferences best.

    Pairs of different answers from the reference policy. 0 where the rewards say nothing or the reverse.
    """
    ref = np.exp(world.log_ref[prompts])
    first, second = np.triu_indices(ref.shape[1], 1)
    weight = ref[:, first] * ref[:, second]
    d = (reward[prompts][:, first] - reward[prompts][:, second]).astype(np.float64)
    target = sigmoid(world.reward[prompts][:, first] - world.reward[prompts][:, second])
    size = float(np.abs(d).max(initial=0.0))
    if size == 0:
        return 0.0
    d = d / size
    low, high = 0.0, 1.0

    def derivative(a: float) -> float:
        return float((weight * d * (target - sigmoid(a * d))).sum())

    if derivative(0.0) <= 0:
        return 0.0
    while derivative(high) > 0:
        low, high = high, 2 * high
        if high > 1e12:
            return math.inf
    for _ in range(200):  # the derivative falls in a: bisection cannot fail
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if derivative(middle) > 0 else (low, middle)
    return 0.5 * (low + high) / size


def fitted_slope(world: World, reward: FloatArray, pairs: int, *, seed: Any, prompts: Any = None) -> float:
    """The slope (1 / temperature) fitted on ``pairs`` random preference pairs, labelled by the true reward.

    A prompt at random (of ``prompts``, indices, if given), two answers from the reference policy, redrawn until
    they differ.
    """
    rng = np.random.default_rng(seed)
    among = np.arange(len(world.reward)) if prompts is None else np.asarray(prompts)
    x = rng.choice(among, size=pairs)
    a, b = _draw(world, x, rng), _draw(world, x, rng)
    while (a == b).any():
        same = np.flatnonzero(a == b)
        a[same], b[same] = _draw(world, x[same], rng), _draw(world, x[same], rng)
    wins = rng.random(pairs) < sigmoid(world.reward[x, a] - world.reward[x, b])
    h = PlackettLuce(np.stack([reward[x, a], reward[x, b]], axis=1))
    found = temperature(h, Outcomes.from_best(np.where(wins, 0, 1), n_items=2), np.ones(pairs), best=False)
    return math.inf if found.value == 0 else 1 / found.value


def _draw(world: World, x: IntArray, rng: np.random.Generator) -> IntArray:
    """One answer from the reference policy for each prompt (Gumbel's trick)."""
    rows = world.log_ref[x]
    return np.asarray(np.argmax(rows + rng.gumbel(size=rows.shape), axis=1), dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Curve:
    """One reward model, used one way, over all KL weights.

    Parameters
    ----------
    model
        Name of the reward model.
    use
        ``raw``; ``temperature`` (population slope); ``fitted`` (slope from a sample of pairs); ``by group`` (one
        population slope for each group of prompts).
    slope
        By what the rewards were multiplied; for ``by group`` the mean over prompts.
    points
        One entry for each KL weight.
    """

    model: str
    use: str
    slope: Estimate
    points: tuple[Trained, ...]


@dataclass(frozen=True, slots=True)
class Simulation:
    """What :func:`simulate` found; ``settings`` say how."""

    curves: tuple[Curve, ...]
    settings: dict[str, Any]

    def curve(self, model: str, use: str) -> Curve:
        """One curve; UsageError, with the names there are, if there is none."""
        for c in self.curves:
            if (c.model, c.use) == (model, use):
                return c
        raise UsageError.unknown("curve", f"{model} / {use}", [f"{c.model} / {c.use}" for c in self.curves])

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found: dict[str, Any] = plain(self)
        return found


def simulate(
    world: World,
    models: Mapping[str, FloatArray],
    *,
    betas: Sequence[float],
    pairs: int | None = 500,
    repeats: int = 40,
    groups: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Simulation:
    """Train on each reward model, raw and recalibrated, with each KL weight.

    Parameters
    ----------
    world
        Prompts, answers, true reward, reference policy.
    models
        Name -> (x, k) rewards, e.g. of :mod:`prefcal.decisions.worlds`.
    betas
        KL weights > 0 that are meant for the true reward.
    pairs, repeats
        Size of the sample a temperature is fitted on, and how many such samples show its uncertainty: values are
        means, intervals the 2.5 and 97.5 percentiles over samples. None leaves ``fitted`` out.
    groups
        (x,) group of each prompt, for one slope a group.
    seed
        Of the samples.

    Raises
    ------
    UsageError, DataError
        Betas that are not finite and positive; rewards of another shape; too few pairs for a finite slope.

    Examples
    --------
    >>> from prefcal.decisions.worlds import World, scaled
    >>> world = World.random(seed=0)
    >>> found = simulate(world, {"twice": scaled(world, 2.0)}, betas=[0.5], pairs=None)
    >>> round(found.curve("twice", "temperature").slope.value, 6)
    0.5
    >>> bool(found.curve("twice", "temperature").points[0].loss.value < 1e-12)
    True
    """
    wrong = [b for b in betas if not (math.isfinite(b) and b > 0)]
    if wrong or not len(betas):
        raise UsageError(f"betas must be finite numbers > 0, got {list(betas)!r}")
    codes = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if codes is not None and codes.shape != (len(world.reward),):
        raise DataError(f"groups must be one for each of {len(world.reward)} prompts, got shape {codes.shape}")
    curves = []
    for place, (name, given) in enumerate(models.items()):
        reward = np.asarray(given, dtype=np.float64)
        if reward.shape != world.reward.shape or not np.isfinite(reward).all():
            raise DataError(f"rewards {name!r} must be finite, of shape {world.reward.shape}; got {reward.shape}")
        slope = population_slope(world, reward)
        uses: list[tuple[str, Estimate, FloatArray]] = [("raw", Estimate(1.0, None, "as it is"), reward)]
        if math.isfinite(slope):
            uses.append(("temperature", Estimate(slope, None, _EXACT), slope * reward))
        if codes is not None:
            by_group = [population_slope(world, reward, codes == g) for g in range(int(codes.max()) + 1)]
            if all(math.isfinite(a) for a in by_group):
                factor = np.array(by_group)[codes]
                mean = Estimate(float(factor.mean()), None, _EXACT)
                uses.append(("by group", mean, factor[:, None] * reward))
        for use, estimate, values in uses:
            points = [_exact(world, values, b) for b in betas]
            curves.append(Curve(name, use, estimate, tuple(points)))
        if pairs is not None:
            curves.append(_fitted(world, name, reward, betas, pairs, repeats, [seed, 41, place]))
    shape = {"prompts": len(world.reward), "answers": world.reward.shape[1]}
    return Simulation(tuple(curves), shape | {"pairs": pairs, "repeats": repeats, "seed": seed})


def _exact(world: World, reward: FloatArray, beta: float) -> Trained:
    found = train(world, reward, beta)
    return Trained(beta, **{key: Estimate(found[key], None, _EXACT) for key in NUMBERS})


def _fitted(
    world: World, name: str, reward: FloatArray, betas: Sequence[float], pairs: int, repeats: int, seed: list[int]
) -> Curve:
    slopes = [fitted_slope(world, reward, pairs, seed=[*seed, r]) for r in range(repeats)]
    endless = sum(not math.isfinite(a) for a in slopes)
    if endless:
        raise DataError(f"{name!r}: {endless} of {repeats} samples of {pairs} pairs give no finite slope; use more")
    points = []
    for beta in betas:
        found = [train(world, a * reward, beta) for a in slopes]
        points.append(Trained(beta, **{key: _over([f[key] for f in found], pairs) for key in NUMBERS}))
    return Curve(name, "fitted", _over(slopes, pairs), tuple(points))


def _over(values: list[float], pairs: int) -> Estimate:
    low, high = np.quantile(values, [0.025, 0.975])
    note = f"mean, 2.5 and 97.5 percentiles over {len(values)} samples of {pairs} pairs"
    return Estimate(float(np.mean(values)), (float(low), float(high)), note)
