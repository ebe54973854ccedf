"""
Reading documents the way the API server validates them: everything that is wrong is collected, with its path.

A `Reader` stands at one object of a document. It hands out values in any order, notes an `Issue` for each that is not
allowed (and gives a harmless stand-in, so that reading goes on), and takes fields that nobody asks for as unknown.
Issues are told in the order of the document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import attrs

from inferencepool.errors import InvalidDocumentError, Issue

__all__ = [
    "DOMAIN_PATH",
    "GROUP",
    "KIND",
    "LABEL_VALUE",
    "MAX_PORT",
    "Reader",
    "check_label_key",
    "check_labels",
    "check_text",
    "quoted",
    "to_texts",
    "to_whole",
]

_T = TypeVar("_T")

# Index of the field or item at each level; an absent field stands behind those that are there.
_Place: TypeAlias = tuple[int, ...]

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"

DNS_SUBDOMAIN = re.compile(_SUBDOMAIN)
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
GROUP = re.compile(rf"({_SUBDOMAIN})?")
KIND = re.compile(r"[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
LABEL_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
DOMAIN_PATH = re.compile(rf"{_SUBDOMAIN}/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
CONDITION_TYPE = re.compile(rf"({_SUBDOMAIN}/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])")
REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")

MAX_PORT = 65535
_SHOWN = 80


def quoted(value: object) -> str:
    """Show a value in a message, shortened where it is long."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        # Python spells neither integers of thousands of digits nor what is nested that deep.
        text = f"a number of {int.bit_length(value)} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:60]}... ({len(text)} characters)"


def to_whole(value: object) -> int | None:
    """Read a JSON number without a fraction; None for anything else (booleans included)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def to_texts(texts: Iterable[str]) -> tuple[str, ...]:
    """Freeze a list of texts."""
    return tuple(texts)


def check_text(
    value: object, *, least: int = 0, most: int | None = None, pattern: re.Pattern[str] | None = None
) -> str | None:
    """Tell what is wrong with a text, in the words of an `Issue`; None when nothing is."""
    if not isinstance(value, str):
        return f"{quoted(value)} is not a string"
    if len(value) < least:
        return f"{quoted(value)} has {len(value)} characters, allowed are {least} or more"
    if most is not None and len(value) > most:
        return f"{quoted(value)} has {len(value)} characters, allowed are at most {most}"
    if pattern is not None and not pattern.fullmatch(value):
        return f"{quoted(value)} does not match {pattern.pattern}"
    return None


def check_label_key(key: object) -> str | None:
    """Tell what is wrong with the key of a label, by Kubernetes' rule for qualified names; None when nothing is."""
    if not isinstance(key, str):
        return f"the key {quoted(key)} is not a string"
    prefix, slash, name = key.rpartition("/")
    if slash:
        wrong = check_text(prefix, least=1, most=253, pattern=DNS_SUBDOMAIN)
        if wrong:
            return f"the prefix of the key {quoted(key)} is no DNS subdomain: {wrong}"
    wrong = check_text(name, least=1, most=63, pattern=LABEL_NAME)
    return f"the key {quoted(key)} is no qualified name: {wrong}" if wrong else None


def check_labels(labels: Mapping[Any, Any], path: str, *, values: bool = True) -> list[Issue]:
    """Check labels; or without *values* annotations, whose values may be any and whose keys may have capitals."""
    issues = []
    for key, value in labels.items():
        at = f"{path}[{key!r}]"
        # As the API server does: it lowers the keys of annotations before it looks at them.
        if wrong := check_label_key(key if values or not isinstance(key, str) else key.lower()):
            issues.append(Issue(at, wrong, key))
        if not isinstance(value, str):
            issues.append(Issue(at, f"{quoted(value)} is not a string", value))
        elif values and (wrong := check_text(value, most=63, pattern=LABEL_VALUE)):
            issues.append(Issue(at, wrong, value))
    return issues


