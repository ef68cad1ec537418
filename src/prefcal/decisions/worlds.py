"""Worlds for the RLHF model: prompts, answers and true rewards, and reward models that misstate them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray
from prefcal.errors import DataError, UsageError

_ITERATIONS = 100


@dataclass(frozen=True, slots=True)
class World:
    """Prompts (equally frequent), their answers, true rewards and a reference policy.

    Parameters
    ----------
    reward
        (x, k) true rewards R on the Bradley-Terry scale.
    log_ref
        (x, k) log probabilities of the reference policy, each row normalised.

    Raises
    ------
    DataError
        For shapes that differ, values that are not finite, rows that do not sum to 1.

    Examples
    --------
    >>> world = World.random(prompts=3, answers=4, seed=0)
    >>> world.reward.shape, bool(np.allclose(np.exp(world.log_ref).sum(axis=1), 1))
    ((3, 4), True)
    """

    reward: FloatArray
    log_ref: FloatArray

    def __post_init__(self) -> None:
        if self.reward.ndim != 2 or self.reward.shape != self.log_ref.shape or self.reward.size == 0:
            raise DataError(
                f"reward and log_ref must be (prompts, answers), got {self.reward.shape} and {self.log_ref.shape}"
            )
        if not (np.isfinite(self.reward).all() and np.isfinite(self.log_ref).all()):
            raise DataError("rewards and log probabilities must be finite")
        if not np.allclose(np.exp(self.log_ref).sum(axis=1), 1.0, atol=1e-9):
            raise DataError("each row of log_ref must hold log probabilities that sum to 1")

    @classmethod
    def random(
        cls, *, prompts: int = 100, answers: int = 32, spread: float = 1.0, ref_spread: float = 1.0, seed: int = 0
    ) -> World:
        """Normal rewards of standard deviation ``spread``, independent normal logits of the reference policy."""
        rng = np.random.default_rng([seed, 31])
        logits = ref_spread * rng.standard_normal((prompts, answers))
        return cls(spread * rng.standard_normal((prompts, answers)), log_softmax(logits))


def log_softmax(logits: FloatArray) -> FloatArray:
    """Logits (x, k) as log probabilities, each row normalised."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    out: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return out


# ------------------------------------------------------------------------------------------------- reward models


def scaled(world: World, factor: float) -> FloatArray:
    """The true reward times ``factor``: above 1 over-confident; the calibrated slope is 1 / factor."""
    return factor * world.reward


def distorted(world: World, power: float) -> FloatArray:
    """A monotone distortion, sign(d) |d|^power of d = R - E_ref[R]: the ranking is kept, the scale is bent.

    Each prompt keeps its standard deviation over answers under the reference policy, so that only the shape changes.
    """
    if not power > 0:
        raise UsageError(f"power must be > 0, got {power!r}")
    ref = np.exp(world.log_ref)
    d = world.reward - (ref * world.reward).sum(axis=1, keepdims=True)
    bent = np.sign(d) * np.abs(d) ** power
    before = np.sqrt((ref * d**2).sum(axis=1, keepdims=True))
    centred = bent - (ref * bent).sum(axis=1, keepdims=True)
    after = np.sqrt((ref * centred**2).sum(axis=1, keepdims=True))
    out: FloatArray = centred * np.divide(before, after, out=np.zeros_like(after), where=after > 0)
    return out


def noisy(world: World, sd: npt.ArrayLike, *, seed: int, degrees: float | None = None) -> FloatArray:
    """The true reward plus noise: ranking errors.

    Parameters
    ----------
    sd
        Scale of the noise: a number, one for each prompt (x, 1), or one for each answer (x, k).
    seed
        Of the noise.
    degrees
        Degrees of freedom of Student's t; None: normal.
    """
    rng = np.random.default_rng([seed, 37])
    shape = world.reward.shape
    noise = rng.standard_normal(shape) if degrees is None else rng.standard_t(degrees, shape)
    return world.reward + np.asarray(sd, dtype=np.float64) * noise


def trained_on_flipped(world: World, flip: float) -> FloatArray:
    """The Bradley-Terry rewards that infinitely many pairs give of which a share ``flip`` of the labels is reversed.

    Pairs of different answers come from the reference policy. Maximum-likelihood rewards of each prompt, by Newton
    steps; their mean over the reference policy is that of the true reward.
    """
    if not 0 <= flip < 0.5:
        raise UsageError(f"flip must lie in [0, 0.5), got {flip!r}")
    ref = np.exp(world.log_ref)
    weight = ref[:, :, None] * ref[:, None, :]
    k = weight.shape[1]
    weight[:, np.arange(k), np.arange(k)] = 0.0
    target = sigmoid(world.reward[:, :, None] - world.reward[:, None, :])
    target = (1 - flip) * target + flip * (1 - target)
    r = np.zeros_like(world.reward)
    for _ in range(_ITERATIONS):
        p = sigmoid(r[:, :, None] - r[:, None, :])
        gradient = (weight * (target - p)).sum(axis=2)
        curvature = weight * p * (1 - p)
        hessian = -curvature
        hessian[:, np.arange(k), np.arange(k)] += curvature.sum(axis=2)
        hessian += ref[:, :, None] * ref[:, None, :]  # fixes the free constant: sum of ref * step = 0
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        r = r + step
        if np.abs(step).max() < 1e-12:
            break
    shift = (ref * (world.reward - r)).sum(axis=1, keepdims=True)
    out: FloatArray = r + shift
    return out


def sigmoid(x: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)) without overflow."""
    out: FloatArray = 0.5 + 0.5 * np.tanh(0.5 * x)
    return out
