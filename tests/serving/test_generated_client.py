"""A client that a generator makes of the API's description works."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvicorn

from corella.serving.http.api import create_app
from corella.serving.http.keys import KeyRing, make_key
from corella.serving.service import Service

GENERATOR = Path(sys.prefix) / "client" / "bin"
pytestmark = pytest.mark.skipif(not GENERATOR.is_dir(), reason="the generator of clients is not installed")

_USE = """
import sys
from made import AuthenticatedClient
from made.api.default import add_event, get_item, put_item, recommend
from made.models import NewEvent, NewItem, RecommendRequest

with AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2]) as client:
    put_item.sync("n1", client=client, body=NewItem(text="A new film"))
    told = add_event.sync(client=client, body=NewEvent(user_id="guest", item_id="n1", liked=True))
    best = recommend.sync(client=client, body=RecommendRequest(user_id="guest", k=3))
    print(told.outcome, get_item.sync("n1", client=client).likes, len(best.items), best.items[0].text)
"""


def test_a_generated_client(make_service: Callable[..., Service], tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    key = make_key(keys, "etl", "write")
    app = create_app(make_service(overload_ms=60_000), KeyRing(keys), [])
    description = app.openapi()
    assert description["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for path, methods in description["paths"].items():
        assert all(route["security"] == [{"HTTPBearer": []}] for route in methods.values()), path
    (tmp_path / "openapi.json").write_text(json.dumps(description))
    made = ["generate", "--path", "openapi.json", "--output-path", "made", "--meta", "none"]
    subprocess.run([GENERATOR / "openapi-python-client", *made], cwd=tmp_path, check=True, capture_output=True)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    command = [GENERATOR / "python", "-c", _USE, f"http://127.0.0.1:{port}", key]
    used = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    server.should_exit = True
    thread.join(10)
    assert used.returncode == 0, used.stderr
    outcome, likes, count, *text = used.stdout.split()
    assert (outcome, likes, count) == ("recorded", "1", "3") and text
