"""maubot's view of the settings: copies keys, nothing else. What they mean is the business of `settings`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mautrix.util.config import BaseProxyConfig, ConfigUpdateHelper
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.scalarint import ScalarInt
from ruamel.yaml.scalarstring import ScalarString

from .errors import SettingsProblem
from .settings import KEYS

_QUOTED = re.compile(r"['\"].{3,}['\"]", re.DOTALL)
"""From the first quote to the last, but for a single character, which may be escaped."""


class Config(BaseProxyConfig):
    """The instance's YAML, as kept by maubot and edited in its web UI."""

    def do_update(self, helper: ConfigUpdateHelper) -> None:
        for key in KEYS:
            if helper.source.get(key, None) is not None:
                # Plain values carry no comments: a comment before a list's first item would break the YAML for good.
                helper.base[key] = plain(helper.source[key])

    def read(self) -> Any:
        """What the editor holds now, unknown keys included, without taking it over.

        Raises:
            YAMLError: it is not YAML.
        """
        try:
            return plain(self._load_proxy() or CommentedMap())
        except YAMLError:
            raise
        # Impossible dates, unknown booleans, too deep a nesting: ruamel.yaml lets through whatever they make happen.
        except Exception:  # noqa: BLE001
            raise YAMLError from None

    def put_back(self) -> None:
        """Put what was loaded last back into the editor; where nothing could be loaded, leave what is there."""
        if self._data:
            self.save()

    def keep(self, mapping: Any) -> None:
        """Hold `mapping` as it is, so that a later `save` puts it back into the editor."""
        if isinstance(mapping, Mapping):
            self._data = CommentedMap(mapping)


def plain(value: Any) -> Any:
    """`value` with ruamel's own types replaced by plain ones, which know no comments and no anchors."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    # A boolean with an anchor is a number to Python, and an anchor that is written twice is one too many.
    kinds = {ScalarBoolean: bool, ScalarInt: int, ScalarFloat: float, ScalarString: str}
    return next((make(value) for kind, make in kinds.items() if isinstance(value, kind)), value)


def yaml_problem(error: YAMLError) -> SettingsProblem:
    """Where the YAML is broken; of the text itself nothing is repeated."""
    mark = getattr(error, "problem_mark", None)
    what = _QUOTED.sub("…", str(getattr(error, "problem", None) or "it cannot be read"))
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    return SettingsProblem(where, f"not valid YAML ({what}); check the indentation and quotes there")
