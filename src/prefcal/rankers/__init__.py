"""Label rankers: scikit-learn estimators that predict distributions over rankings."""
