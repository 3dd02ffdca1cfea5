"""The pages. Each file defines one page: its cards, their content for a snapshot, its layout and its callbacks.

Start with `live.py`, the simplest one; `page.py` contains what all pages share.
"""
