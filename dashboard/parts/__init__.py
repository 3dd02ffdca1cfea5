"""The building blocks of pages: cards, charts, the image gallery, and the formatting of numbers and times.

Start with `card.py`. A card shows numbers, or explains why there are none.
"""
