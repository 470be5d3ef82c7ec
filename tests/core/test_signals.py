"""A host's own exceptions come through wherever they strike: the time limit of a task queue, Ctrl-C, a timeout."""

import subprocess
import sys
import threading

import pytest

from jinaclip import process
from tests.needs import long, skip_without

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no setitimer on this system")

PROGRAM = """
import random, signal, sys, time
from io import BytesIO
import numpy as np

KINDS = [TimeoutError, ValueError, RuntimeError, type("SoftTimeLimitExceeded", (Exception,), {}), KeyboardInterrupt]
subjects, where, moments = sys.argv[1].split(","), sys.argv[2], int(sys.argv[3])

subject, kind = subjects[0], KINDS[0]

def strike(number, frame):
    raise kind("the host's own")

signal.signal(signal.SIGALRM, strike)
SUBJECT

def measure():
    since = time.perf_counter()
    call()
    return time.perf_counter() - since

for subject in subjects:
    call()
    usual, rng, struck, tries = measure(), random.Random(subject), 0, 0
    while struck < moments and tries < 6 * moments:
        tries += 1
        kind = KINDS[tries % len(KINDS)]
        try:
            signal.setitimer(signal.ITIMER_REAL, max(1e-5, rng.uniform(0, 0.9) * usual))
            call()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except kind as error:
            assert type(error) is kind and str(error) == "the host's own", repr(error)
            struck += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        usual = min(usual, measure())
    assert struck == moments, f"{subject}: only {struck} of {tries} calls were struck"
print("all the host's")
"""

IMAGES = """
from PIL import Image
import jinaclip
pixels = np.random.default_rng(1).integers(0, 256, (700, 900, 3), np.uint8)
buffer = BytesIO()
Image.fromarray(pixels).save(buffer, "JPEG")
clip = jinaclip.JinaClip(api_key="jina_test_signals", base_url=where)
numbers = iter(range(10**9))
def call():
    image = Image.open(BytesIO(buffer.getvalue())) if subject == "lazy" else buffer.getvalue()
    assert clip.embed_images([image, pixels]).shape == (2, 1024)
"""

PAGES = """
import pypdfium2, jinaclip
from jinaclip.images import Pages
pdf = pypdfium2.PdfDocument.new()
for _ in range(2):
    pdf.new_page(300, 400)
buffer = BytesIO()
pdf.save(buffer)
data = jinaclip.Image.from_bytes(buffer.getvalue())
clip = jinaclip.JinaClip(api_key="jina_test_signals", base_url=where)
def call():
    with Pages() as pages:
        found = [pages.find(data, number) for number in (1, 2)]
        assert clip.embed_images(found).shape == (2, 1024)
"""

TOKENIZER = """
import jinaclip
clip = jinaclip.JinaClip(where, backend="local", device="cpu", truncate=True)
texts = ["some words to be tokenized " * 20] * 10
from pathlib import Path
from jinaclip.backends.local.tokenizer import Tokenizer
direct = Tokenizer(Path(where), vocab_size=10**6, max_tokens=8192)
def call():
    if subject == "in the caller's thread":
        assert len(direct.encode(texts * 10, truncate=True)) == 100
    elif subject == "count":
        assert clip.estimate(texts).tokens > 100
    else:
        assert clip.embed_documents(texts).shape[0] == 10
"""

LOADER = """
import jinaclip
def call():
    clip = jinaclip.JinaClip(where, backend="local", device="cpu")
    clip.load()
    clip.close()
"""

SELF_TEST = """
import jinaclip
clip = jinaclip.JinaClip(api_key="jina_test_signals", base_url=where)
def call():
    assert clip.self_test().problems == ()
"""


@pytest.fixture(params=[1, long(40)], ids=["few", "many"])
def run(request):
    """Runs a program: it ends in time, and nothing but the host's exceptions, of five kinds by turns, comes out."""

    def run(program, where, moments, *subjects):
        code, moments = PROGRAM.replace("SUBJECT", program), moments * request.param
        command = [sys.executable, "-c", code, ",".join(subjects), str(where), str(moments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200 + 40 * request.param, check=False)
        assert (done.returncode, done.stdout) == (0, "all the host's\n"), done.stderr

    return run


@pytest.mark.slow
def test_the_decoder(run, server):
    run(IMAGES, server.url, 10, "file", "lazy")


@pytest.mark.slow
def test_the_pages_of_a_document(run, server):
    skip_without("pypdfium2")
    run(PAGES, server.url, 10, "pages")


@pytest.mark.slow
def test_the_self_test(run, server):
    run(SELF_TEST, server.url, 10, "self_test")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny checkpoint."""
    from tests.tiny import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("signals") / "tiny", "v2")


@pytest.mark.slow
def test_the_tokenizer(run, tiny):
    run(TOKENIZER, tiny, 10, "embed", "count", "in the caller's thread")


@pytest.mark.slow
def test_the_loader(run, tiny):
    run(LOADER, tiny, 5, "load")


def lose_lock():
    """`Thread.start` waits for a condition, whose exit then fails with an error of its own."""
    condition = threading.Condition(threading.Lock())
    with condition:
        condition.release()
        raise TimeoutError("the host's own")


def lose_note():
    """`Thread.start` notes a thread until it runs; if it runs already, taking the note back fails."""
    try:
        raise TimeoutError("the host's own")
    except TimeoutError:
        del {}["the thread"]
        raise


@pytest.mark.parametrize("lose", [lose_lock, lose_note])
def test_a_strike_amid_the_start_of_a_thread_comes_through_as_it_is(lose):
    """Once in some thousand, Python adds an error of its own."""

    class Struck(threading.Thread):
        def start(self):
            lose()

    with pytest.raises(TimeoutError, match="the host's own"):
        process.start(Struck())


def test_a_host_s_own_key_error_amid_the_start_of_a_thread_comes_through():
    class Struck(threading.Thread):
        def start(self):
            raise KeyError("the host's own")

    with pytest.raises(KeyError, match="the host's own"):
        process.start(Struck())
