"""The built-in datasets: tiny folders of each shape with known answers, and MovieLens-100K itself."""

import gzip
import importlib.metadata
import json
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from corella.config.loading import load_config
from corella.config.presets import PRESETS
from corella.data.builtin import amazon, amazon_books, amazon_files, bookcrossing, load_builtin, ml_1m
from corella.data.dataset import Dataset
from corella.data.preparation import Dropped
from corella.data.prepare import load_dataset
from corella.errors import UserError

USERS = "1::F::1::10::48067\n2::M::56::16::70072\n10::M::25::0::55117\n"
MOVIES = "1::Toy Story (1995)::Animation|Comedy\n2::Misérables, Les (1998)::Drama\n" + "".join(
    f"{m}::Film {m} (19{m})::Drama|War\n" for m in range(50, 70)
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORELLA_CACHE", str(tmp_path / "cache"))


def dataset_of(source: str, path: Path | None = None, **given: Any) -> Dataset:
    return load_dataset(load_config(settings={"data": {"source": source, "path": path, **given}}))


@pytest.mark.parametrize("source", PRESETS)
def test_presets_merge(source: str, tmp_path: Path) -> None:
    given = {"source": source, "path": str(tmp_path), "history_length": 7}
    config = load_config(settings={"data": given}, overrides=["data.counts.smoothing=2"])
    assert (config.data.history_length, config.data.counts.smoothing) == (7, 2)
    assert config.data.source == source
    assert [list(g) for g in config.data.counts.groups] == PRESETS[source]["counts"]["groups"]
    if source != "ml-100k":
        with pytest.raises(UserError, match=r"needs `data\.path`"):
            load_config(settings={"data": {"source": source}})
        with pytest.raises(UserError, match=str(tmp_path)):
            load_dataset(config)


def test_ml_100k() -> None:
    try:
        importlib.metadata.version("recbole")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("recbole is not installed")
    dataset = dataset_of("ml-100k")
    assert (dataset.users.height, dataset.items.height, dataset.log.height) == (943, 1682, 100_000)
    assert [p.rows for p in dataset.preparation.splits] == [80_000, 10_000, 10_000]
    assert dataset.items.filter(pl.col("item_id") == "1")["text"].item() == "Toy Story, Animation Children's Comedy"
    user = dataset.users.filter(pl.col("user_id") == "1")["text"].item()
    assert user == "A 18-24 year old man, technician, rates movies. Likes it?"


# MovieLens-1M


@pytest.fixture
def ml_1m_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "users.dat").write_text(USERS, encoding="latin-1")
    (folder / "movies.dat").write_text(MOVIES, encoding="latin-1")
    # 3 users answer 20 movies, all three at the same times: ids decide the order. The file is reversed.
    rows = [(u, m, 3 + (u + m) % 2, 1000 + m) for m in range(50, 70) for u in (1, 2, 10)]
    lines = [f"{u}::{m}::{r}::{t}\n" for u, m, r, t in reversed(rows)]
    (folder / "ratings.dat").write_text("".join(lines), encoding="latin-1")
    return folder


def test_ml_1m(ml_1m_folder: Path) -> None:
    dataset = dataset_of("ml-1m", ml_1m_folder)
    assert dataset.log["user_id"].to_list() == ["1", "2", "10"] * 20  # numeric: 2 before 10
    assert dataset.log["item_id"].to_list() == [str(m) for m in range(50, 70) for _ in range(3)]
    assert dataset.log["label"].to_list() == [(u + m) % 2 for m in range(50, 70) for u in (1, 2, 10)]
    rows = {p.split: p.rows for p in dataset.preparation.splits}
    assert rows == {"history": 15, "train": 36, "valid": 4, "test": 5}
    assert dataset.log["split"].head(16).to_list() == ["history"] * 15 + ["train"]
    users = dataset.users.select("user_id", "gender", "age_group", "occupation", "zip", "text").rows()
    assert users == [
        ("1", "F", "under 18", "K-12 student", "48067",
         "A under 18 year old woman, K-12 student, rates movies. Likes it?"),
        ("10", "M", "25-34", "other", "55117", "A 25-34 year old man, other, rates movies. Likes it?"),
        ("2", "M", "over 55", "self-employed", "70072",
         "A over 55 year old man, self-employed, rates movies. Likes it?"),
    ]  # fmt: skip
    movie = dataset.items.filter(pl.col("item_id") == "2").select("title", "year", "genres", "text").row(0)
    assert movie == ("Misérables, Les", "1998", ["Drama"], "Misérables, Les, Drama")


