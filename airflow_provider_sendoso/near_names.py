"""What may have been meant by a name that is not known: the known ones that are similar to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

_ALIKE = 0.62
"""The similarity (0 to 1) from which a name is offered: below it, `arrived` is taken for `failed`."""


def meant(wrong: str, known: Mapping[str, str] | Iterable[str]) -> str:
    """
    Offer the known names that are similar to a wrong one, for the sentence that refuses it.

    :param wrong: the name that is not known.
    :param known: the names, compared without case; or, by name, what is to be offered for it, such as an id.
    :return: `` (did you mean 'a' or 'b'?)``, with at most three; empty if no name is similar.
    """
    offers = known.items() if isinstance(known, Mapping) else ((name, name) for name in known)
    by_name = {name.casefold(): offer for name, offer in offers}
    folded = wrong.casefold()
    near = [folded] if folded in by_name else get_close_matches(folded, by_name, cutoff=_ALIKE)
    alike = dict.fromkeys(by_name[name] for name in near)
    return f" (did you mean {' or '.join(map(repr, alike))}?)" if alike else ""
