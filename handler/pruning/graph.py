"""A workflow that rules rewire, and what they may know of it."""

import graphlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from handler.workflow import ModelNames, is_link, links, template_size

Node = dict[str, Any]
Link = list[Any]

# Of these it is known that they have no effect but their outputs, and do not change their inputs.
LOADERS = frozenset({"UNETLoader", "CLIPLoader", "VAELoader", "LoadImage"})
MODEL_STEPS = frozenset(
    {"LoraLoaderModelOnly", "ModelSamplingAuraFlow", "ModelSamplingSD3", "CFGNorm"}
)
TEXT_ENCODERS = frozenset(
    {"TextEncodeQwenImageEditPlus", "TextEncodeQwenImageEdit", "CLIPTextEncode"}
)
CONDITIONING_STEPS = frozenset(
    {"ConditioningZeroOut", "ReferenceLatent", "FluxKontextMultiReferenceLatentMethod"}
)
PICTURE_STEPS = frozenset({"FluxKontextImageScale", "ImageScale", "VAEEncode"})
BATCH_STEPS = frozenset({"RepeatImageBatch", "RepeatLatentBatch"})
PURE = LOADERS | MODEL_STEPS | TEXT_ENCODERS | CONDITIONING_STEPS | PICTURE_STEPS | BATCH_STEPS
# Beyond those of which all is known, users that do not change what they get.
KEEP_INPUTS = PURE | {"KSampler", "VAEDecode", "SaveImage", "PreviewImage", "SetLatentNoiseMask"}
# What comes out of them shares no memory with what went in.
_FRESH = TEXT_ENCODERS | BATCH_STEPS | {"VAEEncode", "VAEDecode"}
_PRIMITIVES = frozenset({"PrimitiveInt", "PrimitiveFloat"})
_KNOWN = KEEP_INPUTS | _PRIMITIVES | {
    "PrimitiveBoolean", "PrimitiveString", "PrimitiveStringMultiline", "EmptySD3LatentImage",
}  # fmt: skip


def copied(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Node]:
    """For rules to rewire: they replace an input's value, and never change one."""
    return {node_id: {**node, "inputs": dict(node["inputs"])} for node_id, node in nodes.items()}


