"""The calibration study of label rankers of Thies et al. (2026), as published and exact."""
