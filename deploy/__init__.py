"""How Pawqueue runs: on one machine (`local/`), with Compose (`compose/`), on Kubernetes (`k8s/`), and its `monitoring/`.

Start with README.md. The scripts here try out (`smoke_test.py`), measure (`performance_tracking.py`) and upgrade
(`roll_out.py`) a running service.
"""
