"""How each number of a report is defined, in words; only what a report uses is printed."""

from __future__ import annotations

from prefcal.result import Result

_BASICS = (
    (
        "event",
        "One yes-or-no question that the model answers with a probability p and the data with y: 1 if it happened, "
        "0 if not, in between for ties. An instance (a prompt, a query) may give many events; they are dependent, "
        "so every interval and test treats the instance as the unit.",
    ),
    (
        "verdict",
        "calibrated: the whole 95 % interval of the error lies below the tolerance. miscalibrated: it does not, and "
        "calibration is rejected at 5 %. cannot tell: neither; the data are too few for this question. Absence of "
        "proof is never reported as calibration.",
    ),
    (
        "null mean",
        "What the error would be on average if the model were perfectly calibrated and as many events were seen. "
        "It is the bias of the estimator, not an error of the model: an ECE near it says nothing against a model.",
    ),
    ("debiased", "The error with that bias removed. It may be slightly negative when the model is calibrated."),
    (
        "interval",
        "95 % interval of the error in the population that the instances were drawn from; the settings say how.",
    ),
    (
        "p, adjusted",
        "Probability of an error at least this large if the model were calibrated. Over the groups of a field it is "
        "adjusted for looking at many groups; the setting adjust says how (Holm by default).",
    ),
)

_NUMBERS = {
    "ece": (
        "ECE (expected calibration error)",
        "Events are put into equal-width bins of p. In each bin: the distance between the mean p and the mean y. "
        "ECE is the mean distance, bins weighted by their events. 0 is perfect.",
    ),
    "skce": (
        "SKCE (squared kernel calibration error)",
        "For notions with more than two outcomes: how far the whole forecast vector is from the outcomes, averaged "
        "over pairs of instances and weighted by how alike their forecasts are. 0 is perfect; the scale is that of a "
        "squared distance, so compare it with its null mean, not with an ECE.",
    ),
    "accuracy": (
        "happens (accuracy)",
        "Mean y. For candidates without labels: how often the better-scored (or first) candidate is the better one.",
    ),
    "mean_forecast": ("says (mean forecast)", "Mean p: how often the model says it would happen."),
    "brier": ("brier", "Mean squared distance (p − y)²: honesty and knowledge in one number; lower is better."),
    "brier_calibration": (
        "brier_calibration",
        "The part of the Brier score that comes from miscalibration; recalibration can remove it.",
    ),
    "brier_resolution": (
        "brier_resolution",
        "How much the model tells the events apart; higher is better. "
        "Brier = calibration − resolution + uncertainty + within.",
    ),
    "brier_uncertainty": (
        "brier_uncertainty",
        "How hard the events are to know before any model: the variance of y.",
    ),
    "brier_within": ("brier_within", "The part of the Brier score that varies inside the bins."),
    "log_loss": (
        "log_loss",
        "Mean of −ln(probability given to what happened), in nats. Infinite when something happened to which the "
        "model gave probability 0.",
    ),
    "temperature": (
        "temperature",
        "The number by which dividing all scores fits these outcomes best (maximum likelihood). Above 1: the model "
        "is over-confident; below 1: under-confident. The order of the candidates stays the same.",
    ),
    "ece_at_temperature": (
        "ece_at_temperature",
        "The debiased ECE that is left when each half of the data is divided by the temperature of the other half.",
    ),
    "p_value_cluster_robust": (
        "p_value_cluster_robust",
        "The test of the ECE again, by the normal law of residual sums: it needs this notion only, and counts the "
        "dependent events of an instance as one unit.",
    ),
    "smece": (
        "smece (smooth ECE)",
        "Residuals y − p smoothed by a kernel whose width equals the error itself: no bins to choose.",
    ),
    "ecce": (
        "ecce (cumulative, range)",
        "The range of the running mean of y − p in the order of p; no bins, no width.",
    ),
    "ecce_mad": ("ecce_mad (cumulative, largest)", "The largest distance of that running mean from 0."),
    "ece_mass": ("ece_mass", "As the ECE, with bins that hold equal shares of the events."),
    "ece_l2": ("ece_l2", "The root mean square gap over those bins: large gaps count more."),
    "mce": ("mce (largest gap)", "The largest gap over those bins; noisy."),
    "mcb_brier": (
        "mcb, dsc, unc (Brier, log)",
        "Score = MCB − DSC + UNC, with the best non-decreasing recalibration of these data: MCB is what it would "
        "gain, DSC what the forecasts know, UNC how hard the events are.",
    ),
    "detectable_temperature_above": (
        "detectable_temperature, detectable_ece",
        "The smallest temperature error, over-confident (above) or under-confident (below), that 80 % of data sets "
        "like this one would show, and the ECE it amounts to.",
    ),
    "position_ad": (
        "position_ad",
        "Where each item's observed rank falls in the forecast of its rank: under calibration evenly. The largest "
        "Anderson-Darling statistic over items, with Holm's p-value.",
    ),
    "hpd_ks": (
        "hpd_ks, hpd_ad",
        "Where the observed ranking falls in the model's sets of highest probability: under calibration evenly. "
        "Distance of Kolmogorov and Smirnov, of Anderson and Darling, with tests.",
    ),
}

_DRAWINGS = (
    (
        "reliability diagram",
        "Each point is one bin: mean p across, mean y upwards, with its 95 % interval. On the diagonal the model is "
        "honest, below it over-confident. The grey band is where 95 % of the points of a calibrated model with these "
        "forecasts fall. The bars below are the events in each bin.",
    ),
    (
        "notion",
        "VIEW:GIVEN. The view is the coarser outcome: full (the whole ranking), sub-2 (the order of two items), "
        "top-1 (the best), topset-k (the set of the first k), position (the rank of one item). The given is what the "
        "frequencies are compared under: canonical (all probabilities of the view), rankwise (one outcome's "
        "probability), confidence (the probability of the most probable outcome), full (the whole forecast).",
    ),
)


def definitions(results: tuple[Result, ...]) -> tuple[tuple[str, str], ...]:
    """(term, meaning) of everything that these results show, in reading order."""
    used = {r.estimator for r in results} | {name for r in results for name in r.metrics}
    known = tuple(text for name, text in _NUMBERS.items() if name in used)
    # Names that share an entry.
    used -= {
        "mcb_log", "dsc_brier", "dsc_log", "unc_brier", "unc_log", "detectable_temperature_below",
        "detectable_ece_above", "detectable_ece_below", "hpd_ad",
    }  # fmt: skip
    unknown = tuple(
        (name, "An estimator without a definition here; see the documentation of what computed it.")
        for name in sorted(used - set(_NUMBERS))
    )
    return (*_BASICS, *known, *unknown, *_DRAWINGS)
