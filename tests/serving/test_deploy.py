"""The files of a deployment agree with each other and with the program."""

import re

import yaml
from deployed import DEPLOY, SERVERS, command_of, compose
from typer.testing import CliRunner

from corella.cli import app
from corella.serving.settings import ServingSettings, load_serving_settings
from corella.serving.worker.settings import WorkerSettings, load_worker_settings

MADE_BY_THE_USER = {"./run-folder", "./keys.json", "./llm-keys.json"}


def _mounted(service: str) -> set[str]:
    """Paths within its container."""
    return {volume.split(":")[1] for volume in compose()["services"][service]["volumes"]}


def _settings() -> tuple[ServingSettings, WorkerSettings]:
    return load_serving_settings(DEPLOY / "serve.yaml"), load_worker_settings(DEPLOY / "llm.yaml")


def test_compose_names_files_that_are_there() -> None:
    found = compose()
    assert set(found["services"]) == {*SERVERS, "llm", "proxy", "redis", "prometheus"}
    for service in found["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./") and source not in MADE_BY_THE_USER:
                assert (DEPLOY / source).is_file(), source
            elif not source.startswith("./"):
                assert source in found["volumes"]


def test_settings_name_each_other() -> None:
    serving, llm = _settings()
    assert str(serving.keys) in _mounted(SERVERS[0]) and str(llm.keys) in _mounted("llm")
    assert serving.store is not None and serving.store.startswith("redis://redis:")
    assert serving.llm_url == [f"corella+http://llm:{llm.port}"]
    for service in SERVERS:
        assert serving.llm_key_variable in compose()["services"][service]["environment"]


def test_commands_are_ours() -> None:
    for service in (*SERVERS, "llm"):
        program, command, run, flag, path = command_of(service)
        assert (program, run, flag) == ("corella", "/run-folder", "-c") and {run, path} <= _mounted(service)
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_who_asks_whom() -> None:
    serving, llm = _settings()
    servers = [f"{name}:{serving.port}" for name in SERVERS]
    proxy = (DEPLOY / "nginx.conf").read_text()
    assert re.findall(r"server (\S+) max_fails", proxy) == servers
    (port,) = re.findall(r"listen (\d+);", proxy)
    assert compose()["services"]["proxy"]["ports"] == [f"127.0.0.1:8000:{port}"]
    scraped = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    assert [job["static_configs"][0]["targets"] for job in scraped] == [servers, [f"llm:{llm.port}"]]
    assert f"127.0.0.1:{llm.port}/healthz" in str(compose()["services"]["llm"]["healthcheck"]["test"])


def test_the_proxy_asks_only_questions_twice() -> None:
    """What is asked again although it was sent by POST must be a route that changes nothing."""
    from corella.serving.http.access import may_read
    from corella.serving.http.routes import router

    proxy = (DEPLOY / "nginx.conf").read_text()
    (twice,) = re.findall(r"location ~ (\S+) \{[^}]*non_idempotent", proxy)
    posts = {
        route.path: any(one.dependency is may_read for one in route.dependencies)  # type: ignore[attr-defined]
        for route in router.routes
        if "POST" in getattr(route, "methods", ())
    }
    assert {path for path in posts if re.match(twice, path)} == {
        path for path, reads in posts.items() if reads and not path.endswith("/bulk")
    }
