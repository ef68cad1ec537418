"""The random features of a kernel estimate: what each instance adds to the sums, as observed and as redrawn."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from prefcal.data.ragged import FloatArray
from prefcal.distributions.base import Distribution
from prefcal.estimators.kernel_residuals import Outlook, Residuals
from prefcal.estimators.kernel_state import KernelPlan, KernelState
from prefcal.estimators.ranking_kernels import Float32Array, MallowsFeatures, mallows_kernel
from prefcal.views import View

_DRAWN: Final = 64  # redraws at a time
_BLOCK: Final = 1 << 12
_BLOCK_NUMBERS: Final = 1 << 21


class Features:
    """The random features that a plan stands for."""

    def __init__(self, plan: KernelPlan, outlook: Outlook, h: Distribution) -> None:
        rng = np.random.default_rng([plan.seed, 1])
        self.outlook, self.functions = outlook, 2 * plan.frequencies
        dimension = outlook.condition(h[:1], np.random.default_rng(0)).shape[-1]
        self.directions = rng.standard_normal((dimension, plan.frequencies)) / plan.bandwidth
        length = 1  # numbers in an outcome vector, where outcomes are listed
        if outlook.listed:
            length = outlook.width if outlook.pooled else outlook.members * outlook.width
        self.root: FloatArray | None = None  # one linear map of outcomes for all functions
        self.mixing: FloatArray | None = None  # (2 F, L, mixes)
        self.rankings: MallowsFeatures | None = None
        if plan.kernel == "mallows":
            if plan.mixes:
                count = self.functions * plan.mixes
                self.rankings = MallowsFeatures.draw(outlook.m, count, plan.decay, rng)
            if outlook.listed:
                ranks = np.argsort(View("full").outcomes(outlook.m)[0], axis=1)
                if self.rankings is None:
                    self.root = np.asarray(np.linalg.cholesky(mallows_kernel(ranks, ranks, plan.decay)), np.float64)
                else:
                    table = self.rankings(ranks).astype(np.float64) / math.sqrt(plan.mixes)
                    self.mixing = table.reshape(length, self.functions, plan.mixes).transpose(1, 0, 2)
        elif plan.mixes:
            signs = rng.integers(0, 2, (self.functions, length, plan.mixes)) * 2.0 - 1.0
            self.mixing = np.asarray(signs / math.sqrt(plan.mixes), dtype=np.float64)
        self.mixes = plan.mixes
        self.size = self.functions * (plan.mixes or length)
        shared = plan.kernel == "mallows" or outlook.notion.given == "full"
        numbers = max(
            self.size * (1 + plan.references), dimension * (1 if shared else outlook.members),
            outlook.m**2, length, (1 if shared else outlook.members * self.functions),
        )  # fmt: skip
        self.rows_at_once = 1 << int(np.clip(math.log2(_BLOCK_NUMBERS / numbers), 5, math.log2(_BLOCK)))

    def forecast(self, found: Residuals) -> FloatArray:
        """(b, G or 1, 2 F) features of what is conditioned on; their squares sum to 1."""
        angle = found.condition @ self.directions
        return np.concatenate([np.cos(angle), np.sin(angle)], axis=-1) / math.sqrt(self.directions.shape[1])

    def listed(self, found: Residuals, phi: FloatArray) -> FloatArray:
        """(b, D) contributions from residual vectors."""
        r = found.vector
        assert r is not None
        b = len(r)
        if phi.shape[1] == 1:  # one condition for all members
            flat = r.sum(axis=1) if self.outlook.pooled else r.reshape(b, -1)
            if self.mixing is None:
                flat = flat if self.root is None else flat @ self.root
                return (phi[:, 0, :, None] * flat[:, None, :]).reshape(b, -1)
            table = self.mixing.transpose(1, 0, 2).reshape(flat.shape[1], -1)
            mixed: FloatArray = (flat @ table) * np.repeat(phi[:, 0], self.mixes, axis=1)
            return mixed
        if self.outlook.pooled:
            summed = np.matmul(phi.transpose(0, 2, 1), r)  # (b, 2 F, W)
            mixed = summed if self.mixing is None else np.einsum("bfw,fwq->bfq", summed, self.mixing, optimize=True)
            return mixed.reshape(b, -1)
        out = np.empty((b, self.functions, self.size // self.functions))
        for f in range(self.functions):
            weighted = (phi[:, :, f, None] * r).reshape(b, -1)
            out[:, f] = weighted if self.mixing is None else weighted @ self.mixing[f]
        return out.reshape(b, -1)

    def drawn(self, rankings: FloatArray, phi: FloatArray) -> Float32Array:
        """(b, 1 + s, D) contribution if each of the rankings were the observed one; the first is.

        f(y) - mean of the s others = (1 + 1/s) (f(y) - mean of all 1 + s).
        """
        assert self.rankings is not None
        f = self.rankings(rankings)
        f -= f.mean(axis=1, keepdims=True)
        f *= np.float32((1 + 1 / (rankings.shape[1] - 1)) / math.sqrt(self.mixes))
        f *= np.repeat(phi[:, 0], self.mixes, axis=1).astype(np.float32)[:, None, :]
        return f

    def redraw(
        self, state: KernelState, phi: FloatArray, probs: FloatArray, w: FloatArray, rng: np.random.Generator
    ) -> None:
        """Add what outcomes drawn from exact forecasts of one member contribute to each redraw."""
        draws, width = state.plan.redraws, probs.shape[1]
        seen = np.flatnonzero(w > 0)
        phi, probs, w = phi[seen], probs[seen], w[seen]
        below = np.cumsum(probs, axis=1)
        below /= below[:, -1:]
        weighted = phi.T * w
        if self.mixing is None:
            root = np.eye(width) if self.root is None else self.root
            kernel = root @ root.T
            smooth = probs @ kernel
            own = np.diag(kernel) - 2 * smooth + (smooth * probs).sum(axis=1)[:, None]
        else:
            table = self.mixing.transpose(1, 0, 2).reshape(width, -1)
            each = np.repeat(phi, self.mixes, axis=1) ** 2
            expected = probs @ table
            own = each @ (table**2).T - 2 * (each * expected) @ table.T + (each * expected**2).sum(axis=1)[:, None]
        own *= w[:, None] ** 2
        base = weighted @ probs
        instance = np.arange(len(seen))
        for low in range(0, draws, _DRAWN):
            sums = np.empty((min(_DRAWN, draws - low), self.functions, width))
            for d in range(len(sums)):
                u = rng.random(len(seen))
                chosen = np.zeros(len(seen), dtype=np.intp)
                for edge in below[:, :-1].T:
                    chosen += u >= edge
                hot = np.zeros((len(seen), width))
                hot[instance, chosen] = 1.0
                sums[d] = weighted @ hot - base
                state.redrawn_own[low + d] += own[instance, chosen].sum()
            if self.mixing is not None:
                mixed = np.matmul(sums.transpose(1, 0, 2), self.mixing).transpose(1, 0, 2)
            else:
                mixed = sums if self.root is None else sums @ self.root
            state.redrawn[low : low + len(sums)] += mixed.reshape(len(sums), -1)


def exchange(state: KernelState, candidates: Float32Array, rng: np.random.Generator) -> None:
    """Under full calibration any of the 1 + s rankings of an instance could be the observed one."""
    count = candidates.shape[1]
    chosen = rng.integers(count, size=(state.plan.redraws, len(candidates)))
    own = np.einsum("bkd,bkd->bk", candidates, candidates).astype(np.float64)
    state.redrawn_own += own[np.arange(len(candidates)), chosen].sum(axis=1)
    for j in range(count):
        state.redrawn += (chosen == j).astype(np.float32) @ np.ascontiguousarray(candidates[:, j])
