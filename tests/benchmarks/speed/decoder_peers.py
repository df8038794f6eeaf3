"""transformers and llama.cpp with a model of ours, in processes of their own."""

import tempfile
from pathlib import Path

import tinyslm
from tests.benchmarks.speed import llama_cpp_decoder, transformers_decoder
from tests.benchmarks.speed.case import Absent, Noted
from tests.benchmarks.speed.peer import missing, start_peer
from tinyslm.checkpoints.gguf.writing import save_gguf
from tinyslm.runtime import default_threads
from tinyslm.text.gguf_vocabulary import vocabulary_metadata


def decoder_peers(model, work, *arguments, compiled=None):
    """{name: a peer with the weights of the model, Absent, or Noted}.

    work, compiled: the functions for transformers, eager and compiled; llama.cpp has a function named `work` too.
    arguments: of these functions, after the file and the number of threads.
    """
    with tempfile.TemporaryDirectory() as directory:
        checkpoint, make = Path(directory) / "checkpoint", f"{transformers_decoder.__name__}:"
        tinyslm.save(checkpoint, model)
        arguments = (default_threads(), *arguments)
        found = {"transformers": start_peer(transformers_decoder.PACKAGES, make + work, checkpoint, *arguments)}
        if compiled:
            found["torch.compile"] = start_peer(transformers_decoder.PACKAGES, make + compiled, checkpoint, *arguments)
        return found | llama_cpp(model, work, Path(directory) / "model.gguf", *arguments)


def llama_cpp(model, work, path, threads, *arguments):
    """The peer with one thread or with all of them, whichever is faster, and the number of its threads."""
    if absent := missing(llama_cpp_decoder.PACKAGES):
        return {"llama.cpp": absent}
    _, tokenizer = tinyslm.load("teacher")  # the server needs any vocabulary of the size of the model's
    save_gguf(path, model, "F32", vocabulary_metadata(tokenizer, model.config.vocab_size)[0])
    make, candidates = f"{llama_cpp_decoder.__name__}:{work}", []
    for count in sorted({1, threads}):
        peer = start_peer(llama_cpp_decoder.PACKAGES, make, path, count, *arguments)
        if isinstance(peer, Absent):
            return {"llama.cpp": peer}
        peer()  # the first request allocates memory
        candidates.append((peer.runner()(), count, peer))
    _, count, peer = min(candidates, key=lambda entry: entry[0])
    return {"llama.cpp": peer, "llama.cpp threads": Noted(count)}
