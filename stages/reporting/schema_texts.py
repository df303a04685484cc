"""The texts on a schema's fields: from its docstring, and from comments."""

import inspect
import re
from typing import Any

from pydantic import BaseModel

FIELD = re.compile(r"    (?P<key>\w+): (?:.*?  # (?P<comment>.*))?")


def comments_of(schema: type[BaseModel]) -> dict[str, str]:
    """Collect a schema's texts on its fields, from its docstring or from comments: field -> text."""
    comments = {name: text for name, text in schema_fields(schema).items() if text}
    for part in reversed(schema.__mro__):
        if part.__module__.split(".")[0] in ("pydantic", "builtins", "abc", "typing"):
            continue
        above = list[str]()
        for line in inspect.getsource(part).splitlines():
            if line.lstrip().startswith("#"):
                above.append(line.lstrip("# "))
                continue
            match = FIELD.match(line)
            if match and (comment := " ".join(filter(None, [*above, match["comment"]]))):
                comments[match["key"]] = comment
            above.clear()
    return comments


def schema_fields(schema: type[Any]) -> dict[str, str]:
    """Return the fields of a model or a typed dictionary: each with its text under "Attributes".

    Args:
        schema: the model, with the fields that it inherits.

    Returns:
        field -> text, empty if the docstrings have none.
    """
    fields = dict[str, str]()
    for part in reversed(schema.__mro__):
        doc = inspect.cleandoc(part.__doc__ or "").partition("Attributes:\n")[2]
        for names, text in re.findall(r"^    ([\w, ]+): ((?:.*\n?)(?:^ {8}.*\n?)*)", doc, re.MULTILINE):
            sentence = " ".join(text.split()).rstrip(".").replace("None", "null")
            fields |= dict.fromkeys(names.split(", "), sentence)
    names = schema.model_fields if issubclass(schema, BaseModel) else schema.__annotations__
    return {name: fields.get(name, "") for name in names}
