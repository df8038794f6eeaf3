"""A checkpoint in Hugging Face transformers, as a peer for prompts and generation. Imports nothing of tinyslm."""

PACKAGES = ("torch", "transformers")


def model_from(directory, threads):
    """The checkpoint, in float32, with scaled-dot-product attention."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa")
    model.generation_config.eos_token_id = None  # generate all tokens
    return model.eval()


def prompt(directory, threads, token_ids):
    """A function that reads a prompt, and returns the logits of the next token."""
    import torch

    model, token_ids = model_from(directory, threads), torch.from_numpy(token_ids)

    def read():
        with torch.inference_mode():
            return model(token_ids, use_cache=True, logits_to_keep=1).logits[:, -1].numpy()

    return read


def generation(directory, threads, token_ids, new_tokens):
    """A function that continues a prompt greedily with `generate`, and returns the new tokens."""
    import torch

    model, token_ids = model_from(directory, threads), torch.from_numpy(token_ids)
    settings = {"do_sample": False, "max_new_tokens": new_tokens, "use_cache": True, "pad_token_id": 0}

    def write():
        with torch.inference_mode():
            written = model.generate(token_ids, attention_mask=torch.ones_like(token_ids), **settings)
        return written[:, token_ids.shape[1] :].numpy()

    return write


def compiled_generation(directory, threads, token_ids, new_tokens):
    """The same for a prompt of one token, with a compiled step on a static cache. Compiles it before it returns."""
    import torch
    from transformers import StaticCache

    model, token_ids = model_from(directory, threads), torch.from_numpy(token_ids)
    config = model.config
    cache = StaticCache(config=config, max_cache_len=new_tokens)
    heads = config.num_key_value_heads, config.head_dim
    cache.early_initialization(1, *heads, dtype=torch.float32, device=torch.device("cpu"))  # compiles once, not twice

    @torch.compile(fullgraph=True)
    def step(token):
        return model(token, past_key_values=cache).logits[:, -1].argmax(-1, keepdim=True)

    def write():
        with torch.inference_mode():
            cache.reset()
            tokens = [token_ids.clone()]  # made in this mode, as all later ones: other tensors are compiled once more
            for _ in range(new_tokens):
                tokens.append(step(tokens[-1]))
            return torch.cat(tokens[1:], dim=1).numpy()

    write()
    return write
