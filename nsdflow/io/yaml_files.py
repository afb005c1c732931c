"""Reading YAML whose size is bounded after its aliases are expanded."""

from __future__ import annotations

from typing import Any, Final

import yaml

from nsdflow.errors import StoreError
from nsdflow.io.read import read_bytes

__all__ = ["BoundedLoader", "read_yaml"]

#: Largest YAML file that is read.
YAML_BYTES: Final = 4 << 20
#: Largest number of values in a document with its aliases expanded.
YAML_VALUES: Final = 200_000


class BoundedLoader(yaml.SafeLoader):
    """Loads plain values only, and refuses documents that grow beyond :data:`YAML_VALUES` by aliases."""

    def get_single_node(self) -> yaml.Node | None:
        """Compose the document and count what its aliases expand to."""
        node: yaml.Node | None = super().get_single_node()
        try:
            size = 0 if node is None else _expanded(node, {})
        except RecursionError:
            size = YAML_VALUES + 1
        if node is not None and size > YAML_VALUES:
            raise yaml.constructor.ConstructorError(
                None, None, f"more than {YAML_VALUES} values, aliases expanded", node.start_mark
            )
        return node


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values of a node; an alias within itself has no end."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = YAML_VALUES + 1  # what an alias of itself finds
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        else:
            inner = node.value
        known[id(node)] = 1 + sum(_expanded(part, known) for part in inner)
    return known[id(node)]


def read_yaml(url: str, advice: str) -> dict[str, Any]:
    """Read a mapping from a YAML file of bounded size.

    Parameters
    ----------
    advice : str
        What to do about a damaged file; ends the message.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    StoreError
        The file is damaged.
    """
    try:
        value = yaml.load(read_bytes(url, limit_bytes=YAML_BYTES), Loader=BoundedLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"{url} is not YAML ({' '.join(str(error).split())}); {advice}") from None
    if not isinstance(value, dict):
        raise StoreError(f"{url}: damaged, no settings in it; {advice}")
    return value
