"""Class and split of every image of an archive by its path: `CLASS/NAME`, or `SPLIT/CLASS/NAME`. Torch-free.

One enclosing folder is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from paretofit.search.data.archive import Member
from paretofit.search.data.rejection import RejectedError, reject

TRAIN, SELECTION, REPORT = "train", "selection", "report"

_VALIDATION: Final = "validation"
_NAMES: Final = {
    "train": TRAIN,
    "training": TRAIN,
    "val": _VALIDATION,
    "valid": _VALIDATION,
    "validation": _VALIDATION,
    "test": REPORT,
    "testing": REPORT,
}
"""The split that a folder name stands for, in any case."""


@dataclass(frozen=True, slots=True)
class Item:
    """An image; `split` is `train` if the archive has no splits."""

    member: Member
    label: str
    split: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Images in the order of their paths, and misplaced ones with the reason. `folders` maps the archive's splits
    (`train`, `selection`, `report`) to their folder names; the others are to be sampled."""

    items: list[Item] = field(default_factory=list)
    misplaced: list[tuple[str, str]] = field(default_factory=list)
    folders: Mapping[str, str] = field(default_factory=dict)

    def given(self) -> list[str]:
        """The archive's splits besides `train`."""
        return [split for split in (SELECTION, REPORT) if split in self.folders]


def classify(members: Sequence[Member]) -> Layout:
    """The layout of an archive's images.

    `val|valid|validation` is the selection split and `test|testing` the report split if both exist; one of them alone
    is the report split. Raises RejectedError for two folders with the same meaning, or splits without `train`.
    """
    tops = {member.path[0] for member in members if len(member.path) > 1}
    deep = all(len(member.path) > 2 for member in members if len(member.path) > 1)
    wrapped = len(tops) == 1 and deep
    paths = {member: member.path[1:] if wrapped and len(member.path) > 1 else member.path for member in members}
    folders = _folders({path[0] for path in paths.values() if len(path) == 3})
    roles = {folder: split for split, folder in folders.items()}
    layout = Layout(folders=folders)
    expected = "train/CLASS/NAME, val/CLASS/NAME or test/CLASS/NAME" if roles else "CLASS/NAME"
    for member, path in sorted(paths.items(), key=lambda pair: pair[1]):
        if len(path) == 3 and path[0] in roles:
            layout.items.append(Item(member, label=path[1], split=roles[path[0]]))
        elif not roles and len(path) == 2:
            layout.items.append(Item(member, label=path[0], split=TRAIN))
        else:
            layout.misplaced.append((member.name, f"is in the wrong folder: move it to {expected}"))
    return layout


def _folders(tops: set[str]) -> dict[str, str]:
    """The folder of each split."""
    named: dict[str, list[str]] = {}
    for top in sorted(tops):
        if (meaning := _NAMES.get(top.casefold())) is not None:
            named.setdefault(meaning, []).append(top)
    for folders in named.values():
        if len(folders) > 1:
            raise _ambiguous(folders)
    found = {meaning: folder for meaning, (folder,) in named.items()}
    if found and TRAIN not in found:
        given = " and ".join(f"{folder}/" for folder in sorted(found.values()))
        raise reject(
            "no_train_split", f"the archive has {given} but no train/: put the training images in train/CLASS/NAME"
        )
    if (validation := found.pop(_VALIDATION, None)) is not None:
        found[SELECTION if REPORT in found else REPORT] = validation
    return found


def _ambiguous(folders: Sequence[str]) -> RejectedError:
    listed = " and ".join(f"{folder}/" for folder in folders)
    return reject(
        "ambiguous_splits", f"the archive has {listed}, which are the same split: move their images into one of them"
    )
