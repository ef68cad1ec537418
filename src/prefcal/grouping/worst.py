"""Where is the model worst? Groups of fields, and conjunctions of two, with the search accounted for."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.distributions.base import Distribution
from prefcal.errors import DataError, UsageError, require_whole
from prefcal.estimators.events import Items, family_for, kind_of_items
from prefcal.estimators.families import METHODS, Adjust
from prefcal.estimators.inputs import aligned, groupings
from prefcal.estimators.null import NORMAL_NULL
from prefcal.estimators.units import unit_sums
from prefcal.grouping.found import Worst
from prefcal.grouping.partitions import Partition, varies
from prefcal.grouping.search import Search
from prefcal.notions.notion import Notion

MIN_INSTANCES = 30


def worst_group(
    h: Distribution,
    y: Outcomes,
    fields: Any,
    *,
    notion: str | Notion = "sub-2",
    items: Items | None = None,
    weights: Any = None,
    clusters: Any = None,
    bins: int = 15,
    min_instances: int = MIN_INSTANCES,
    adjust: Adjust = "holm",
    splits: int = 50,
    permutations: int = 499,
    seed: int = 0,
    model: str = "model",
) -> Worst:
    """Find the group of instances in which the model is worst calibrated.

    The largest of many noisy errors is large by luck. So errors are drawn towards their mean as far as their noise
    warrants (partial pooling, one pool a field), the group with the largest *shrunken* error is named, with the
    probability that it is the worst and the other groups that may be; its error is measured on data that did not
    choose it; and a permutation test says whether the fields matter at all.

    Parameters
    ----------
    h, y, items, weights, clusters, bins
        As in :func:`prefcal.audit`; instances of one cluster stay together in splits and permutations.
    fields
        As ``groups`` in :func:`prefcal.audit`: mapping or frame of field -> values, names of derived groups
        (``["@spread", "@candidates"]``), callables.
    notion
        One scalar notion.
    min_instances
        Smaller groups are left out (and counted); at least 10.
    adjust
        How ``p_adjusted`` accounts for the number of groups.
    splits
        Random halves for :class:`HeldOut`, at least 10.
    permutations
        For ``p_larger``, at least 99.
    seed
        Of everything random.
    model
        Name shown in results.

    Returns
    -------
    Worst

    Raises
    ------
    DataError
        Inputs that do not fit together; fewer than two groups that are large enough.
    UsageError
        Vector notions, unknown names, settings out of range.

    Notes
    -----
    Pooling is done in units of an instance's standard deviation (a group's standard error times the root of its
    number of instances), since groups of sure forecasts have small errors and small noise at once. It treats groups
    as independent (within a field they are, unless a cluster spans several) and their debiased errors as normal.
    Median aggregation of split intervals and p-values: Meinshausen, Meier & Buehlmann 2009; Chernozhukov, Demirer,
    Duflo & Fernandez-Val 2018. The p-values of groups need only the notion; the permutation test is exact where
    forecasts and outcomes do not depend on the fields. Cost: O(n * B * permutations * fields), about 15 seconds for
    50,000 instances and two fields.

    Examples
    --------
    >>> import prefcal as pc
    >>> rng = np.random.default_rng(0)
    >>> subset = rng.choice(["chat", "code", "math"], 1500)
    >>> truth = pc.PlackettLuce(rng.normal(size=(1500, 4)))
    >>> y = pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])
    >>> said = truth.scores.dense() * np.where(subset == "math", 3.0, 1.0)[:, None]  # over-confident there
    >>> found = pc.worst_group(pc.PlackettLuce(said), y, {"subset": subset}, items="exchangeable")
    >>> found.worst.group, found.worst.probability_worst > 0.99, found.p_larger
    ({'subset': 'math'}, True, 0.002)
    """
    return _worst(
        h, y, fields, False, notion, items, weights, clusters, bins, min_instances, adjust, splits, permutations,
        seed, model,
    )  # fmt: skip


def worst_conjunction(
    h: Distribution,
    y: Outcomes,
    fields: Any,
    *,
    notion: str | Notion = "sub-2",
    items: Items | None = None,
    weights: Any = None,
    clusters: Any = None,
    bins: int = 15,
    min_instances: int = MIN_INSTANCES,
    adjust: Adjust = "holm",
    splits: int = 50,
    permutations: int = 499,
    seed: int = 0,
    model: str = "model",
) -> Worst:
    """Find the conjunction of two fields' values in which the model is worst calibrated.

    All combinations of values of all pairs of ``fields`` (two at least) that have ``min_instances`` instances are
    looked at, except those that are a whole group of one field; parameters, result and method are those of
    :func:`worst_group`, with one pool a pair of fields.

    Examples
    --------
    >>> import prefcal as pc
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.choice(["x", "y", "z"], (2, 3000))
    >>> truth = pc.PlackettLuce(rng.normal(size=(3000, 4)))
    >>> y = pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])
    >>> said = truth.scores.dense() * np.where((a == "x") & (b == "z"), 3.0, 1.0)[:, None]
    >>> found = pc.worst_conjunction(pc.PlackettLuce(said), y, {"a": a, "b": b}, items="exchangeable")
    >>> found.worst.group, found.held_out.p_value < 0.01
    ({'a': 'x', 'b': 'z'}, True)
    """
    return _worst(
        h, y, fields, True, notion, items, weights, clusters, bins, min_instances, adjust, splits, permutations,
        seed, model,
    )  # fmt: skip


def _worst(
    h: Distribution, y: Outcomes, fields: Any, conjunctions: bool, notion: str | Notion, items: Items | None,
    weights: Any, clusters: Any, bins: int, min_instances: int, adjust: Adjust, splits: int, permutations: int,
    seed: int, model: str,
) -> Worst:  # fmt: skip
    name, notion = notion if isinstance(notion, str) else notion.name, Notion.parse(notion)
    least = {"bins": 1, "min_instances": 10, "splits": 10, "permutations": 99, "seed": 0}
    given = {
        "bins": bins, "min_instances": min_instances, "splits": splits, "permutations": permutations, "seed": seed,
    }  # fmt: skip
    for what, number in given.items():
        require_whole(what, number, least[what])
    if adjust not in METHODS:
        raise UsageError.unknown("adjustment", str(adjust), METHODS)
    if not notion.is_scalar(h.n_items):
        raise UsageError(f"{notion.name} is a vector notion: groups are searched in scalar notions")
    h, weight, per_instance, units = aligned(h, y, weights, clusters)
    kind = kind_of_items(items, h)
    family = family_for(notion, kind, h, ties_equal=y.ties == "equal")
    singles = groupings(fields, y, h)
    if len(singles) < 1 + conjunctions:
        raise UsageError(
            f"a search needs at least {'two fields' if conjunctions else 'one field'}, got {len(singles)}"
        )
    sums = unit_sums(h, y, family, weights=weight, per_instance=per_instance, units=units, bins=bins)
    used = sums.n_events > 0
    if not used.any():
        raise DataError(f"{name}: no instance has a usable event: {family.unusable}")
    parts = [Partition.single(g) for g in singles]
    if conjunctions:
        parts = [Partition.crossed(a, b) for a, b in combinations(singles, 2)]
    candidates, n_small, n_nested = [], 0, 0
    for part in parts:
        kept, small, nested = part.eligible(used, min_instances)
        n_small, n_nested = n_small + small, n_nested + nested
        candidates += [kept] if kept.levels else []
    n_groups = sum(len(c.levels) for c in candidates)
    if n_groups < 2:
        what = "conjunctions" if conjunctions else "groups"
        raise DataError(f"{name}: {n_groups} {what} with {min_instances} usable instances; a search needs two")
    search = Search(sums, candidates, seed)
    groups, pools = search.groups(adjust)
    worst = max(range(n_groups), key=lambda i: groups[i].shrunken)
    held_out = search.held_out(worst, splits)
    p_larger = search.p_larger(worst, permutations)
    varying = []
    if math.isnan(p_larger):
        varying = [g.field for g in singles if sums.units is not None and varies(g.codes[used], sums.units[used])]
    everything, _ = search.judge(np.arange(len(y)), {}, np.random.default_rng([seed, 8, 0]))
    settings = {
        "bins": bins, "min_instances": min_instances, "seed": seed, "adjust": adjust, "splits": splits,
        "permutations": permutations, "weights": "instance" if per_instance else "event",
        "interval": "of the binned error, by instance", "pooling": "normal, in units of an instance's deviation",
        "null": NORMAL_NULL, "varies_within_clusters": varying,
    }  # fmt: skip
    return Worst(
        model=model, notion=name, items=kind, fields=tuple(g.field for g in singles), conjunctions=conjunctions,
        groups=tuple(sorted(groups, key=lambda g: -g.shrunken)), overall=everything, pools=tuple(pools),
        held_out=held_out, p_larger=p_larger, n_small=n_small, n_nested=n_nested, settings=settings,
    )  # fmt: skip
