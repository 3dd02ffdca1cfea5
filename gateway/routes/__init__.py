"""Routes: each translates a request, calls one use case, and answers."""
