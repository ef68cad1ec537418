"""Make the pictures of docs/estimators.md: seeded simulations, and the numbers that its text quotes."""

from __future__ import annotations

import sys
from typing import Any

import matplotlib
import numpy as np
from make_gallery import save

import prefcal as pc
from prefcal.estimators.cumulative import cumulative_error
from prefcal.estimators.detectable import detectable
from prefcal.estimators.events import Pairs, TopChoice
from prefcal.estimators.points import Points
from prefcal.estimators.residuals import Events, gather
from prefcal.estimators.scalar import fill_tables
from prefcal.estimators.smooth import smooth_ece
from prefcal.studies.reward_models.measures import scalar_errors

TOP = "top-1:confidence"
#: 97.5 % quantile of the largest distance from 0 of Brownian motion on [0, 1] (both signs).
LEAVES = 2.241


def drawn(n: int, seed: int, *, m: int = 4, over: float = 1.0) -> tuple[pc.PlackettLuce, pc.Outcomes]:
    """Forecasts ``over`` times too sure about n rankings of m items with standard normal log-utilities."""
    rng = np.random.default_rng([seed, n])
    truth = pc.PlackettLuce(rng.normal(size=(n, m)))
    return truth.scaled(over), pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])


def pairs(p: np.ndarray, q: np.ndarray, seed: int) -> tuple[pc.PlackettLuce, pc.Outcomes]:
    """Pairs whose first item is said to be better with probability ``p``, and is with probability ``q``."""
    worse = np.random.default_rng([seed, 1]).random(len(q)) > q
    return pc.PlackettLuce(np.stack([np.log(p / (1 - p)), np.zeros(len(p))], 1)), pc.Outcomes.from_best(
        worse.astype(np.intp), n_items=2
    )


def events(h: pc.PlackettLuce, y: pc.Outcomes, family: Any) -> Events:
    """The events of a notion in memory."""
    return gather(h, y, family, np.ones(len(y)), False, None)


def top_points(h: pc.PlackettLuce, y: pc.Outcomes) -> Points:
    """Events of top-1:confidence, by forecast."""
    e = events(h, y, TopChoice())
    return Points.of(e.p, e.y)


def say(*parts: Any) -> None:
    """A line of numbers that the text quotes."""
    print("  ", *(f"{x:.3f}" if isinstance(x, float) else x for x in parts))


def null() -> None:
    """Raw and debiased ECE against n: a calibrated model, and one that is a quarter too sure."""
    sizes, runs = (50, 100, 200, 500, 1000, 2000, 5000), 60
    found = {}
    for over in (1.0, 1.25):
        errors = [[scalar_errors(*drawn(n, s, over=over), (TOP,))[TOP] for s in range(runs)] for n in sizes]
        found[over] = np.array([[(e.value, e.debiased) for e in row] for row in errors])
        for n, row in zip(sizes, found[over].mean(axis=1), strict=True):
            say(f"{over:g} times as sure, n = {n}: plain and debiased", float(row[0]), float(row[1]))
    truth = {1.0: 0.0, 1.25: scalar_errors(*drawn(400_000, 0, over=1.25), (TOP,))[TOP].value}
    say("population", truth[1.25])

    def draw(figure: Any, c: dict[str, str]) -> None:
        for axes, over, title in zip(
            figure.subplots(1, 2, sharey=True),
            found,
            ("A calibrated model", "A model 1.25 times too sure"),
            strict=True,
        ):
            for column, colour, name in ((0, c["bad"], "ECE as printed"), (1, c["good"], "debiased")):
                low, middle, high = np.quantile(found[over][:, :, column], [0.025, 0.5, 0.975], axis=1)
                axes.fill_between(sizes, low, high, color=colour, alpha=0.18, lw=0)
                axes.plot(sizes, middle, color=colour, lw=1.5, label=name)
            axes.axhline(truth[over], color=c["text"], lw=0.9, ls=":", label="in the population")
            axes.set(xscale="log", xlabel="instances")
            axes.set_title(title, loc="left")
            axes.set_xticks([50, 200, 1000, 5000], ["50", "200", "1,000", "5,000"])
            axes.minorticks_off()
        figure.axes[0].set_ylabel("top-1:confidence error")
        figure.axes[0].legend(frameon=False, labelcolor=c["text"])

    save("estimators-null", draw, (7.8, 2.9))


