"""Train a classifier from labeled images and release it as a bundle that workers can serve.

Start with `dvc.yaml`, which lists the stages in `stages/`, then read each stage from top to bottom.
"""
