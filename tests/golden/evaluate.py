"""What transformers computes with the golden checkpoints: the arrays of golden.npz, and how close its choices are."""

import torch

GRADIENT_STRIDE = 3  # of each gradient every so many rows are kept
BATCH, LENGTH = 2, 17
PREFIX_LENGTH = 7  # below the original_max_position_embeddings of longrope
LABEL_LENGTH = 9  # of T5's decoder
NEW_TOKENS = 12
MASK_TOKEN, FIRST_TOKEN = 3, 4  # the tokens below are special; inputs have none of them
DIFFERENT_TOKENS = 2  # at least so many in every continuation
SMALLEST_GAPS = {"greedy": 5e-3, "router": 1e-3}


def kept_part(name, array):
    """The part of an array that is kept: of the large ones not all, to make the files small."""
    if "hidden_states." in name or "attentions." in name:
        return array[:1]
    return array[::GRADIENT_STRIDE] if name.startswith("grad.") else array


def evaluate_decoder(model, generator):
    """What a decoder computes, and its smallest gaps."""
    input_ids = random_tokens(model, generator, LENGTH)
    config = model.config.get_text_config()
    experts = {"output_router_logits": True} if hasattr(config, "num_local_experts") else {}
    output = model(input_ids, output_hidden_states=True, output_attentions=True, **experts)
    arrays = {"input_ids": input_ids, "logits": output.logits, "loss": model(input_ids, labels=input_ids).loss}
    arrays |= numbered("hidden_states", output.hidden_states) | numbered("attentions", output.attentions)
    arrays["generated"], gap = greedy(model, input_ids)
    gaps = {"greedy": gap}

    mask = torch.ones_like(input_ids)
    mask[1, :5] = 0
    padded = {
        "input_ids": random_tokens(model, generator, LENGTH) * mask,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clip(min=0),
    }
    model(input_ids[:, :1])  # forgets the length of the continuation, which dynamic rope keeps until a short sequence
    logits = model(**padded).logits
    generated, gap = greedy(model, padded["input_ids"], mask)
    gaps["greedy"] = min(gaps["greedy"], gap)
    arrays |= prefixed("leftpad", {**padded, "logits": logits, "generated": generated})

    if getattr(config, "rope_parameters", {}).get("rope_type") in ("longrope", "dynamic"):
        input_ids = random_tokens(model, generator, PREFIX_LENGTH)
        logits = model(input_ids).logits
        generated, gap = greedy(model, input_ids)
        gaps["greedy"] = min(gaps["greedy"], gap)
        arrays |= prefixed("prefix", {"input_ids": input_ids, "logits": logits, "generated": generated})
    if experts:
        arrays |= numbered("router_logits", output.router_logits) | {"aux_loss": output.aux_loss}
        best = torch.stack(output.router_logits).topk(config.num_experts_per_tok + 1).values
        gaps["router"] = (best[..., -2] - best[..., -1]).min().item()
    return arrays, gaps


def evaluate_masked(model, generator):
    """What a masked language model computes."""
    token_ids = random_tokens(model, generator, LENGTH)
    masked = torch.zeros(BATCH, LENGTH, dtype=bool)
    masked[0, [2, 3, 9]] = masked[1, [1, 8, 12]] = True
    types = token_types(model)
    inputs = {"input_ids": token_ids.masked_fill(masked, MASK_TOKEN), **types}
    labels = token_ids.masked_fill(~masked, -100)
    output = model(**inputs, labels=labels, output_hidden_states=True, output_attentions=True)
    arrays = {**inputs, "labels": labels, "logits": output.logits, "loss": output.loss}
    arrays |= numbered("hidden_states", output.hidden_states) | numbered("attentions", output.attentions)
    padded = padded_on_both_sides(model, token_ids) | types
    return arrays | prefixed("padded", {**padded, "logits": model(**padded).logits}), {}


