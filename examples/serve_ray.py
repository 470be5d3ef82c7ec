"""`jinaclip serve` as replicas on Ray Serve, over one machine or many: the same application, Ray in front of it.

    python examples/serve_ray.py --model examples/catalogue/checkpoint --replicas 2
    curl localhost:8000/v1/embeddings --json '{"model": "jina-clip-v2", "input": "a red dress"}'

On a cluster, with Ray's own command (`pip install './shared[local,serve]' 'ray[serve]>=2.60'` on each machine):

    serve run examples.serve_ray:make_application model=jina-clip-v2 device=cuda gpus=1 keys=/etc/jinaclip/keys

Ray's proxy takes the connections, so the limits of `jinaclip serve` on connections, headers and slow clients are not
there: let a balancer stand in front (docs/balancers.md). What is said of requests, keys, images and vectors holds.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import Any

import ray
from ray import serve

from jinaclip.server import Engines, Settings, make_app
from jinaclip.server.admission import Admission
from jinaclip.server.keys import find_ring
from jinaclip.server.origins import OwnMachine

ONGOING = 256
"""Requests that Ray gives a replica at a time: the engine merges what waits, so it has to see many. Ray's own is 5."""


AUTOSCALING = {
    "min_replicas": 1,
    "max_replicas": 8,
    "target_ongoing_requests": 64,  # below ONGOING; some passes of the engine, if requests are of single texts
    "upscale_delay_s": 30,
    "downscale_delay_s": 600,  # loading weights takes longer than answering
}
"""Of `replicas=auto`: as many replicas as there is work."""


@serve.deployment(
    max_ongoing_requests=ONGOING,
    health_check_period_s=10,
    graceful_shutdown_timeout_s=60,  # in which a replica that goes away finishes what it has
)
@serve.ingress()
class Replica:
    """One process with the weights on one device, ready before it gets a request.

    Args:
        options: of JinaClip.
        keys: file of hashed keys, the same on every machine; None answers programs of Ray's own machine alone.
        name: what clients call the model; None for its own name.
    """

    def __init__(self, options: dict[str, Any], keys: str | None, name: str | None) -> None:
        self.settings = Settings(keys=keys, served_name=name)
        self.engines = Engines({"backend": "local", "show_progress": False, **options})
        self.engines.warm()

    def __serve_build_asgi_app__(self) -> Any:
        """The application of `jinaclip serve`; Ray calls this once. Without keys it answers this machine alone."""
        ring = find_ring(self.settings.keys, self.settings.host)
        app = make_app(self.settings, self.engines, ring, Admission(self.settings))
        self.health = app.state.health
        return app if self.settings.keys else OwnMachine(app)

    def check_health(self) -> None:
        """Raises if the weights cannot be used; Ray then starts another replica in its place."""
        if self.health.failure is not None:
            raise self.health.failure


def make_application(arguments: dict[str, str]) -> serve.Application:
    """What `serve run` takes: `replicas` (a number or `auto`), `gpus` of each, `keys`, `name`, options of JinaClip."""
    options = dict(arguments)
    keys, name = options.pop("keys", None), options.pop("name", None)
    replicas, gpus = options.pop("replicas", "1"), float(options.pop("gpus", 0))
    many = {"autoscaling_config": AUTOSCALING} if replicas == "auto" else {"num_replicas": int(replicas)}
    return Replica.options(ray_actor_options={"num_gpus": gpus}, **many).bind(options, keys, name)


def main() -> None:
    """Ray on this machine alone, until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="name, or folder of a checkpoint")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default="jina-clip-v2", help="what clients call the model")
    parser.add_argument("--replicas", default="1", help="a number, or auto")
    parser.add_argument("--port", type=int, default=8000)
    options = vars(parser.parse_args())
    ray.init(include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": options.pop("port")})
    with suppress(KeyboardInterrupt):
        serve.run(make_application(options), blocking=True)


if __name__ == "__main__":
    main()
