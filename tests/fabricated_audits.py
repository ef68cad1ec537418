"""Audits made up for the tests of reports: realistic curves without running the pipeline."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from prefcal.result import CurvePoint, Estimate, Result

HOSTILE = "<script>alert('x')</script>"
CONTROL = "esc\x1b[31m nul\x00 bidi\u202e"


@dataclass(frozen=True)
class FakeInput:
    path: str
    model: str
    n_instances: int = 485
    n_items: tuple[int, int] = (2, 10)
    format: str = "RewardMATH"
    n_skipped: int = 0
    outcome: str = "best"
    items: str = "exchangeable"
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.path.encode()).hexdigest()


@dataclass(frozen=True)
class FakeAudit:
    results: list[Result]
    inputs: list[FakeInput] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    version: str = "0.1.0"


def scalar_result(
    model: str = "skywork_llama3",
    notion: str = "top-1:confidence",
    *,
    n: int = 485,
    temperature: float = 1.0,
    sharpness: float = 1.5,
    group: dict[str, Any] | None = None,
    items: str = "exchangeable",
    bins: int = 15,
    tolerance: float = 0.03,
    seed: int = 0,
    extra: dict[str, Estimate] | None = None,
) -> Result:
    """A result whose numbers come from simulated events: logits are ``temperature`` times too large."""
    rng = np.random.default_rng([seed, n, len(model), len(notion)])
    logit = rng.normal(0, sharpness, n)
    if items == "exchangeable":
        logit = np.abs(logit)
    p, truth = 1 / (1 + np.exp(-temperature * logit)), 1 / (1 + np.exp(-logit))
    y = (rng.random(n) < truth).astype(float)
    cell = np.minimum((p * bins).astype(int), bins - 1)
    counts = np.bincount(cell, minlength=bins)
    points, ece, bias = [], 0.0, 0.0
    for b in range(bins):
        inside = cell == b
        k = int(inside.sum())
        said, is_ = (float(p[inside].mean()), float(y[inside].mean())) if k else (math.nan, math.nan)
        se = math.sqrt(max(said * (1 - said), 1e-4) / k) if k else math.nan
        half = 1.96 * math.sqrt(max(is_ * (1 - is_), 1e-3) / k) if k else math.nan
        points.append(
            CurvePoint(
                b / bins, (b + 1) / bins, k, float(k), said, is_,
                (max(is_ - half, 0.0), min(is_ + half, 1.0)),
                (max(said - 1.96 * se, 0.0), min(said + 1.96 * se, 1.0)),
            )
        )  # fmt: skip
        if k:
            ece += k / n * abs(said - is_)
            bias += k / n * 0.8 * se
    debiased = ece - bias if ece > bias else 0.0
    spread = 1.96 * 0.6 / math.sqrt(n)
    interval = (max(debiased - spread, 0.0), min(debiased + spread, 1.0))
    p_value = max(math.exp(-0.5 * (max(ece - bias, 0.0) * math.sqrt(n) / 0.3) ** 2), 0.001)
    if interval[1] < tolerance:
        verdict = "calibrated"
    else:
        verdict = "miscalibrated" if p_value < 0.05 else "undetermined"
    base = float(y.mean())
    seen = counts > 0
    means = np.bincount(cell, y, bins)[seen] / counts[seen]
    metrics = {
        "accuracy": Estimate(base, (base - 0.02, base + 0.02)),
        "mean_forecast": Estimate(float(p.mean()), (float(p.mean()) - 0.01, float(p.mean()) + 0.01)),
        "brier": Estimate(float(((p - y) ** 2).mean()), (0.1, 0.2)),
        "brier_calibration": Estimate(ece**2, note="a part of the Brier score: no interval"),
        "brier_resolution": Estimate(float((counts[seen] / n * (means - base) ** 2).sum())),
        "brier_uncertainty": Estimate(base * (1 - base)),
        "log_loss": Estimate(float(-np.log(np.where(y > 0, p, 1 - p)).mean())),
        "temperature": Estimate(temperature, (0.9 * temperature, 1.1 * temperature)),
    }
    return Result(
        model, notion, items, group, "ece", ece, bias, debiased, interval, p_value, p_value, verdict, n, n,
        {"used": n, "best item unknown": 18},
        metrics | (extra or {}),
        {"bins": bins, "tolerance": tolerance, "null": "monte carlo", "draws": 999, "seed": 0},
        tuple(points),
    )  # fmt: skip


def vector_result(
    model: str = "skywork_llama3", notion: str = "top-1:canonical", *, p_value: float = 0.001
) -> Result:
    verdict = "miscalibrated" if p_value < 0.05 else "undetermined"
    return Result(
        model, notion, "exchangeable", None, "skce", 0.0312, 0.0101, 0.0211, (0.012, 0.03), p_value, p_value, verdict,
        485, 485, {"used": 485}, {}, {"tolerance": None, "draws": 999, "seed": 0}, (),
    )  # fmt: skip


def one_model() -> FakeAudit:
    """Over-confident in both notions, with a vector notion and a known remedy."""
    return FakeAudit(
        [
            scalar_result(notion="sub-2", n=4365, temperature=6.0, sharpness=0.8),
            scalar_result(
                temperature=16.0,
                sharpness=0.3,
                extra={"ece_at_temperature": Estimate(0.02, (0.0, 0.04)), "novel": Estimate(1.5)},
            ),
            vector_result(),
        ],
        [
            FakeInput(
                "results/skywork_llama3.json", "skywork_llama3", n_skipped=2, skipped=("record 7: scores empty",)
            )
        ],
        ["2 records were skipped (--on-error skip)"],
    )


NINE = (
    "ArmoRM-Llama3-8B", "Eurus-RM-7b", "GRM-Gemma-2B", "internlm2-7b-reward", "Skywork-Reward-Llama-3.1-8B",
    "oasst-rm-2.1-pythia-1.4b", "beaver-7b-v1.0-reward", "URM-LLaMa-3.1-8B", "pair-preference-model",
)  # fmt: skip


def nine_models() -> FakeAudit:
    """Nine models in two notions, verdicts of all kinds."""
    results = []
    for i, model in enumerate(NINE):
        t = (1.0, 1.05, 1.4, 2.4, 6.0, 0.6, 1.0, 1.8, 3.5)[i]
        n = 60 if i in (1, 6) else 20_000 if i == 0 else 2_000
        for notion in ("sub-2", "top-1:confidence"):
            results.append(scalar_result(model, notion, n=n, temperature=t, seed=i))
    return FakeAudit(results, [FakeInput(f"scores/{m}.jsonl", m, n_instances=2_000) for m in NINE])


def grouped(models: int = 1, notions: tuple[str, ...] = ("sub-2", "top-1:confidence"), groups: int = 6) -> FakeAudit:
    """Groups with long, hostile and unprintable names."""
    names = [
        "Math", "Precise instruction following with constraints on format, length and the words that may be used",
        HOSTILE, CONTROL, "Safety", "Focus",
        *[f"subset number {i}" for i in range(7, 60)],
    ][:groups]  # fmt: skip
    results = []
    for i in range(models):
        model = f"model-{i + 1}-with-a-rather-long-name-as-they-are" if models > 1 else "URM-LLaMa-3.1-8B"
        for notion in notions:
            results.append(scalar_result(model, notion, n=1763, temperature=1.3 + 0.3 * i, seed=i))
            for g, name in enumerate(names):
                results.append(
                    scalar_result(
                        model, notion, n=(40, 300, 900)[g % 3], temperature=(1.0, 2.5, 4.0)[g % 3], seed=g,
                        group={"subset": name},
                    )
                )  # fmt: skip
    return FakeAudit(
        results,
        [FakeInput(f"rb2/{HOSTILE}{CONTROL}.jsonl", HOSTILE + CONTROL, n_instances=1763, notes=(f"see {HOSTILE}",))],
        [f"field {HOSTILE} has a value with {CONTROL}"],
    )


def odd() -> FakeAudit:
    """Everything unusual at once: useless, ruled out, poorly covered, labelled, no interval, no events."""
    useless = scalar_result("coin", "sub-2", n=200_000, temperature=1.0, sharpness=0.02)
    ruled_out = scalar_result("certain", "sub-2", n=500, temperature=3.0)
    ruled_out = replace(ruled_out, metrics=ruled_out.metrics | {"log_loss": Estimate(math.inf, None, "1 event")})
    partial = replace(
        scalar_result("certain", "top-1:confidence", n=40), coverage={"used": 40, "best item unknown": 460}
    )
    labelled = scalar_result("ranker", "sub-2", n=3000, temperature=2.0, items="labelled")
    empty = replace(
        scalar_result("certain", "topset-2:confidence", n=30),
        value=math.nan, null_mean=math.nan, debiased=math.nan, interval=(math.nan, math.nan), p_value=math.nan,
        p_adjusted=math.nan, verdict="undetermined", n_events=0, n_instances=0, curve=(), metrics={},
        coverage={"used": 0, "too few items": 500},
    )  # fmt: skip
    return FakeAudit([useless, ruled_out, partial, labelled, empty], [], ["a first warning"])


def large() -> FakeAudit:
    """12 models x 3 notions x 20 groups."""
    return grouped(12, ("sub-2", "top-1:confidence", "topset-2:confidence"), 20)


ALL = {"one": one_model, "nine": nine_models, "grouped": grouped, "odd": odd, "large": large}
