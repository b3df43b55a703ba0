"""The operator's configuration file: a flat YAML mapping of the options' keys, read with line numbers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from oarlock.errors import ConfigurationError
from oarlock.node.option import Option


def read(path: Path, options: Iterable[Option]) -> Mapping[str, Any]:
    """The values in the file, by option name; an empty file has none.

    Raises:
        ConfigurationError: as `config.yaml:3: stateDri: unknown; did you mean stateDir?`.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigurationError(f"configuration file {path}: {error.strerror}; name another with --config") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"configuration file {path} is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{path}:1: a mapping is expected, as `stateDir: /var/lib/oarlock`")
    table = {option.key: option for option in options}
    found: dict[str, Any] = {}
    for key, value in root.value:
        where = f"{path}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigurationError(f"{where}: a key must be text, as stateDir")
        option = table.get(key.value)
        if option is None:
            raise ConfigurationError(f"{where}: {key.value}: unknown; {_suggestion(str(key.value), table)}")
        if option.name in found:
            raise ConfigurationError(f"{where}: {key.value}: given twice")
        if value.tag != "tag:yaml.org,2002:null":
            found[option.name] = option.value(_given(value, option, where), f"{where}: {key.value}")
    return found


def _given(node: yaml.Node, option: Option, where: str) -> str | list[str]:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    if option.several and isinstance(node, yaml.SequenceNode):
        items = [each for each in node.value if isinstance(each, yaml.ScalarNode)]
        if len(items) == len(node.value):
            return [str(each.value) for each in items]
    expected = "a list of texts" if option.several else "one value"
    raise ConfigurationError(f"{where}: {option.key}: {expected} is expected here")


def _suggestion(key: str, table: Mapping[str, Option]) -> str:
    plain = {known.lower(): known for known in table}
    squeezed = key.lower().replace("-", "").replace("_", "")
    close = difflib.get_close_matches(squeezed, plain, n=1)
    return f"did you mean {plain[close[0]]}?" if close else f"known are {', '.join(sorted(table))}"
