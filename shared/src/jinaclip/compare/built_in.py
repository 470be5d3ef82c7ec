"""A few texts and images, for those who bring none: enough to see a mistake, too few to be sure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

TEXTS = (
    "a red summer dress",
    "a warm winter coat with a hood",
    "an old wooden boat on a lake at dawn",
    "two children play football in the rain",
    "The meeting is moved to Thursday at nine.",
    "How do I reset the password of my router?",
    "a bowl of tomato soup with basil",
    "Total due: 1,284.50 EUR, payable within 30 days",
    "a black cat asleep on a keyboard",
    "a street in a city at night, neon signs, wet asphalt",
    "def area(radius): return 3.14159 * radius ** 2",
    "The train to the coast leaves from platform 4.",
    "ein rotes Sommerkleid",
    "Wie lange ist die Rechnung gültig?",
    "une robe rouge pour l'été",
    "un perro corre por la playa",
    "uma xícara de café sobre a mesa",
    "красное летнее платье",
    "赤い夏のワンピース",
    "一只黑猫睡在键盘上",
    "فستان صيفي أحمر",
    "लाल गर्मियों की पोशाक",
    "a",
    (
        "The report, which had been expected in spring, came out in autumn; it found that most of the bridges in the "
        "north were sound, that a few needed new bearings, and that one, built in a hurry, had to be closed."
    ),
)
COLOURS = (((200, 40, 40), (245, 235, 220)), ((30, 60, 140), (250, 210, 60)), ((20, 110, 60), (20, 20, 20)))
"""Of the shape and of what is around it."""
HEIGHT, WIDTH = 120, 180
"""Not square: how images come to the model's size must show."""


def draw_images() -> list[NDArray[np.uint8]]:
    """Twelve images of shape (120, 180, 3): four shapes in three pairs of colours."""
    return [paint(mask, *pair) for mask in draw_masks() for pair in COLOURS]


def draw_masks() -> Iterator[NDArray[np.float64]]:
    """Shapes as numbers from 0 to 1: a disc left of the middle, stripes, squares, and a ramp."""
    y, x = np.indices((HEIGHT, WIDTH), np.float64)
    yield ((x - 60) ** 2 + (y - 60) ** 2 < 45**2).astype(np.float64)
    yield (x + 2 * y) // 24 % 2
    yield (x // 20 + y // 20) % 2
    yield x / (WIDTH - 1)


def paint(mask: NDArray[np.float64], inside: tuple[int, ...], outside: tuple[int, ...]) -> NDArray[np.uint8]:
    """A shape in two colours."""
    share = mask[..., None]
    return (share * np.array(inside) + (1 - share) * np.array(outside)).round().astype(np.uint8)
