"""A checkpoint in Hugging Face transformers: a peer for prompts and generation. Imports nothing of tinyslm."""

import importlib.util

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def model_from(directory, threads):
    """The checkpoint, in float32, with scaled-dot-product attention."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa")
    model.generation_config.eos_token_id = None  # as ours, it goes on to the last token that was asked for
    return model.eval()


def prompt(directory, threads, token_ids):
    """A function that reads a prompt, and returns the logits of the token that follows."""
    import torch

    model, token_ids = model_from(directory, threads), torch.from_numpy(token_ids)

    def read():
        with torch.inference_mode():
            return model(token_ids, use_cache=True, logits_to_keep=1).logits[:, -1].numpy()

    return read


def generation(directory, threads, token_ids, new_tokens):
    """A function that continues a prompt greedily, and returns the new tokens."""
    import torch

    model, token_ids = model_from(directory, threads), torch.from_numpy(token_ids)
    settings = {"do_sample": False, "max_new_tokens": new_tokens, "use_cache": True, "pad_token_id": 0}

    def write():
        with torch.inference_mode():
            written = model.generate(token_ids, attention_mask=torch.ones_like(token_ids), **settings)
        return written[:, token_ids.shape[1] :].numpy()

    return write
