"""What a sampler does not look at."""

from handler.pruning.graph import Graph

# Samplers that look at nothing but what the model makes of x, and nowhere ask for the negative's
# prediction at cfg 1, as those with cfg_pp do (comfy/k_diffusion/sampling.py).
_SAMPLERS = frozenset({"euler", "res_multistep", "dpmpp_2m"})
_SAMPLINGS = frozenset({"ModelSamplingAuraFlow", "ModelSamplingSD3"})
# The VAE's pixels a latent, and EmptySD3LatentImage's bounds.
_LATENT = 8
_LEAST_SIDE, _MOST_SIDE = 16, 16384


def negative_at_cfg_1(graph: Graph) -> None:
    """The positive takes the negative's place."""
    for _, node in graph.of_class("KSampler"):
        positive = graph.plain_encoder(node, "positive")
        negative = graph.plain_encoder(node, "negative")
        if (
            positive
            and negative
            and graph.literal(node, "cfg") == 1
            and graph.literal(node, "sampler_name") in _SAMPLERS
            and graph.model_steps(node)
            # An unknown node may hang hooks on a clip, which change the model for both.
            and (
                graph.source(negative, "clip", {"CLIPLoader"})
                or negative["inputs"].get("clip") == positive["inputs"].get("clip")
            )
        ):
            node["inputs"]["negative"] = node["inputs"]["positive"]


def latent_of_which_only_the_shape_counts(graph: Graph) -> None:
    """An empty latent of that shape takes the encoded picture's place, where nobody else needs
    it."""
    users = graph.users()
    for _, node in graph.of_class("KSampler"):
        found = graph.source(node, "latent_image", {"VAEEncode"})
        if found is None or not _draws_all_anew(graph, node):
            continue
        encoder_id, encoder = found
        vae = graph.source(encoder, "vae", {"VAELoader"})
        size = graph.size_of(encoder, "pixels")
        if (
            vae
            and graph.literal(vae[1], "vae_name") == graph.models.vae
            and size
            and all(_LEAST_SIDE <= side <= _MOST_SIDE for side in size)
            and len(users[encoder_id]) == 1
        ):
            width, height = (side // _LATENT * _LATENT for side in size)
            node["inputs"]["latent_image"] = graph.add(
                encoder_id, "EmptySD3LatentImage", width=width, height=height, batch_size=1
            )


def _draws_all_anew(graph: Graph, node: dict[str, object]) -> bool:
    """Whether the first sigma is exactly 1, so that the latent is multiplied by exactly 0: so it is
    at a shift in whole numbers, n / (1 + (n - 1))."""
    steps = graph.model_steps(node)
    if not steps or graph.literal(steps[-1], "unet_name") != graph.models.unet:
        return False
    sampling = next((step for step in steps if step["class_type"] in _SAMPLINGS), None)
    shift = graph.literal(sampling, "shift") if sampling else None
    return (
        isinstance(shift, int | float)
        and shift >= 1
        and float(shift).is_integer()
        and graph.literal(node, "denoise") == 1
        and graph.literal(node, "scheduler") == "simple"
        and graph.literal(node, "sampler_name") in _SAMPLERS
    )
