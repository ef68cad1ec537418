"""``prefcal study reward-models``: is the published calibration error of reward models one?"""

from __future__ import annotations

from prefcal.studies.reward_models.running import RewardModelStudy, Settings, run, study

__all__ = ["RewardModelStudy", "Settings", "run", "study"]
