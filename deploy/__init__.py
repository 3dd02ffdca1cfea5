"""How Pawqueue runs: on one machine (`local/`), with Compose (`compose/`), on Kubernetes (`k8s/`).

`monitoring/` belongs to the latter two.

Start with README.md. The scripts test (`smoke_test.py`), measure (`performance_tracking.py`) and update (`roll_out.py`)
a running service.
"""
