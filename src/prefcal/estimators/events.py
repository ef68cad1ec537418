"""Events: what a notion predicts in each instance, and whether it happened.

A *family* turns a block of forecasts into potential events (a probability ``p`` for each) and a block of observed
or simulated ranks into what happened to them (``y``; NaN where the observation does not tell). Everything that
follows (tables, null laws, intervals) sees only ``p``, ``y``, the member an event belongs to, and its instance.

Source of the conventions: design section 4.4 ("Events of exchangeable items, exactly") and the label-ranking
paper's rankwise errors (arXiv 2605.30447), one binary event for each outcome of each member.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Block, Distribution
from prefcal.errors import UsageError
from prefcal.notions.notion import Notion
from prefcal.views import View, combination_index, permutation_index

Items = Literal["labelled", "exchangeable"]
BoolArray = npt.NDArray[np.bool_]

# Events an instance may have before a rankwise notion is refused (7! outcomes: full rankings of seven items).
OUTCOME_LIMIT = 5040


@dataclass(slots=True)
class Forecast:
    """Potential events of a block of ``b`` instances.

    Parameters
    ----------
    p, log_p, log_q
        (b, e) probability of each event, its logarithm, and that of the complement (both keep what rounding of
        ``p`` loses near 0 and 1).
    member
        (e,) or (b, e) which member each event belongs to; None when all are pooled into one.
    guess
        What :meth:`Family.observe` needs to recognise the event.
    """

    p: FloatArray
    log_p: FloatArray
    log_q: FloatArray
    member: IntArray | None
    guess: FloatArray

    def take(self, rows: IntArray) -> Forecast:
        """The forecasts of some instances of the block."""
        member = self.member if self.member is None or self.member.ndim == 1 else self.member[rows]
        guess = self.guess[rows] if len(self.guess) else self.guess
        return Forecast(self.p[rows], self.log_p[rows], self.log_q[rows], member, guess)


_MOST_NATS = 1e100


def log_loss(y: FloatArray, log_p: FloatArray, log_q: FloatArray) -> FloatArray:
    """-y log p - (1 - y) log q of each event; infinite where something impossible happened (0 log 0 = 0).

    Beyond 1e100 nats it counts as infinite: sums of its squares would be.
    """
    happened = y == 1.0
    loss = -np.where(happened, log_p, log_q)
    split = ~happened & (y != 0.0)
    if split.any():
        with np.errstate(invalid="ignore"):
            loss[split] = -(y * log_p + (1 - y) * log_q)[split]
    loss[loss > _MOST_NATS] = np.inf
    return loss


class Family(ABC):
    """The events of one notion for labelled or exchangeable items."""

    #: Why an instance may have no event, in words.
    unusable: str
    #: Number of members whose errors are averaged (1 = all events pooled).
    n_members: int = 1
    #: Outcomes W that share the probability of a member: their mean error times W/2 is a total variation distance.
    n_shared: int = 2

    def applies(self, size: int) -> bool:
        """Whether instances of ``size`` items have such events at all."""
        return size >= 2

    @abstractmethod
    def forecast(self, block: Block) -> Forecast:
        """Probabilities of the potential events of a block."""

    @abstractmethod
    def observe(self, forecast: Forecast, ranks: FloatArray) -> FloatArray:
        """What happened, (..., b, e) from (..., b, m) ranks (smaller = better, NaN = not ranked).

        1 if the event happened, 0 if not, a fraction where equals share it, NaN where it is not known.
        """

    @abstractmethod
    def expected(self, forecast: Forecast, truth: Block) -> tuple[FloatArray, FloatArray]:
        """(b, e) expected y and y^2 of each event if rankings come from ``truth`` and are seen whole."""

    def residual_cells(self, forecast: Forecast, bins: int) -> IntArray:
        """(b, e) cell = member * bins + bin of each event; bin is floor(p * bins), p = 1 in the last."""
        cell = np.nan_to_num(forecast.p * bins).astype(np.intp)  # an unstated p is no event, wherever it falls
        np.minimum(cell, bins - 1, out=cell)
        if forecast.member is not None:
            cell += forecast.member * bins
        return cell


def kind_of_items(items: Items | None, h: Distribution) -> Items:
    """``items`` as given (UsageError for another word); None: labelled unless lists have unequal lengths."""
    if items is None:
        return "labelled" if h.has_labels else "exchangeable"
    if items not in ("labelled", "exchangeable"):
        raise UsageError.unknown("kind of items", str(items), ("labelled", "exchangeable"))
    return items


def family_for(notion: Notion, items: Items, h: Distribution, *, ties_equal: bool) -> Family:
    """The events of a scalar notion.

    Raises UsageError where the notion is not scalar, has no meaning for these items, or would need more than
    ``OUTCOME_LIMIT`` events an instance.
    """
    view, m = notion.view, h.n_items
    exchangeable = items == "exchangeable"
    uneven = bool((h.sizes != m).any())
    if not exchangeable or not uneven:
        view.check(m)
    best = view in (View("top", 1), View("topset", 1))
    if not h.has_rankings and view != View("sub", 2) and not (best and h.has_best):
        stated = "the best item" if h.has_best else "pairs"
        more = " or top-1" if h.has_best else ", or make a distribution over rankings first (BabingtonSmith)"
        raise UsageError(f"{notion.name}: pairwise probabilities state nothing beyond {stated}; ask for sub-2{more}")
    if uneven and not exchangeable and not h.has_labels:
        raise UsageError(
            "lists of unequal length do not say which item is which: use items='exchangeable', or an (n, m) array "
            "with NaN where an instance lacks an item"
        )
    pairs = view == View("sub", 2) or (view.kind in ("full", "top") and m == 2)
    if pairs and exchangeable:
        return Pairs(ties_equal)
    if notion.given == "confidence":
        if best:
            return TopChoice()
        return Confidence(view, m, pooled=exchangeable, uneven=uneven)
    if view.kind in ("full", "top", "topset") and uneven and not exchangeable:
        raise UsageError(f"{notion.name}: instances lack items, so outcomes differ; ask for sub-k or position")
    return Rankwise(view, m, pooled=exchangeable, ties_equal=ties_equal)


class Pairs(Family):
    """``sub-2`` of exchangeable items: the better-scored candidate of each pair is the better one.

    Equal scores give p = y = 1/2; so do, with ``ties_equal``, candidates judged equal (y only).
    """

    unusable = "no pair of candidates with a known order"

    def __init__(self, ties_equal: bool) -> None:
        self.tie_value = 0.5 if ties_equal else np.nan

    def forecast(self, block: Block) -> Forecast:
        """Log odds of every pair; p is the probability of the likelier order."""
        first, second = np.triu_indices(block.dist.n_items, 1)
        odds = block.dist.pair_log_odds(first, second)
        size = np.abs(odds)
        small = np.exp(-size)
        total = 1.0 + small
        log_p = -np.log(total)
        return Forecast(1.0 / total, log_p, log_p - size, None, np.sign(odds))

    def observe(self, forecast: Forecast, ranks: FloatArray) -> FloatArray:
        """1, 0, 1/2 or NaN for each pair."""
        first, second = np.triu_indices(ranks.shape[-1], 1)
        a, b = ranks[..., first], ranks[..., second]
        direction = (a < b).astype(np.float64)
        direction -= a > b  # +1: first is better, -1: second is better, 0: tied or unknown
        y = 0.5 + 0.5 * forecast.guess * direction
        unsettled = direction == 0
        if unsettled.any():
            y[unsettled] = np.where((a == b)[unsettled], self.tie_value, np.nan)
        y[np.broadcast_to(np.isnan(forecast.p), y.shape)] = np.nan
        result: FloatArray = y
        return result

    def expected(self, forecast: Forecast, truth: Block) -> tuple[FloatArray, FloatArray]:
        """The truth's probability of the order that was forecast to be the likelier one."""
        odds = truth.dist.pair_log_odds(*np.triu_indices(truth.dist.n_items, 1))
        odds = np.where(forecast.guess < 0, -odds, odds)
        with np.errstate(over="ignore"):
            mean = 1.0 / (1.0 + np.exp(-odds))
        even = forecast.guess == 0
        return np.where(even, 0.5, mean), np.where(even, 0.25, mean)


