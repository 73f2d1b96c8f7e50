"""A real llama.cpp server with the bundled model behind `RemoteEngine`: about the logits that are computed here."""

import asyncio
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest

from corella.config import LLMConfig
from corella.llm.backbone import Backbone, load_backbone
from corella.llm.prefix import PrefixCache, PrefixScorer, SharedPrompt
from corella.serving.engine.remote import Endpoint, RemoteEngine
from corella.weights import bundled_file

pytest.importorskip("gguf", reason="the bundled model is a GGUF file")
pytest.importorskip("xllamacpp", reason="it holds llama.cpp's server")

SERVER = """
import sys, xllamacpp
settings = xllamacpp.CommonParams()
settings.model.path, settings.port = sys.argv[1], int(sys.argv[2])
settings.n_ctx, settings.n_parallel, settings.cpuparams.n_threads = 1024, 1, 2
server = xllamacpp.Server(settings)
sys.stdin.read()  # until the test closes it
"""
HISTORY = """A man of 30 years, who says Yes to comedies and No to everything else.
Love and laughter, a comedy: Yes
Dark alley, a thriller: No
The funny uncle, a comedy: Yes
War at sea, a drama: No
Trouble at school, a comedy: Yes
"""
ASKED = ["The merry barber, a comedy:", "Cold grave, a horror film:", "Two clowns, a comedy:"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-c", SERVER, str(bundled_file("smollm2-135m")), str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
        except OSError:
            assert process.poll() is None, "llama.cpp's server stopped"
            time.sleep(0.1)
    else:
        process.kill()
        raise AssertionError("llama.cpp's server did not answer in a minute")
    yield f"http://127.0.0.1:{port}/v1"
    process.stdin.close()
    process.wait(60)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(LLMConfig())


def test_logits_are_about_those_computed_here(address: str, backbone: Backbone) -> None:
    prefix = np.array(backbone.encode(HISTORY), dtype=np.int64)
    branches = [np.array(backbone.encode(line), dtype=np.int64) for line in ASKED]
    prompt = SharedPrompt(prefix, branches, np.arange(len(branches)))
    engine = RemoteEngine(Endpoint(address, "bundled"), " Yes", " No")
    found = asyncio.run(engine.ask("u", [prompt], time.monotonic() + 60))[0]
    here = PrefixScorer(backbone, PrefixCache(0)).logits([""], [prompt])[0]
    assert found.logits is not None and np.ptp(here) > 1
    # The server multiplies with the file's 4-bit weights and 8-bit activations, here both are bfloat16.
    np.testing.assert_allclose(found.logits, here, atol=0.4)
