"""Kernels between rankings, and random features of the Mallows kernel.

The Kendall kernel is the mean over pairs of items of sgn sgn', the rank correlation tau of two rankings; it sees
nothing but pairs. The Mallows kernel exp(-decay * share of discordant pairs) is universal (Jiao & Vert 2018; Mania
et al. 2018): its mean embedding tells any two distributions over rankings apart. In the Kendall embedding, x = (sgn
of each pair), it is a Gaussian kernel, exp(-decay |x - x'|^2 / 4 P) with P pairs, so random Fourier features apply
(Rahimi & Recht 2007).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray
from prefcal.errors import UsageError

#: exp(-DECAY * share of discordant pairs): rankings that share half their pairs have kernel exp(-DECAY / 2).
DECAY = 4.0
Float32Array = npt.NDArray[np.float32]


def kendall_embedding(ranks: npt.ArrayLike) -> Float32Array:
    """(..., P) sign of each pair a < b: +1 where a is the better one, -1 where b is, 0 for equal ranks.

    ``ranks`` is (..., m), smaller = better, on any scale, without NaN; P = m (m - 1) / 2, in lexicographic order.
    """
    r = np.asarray(ranks, dtype=np.float64)
    first, second = np.triu_indices(r.shape[-1], 1)
    return np.sign(r[..., second] - r[..., first]).astype(np.float32)


def kendall_kernel(ranks: npt.ArrayLike, others: npt.ArrayLike) -> FloatArray:
    """(n, n') Kendall tau of every two rankings, given as ranks (n, m) and (n', m) without NaN.

    Examples
    --------
    >>> kendall_kernel([[1, 2, 3]], [[1, 2, 3], [3, 2, 1], [2, 1, 3]]).round(6).tolist()
    [[1.0, -1.0, 0.333333]]
    """
    a, b = kendall_embedding(ranks), kendall_embedding(others)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or a.shape[1] == 0:
        raise UsageError(f"a kernel compares (n, m) with (n', m) ranks, m >= 2, got {np.shape(ranks)} and "
                         f"{np.shape(others)}")  # fmt: skip
    tau: FloatArray = a.astype(np.float64) @ b.T.astype(np.float64) / a.shape[1]
    return tau


def mallows_kernel(ranks: npt.ArrayLike, others: npt.ArrayLike, decay: float = DECAY) -> FloatArray:
    """(n, n') exp(-decay * share of discordant pairs) of every two strict rankings, given as ranks.

    Examples
    --------
    >>> mallows_kernel([[1, 2, 3]], [[1, 2, 3], [3, 2, 1]], decay=1.0).round(4).tolist()
    [[1.0, 0.3679]]
    """
    kernel: FloatArray = np.exp(-_checked_decay(decay) * (1.0 - kendall_kernel(ranks, others)) / 2)
    return kernel


@dataclass(frozen=True, slots=True)
class MallowsFeatures:
    """Random Fourier features of the Mallows kernel: the mean of f(y) f(y') over features is unbiased for K(y, y').

    Parameters
    ----------
    directions
        (P, D) of the Kendall embedding.
    phases
        (D,)
    """

    directions: Float32Array
    phases: Float32Array

    @classmethod
    def draw(cls, m: int, count: int, decay: float, rng: np.random.Generator) -> MallowsFeatures:
        """``count`` independent features for rankings of ``m`` items."""
        pairs = m * (m - 1) // 2
        scale = math.sqrt(_checked_decay(decay) / (2 * pairs))
        directions = (rng.standard_normal((pairs, count)) * scale).astype(np.float32)
        return cls(directions, (rng.random(count) * 2 * math.pi).astype(np.float32))

    def __call__(self, ranks: npt.ArrayLike) -> Float32Array:
        """(..., D) features of strict rankings given as ranks (..., m); O(P D) a ranking, in single precision."""
        embedded = kendall_embedding(ranks)
        angle = embedded.reshape(-1, embedded.shape[-1]) @ self.directions
        angle += self.phases
        np.cos(angle, out=angle)
        angle *= np.float32(math.sqrt(2))
        return angle.reshape(*embedded.shape[:-1], -1)


def _checked_decay(decay: float) -> float:
    if not (math.isfinite(decay) and decay > 0):
        raise UsageError(f"decay of the Mallows kernel must be a finite number > 0, got {decay!r}")
    return float(decay)
