"""The building blocks of pages: cards, charts, the image gallery, and the formatting of numbers and times.

Start with `card.py`: every number on a page is shown in a card, which also explains when there is nothing to show.
"""
