"""Result files that are recognised but cannot be audited, with the reason and the file to use instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from prefcal.data.readers.content import Content
from prefcal.data.readers.problems import MISSING
from prefcal.data.readers.reading import Format, Reading
from prefcal.data.source import ScoreFile

SECTIONS = frozenset(
    {"Chat", "Chat Hard", "Safety", "Reasoning", "Factuality", "Precise IF", "Math", "Focus", "Ties"}
)
SUBSETS = frozenset(
    {
        "alpacaeval-easy",
        "alpacaeval-hard",
        "alpacaeval-length",
        "mt-bench-easy",
        "llmbar-natural",
        "math-prm",
        "donotanswer",
    }
)


class Refused(Format):
    """A kind of file without what an audit needs."""

    reason: ClassVar[str]

    def read(self, reading: Reading) -> ScoreFile:
        """See :meth:`Format.read`."""
        raise reading.error(self.reason)


class Aggregate(Refused):
    """Accuracies by subset or section: ``eval-set`` files of RewardBench 1 and 2, RM-R1, the rewardbench command."""

    name = "aggregate"
    looks_for = "aggregate accuracies (refused)"
    reason = (
        "holds aggregate accuracies, not scores: calibration cannot be computed from it; use the per-prompt file of "
        "the same run (eval-set-scores/..., or MODEL_outputs.jsonl of the rewardbench command)"
    )

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        names = set(content.names)
        known = len(names & SECTIONS) >= 3 or len(names & SUBSETS) >= 2 or {"accuracy", "num_prompts"} <= names
        return known and len(content) == 1 and not any(isinstance(content.sample(n), list) for n in names)


class VerdictsOnly(Refused):
    """Generative judges of RewardBench: ``results`` but no scores."""

    name = "verdicts-only"
    looks_for = "RewardBench verdicts of generative judges (refused)"
    reason = (
        "holds verdicts ('results') but no scores, as generative judges write them: there is no probability to "
        "check; use the eval-set-scores file of a model with scores, or log ratings and use the wide shape"
    )

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        names = set(content.names)
        kind = {"num_correct", "subset"} <= names or {"text_chosen", "text_rejected"} <= names
        return kind and "results" in names and not any(n.startswith("score") for n in names)


class Instructions(Refused):
    """The rewardbench command on instruction data: scores in ``results``, one answer a prompt."""

    name = "single-answers"
    looks_for = "rewards of single answers (refused)"
    reason = (
        "holds the reward of one answer a prompt and nothing that says which answer is better; calibration of "
        "preferences needs several answers with a known order (wide: 'scores' and 'best')"
    )

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        names = set(content.names)
        return {"text", "results"} <= names and not names & {"scores", "subset", "num_correct", "text_chosen"}


class OpenRLHF(Refused):
    """OpenRLHF batch inference: ``input``, ``output``, ``reward``."""

    name = "openrlhf"
    looks_for = "OpenRLHF 'input', 'output', 'reward' (refused)"
    reason = (
        "holds rewards of sampled answers (OpenRLHF) without an outcome: nothing says which answer is better; add a "
        "column with ranks, ratings or the best answer and map it, e.g. columns={'instance': 'input', 'score': "
        "'reward', 'rating': NAME}"
    )

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        return {"input", "output", "reward"} <= set(content.names)


class SelfChosen(Refused):
    """OpenRLHF ``iter_dpo``: the model's own best and worst answers."""

    name = "openrlhf-iter-dpo"
    looks_for = "OpenRLHF 'chosen_reward', 'rejected_reward' (refused)"
    reason = (
        "has 'chosen_reward' and 'rejected_reward' as OpenRLHF's iter_dpo writes them: there the model itself chose "
        "the answer with the highest reward, so it always agrees with itself; if others made the choice, say so "
        "with columns={'chosen': 'chosen_reward', 'rejected': 'rejected_reward'}"
    )

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        return content.sample("chosen_reward") is not MISSING and content.sample("rejected_reward") is not MISSING
