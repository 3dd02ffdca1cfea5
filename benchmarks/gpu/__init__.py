"""Measures the service on a GPU: `python -m benchmarks.gpu`. Start with `__main__.py`.

The backends must be installed next to the project's packages, in builds that support the GPU (docs/performance.md).
"""
