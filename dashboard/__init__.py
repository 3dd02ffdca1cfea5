"""What operators and visitors look at; reading order: `snapshot.py`, `reader.py`, `views/`, `card.py`, `pages.py`."""
