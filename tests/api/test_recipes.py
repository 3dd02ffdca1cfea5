"""Every code block of the recipes and of the README's section for API users runs; the pages work in a browser."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser import running_browser
from tests.support.images import draw
from tests.support.services import ROOT, Gateway, Stack

_PHOTOS = ROOT / "examples" / "photos"
_LOCAL = "http://localhost:8000"


def blocks(document: str, language: str, section: str = "") -> list[str]:
    text = (ROOT / document).read_text()
    text = text[text.index(section) :] if section else text
    text = text[: text.index("\n## ", 5)] if section else text
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def environ(keyed: Gateway) -> dict[str, str]:
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PATH": paths, "PAWQUEUE_URL": keyed.url, "PAWQUEUE_API_KEY": keyed.make_key()}
    return {**os.environ, **keyed.environ, **own}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A copy of the example images: recipes write files next to them."""
    return Path(shutil.copytree(_PHOTOS, tmp_path / "photos"))


def run(command: list[str], folder: Path, environ: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


SHELL, PYTHON, SCRIPTS = (blocks("docs/recipes.md", language) for language in ("sh", "python", "js"))


@pytest.mark.parametrize("recipe", SHELL, ids=range(len(SHELL)))
def test_shell_recipes(recipe: str, photos: Path, environ: dict[str, str]) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl here")
    output = run(["sh", "-euc", recipe.replace(_LOCAL, environ["PAWQUEUE_URL"])], photos, environ)
    if "Prefer" in recipe:
        assert '"status":"succeeded"' in output.replace(" ", "")


@pytest.mark.parametrize("recipe", PYTHON, ids=range(len(PYTHON)))
def test_python_recipes(recipe: str, photos: Path, environ: dict[str, str]) -> None:
    assert run([sys.executable, "-c", recipe], photos, environ) or "assert" in recipe


def test_the_code_blocks_of_the_readme(photos: Path, stack: Stack) -> None:
    section = "## Calling the API"
    shell = blocks("README.md", "", section)[0]
    lines = [line.split("  #")[0] for line in shell.splitlines() if line.startswith("curl") and "/ID" not in line]
    assert len(lines) >= 3
    for line in lines:
        output = run(["sh", "-euc", line.replace("localhost:8000", stack.url) + " -sf"], photos, dict(os.environ))
        assert json.loads(output)["id"]
    (program,) = blocks("README.md", "python", section)
    assert run([sys.executable, "-c", program.replace(_LOCAL, stack.url)], photos, dict(os.environ))


def test_endpoints_named_in_the_readme_are_documented() -> None:
    readme = (ROOT / "README.md").read_text()
    page = (ROOT / "docs" / "api.md").read_text()
    for method, path in re.findall(r"`(GET|POST|PUT|DELETE) (/[^`]*)`", readme):
        assert f"`{method} {path}`" in page or path in ("/docs", "/redoc", "/openapi.json"), path


def test_the_files_of_the_pages_are_served_completely(keyed: Gateway) -> None:
    for path in ("/docs", "/redoc", "/docs/swagger-ui.css", "/docs/redoc.standalone.js"):
        answer = httpx.get(keyed.url + path)
        assert answer.status_code == 200
        assert len(answer.content) == int(answer.headers["Content-Length"]) > 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    found = browser.new_page(viewport={"width": 1200, "height": 900})
    yield found
    found.close()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """The address of a page of another origin that holds all recipes and a file input."""
    script = "\n".join(SCRIPTS)
    (tmp_path / "page.html").write_text(f'<input type="file" id="image"><script>{script}</script>')
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/page.html"
        server.shutdown()


def test_browser_recipes(page: Page, elsewhere: str, environ: dict[str, str], tmp_path: Path) -> None:
    image = tmp_path / "cat.png"
    image.write_bytes(draw())
    page.goto(elsewhere)
    page.set_input_files("#image", image)
    call: dict[str, Any] = page.evaluate(
        """async ([url, key]) => {
            const [image] = document.getElementById("image").files;
            const job = await follow(url, key, (await classify(url, key, image)).urls.self);
            const once = await submitOnce(url, key, image);
            const refused = await classify(url, "wrong", image).catch((error) => error.message);
            const rows = await submitAll(url, key, [image]);
            return { job, once, refused, rows };
        }""",
        [environ["PAWQUEUE_URL"], environ["PAWQUEUE_API_KEY"]],
    )
    assert (call["job"]["status"], call["job"]["file"]) == ("succeeded", "cat.png")
    assert call["once"]["id"] != call["job"]["id"]
    assert call["refused"].startswith("unauthorized: ")
    assert [(row["custom_id"], row["status"]) for row in call["rows"]] == [("cat.png", "succeeded")]


@pytest.mark.parametrize(("path", "sign"), [("/docs", ".opblock-summary-description"), ("/redoc", "h2")])
def test_the_pages_show_the_api_and_load_only_from_the_gateway(
    page: Page, keyed: Gateway, path: str, sign: str
) -> None:
    requested: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(keyed.url + path)
    page.locator(sign, has_text="Submit an image").first.wait_for(timeout=60_000)
    assert [url for url in requested if not url.startswith((keyed.url, "data:", "blob:"))] == []
    assert errors == []
