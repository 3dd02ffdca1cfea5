"""The code blocks of docs/recipes.md and of the README's API section run, and the API pages work in a browser."""

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
    changes = {"PATH": paths, "PAWQUEUE_URL": f"{keyed.url}/paw", "PAWQUEUE_API_KEY": keyed.make_key()}
    return {**os.environ, **keyed.environ, **changes}


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
def test_shell_recipes_run(recipe: str, photos: Path, environ: dict[str, str]) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    output = run(["sh", "-euc", recipe.replace(_LOCAL, environ["PAWQUEUE_URL"])], photos, environ)
    if "Prefer" in recipe:
        assert '"status":"succeeded"' in output.replace(" ", "")


@pytest.mark.parametrize("recipe", PYTHON, ids=range(len(PYTHON)))
def test_python_recipes_run(recipe: str, photos: Path, environ: dict[str, str]) -> None:
    assert run([sys.executable, "-c", recipe], photos, environ) or "assert" in recipe


def test_the_code_blocks_of_the_readme_run(photos: Path, stack: Stack) -> None:
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


def test_the_api_pages_and_their_assets_are_served_completely(keyed: Gateway) -> None:
    for path in ("/docs", "/redoc", "/docs/swagger-ui.css", "/docs/redoc.standalone.js", "/paw/docs/docs.js"):
        response = httpx.get(keyed.url + path)
        assert response.status_code == 200
        assert len(response.content) == int(response.headers["Content-Length"]) > 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    new_page = browser.new_page(viewport={"width": 1200, "height": 900})
    yield new_page
    new_page.close()


@pytest.fixture
def foreign_page(tmp_path: Path) -> Iterator[str]:
    """The URL of a page from another origin, with the JavaScript recipes and a file input."""
    script = "\n".join(SCRIPTS)
    (tmp_path / "page.html").write_text(f'<input type="file" id="image"><script>{script}</script>')
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/page.html"
        server.shutdown()


def test_browser_recipes_run(page: Page, foreign_page: str, environ: dict[str, str], tmp_path: Path) -> None:
    image = tmp_path / "cat.png"
    image.write_bytes(draw())
    page.goto(foreign_page)
    page.set_input_files("#image", image)
    results: dict[str, Any] = page.evaluate(
        """async ([url, key]) => {
            const [image] = document.getElementById("image").files;
            const job = await follow(url, key, (await classify(url, key, image)).urls.self);
            const once = await submitOnce(url, key, image);
            const refused = await classify(url, "wrong", image).catch((error) => error.message);
            const rows = await submitAll(url, key, [image]);
            const headers = { "X-API-Key": key, "Content-Type": "application/json" };
            const opened = await fetch(`${url}/v1/submissions`, { method: "POST", headers, body: "{}" });
            const { id } = await opened.json();
            const seen = [];
            await showProgress(url, key, id, (submission) => {
                seen.push(submission.status);
                fetch(`${url}/v1/submissions/${id}/close`, { method: "POST", headers });
            });
            return { job, once, refused, rows, seen };
        }""",
        [environ["PAWQUEUE_URL"], environ["PAWQUEUE_API_KEY"]],
    )
    assert (results["job"]["status"], results["job"]["file"]) == ("succeeded", "cat.png")
    assert results["once"]["id"] != results["job"]["id"]
    assert results["refused"].startswith("unauthorized: ")
    assert [(row["custom_id"], row["status"]) for row in results["rows"]] == [("cat.png", "succeeded")]
    assert (results["seen"][0], results["seen"][-1]) == ("open", "finished")


@pytest.mark.parametrize(
    ("path", "selector"),
    [("/docs", ".opblock-summary-description"), ("/paw/docs", ".opblock-summary-description"), ("/paw/redoc", "h2")],
)
def test_the_api_pages_show_the_endpoints_and_load_only_from_the_gateway(
    page: Page, keyed: Gateway, path: str, selector: str
) -> None:
    requested: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(keyed.url + path)
    page.locator(selector, has_text="Submit an image").first.wait_for(timeout=60_000)
    base = keyed.url + path.rpartition("/")[0]
    assert [url for url in requested if not url.startswith((f"{base}/", "data:", "blob:"))] == []
    assert errors == []
