"""The pool that prepares images for the whole process: its threads, its turns, its budget of pixels, its memory."""

import asyncio
import os
import subprocess
import sys
import threading
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Pillow

import jinaclip
from jinaclip import ConfigError, InputError, JinaClipError
from jinaclip.call import pool as pools
from jinaclip.call.pool import Budget, CallQueue, Dropped, Pool, Preparation, configure, preparation
from jinaclip.process import Latch, Task, available_cpus
from tests.needs import long
from tests.watching import threads, until

MANY = 64
"""CPUs of the machine of the fake trees."""


@pytest.fixture
def big_machine(monkeypatch):
    """This process may run on 64 CPUs, as far as its affinity goes."""
    monkeypatch.setattr(os, "process_cpu_count", lambda: MANY, raising=False)


@pytest.fixture
def restored():
    """The threads and pixels of the process as they were."""
    kept = preparation().images.size
    yield
    configure(prepare_threads=kept, pixel_budget=pools.PIXEL_BUDGET)


def tree(root, groups, **files):
    """A fake `/proc` and `/sys`: the lines of the own cgroup, and the files of each group."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in groups))
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


CGROUPS = {
    "none": ([], {}, MANY),
    "v2": (["0::/"], {"cpu.max": "200000 100000"}, 2),
    "v2, no limit": (["0::/"], {"cpu.max": "max 100000"}, MANY),
    "v2, a share": (["0::/"], {"cpu.max": "50000 100000"}, 1),
    "v2, two and a half": (["0::/"], {"cpu.max": "250000 100000"}, 3),
    "v2, the parent's is lower": (
        ["0::/kube/pod/box"],
        {"kube/cpu.max": "200000 100000", "kube/pod/cpu.max": "max 100000", "kube/pod/box/cpu.max": "800000 100000"},
        2,
    ),
    "v2, the folder is the group": (["0::/kube/pod/box"], {"cpu.max": "200000 100000"}, 2),
    "v2, out of its namespace": (["0::/../box"], {"cpu.max": "200000 100000"}, 2),
    "v1": (
        ["4:cpu,cpuacct:/"],
        {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        2,
    ),
    "v1, by its other name": (
        ["4:cpu,cpuacct:/docker/x", "5:memory:/docker/x"],
        {"cpu/docker/x/cpu.cfs_quota_us": "300000", "cpu/docker/x/cpu.cfs_period_us": "100000"},
        3,
    ),
    "v1, no limit": (["4:cpu:/"], {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, MANY),
    "v1 beside v2": (
        ["4:cpu:/", "0::/"],
        {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000", "cpu.max": "max 100000"},
        4,
    ),
    "nonsense": (["", "0", "0::/", "x:y"], {"cpu.max": "much of it"}, MANY),
}


@pytest.mark.usefixtures("big_machine")
@pytest.mark.parametrize("case", CGROUPS)
def test_what_the_cgroups_grant_counts(tmp_path, case):
    groups, files, wanted = CGROUPS[case]
    assert available_cpus(tree(tmp_path, groups, **files)) == wanted


def test_the_affinity_counts_where_nothing_is_granted(tmp_path):
    assert available_cpus(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.usefixtures("big_machine")
def test_a_quota_of_two_gives_three_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(pools, "available_cpus", partial(available_cpus, tree(tmp_path, ["0::/"], **CGROUPS["v2"][1])))
    pool, queue, go = Pool("jinaclip-test"), CallQueue(), threading.Event()
    tasks = [Task(go.wait) for _ in range(9)]
    for task in tasks:
        pool.submit(queue, task)
    until(lambda: len(threads("jinaclip-test")) == 3)
    go.set()
    assert all(task.done.wait(10) for task in tasks)
    assert len(threads("jinaclip-test")) <= 3
    until(lambda: threads("jinaclip-test") == [])


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "2", float("inf")])
@pytest.mark.parametrize("name", ["prepare_threads", "pixel_budget"])
def test_a_wrong_setting_is_refused_and_changes_nothing(name, value):
    before = preparation().images.size
    with pytest.raises(ConfigError, match=name):
        jinaclip.configure(**{name: value})
    assert preparation().images.size == before


def test_threads_come_and_go_with_the_setting_while_they_work():
    pool, queue = Pool("jinaclip-test", 1), CallQueue()
    gates = [threading.Event() for _ in range(40)]
    tasks = [Task(gate.wait) for gate in gates]
    for task in tasks:
        pool.submit(queue, task)
    until(lambda: queue.running == 1)
    pool.resize(4)
    gates[0].set()
    until(lambda: queue.running == 4)
    assert len(threads("jinaclip-test")) == 4
    pool.resize(2)
    for gate in gates[1:5]:
        gate.set()
    until(lambda: len(threads("jinaclip-test")) == 2)
    for gate in gates:
        gate.set()
    assert all(task.done.wait(10) for task in tasks)


def test_lanes_take_turns():
    """One image of the second caller comes after one more of the first, however many the first has waiting."""
    pool, first, second, order = Pool("jinaclip-test", 1), CallQueue(), CallQueue(), []
    go = threading.Event()
    pool.submit(first, Task(go.wait))
    until(lambda: first.running == 1)
    tasks = [Task(partial(order.append, f"first {number}")) for number in range(50)]
    late = Task(partial(order.append, "second"))
    for task in tasks:
        pool.submit(first, task)
    pool.submit(second, late)
    go.set()
    assert all(task.done.wait(10) for task in [*tasks, late])
    assert order.index("second") <= 1
    assert len(order) == 51


def test_a_lane_keeps_to_its_limit_and_others_pass():
    pool, slow, quick, go = Pool("jinaclip-test", 8), CallQueue(limit=2), CallQueue(), threading.Event()
    waiting = [Task(go.wait) for _ in range(20)]
    for task in waiting:
        pool.submit(slow, task)
    passing = [Task(lambda: None) for _ in range(20)]
    for task in passing:
        pool.submit(quick, task)
    assert all(task.done.wait(10) for task in passing)
    assert slow.running == 2
    go.set()
    assert all(task.done.wait(10) for task in waiting)


def test_a_closed_lane_runs_nothing_more(monkeypatch):
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.1)
    pool, queue, go, ran = Pool("jinaclip-test", 1), CallQueue(), threading.Event(), []
    pool.submit(queue, Task(go.wait))
    until(lambda: queue.running == 1)
    for number in range(9):
        pool.submit(queue, Task(partial(ran.append, number)))
    queue.close()
    go.set()
    until(lambda: threads("jinaclip-test") == [])
    assert ran == []


def test_an_error_of_a_task_goes_to_whoever_asks_and_the_thread_lives_on():
    pool, queue = Pool("jinaclip-test", 1), CallQueue()
    bad, good = Task(lambda: 1 / 0), Task(lambda: 5)
    pool.submit(queue, bad)
    pool.submit(queue, good)
    assert good.done.wait(10) and good.result() == 5
    with pytest.raises(ZeroDivisionError):
        bad.result()


class Asker:
    """Reserves pixels in a thread of its own."""

    def __init__(self, budget, pixels, queue=None):
        self.queue, self.place, self.error = queue or CallQueue(), None, None
        self._budget, self._pixels = budget, pixels
        self.thread = threading.Thread(target=self._reserve, daemon=True)
        self.thread.start()

    def _reserve(self):
        try:
            self.place = self._budget.reserve(self._pixels, self.queue)
        except Dropped as error:
            self.error = error


def test_pixels_are_granted_in_the_order_in_which_they_are_asked_for():
    budget = Budget(100)
    held = budget.reserve(70, CallQueue())
    large = Asker(budget, 60)
    until(lambda: len(budget._claims) == 1)
    small = Asker(budget, 10)
    until(lambda: len(budget._claims) == 2)
    small.thread.join(3 * pools.CHECK_SECONDS)
    assert small.place is None, "it would fit, but the large one came first"
    budget.release(held)
    until(lambda: large.place and small.place)


def test_what_is_larger_than_the_budget_goes_alone():
    budget = Budget(100)
    held = budget.reserve(1, CallQueue())
    huge = Asker(budget, 10**9)
    until(lambda: len(budget._claims) == 1)
    budget.release(held)
    until(lambda: huge.place)
    other = Asker(budget, 1)
    until(lambda: len(budget._claims) == 1)
    budget.release(huge.place)
    until(lambda: other.place)


def test_one_whose_call_ends_leaves_the_queue_to_the_next():
    budget = Budget(100)
    held, first = budget.reserve(70, CallQueue()), Asker(budget, 90)
    until(lambda: len(budget._claims) == 1)
    second = Asker(budget, 30)
    first.queue.close()
    until(lambda: second.place)
    until(lambda: isinstance(first.error, Dropped))
    budget.release(held)


def test_a_larger_budget_helps_those_who_wait():
    budget = Budget(100)
    budget.reserve(70, CallQueue())
    asker = Asker(budget, 60)
    until(lambda: len(budget._claims) == 1)
    budget.resize(200)
    until(lambda: asker.place)


def png(width, height=None, value=0):
    buffer = BytesIO()
    Pillow.new("RGB", (width, height or width), (value % 256, value // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.usefixtures("restored")
async def test_a_tiny_budget_and_a_single_thread_give_the_same_vectors(clip, run):
    one, images = clip(), [png(20 + number, value=number) for number in range(30)]
    wanted = one.embed_images(images)
    configure(prepare_threads=1, pixel_budget=1)
    assert (await run(one, "embed_images", images) == wanted).all()
    configure(prepare_threads=7)
    assert (await run(one, "embed_images", images) == wanted).all()


@pytest.mark.parametrize("make", [lambda size: png(*size), lambda size: np.zeros((size[1], size[0], 3), np.uint8)])
def test_an_image_reserves_the_pixels_of_its_header_and_gives_them_back(clip, monkeypatch, make):
    asked, reserve = [], Budget.reserve
    monkeypatch.setattr(
        Budget, "reserve", lambda self, pixels, queue: asked.append(pixels) or reserve(self, pixels, queue)
    )
    clip().embed_image(make((300, 200)))
    assert asked == [302 * 200 + 4 * 512 * 512]
    until(lambda: preparation().budget._taken == 0)


@pytest.mark.slow
async def test_nothing_is_left_of_cancelled_calls(clip, server, monkeypatch):
    """Neither work nor pixels, nor, soon after, a thread."""
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.1)
    server.configure(base_ms=60_000)
    one = clip()
    tasks = [
        asyncio.create_task(one.aembed_images(png(500, value=256 * call + number) for number in range(200)))
        for call in range(8)
    ]
    await asyncio.sleep(0.2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    one.close()
    await asyncio.to_thread(until, lambda: preparation().budget._taken == 0 and not threads("jinaclip-images"))
    assert not preparation().budget._claims


@pytest.mark.slow
def test_a_call_goes_on_after_the_threads_have_ended(clip, monkeypatch):
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.1)
    one = clip()
    for value in range(2):
        one.embed_image(png(9, value=value))
        until(lambda: threads("jinaclip-images") == [])


class Page:
    """Draws itself, in a thread; has no size until then."""

    def __init__(self, seen):
        self.seen = seen

    def render(self, max_pixels):
        self.seen.append(threading.current_thread().name)
        return Pillow.new("RGB", (30, 30), (1, 2, 3))


async def test_what_draws_itself_does_so_when_its_turn_comes_in_the_pool(clip, run):
    seen = []
    await run(clip(), "embed_images", [Page(seen)] * 3)
    assert set(seen) == {"jinaclip-images"}


@pytest.mark.slow
def test_servers_that_hang_hold_up_no_other_call(clip, server):
    """There are two threads here or a few, and a hundred hosts that never answer."""
    import socket

    from jinaclip import ImagePolicy

    with socket.create_server(("127.0.0.1", 0), backlog=256) as silent:
        port = silent.getsockname()[1]
        policy = ImagePolicy(
            schemes=("http",), ports=(port,), allow_networks=("127.0.0.0/8",), fetch_timeout=300, connect_timeout=300
        )
        slow = clip(image_policy=policy)
        urls = [f"http://127.0.0.1:{port}/{number}" for number in range(100)]
        caller = threading.Thread(target=lambda: slow.embed(urls and map(jinaclip.Image.from_url, urls)), daemon=True)
        caller.start()
        until(lambda: len(threads("jinaclip-fetch")) > 1)
        assert clip().embed_images([png(20, value=number) for number in range(50)]).shape == (50, 1024)
        assert caller.is_alive()
        slow.close()
        caller.join(10)
        assert not caller.is_alive()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_threads_of_its_own(clip, server):
    code = """
