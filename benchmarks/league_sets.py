"""The tables of the league: data sets of scikit-learn, statsmodels, sktime and aeon, and a folder of further sets.

Those of scikit-learn are always available. The other packages need not be installed: only their data files are read, from
a wheel, from an unpacked folder, or from the installed package. Sets are used as they are, without derived columns or
scaling. Separate training and test rows are joined, since the league makes its own folds; of the further sets only the
training rows are read.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sensorium.data.tables.table import Table

Kind = Literal["number", "category", "text", "series", "image", "audio"]
Rows = dict[str, list[Any]]


@dataclass(frozen=True)
class Set:
    """One prediction problem on one table.

    Args:
        classes: Whether the target is a class; otherwise it is a number.
        kinds: Kinds of the input columns; given to the rivals, not to sensorium.
        group: A column whose equal values (patients, recordings) are never on both sides of a fold.
        rows: Maximum number of rows; larger tables are sampled, in the same way for every method.
    """

    name: str
    table: Table
    classes: bool
    kinds: Mapping[str, Kind]
    target: str = "label"
    group: str | None = None
    rows: int = 2000

    @property
    def ignore(self) -> list[str]:
        """Columns that are not inputs."""
        return [name for name in self.table.columns if name not in (*self.kinds, self.target, self.group)]

    def thinned(self, most: int | None) -> Set:
        """Return the set with a random sample of at most ``most`` (and ``rows``) of the rows that have a target."""
        answered = np.array([i for i, cell in enumerate(self.table.column(self.target)) if cell not in ("", None)])
        count = min(self.rows, most or self.rows, len(answered))
        chosen = np.sort(np.random.default_rng(0).permutation(len(answered))[:count])
        return replace(self, table=self.table.take(answered[chosen].tolist()))


@dataclass(frozen=True)
class Package:
    """Files of a package, read from its wheel, its folder, the parent folder, or the installed package."""

    name: str
    place: Path | None = None

    def read(self, inner: str) -> str | None:
        """Return the text of the file at the path ``inner`` in the package, or None if the file or package is missing."""
        place = self.place
        if place is None:
            result = find_spec(self.name)
            if result is None or not result.submodule_search_locations:
                return None
            place = Path(next(iter(result.submodule_search_locations)))
        if place.is_file():
            with zipfile.ZipFile(place) as wheel:
                name = f"{self.name}/{inner}"
                return wheel.read(name).decode("utf-8-sig") if name in wheel.namelist() else None
        for path in (place / inner, place / self.name / inner):
            if path.is_file():
                return path.read_text(encoding="utf-8-sig")
        return None


@dataclass(frozen=True)
class Sources:
    """Sources of sets: wheels or folders of the packages, and the folder of further sets with the part of each to read."""

    statsmodels: Path | None = None
    sktime: Path | None = None
    aeon: Path | None = None
    data: Path | None = None
    part: str = "train"
    only: frozenset[str] = field(default=frozenset())

    def sets(self) -> dict[str, Set]:
        """Return all sets that can be read, or those named."""
        makers = {**_of_sklearn(), **_of_statsmodels(self), **_of_series(self), **_of_folder(self)}
        unknown = sorted(self.only - set(makers))
        if unknown:
            raise SystemExit(f"no set named {', '.join(unknown)}; there are: {', '.join(makers)}")
        made = {name: make() for name, make in makers.items() if not self.only or name in self.only}
        missing = [name for name in self.only if made[name] is None]
        if missing:
            raise SystemExit(f"the files of {', '.join(missing)} were not found: name a wheel or a folder (--help)")
        return {name: results for name, results in made.items() if results is not None}


Makers = dict[str, Callable[[], Set | None]]


def _of_sklearn() -> Makers:
    from sklearn import datasets

    def plain(name: str, load: Callable[[], Any], classes: bool) -> Set:
        bunch = load()
        names = [str(feature) for feature in bunch.feature_names]
        columns: Rows = {feature: bunch.data[:, i].tolist() for i, feature in enumerate(names)}
        words = [str(word) for word in getattr(bunch, "target_names", ())]
        columns["label"] = [words[code] for code in bunch.target] if classes else bunch.target.tolist()
        return Set(name, Table(columns, source=name), classes, dict.fromkeys(names, "number"))

    def iris_width() -> Set:
        bunch = datasets.load_iris()
        names = ["sepal length", "sepal width", "petal length"]
        columns: Rows = {feature: bunch.data[:, i].tolist() for i, feature in enumerate(names)}
        columns["species"] = [str(bunch.target_names[code]) for code in bunch.target]
        columns["label"] = bunch.data[:, 3].tolist()
        kinds: dict[str, Kind] = {**dict.fromkeys(names, "number"), "species": "category"}
        return Set("iris_width", Table(columns, source="iris_width"), False, kinds)

    def pictures() -> Set:
        bunch = datasets.load_digits()
        cells = [np.minimum(picture * 16, 255).astype(np.uint8) for picture in bunch.images]
        columns: Rows = {"picture": cells, "label": [str(digit) for digit in bunch.target]}
        return Set("digits_picture", Table(columns, source="digits_picture"), True, {"picture": "image"})

    return {
        "iris": lambda: plain("iris", datasets.load_iris, True),
        "iris_width": iris_width,
        "wine": lambda: plain("wine", datasets.load_wine, True),
        "breast_cancer": lambda: plain("breast_cancer", datasets.load_breast_cancer, True),
        "diabetes": lambda: plain("diabetes", lambda: datasets.load_diabetes(scaled=False), False),
        "digits_table": lambda: plain("digits_table", datasets.load_digits, True),
        "digits_picture": pictures,
    }


@dataclass(frozen=True)
class Csv:
    """A table of statsmodels: its file, target, categories, and the columns that are left out."""

    file: str
    target: str
    classes: bool
    categories: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    change: Callable[[Rows], Rows] | None = None
    delimiter: str = ","
    rows: int = 2000


def _unfaithful(columns: Rows) -> Rows:
    """Replace the number of affairs with whether there was any."""
    name = "affairs" if "affairs" in columns else "naffairs"
    return {**columns, name: ["yes" if float(cell) > 0 else "no" for cell in columns[name]]}


def _share(columns: Rows) -> Rows:
    """Add the share of pupils above the median, computed from the two counts."""
    pupils, above = columns["MATHTOT"], columns["PR50M"]
    return {**columns, "share": [float(a) / float(n) for a, n in zip(above, pupils, strict=True)]}


def _one_row_a_traveller(columns: Rows) -> Rows:
    """Return one row for each traveller: the columns of all four modes of transport, and the mode taken."""
    ways = {"1": "air", "2": "train", "3": "bus", "4": "car"}
    people: dict[str, dict[str, Any]] = {}
    for i, person in enumerate(columns["individual"]):
        way = ways[columns["mode"][i]]
        row = people.setdefault(person, {"hinc": columns["hinc"][i], "psize": columns["psize"][i]})
        row |= {f"{name}_{way}": columns[name][i] for name in ("ttme", "invc", "invt", "gc")}
        if columns["choice"][i] == "1":
            row["taken"] = way
    return {name: [row[name] for row in people.values()] for name in next(iter(people.values()))}


_STAR: tuple[str, ...] = (
    "LOWINC",
    "PERASIAN",
    "PERBLACK",
    "PERHISP",
    "PERMINTE",
    "AVYRSEXP",
    "AVSALK",
    "PERSPENK",
    "PTRATIO",
    "PCTAF",
)
_STAR += ("PCTCHRT", "PCTYRRND")

STATSMODELS = {
    "anes96_vote": Csv("anes96/anes96.csv", "vote", True, delimiter="\t"),
    "anes96_party": Csv("anes96/anes96.csv", "PID", True, leave=("vote",), delimiter="\t"),
    "fair": Csv("fair/fair.csv", "affairs", True, ("occupation", "occupation_husb"), change=_unfaithful),
    "fair_pt": Csv("fair/fair_pt.csv", "naffairs", True, ("sex", "occupation"), ("identifier", "constant"), _unfaithful),
    "modechoice": Csv("modechoice/modechoice.csv", "taken", True, change=_one_row_a_traveller, delimiter=";"),
    "star98": Csv("star98/star98.csv", "share", False, change=_share),
    "randhie": Csv("randhie/randhie.csv", "mdvis", False),
    "grunfeld": Csv("grunfeld/grunfeld.csv", "invest", False, ("firm",)),
    "engel": Csv("engel/engel.csv", "foodexp", False),
    "ccard": Csv("ccard/ccard.csv", "AVGEXP", False, leave=("INCOMESQ",)),
}


def _of_statsmodels(sources: Sources) -> Makers:
    package = Package("statsmodels", sources.statsmodels)

    def make(name: str, which: Csv) -> Set | None:
        text = package.read(f"datasets/{which.file}")
        if text is None:
            return None
        lines = list(csv.reader(io.StringIO(text), delimiter=which.delimiter))
        header = [cell.strip("' ") for cell in lines[0]]
        body = [line for line in lines[1:] if line]
        columns: Rows = {column: [line[i].strip() for line in body] for i, column in enumerate(header)}
        if which.change is not None:
            columns = which.change(columns)
        inputs = _STAR if name == "star98" else [c for c in columns if c not in (which.target, *which.leave)]
        kinds: dict[str, Kind] = {c: "category" if c in which.categories else "number" for c in inputs}
        columns["label"] = columns[which.target]
        kept = {column: columns[column] for column in (*inputs, "label")}
        return Set(name, Table(kept, source=name), which.classes, kinds, rows=which.rows)

    return {name: lambda name=name, which=which: make(name, which) for name, which in STATSMODELS.items()}  # type: ignore[misc]


SERIES = {
    **dict.fromkeys(("ACSF1", "ArrowHead", "BasicMotions", "GunPoint", "ItalyPowerDemand", "JapaneseVowels"), True),
    **dict.fromkeys(("OSULeaf", "PLAID", "PickupGestureWiimoteZ"), True),
    **dict.fromkeys(("Covid3Month", "Tecator", "CardanoSentiment"), False),
}
"""Names of sets in sktime and aeon, and whether their target is a class."""


def read_ts(text: str) -> tuple[list[np.ndarray[Any, Any]], list[str]]:
    """Return the series of a ``.ts`` file, ``[T]`` or ``[T, C]`` float32, and the text after the last colon of each."""
    series, answers = [], []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line.lower().startswith("@timestamps true"):
            raise ValueError(f"line {number}: series with timestamps are not supported")
        if not line or line[0] in "#@":
            continue
        *channels, answer = line.split(":")
        read = [[np.nan if cell.strip() == "?" else float(cell) for cell in c.split(",")] for c in channels]
        if len({len(channel) for channel in read}) != 1:
            raise ValueError(f"line {number}: the channels of a series differ in length")
        array = np.array(read, dtype=np.float32).T
        series.append(array[:, 0] if array.shape[1] == 1 else array)
        answers.append(answer.strip())
    return series, answers


def _of_series(sources: Sources) -> Makers:
    packages = (Package("sktime", sources.sktime), Package("aeon", sources.aeon))

    def make(name: str, classes: bool) -> Set | None:
        for package in packages:
            parts = [package.read(f"datasets/data/{name}/{name}_{part}.ts") for part in ("TRAIN", "TEST")]
            texts = [text for text in parts if text is not None]
            if len(texts) == len(parts):
                read = [read_ts(text) for text in texts]
                columns: Rows = {"series": [cell for cells, _ in read for cell in cells]}
                answers = [answer for _, inputs in read for answer in inputs]
                columns["label"] = answers if classes else [float(answer) for answer in answers]
                return Set(name, Table(columns, source=name), classes, {"series": "series"})
        return None

    return {name: lambda name=name, classes=classes: make(name, classes) for name, classes in SERIES.items()}  # type: ignore[misc]


def _kinds(**columns: str) -> dict[str, Kind]:
    """Return the kind of each column, given as ``number="age fee", text="title"``."""
    return {column: kind for kind, names in columns.items() for column in names.split()}  # type: ignore[misc]


PET = "type breed1 gender color1 color2 maturitysize furlength vaccinated dewormed sterilized health state"
LABS = "age offset_days temperature pO2_saturation leukocyte_count neutrophil_count lymphocyte_count"
FOLDER: dict[str, tuple[dict[str, Kind], str | None, int]] = {
    "clothing": (_kinds(text="title text", number="age feedback", category="division department class"), None, 2000),
    "petfinder": (_kinds(text="name text", number="age quantity fee videoamt photoamt", category=PET), None, 2000),
    "mustard": (_kinds(text="text context", category="speaker show"), None, 2000),
    "covid_cxr": (_kinds(image="image", text="notes_masked", number=LABS, category="sex view"), "patient", 2000),
    "av_hard": (_kinds(image="image", audio="audio"), "take", 2000),
    "av_digits": (_kinds(image="image sign_image", audio="audio"), "audio", 2000),
    "easy_vqa": (_kinds(image="image", text="question"), "image", 1500),
    "nlvr": (_kinds(image="image", text="text"), "group", 1500),
    "ts_basicmotions": (_kinds(series="series"), None, 2000),
    "ts_japanesevowels": (_kinds(series="series"), None, 2000),
}
"""Kinds of the input columns, the group and the number of rows; all targets are classes in the column ``label``."""


def _takes(table: Table) -> list[str]:
    """Return the recording that each sound was made from, identified by speaker, label and number of samples.

    Each recording occurs about three times, with different noise. On both sides of a fold it would be recognised: trees
    then have an accuracy of 0.997, and of 0.95 otherwise.
    """
    import soundfile

    cells = zip(table.column("speaker"), table.column("label"), table.column("audio"), strict=True)
    root = table.root or Path.cwd()
    # Rows without sound share no recording.
    return [
        f"{who}/{what}/{soundfile.info(root / file).frames}" if file else f"row {i}"
        for i, (who, what, file) in enumerate(cells)
    ]


def _of_folder(sources: Sources) -> Makers:
    def make(name: str) -> Set | None:
        kinds, group, rows = FOLDER[name]
        for ending in (".csv", ".jsonl"):
            path = (sources.data or Path()) / name / f"{sources.part}{ending}"
            if sources.data is not None and path.is_file():
                table = Table.read(path)
                if group == "take":
                    table = table.with_column("take", _takes(table))
                return Set(name, table, True, kinds, group=group, rows=rows)
        return None

    return {name: lambda name=name: make(name) for name in FOLDER}  # type: ignore[misc]


def described(sets: Iterable[Set]) -> str:
    """Return a Markdown table of the sets."""
    lines = ["| set | rows | answer | inputs |", "|---|---|---|---|"]
    for which in sets:
        answers = which.table.column(which.target)
        answer = f"{len(set(answers))} classes" if which.classes else "number"
        counts = {kind: list(which.kinds.values()).count(kind) for kind in dict.fromkeys(which.kinds.values())}
        inputs = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        grouped = f", folds by {which.group}" if which.group else ""
        lines.append(f"| {which.name} | {len(which.table)} | {answer} | {inputs}{grouped} |")
    return "\n".join(lines)