def test_ml_1m_messages_name_the_line_of_the_file(ml_1m_folder: Path) -> None:
    with (ml_1m_folder / "ratings.dat").open("a", encoding="latin-1") as file:
        file.write("1::1::bad::1\n")
    dataset = dataset_of("ml-1m", ml_1m_folder)
    assert dataset.preparation.dropped == [Dropped("not a number", 1, "ratings.dat, row 61, column rating: 'bad'")]
    (ml_1m_folder / "movies.dat").unlink()
    with pytest.raises(UserError, match=r"movies\.dat does not exist; data\.path must be the folder"):
        ml_1m.load(ml_1m_folder)


# The CoLLM slice


def write_collm(folder: Path, member: str = "collm_ml1m.csv") -> None:
    folder.mkdir(exist_ok=True)
    (folder / "users.dat").write_text(USERS, encoding="latin-1")
    (folder / "movies.dat").write_text(MOVIES, encoding="latin-1")
    header = "split,uid,iid,user_id,movie_id,label,rating,timestamp,not_cold,in_valid_small,title,his"
    parts = ["train"] * 6 + ["valid"] * 3 + ["test"] * 3
    rows = [
        f'{part},9,9,{(1, 2, 10)[n % 3]},{62 - n},{n % 2},{3 + n % 2},{100 + n // 3},1,0,"Film, The (1950)",0'
        for n, part in enumerate(parts)
    ]
    with zipfile.ZipFile(folder / "interactions.csv.zip", "w") as archive:
        archive.writestr(member, "\n".join([header, *rows]) + "\n")


def test_ml_1m_collm(tmp_path: Path) -> None:
    write_collm(tmp_path / "collm")
    dataset = dataset_of("ml-1m-collm", tmp_path / "collm")
    assert {p.split: p.rows for p in dataset.preparation.splits} == {"train": 6, "valid": 3, "test": 3}
    assert dataset.log["item_id"].to_list() == [str(62 - n) for n in range(12)]  # ties keep the file's order
    assert dataset.log["user_id"].to_list() == ["1", "2", "10"] * 4
    assert dataset.log["label"].to_list() == [0, 1] * 6
    assert dataset.log["rating"].to_list() == [3.0, 4.0] * 6
    assert dataset.users.height == 3
    assert dataset.items.height == 22


def test_ml_1m_collm_says_what_is_wrong(tmp_path: Path) -> None:
    write_collm(tmp_path / "collm", member="other.csv")
    with pytest.raises(UserError, match=r"interactions\.csv\.zip must hold collm_ml1m\.csv"):
        load_builtin("ml-1m-collm", tmp_path / "collm")
    (tmp_path / "collm" / "interactions.csv.zip").write_text("no archive", encoding="utf-8")
    with pytest.raises(UserError, match=r"interactions\.csv\.zip must hold"):
        load_builtin("ml-1m-collm", tmp_path / "collm")


# BookCrossing


@pytest.fixture
def books_folder(tmp_path: Path) -> Path:
    """60 users with 4 to 75 ratings of 80 books, one book with a bad ISBN, one rating of an unknown book."""
    rng = random.Random(5)
    books = [f"{i:09d}X" for i in range(80)]
    lines = ['"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher";"Image-URL-S"']
    lines += [
        f'"{b}";"A \\"quoted\\"; title {i}";"Café & Söhne";"{1990 + i % 3}";"Holt &amp; Co";"http://x"'
        for i, b in enumerate(books)
    ]
    lines.append('"0385722206  0";"Balzac";"Dai";"0";"P";"http://x"')
    users = ['"User-ID";"Location";"Age"']
    users += [
        f'"{u}";"nyc, new york, {"usa" if u % 2 else "n/a"}";{"NULL" if u % 3 else chr(34) + "30" + chr(34)}'
        for u in range(100, 160)
    ]
    ratings = ['"User-ID";"ISBN";"Book-Rating"', '"100";"unknown";"9"', '"101";"0385722206  0";"9"']
    rows = [(u, b) for u in range(100, 160) for b in rng.sample(books, rng.choice([4, 5, 6, 7, 20, 75]))]
    rng.shuffle(rows)
    ratings += [f'"{u}";"{b}";"{rng.randrange(11)}"' for u, b in rows]
    folder = tmp_path / "books"
    folder.mkdir()
    for name, text in {"BX-Books": lines, "BX-Users": users, "BX-Book-Ratings": ratings}.items():
        (folder / f"{name}.csv").write_text("\r\n".join(text) + "\r\n", encoding="cp1252", newline="")
    return folder


