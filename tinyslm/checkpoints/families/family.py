"""Checkpoint layout of one family: the keys of its config.json and the names of its tensors."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tinyslm.checkpoints.families.config_reader import ConfigReader, FieldTable, read_fields, write_fields
from tinyslm.checkpoints.families.refusals import REFUSALS
from tinyslm.checkpoints.families.rope import CONTEXT, context_of, written_context
from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.own_section import HEAD_DIM, SECTION, own_section
from tinyslm.errors import ConfigError
from tinyslm.models import DecoderConfig

NOT_IN_CONFIG = ("without_prefix", "gamma_beta_names", "masked_head", "pooler")  # fields read from the tensor names


@dataclass(frozen=True)
class Family:
    """One checkpoint layout.

    fields: table of the configuration fields with one key each; `read` and `write` handle the other fields. defaults:
    default values of other keys; they also override default values in the table.
    tensors: {module path: tensor name in the file without ".weight" or ".bias"}; {i} is the layer, {e} the expert. A
    tuple of modules shares one tensor, which joins their arrays along the outputs in this order.
    by_head: shared tensors in which the rows of the modules alternate, head by head.
    base: the prefix of all tensor names except the head's; files that were saved without the head lack it.
    optional: {flag of the configuration: (prefix of its tensors in the file, prefix of its modules in the model)}.
    """

    model_type: str  # the key of this name in config.json
    architecture: str  # the class in transformers
    tensors: dict[Any, str]  # keys: str | tuple[str, ...]
    fields: FieldTable
    base: str
    headless_architecture: str = ""  # the class in transformers without the masked-LM head
    read: Callable[[ConfigReader], dict[str, Any]] = lambda keys: {}  # config.json -> further fields
    write: Callable[[Any], dict[str, Any]] = lambda config: {}  # the reverse
    defaults: dict[str, Any] = field(default_factory=dict)  # {key: default} beside the table
    config: Any = DecoderConfig  # a class of configurations
    by_head: frozenset[str] = frozenset()
    head_dim: int = 0  # D, of the configuration; for `by_head`
    transposed: frozenset[str] = frozenset()  # tensors whose weight is stored as (in, out)
    ignored: tuple[str, ...] = ()  # patterns of tensors that hold no parameters
    fixed: dict[str, Any] = field(default_factory=dict)  # {key: the only value that is supported}
    optional: dict[str, tuple[str, str]] = field(default_factory=dict)
    shared_head: str = ""  # prefix of tensors of the masked-LM head that the heads of other tasks have too
    tied: dict[str, str] = field(default_factory=lambda: {"head.weight": "embedding.table"})  # {array: its copy}
    renamed: dict[str, str] = field(default_factory=dict)  # {ending of names in old files: in current files}
    copies: dict[str, str] = field(default_factory=dict)  # {duplicate in old files: original}
    written_copies: dict[str, str] = field(default_factory=dict)  # {duplicate that transformers expects: original}
    endings: dict[str, str] = field(default_factory=dict)  # the reverse of `renamed`, for files in the old form
    ungated: dict[str, str] = field(default_factory=dict)  # replaces entries of `tensors` in ungated models

    def read_config(self, values: dict, where):
        """The configuration in a config.json, in the current or the old layout.

        Raises ConfigError, naming `where`, key, found and expected, for values that are wrong or not supported.
        """
        defaults = {key: default for key, _, default in self.fields.values()} | self.defaults
        keys = ConfigReader(values, defaults, where)
        for key, supported in self.fixed.items():
            if keys.values.get(key, supported) != supported:
                keys.refuse(key, f"{supported!r} (nothing else is supported)")
        if HEAD_DIM in self.fields and HEAD_DIM in own_section(values, where):
            key, *_ = self.fields[HEAD_DIM]
            raise ConfigError(f"{where}: {SECTION} has {HEAD_DIM}, but in this family it is the key {key}")
        settings = read_fields(keys, self.fields) | self.read(keys)
        if "ropes" in settings:
            settings[CONTEXT] = context_of(settings["ropes"], settings[CONTEXT])
        try:
            return self.config(family=self.model_type, **settings)
        except ConfigError as problem:
            raise ConfigError(f"{where}: {problem}") from None

    def for_config(self, config):
        """The family with the tensor names and the head size of one configuration."""
        tensors = self.tensors if config.gated else self.tensors | self.ungated
        endings = {current: old for old, current in self.renamed.items()} if config.gamma_beta_names else {}
        return replace(self, tensors=tensors, endings=endings, head_dim=config.head_dim)

    def has_own_head_dim(self, config) -> bool:
        """Whether head_dim is in the library's own section: no key of this family holds it."""
        return HEAD_DIM not in self.fields and config.num_attention_heads * config.head_dim != config.hidden_size

    def refusal(self, config) -> str:
        """Reason why transformers does not load a file with this configuration; "" if it does."""
        if self.has_own_head_dim(config):
            C, H = config.hidden_size, config.num_attention_heads
            return f"heads of a {self.model_type} model have the size {C} / {H} there, but {config.head_dim} here"
        return REFUSALS[self.model_type](config) if self.model_type in REFUSALS else ""

    def write_config(self, config) -> dict:
        """config.json in the current layout. Raises ConfigError for a field that this family cannot store."""
        if not isinstance(config, self.config):
            kinds = f"a {self.config.__name__}, found a {type(config).__name__}"
            raise ConfigError(f"a {self.model_type} checkpoint holds {kinds}")
        architecture = self.architecture if getattr(config, "masked_head", True) else self.headless_architecture
        values: dict[str, Any] = {"model_type": self.model_type, "architectures": [architecture]}
        values |= write_fields(config, self.fields) | self.write(config)
        if hasattr(config, "ropes") and CONTEXT in values:
            values[CONTEXT] = written_context(config.ropes, values[CONTEXT])
        if self.has_own_head_dim(config):
            values[SECTION] = {HEAD_DIM: config.head_dim}
        again = self.read_config(values, f"configuration of a {self.model_type} model")
        for entry in dataclasses.fields(config):
            wanted, kept = getattr(config, entry.name), getattr(again, entry.name)
            if entry.compare and wanted != kept and entry.name not in NOT_IN_CONFIG:
                raise ConfigError(
                    f"{entry.name} is {shown(wanted)}, but a {self.model_type} checkpoint can only hold {shown(kept)}"
                )
        return values