class TopChoice(Family):
    """``top-1:confidence``: the candidate with the largest probability to be best is the best one.

    ``w`` candidates that share that probability share the event: y = 1/w if the best is among them.
    """

    unusable = "the best item is not known (none, several, or not ranked against all)"

    def forecast(self, block: Block) -> Forecast:
        """The largest top-1 probability and how it is shared."""
        logs = block.dist.top_log_probs()
        top = logs.max(axis=1, keepdims=True)
        chosen = logs == top
        others = np.where(chosen, -np.inf, logs)
        count = chosen.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore"):
            rest = np.log(np.exp(others).sum(axis=1, keepdims=True) + (count - 1) * np.exp(top))
        # rest is log(1 - p); where exp underflows, fall back to the largest of the others.
        rest = np.where(np.isneginf(rest), others.max(axis=1, keepdims=True), rest)
        return Forecast(np.exp(top), top, np.minimum(rest, 0.0), None, chosen / count)

    def observe(self, forecast: Forecast, ranks: FloatArray) -> FloatArray:
        """The share of the chosen candidates that is best."""
        best = ranks.min(axis=-1, keepdims=True)  # NaN anywhere = the best is not known
        is_best = ranks == best
        known = is_best.sum(axis=-1) == 1
        y = (is_best * forecast.guess).sum(axis=-1)
        return np.where(known, y, np.nan)[..., None]

    def expected(self, forecast: Forecast, truth: Block) -> tuple[FloatArray, FloatArray]:
        """The truth's probability that the best is among the chosen candidates, shared as they share the event."""
        best = np.exp(truth.dist.top_log_probs())
        mean, square = ((best * forecast.guess**k).sum(axis=1, keepdims=True) for k in (1, 2))
        return mean, square


