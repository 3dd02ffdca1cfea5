"""The worker takes jobs from the queue, predicts their images in batches, and writes the results.

Start with `app.py`, which builds a worker from its parts. Then follow a ticket through `tasks.py` and `pipeline/`.
"""
