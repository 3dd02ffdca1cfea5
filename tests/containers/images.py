"""What has to hold of the images: small, without compiler and root, their layers equal when their bytes are."""

from tests.containers.tools import BUILT, Tools, demand

_GATEWAY_MAX_MB = 150


def check_images(tools: Tools, images: str, base: str) -> list[str]:
    """Look at the images named `images`-SERVICE:local; returns what was seen."""
    seen = []
    least = tools.inspect(base)["Size"]
    for service in BUILT:
        image = f"{images}-{service}:local"
        found = tools.inspect(image)
        above_mb = (found["Size"] - least) / 1e6
        demand(found["Config"]["User"] not in ("", "0", "root", "0:0"), f"{image} runs as root")
        demand(found["Config"]["Entrypoint"][0] == "python", f"{image} has a shell between SIGTERM and its service")
        demand(bool(found["Config"]["Labels"].get("org.opencontainers.image.revision")), f"{image} has no labels")
        # Beside ours the base may hold one: what counts is that the image adds none.
        added = tools.run(
            "run",
            "--rm",
            "--entrypoint",
            "sh",
            image,
            "-c",
            "find /venv ! -type d -name gcc -o ! -type d -name cc -o -name pip",
        )
        demand(not added.strip(), f"{image} holds a compiler or pip: {added}")
        if service != "worker":
            packages = tools.run("run", "--rm", "--entrypoint", "ls", image, f"/venv/lib/{_python(tools, image)}")
            demand("tensorflow" not in packages, f"{image} holds TensorFlow")
        if service == "gateway":
            demand(above_mb < _GATEWAY_MAX_MB, f"the gateway takes {above_mb:.0f} MB above its base")
        seen.append(f"{service}: {above_mb:,.0f} MB above its base, as {found['Config']['User']}")
    return seen


def _python(tools: Tools, image: str) -> str:
    (name,) = tools.run("run", "--rm", "--entrypoint", "ls", image, "/venv/lib").split()
    return f"{name}/site-packages"
