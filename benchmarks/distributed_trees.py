"""Whether LightGBM on two machines grows the trees of one: `distributed_trees.py`.

Both "machines" are processes of this one, on local sockets, with `tree_learner=data`; bins are those of all rows, and
each process learns from every second row. Writes the part `distributed_trees` of docs/benchmarks/scale.json.
"""

import multiprocessing
import socket
import time
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

from common import DOCS, commit, run
from corella.errors import UserError
from corella.files import read_json, write_json
from corella.runs.machine import machine

TRAIN, FEATURES = 30_000, 20


@dataclass(frozen=True)
class Trial:
    """Settings of LightGBM that matter here."""

    rounds: int
    feature_share: float = 1.0
    row_share: float = 1.0
    seed: int = 1


@dataclass(frozen=True)
class Grown:
    """Raw scores of the rows held out, float64 [n], and the seconds of the training."""

    scores: npt.NDArray[np.float64]
    seconds: float


TRIALS = (Trial(1), Trial(20), Trial(300), Trial(300, 0.7), Trial(300, 0.7, 0.8))


def main() -> None:
    """Measure and write."""
    rows = []
    for trial in TRIALS:
        one, two = grown(trial, 1), grown(trial, 2)
        other = grown(Trial(trial.rounds, trial.feature_share, trial.row_share, seed=2), 1)
        rows.append({
            "rounds": trial.rounds, "feature_share": trial.feature_share, "row_share": trial.row_share,
            "largest_difference": float(np.abs(one.scores - two.scores).max()),
            "largest_difference_of_another_seed": float(np.abs(one.scores - other.scores).max()),
            "seconds_of_one": one.seconds, "seconds_of_two": two.seconds,
        })  # fmt: skip
        print(rows[-1], flush=True)
    path = DOCS / "scale.json"
    part = {"commit": commit(), "machine": machine().model_dump(), "rows": rows}
    write_json(path, {**(read_json(path) if path.is_file() else {}), "distributed_trees": part})


def grown(trial: Trial, machines: int) -> Grown:
    """Train in fresh processes, so that nobody's threads are forked."""
    ports = free_ports(machines)
    context = multiprocessing.get_context("spawn")
    with context.Pool(machines) as pool:
        jobs = [pool.apply_async(learned, (trial, rank, ports)) for rank in range(machines)]
        try:
            found = [job.get(timeout=300) for job in jobs]
        except multiprocessing.TimeoutError:
            raise UserError(f"{trial} on {machines} machines did not end") from None
    return found[0]


def learned(trial: Trial, rank: int, ports: list[int]) -> Grown:
    """What one machine learns."""
    features, label, held_out = synthetic()
    settings: dict[str, Any] = {
        "objective": "binary", "learning_rate": 0.03, "num_leaves": 15, "min_data_in_leaf": 100, "lambda_l2": 5.0,
        "feature_fraction": trial.feature_share, "bagging_fraction": trial.row_share,
        "bagging_freq": int(trial.row_share < 1), "seed": trial.seed, "deterministic": True, "force_col_wise": True,
        "verbose": -1, "num_threads": 1,
    }  # fmt: skip
    began = time.perf_counter()
    data = lightgbm.Dataset(features, label, params=dict(settings)).construct()
    if len(ports) > 1:
        data = data.subset(list(range(rank, TRAIN, len(ports)))).construct()
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        settings |= {
            "tree_learner": "data", "num_machines": len(ports), "machines": addresses, "local_listen_port": ports[rank],
        }  # fmt: skip
    booster = lightgbm.train(settings, data, trial.rounds)
    seconds = time.perf_counter() - began
    return Grown(np.asarray(booster.predict(held_out, raw_score=True)), seconds)


def synthetic() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Features and labels of the training rows, and features of 10,000 others; a quarter of the columns is coarse."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(TRAIN + 10_000, FEATURES)).astype(np.float32)
    features[:, 5:10] = np.round(features[:, 5:10] * 3)
    logit = features[:, 0] * features[:, 1] + np.sin(features[:, 2]) + features[:, 6] / 6
    label = (rng.random(len(features)) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return features[:TRAIN], label[:TRAIN], features[TRAIN:]


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


if __name__ == "__main__":
    run(main)
