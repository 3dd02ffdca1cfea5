"""One run over many files: finds them on disk, sends them as one submission, and writes their results to a file.

Start with `run.py` (`BulkRun`), which uses `files.py` (finding files), `send.py`, `follow.py` (reading results) and
`state.py` (the file that lets a run resume). `results.py` writes the results file; its columns are the fields of
`ResultRow` in `contract/result_row.py`.
"""
