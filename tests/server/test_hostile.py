"""Good clients beside hostile ones, against a real server: they are answered, and nothing of anybody is left behind."""

import asyncio
import random
import re
from collections import Counter

import httpx
import pytest

from jinaclip import JinaClip
from jinaclip.server.keys import make_key
from tests.needs import long
from tests.server.attackers import AGAIN, LASTING, MARK
from tests.server.processes import TEXTS, gateway_to, serving, texts
from tests.tiny import make_checkpoint

MIB = 2**20
OPTIONS = {
    "max-body": 8 * MIB,
    "max-memory": 64 * MIB,
    "max-queue": 2000,
    "max-connections": 2000,
    "header-timeout": 6,
    "body-timeout": 6,
    "send-timeout": 6,
}
"""Time-outs are longer than a client waits for its turn in this process, which is busy with the hostile ones, too."""
MOST_GROWTH = 6 * OPTIONS["max-memory"]
"""Bytes that the process may grow by: what is held, parsed, decoded, and written as an answer."""


@pytest.fixture(scope="module")
def keys():
    """Keys by name, and the lines of their file."""
    made = {
        "good": make_key("good"),
        "hostile": make_key("hostile"),
        "small": make_key("small", slots=2),
    }
    return {name: key for name, (key, _) in made.items()}, "\n".join(line for _, line in made.values())


@pytest.fixture(scope="module")
def server(keys, tmp_path_factory):
    """A server of a tiny model with little room."""
    folder = tmp_path_factory.mktemp("serve")
    (folder / "keys").write_text(keys[1])
    options = [word for name, value in OPTIONS.items() for word in (f"--{name}", str(value))]
    checkpoint = str(make_checkpoint(folder / "tiny", "v2"))
    model = ("--model", checkpoint, "--served-name", "jina-clip-v2", "--keys", str(folder / "keys"))
    with serving(folder / "log", *model, *options) as running:
        yield running


async def be_good(server, key, number, requests, seen):
    """Sends requests one after another, and each again when told to; all are answered in the end."""
    draw = random.Random(number)
    async with httpx.AsyncClient(timeout=120, verify=False, headers={"Authorization": f"Bearer {key}"}) as client:
        for i in range(requests):
            body = texts(*[f"{MARK} good {number} {i} {j}" for j in range(draw.randrange(1, 9))])
            for _ in range(100):
                response = await client.post(server.url + TEXTS, json=body)
                seen[response.status_code] += 1
                if response.status_code == 200:
                    assert [row["index"] for row in response.json()["data"]] == [*range(len(body["input"]))]
                    break
                assert response.status_code in (429, 503), response.text
                await asyncio.sleep(float(response.headers["retry-after"]) * draw.uniform(1, 2))
            else:
                pytest.fail("refused a hundred times")


async def be_hostile(server, key, attack, said, ended):
    """Attacks again and again."""
    while True:
        said.append(await attack(*server.address, key))
        ended.set()


async def siege(server, keys, clients, requests, attackers):
    """Good clients and hostile ones at once, until the former are done and the latter have had their say."""
    seen, said = Counter(), []
    ended = {attack: asyncio.Event() for attack in (*LASTING, *AGAIN)}
    attacks = [attack for attack in LASTING for _ in range(attackers)] + list(AGAIN)
    key = keys["hostile"]
    hostile = [asyncio.create_task(be_hostile(server, key, attack, said, ended[attack])) for attack in attacks]
    try:
        await asyncio.gather(*(be_good(server, keys["good"], n, requests, seen) for n in range(clients)))
        async with asyncio.timeout(60):
            await asyncio.gather(*(event.wait() for event in ended.values()))
        broken = [task.exception() for task in hostile if task.done()]
    finally:
        for task in hostile:
            task.cancel()
        await asyncio.gather(*hostile, return_exceptions=True)
    assert broken == []
    return seen, b"".join(said).decode("latin-1")


@pytest.mark.slow
@pytest.mark.parametrize(("clients", "requests", "attackers"), [(60, 2, 6), long(400, 10, 60)])
def test_good_clients_are_answered_beside_hostile_ones(server, keys, clients, requests, attackers):
    own, _ = keys
    vector = server.embed(texts(MARK), own["good"]).json()["data"][0]["embedding"]
    before = server.peak_memory()
    seen, said = asyncio.run(siege(server, own, clients, requests, attackers))
    assert seen[200] == clients * requests
    assert set(seen) <= {200, 429, 503}
    assert server.peak_memory() - before < MOST_GROWTH
    statuses = set(re.findall(r"HTTP/1\.1 (\d+)", said))
    assert {"400", "401", "408"} <= statuses <= {"200", "400", "401", "408", "413", "422", "429", "503"}

    server.wait_for(lambda: server.gauge("queue_depth", own["good"]) == 0)
    assert server.embed(texts(MARK), own["good"]).json()["data"][0]["embedding"] == vector
    refusals = re.sub(r"HTTP/1\.1 200.*?(?=HTTP/1\.1|$)", "", said, flags=re.DOTALL)
    metrics = server.get("/metrics", Authorization=f"Bearer {own['good']}").text
    for text in (server.log, metrics, refusals):
        assert not any(secret in text for secret in (MARK, vector[:16], *own.values(), "Traceback"))


@pytest.mark.slow
def test_our_client_learns_what_a_key_may_and_everything_arrives(service, keys, tmp_path):
    own, lines = keys
    (tmp_path / "keys").write_text(lines)
    service.reset()
    inputs = [f"{MARK} {i}" for i in range(2000)]
    with (
        serving(tmp_path / "log", *gateway_to(service.url), "--keys", str(tmp_path / "keys")) as gateway,
        JinaClip("jina-clip-v2", base_url=gateway.url, api_key=own["small"], batch_size=32, max_retries=0) as clip,
    ):
        assert clip.embed(inputs).ok.all()
        assert "RATE_CONCURRENCY_LIMIT_EXCEEDED" in gateway.get("/metrics", Authorization=f"Bearer {own['good']}").text
    assert set(service.ledger()["received"]) == {"1"}


def test_a_100_000_item_request_is_refused_with_the_number_that_is_taken(server, keys):
    response = server.embed(texts(*["a"] * 100_000), keys[0]["good"])
    assert response.status_code in (413, 422)
    assert "2048" in response.json()["detail"]
