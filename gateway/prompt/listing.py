"""What can be chosen, as a page shows it."""

from typing import Any

from gateway.prompt.table import Category, Field, Label, categories


def options() -> dict[str, Any]:
    """`{categories: [{id, label, fields: [{id, label, kind, required, options}]}]}`, where a label
    is `{th, en}` and an option `{id, label}`."""
    return {"categories": [_category(category) for category in categories().values()]}


def _category(category: Category) -> dict[str, Any]:
    return {
        "id": category.id,
        "label": _label(category.label),
        "fields": [_field(field) for field in category.fields.values()],
    }


def _field(field: Field) -> dict[str, Any]:
    return {
        "id": field.id,
        "label": _label(field.label),
        "kind": field.kind,
        "required": field.required,
        "options": [
            {"id": option.id, "label": _label(option.label)} for option in field.options.values()
        ],
    }


def _label(label: Label) -> dict[str, str]:
    return {"th": label.th, "en": label.en}
