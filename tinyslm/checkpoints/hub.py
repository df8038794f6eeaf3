"""Models of the Hugging Face hub by their id: found in the local cache, or downloaded into it.

An id is ORGANIZATION/NAME, or NAME alone for some old models. @REVISION after it is a branch, a tag or a commit; the
default is main. ORGANIZATION/NAME/FILE.gguf is one GGUF file of a model.

The package huggingface_hub finds and fills the cache, so its environment variables count (HF_HOME, HF_HUB_CACHE,
HF_HUB_OFFLINE). It is an extra: pip install "tinyslm[hub]".
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tinyslm.checkpoints.carried_files import CARRIED
from tinyslm.checkpoints.directory_contents import file_names, instead_of_model
from tinyslm.checkpoints.gguf.finding import find_gguf
from tinyslm.checkpoints.json_files import read_json, shown
from tinyslm.errors import CheckpointError, ConfigError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
NEEDED = (CONFIG, "tokenizer.json", WEIGHTS, INDEX, "model-*.safetensors", *CARRIED)  # patterns of the files of a model
PART = "[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
ID = re.compile(rf"({PART}(?:/{PART})?)(?:/([^@]+\.gguf))?(?:@([A-Za-z0-9_./-]+))?")
SECONDS = 10  # to wait for an answer of the hub
MOST_LISTED = 3
GET = "--download (in Python, download=True)"


@dataclass(frozen=True)
class HubModel:
    """The parts of a name: id, GGUF file or None, revision or None."""

    name: str
    id: str
    file: str | None
    revision: str | None

    @property
    def has_organization(self) -> bool:
        """Whether the id is ORGANIZATION/NAME."""
        return "/" in self.id


def parse_name(name: str) -> HubModel | None:
    """The parts of the name of a model of the hub; None if it is not such a name."""
    found = ID.fullmatch(name)
    if found is None or ".." in name or "--" in found[1] or found[1].endswith((".git", ".gguf")):
        return None
    return HubModel(name, *found.groups())


def find_model(name: str, download: bool = False) -> Path | None:
    """The directory of a model in the cache of the hub, or its GGUF file. None if there is no model of this name.

    download: get first what the cache does not have.
    Raises CheckpointError if an ORGANIZATION/NAME is not in the cache, if files of a model are missing there, or if the
    download fails; ConfigError without huggingface_hub.
    """
    model = parse_name(name)
    if model is None:
        return None
    try:
        import huggingface_hub as hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError:
        if not model.has_organization and not download:
            return None
        advice = 'for a model of the Hugging Face hub, pip install "tinyslm[hub]"'
        raise ConfigError(f"{name}: no such directory; {advice}") from None
    if download:
        _download(hub, model)
    snapshot = _cached_snapshot(hub, model)
    if snapshot is None:
        if not model.has_organization:
            return None
        raise CheckpointError(f"{name}: no such directory, and {_instead(hub, model)}")
    _check_complete(snapshot, model)
    return snapshot if model.file is None else snapshot / model.file


def _cached_snapshot(hub, model):
    """The directory of the revision in the cache, or None."""
    try:
        return Path(hub.snapshot_download(model.id, revision=model.revision, local_files_only=True))
    except hub.errors.LocalEntryNotFoundError as problem:
        incomplete = getattr(problem, "snapshot_path", None)  # files are missing, perhaps none that are needed
        return None if incomplete is None else Path(incomplete)
    except (OSError, ValueError) as problem:  # a directory in place of a file, or bytes that are no text
        raise CheckpointError(f"{model.name}: its entry in the cache of the hub is damaged ({problem})") from None


def _instead(hub, model):
    """Message for a model that is not in the cache: its contents, and what to do."""
    cache = Path(hub.constants.HF_HUB_CACHE)
    revisions = file_names(cache / _entry(model.id) / "snapshots")
    if revisions:
        wanted = shown(model.revision or "main")
        return f"the cache of the hub does not have its revision {wanted}, only {_listed(revisions)}; get it with {GET}"
    if (cache / _entry(model.id)).is_dir():
        return f"the cache of the hub has only the beginning of a download of it; complete it with {GET}"
    ids = [entry[8:].replace("--", "/") for entry in file_names(cache) if entry.startswith("models--")]
    found = f"has {_listed(ids)}" if ids else "has no model"
    return f"no such model in the cache of the hub ({cache} {found}); get it with {GET}"


def _entry(model_id):
    """The name of the directory of a model in the cache."""
    return f"models--{model_id.replace('/', '--')}"


def _listed(names):
    """The first names, and the number of the others."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def _check_complete(snapshot, model):
    """Raise CheckpointError if a file of a model is not in its snapshot."""
    missing = _missing_files(snapshot, model)
    if missing:
        unfinished = any(name.endswith(".incomplete") for name in file_names(snapshot.parents[1] / "blobs"))
        state = "is an unfinished download without" if unfinished else "lacks"
        raise CheckpointError(
            f"{model.name}: its entry in the cache {state} {_listed(missing)}; complete it with {GET}"
        )