def protocol(folder: Path) -> dict[str, list[tuple[str, list[tuple[str, str]]]]]:
    """The protocol as it is written down, one user at a time: part -> (user, the last 60 and the target)."""
    answers: dict[str, list[tuple[str, str]]] = {}
    for line in (folder / "BX-Book-Ratings.csv").read_text(encoding="cp1252").splitlines()[1:]:
        user, isbn, rating = (value.strip('"') for value in line.split(";"))
        if isbn.isalnum() and isbn != "unknown":
            answers.setdefault(user, []).append((isbn, rating))
    samples = []
    for user, rated in answers.items():
        if len(rated) > 5:
            random.seed(42)
            random.shuffle(rated)
            samples.append((user, rated[-61:]))
    random.seed(42)
    random.shuffle(samples)
    train = int(len(samples) * 0.9)
    fit = int(train * 0.9)
    return {"train": samples[:fit], "valid": samples[fit:train], "test": samples[train:]}


def test_bookcrossing_follows_the_protocol(books_folder: Path) -> None:
    log = bookcrossing.load(books_folder).interactions
    expected = protocol(books_folder)
    pairs = log.select("user_id", "item_id", "rating", "split")
    for part, samples in expected.items():
        targets = [(user, *rated[-1], part) for user, rated in samples]
        assert pairs.filter(pl.col("split") == part).rows() == targets
        for user, rated in samples:
            history = pairs.filter(pl.col("user_id") == user, pl.col("split") == "history")
            assert history.select("item_id", "rating").rows() == rated[:-1]
    assert log.height == sum(len(rated) for samples in expected.values() for _, rated in samples)
    blocks = pl.when(pl.col("user_id").is_in([u for u, _ in expected["test"]])).then(3).otherwise(0)
    place = pl.col("split").replace_strict({"history": 0, "train": 1, "valid": 2, "test": 1}, return_dtype=pl.Int32)
    assert log.select(blocks + place).to_series().is_sorted()


def test_bookcrossing_prepared(books_folder: Path) -> None:
    dataset = dataset_of("bookcrossing", books_folder)
    book = dataset.items.row(0, named=True)
    assert dataset.items.height == 80
    assert book["text"] == 'A "quoted"; title 0 by Café & Söhne'
    assert (book["publisher"], book["year"]) == ("Holt & Co", "1990")
    users = {u["user_id"]: (u["country"], u["age_group"]) for u in dataset.users.to_dicts()}
    for user, fields in users.items():
        assert fields == ("usa" if int(user) % 2 else None, None if int(user) % 3 else "25-34")
    assert dataset.preparation.dropped == []
    assert dataset.config.counts.frozen
    samples = dataset.samples("test")
    lengths = samples.history_end - dataset.events.start[samples.user]
    assert lengths.tolist() == [len(rated) - 1 for _, rated in protocol(books_folder)["test"]]


def test_bookcrossing_archive_is_the_same(books_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "zipped").mkdir()
    with zipfile.ZipFile(tmp_path / "zipped" / "bookcrossing.zip", "w") as archive:
        for file in books_folder.iterdir():
            archive.write(file, file.name)
    plain, zipped = bookcrossing.load(books_folder), bookcrossing.load(tmp_path / "zipped")
    assert plain.interactions.equals(zipped.interactions)
    (books_folder / "BX-Users.csv").unlink()
    with pytest.raises(UserError, match=r"holds neither BX-Users\.csv nor bookcrossing\.zip"):
        bookcrossing.load(books_folder)


