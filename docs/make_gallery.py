"""Make the pictures of docs/gallery: seeded, small, each once for a light and once for a dark page."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from prefcal.decisions.rlhf import Simulation, simulate
from prefcal.decisions.worlds import World, distorted, noisy, scaled, trained_on_flipped

FOLDER = Path(__file__).with_name("gallery")
SCHEMES = {
    "light": {"page": "#fcfbf9", "text": "#1c2128", "muted": "#59616b", "line": "#d9d5cd", "bad": "#b13c06",
              "good": "#0a6aa6", "third": "#7d5d00"},
    "dark": {"page": "#15181d", "text": "#e9e7e2", "muted": "#a5adb7", "line": "#363c45", "bad": "#ff9460",
             "good": "#63b3e8", "third": "#e5bd4a"},
}  # fmt: skip
Picture = Callable[[Any, dict[str, str]], None]

#: The KL weight of the dots, and how a temperature is fitted.
BETA, PAIRS, REPEATS = 0.3, 500, 40
BETAS = tuple(float(b) for b in np.geomspace(0.03, 10, 15))


def world() -> tuple[World, dict[str, Any], Any]:
    """The world of all RLHF pictures, its reward models, and the groups of prompts with little and much noise."""
    w = World.random(prompts=200, answers=32, seed=0)
    much = np.arange(200) % 2
    models = {
        "four times too sure": scaled(w, 4.0),
        "four times too unsure": scaled(w, 0.25),
        "20 % of labels flipped": trained_on_flipped(w, 0.2),
        "bent up (power 2)": distorted(w, 2.0),
        "bent down (power 1/2)": distorted(w, 0.5),
        "noise": noisy(w, 1.0, seed=1),
        "heavy-tailed noise": noisy(w, 1.0, seed=1, degrees=2.0),
        "noise in half of the prompts": noisy(w, np.where(much, 2.0, 0.2)[:, None], seed=1),
    }
    return w, models, much


def kinds() -> Simulation:
    """All reward models at one KL weight."""
    w, models, much = world()
    return simulate(w, models, betas=[BETA], pairs=PAIRS, repeats=REPEATS, groups=much, seed=0)


def frontier() -> Simulation:
    """Scaled and noisy rewards over all KL weights."""
    w, models, _ = world()
    names = ("four times too sure", "four times too unsure", "noise")
    return simulate(w, {"true": w.reward} | {n: models[n] for n in names}, betas=(*BETAS, BETA), pairs=None)


def draw_frontier(found: Simulation) -> Picture:
    """True gain against KL; claimed and true gain against the KL weight."""

    def draw(figure: Any, c: dict[str, str]) -> None:
        left, right = figure.subplots(1, 2)
        last = -1  # the extra point at BETA

        def path(model: str, use: str, number: str) -> np.ndarray:
            return np.array([getattr(p, number).value for p in found.curve(model, use).points])

        for model, colour, name in (("true", c["text"], "right ranking"), ("noise", c["third"], "noisy ranking")):
            left.plot(path(model, "raw", "kl")[:last], path(model, "raw", "true_gain")[:last], color=colour, lw=1.2)
            x, y = path(model, "raw", "kl")[0], path(model, "raw", "true_gain")[0]
            left.annotate(name, (x, y), xytext=(5, -3), textcoords="offset points", color=colour, fontsize=7.5)
        marks = (
            ("four times too sure", "raw", "s", c["bad"], "4 times too sure", (-64, 7)),
            ("four times too unsure", "raw", "s", c["bad"], "4 times too unsure", (10, -24)),
            ("true", "raw", "o", c["good"], "calibrated; both after\na temperature", (8, -20)),
            ("noise", "raw", "s", c["bad"], "noisy, raw", (-10, -15)),
            ("noise", "temperature", "o", c["good"], "noisy, after a temperature", (8, -9)),
        )
        for model, use, mark, colour, text, offset in marks:
            at = path(model, use, "kl")[last], path(model, use, "true_gain")[last]
            left.plot(*at, mark, color=colour, ms=6)
            left.annotate(text, at, xytext=offset, textcoords="offset points", color=colour, fontsize=7.5)
        left.set(xlabel="KL to the reference policy, nats", ylabel="true reward gained", ylim=(0, 2.3), xlim=(0, 5.2))
        left.set_title(f"Where KL weight {BETA:g} leads", loc="left")
        for use, colour in (("raw", c["bad"]), ("temperature", c["good"])):
            word = "raw" if use == "raw" else "after a temperature"
            for number, style in (("claimed_gain", "--"), ("true_gain", "-")):
                right.plot(BETAS, path("noise", use, number)[:last], style, color=colour, lw=1.4)
                end = path("noise", use, number)[0]
                kind = "claimed" if number == "claimed_gain" else "true"
                place = {"raw": (BETAS[0], end + 0.08), "temperature": (BETAS[0], 0.5 if kind == "true" else 0.28)}
                right.annotate(f"{word}, {kind}", place[use], color=colour, fontsize=7.5)
        right.set(xscale="log", xlabel="KL weight", ylabel="reward gained", ylim=(0, 3.4))
        right.set_title("Noisy rewards: claimed and true", loc="left")

    return draw


def draw_kinds(found: Simulation) -> Picture:
    """Loss of the objective for each kind of miscalibration."""

    def draw(figure: Any, c: dict[str, str]) -> None:
        axes = figure.subplots()
        names = list(dict.fromkeys(curve.model for curve in found.curves))
        for place, name in enumerate(names):
            raw, fitted, group = (found.curve(name, use).points[0].loss for use in ("raw", "fitted", "by group"))
            axes.plot(raw.value, place + 0.14, "s", color=c["bad"], ms=6, label="raw" if place == 0 else None)
            assert fitted.interval is not None
            axes.plot(fitted.interval, [place - 0.14] * 2, color=c["good"], lw=1.6)
            label = f"one temperature, fitted on {PAIRS} pairs" if place == 0 else None
            axes.plot(fitted.value, place - 0.14, "o", color=c["good"], ms=6, label=label)
            if "half" in name:
                axes.plot(
                    group.value, place - 0.14, "D", color=c["third"], ms=6, label="one for each half of prompts"
                )
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(xlabel=f"loss of the objective E[R] − {BETA:g} KL against the best policy", xlim=(-0.03, None))
        axes.legend(frameon=False, labelcolor=c["text"], loc="upper right", fontsize=7.5)

    return draw


def save(name: str, draw: Picture, size: tuple[float, float]) -> None:
    """Write a picture for both schemes."""
    import matplotlib.pyplot as plt

    FOLDER.mkdir(exist_ok=True)
    for scheme, c in SCHEMES.items():
        style = {
            "svg.fonttype": "none", "svg.hashsalt": name, "font.size": 8.5, "axes.titlesize": 9.5,
            "font.family": "sans-serif", "axes.spines.top": False, "axes.spines.right": False,
            "figure.facecolor": c["page"], "axes.facecolor": c["page"], "savefig.facecolor": c["page"],
            "text.color": c["text"], "axes.labelcolor": c["muted"], "xtick.color": c["muted"],
            "ytick.color": c["muted"], "axes.edgecolor": c["line"], "axes.titlecolor": c["text"],
        }  # fmt: skip
        with matplotlib.rc_context(style):
            figure = plt.figure(figsize=size, layout="constrained")
            draw(figure, c)
            path = FOLDER / f"{name}-{scheme}.svg"
            figure.savefig(path, metadata={"Date": None, "Creator": None})
            plt.close(figure)
        print(f"wrote {path.name}, {path.stat().st_size // 1024} kB")


def rlhf() -> None:
    """The pictures of docs/decisions.md, and the numbers of its table."""
    found = kinds()
    save("rlhf-frontier", draw_frontier(frontier()), (7.8, 3.3))
    save("rlhf-kinds", draw_kinds(found), (7.8, 3.6))
    for curve in found.curves:
        p = curve.points[0]
        print(
            f"{curve.model}, {curve.use}: slope {curve.slope.value:.2f}, true gain {p.true_gain.value:.2f}, "
            f"claimed {p.claimed_gain.value:.2f}, KL {p.kl.value:.2f}, win rate {p.win_rate.value:.3f}, "
            f"loss {p.loss.value:.3f}"
            + (f" [{p.loss.interval[0]:.3f}, {p.loss.interval[1]:.3f}]" if p.loss.interval else "")
        )


SECTIONS = {"rlhf": rlhf}

if __name__ == "__main__":
    matplotlib.use("svg")
    for section in sys.argv[1:] or SECTIONS:
        SECTIONS[section]()
