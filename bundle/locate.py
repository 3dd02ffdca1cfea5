"""Which bundle this installation serves."""

from pathlib import Path

#: The bundle that ships with the project, beside the packages.
SHIPPED = Path(__file__).parent.parent / "models" / "cats-dogs"


def champion_folder(state_dir: Path) -> Path:
    """Where `pawqueue models promote` puts the bundle to serve."""
    return state_dir / "models" / "champion"


def bundle_to_serve(chosen: Path | None, state_dir: Path) -> Path:
    """The chosen bundle (`PAWQUEUE_MODEL`), else the promoted one, else the one that ships."""
    promoted = champion_folder(state_dir)
    return chosen or (promoted if promoted.exists() else SHIPPED)
