"""maubot's view of the settings: copies keys, nothing else. What they mean is the business of `settings`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mautrix.util.config import BaseProxyConfig, ConfigUpdateHelper
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from .errors import SettingsProblem
from .settings import KEYS


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
        return plain(self._load_proxy() or CommentedMap())

    def keep(self, mapping: Any) -> None:
        """Hold `mapping` as it is, so that a later `save` puts it back into the editor."""
        if isinstance(mapping, Mapping):
            self._data = CommentedMap(mapping)


def plain(value: Any) -> Any:
    """`value` with ruamel's containers replaced by plain ones, which know no comments and no anchors."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def yaml_problem(error: YAMLError) -> SettingsProblem:
    """Where the YAML is broken; of the text itself nothing is repeated."""
    mark = getattr(error, "problem_mark", None)
    what = str(getattr(error, "problem", None) or "it cannot be read").splitlines()[0]
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    return SettingsProblem(where, f"not valid YAML ({what}); check the indentation and quotes there")