import os, sys, numpy as np, jinaclip
clip = jinaclip.JinaClip(api_key="jina_test_fork", base_url=sys.argv[1])
make = lambda value: np.full((9, 9, 3), value, np.uint8)
clip.embed_image(make(1))
child = os.fork()
rows = clip.embed_images([make(value) for value in range(20)])
if child == 0:
    os._exit(0 if rows.shape == (20, 1024) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, server.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_call_that_was_forked_in_its_middle_says_so(clip, monkeypatch):
    """Its images are with the parent's threads."""
    gate, begun, problems = Latch(), Latch(), []
    monkeypatch.setattr("jinaclip.images.open_tile", lambda *_, **__: begun.set() or gate.wait(60))

    def call():
        try:
            clip().embed_image(png(9))
        except JinaClipError as error:
            problems.append(str(error))

    caller = threading.Thread(target=call)
    caller.start()
    assert begun.wait(10)
    monkeypatch.setattr(pools._settings, "preparation", Preparation())
    caller.join(10)
    gate.set()
    assert "forked" in problems[0]


ENDING = """
import sys, threading, numpy as np, jinaclip
clip = jinaclip.JinaClip(api_key="jina_test_end", base_url=sys.argv[1])
items = (np.full((900, 900, 3), value % 256, np.uint8) for value in range(10_000))
threading.Thread(target=clip.embed_images, args=(items,), daemon=True).start()
while not any(thread.name == "jinaclip-images" for thread in threading.enumerate()): pass
"""


def test_a_program_may_end_while_images_are_prepared(server):
    done = subprocess.run(
        [sys.executable, "-c", ENDING, server.url], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- memory

GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "1000000"}
"""So that glibc keeps nothing that was freed: what is counted is alive."""
ERRORS = """
import gc, resource, sys, threading, numpy as np, jinaclip
clip, kept = jinaclip.JinaClip(api_key="jina_test_errors", base_url=sys.argv[1]), []

def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def make(number):
    yield np.full((2000, 1200, 3), number, np.uint8)
    yield b"\\x89PNG\\r\\n\\x1a\\n" + bytes(7_000_000)

def fail(number):
    try:
        clip.embed_images(list(make(number)) if sys.argv[2] == "list" else make(number))
    except jinaclip.InputError as error:
        kept.append(error)

for number in range(5):
    fail(number)
before = resident()
for number in range(20):
    fail(number)
assert len(kept) == 25
print((resident() - before) // 2**20, sum(thread.name == "jinaclip-images" for thread in threading.enumerate()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("form", ["list", long("iterator")])
def test_errors_that_are_kept_keep_no_image_alive(server, form):
    command, environment = [sys.executable, "-c", ERRORS, server.url, form], {**os.environ, **GIVES_BACK}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    grown, pool_threads = map(int, done.stdout.split())
    assert grown < 60, f"{grown} MiB for 20 errors, whose images take 280 MiB"
    assert pool_threads <= available_cpus() + pools.SPARE_THREADS


@pytest.mark.slow
async def test_errors_of_coroutines_hold_no_argument(clip):
    import gc
    import weakref

    class Marked(np.ndarray):
        """An array that can be watched."""

    bad = np.zeros((5, 5, 2), np.uint8).view(Marked)
    watched = weakref.ref(bad)
    with pytest.raises(InputError) as caught:
        await clip().aembed_image(bad)
    del bad
    gc.collect()
    assert watched() is None
    assert caught.value.args


MEMORY = """
import os, resource, sys, threading
from io import BytesIO
import numpy as np
from PIL import Image
import jinaclip

jinaclip.configure(prepare_threads=int(sys.argv[3]), pixel_budget=int(sys.argv[4]))
policy = jinaclip.ImagePolicy(max_pixels_per_byte=10**9)
clip = jinaclip.JinaClip(api_key="jina_test_memory", base_url=sys.argv[1], image_policy=policy)
form, side = sys.argv[2], int(sys.argv[5])

def make(number):
    buffer = BytesIO()
    options = {"JPEG": {"progressive": True, "quality": 30}, "WEBP": {"lossless": True, "method": 0}}.get(form, {})
    mode = "RGB" if form == "JPEG" else "RGBA"
    image = Image.new(mode, (side, side), (number, 0, 0, 100)[:len(mode)])
    image.save(buffer, form, **options)
    return buffer.getvalue()

files = [make(number) for number in range(16)]
clip.embed_image(make(77))

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

before, peak, over = resident(), [0], threading.Event()

def watch():
    while not over.wait(0.001):
        peak[0] = max(peak[0], resident())

watcher = threading.Thread(target=watch)
watcher.start()
rows = [None] * 16
def call(number):
    rows[number] = clip.embed_images([files[number]])
callers = [threading.Thread(target=call, args=(number,)) for number in range(16)]
[caller.start() for caller in callers]
[caller.join() for caller in callers]
over.set()
watcher.join()
assert all(row is not None and row.shape == (1, 1024) for row in rows)
print(peak[0] - before)
"""


THREADS = 4
SIDES = [2_000, long(3_950)]
"""Of images of 4 and of 15.6 megapixels."""


def two_images(side):
    """A budget of pixels that holds two of them."""
    return 2 * (side * side + 512 * 512)


def memory_of_sixteen_callers(server, form, side, **environment):
    """Bytes by which the process grew at most, where sixteen callers embed an image each."""
    command = [sys.executable, "-c", MEMORY, server.url, form, *map(str, (THREADS, two_images(side), side))]
    env = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("form", ["JPEG", long("PNG"), long("WEBP")])
def test_sixteen_callers_stay_under_the_budget(server, form, side):
    """Images of the kinds that take most a pixel, where what is freed goes back to the system."""
    assert memory_of_sixteen_callers(server, form, side, **GIVES_BACK) < 24 * two_images(side)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("side", SIDES)
def test_what_glibc_keeps_for_each_thread_is_in_the_formula(server, side):
    assert memory_of_sixteen_callers(server, "WEBP", side) < 24 * max(two_images(side), THREADS * side * side)