# Amazon Books


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def review(user: str, book: str, time: int, stars: float = 5.0) -> dict[str, Any]:
    return {"overall": stars, "reviewText": "good", "reviewerID": user, "asin": book, "unixReviewTime": time}


def test_amazon_books_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amazon_files, "CHUNK", 200)  # some two lines at a time
    books: list[dict[str, Any]] = [
        {
            "asin": "A",
            "title": "T" * 200,
            "brand": "Visit Amazon's Ann Lee Page",
            "category": ["Books", "Arts"],
        },
        {"asin": "B", "title": "Bee", "brand": ""},
        {"asin": "C", "title": "Sea", "brand": "X", "category": []},
        {"asin": "D", "title": " ", "brand": "X", "category": []},
        {"asin": "E", "title": "var x = getTime()", "brand": "X", "category": []},
        {"asin": "B", "title": "Bee again", "brand": "X", "category": []},
    ]
    write_lines(tmp_path / "meta_Books.json.gz", books)
    # w has one pair (A, twice) left; C has x alone, and without C x has B alone.
    rows = [("u", "A"), ("u", "B"), ("v", "A"), ("v", "B"), ("w", "A"), ("w", "A"), ("x", "C"), ("x", "B"),
            ("w", "D"), ("w", "E"), ("w", "Z"), ("u", "A")]  # fmt: skip
    write_lines(tmp_path / "Books_5.json.gz", [review(u, b, t, float(t % 5 + 1)) for t, (u, b) in enumerate(rows)])
    raw = amazon_books.load(tmp_path, user_core=2, item_core=2)
    log = raw.interactions.select("user_id", "item_id", "rating", "timestamp", "_file_row").rows()
    assert log == [("u", "A", 1, 0, 1), ("u", "B", 2, 1, 2), ("v", "A", 3, 2, 3), ("v", "B", 4, 3, 4)]
    assert raw.items is not None
    assert raw.items.select("item_id", "title", "brand", "category").rows() == [
        ("A", "T" * 150, "Ann Lee", ["Arts"]), ("B", "Bee", None, []),
    ]  # fmt: skip


def test_amazon_books_prepared(tmp_path: Path) -> None:
    """60 users who all rate the same 60 books are their own core; one user more is not in it."""
    books = [{"asin": f"{b}", "title": f"T{b}", "brand": "X", "category": ["Books", "Arts"]} for b in range(60)]
    write_lines(tmp_path / "meta_Books.json.gz", books)
    rows = [review(f"u{u}", f"{b}", 60 * b + u, 4 + (u + b) % 2) for u in range(60) for b in range(60)]
    write_lines(tmp_path / "Books_5.json.gz", [*rows, review("more", "1", 5)])
    dataset = dataset_of("amazon-books", tmp_path)
    rows_of = {p.split: p.rows for p in dataset.preparation.splits}
    assert rows_of == {"history": 300, "train": 2640, "valid": 330, "test": 330}
    assert dataset.items["text"][0] == "T0 by X"
    assert dataset.users.height == 60


def test_amazon_books_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file matches meta_\*Books\*\.json\.gz \(the metadata\); set data\.path"):
        amazon_books.load(tmp_path)
    write_lines(tmp_path / "meta_Books.json.gz", [{"asin": "A", "title": "T"}])
    with pytest.raises(UserError, match=r"no file matches \*Books\*\.json\.gz \(the reviews\)"):
        amazon_books.load(tmp_path)
    write_lines(tmp_path / "Books_5.json.gz", [review("u", "A", 1)] * 3)
    whole = (tmp_path / "Books_5.json.gz").read_bytes()
    (tmp_path / "Books_5.json.gz").write_bytes(whole[:-9])
    with pytest.raises(UserError, match=r"Books_5\.json\.gz cannot be read after line 0"):
        amazon_books.load(tmp_path)
    shutil.copy(tmp_path / "meta_Books.json.gz", tmp_path / "Books.json.gz")
    with pytest.raises(UserError, match=r"2 files match \*Books\*"):
        amazon_books.load(tmp_path)


# Any other category