@attrs.define(eq=False)
class Reader:
    """
    One object of a document, with the path that leads to it.

    Attributes:
        document: The object.
        path: Its path from the root; empty for the root.
        place: Where that is, for sorting.
    """

    document: Mapping[str, Any]
    path: str = ""
    place: _Place = ()
    _wrong: list[tuple[_Place, Issue]] = attrs.field(factory=list)  # as the next, shared by all of a document
    _unknown: list[tuple[_Place, Issue]] = attrs.field(factory=list)
    _asked: set[str] = attrs.field(factory=set)

    @classmethod
    def of(cls, document: object) -> Reader:
        """
        Start at the root of *document*.

        Raises:
            InvalidDocumentError: It is not a mapping.
        """
        if not isinstance(document, Mapping):
            raise InvalidDocumentError([Issue("", f"{quoted(document)} is not an object", document)])
        return cls(document)

    def at(self, name: str) -> str:
        """Give the path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, reason: str, value: object = None) -> None:
        """Note that a field is wrong, or with an empty *name* the object itself."""
        at = (self._place(name.partition("[")[0]), self.at(name)) if name else (self.place, self.path)
        self._wrong.append((at[0], Issue(at[1], reason, value)))

    @property
    def issues(self) -> tuple[Issue, ...]:
        """What is wrong so far in the whole document, in its order; unknown fields are not among it."""
        return _in_order(self._wrong)

    def _place(self, name: str) -> _Place:
        names = list(self.document)
        return (*self.place, names.index(name) if name in names else len(names))

    def get(self, name: str, *, required: bool = False) -> Any:
        """Give the value of a field; None where it is absent or null."""
        self._asked.add(name)
        value = self.document.get(name)
        if value is None and required:
            self.wrong(name, "is required")
        return value

    def text(
        self,
        name: str,
        default: str | None = None,
        *,
        required: bool = False,
        least: int = 0,
        most: int | None = None,
        pattern: re.Pattern[str] | None = None,
        one_of: Sequence[str] = (),
    ) -> str | None:
        """Read a string."""
        value = self.get(name, required=required)
        if value is None:
            return default
        wrong = check_text(value, least=least, most=most, pattern=pattern)
        if wrong is None and one_of and value not in one_of:
            wrong = f"{quoted(value)} is not one of {', '.join(one_of)}"
        if wrong:
            self.wrong(name, wrong, value)
            return default
        return str(value)

    def whole(self, name: str, *, low: int, high: int, required: bool = False) -> int | None:
        """Read a whole number from *low* to *high*."""
        value = self.get(name, required=required)
        if value is None:
            return None
        number = to_whole(value)
        if number is None:
            self.wrong(name, f"{quoted(value)} is not a whole number", value)
        elif not low <= number <= high:
            self.wrong(name, f"{quoted(value)} is not in {low} to {high}", value)
        else:
            return number
        return None

    def flag(self, name: str) -> bool:
        """Read a field that is true or false; false where it is absent."""
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            self.wrong(name, f"{quoted(value)} is neither true nor false", value)
        return value is True

    def texts(self, name: str) -> list[tuple[int, str]]:
        """Read a list of strings, each with its index; those that are none are noted and left out."""
        value = self.get(name)
        if value is None:
            return []
        if isinstance(value, str) or not isinstance(value, Sequence):
            self.wrong(name, f"{quoted(value)} is not a list", value)
            return []
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.wrong(f"{name}[{index}]", f"{quoted(item)} is not a string", item)
        return [(index, item) for index, item in enumerate(value) if isinstance(item, str)]

    def child(self, name: str, *, required: bool = False) -> Reader | None:
        """Read an object."""
        value = self.get(name, required=required)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.wrong(name, f"{quoted(value)} is not an object", value)
            return None
        return attrs.evolve(self, document=value, path=self.at(name), place=self._place(name), asked=set())

    def items(
        self, name: str, *, required: bool = False, least: int = 0, most: int | None = None
    ) -> list[Reader] | None:
        """Read a list of objects."""
        value = self.get(name, required=required)
        if value is None:
            return None
        if isinstance(value, str) or not isinstance(value, Sequence):
            self.wrong(name, f"{quoted(value)} is not a list", value)
            return None
        if len(value) < least:
            self.wrong(name, f"has {len(value)} items, allowed are {least} or more", value)
        if most is not None and len(value) > most:
            self.wrong(name, f"has {len(value)} items, allowed are at most {most}", value)
        readers = []
        for index, item in enumerate(value):
            path, place = f"{self.at(name)}[{index}]", (*self._place(name), index)
            if isinstance(item, Mapping):
                readers.append(attrs.evolve(self, document=item, path=path, place=place, asked=set()))
            else:
                self._wrong.append((place, Issue(path, f"{quoted(item)} is not an object", item)))
        return readers

    def labels(
        self, name: str, *, required: bool = False, values: bool = True, nulls: bool = False
    ) -> dict[str, str] | None:
        """Read labels, or annotations, whose *values* may be any strings; *nulls* are empty or wrong."""
        found = self.get(name, required=required)
        if found is None:
            return None
        if not isinstance(found, Mapping):
            self.wrong(name, f"{quoted(found)} is not an object", found)
            return None
        fine = {}
        for index, (key, given) in enumerate(found.items()):
            value = "" if nulls and given is None else given
            issues = check_labels({key: value}, self.at(name), values=values)
            self._wrong += (((*self._place(name), index), issue) for issue in issues)
            if not issues:
                fine[key] = value
        return fine

    def unique(self, readers: Sequence[Reader], key: str) -> None:
        """Note items of a list whose *key* an earlier one has."""
        seen: dict[object, str] = {}
        for reader in readers:
            value = reader.document.get(key)
            if isinstance(value, str) and seen.setdefault(value, reader.path) != reader.path:
                reader.wrong(key, f"{quoted(value)} is that of {seen[value]} as well", value)

    def done(self) -> None:
        """Note all fields that nobody asked for as unknown."""
        for name in self.document:
            if name not in self._asked:
                issue = Issue(self.at(str(name)), "is no field of this object", self.document[name])
                self._unknown.append((self._place(name), issue))

    def finish(self, source: str, unknown: str, build: Callable[[], _T]) -> _T:
        """
        Build the value, unless something is wrong.

        Args:
            source: What was read, for the error.
            unknown: ``error`` to refuse unknown fields, ``ignore`` to tolerate them.
            build: Builds the value.

        Raises:
            InvalidDocumentError: Something is wrong; it tells everything that is.
        """
        found = self._wrong + (self._unknown if unknown == "error" else [])
        if found:
            raise InvalidDocumentError(_in_order(found), source)
        return build()


def _in_order(found: Iterable[tuple[_Place, Issue]]) -> tuple[Issue, ...]:
    return tuple(issue for _, issue in sorted(found, key=lambda item: item[0]))
