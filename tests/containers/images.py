"""Checks that the images are small, contain no compiler, and do not run as root."""

from tests.containers.tools import BUILT, Tools, require

_GATEWAY_MAX_MB = 150


def check_images(tools: Tools, images: str, base: str) -> list[str]:
    """Check the images `IMAGES-SERVICE:local`; returns a line about each."""
    lines = []
    base_size = tools.inspect(base)["Size"]
    for service in BUILT:
        image = f"{images}-{service}:local"
        found = tools.inspect(image)
        above_mb = (found["Size"] - base_size) / 1e6
        require(found["Config"]["User"] not in ("", "0", "root", "0:0"), f"{image} runs as root")
        program, *arguments = found["Config"]["Entrypoint"]
        receives_signals = program == "python" or any("exec python " in argument for argument in arguments)
        require(receives_signals, f"{image} starts a shell, which does not forward SIGTERM")
        require(bool(found["Config"]["Labels"].get("org.opencontainers.image.revision")), f"{image} has no labels")
        # Search only /venv: the base image may contain a compiler and pip.
        added = tools.run(
            "run",
            "--rm",
            "--entrypoint",
            "sh",
            image,
            "-c",
            "find /venv ! -type d -name gcc -o ! -type d -name cc -o -name pip",
        )
        require(not added.strip(), f"{image} contains a compiler or pip: {added}")
        if service != "worker":
            packages = tools.run("run", "--rm", "--entrypoint", "ls", image, f"/venv/lib/{_python(tools, image)}")
            require("tensorflow" not in packages, f"{image} contains TensorFlow")
        if service == "gateway":
            require(above_mb < _GATEWAY_MAX_MB, f"the gateway is {above_mb:.0f} MB larger than its base")
        lines.append(f"{service}: {above_mb:,.0f} MB above its base, as {found['Config']['User']}")
    return lines


def _python(tools: Tools, image: str) -> str:
    (name,) = tools.run("run", "--rm", "--entrypoint", "ls", image, "/venv/lib").split()
    return f"{name}/site-packages"
