"""The worker takes jobs from the queue, predicts their images in batches, and writes the results.

Start with `app.py`, which puts the parts together. Then follow one message through `tasks.py` and `pipeline/`.
"""