def where() -> None:
    """Reliability curve with null band, and the isotonic curve with its band, of one over-confident model."""
    h, y = drawn(1000, 2, over=1.8)
    r = pc.audit(h, y, items="exchangeable", notions=["sub-2"])["sub-2"]
    e = events(h, y, Pairs(ties_equal=False))
    curve = pc.isotonic_curve(e.p, e.y, clusters=e.unit)
    at = np.unique(np.searchsorted(curve.p, np.linspace(curve.p[0], curve.p[-1], 300)))
    say("debiased", r.debiased, r.interval)

    def draw(figure: Any, c: dict[str, str]) -> None:
        left, right = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes in (left, right):
            axes.plot([0.5, 1], [0.5, 1], color=c["muted"], lw=0.8)
            axes.set(xlabel="the model says", xlim=(0.49, 1.01), ylim=(0.4, 1.02))
        x = [p.mean_forecast for p in r.curve]
        left.fill_between(
            x, [p.null_band[0] for p in r.curve], [p.null_band[1] for p in r.curve], color=c["muted"], alpha=0.3, lw=0
        )
        for p in r.curve:
            left.plot([p.mean_forecast] * 2, p.interval, color=c["bad"], lw=1.2)
        left.plot(x, [p.mean_outcome for p in r.curve], "o", color=c["bad"], ms=4.5)
        left.set_ylabel("it happens")
        left.set_title("Bins: grey = where calibrated points fall", loc="left")
        right.fill_between(curve.p[at], curve.low[at], curve.high[at], color=c["good"], alpha=0.25, lw=0)
        right.plot(curve.p[at], curve.recalibrated[at], color=c["good"], lw=1.5)
        right.set_title("Isotonic: the recalibrated probability", loc="left")

    save("estimators-where", draw, (7.8, 3.1))


def smooth() -> None:
    """ECE of calibrated models against the number of bins, beside the smooth error; and the cumulative path."""
    bins, runs = (2, 4, 6, 8, 10, 15, 20, 30, 40, 60, 80, 100), 60
    data = [drawn(1000, s) for s in range(runs)]
    errors = [[scalar_errors(h, y, (TOP,), bins=b)[TOP] for h, y in data] for b in bins]
    plain, debiased = (np.array([[getattr(e, k) for e in row] for row in errors]) for k in ("value", "debiased"))
    level = float(np.mean([smooth_ece(top_points(h, y)).value for h, y in data]))
    say("smooth ECE, mean of calibrated data sets", level)
    for b in (10, 15, 100):
        say(f"{b} bins: plain, debiased", *(float(x[bins.index(b)].mean()) for x in (plain, debiased)))
    paths = {}
    for name, over in (("calibrated", 1.0), ("1.6 times too sure", 1.6)):
        points = top_points(*drawn(1000, 3, over=over))
        path = np.concatenate([[0.0], np.cumsum(points.w * (points.y - points.p)) / points.weight])
        total = cumulative_error(points)
        paths[name] = np.arange(len(path)) / (len(path) - 1), path, total.scale
        say(name, "ECCE-R", total.range, "p", total.p_range)

    def draw(figure: Any, c: dict[str, str]) -> None:
        left, right = figure.subplots(1, 2)
        left.plot(bins, plain.mean(axis=1), "o-", color=c["bad"], ms=3, lw=1.2, label="ECE as printed")
        left.plot(bins, debiased.mean(axis=1), "o-", color=c["good"], ms=3, lw=1.2, label="debiased")
        left.axhline(level, color=c["third"], lw=1.4, label="smooth ECE as printed")
        left.set(xlabel="number of bins", ylabel="mean error", ylim=(-0.01, None))
        left.set_title("Calibrated models, 1,000 instances", loc="left")
        left.legend(frameon=False, labelcolor=c["text"], fontsize=7.5)
        for (name, (share, path, scale)), colour in zip(paths.items(), (c["good"], c["bad"]), strict=True):
            keep = np.unique(np.linspace(0, len(path) - 1, 250).astype(int))
            right.plot(share[keep], path[keep], color=colour, lw=1.2, label=name)
            if name == "calibrated":
                right.fill_between([0, 1], -LEAVES * scale, LEAVES * scale, color=c["muted"], alpha=0.25, lw=0)
        right.set(xlabel="share of events, by forecast", ylabel="sum of y − p so far, over n")
        right.set_title("Cumulative: the path and its 95 % band", loc="left")
        right.legend(frameon=False, labelcolor=c["text"], fontsize=7.5)

    save("estimators-smooth", draw, (7.8, 3.1))


