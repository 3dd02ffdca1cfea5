"""Finds the bundle to serve."""

from pathlib import Path

#: The bundle included with Pawqueue.
INCLUDED = Path(__file__).parent.parent / "models" / "cats-dogs"


#: The name in the model store of the folder that `champion_folder` returns. It is not the name of a model.
CHAMPION = "champion"


def champion_folder(state_dir: Path) -> Path:
    """The folder to which `pawqueue models promote` copies a bundle."""
    return state_dir / "models" / CHAMPION


def bundle_to_serve(chosen: Path | None, state_dir: Path) -> Path:
    """The bundle to serve: the chosen one (`PAWQUEUE_MODEL`), else the promoted one, else the included one."""
    promoted = champion_folder(state_dir)
    return chosen or (promoted if promoted.exists() else INCLUDED)