_META = [
    {"asin": "A", "title": "Red  Cream", "brand": "Acme", "description": "It's good.",
     "categories": [["Beauty", "Skin", "Face"], ["Beauty", "Skin"]]},
    {"asin": "B", "title": "Blue Soap", "categories": [["Beauty"]]},
    {"asin": "C", "brand": "No title"},
    {"asin": "D", "title": "Nobody wrote of it"},
]  # fmt: skip


def test_amazon_of_2014_and_of_2018_are_the_same(tmp_path: Path) -> None:
    """The metadata of 2014 are Python literals with nested categories, those of 2018 are JSON with lists."""
    old, new = tmp_path / "2014", tmp_path / "2018"
    reviews = [review(u, i, t, 4.0) for t, (u, i) in enumerate([("u", "A"), ("v", "B"), ("v", "C"), ("u", "Z")])]
    for folder in (old, new):
        folder.mkdir()
    with gzip.open(old / "meta_Beauty.json.gz", "wt", encoding="utf-8") as file:
        file.writelines(repr(row) + "\n" for row in _META)
    write_lines(old / "reviews_Beauty_5.json.gz", reviews)
    flat = [{k: v for k, v in row.items() if k != "categories"} for row in _META]
    flat[0] |= {"category": ["Beauty", "Skin", "Face"], "description": ["It's", "good."]}
    write_lines(new / "meta_Beauty.json.gz", flat)
    write_lines(new / "Beauty.json.gz", reviews)
    for folder in (old, new):
        raw = amazon.load(folder)
        assert raw.interactions.select("user_id", "item_id", "rating", "timestamp", "review").rows() == [
            ("u", "A", 4.0, 0, "good"), ("v", "B", 4.0, 1, "good"),
        ]  # fmt: skip
        assert raw.items is not None
        assert raw.items.select("item_id", "title", "brand", "category", "description").rows() == [
            ("A", "Red Cream", "Acme", ["Skin", "Face"], "It's good."), ("B", "Blue Soap", None, [], ""),
        ]  # fmt: skip


def test_amazon_metadata_are_never_executed(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "meta_Toys.json.gz", "wt") as file:
        file.write("{'asin': 'A', 'title': __import__('os').getcwd()}\n")
    write_lines(tmp_path / "Toys.json.gz", [review("u", "A", 1)])
    with pytest.raises(UserError, match=r"meta_Toys\.json\.gz cannot be read after line 0"):
        amazon.load(tmp_path)


def test_amazon_prepared_keeps_reviews(tmp_path: Path) -> None:
    """Six users who each write about the same six items: a 5-core."""
    write_lines(tmp_path / "meta_Toys.json.gz", [{"asin": f"{i}", "title": f"T{i}", "brand": "X"} for i in range(6)])
    rows = [review(f"u{u}", f"{i}", 6 * i + u, 4 - (u + i) % 2) for u in range(6) for i in range(6)]
    write_lines(tmp_path / "Toys.json.gz", [*rows, review("once", "1", 5)])
    dataset = dataset_of("amazon", tmp_path)
    assert dataset.log.height == 36
    assert set(dataset.log["review"]) == {"good"}
    assert dataset.items["text"][0] == "T0, X"


# Polis


