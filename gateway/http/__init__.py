"""Code shared by all routes: route declarations, the OpenAPI document, schemas, authentication, headers and errors.

Start with `routing.py`: one declaration validates, protects and documents a route.
"""
