"""The towers behind LitServe, as its documentation would have a user write it: `python lit.py FOLDER PORT`.

It takes and gives Jina's body. LitServe batches requests, not inputs, so a request brings one text; a batch is padded
to its longest. It checks nothing. Annotations are not postponed here, since LitServe reads them.
"""

import base64
import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

BATCH, WAIT_S = 32, 0.01
"""Requests of a batch at most, and how long the first of them waits for others."""


class Texts(litserve.LitAPI):
    """Texts to vectors, as a batched LitAPI does it."""

    def __init__(self, folder: str) -> None:
        super().__init__(max_batch_size=BATCH, batch_timeout=WAIT_S, api_path="/v1/embeddings")
        self.folder = folder

    def setup(self, device: str) -> None:
        """Loads weights and tokenizer, in the worker."""
        from jinaclip.backends.local.checkpoint_config import read_spec
        from jinaclip.backends.local.source import Source
        from jinaclip.backends.local.tokenizer import Tokenizer
        from jinaclip.local import load_towers

        spec = read_spec(Source(self.folder))
        self.towers = load_towers(self.folder, device=device)
        self.tokenizer = Tokenizer(Path(self.folder), vocab_size=self.towers.vocab_size, max_tokens=spec.max_tokens)

    def decode_request(self, request: dict[str, Any]) -> str:
        """The text of a request."""
        (text,) = request["input"]
        return text

    def batch(self, inputs: list[str]) -> list[str]:
        """The texts of a batch."""
        return inputs

    def predict(self, x: list[str]) -> np.ndarray:
        """(n, d) of length 1."""
        from texts import encode, padded_batch

        rows = self.towers.text(*padded_batch(self.towers, encode(self.tokenizer, x))).cpu().numpy()
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """Rows."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        """The answer to one request."""
        embedding = base64.b64encode(output.astype("<f4").tobytes()).decode()
        return {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": embedding}]}


if __name__ == "__main__":
    server = litserve.LitServer(Texts(sys.argv[1]), accelerator="cpu", timeout=600)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