def local() -> None:
    """A model that is wrong in one place only."""
    rng = np.random.default_rng(4)
    p = rng.uniform(0.5, 0.999, 4000)
    q = np.where((p > 0.65) & (p < 0.7), p - 0.2, p)
    r = pc.audit(*pairs(p, q, 4), items="exchangeable", notions=["sub-2"], bins=30)["sub-2"]
    say("ECE, 30 bins: debiased", r.debiased, r.interval, "verdict", r.verdict)
    for name in ("smece", "mce"):
        m = r.metrics[name]
        say(name, m.value, "null mean", m.null_mean, "debiased", m.debiased, m.interval, "p", m.p_value)

    def draw(figure: Any, c: dict[str, str]) -> None:
        axes = figure.subplots()
        axes.axhline(0, color=c["muted"], lw=0.8)
        x = [point.mean_forecast for point in r.curve]
        band = [[b - point.mean_forecast for b in point.null_band] for point in r.curve]
        axes.fill_between(x, [b[0] for b in band], [b[1] for b in band], color=c["muted"], alpha=0.3, lw=0)
        for point in r.curve:
            inside = point.null_band[0] <= point.mean_outcome <= point.null_band[1]
            gap, colour = point.mean_outcome - point.mean_forecast, c["good"] if inside else c["bad"]
            axes.plot([point.mean_forecast] * 2, [0, gap], color=colour, lw=1.4)
            axes.plot(point.mean_forecast, gap, "o", color=colour, ms=4.5)
        axes.set(xlabel="the model says", ylabel="happens − says")
        axes.set_title("4,000 pairs; wrong by 20 points between 65 % and 70 % only", loc="left")

    save("estimators-local", draw, (7.8, 2.4))


def parts() -> None:
    """Miscalibration and discrimination of four models that rank the same pairs alike."""
    q = np.random.default_rng(5).uniform(0.5, 0.999, 4000)
    twice = q**2 / (q**2 + (1 - q) ** 2)
    models = {
        "honest and informed": q,
        "informed, twice too sure": twice,
        "always says 75 %": np.full(len(q), float(q.mean())),
        "always says 90 %": np.full(len(q), 0.9),
    }
    found = {}
    for name, p in models.items():
        r = pc.audit(*pairs(p, q, 5), items="exchangeable", notions=["sub-2"])["sub-2"]
        found[name] = r
        say(name, r.verdict, "debiased", r.debiased, "temperature", r.metrics["temperature"].value,
            "left", r.metrics["ece_at_temperature"].value)  # fmt: skip
        for part in ("mcb_brier", "dsc_brier", "unc_brier"):
            say("  ", part, r.metrics[part].value, r.metrics[part].interval)

    def draw(figure: Any, c: dict[str, str]) -> None:
        axes = figure.subplots()
        named = (("mcb_brier", "bad", "MCB: what recalibrating gains"), ("dsc_brier", "good", "DSC: what it knows"))
        for place, r in enumerate(found.values()):
            for (part, colour, label), shift in zip(named, (-0.19, 0.19), strict=True):
                m = r.metrics[part]
                axes.barh(place + shift, m.value, 0.34, color=c[colour], label=label if place == 0 else None)
                axes.plot(m.interval, [place + shift] * 2, color=c["text"], lw=1.2)
        axes.set_yticks(range(len(found)), [f"{name}\n({r.verdict})" for name, r in found.items()])
        axes.invert_yaxis()
        axes.set(xlabel="part of the Brier score, with 95 % interval")
        axes.legend(frameon=False, labelcolor=c["text"], loc=(0.6, 0.24))

    save("estimators-parts", draw, (7.8, 2.9))


