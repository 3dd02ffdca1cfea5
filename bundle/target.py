"""What the decoder makes of an image: the size of the model's input, and how it is reached."""

from typing import Literal, NamedTuple

#: How an image gets the aspect ratio of the input. `squash`: it is stretched. `crop`: the middle of it is used. `pad`:
#: it gets black borders.
Resize = Literal["squash", "crop", "pad"]
#: How pixels are averaged. `bilinear` decodes large images at a lower resolution, which is fast (decisions/030); the
#: others give exactly the pixels of `Image.resize`.
Filter = Literal["bilinear", "bicubic", "nearest", "area"]


class Target(NamedTuple):
    """The model's input, in pixels, and how an image is resized to it."""

    height: int
    width: int
    resize: Resize = "squash"
    filter: Filter = "bilinear"
