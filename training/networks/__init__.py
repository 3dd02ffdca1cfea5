"""The networks that can be trained and how their state is stored on disk.

Start with `architectures`; add a network there. `checkpoint` saves and resumes a training run.
"""