class Rankwise(Family):
    """One event for each outcome of each member: the outcome happens.

    Labelled items: a member is one (member of the view, outcome) and the errors of members are averaged (the
    paper's rankwise error). Exchangeable items: all events are pooled; the outcomes' labels then do not matter.
    """

    def __init__(self, view: View, m: int, *, pooled: bool, ties_equal: bool = False) -> None:
        self.view, self.pooled = view, pooled
        self.n_outcomes = view.n_outcomes(m)
        if view.n_members(m) * self.n_outcomes > OUTCOME_LIMIT and view != View("sub", 2):
            raise UsageError(
                f"{view.name}:rankwise with {m} items has {view.n_members(m) * self.n_outcomes} events an instance, "
                f"more than {OUTCOME_LIMIT}; ask for {view.name}:confidence, or a smaller k"
            )
        self.n_members = 1 if pooled else view.n_members(m) * self.n_outcomes
        self.n_shared = self.n_outcomes
        self.half_ties = ties_equal and view == View("sub", 2)
        self.m = m
        self.unusable = f"the outcome of {view.name} is not known from what was observed"

    def applies(self, size: int) -> bool:
        """Whether the view has a meaning for ``size`` items."""
        return _meaningful(self.view, size)

    def forecast(self, block: Block) -> Forecast:
        """The marginal of the view, one event for each outcome."""
        size = block.dist.n_items
        if self.view == View("sub", 2):  # exact also near 0 and 1
            first, second = np.triu_indices(size, 1)
            odds = block.dist.pair_log_odds(first, second)[:, :, None] * np.array([1.0, -1.0])
            with np.errstate(invalid="ignore"):  # NaN: the model does not say
                log_p = -np.logaddexp(0.0, -odds).reshape(len(odds), -1)
                log_q = -np.logaddexp(0.0, odds).reshape(len(odds), -1)
            p = np.exp(log_p)
        else:
            p = block.dist.marginal(self.view).probs.reshape(len(block.dist), -1)
            p = np.minimum(p, 1.0)
            with np.errstate(divide="ignore"):
                log_p, log_q = np.log(p), np.log1p(-p)
        return Forecast(p, log_p, log_q, self._members(block, size), np.empty(0))

    def _members(self, block: Block, size: int) -> IntArray | None:
        if self.pooled:
            return None
        w = self.view.n_outcomes(size)
        if block.columns is None:
            return np.arange(self.view.n_members(size) * w)
        # Instances lack items: translate the block's own members into those of the whole universe.
        local = block.columns[:, self.view.members(size)]  # (b, members, k)
        if self.view.kind == "position":
            member = local[..., 0]
        else:
            member = combination_index(local, self.m)
        return (member[:, :, None] * self.n_outcomes + np.arange(w)).reshape(len(local), -1)

    def observe(self, forecast: Forecast, ranks: FloatArray) -> FloatArray:
        """One-hot outcomes of each member."""
        index = classify_ranks(self.view, ranks)
        w = self.view.n_outcomes(ranks.shape[-1])
        y = (index[..., None] == np.arange(w)).astype(np.float64)
        y[index < 0] = np.nan
        if self.half_ties:
            first, second = np.triu_indices(ranks.shape[-1], 1)
            y[ranks[..., first] == ranks[..., second]] = 0.5
        flat: FloatArray = y.reshape(*y.shape[:-2], -1)
        flat[np.broadcast_to(np.isnan(forecast.p), flat.shape)] = np.nan
        return flat

    def expected(self, forecast: Forecast, truth: Block) -> tuple[FloatArray, FloatArray]:
        """The truth's probability of the same outcome."""
        p = self.forecast(truth).p
        return p, p


