"""From a snapshot to what each page shows: pure functions, one module a page."""
