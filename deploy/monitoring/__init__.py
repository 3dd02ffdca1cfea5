"""What Prometheus reads: recording rules and alerts (`rules.yml`) and the scrape configuration (`prometheus.yml`).

`python -m deploy.monitoring.prometheus_rule` prints the rules as the resource that the Prometheus operator needs.
"""
