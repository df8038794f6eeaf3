"""The same model in Hugging Face transformers, with our weights: a peer for prompts and generation."""

import importlib.util

import numpy as np

from tinyslm.checkpoints import checkpoint_tensors
from tinyslm.checkpoints.families import find_family
from tinyslm.parallel import default_threads

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def transformers_model(model):
    """A LlamaForCausalLM that shares our arrays, so that a large model is in memory once."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    torch.set_num_threads(default_threads())
    family = find_family(model.config.family, "a model").for_config(model.config)
    config = LlamaConfig(**family.write_config(model.config), attn_implementation="sdpa")
    with torch.device("meta"):
        other = LlamaForCausalLM(config)
    tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in checkpoint_tensors(model).items()}
    other.load_state_dict(tensors, strict=False, assign=True)
    other.tie_weights()
    other.model.rotary_emb = LlamaRotaryEmbedding(config)  # not among the weights
    other.generation_config.eos_token_id = None  # as ours, it goes on to the last token that was asked for
    return other.eval()


def prompt(other, token_ids):
    """A function that reads a prompt, and returns the logits of the token that follows."""
    import torch

    token_ids = torch.from_numpy(token_ids)

    def read():
        with torch.inference_mode():
            return other(token_ids, use_cache=True, logits_to_keep=1).logits[:, -1].numpy()

    return read


def generation(other, token_ids, new_tokens):
    """A function that continues a prompt greedily, and returns the new tokens."""
    import torch

    token_ids = torch.from_numpy(token_ids)
    settings = {"do_sample": False, "max_new_tokens": new_tokens, "use_cache": True, "pad_token_id": 0}

    def write():
        with torch.inference_mode():
            written = other.generate(token_ids, attention_mask=torch.ones_like(token_ids), **settings)
        return written[:, token_ids.shape[1] :].numpy()

    return write
