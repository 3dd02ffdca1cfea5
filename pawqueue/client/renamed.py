"""Parameter names from version 0.1 of the client, accepted with a warning for one more release."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def accepts_picture(method: Callable[P, R]) -> Callable[P, R]:
    """Also accept the parameter `image` of `method` under its old name, `picture`."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if "picture" in kwargs:
            warnings.warn("The parameter `picture` is now `image`.", DeprecationWarning, stacklevel=2)
            kwargs["image"] = kwargs.pop("picture")
        return method(*args, **kwargs)

    return call
