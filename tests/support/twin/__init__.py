"""To be removed: every test that uses this moves to a real Redis."""