class Confidence(Family):
    """The most probable outcome of each member happens; outcomes that share the largest probability share it.

    For ``full`` and ``sub-k`` of stage-wise models beyond the outcome limit the mode's own probability is used.
    """

    def __init__(self, view: View, m: int, *, pooled: bool, uneven: bool) -> None:
        self.view, self.m = view, m
        self.by_mode = view.kind == "full" and view.n_outcomes(m) > OUTCOME_LIMIT
        if not self.by_mode and view.n_members(m) * view.n_outcomes(m) > 20 * OUTCOME_LIMIT:
            raise UsageError(f"{view.name}:confidence with {m} items needs too many outcomes; ask for a smaller k")
        if uneven and not pooled and view.kind != "full":
            raise UsageError(f"{view.name}:confidence: instances lack items; ask for sub-2 or top-1:confidence")
        self.n_members = 1 if pooled else view.n_members(m)
        self.pooled = pooled
        self.unusable = f"the outcome of {view.name} is not known from what was observed"

    def applies(self, size: int) -> bool:
        """Whether the view has a meaning for ``size`` items."""
        return _meaningful(self.view, size)

    def forecast(self, block: Block) -> Forecast:
        """The largest probability of each member."""
        if self.by_mode or (self.view.kind == "full" and block.dist.n_items > 7):
            mode = block.dist.mode()
            log_p = block.dist.log_prob(mode)[:, None]
            with np.errstate(divide="ignore"):
                return Forecast(np.exp(log_p), log_p, np.log(-np.expm1(log_p)), None, mode.astype(np.float64))
        probs = block.dist.marginal(self.view).probs
        p = np.minimum(probs.max(axis=2), 1.0)
        share = probs == probs.max(axis=2, keepdims=True)
        member = None if self.pooled else np.arange(probs.shape[1])
        with np.errstate(divide="ignore"):
            return Forecast(p, np.log(p), np.log1p(-p), member, share / share.sum(axis=2, keepdims=True))

    def observe(self, forecast: Forecast, ranks: FloatArray) -> FloatArray:
        """Whether the most probable outcome of each member happened."""
        if forecast.guess.ndim == 2:  # (b, m): the mode itself
            ranked = np.take_along_axis(ranks, np.broadcast_to(forecast.guess, ranks.shape).astype(np.intp), axis=-1)
            known = classify_known(self.view, ranks)[..., 0]
            hit = (ranked[..., 1:] > ranked[..., :-1]).all(axis=-1)
            return np.where(known, hit, np.nan)[..., None]
        index = classify_ranks(self.view, ranks)
        share = np.broadcast_to(forecast.guess, (*index.shape, forecast.guess.shape[-1]))
        y = np.take_along_axis(share, np.maximum(index, 0)[..., None], axis=-1)[..., 0].astype(np.float64)
        y[index < 0] = np.nan
        return y

    def expected(self, forecast: Forecast, truth: Block) -> tuple[FloatArray, FloatArray]:
        """The truth's probability of what was forecast to be most probable."""
        if forecast.guess.ndim == 2:
            p = np.exp(truth.dist.log_prob(forecast.guess.astype(np.intp)))[:, None]
            return p, p
        probs = truth.dist.marginal(self.view).probs
        return (probs * forecast.guess).sum(axis=2), (probs * forecast.guess**2).sum(axis=2)


def _meaningful(view: View, size: int) -> bool:
    least = {"sub": view.k, "top": view.k, "topset": view.k + 1}.get(view.kind, 2)
    return size >= max(least, 2)


def classify_known(view: View, ranks: FloatArray) -> BoolArray:
    """Whether the outcome of each member follows from (bucket) ranks, (..., members)."""
    m = ranks.shape[-1]
    if view.kind == "sub":
        within = np.sort(ranks[..., view.members(m)], axis=-1)
        return np.asarray((within[..., 1:] > within[..., :-1]).all(axis=-1))
    ordered = np.sort(ranks, axis=-1)
    complete = ~np.isnan(ordered[..., -1:])
    strict = ordered[..., 1:] > ordered[..., :-1]
    known: BoolArray
    match view.kind:
        case "full":
            known = np.asarray(strict.all(axis=-1, keepdims=True))
        case "top":
            known = np.asarray(strict[..., : view.k].all(axis=-1, keepdims=True))
        case "topset":
            known = strict[..., view.k - 1 : view.k]
        case _:
            known = (ranks[..., :, None] == ranks[..., None, :]).sum(axis=-1) == 1
    return np.asarray(known & complete)


def classify_ranks(view: View, ranks: FloatArray) -> IntArray:
    """Outcome index of each member from (bucket) ranks, (..., members); -1 where it is not known."""
    m = ranks.shape[-1]
    if view.kind == "sub":
        order = np.argsort(ranks[..., view.members(m)], axis=-1)
        index = permutation_index(order, view.k)
    else:
        index = view.classify(np.argsort(ranks, axis=-1, kind="stable"))
    return np.where(classify_known(view, ranks), index, -1)
