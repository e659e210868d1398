"""The pictures of a page: within it, or in style sheets beside it where it would grow too large."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from dnr_bench.infra.files import writing
from dnr_bench.stages.thumbnails import Strip

#: Bytes of pictures that a page holds itself, and that stand together in a file beside it.
_WITHIN, _TOGETHER = 32 << 20, 4 << 20

Strips = Mapping[str, Strip]


@dataclass(frozen=True)
class Sheets:
    """The strips of each side of a page. files: the file of each strip by the name of its class, if any."""

    strips: Mapping[str, Strips]
    files: Mapping[str, str]

    @classmethod
    def of(cls, strips: Mapping[str, Strips], page: Path) -> Sheets:
        """Those of a page; where there are many they are written beside it, into a folder of its name."""
        folder = page.with_name(f"{page.stem}_pictures")
        sizes = {
            _class(side, n): len(strip.webp)
            for side, of_side in strips.items()
            for n, strip in of_side.items()
        }
        if folder.is_symlink():
            folder.unlink()
        elif folder.is_dir():  # of the page that this one replaces
            shutil.rmtree(folder)
        if sum(sizes.values()) <= _WITHIN:
            return cls(strips, {})
        files, filled = {}, 0
        for name, size in sizes.items():
            files[name] = f"{folder.name}/{filled // _TOGETHER}.css"
            filled += size
        found = cls(strips, files)
        found._write(page.parent)
        return found

    def within(self) -> Iterator[str]:
        """The rules of the style sheet in the page."""
        return iter(()) if self.files else self._rules()

    def sheet_of(self, side: str, strip: str) -> str | None:
        """The file beside the page that has a strip; None where the page has it."""
        return self.files.get(_class(side, strip))

    def _rules(self) -> Iterator[str]:
        for side, of_side in self.strips.items():
            for name, strip in of_side.items():
                yield f".{_class(side, name)}{{background-image:url(data:image/webp;base64,{strip.data})}}"

    def _write(self, folder: Path) -> None:
        rules = zip(self.files.values(), self._rules(), strict=True)
        for file, together in groupby(rules, key=itemgetter(0)):
            with writing(folder / file) as partial:
                partial.write_text("\n".join(rule for _, rule in together))


def _class(side: str, strip: str) -> str:
    return f"{side}-{strip}"