def _missing_files(snapshot, model):
    """Names of the needed files that are not there, or are links to files that are not there."""
    if model.file is not None:
        return [] if (snapshot / model.file).is_file() else [model.file]
    names = file_names(snapshot)
    missing = [name for name in names if _is_needed(name) and not (snapshot / name).exists()]
    if not missing and find_gguf(snapshot):
        return []
    has_index = INDEX in names and WEIGHTS not in names
    if missing or (not has_index and WEIGHTS not in names and instead_of_model(snapshot)):
        return missing  # none for another format, which `load_model` names
    expected = {CONFIG, *(_shards(snapshot) if has_index else [WEIGHTS])}
    return sorted(expected.difference(names))


def _is_needed(name):
    return any(fnmatch(name, pattern) for pattern in NEEDED)


def _shards(snapshot):
    """The weight files that the index names; none if it is damaged, as `load_model` says then."""
    try:
        return {name for name in read_json(snapshot / INDEX)["weight_map"].values() if isinstance(name, str)}
    except (CheckpointError, LookupError, AttributeError):
        return set()


def _download(hub, model):
    """Download the needed files that are not in the cache. Raises CheckpointError if that is not possible."""
    if hub.constants.HF_HUB_OFFLINE:
        raise CheckpointError(f"{model.name}: HF_HUB_OFFLINE forbids --download; unset it, or leave out --download")
    errors = hub.errors
    try:
        info = hub.HfApi().model_info(model.id, revision=model.revision, timeout=SECONDS)
        _check_offered([file.rfilename for file in info.siblings or ()], model)
        patterns = list(NEEDED) if model.file is None else [model.file]
        hub.snapshot_download(model.id, revision=model.revision, allow_patterns=patterns)
        return
    except CheckpointError:
        raise
    except errors.GatedRepoError:
        problem = "is gated: accept its conditions on its page at the hub, and log in with `hf auth login`"
    except errors.RepositoryNotFoundError:
        problem = "the hub has no such model, or it is private; check the id, or log in with `hf auth login`"
    except errors.RevisionNotFoundError:
        problem = f"the hub has no revision {shown(model.revision)} of it"
    except Exception as error:  # of the network, of the server, or of the disk
        first_line = str(error).strip().partition("\n")[0]
        advice = "try again, or leave out --download to use the cache"
        problem = f"cannot be downloaded ({type(error).__name__}: {first_line}); {advice}"
    raise CheckpointError(f"{model.name}: {problem}")


def _check_offered(names: list[str], model: HubModel):
    """Raise CheckpointError if the files of a model at the hub are not those that are needed."""
    gguf = sorted(name for name in names if name.endswith(".gguf"))
    if model.file is not None:
        if model.file not in names:
            has = _listed(gguf) if gguf else "no GGUF file"
            raise CheckpointError(f"{model.name}: the hub has no file {shown(model.file)} of {model.id}, but {has}")
        return
    if WEIGHTS in names or INDEX in names:
        return
    advice = f"; name one of its GGUF files, such as {model.id}/{gguf[0]}" if gguf else ""
    raise CheckpointError(f"{model.name}: the hub has no {WEIGHTS} or {INDEX} of it{advice}")
