"""The four stages of `make train`, one module each: prepare, train, evaluate, export.

Each stage reads the folders of earlier stages and writes one folder in `build/`. Start with `prepare`.
"""
