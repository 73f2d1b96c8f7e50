"""What each record does to what is known."""

from dataclasses import dataclass
from typing import Literal

from corella.columns import USER
from corella.serving.state.answers import AS_TRAINED, Answer
from corella.serving.state.live import Live
from corella.serving.state.popular import Popular
from corella.serving.store.records import Event, Item, ItemDeleted, Person, Undone


@dataclass(frozen=True)
class Outcome:
    """What a record did."""

    what: Literal["recorded", "replaced", "repeated", "ignored"]
    """`replaced`: it counts in place of an earlier one; `repeated`: it was kept before; `ignored`: it counts not."""
    why: str = ""


_MOST = 20_000
"""Answers of one user that count: what a request costs grows with them."""
_RECENT = 100
"""Last answers of a user that count features may look at."""

RECORDED = Outcome("recorded")


def add(live: Live, event: Event, popular: Popular | None = None, weight: float = 0.0) -> Outcome:
    """Take in an event; `weight`: of its kind, in what is popular."""
    code = live.catalogue.code(event.item_id)
    if code is None:
        return Outcome("ignored", f"the catalogue has no item '{event.item_id}'")
    outcome = RECORDED
    if event.label is not None:
        if live.repeats != "all" and live.people.has(event.user_id, code):
            if live.repeats == "first":
                return Outcome("ignored", "the user's first answer to an item counts")
            for place in live.people.places(event.user_id, code):
                _take_out(live, event.user_id, place)
            outcome = Outcome("replaced", "the user's last answer to an item counts")
        elif live.people.count(event.user_id) >= _MOST:
            return Outcome("ignored", f"{_MOST:,} answers of the user count already")
        _count(live, event, code, event.label)
    if popular is not None:
        popular.add(code, event.timestamp, weight * event.weight)
    return outcome


def undo(live: Live, undone: Undone, popular: Popular | None = None, weight: float = 0.0) -> Outcome:
    """Take an event back; `weight`: of its kind, in what is popular."""
    code = live.catalogue.codes.get(undone.item_id)
    if popular is not None and code is not None:
        popular.add(code, undone.timestamp, -weight * undone.weight)
    place = live.people.place_of(undone.user_id, undone.event_id)
    if place is None and code is not None:  # the training data may hold it, which do not have its id
        place = live.people.place_in_log(undone.user_id, code, undone.timestamp)
    if place is None:
        return Outcome("ignored", "it did not count any more")
    _take_out(live, undone.user_id, place)
    return RECORDED


def put_item(live: Live, item: Item) -> Outcome:
    """Add an item to the catalogue, or change it."""
    read = live.reader.read([item.text])
    known = item.item_id in live.catalogue
    code = live.catalogue.put(item, read[0] if read else None)
    if live.text is not None and read:
        live.text = live.text.with_room(code + 1)
        live.text.vectors[code] = read[0].place.vectors[0]
    return Outcome("replaced") if known else RECORDED


def delete_item(live: Live, deleted: ItemDeleted) -> Outcome:
    """Take an item out of the catalogue."""
    return RECORDED if live.catalogue.delete(deleted.item_id) else Outcome("ignored", "there is no such item")


def put_person(live: Live, person: Person) -> Outcome:
    """Say something of a user."""
    known = live.person(person.user_id) is not None
    live.persons[person.user_id] = person
    return Outcome("replaced") if known else RECORDED


def erase(live: Live, user_id: str) -> None:
    """Forget a user: history, counts, what is said of them. The item counts lose what the user gave to them."""
    for place in range(len(live.people.answers(user_id)) - 1, -1, -1):
        _take_out(live, user_id, place)
    live.people.forget(user_id)
    live.persons.pop(user_id, None)
    live.users.pop(user_id, None)
    if live.text is not None:
        live.text.whole.pop(user_id, None)
        live.text.profiles.pop(user_id, None)
    live.counts.reset(user_id, ())


def _count(live: Live, event: Event, code: int, label: int) -> None:
    share = 0.0 if live.counts.frozen else event.weight
    who, row = live.user_keys(event.user_id, live.described(event.user_id)), live.catalogue.keys(code)
    shown, moment = live.popularity(code), live.moment(event.timestamp)
    times: tuple[tuple[dict[object, int], object], ...] = (
        (live.counts.user_time, event.user_id), (live.counts.item_time, code),
    )  # fmt: skip
    before, last = [known.get(key, moment) for known, key in times], live.counts.item_time.get(code)
    values = live.values(label, event.rating)
    counted = live.counts.update(event.user_id, code, moment, values, live.keys(who, row), share)
    if live.text is not None:
        live.text.update(event.user_id, code, values[0], counted.residual, share)
    for (known, key), earlier in zip(times, before, strict=True):
        if key in known:  # answers may come late, but a last answer is the last
            known[key] = max(known[key], earlier)
    live.heard(code, label, share)
    plain = live.described(event.user_id) is None and live.catalogue.reads_as_trained(code)
    keys = AS_TRAINED if plain else (who, row)
    live.people.add(event.user_id, Answer(code, label, shown, moment, last, counted, share, keys, event.event_id))


def _take_out(live: Live, user_id: str, place: int) -> None:
    answer = live.people.remove(user_id, place)
    who, row = answer.keys
    if answer.keys is AS_TRAINED:
        who, row = live.user_keys(user_id, None), live.catalogue.trained_keys(answer.item)
    live.counts.remove(user_id, answer.item, answer.counted, live.keys({**who, USER: (user_id,)}, row), answer.share)
    if live.text is not None:
        live.text.remove(user_id, place, answer.share)
    live.counts.reset(user_id, ((a.item, a.time, a.counted) for a in live.people.answers(user_id, _RECENT)))
    live.heard(answer.item, answer.label, -answer.share)
    if answer.event_id and answer.share and live.counts.item_time.get(answer.item) == answer.time:
        if answer.before is None:
            live.counts.item_time.pop(answer.item)
        else:
            live.counts.item_time[answer.item] = answer.before
