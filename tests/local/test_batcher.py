"""Which of what waits goes next: whole, in turn, of like length, and at the cost of the batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jinaclip.backends.local.batcher import (
    LENGTH_RATIO,
    LENGTH_SLACK,
    Consumer,
    Item,
    Queue,
    Room,
    Rooms,
    can_share_batch,
    divide,
    size_of,
)
from tests.needs import long
from tests.steps import steps_of

MAX_TOKENS, MAX_IMAGES = 200, 3
PIXELS: Any = object()
"""What the queue never looks at."""


def consumer_of(batch_size: int = 16, *, urgent: bool = False) -> Consumer:
    return Consumer(lambda items, rows: None, lambda item, error: None, lambda error: None, batch_size, urgent)


class Ids(list[int]):
    """Token ids that count how often their number is asked for."""

    looks = 0

    def __len__(self) -> int:
        Ids.looks += 1
        return super().__len__()


def text(consumer: Consumer, length: int) -> Item:
    return Item(consumer, 0, ids=Ids([1] * length))


def image(consumer: Consumer) -> Item:
    return Item(consumer, 0, pixels=PIXELS)


def lengths_of(batch: list[Item]) -> list[int]:
    return [item.length for item in batch]


def rooms(tokens: int = MAX_TOKENS, padding: float = math.inf) -> Rooms:
    return Rooms(Room(tokens), Room(MAX_IMAGES), padding)


def filled(*items: Item) -> Queue:
    queue = Queue()
    for item in items:
        queue.add(item)
    return queue


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.integers(0, 4), st.one_of(st.integers(2, 60), st.integers(60, 400))),
        st.tuples(st.just("image"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("take"), st.just(0), st.just(0)),
        st.tuples(st.just("withdraw"), st.integers(0, 4), st.just(0)),
    ),
    max_size=120,
)


@given(STEPS)
def test_nothing_is_lost_or_doubled_and_each_batch_keeps_the_rules(steps: list[tuple[str, int, int]]) -> None:
    consumers = [consumer_of(batch_size) for batch_size in (1, 2, 5, 16, 64)]
    queue, waiting = Queue(), list[Item]()
    for what, number, length in [*steps, *[("take", 0, 0)] * len(steps)]:
        if what == "withdraw":
            queue.remove(consumers[number])
            waiting = [item for item in waiting if item.consumer is not consumers[number]]
        elif what == "take":
            assert bool(queue) == bool(waiting)
            if waiting:
                first = queue.consumers()[0]
                check_batch(queue.take(rooms()), first, waiting)
        else:
            item = text(consumers[number], length) if what == "text" else image(consumers[number])
            queue.add(item)
            waiting.append(item)
    assert not waiting
    assert not queue


@given(STEPS)
def test_nothing_is_lost_or_doubled_where_some_are_urgent(steps: list[tuple[str, int, int]]) -> None:
    consumers = [consumer_of(size, urgent=urgent) for size, urgent in ((2, True), (5, False), (16, True), (64, False))]
    queue, waiting, before = Queue(), list[Item](), False
    for what, number, length in [*steps, *[("take", 0, 0)] * len(steps)]:
        consumer = consumers[number % len(consumers)]
        if what == "withdraw":
            queue.remove(consumer)
            waiting = [item for item in waiting if item.consumer is not consumer]
        elif what == "take":
            assert bool(queue) == bool(waiting)
            if waiting:
                kinds = {item.consumer.urgent for item in waiting}
                batch = queue.take(rooms())
                assert batch[0].consumer.urgent == (not before if len(kinds) == 2 else kinds.pop())
                before = batch[0].consumer.urgent
                check_size(batch)
                for item in batch:
                    waiting.remove(item)
        else:
            item = text(consumer, length) if what == "text" else image(consumer)
            queue.add(item)
            waiting.append(item)
    assert not waiting
    assert not queue


def check_size(batch: list[Item]) -> None:
    assert len(batch) <= batch[0].consumer.batch_size
    assert len({item.pixels is None for item in batch}) == 1
    if batch[0].pixels is not None:
        assert len(batch) <= MAX_IMAGES
    else:
        assert len(batch) == 1 or max(lengths_of(batch)) * len(batch) <= MAX_TOKENS
    assert all(can_share_batch(item.length, batch[0].length) for item in batch)


def check_batch(batch: list[Item], first: Consumer, waiting: list[Item]) -> None:
    """A batch of the consumer whose turn it is, out of what waits, which loses it."""
    oldest = next(item for item in waiting if item.consumer is first)
    assert batch[0] is oldest
    assert len({id(item) for item in batch}) == len(batch) <= first.batch_size
    for item in batch:
        waiting.remove(item)
        assert (item.pixels is None) == (oldest.pixels is None)
        short, long = sorted((item.length, oldest.length))
        assert long - short <= LENGTH_SLACK or short >= LENGTH_RATIO * long
    if oldest.pixels is not None:
        assert len(batch) <= MAX_IMAGES
        return
    assert len(batch) == 1 or max(lengths_of(batch)) * len(batch) <= MAX_TOKENS
    farthest = max(abs(item.length - oldest.length) for item in batch)
    nearer = [item for item in waiting if item.pixels is None and abs(item.length - oldest.length) < farthest]
    assert not nearer, "what is nearer in length was left out"
    left = [item for item in waiting if item.pixels is None and can_share_batch(item.length, oldest.length)]
    nearest = min((abs(item.length - oldest.length) for item in left), default=0)
    follow = [item for item in left if abs(item.length - oldest.length) == nearest]
    assert len(batch) == first.batch_size or not follow or any(overflows(item, batch) for item in follow)


def overflows(item: Item, batch: list[Item]) -> bool:
    return max(*lengths_of(batch), item.length) * (len(batch) + 1) > MAX_TOKENS


def test_a_longer_text_may_be_a_quarter_longer_and_a_shorter_one_a_fifth_shorter() -> None:
    one = consumer_of()
    queue = Queue()
    for length in (200, 159, 160, 250, 251):
        queue.add(text(one, length))
    assert [sorted(lengths_of(queue.take(rooms(10_000)))) for _ in range(3)] == [[160, 200, 250], [159], [251]]


def test_texts_share_a_batch_while_their_padding_costs_less_than_a_pass() -> None:
    one = consumer_of()
    queue = Queue()
    for length in (40, 40, 40, 39, 39, 44, 33, 31):
        queue.add(text(one, length))
    # those of 39 take 2 tokens of padding; 44 beside all five would take 22. Beside 44, 33 takes 11, and 31 another 13
    own = rooms(10_000, 18)
    assert [sorted(lengths_of(queue.take(own))) for _ in range(3)] == [
        [39, 39, 40, 40, 40],
        [33, 44],
        [31],
    ]


@given(st.lists(st.integers(2, 200), min_size=1, max_size=60), st.integers(0, 100))
def test_no_batch_has_more_padding_than_a_pass_is_worth(lengths: list[int], most: int) -> None:
    queue, count = Queue(), 0
    for length in lengths:
        queue.add(text(consumer_of(64), length))
    while queue:
        found = lengths_of(queue.take(rooms(padding=most)))
        count += len(found)
        assert len(found) * max(found) - sum(found) <= most
    assert count == len(lengths)


def test_of_one_length_a_consumer_s_own_go_first_and_then_the_others_in_turn() -> None:
    one, two, three = consumer_of(3), consumer_of(3), consumer_of(3)
    queue = filled(*[text(consumer, 5) for consumer in (one, two, three) for _ in range(4)])
    names = {one: "a", two: "b", three: "c"}
    batches = ["".join(names[item.consumer] for item in queue.take(rooms())) for _ in range(4)]
    assert batches == ["aaa", "bbb", "ccc", "abc"]


# -- room


def test_batches_become_half_as_large_as_what_found_no_memory() -> None:
    one = consumer_of(64)
    queue, own, other = filled(*[text(one, 10) for _ in range(100)]), rooms(), rooms()
    for most in (20, 10, 5, 2, 1, 1):
        batch = queue.take(own)
        assert len(batch) == most
        own.of(batch).shrink(size_of(batch))
    assert own.of([image(one)]).now == MAX_IMAGES, "images have a room of their own"
    assert len(queue.take(other)) == 20, "so has each device"


def test_what_is_left_of_a_failed_batch_is_cut_to_the_room_there_is() -> None:
    one = consumer_of(64)
    queue, own = filled(*[text(one, 10) for _ in range(20)]), rooms()
    batch = queue.take(own)
    for half in divide(batch):
        queue.put_back(half)
    own.of(batch).shrink(80)
    assert [len(queue.take(own)) for _ in range(6)] == [4, 4, 2, 4, 4, 2]
    assert not queue


def test_room_heals_and_a_size_that_fails_again_is_tried_ever_more_seldom() -> None:
    room, tried = Room(64), list[int]()
    for number in range(5000):  # memory for 20 at a time, for the first 4000 batches
        size = room.now
        if number < 4000 and size > 20:
            tried.append(number)
            room.shrink(size)
        else:
            room.note(size)
    assert room.now == 64
    gaps = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert gaps == sorted(gaps)
    assert len(tried) <= 16


def test_a_small_batch_teaches_nothing_about_room() -> None:
    room = Room(64)
    room.shrink(64)
    for _ in range(1000):
        room.note(3)
    assert room.now == 32


# -- what it costs


def alike(count: int, consumers: int) -> Queue:
    askers = [consumer_of() for _ in range(consumers)]
    return filled(*[text(askers[number % consumers], 10) for number in range(count)])


def mixed(count: int, consumers: int) -> Queue:
    askers = [consumer_of() for _ in range(consumers)]
    return filled(*[text(askers[number % consumers], 2 + number * 7 % 500) for number in range(count)])


def apart(count: int, consumers: int) -> Queue:
    """The first text shares a batch with no other, though all others lie next to what would fit."""
    queue = filled(text(consumer_of(), 100))
    askers = [consumer_of() for _ in range(consumers)]
    for number in range(count):
        queue.add(text(askers[number % consumers], 126))
    return queue


def shown(count: int, consumers: int) -> Queue:
    askers = [consumer_of() for _ in range(consumers)]
    return filled(*[image(askers[number % consumers]) for number in range(count)])


@pytest.mark.slow
@pytest.mark.parametrize("consumers", [long(1), long(25), 1_000])
@pytest.mark.parametrize("fill", [alike, mixed, apart, shown])
def test_picking_costs_about_the_batch_whatever_waits(fill: Callable[[int, int], Queue], consumers: int) -> None:
    queue = fill(20_000, consumers)
    for _ in range(5):
        before = Ids.looks
        steps, batch = steps_of(queue.take, rooms())
        assert batch
        assert Ids.looks - before <= 4 * len(batch)
        assert steps <= 200 + 60 * len(batch)


def test_withdrawing_costs_about_what_the_consumer_has_waiting() -> None:
    leaving = consumer_of()
    queue = mixed(20_000, 25)
    for length in range(10, 40):
        queue.add(text(leaving, length))
    before = Ids.looks
    steps, _ = steps_of(queue.remove, leaving)
    assert Ids.looks - before == 30
    assert steps <= 50 * 30
