"""The one page outside of Dash: where an API key is asked for."""

from flask import render_template_string

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pawqueue: sign in</title>
<link rel="stylesheet" href="/assets/style.css">
</head>
<body class="sign-in">
<main>
<h1>Pawqueue</h1>
<p>This dashboard asks for an API key. With the scope <code>admin</code> it shows all jobs, with <code>read</code> your
own. <code>pawqueue keys create</code> makes one.</p>
{% if problem %}<p role="alert"><strong>{{ problem }}</strong></p>{% endif %}
<form method="post" action="/sign-in">
<label for="api_key">API key</label>
<input id="api_key" name="api_key" type="password" autocomplete="current-password" required>
<button type="submit">Sign in</button>
</form>
</main>
</body>
</html>
"""


def sign_in_page(problem: str) -> str:
    """The page, with what was wrong with the last key."""
    return render_template_string(_PAGE, problem=problem)