def write_polis(folder: Path, **changed: pl.DataFrame) -> Path:
    """Two conversations, and a third that is left out; a vote taken back, one that became a pass, a re-vote in a file
    that is not in the order of time."""
    folder.mkdir(exist_ok=True)
    rows = [
        ("a:0", "a:1", "a", 1_400_000_009_500, -1),  # the last vote, above the earlier one
        ("a:0", "a:1", "a", 1_400_000_009_250, 1),
        ("a:0", "a:2", "a", 1_400_000_001_000, 1),
        ("a:1", "a:2", "a", 1_400_000_002_000, -1),
        ("a:1", "a:2", "a", 1_400_000_003_000, 0),  # became a pass
        ("b.c:0", "b.c:7", "b.c", 1_400_000_004_000, 1),
        ("b.c:1", "b.c:7", "b.c", 1_400_000_005_000, 0),
        ("b.c:1", "b.c:8", "b.c", 1_400_000_006_000, -1),
        ("b.c:0", "b.c:8", "b.c", 1_400_000_007_000, 1),
        ("london.youth.policing:0", "london.youth.policing:0", "london.youth.policing", 1_400_000_000_000, 1),
    ]
    names = ["user", "item", "conversation", "timestamp_ms", "vote"]
    tables = {
        "votes": pl.DataFrame(rows, schema=names, orient="row"),
        "statements": pl.DataFrame(
            {
                "item": ["b.c:8", "b.c:7", "a:1", "a:2", "london.youth.policing:0"],
                "text": ["Ban  cars.", "More buses.", "Tax land.", "Tax work.", "No."],
                "created_ms": [1_400_000_003_500, 1_300_000_000_000, 5, 6, 7],
            }
        ),
        **changed,
    }
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
    topics = {"a": "Tax", "b.c": "Traffic", "london.youth.policing": "Police"}
    (folder / "topics.json").write_text(json.dumps(topics), encoding="utf-8")
    return folder


def test_polis(tmp_path: Path) -> None:
    tables = load_builtin("polis", write_polis(tmp_path / "polis"))
    log = tables.interactions.select("user_id", "item_id", "timestamp", "label")
    assert log.rows() == [
        ("a:0", "a:2", 1_400_000_001_000, 1),
        ("b.c:0", "b.c:7", 1_400_000_004_000, 1),
        ("b.c:1", "b.c:8", 1_400_000_006_000, 0),
        ("b.c:0", "b.c:8", 1_400_000_007_000, 1),
        ("a:0", "a:1", 1_400_000_009_500, 0),
    ]
    dataset = dataset_of(
        "polis", tmp_path / "polis", text={"encoder": "none"}, only_likes=True,
        split={"by": "time", "within": None, "fractions": [0.34, 0.34, 0.32]},
    )  # fmt: skip
    assert dataset.log["timestamp"].to_list() == [1_400_000_001, 1_400_000_004, 1_400_000_007]
    assert dataset.items.select("item_id", "conversation", "topic", "created", "text").rows() == [
        ("a:1", "a", "Tax", 5, "Tax land."),
        ("a:2", "a", "Tax", 6, "Tax work."),
        ("b.c:7", "b.c", "Traffic", 1_300_000_000_000, "More buses."),
        ("b.c:8", "b.c", "Traffic", 1_400_000_003_500, "Ban cars."),
    ]
    assert dataset.users["text"].to_list() == [
        f"A person votes on statements of others. The topic: {topic}. Agrees with it?" for topic in ("Tax", "Traffic")
    ]


