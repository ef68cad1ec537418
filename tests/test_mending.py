"""Before and after a recalibration: out of sample, paired, and through the command line."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

import prefcal as pc
from fabricated_forecasts import N, forecasts, noise
from prefcal.cli import main
from prefcal.errors import UsageError
from prefcal.mending import RAW
from prefcal.recalibration import METHODS
from prefcal.recalibration.likelihood import observed_log_prob
from prefcal.report.mending import findings_of, render_mending


def world(seed=0, n=600, m=4, scale=3.0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, m))
    y = pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])
    return pc.PlackettLuce(scale * scores), y


def written(path, h, y, **fields):
    ranks = y.dense()
    with path.open("w") as file:
        for i in range(len(h)):
            extra = {name: values[i] for name, values in fields.items()}
            record = {"id": f"p{i}", "scores": h.scores.dense()[i].tolist(), "ranks": ranks[i].tolist()}
            file.write(json.dumps(record | extra) + "\n")
    return path


def test_every_number_is_out_of_sample():
    """A map that memorises its data would shine in sample; a cross-fitted one of pure noise must not."""
    rng = np.random.default_rng(1)
    h = pc.PlackettLuce(rng.normal(size=(400, 4)))
    y = pc.Outcomes.from_orders(rng.permuted(np.tile(np.arange(4), (400, 1)), axis=1))
    found = pc.mend(h, y, "temperature", items="exchangeable")
    assert found.log_loss["after"].value >= np.log(24) - 0.01  # nothing beats the uniform forecast
    assert found.log_loss["difference"].interval[1] < 0
    assert any("information" in w for w in found.warnings)


def test_an_over_confident_model_is_mended_and_its_picks_stay():
    h, y = world()
    found = pc.mend(h, y, "temperature", items="exchangeable")
    assert found.before["sub-2"].verdict == "miscalibrated"
    assert found.after["sub-2"].verdict != "miscalibrated"
    change = found.comparison.select("sub-2", "debiased", "recalibrated", "raw")
    assert change.interval[1] < 0
    assert found.same_top == 1.0
    assert found.chosen == ("temperature",) * 5
    raw = -observed_log_prob(h, y).mean()
    assert found.log_loss["before"].value == pytest.approx(raw, abs=1e-12)
    low, high = found.fitted_map.estimates["temperature"].interval
    assert low < 3 < high


def test_dependent_records_stay_together():
    """Pairs of one instance: 400 records of 40 units are as uncertain as 40, not as 400."""
    h, _ = world(n=40)
    rng = np.random.default_rng(2)
    pairs = np.column_stack([np.repeat(np.arange(40), 10), np.tile([0, 1], (400, 1))])
    flip = np.repeat(rng.random(40) < 0.5, 10)  # all judges of an instance agree
    pairs[flip, 1:] = pairs[flip, :0:-1]
    found = pc.mend(h, pc.Outcomes.from_pairs(pairs, n_items=4), "temperature", notions="sub-2", items="exchangeable")
    assert found.before["sub-2"].n_instances == 40
    low, high = found.log_loss["difference"].interval
    h400, _ = world(n=400)
    alone = pc.mend(
        h400, pc.Outcomes.from_pairs([(i, 0, 1) for i in range(400)], n_items=4), "temperature", notions="sub-2",
        items="exchangeable",
    )  # fmt: skip
    a, b = alone.log_loss["difference"].interval
    assert high - low > 2 * (b - a)


def test_the_same_input_gives_the_same_bytes():
    h, y = world(n=150)
    texts = {pc.mend(h, y, "context", items="exchangeable", seed=4).to_json() for _ in range(2)}
    assert len(texts) == 1
    document = json.loads(texts.pop())
    assert document["map"]["kind"] == "prefcal-recalibration"
    assert {"before", "after", "comparison", "decisions", "log_loss", "map"} <= set(document)


def test_command_line_round_trip(tmp_path, capsys):
    h, y = world(n=300)
    path = written(tmp_path / "judge.jsonl", h, y, subset=["a", "b"] * 150)
    cal, page, out = tmp_path / "cal.json", tmp_path / "r.html", tmp_path / "new.jsonl"
    arguments = ["recalibrate", str(path), "--method", "temperature", "--save", str(cal), "--report", str(page)]
    assert main([*arguments, "--json", str(tmp_path / "r.json")]) == 0
    shown = capsys.readouterr().out
    assert "the error falls" in shown
    assert "src=" not in page.read_text()
    assert 'href="http' not in page.read_text()
    assert "Before and after" in page.read_text()
    assert main(["apply", str(cal), str(path), "--out", str(out)]) == 0
    capsys.readouterr()
    new = pc.read(out)
    t = pc.load_recalibrator(cal).estimates["temperature"].value
    assert np.allclose(new.scores.dense(), h.scores.dense() / t, rtol=1e-12)
    assert np.array_equal(new.outcomes.ranks.values, y.ranks.values)
    assert new.fields["subset"].tolist() == ["a", "b"] * 150
    alone = tmp_path / "prompts.jsonl"  # new prompts have no outcome yet
    alone.write_text("".join(json.dumps({"id": i, "scores": [1.0, 0.0, 2.5]}) + "\n" for i in range(3)))
    assert main(["apply", str(cal), str(alone), "--out", str(out)]) == 0
    again = pc.read(out, outcomes="optional")
    assert np.allclose(again.scores.dense(), np.array([[1.0, 0.0, 2.5]] * 3) / t)
    assert "ranks" not in out.read_text()


def test_maps_that_no_scores_express_write_probabilities(tmp_path, capsys):
    h, y = world(n=200, scale=30.0)
    path = written(tmp_path / "sure.jsonl", h, y)
    cal, out = tmp_path / "cal.json", tmp_path / "new.json"
    assert main(["recalibrate", str(path), "--method", "uniform", "--save", str(cal), "--quiet"]) == 0
    assert main(["apply", str(cal), str(path), "--out", str(out)]) == 0
    capsys.readouterr()
    record = json.loads(out.read_text())[0]
    assert "scores" not in record
    expected = pc.load_recalibrator(cal)(h)
    assert np.allclose(record["best_probs"], np.exp(expected.top_log_probs()[0]))
    pairs = np.array(record["pair_probs"], dtype=float)
    assert np.allclose(pairs + pairs.T, np.where(np.eye(4, dtype=bool), np.nan, 1.0), equal_nan=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "temprature"], "did you mean 'temperature'"),
        (["--feature", "nope"], "no field 'nope'"),
        (["--feature", "subset"], "holds text"),
        (["--item-feature", "length"], "no column 'length'"),
        (["--method", "group-wise"], "needs groups"),
        (["--folds", "1"], "folds"),
        (["--save", "no/such/dir/cal.json"], "no directory"),
    ],
)
def test_wrong_use_is_one_clear_line(tmp_path, capsys, arguments, message):
    h, y = world(n=60)
    path = written(tmp_path / "m.jsonl", h, y, subset=["a", "b", "c"] * 20)
    assert main(["recalibrate", str(path), *arguments]) == 2
    shown = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in shown


def test_apply_refuses_what_is_not_a_map_or_not_its_kind(tmp_path, capsys):
    h, y = world(n=60)
    path = written(tmp_path / "m.jsonl", h, y)
    for text in ("", "[]", "{", '{"schema": 1}', "\x00\x01", "[" * 100_000):
        (tmp_path / "cal.json").write_text(text)
        assert main(["apply", str(tmp_path / "cal.json"), str(path), "--out", str(tmp_path / "o.jsonl")]) == 2
        assert "cal.json" in capsys.readouterr().err
    assert main(["recalibrate", str(path), "--method", "temperature", "--save", str(tmp_path / "cal.json")]) == 0
    assert main(["apply", str(tmp_path / "cal.json"), str(path), "--out", str(tmp_path / "o.csv")]) == 2
    assert ".jsonl" in capsys.readouterr().err
    (tmp_path / "pairs.jsonl").write_text('{"chosen": 1.0, "rejected": 0.0}\n' * 2)
    assert (
        main(["apply", str(tmp_path / "cal.json"), str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "o.json")])
        == 0
    )


def test_mending_needs_a_method_that_fits():
    h, y = world(n=60)
    with pytest.raises(UsageError, match="vector-scaling"):
        pc.mend(h, y, "vector-scaling")


def test_mending_names_the_method_of_each_fold_and_works_on_few_units():
    h, y = forecasts("PlackettLuce"), noise()
    found = pc.mend(h, y, items="exchangeable")
    assert len(found.chosen) == 5
    assert set(found.chosen) <= set(METHODS) - {"auto"}
    few = pc.mend(h[:6], y[:6], folds=3, items="exchangeable")
    assert len(few.chosen) == 3


def test_mending_weighs_as_an_audit_does():
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce([rng.normal(size=2 + i % 4).tolist() for i in range(N)])
    y = pc.Outcomes.from_ratings([rng.normal(size=2 + i % 4).tolist() for i in range(N)])
    found = pc.mend(h, y, "temperature", weights="instance", notions=["sub-2"]).before["sub-2"]
    alone = pc.audit(h, y, weights="instance", notions=["sub-2"])["sub-2"]
    assert (found.value, found.settings["weights"]) == (alone.value, "instance")
    assert alone.value != pc.audit(h, y, notions=["sub-2"])["sub-2"].value


def test_mending_pairwise_forecasts_is_valid_json():
    found = pc.mend(forecasts("Pairwise"), noise(), notions=["sub-2"], folds=3)
    assert json.loads(found.to_json())["same_top"] is None


def test_mending_what_had_probability_0_says_so():
    orders = np.array(list(itertools.permutations(range(3))))
    rng = np.random.default_rng(0)
    h = pc.Samples(orders[rng.integers(0, 6, size=(N, 2))])
    found = pc.mend(h, noise(), "uniform", notions=["sub-2"], folds=3)
    loss = found.log_loss
    assert loss["before"].value == math.inf
    assert math.isfinite(loss["after"].value)
    assert loss["difference"].value == -math.inf
    (said,) = [f for f in findings_of(found) if "log loss" in f.text.lower() and "infinity" in f.text]
    assert said.severity == "good"
    assert RAW in found.before.models[0]
    assert "does not change detectably" not in said.title
    json.loads(found.to_json())
    assert render_mending(found)
