"""What the frame and the scans of a JPEG file say of each other."""

from __future__ import annotations

from jinaclip.errors import InputError
from jinaclip.images.containers.refusals import ambiguous, damaged, unsupported

MAX_SCANS, MAX_SCANS_OF_LARGE = 100, 20
"""Most scans of a JPEG, and of one of many pixels. Each costs a pass over the whole image; encoders make about ten."""
MAX_SCANNED = 2_400_000_000
"""Most pixels that all scans together go over, where there are more than `MAX_SCANS_OF_LARGE`: two seconds of work."""
PROGRESSIVE = 0xC2
FRAMES = (0xC0, 0xC1, PROGRESSIVE)
"""Markers of the frames that every reader knows: baseline, extended sequential, progressive; all Huffman-coded."""


class Frame:
    """The header of a frame: its size, and the sampling factors of each colour component by its number."""

    def __init__(self, marker: int, body: bytes) -> None:
        count = body[5] if len(body) > 5 else 0
        if len(body) != 6 + 3 * count or count not in (1, 3, 4):
            raise damaged("JPEG", f"its frame has {count} colour components in {len(body)} bytes")
        if body[0] != 8:
            raise unsupported("JPEG", f"has {body[0]} bits a sample")
        self.progressive = marker == PROGRESSIVE
        self.height, self.width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
        self.components = {body[at]: (body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, len(body), 3)}
        if len(self.components) != count:
            raise ambiguous("JPEG", "two of its colour components have one number")
        if any(not 1 <= factor <= 4 for factors in self.components.values() for factor in factors):
            raise damaged("JPEG", "its sampling factors are not 1 to 4")

    def count_units(self, numbers: list[int]) -> int:
        """How many coded units a scan of these components has, between which restart markers may stand."""
        across = max(x for x, _ in self.components.values())
        down = max(y for _, y in self.components.values())
        x, y = self.components[numbers[0]] if len(numbers) == 1 else (1, 1)
        return divide_up(self.width * x, 8 * across) * divide_up(self.height * y, 8 * down)


class Scans:
    """The scans of a frame. Together they must give each component once, and no bit of it twice."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self._count = 0
        affordable = MAX_SCANNED // max(1, frame.width * frame.height)
        self._most = max(MAX_SCANS_OF_LARGE, min(MAX_SCANS, affordable))
        self._problem = ""
        self._bits = {number: [_NOTHING] * 64 for number in frame.components}

    def add(self, body: bytes) -> int:
        """Takes the header of a scan. How many coded units the scan has.

        Raises:
            InputError: it is damaged, or one of too many.
        """
        self._count += 1
        if self._count > self._most:
            raise InputError(f"the JPEG file has over {self._most} scans, which no encoder makes")
        count = body[0] if body else 0
        numbers = list(body[1 : 1 + 2 * count : 2])
        if len(body) != 4 + 2 * count or not set(numbers) <= set(self.frame.components) or not 0 < count <= 4:
            raise damaged("JPEG", "a scan does not fit its frame")
        first, last, high, low = (
            (*body[-3:-1], body[-1] >> 4, body[-1] & 15) if self.frame.progressive else (0, 63, 0, 0)
        )
        for number in numbers:
            self._add_bits(self._bits[number], first, last, high, low)
        return self.frame.count_units(numbers)

    def are_complete(self) -> bool:
        """Whether they give the whole image. To be called at its end.

        Raises:
            InputError: they repeat each other, or are out of order.
        """
        if self._problem:
            raise ambiguous("JPEG", self._problem)
        return all(bit == 0 for bits in self._bits.values() for bit in bits)

    def _add_bits(self, bits: list[int], first: int, last: int, high: int, low: int) -> None:
        """Notes up to which bit the coefficients `first` to `last` of a component are known by now."""
        expected = high if high else _NOTHING
        if any(known != expected for known in bits[first : last + 1]) or (first and bits[0] == _NOTHING):
            self._problem = "its scans give the same data twice, or out of order"
        bits[first : last + 1] = [low] * len(bits[first : last + 1])


_NOTHING = -1


def divide_up(number: int, divisor: int) -> int:
    """The quotient, rounded up."""
    return -(-number // divisor)
