"""What all routes share: declarations and their OpenAPI document, schemas, authentication, response headers, errors.

Start with `routing.py`: one declaration makes a route checked, protected and documented.
"""
