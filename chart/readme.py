"""Writes README.md of the chart from Chart.yaml and the comments in values.yaml; with --check it only compares.

A value is described by the comment right above it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent
README = CHART / "README.md"
LONGEST_DEFAULT = 60

TEXT = """\
# {name}

<!-- Written by ./build.sh chart from Chart.yaml and values.yaml: change those. -->

{description}

Kubernetes {kubernetes}, Helm 3 or 4. A values file:

```yaml
{example}```

```bash
helm install bot {name}-{version}.tgz --namespace bots --create-namespace --values values.yaml
helm test bot --namespace bots --logs
```

What it makes:

- a StatefulSet with maubot, always of one pod, whose claim holds the bot's keys; the claim stays when the release is
  uninstalled;
- a Deployment with the provisioner, a small program that logs the bot in, cross-signs it, brings the plugin and makes
  its instance, and then looks every minute whether everything is still in place;
- one Secret that is shipped empty, filled in by the provisioner (the password of the web UI, the bot's device, token
  and recovery key), and kept;
- in each namespace that has targets a Role for these targets only, from the same list that the plugin gets;
- a NetworkPolicy for each kind of pod. All pods pass the Pod Security Standard "restricted".

With `maubot.enabled: false` it makes the Roles for the service account of a maubot that is there already and, with
`upload.enabled`, a Job that brings the plugin to it.

Nothing is generated while rendering, and the cluster is not asked: `helm template … | kubectl apply --filename -` and
GitOps get the same objects each time. For them leave the test out (`helm template --skip-tests`).

## Values

A mistake is refused with its path, all of them at once.

| Value | Default | What it is |
|---|---|---|
{rows}
"""


@dataclass(frozen=True)
class Value:
    """One row: a path in values.yaml, its default, its comment."""

    path: str
    default: Any
    comment: str

    def __str__(self) -> str:
        text = self.comment.replace("|", "\\|")
        return f"| `{self.path}` | {shown(self.default)} | {text} |"


def shown(default: Any) -> str:
    text = json.dumps(default, ensure_ascii=False)
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else "see values.yaml"


def described(text: str) -> Iterator[Value]:
    """The values that a comment stands above, in order."""
    defaults = yaml.safe_load(text)
    comment: list[str] = []
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        key = re.match(r"( *)([A-Za-z]+):", line)
        if key:
            indent = len(key[1])
            above = [*(entry for entry in above if entry[0] < indent), (indent, key[2])]
            if comment:
                path = [name for _, name in above]
                yield Value(".".join(path), at(defaults, path), " ".join(comment))
        comment = [*comment, line.strip().removeprefix("#").strip()] if line.strip().startswith("#") else []


def at(values: Any, path: list[str]) -> Any:
    for name in path:
        values = values[name]
    return values


def example() -> str:
    lines = (CHART / "ci/minimal-values.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


def rendered() -> str:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    rows = "\n".join(map(str, described((CHART / "values.yaml").read_text(encoding="utf-8"))))
    return TEXT.format(
        name=about["name"],
        version=about["version"],
        description=about["description"].strip(),
        kubernetes=about["kubeVersion"].removeprefix(">=").removesuffix(".0-0") + " or newer",
        example=example(),
        rows=rows,
    )


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        return 0 if README.is_file() and README.read_text(encoding="utf-8") == rendered() else 1
    README.write_text(rendered(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