def evaluate_encoder(model, generator):
    """What an encoder without a head computes."""
    inputs = {"input_ids": random_tokens(model, generator, LENGTH), **token_types(model)}
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    arrays = inputs | embeddings(output, torch.ones(BATCH, LENGTH))
    arrays |= numbered("hidden_states", output.hidden_states) | numbered("attentions", output.attentions)
    padded = inputs | padded_on_both_sides(model, inputs["input_ids"])
    return arrays | prefixed("padded", padded | embeddings(model(**padded), padded["attention_mask"])), {}


def embeddings(output, mask):
    """The last states, what a pooler makes of the first, and the mean of those not masked, of length 1."""
    states = output.last_hidden_state
    means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    sentence = means / means.norm(dim=1, keepdim=True)
    pooled = {"pooler_output": output.pooler_output} if "pooler_output" in output else {}
    return {"last_hidden_state": states, "sentence_embedding": sentence} | pooled


def evaluate_encoder_decoder(model, generator):
    """What an encoder with a decoder computes, and its smallest gap."""
    mask = torch.ones(BATCH, LENGTH, dtype=int)
    mask[1, -4:] = 0
    inputs = {"input_ids": random_tokens(model, generator, LENGTH) * mask, "attention_mask": mask}
    labels = random_tokens(model, generator, LABEL_LENGTH)
    labels[1, -2:] = -100
    output = model(**inputs, labels=labels, output_hidden_states=True, output_attentions=True)
    arrays = {**inputs, "labels": labels, "decoder_input_ids": model.prepare_decoder_input_ids_from_labels(labels)}
    arrays |= {"logits": output.logits, "loss": output.loss}
    for kind in ("encoder_hidden_states", "decoder_hidden_states"):
        arrays |= numbered(kind, output[kind])
    for kind in ("encoder_attentions", "decoder_attentions", "cross_attentions"):
        arrays |= numbered(kind, output[kind])
    arrays["generated"], gap = greedy(model, **inputs)
    return arrays, {"greedy": gap}


EVALUATIONS = {
    "causal_lm": evaluate_decoder,
    "masked_lm": evaluate_masked,
    "encoder": evaluate_encoder,
    "seq2seq_lm": evaluate_encoder_decoder,
}


def random_tokens(model, generator, length):
    """(BATCH, length) random tokens, none of them special."""
    return torch.randint(FIRST_TOKEN, model.config.get_text_config().vocab_size, (BATCH, length), generator=generator)


def token_types(model):
    """The token types where the model has several: two segments, parted at another place in each sequence."""
    if getattr(model.config, "type_vocab_size", 1) == 1:
        return {}
    return {"token_type_ids": (torch.arange(LENGTH) >= torch.tensor([[10], [6]])).long()}


def padded_on_both_sides(model, token_ids):
    """The first sequence padded on the right, the second on the left."""
    mask = torch.ones_like(token_ids)
    mask[0, -4:] = mask[1, :3] = 0
    return {"input_ids": token_ids.where(mask != 0, model.config.pad_token_id), "attention_mask": mask}


def greedy(model, input_ids, attention_mask=None):
    """(The greedy continuation, the smallest gap between its logits and the next best ones)."""
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    output = model.generate(
        input_ids,
        attention_mask=mask,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        use_cache=True,
        output_logits=True,
        return_dict_in_generate=True,
    )
    generated = output.sequences[:, -NEW_TOKENS:]
    best = torch.stack(output.logits).topk(2).values
    assert len(best) == NEW_TOKENS
    if min(len(row.unique()) for row in generated) < DIFFERENT_TOKENS:
        return generated, 0.0  # a token that repeats itself shows little
    return generated, (best[..., 0] - best[..., 1]).min().item()


def numbered(name, values):
    """name.0, name.1, ..."""
    return {f"{name}.{i}": value for i, value in enumerate(values)}


def prefixed(name, arrays):
    """name.key of every key."""
    return {f"{name}.{key}": value for key, value in arrays.items()}