def test_polis_says_what_is_wrong(tmp_path: Path) -> None:
    folder = write_polis(tmp_path / "polis", votes=pl.DataFrame({"user": ["a:0"], "item": ["a:1"]}))
    with pytest.raises(UserError, match=r"votes\.parquet: no column conversation, timestamp_ms, vote; it must hold"):
        load_builtin("polis", folder)
    write_polis(folder)
    for text, said in (
        ('{"a": "Tax"}', r"topics\.json: no topic of the conversation 'b\.c', which votes\.parquet names"),
        ('{"a": 1}', r"topics\.json must map every conversation to its topic"),
        ('{"a":\n "Tax', r"topics\.json cannot be read: .*line 2"),
    ):
        (folder / "topics.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=said):
            load_builtin("polis", folder)
    (folder / "topics.json").unlink()
    with pytest.raises(UserError, match=r"topics\.json does not exist"):
        load_builtin("polis", folder)
    (folder / "statements.parquet").write_text("no table", encoding="utf-8")
    with pytest.raises(UserError, match=r"statements\.parquet cannot be read"):
        load_builtin("polis", folder)


# Amazon, clicks in order without times


def test_amazon_scientific(tmp_path: Path) -> None:
    (tmp_path / "Scientific.inter.json").write_text('{"u9": [2, 0, 1, 2], "u1": [1, 0, 2]}', encoding="utf-8")
    told = {
        "title": "Hose", "brand": "Ours", "categories": "Industrial & Scientific,Tapes, Adhesives,Pipes",
        "description": "Ten\nfeet.",
    }  # fmt: skip
    items = {"0": told, "1": {"title": "Nut", "brand": ""}, "2": {"title": "Bolt", "description": "M8"}}
    (tmp_path / "Scientific.item.json").write_text(json.dumps(items), encoding="utf-8")
    dataset = dataset_of("amazon-scientific", tmp_path, text={"encoder": "none"}, duplicates="keep")
    assert dataset.config.text.longest_tokens == 256
    assert dataset.log.select("user_id", "item_id", "split", "label").rows() == [
        ("u9", "2", "train", 1), ("u9", "0", "train", 1), ("u9", "1", "valid", 1), ("u9", "2", "test", 1),
        ("u1", "1", "train", 1), ("u1", "0", "valid", 1), ("u1", "2", "test", 1),
    ]  # fmt: skip
    assert dataset.items["text"].to_list() == ["Hose, Ours", "Nut, unknown", "Bolt, unknown"]
    assert dataset.items["description_text"][0] == "Industrial & Scientific,Tapes, Adhesives,Pipes. Ten feet."
    assert dataset.items["category"].to_list() == [["Industrial & Scientific", "Tapes, Adhesives", "Pipes"], [], []]


def test_amazon_scientific_says_what_is_wrong(tmp_path: Path) -> None:
    log, items = tmp_path / "Scientific.inter.json", tmp_path / "Scientific.item.json"
    for text, said in (
        (None, r"Scientific\.inter\.json does not exist"),
        ('{"u1":\n [1,, 2]}', r"Scientific\.inter\.json cannot be read: .*line 2"),
        ("[1]", r"Scientific\.inter\.json must hold one JSON object"),
        ('{"u1": 3}', r"Scientific\.inter\.json: user 'u1' has no list of item ids"),
        ('{"u1": [1.5]}', r"Scientific\.inter\.json: user 'u1' has no list of item ids"),
        ('{"u1": [1]}', r"Scientific\.item\.json does not exist"),
    ):
        if text is not None:
            log.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=said):
            load_builtin("amazon-scientific", tmp_path)
    items.write_text('{"1": "Nut"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"Scientific\.item\.json: item '1' is no object with title, brand"):
        load_builtin("amazon-scientific", tmp_path)


def test_amazon_p5(tmp_path: Path) -> None:
    (tmp_path / "user_sequence.txt").write_text("U2 C A B\nU1 A B A C\n", encoding="utf-8")
    words = "B blue toy car\nA red toy\nC \n"
    (tmp_path / "item_generative_indexing_phase_0.txt").write_text(words, encoding="utf-8")
    dataset = dataset_of("amazon-p5", tmp_path, text={"encoder": "none"}, duplicates="keep")
    assert dataset.log.select("user_id", "item_id", "split").rows() == [
        ("U2", "C", "train"), ("U2", "A", "valid"), ("U2", "B", "test"),
        ("U1", "A", "train"), ("U1", "B", "train"), ("U1", "A", "valid"), ("U1", "C", "test"),
    ]  # fmt: skip
    assert dataset.items.select("item_id", "text").rows() == [("A", "red toy"), ("B", "blue toy car"), ("C", "unknown")]


def test_amazon_p5_names_the_line_that_is_broken(tmp_path: Path) -> None:
    log, items = tmp_path / "user_sequence.txt", tmp_path / "item_generative_indexing_phase_0.txt"
    for text, said in (
        (None, r"user_sequence\.txt does not exist; data\.path must be the folder of a category"),
        ("U1 A\nU2\n", r"user_sequence\.txt, line 2: 'U2' must begin with an id, items behind it"),
        ("U1 A\nU2 B\nU1 B\n", r"user_sequence\.txt, line 3: 'U1' stands on line 1 already"),
        ("U1 A\n", r"phase_0\.txt does not exist"),
    ):
        if text is not None:
            log.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=said):
            load_builtin("amazon-p5", tmp_path)
    items.write_text("A red toy\n\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"phase_0\.txt, line 2: '' must begin with an id$"):
        load_builtin("amazon-p5", tmp_path)
    items.write_bytes(b"A \xff\n")
    with pytest.raises(UserError, match=r"phase_0\.txt cannot be read"):
        load_builtin("amazon-p5", tmp_path)
