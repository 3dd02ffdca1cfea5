"""The pages, one file each: its cards, what they show for a snapshot, its layout and its callbacks.

Start with `live.py`, the simplest one; `page.py` holds what all pages share.
"""
