"""Names of the files that the stages leave for one another."""

#: Of `train`.
WEIGHTS_FILE, SPEC_FILE, HISTORY_FILE = "weights.npz", "network.json", "history.json"
#: Of `evaluate`; the predictions go into the bundle too.
METRICS_FILE, RESULTS_FILE, PREDICTIONS_FILE = "metrics.json", "results.json", "predictions.csv"
