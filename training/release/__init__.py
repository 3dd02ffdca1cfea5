"""After training: pack a model as a bundle, record it in MLflow, promote it to serve, or ship it with the project.

Start with `bundling`, then `promotion`.
"""
