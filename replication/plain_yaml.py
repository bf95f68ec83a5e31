"""YAML as people mean it: numbers as they write them, no key twice, nothing that two readers take differently.

Every room may import this module, as it knows none of them.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_WHOLE = r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)|0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+"
_REAL = (
    rf"[-+]?(?:{_DIGITS}\.(?:{_DIGITS})?|\.{_DIGITS})(?:[eE][-+]?[0-9]+)?"
    rf"|[-+]?{_DIGITS}[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
# YAML 1.1 takes these for truth values, octal numbers and numbers to base 60, YAML 1.2 for texts and decimals
_AMBIGUOUS = r"(?i:yes|no|on|off)|[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"


class _Loader(yaml.SafeLoader):
    """Without dates: nothing here is one."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge":
                name = self.construct_object(key, deep=True)
                if isinstance(name, Hashable):  # what is not is an error of the call below
                    if name in seen:
                        raise _refused(f"the key {name!r} stands twice", key)
                    seen.add(name)
        return super().construct_mapping(node, deep)


def _refused(why: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, why, node.start_mark)


def _ambiguous(_loader: _Loader, node: yaml.ScalarNode) -> None:
    raise _refused(f"{node.value} means two things; write true, false, a plain number, or a text in quotes", node)


for _tag, _pattern in (
    ("tag:yaml.org,2002:merge", "<<"),
    ("tag:yaml.org,2002:null", "|~|null|Null|NULL"),
    ("tag:yaml.org,2002:bool", "true|True|TRUE|false|False|FALSE"),
    ("tag:yaml.org,2002:int", _WHOLE),
    ("tag:yaml.org,2002:float", _REAL),
    ("!ambiguous", _AMBIGUOUS),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), None)
_Loader.add_constructor("!ambiguous", _ambiguous)
# as Python reads them: PyYAML's own are YAML 1.1's
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _loader, node: int(node.value, 0))


def load(text: str) -> Any:
    """Read one YAML value.

    Parameters
    ----------
    text : str
        A number may be written as in Python: ``1e-3``, ``1_000``. What YAML 1.1 takes for a date is a text.

    Raises
    ------
    yaml.YAMLError
        It is not YAML, a key stands twice in a mapping, or a word means different things to different readers of YAML
        (``yes``, ``010``, ``1:30``).

    Examples
    --------
    >>> load("{rate: 1e-3, steps: 1_000, day: 2024-01-02, seeds: 0..3}")
    {'rate': 0.001, 'steps': 1000, 'day': '2024-01-02', 'seeds': '0..3'}
    >>> load("flip: no")
    Traceback (most recent call last):
    yaml.constructor.ConstructorError: no means two things; write true, false, a plain number, or a text in quotes
      in "<unicode string>", line 1, column 7:
        flip: no
              ^
    """
    return yaml.load(text, Loader=_Loader)
