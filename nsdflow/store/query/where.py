"""Conditions written as text, such as ``"prf_eccentricity < 4.2 and ncsnr > 0.2 and rt < 1500"``.

The text is parsed into a syntax tree, and the few kinds of nodes that a condition needs are computed one by one on
arrays of coordinates. Nothing is ever compiled or evaluated as code: a call, an attribute or an unknown name is an
error.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nsdflow.errors import SelectionError
from nsdflow.names import ROI_GROUPS
from nsdflow.store.query.regions import no_such
from nsdflow.store.voxels import labels_of

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["select_where"]

#: A longer condition is refused before it is parsed.
CONDITION_CHARACTERS: Final = 2000

COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def select_where(table: xr.Dataset, condition: object) -> dict[str, NDArray[np.bool_]]:
    """Evaluate a condition along ``trial`` and along ``voxel``.

    Parameters
    ----------
    table : Dataset
        Coordinates on ``trial`` and ``voxel``.
    condition : str
        Comparisons of coordinates with numbers, texts (labels of an atlas) and each other, joined by ``and``, ``or``,
        ``not`` and parentheses. Each part between two ``and`` must be about trials or about voxels.

    Returns
    -------
    dict
        (trial,) bool and (voxel,) bool by dimension; a dimension that the condition does not mention is missing.

    Raises
    ------
    SelectionError
        Not such a condition; the message quotes the part that is not understood.
    """
    if not isinstance(condition, str):
        raise SelectionError(f'where={condition!r}: not a text; write for example where="ncsnr > 0.2"')
    reader = _Condition(table, condition)
    found: dict[str, NDArray[np.bool_]] = {}
    for part in _conjuncts(reader.tree):
        try:
            dim, values = reader.compute(part)
        except RecursionError:
            raise SelectionError(
                f"where: {condition[:40]!r}... is nested too deeply; join simple comparisons with and, or"
            ) from None
        if dim is None or values.dtype != bool:
            raise reader.error(part, "is not a comparison of a coordinate; write for example ncsnr > 0.2")
        found[dim] = found[dim] & values if dim in found else values
    return found


def _conjuncts(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return [part for value in node.values for part in _conjuncts(value)]
    return [node]


class _Condition:
    """One condition and the coordinates that its names mean."""

    def __init__(self, table: xr.Dataset, text: str) -> None:
        self.table, self.text = table, text
        if len(text) > CONDITION_CHARACTERS:
            raise SelectionError(f"where: {len(text)} characters; a condition has at most {CONDITION_CHARACTERS}")
        try:
            self.tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = getattr(error, "msg", None) or str(error)
            raise SelectionError(f"where={text!r}: {reason}; write for example ncsnr > 0.2 and session <= 10") from None
        self.names = {
            str(name): variable
            for name, variable in table.variables.items()
            if variable.dims in (("trial",), ("voxel",))
        }

    def error(self, node: ast.AST, problem: str) -> SelectionError:
        part = ast.get_source_segment(self.text.strip(), node) or self.text
        return SelectionError(f"where: {part!r} {problem}")

    def compute(self, node: ast.expr) -> tuple[str | None, Any]:
        """Dimension and values of a part; no dimension for a constant."""
        match node:
            case ast.Name():
                variable = self.names[self.name(node)]
                return str(variable.dims[0]), variable.values
            case ast.Constant(value=bool() | int() | float() | str()):
                return None, np.asarray(node.value)
            case ast.Tuple() | ast.List():
                return None, [self.constant(value) for value in node.elts]
            case ast.UnaryOp(op=ast.USub()):
                dim, values = self.number(node.operand)
                return dim, -values
            case ast.UnaryOp(op=ast.Not()):
                dim, values = self.truth(node.operand)
                return dim, ~values
            case ast.BinOp() if type(node.op) in ARITHMETIC:
                dim, (left, right) = self.together(node, self.number(node.left), self.number(node.right))
                with np.errstate(all="ignore"):
                    return dim, ARITHMETIC[type(node.op)](left, right)
            case ast.BoolOp():
                dim, parts = self.together(node, *(self.truth(value) for value in node.values))
                return dim, (np.logical_and if isinstance(node.op, ast.And) else np.logical_or).reduce(parts)
            case ast.Compare():
                return self.comparison(node)
        raise self.error(node, "is not allowed; use names of coordinates, numbers, comparisons, and, or, not")

    def name(self, node: ast.Name) -> str:
        """The coordinate that a name means; case counts only where two names differ in nothing else."""
        if node.id in self.names:
            return node.id
        alike = [name for name in self.names if name.casefold() == node.id.casefold()]
        if len(alike) == 1:
            return alike[0]
        raise no_such(
            "coordinate in where:", node.id, self.names, "see store.voxels(subject) and store.trials(subject)"
        )

    def constant(self, node: ast.expr) -> Any:
        dim, value = self.compute(node)
        if dim is not None or isinstance(value, list):
            raise self.error(node, "is not a number or a text")
        return value.item()

    def number(self, node: ast.expr) -> tuple[str | None, Any]:
        dim, values = self.compute(node)
        if isinstance(values, list) or values.dtype.kind not in "iuf":
            raise self.error(node, "is not a number")
        return dim, values

    def truth(self, node: ast.expr) -> tuple[str | None, Any]:
        dim, values = self.compute(node)
        if isinstance(values, list) or values.dtype != bool:
            raise self.error(node, "is not true or false; compare it with something")
        return dim, values

    def together(self, node: ast.expr, *parts: tuple[str | None, Any]) -> tuple[str | None, list[Any]]:
        """Parts of the same dimension."""
        dims = {dim for dim, _ in parts if dim is not None}
        if len(dims) > 1:
            raise self.error(node, "is about trials and about voxels; join conditions on both with and")
        return next(iter(dims), None), [values for _, values in parts]

    def comparison(self, node: ast.Compare) -> tuple[str | None, Any]:
        operands = [node.left, *node.comparators]
        results = [
            self.compare(node, left, kind, right)
            for left, kind, right in zip(operands[:-1], node.ops, operands[1:], strict=True)
        ]
        dim, parts = self.together(node, *results)
        return dim, np.logical_and.reduce(parts)

    def compare(self, node: ast.Compare, left: ast.expr, kind: ast.cmpop, right: ast.expr) -> tuple[str | None, Any]:
        """One comparison; texts are names of labels."""
        first, second = self.compute(left), self.compute(right)
        if isinstance(kind, ast.In | ast.NotIn):
            if not isinstance(second[1], list):
                raise self.error(right, "is not a list; write for example session in (1, 2)")
            wanted = [value for item in second[1] for value in self.meant(left, item)]
            inside = np.isin(first[1], wanted)
            return first[0], inside if isinstance(kind, ast.In) else ~inside
        if isinstance(kind, ast.Eq | ast.NotEq):
            for side, other, text in ((left, first, second[1]), (right, second, first[1])):
                if not isinstance(text, list) and text.dtype.kind == "U":
                    inside = np.isin(other[1], self.meant(side, text.item()))
                    return other[0], inside if isinstance(kind, ast.Eq) else ~inside
        if type(kind) not in COMPARISONS:
            raise self.error(node, "is not a comparison of numbers")
        for side, (_, values) in ((left, first), (right, second)):
            if isinstance(values, list) or values.dtype.kind == "U":
                raise self.error(side, "cannot be compared so; labels are compared with == or in")
        dim, (one, two) = self.together(node, first, second)
        return dim, np.asarray(COMPARISONS[type(kind)](one, two))

    def meant(self, side: ast.expr, constant: Any) -> tuple[Any, ...]:
        """The values of a constant that is compared with a coordinate; a text means the label of this name."""
        if not isinstance(constant, str):
            return (constant,)
        name = self.name(side) if isinstance(side, ast.Name) else None
        labels = labels_of(self.names[name].attrs) if name else {}
        if not labels:
            raise self.error(side, f"has no labels, so it cannot be {constant!r}")
        if name == "roi" and constant in ROI_GROUPS:
            return ROI_GROUPS[constant]
        if constant not in labels:
            raise no_such(f"label of {name}", constant, labels, "store.rois(subject) lists them")
        return labels[constant]