def rankings() -> None:
    """Coverage of highest-probability regions, and a rank histogram; the kernel test on a counterexample."""
    cover = {}
    for name, over in (("calibrated", 1.0), ("twice too sure", 2.0), ("half as sure", 0.5)):
        h, y = drawn(1000, 6, m=5, over=over)
        cover[name] = pc.hpd_coverage(h, y)
        say("HPD", name, "KS", cover[name].ks, "p", cover[name].ks_p_value)
    h, y = drawn(1000, 6, m=5, over=2.0)
    shape = pc.rank_histogram(h, y, items="exchangeable")
    say("rank histogram, first choice: p", float(shape.p_adjusted[0]), shape.counts[0].tolist())
    rng = np.random.default_rng(6)
    orders = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    stated = pc.Categorical(orders, np.tile([1 / 3, *[1 / 12] * 4, 1 / 3], (2000, 1)))
    seen = pc.Outcomes.from_orders(orders[rng.integers(6, size=2000)])
    audit = pc.audit(stated, seen, notions=["sub-2", "full:canonical"])
    for r in audit.results:
        say("counterexample", r.notion, r.estimator, r.value, "p", r.p_value, r.verdict)
    say("counterexample, HPD: p", pc.hpd_coverage(stated, seen).ks_p_value)

    def draw(figure: Any, c: dict[str, str]) -> None:
        left, right = figure.subplots(1, 2)
        nominal = [p.nominal for p in cover["calibrated"].curve]
        band = [p.null_band for p in cover["calibrated"].curve]
        left.fill_between(nominal, [b[0] for b in band], [b[1] for b in band], color=c["muted"], alpha=0.35, lw=0)
        for (name, found), colour in zip(cover.items(), (c["good"], c["bad"], c["third"]), strict=True):
            left.plot(nominal, [p.observed for p in found.curve], "o-", color=colour, ms=2.5, lw=1.2, label=name)
        left.set(xlabel="mass of the model's likeliest rankings", ylabel="outcomes among them")
        left.set_title("HPD coverage, full rankings of 5", loc="left")
        left.legend(frameon=False, labelcolor=c["text"], fontsize=7.5)
        bins = len(shape.counts[0])
        right.axhspan(*shape.null_band[0], color=c["muted"], alpha=0.35, lw=0)
        right.bar((np.arange(bins) + 0.5) / bins, shape.counts[0], 0.9 / bins, color=c["bad"])
        right.set(xlabel="place reached, on the scale of its forecast", ylabel="instances")
        right.set_title("Rank histogram: first choices, twice too sure", loc="left")

    save("estimators-rankings", draw, (7.8, 3.0))


def sizes() -> None:
    """What temperature error a data set could have shown, and the power to see one."""
    numbers = (100, 200, 500, 1000, 2000)
    found: dict[str, list[tuple[float, float]]] = {}
    for name, family in (("sub-2", Pairs(ties_equal=False)), (TOP, TopChoice())):
        for n in numbers:
            h, y = drawn(n, 7)
            shared: dict[str, Any] = {"weights": np.ones(n), "clusters": None}
            (t,) = fill_tables(h, y, [family], bins=15, groupings=(), per_instance=False, seed=0, **shared)
            least = detectable(h, y, family, t.overall, **shared)
            pair = tuple(least[f"detectable_temperature_{side}"].value for side in ("below", "above"))
            found.setdefault(name, []).append((pair[0], pair[1]))
            say(name, n, *pair, "as ECE", least["detectable_ece_above"].value)
    plans = {notion: pc.power(numbers, notion=notion, temperature=1.25) for notion in ("sub-2", TOP)}
    for notion, plan in plans.items():
        say(notion, "n for 80 % at temperature 1.25:", plan.n.value, plan.n.interval)

    def draw(figure: Any, c: dict[str, str]) -> None:
        left, right = figure.subplots(1, 2)
        for (name, rows), colour in zip(found.items(), (c["good"], c["third"]), strict=True):
            for side in (0, 1):
                label = name if side else None
                left.plot(numbers, [row[side] for row in rows], "o-", color=colour, ms=3, lw=1.3, label=label)
            points = plans[name].points
            right.plot([p.n for p in points], [p.power.value for p in points], "o-", color=colour, ms=3, label=name)
        left.axhline(1, color=c["muted"], lw=0.8)
        left.annotate("not seen reliably in between", (150, 1.02), color=c["muted"], fontsize=7.5)
        right.axhline(0.8, color=c["muted"], lw=0.8, ls=":")
        left.set(ylabel="detectable temperature")
        right.set(ylabel="power", ylim=(0, 1.03))
        left.set_title("What 80 % of data sets would show", loc="left")
        right.set_title("Power at temperature 1.25", loc="left")
        for axes in (left, right):
            axes.set(xscale="log", xlabel="instances (4 items, full rankings)")
            axes.set_xticks(numbers, [f"{n:,}" for n in numbers])
            axes.minorticks_off()
            axes.legend(frameon=False, labelcolor=c["text"])

    save("estimators-sizes", draw, (7.8, 2.9))


