"""llama.cpp through its Python binding xllamacpp. Imports nothing of tinyslm.

Its servers are not stopped: a process that has one ends with `os._exit`, because it could wait for their threads for
ever.
"""

LETTER = 50  # a letter in byte-level vocabularies; xllamacpp shows no probabilities beside half a character


def start_server(path, context, threads, exact=False):
    """A server for one sequence on the CPU.

    By default keys and values are stored in 16 bits, as in llama.cpp; exact: in float32, without flash attention.
    """
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_parallel, settings.port = str(path), 1, 0
    settings.n_ctx = settings.n_batch = settings.n_ubatch = context
    settings.n_gpu_layers, settings.verbosity, settings.warmup = 0, 0, False
    settings.cache_ram_mib = 0  # keep no earlier prompts
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    if exact:
        settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    return xllamacpp.Server(settings)


def complete(server, tokens, count, **options):
    """The answer to a request for `count` greedy tokens after a text. All tokens of the text are read again."""
    request = {"prompt": tokens, "n_predict": count, "temperature": 0, "cache_prompt": False}
    return server.handle_completions(request | options)


def next_token(server, tokens, chosen, most, **options):
    """Log-probabilities after a text: of the token `chosen`, and of the most probable tokens ("top_logprobs")."""
    answer = complete(server, tokens, 1, logit_bias=[[chosen, 1e4]], n_probs=most, **options)
    return answer["choices"][0]["logprobs"]["content"][0]
