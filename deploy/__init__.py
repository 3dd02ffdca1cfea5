"""How Pawqueue runs: on one machine (`local/`), with Compose (`compose/`), on Kubernetes (`k8s/`).

Start with README.md. `monitoring/` holds the Prometheus rules for Compose and Kubernetes. The scripts test
(`smoke_test.py`), measure (`performance_tracking.py`) and update (`roll_out.py`) a running service.
"""
