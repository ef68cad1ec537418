"""What a search for the worst group found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefcal.auditing import ALPHA
from prefcal.result import Interval, plain


@dataclass(frozen=True, slots=True)
class GroupError:
    """Calibration error of one group (or conjunction).

    Parameters
    ----------
    group
        Field -> value; empty for all instances.
    gap
        Mean of what happened minus mean forecast: negative = over-confident. None where events of several members
        are averaged (it is 0 by construction).
    error, interval, p_value
        Debiased error with its 95 % interval, and the test of calibration in this group alone (normal law,
        cluster-robust).
    p_adjusted
        Over all groups looked at.
    shrunken, shrunken_interval
        Partial pooling: posterior mean and 95 % posterior interval, see ``prefcal.estimators.shrinkage.pool``.
    probability_worst
        Posterior probability that no other group looked at has a larger error.
    """

    group: dict[str, Any]
    n_instances: int
    n_events: int
    gap: float | None
    error: float
    interval: Interval
    p_value: float
    p_adjusted: float
    shrunken: float
    shrunken_interval: Interval
    probability_worst: float


@dataclass(frozen=True, slots=True)
class Pooling:
    """How much the groups of one field (or of a pair) differ: mean and standard deviation of their true errors.

    Posterior mean of the mean, posterior median and 95 % interval of the standard deviation over these groups.
    """

    fields: tuple[str, ...]
    n_groups: int
    mean: float
    spread: float
    spread_interval: Interval


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The worst group chosen on one half of the data and measured on the other, over many random halves.

    Parameters
    ----------
    error, interval
        Median over the splits of the debiased error in the other half; the interval holds the error of what the
        search finds in half the data with at least 95 % (medians of 97.5 % intervals).
    p_value
        That what is found is calibrated all the same: twice the median over splits, at most 1.
    agreement
        Share of the splits that chose the group named in the result.
    splits
        Number of splits.
    """

    error: float
    interval: Interval
    p_value: float
    agreement: float
    splits: int


@dataclass(frozen=True, slots=True)
class Worst:
    """What :func:`worst_group` or :func:`worst_conjunction` found.

    Parameters
    ----------
    groups
        All groups looked at, the largest shrunken error first; the first is the finding.
    overall
        All instances together (not shrunken: ``shrunken`` repeats ``error``).
    pools
        One for each field, or pair of fields.
    held_out
        The finding without the luck of having been looked for.
    p_larger
        Permutation test over the whole search: could a worst group like this come about if the fields had nothing to
        do with the errors? NaN where a field varies within a cluster: permuting would not be valid;
        ``settings["varies_within_clusters"]`` then names the fields.
    n_small
        Groups left out because they have fewer than ``settings["min_instances"]`` instances.
    n_nested
        Conjunctions left out because one of the two values alone makes the same group.
    """

    model: str
    notion: str
    items: str
    fields: tuple[str, ...]
    conjunctions: bool
    groups: tuple[GroupError, ...]
    overall: GroupError
    pools: tuple[Pooling, ...]
    held_out: HeldOut
    p_larger: float
    n_small: int
    n_nested: int
    settings: dict[str, Any]

    @property
    def worst(self) -> GroupError:
        """The group with the largest shrunken error."""
        return self.groups[0]

    @property
    def may_be_worst(self) -> tuple[GroupError, ...]:
        """The fewest groups that hold the truly worst one with posterior probability 95 %."""
        ordered = sorted(self.groups, key=lambda g: -g.probability_worst)
        out, total = [], 0.0
        for g in ordered:
            out.append(g)
            total += g.probability_worst
            if total >= 1 - ALPHA:
                break
        return tuple(out)

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found: dict[str, Any] = plain(self)
        found["may_be_worst"] = [g.group for g in self.may_be_worst]
        return found
