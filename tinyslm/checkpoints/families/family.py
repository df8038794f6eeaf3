"""What the file of one family consists of: which keys its config.json has, and what its tensors are called."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tinyslm.checkpoints.families.config_reader import LARGEST, ConfigReader
from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import ConfigError
from tinyslm.models import DecoderConfig

# Keys of any config.json that change what the tensors mean, with the only value that is supported.
FIXED_EVERYWHERE = {"quantization_config": None}
NOT_IN_CONFIG = (
    "without_prefix",
    "gamma_beta_names",
    "masked_head",
    "pooler",
)  # fields that are seen from the tensors' names


@dataclass(frozen=True)
class Family:
    """One checkpoint layout.

    tensors maps a module to its name in the file, to which ".weight" or ".bias" is added; {i} stands for a layer, {e}
    for an expert. Several modules: the file joins their arrays along the outputs, in this order.
    base is what all names but the head's begin with; files written from the model without its head leave it away.
    optional maps a flag of the configuration to what begins the names of its tensors, in the file and in the model.
    """

    model_type: str  # the key of this name in config.json
    architecture: str  # the class in transformers
    defaults: dict[str, Any]  # of the class in transformers, for keys that a config.json leaves out
    tensors: dict[str | tuple[str, ...], str]
    read: Callable[[ConfigReader], dict[str, Any]]  # config.json -> fields of the configuration
    write: Callable[[Any], dict[str, Any]]  # the reverse
    base: str
    config: type = DecoderConfig
    transposed: frozenset[str] = frozenset()  # names whose weight is stored as (in, out)
    ignored: tuple[str, ...] = ()  # patterns of names that hold nothing to learn; * stands for anything
    fixed: dict[str, Any] = field(default_factory=dict)  # keys with the only value that is supported
    optional: dict[str, tuple[str, str]] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=lambda: {"head.weight": "embedding.table"})  # and what it repeats then
    renamed: dict[str, str] = field(default_factory=dict)  # how names end in old files, and today
    copies: dict[str, str] = field(default_factory=dict)  # names that old files have a second time, and the first
    endings: dict[str, str] = field(default_factory=dict)  # the reverse of `renamed`, where names are to end so
    ungated: dict[str, str] = field(default_factory=dict)  # entries of `tensors` where feed-forward layers have no gate

    def read_config(self, values: dict, where):
        """The configuration in a config.json, in either layout.

        Raises ConfigError, naming `where`, key, found and expected, for values that lie or are not supported.
        """
        keys = ConfigReader(values, self.defaults, where)
        for key, supported in (FIXED_EVERYWHERE | self.fixed).items():
            if keys.values.get(key, supported) != supported:
                keys.refuse(key, f"{supported!r} (nothing else is supported)")
        settings = self.read(keys)
        try:
            config = self.config(family=self.model_type, **settings)
        except ConfigError as problem:
            raise ConfigError(f"{where}: {problem}") from None
        if max(config.num_attention_heads, config.num_key_value_heads) * config.head_dim > LARGEST:
            keys.refuse("head_dim", f"at most {LARGEST} dimensions in all heads together")
        return config

    def for_config(self, config):
        """The family with the table of tensors that one configuration has."""
        tensors = self.tensors if config.gated else self.tensors | self.ungated
        endings = {today: old for old, today in self.renamed.items()} if config.gamma_beta_names else {}
        return replace(self, tensors=tensors, endings=endings)

    def write_config(self, config) -> dict:
        """config.json in the layout of today. Raises ConfigError for what this family has no key for."""
        if not isinstance(config, self.config):
            kinds = f"a {self.config.__name__}, found a {type(config).__name__}"
            raise ConfigError(f"a {self.model_type} checkpoint holds {kinds}; it must be saved as another family")
        values = {"model_type": self.model_type, "architectures": [self.architecture], **self.write(config)}
        again = self.read_config(values, f"configuration of a {self.model_type} model")
        for entry in fields(config):
            wanted, kept = getattr(config, entry.name), getattr(again, entry.name)
            if wanted != kept and entry.name not in NOT_IN_CONFIG:
                raise ConfigError(
                    f"{entry.name} is {shown(wanted)}, but a {self.model_type} checkpoint can only hold {shown(kept)}; "
                    "the model must be saved as another family"
                )
        return values
