"""What the licences of a mixture's sources ask for, and which of them do not go together.

A table and a few rules, for information; no legal advice. Whether the weights of a model are an adaptation of the rows
that it was trained on is not settled: what is said here holds if they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOTE = (
    "This is information from a table, not legal advice. Whether weights are an adaptation of the rows that they were "
    "trained on is not settled; what stands here is what holds if they are. The base model has a licence of its own."
)

CREDIT = "credit"
NOTICE = "notice"
SHARE_ALIKE = "share-alike"
NON_COMMERCIAL = "non-commercial"
NO_DERIVATIVES = "no-derivatives"
RESTRICTED = "restricted"
UNKNOWN = "unknown"
#: Characters of a licence that are read; what is longer names none.
LONGEST = 500
#: What a duty asks for, in the order in which it is said.
DUTIES = {
    CREDIT: "give credit, with a link to the licence, and say what was changed",
    NOTICE: "pass on its text and copyright notice",
    SHARE_ALIKE: "share what derives from it under the same licence only",
    NON_COMMERCIAL: "do not use it commercially",
    NO_DERIVATIVES: "do not share what derives from it",
    RESTRICTED: "use it for its permitted purposes only, and pass the restrictions on",
    UNKNOWN: "its terms are not known here: ask whoever published it",
}


@dataclass(frozen=True)
class Licence:
    """A licence.

    Attributes
    ----------
    id : str
        Its SPDX id where it has one.
    hub : str
        What the Hub calls it in a card's front matter; "" if it has no name for it.
    duties : frozenset of str
        Keys of `DUTIES`; empty if it asks for nothing.
    link : str
        Where it can be read, for those that the Hub does not know.
    """

    id: str
    hub: str = ""
    duties: frozenset[str] = frozenset()
    link: str = ""

    def obligation(self) -> str:
        """Return what it asks for, in one sentence."""
        asked = [text for duty, text in DUTIES.items() if duty in self.duties]
        return f"{self.id}: {'; '.join(asked) if asked else 'asks for nothing'}."


def _table() -> dict[str, Licence]:
    """Return all that are known, by id in lower case."""
    permissive, copyleft = frozenset({NOTICE}), frozenset({NOTICE, SHARE_ALIKE})
    found = [
        Licence("CC0-1.0", "cc0-1.0"),
        Licence("PDDL-1.0", "pddl"),
        Licence("Unlicense", "unlicense"),
        Licence("WTFPL", "wtfpl"),
        Licence("public domain"),
        Licence("MIT-0"),
        Licence("unrestricted use", "", permissive),
        Licence("cc", "cc", frozenset({UNKNOWN})),
        *(Licence(name, hub, permissive) for name, hub in (
            ("MIT", "mit"), ("Apache-2.0", "apache-2.0"), ("BSD", "bsd"), ("BSD-2-Clause", "bsd-2-clause"),
            ("BSD-3-Clause", "bsd-3-clause"), ("ISC", "isc"), ("Zlib", "zlib"), ("AFL-3.0", "afl-3.0"),
            ("CDLA-Permissive-1.0", "cdla-permissive-1.0"), ("CDLA-Permissive-2.0", "cdla-permissive-2.0"),
            ("MIT-CMU", ""),
        )),
        Licence("WordNet", "", permissive, "https://wordnet.princeton.edu/license-and-commercial-use"),
        Licence("ODC-By-1.0", "odc-by", frozenset({CREDIT})),
        Licence("ODbL-1.0", "odbl", frozenset({CREDIT, SHARE_ALIKE})),
        Licence("CDLA-Sharing-1.0", "cdla-sharing-1.0", copyleft),
        *(Licence(name, hub, copyleft) for name, hub in (
            ("GPL", "gpl"), ("GPL-2.0", "gpl-2.0"), ("GPL-3.0", "gpl-3.0"), ("AGPL-3.0", "agpl-3.0"),
            ("LGPL", "lgpl"), ("LGPL-2.1", "lgpl-2.1"), ("LGPL-3.0", "lgpl-3.0"), ("MPL-2.0", "mpl-2.0"),
            ("EUPL-1.2", "eupl-1.2"), ("GFDL", "gfdl"),
        )),
        *(Licence(name, name, frozenset({NOTICE, RESTRICTED})) for name in (
            "openrail", "openrail++", "bigscience-openrail-m", "creativeml-openrail-m", "bigcode-openrail-m",
            "bigscience-bloom-rail-1.0", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "gemma",
        )),
    ]  # fmt: skip
    versions = {
        "CC-BY": ("2.0", "2.5", "3.0", "4.0"), "CC-BY-SA": ("3.0", "4.0"), "CC-BY-ND": ("4.0",),
        "CC-BY-NC": ("2.0", "3.0", "4.0"), "CC-BY-NC-SA": ("2.0", "3.0", "4.0"), "CC-BY-NC-ND": ("3.0", "4.0"),
    }  # fmt: skip
    for name, known in versions.items():
        duties = {CREDIT}
        duties |= {duty for part, duty in (("SA", SHARE_ALIKE), ("NC", NON_COMMERCIAL), ("ND", NO_DERIVATIVES))
                   if part in name.split("-")}  # fmt: skip
        for version in ("1.0", "2.0", "2.5", "3.0", "4.0"):
            hub = f"{name}-{version}".lower() if version in known else ""
            letters = name.removeprefix("CC-").lower()
            link = f"https://creativecommons.org/licenses/{letters}/{version}/"
            found.append(Licence(f"{name}-{version}", hub, frozenset(duties), link))
        found.append(Licence(name, "", frozenset(duties)))
    return {licence.id.lower(): licence for licence in found}


LICENCES = _table()
_FILLERS = re.compile(r"\b(the|licen[cs]ed?|public licen[cs]e|dedication|version|v\.?)(?=[\s\d]|$)")
#: Ways to write a licence → its id, whole texts in lower case; the first that matches is meant.
_SPELLINGS = (
    (r"|none|null|other|unknown|unspecified|n/?a|noassertion|licenseref-.*", UNKNOWN),
    (r"cc-?zero|cc-?0(-1\.0|-universal.*)?", "CC0-1.0"),
    (r"(cc|creative-commons)-(by|attribution)(?P<parts>(-(nc|sa|nd|non-?commercial|share-?alike|no-?deriv\w*))*)"
     r"(-(?P<version>[1-4]\.\d))?(-international|-unported)?", ""),
    (r"apache(-2(\.0)?)?|asl-2\.0", "Apache-2.0"),
    (r"(the-)?(mit|expat)", "MIT"),
    (r"(new-|modified-|revised-)bsd|bsd-3(-clause)?|3-clause-bsd", "BSD-3-Clause"),
    (r"simplified-bsd|bsd-2(-clause)?|2-clause-bsd", "BSD-2-Clause"),
    (r"(gnu-)?(?P<kind>gpl|agpl|lgpl|general|affero-general|lesser-general)(-?v?(?P<version>\d(\.\d)?))?"
     r"(-only|(?P<later>-or-later|\+))?", ""),
    (r"mozilla(-public)?(-2(\.0)?)?|mpl-?2(\.0)?", "MPL-2.0"),
    (r"(meta-)?(?P<llama>llama-?(2|3(\.[123])?))(-community)?", ""),
    (r"odbl(-1\.0)?|open-database", "ODbL-1.0"),
    (r"odc-by(-1\.0)?", "ODC-By-1.0"),
    (r"pddl(-1\.0)?", "PDDL-1.0"),
    (r"public-domain.*|pd", "public domain"),
    (r"unrestricted.*", "unrestricted use"),
    (r"wordnet.*|princeton-wordnet.*", "WordNet"),
)  # fmt: skip


def parse(text: str) -> tuple[Licence, ...]:
    """Return the licences that a text names: an SPDX id or expression, the Hub's name, or as people write them.

    Parameters
    ----------
    text : str
        ``CC BY 4.0``, ``apache-2.0``, ``MIT OR Apache-2.0``, ``CC BY 4.0 and WordNet licence``; what stands in
        brackets is a remark. Of alternatives (OR) the one with the fewest duties counts.

    Returns
    -------
    tuple of Licence
        At least one; what is not known has the duty ``unknown`` and the words as its id.
    """
    remark = re.sub(r"\([^()]*\)", " ", " ".join((text or "")[:LONGEST].split()))
    remark = re.sub(r"(?i),\s*(?=version|v\.? ?\d|any purpose)", " ", remark)
    found: dict[str, Licence] = {}
    parts = [part for part in re.split(r"\s+and\s+|\s+AND\s+|[,;+&]\s+", remark) if part.strip()]
    for part in parts or [""]:
        choice = [_one(word) for word in re.split(r"\s+OR\s+", part)]
        chosen = min(choice, key=lambda licence: (UNKNOWN in licence.duties, len(licence.duties)))
        found.setdefault(chosen.id, chosen)
    return tuple(found.values())


def _one(text: str) -> Licence:
    words = _FILLERS.sub(" ", text.strip().lower())
    slug = re.sub(r"[\s_]+", "-", words.strip(" .\"'"))
    slug = re.sub(r"-(?=-)", "", slug).strip("-")
    if slug in LICENCES:
        return LICENCES[slug]
    for pattern, name in _SPELLINGS:
        if match := re.fullmatch(pattern, slug):
            if name == UNKNOWN:
                return Licence(UNKNOWN, "unknown", frozenset({UNKNOWN}))
            if name:
                return LICENCES[name.lower()]
            return LICENCES.get(_versioned(match), _strange(text))
    return _strange(text)


def _versioned(match: re.Match[str]) -> str:
    """Return the id, in lower case, of a Creative Commons, GNU or Llama licence in other words."""
    groups = match.groupdict()
    if llama := groups.get("llama"):
        return llama.replace("-", "")
    version = groups["version"] or ""
    if kind := groups.get("kind"):
        name = {"general": "gpl", "affero-general": "agpl", "lesser-general": "lgpl"}.get(kind, kind)
        version = f"{version}.0" if version.isdigit() else version
        if groups["later"] and version == "2.0":
            return name  # of two versions the one that fits may be taken
        return f"{name}-{version}".strip("-")
    parts = groups["parts"].replace("-commercial", "commercial").replace("-alike", "alike").replace("no-d", "nod")
    short = {"noncommercial": "nc", "sharealike": "sa"}
    found = {short.get(part, "nd" if part.startswith("nod") else part) for part in parts.split("-") if part}
    return "-".join(["cc-by", *(part for part in ("nc", "sa", "nd") if part in found), *([version] * bool(version))])


def _strange(text: str) -> Licence:
    return Licence(" ".join(text.split()) or UNKNOWN, "", frozenset({UNKNOWN}))


def of_source(source: Mapping[str, Any]) -> tuple[Licence, ...]:
    """Return the licences of an adapter's rows and, where it says so, of the adapter itself.

    `source` is an entry of ``Adapter.report["sources"]``; that of an adapter of many tasks has a list, ``licences``.
    """
    texts = [str(source.get("licence") or ""), str((source.get("hub") or {}).get("licence") or "")]
    texts += map(str, source.get("licences", ()))
    found: dict[str, Licence] = {}
    for text in [text for text in texts if text] or [""]:
        for licence in parse(text):
            found.setdefault(licence.id, licence)
    return tuple(found.values())


def conflicts(licences: Iterable[Licence]) -> list[str]:
    """Return which licences leave no way to share what derives from all of them, each case in a sentence.

    Only what is known for certain of the licence texts is said, so that silence is no promise.
    """
    found = sorted({licence.id: licence for licence in licences}.values(), key=lambda licence: licence.id)
    sentences = []
    if closed := [licence.id for licence in found if NO_DERIVATIVES in licence.duties]:
        forbid = "forbids" if len(closed) == 1 else "forbid"
        sentences.append(
            f"{_listed(closed)} {forbid} to share what derives from it: if a mixture does, it must not be shared"
        )
    return [*sentences, *_pairs(found)]


def doubts(licences: Iterable[Licence]) -> list[str]:
    """Return which sources have no licence, or one whose terms are not known here."""
    strange = sorted({licence.id for licence in licences if UNKNOWN in licence.duties})
    named = [name for name in strange if name != UNKNOWN]
    sentences = []
    if UNKNOWN in strange:
        sentences.append("a source says no licence, and without one nothing is allowed: ask whoever published it")
    if named:
        sentences.append(f"the terms of {_listed(named)} are not known here: read them")
    return sentences


def _pairs(found: Sequence[Licence]) -> list[str]:
    sentences = []
    alike = [licence for licence in found if SHARE_ALIKE in licence.duties and NO_DERIVATIVES not in licence.duties]
    free = [licence.id for licence in alike if NON_COMMERCIAL not in licence.duties]
    closed = [licence.id for licence in found if NON_COMMERCIAL in licence.duties]
    if free and closed:
        sentences.append(
            f"{_listed(free)} {_do(free)} not go together with {_listed(closed)}: what derives from the one must be "
            "free for commercial use, what derives from the other must not be used so"
        )
    limited = [licence.id for licence in found if RESTRICTED in licence.duties]
    if free and limited:
        sentences.append(
            f"{_listed(free)} {_do(free)} not go together with {_listed(limited)}: the one forbids further "
            "restrictions, the other asks to pass its own on"
        )
    commercial = [licence for licence in alike if NON_COMMERCIAL not in licence.duties]
    for i, one in enumerate(commercial):
        for other in commercial[i + 1 :]:
            if not _meet(one.id, other.id):
                sentences.append(
                    f"{one.id} does not go together with {other.id}: each asks for itself as the licence of what "
                    "derives from it"
                )
    if any(licence.id == "Apache-2.0" for licence in found) and any(licence.id == "GPL-2.0" for licence in found):
        sentences.append(
            "Apache-2.0 does not go together with GPL-2.0: the GPL's second version forbids the patent terms of the "
            "other"
        )
    return sentences


def _meet(one: str, other: str) -> bool:
    """Check whether two share-alike licences allow one licence for what derives from both."""
    first, second = sorted((one, other))
    if first.startswith("CC-BY-SA") and second.startswith("CC-BY-SA"):
        return first != "CC-BY-SA-1.0"  # since 2.0 a later version may be taken
    weak = ("LGPL", "MPL-2.0", "EUPL-1.2")  # may be combined with works under other terms, or name the GPL as way out
    if first.startswith(weak) or second.startswith(weak):
        return True
    # One way: CC-BY-SA 4.0 may become GPL 3; GPL 3 and AGPL 3 name each other; GPL without a version is any of them.
    together = ({"CC-BY-SA-4.0", "GPL-3.0"}, {"AGPL-3.0", "GPL-3.0"}, {"GPL", "GPL-2.0"}, {"GPL", "GPL-3.0"},
                {"AGPL-3.0", "GPL"}, {"CC-BY-SA-4.0", "GPL"})  # fmt: skip
    return {first, second} in together


def front_matter(licences: Iterable[Licence]) -> dict[str, str]:
    """Return the fields of a card's front matter that tell the licence, by the Hub's conventions.

    ``license`` is the Hub's name where all sources have the same licence; ``unknown`` where none says one; else
    ``other``, with ``license_name`` and, where there is one text to be read, ``license_link``.
    """
    found = sorted({licence.id: licence for licence in licences}.values(), key=lambda licence: licence.id)
    if not found:
        return {}
    if len(found) > 1:
        return {"license": "other", "license_name": "mixed-sources"}
    (only,) = found
    if only.hub:
        return {"license": only.hub}
    name = re.sub(r"[^a-z0-9.-]+", "-", only.id.lower()).strip("-.") or "see-card"
    return {"license": "other", "license_name": name, **({"license_link": only.link} if only.link else {})}


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _do(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"
