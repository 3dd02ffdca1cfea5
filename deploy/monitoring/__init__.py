"""The configuration of Prometheus: recording rules and alerts (`rules.yml`), and what to scrape (`prometheus.yml`).

`python -m deploy.monitoring.prometheus_rule` prints the rules as the resource that the Prometheus operator needs.
"""
