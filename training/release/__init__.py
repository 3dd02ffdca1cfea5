"""What happens to a trained model: packed as a bundle, recorded in MLflow, promoted to serve, shipped with the project.

Start with `bundling`, then `promotion`.
"""
