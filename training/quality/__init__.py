"""How good a model is: metrics with confidence intervals, calibration, robustness, cost, comparison of two models.

Start with `metrics`.
"""
