"""The graph that ComfyUI's editor saves, converted to the API format that it would export."""

from handler.editor.graph import convert_editor_graph

__all__ = ["convert_editor_graph"]
