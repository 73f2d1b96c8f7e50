"""The files of a deployment agree with each other and with the program."""

from pathlib import Path

import yaml

from corella.serving.settings import load_serving_settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def test_compose_names_files_that_are_there_and_settings_that_exist() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert set(compose["services"]) == {"corella", "redis", "prometheus"}
    made_by_the_user = {"./run-folder", "./keys.json"}
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./") and source not in made_by_the_user:
                assert (DEPLOY / source).is_file(), source
            elif not source.startswith("./"):
                assert source in compose["volumes"]
    settings = load_serving_settings(DEPLOY / "serve.yaml")
    assert settings.keys is not None and settings.store is not None
    mounted = {v.split(":")[1] for v in compose["services"]["corella"]["volumes"]}
    assert str(settings.keys) in mounted
    assert settings.store.startswith("redis://redis:")
    (target,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"][0]["static_configs"]
    assert target["targets"] == [f"corella:{settings.port}"]