class Graph:
    """`sizes` are (width, height) of the still pictures, by the nodes that load them; `models` the
    locked weights. Rules change `nodes`."""

    def __init__(
        self,
        nodes: Mapping[str, Mapping[str, Any]],
        sizes: Mapping[str, tuple[int, int]],
        models: ModelNames,
    ) -> None:
        self.nodes = copied(nodes)
        self.models = models
        self._sizes = sizes
        used = {link[0] for _, _, link in links(nodes)}
        self._loose = set(nodes) - used
        self._ends = [
            node_id for node_id in self._loose if nodes[node_id]["class_type"] not in PURE
        ]

    def of_class(self, *class_types: str) -> list[tuple[str, Node]]:
        return [
            (node_id, node)
            for node_id, node in self.nodes.items()
            if node["class_type"] in class_types
        ]

    def source(self, node: Node, name: str, class_types: Iterable[str]) -> tuple[str, Node] | None:
        """The node of one of these classes whose first output an input gets."""
        value = node["inputs"].get(name)
        if not is_link(value) or value[1] != 0:
            return None
        found = self.nodes[value[0]]
        return (value[0], found) if found["class_type"] in class_types else None

    def literal(self, node: Node, name: str) -> Any:
        """The value of an input, also one that a node holds for it; None when it is computed."""
        value = node["inputs"].get(name)
        if is_link(value):
            holder = self.source(node, name, _PRIMITIVES)
            value = holder[1]["inputs"].get("value") if holder else None
        return None if is_link(value) else value

    def users(self) -> dict[str, list[tuple[str, str]]]:
        """Of each node, as they are now: nodes and their inputs."""
        users: dict[str, list[tuple[str, str]]] = {node_id: [] for node_id in self.nodes}
        for user, name, link in links(self.nodes):
            users[link[0]].append((user, name))
        return users

    def in_order(self) -> list[str]:
        """Each after those that it needs."""
        sources: dict[str, set[str]] = {node_id: set() for node_id in self.nodes}
        for user, _, link in links(self.nodes):
            sources[user].add(link[0])
        return list(graphlib.TopologicalSorter(sources).static_order())

    def changeable(self) -> set[str]:
        """Nodes whose outputs an unknown node gets to see, be it within those of others, and so
        may change where they are: they are not to be shared."""
        users = self.users()
        found: set[str] = set()
        for node_id in reversed(self.in_order()):
            if any(self.may_change(user, name, found) for user, name in users[node_id]):
                found.add(node_id)
        return found

    def may_change(self, user: str, name: str, changeable: Collection[str]) -> bool:
        """Whether what this input gets may be changed by the node or by those after it."""
        class_type = self.nodes[user]["class_type"]
        if class_type not in KEEP_INPUTS:
            return True
        # Of what it gets a sampler passes on the latent's noise mask.
        ends_here = class_type in _FRESH or (class_type == "KSampler" and name != "latent_image")
        return not ends_here and user in changeable

    def unknown_that_run(self) -> set[str]:
        """Nodes of which nothing is known, and for which ComfyUI has a use: they may have an effect
        on others that no link shows."""
        run = self._needed_for(node_id for node_id in self._ends if node_id in self.nodes)
        return {node_id for node_id in run if self.nodes[node_id]["class_type"] not in _KNOWN}

    def model_steps(self, node: Node) -> list[Node] | None:
        """From the sampler up to its loader, that last; None when an unknown node is among them."""
        steps: list[Node] = []
        while not steps or steps[-1]["class_type"] != "UNETLoader":
            found = self.source(node, "model", MODEL_STEPS | {"UNETLoader"})
            if found is None:
                return None
            node = found[1]
            steps.append(node)
        return steps

    def plain_encoder(self, node: Node, name: str) -> Node | None:
        """Of a conditioning that is a text's encoding, with references at most: for the whole
        picture and all steps."""
        while True:
            found = self.source(node, name, TEXT_ENCODERS | CONDITIONING_STEPS)
            if found is None:
                return None
            node, name = found[1], "conditioning"
            if node["class_type"] in TEXT_ENCODERS:
                return node

    def size_of(self, node: Node, name: str) -> tuple[int, int] | None:
        """Of the one picture that an input gets, if that is known."""
        found = self.source(node, name, PICTURE_STEPS | {"LoadImage"})
        if found is None:
            return None
        node_id, source = found
        if source["class_type"] == "LoadImage":
            return self._sizes.get(node_id)
        before = self.size_of(source, "image")
        if before is None or source["class_type"] == "FluxKontextImageScale":
            return before and template_size(*before)
        width, height = self.literal(source, "width"), self.literal(source, "height")
        known = type(width) is type(height) is int and width > 0 and height > 0
        return (width, height) if known else None

    def add(self, like: str, class_type: str, **inputs: Any) -> Link:
        """A new node; its id tells from whose."""
        node_id = next(
            name for n in range(len(self.nodes) + 1) if (name := f"{like}:{n}") not in self.nodes
        )
        self.nodes[node_id] = {"class_type": class_type, "inputs": inputs}
        return [node_id, 0]

    def cut_loose_ends(self) -> None:
        """What nobody used from the start need not be kept, either."""
        self._loose.clear()

    def drop_unused(self) -> list[str]:
        """Remove what no other node needs, of the classes that have no other effect."""
        kept = [
            node_id
            for node_id, node in self.nodes.items()
            if node_id in self._loose or node["class_type"] not in PURE
        ]
        if not kept:
            return []  # ComfyUI has words for it
        needed = self._needed_for(kept)
        unused = [node_id for node_id in self.nodes if node_id not in needed]
        for node_id in unused:
            del self.nodes[node_id]
        return unused

    def _needed_for(self, nodes: Iterable[str]) -> set[str]:
        """These and all before them."""
        needed: set[str] = set()
        waiting = list(nodes)
        while waiting:
            node_id = waiting.pop()
            if node_id not in needed:
                needed.add(node_id)
                values = self.nodes[node_id]["inputs"].values()
                waiting += [value[0] for value in values if is_link(value)]
        return needed