def groups() -> None:
    """Twenty groups of a calibrated model: the worst by luck, and after partial pooling."""
    h, y = drawn(2000, 8)
    field = np.arange(2000) % 20
    worst = pc.worst_group(h, y, {"topic": field}, notion=TOP, items="exchangeable", splits=20, permutations=199)
    raw = sorted(worst.groups, key=lambda g: -g.error)
    say("largest debiased error", raw[0].error, raw[0].interval, "p", raw[0].p_value, "adjusted", raw[0].p_adjusted)
    first = worst.worst
    say("largest shrunken error", first.shrunken, first.shrunken_interval, "held out", worst.held_out.error,
        worst.held_out.interval, "p_larger", worst.p_larger)  # fmt: skip

    def draw(figure: Any, c: dict[str, str]) -> None:
        axes = figure.subplots()
        for place, g in enumerate(raw):
            axes.plot([place - 0.15] * 2, g.interval, color=c["bad"], lw=1.2)
            axes.plot([place + 0.15] * 2, g.shrunken_interval, color=c["good"], lw=1.2)
            axes.plot(place - 0.15, g.error, "o", color=c["bad"], ms=4, label=None if place else "debiased, alone")
            axes.plot(
                place + 0.15, g.shrunken, "o", color=c["good"], ms=4, label=None if place else "partially pooled"
            )
        axes.axhline(0, color=c["muted"], lw=0.8)
        axes.set(ylabel="top-1:confidence error", xlabel="20 groups of 100 instances, by debiased error", xticks=[])
        axes.set_title("A calibrated model, split into groups that mean nothing", loc="left")
        axes.legend(frameon=False, labelcolor=c["text"])

    save("estimators-groups", draw, (7.8, 2.7))


def versus() -> None:
    """Two models on the same instances: each interval, and that of the paired difference."""
    rng = np.random.default_rng(9)
    truth = rng.normal(size=(600, 4))
    y = pc.Outcomes.from_orders(pc.PlackettLuce(truth).sample(1, rng)[:, 0])
    models = {"a": pc.PlackettLuce(truth), "b": pc.PlackettLuce(1.25 * truth + 0.25 * rng.normal(size=truth.shape))}
    found = pc.compare(models, y, notions=["sub-2"], items="exchangeable")
    single = {s.model: s for s in found.standings if s.estimator == "log_loss"}
    pair = found.select("sub-2", "log_loss", "b", "a")
    for name, s in single.items():
        say(name, "log loss", s.value, s.interval)
    say("b minus a", pair.difference, pair.interval, "p", pair.p_value)

    def draw(figure: Any, c: dict[str, str]) -> None:
        left, right = figure.subplots(1, 2)
        for place, (name, s) in enumerate(sorted(single.items())):
            left.plot(s.interval, [place] * 2, color=c["third"], lw=1.6)
            left.plot(s.value, place, "o", color=c["third"], ms=5)
            left.annotate(f"model {name}", (s.interval[1], place), xytext=(5, -3), textcoords="offset points",
                          color=c["text"], fontsize=8)  # fmt: skip
        left.set(yticks=[], xlabel="log loss, nats", ylim=(-0.6, 1.6), xlim=(None, single["b"].interval[1] + 0.012))
        left.set_title("Each alone: the intervals overlap", loc="left")
        right.axvline(0, color=c["muted"], lw=0.8)
        right.plot(pair.interval, [0, 0], color=c["good"], lw=1.6)
        right.plot(pair.difference, 0, "o", color=c["good"], ms=5)
        right.set(yticks=[], xlabel="log loss of b minus a, same instances", ylim=(-1, 1))
        right.set_title("Paired: the difference is clear", loc="left")

    save("estimators-versus", draw, (7.8, 1.8))


PICTURES = {
    f.__name__: f for f in (null, where, smooth, local, parts, rankings, sizes, groups, versus)
}  # fmt: skip

if __name__ == "__main__":
    matplotlib.use("svg")
    for picture in sys.argv[1:] or PICTURES:
        PICTURES[picture]()
