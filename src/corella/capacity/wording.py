"""A plan in words and tables, for a terminal and for a page."""

from collections.abc import Sequence

from corella.capacity.demand import GIB, Demand
from corella.capacity.plan import Plan
from corella.report.numbers import number

PARTS = ("part", "how many", "why", "$ a month")
WALLS = ("breaks", "load / limit", "load", "limit", "what to do")


def parts(plan: Plan) -> list[tuple[str, str, str, str]]:
    """The rows of a plan's parts, under `PARTS`."""
    replicas, model, store, training, money = (
        plan.replicas, plan.language_model, plan.store, plan.training, plan.money,
    )  # fmt: skip
    split = "every replica knows everybody" if replicas.shards == 1 else f"users in {replicas.shards:,} shards"
    all_replicas = replicas.shards * replicas.each
    return [
        (
            "replicas", f"{replicas.machines:,} machines",
            f"{all_replicas:,} replicas of {number(replicas.gib)} GiB, {replicas.machine} a machine; {split}",
            _money(money.replicas),
        ),
        (
            "language model", f"{model.gpus:,} GPUs",
            f"{number(model.tokens)} tokens a second; on processors {model.cores:,} cores",
            _money(money.language_model),
        ),
        ("store", f"{store.machines:,} machines", f"{number(store.disk_gib)} GiB of events", _money(money.store)),
        (
            "training", f"{training.machines:,} machines",
            f"{number(training.hours)} hours of a machine each time, {number(training.gpu_hours)} of a GPU",
            _money(money.training),
        ),
        ("all", "", "", _money(money.total)),
    ]  # fmt: skip


def claims(plan: Plan) -> list[str]:
    """What the simulation says of the claims, a sentence each."""
    load, replicas, model = plan.asked.load, plan.replicas, plan.language_model
    found = [
        _claim("without the language model", replicas.p99_ms, load.p99_ms, replicas.holds,
               "rank fewer candidates, or retrieve without scanning all items")
    ]  # fmt: skip
    if model.gpus:
        found.append(
            _claim("language model", model.p99_ms, load.deadline_ms, model.holds, "ask about fewer candidates")
        )
    shards, machines = replicas.split
    if machines < replicas.machines and shards > replicas.shards:
        found.append(
            f"Every replica knows everybody. Users split into {shards:,} shards would take {machines:,} machines "
            f"instead of {replicas.machines:,}: this version cannot."
        )
    if not replicas.fits:
        found.append(
            f"The catalogue and a replica's processes take {number(Demand(plan.asked).item_state / GIB)} GiB, however "
            f"users are split: no machine of {plan.asked.machines.gib:g} GiB holds it. Take larger machines "
            "(machines.gib), or fewer items."
        )
    return found


def _claim(what: str, found: float, claimed: float, holds: bool, remedy: str) -> str:
    if holds:
        return f"p99 {what}: {number(found)} ms, simulated; the claim is {claimed:g} ms."
    return (
        f"p99 {what}: the claim of {claimed:g} ms does not hold with any number of them. A request that never waits "
        f"takes {number(found)} ms: {remedy}, or claim less."
    )


def limits(plan: Plan) -> list[tuple[str, str, str, str, str]]:
    """The rows of what breaks with one of each part, under `WALLS`; the first one first."""
    return [
        (
            wall.what, number(wall.times), f"{number(wall.load)} {wall.unit}", f"{number(wall.limit)} {wall.unit}",
            f"{wall.remedy}",
        )
        for wall in plan.walls if wall.times > 1
    ]  # fmt: skip


def first(plan: Plan) -> str:
    """What breaks first where more of the same does not help."""
    wall = next((wall for wall in plan.walls if not wall.more and wall.times > 1), None)
    if wall is None:
        return "Nothing breaks but what more replicas and GPUs mend."
    return (
        f"Breaks first where more of the same does not help: {wall.what}, {number(wall.load)} {wall.unit} of at most "
        f"{number(wall.limit)}. To do: {wall.remedy}."
    )


def compared(plans: Sequence[Plan]) -> list[list[str]]:
    """Several plans side by side: a column each, what is told of them in the rows' first cells."""

    def row(name: str, *cells: str) -> list[str]:
        return [name, *cells]

    def claimed(milliseconds: float, holds: bool) -> str:
        return f"{number(milliseconds)} ms" if holds else f"does not hold: {number(milliseconds)} ms without waiting"

    return [
        row("items", *(f"{plan.asked.load.items:,.0f}" for plan in plans)),
        row("requests a second", *(f"{plan.asked.load.requests:,.0f}" for plan in plans)),
        row("shards", *(f"{plan.replicas.shards:,}" for plan in plans)),
        row("replicas", *(f"{plan.replicas.shards * plan.replicas.each:,}" for plan in plans)),
        row("GiB of a replica", *(number(plan.replicas.gib) for plan in plans)),
        row("machines for them", *(f"{plan.replicas.machines:,}" for plan in plans)),
        row("machines, users split", *("{1:,} ({0:,} shards)".format(*plan.replicas.split) for plan in plans)),
        row("p99", *(claimed(plan.replicas.p99_ms, plan.replicas.holds) for plan in plans)),
        row("tokens a second", *(number(plan.language_model.tokens) for plan in plans)),
        row("GPUs", *(f"{plan.language_model.gpus:,}" for plan in plans)),
        row("cores in their place", *(f"{plan.language_model.cores:,}" for plan in plans)),
        row("language model's p99", *(claimed(p.language_model.p99_ms, p.language_model.holds) for p in plans)),
        row("events a second", *(number(p.asked.load.requests * p.asked.load.events_per_request) for p in plans)),
        row("machines of the store", *(f"{plan.store.machines:,}" for plan in plans)),
        row("machine hours of a training", *(number(plan.training.hours) for plan in plans)),
        row("machines for it", *(f"{plan.training.machines:,}" for plan in plans)),
        row("$ a month: replicas", *(_money(plan.money.replicas) for plan in plans)),
        row("$ a month: GPUs", *(_money(plan.money.language_model) for plan in plans)),
        row("$ a month: store", *(_money(plan.money.store) for plan in plans)),
        row("$ a month: training", *(_money(plan.money.training) for plan in plans)),
        row("$ a month: all", *(_money(plan.money.total) for plan in plans)),
    ]


def _money(dollars: float) -> str:
    return f"{dollars:,.0f}"
