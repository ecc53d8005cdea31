"""Find the description beside a weights file: vitseek's own, or one that a family reads."""

from fnmatch import fnmatchcase
from pathlib import Path

from vitseek.errors import ConfigError
from vitseek.models.architectures import config_from_dict
from vitseek.models.text import TextConfig
from vitseek.weights.description import Document, Sidecar, read_json
from vitseek.weights.families import FAMILIES
from vitseek.weights.family import Read

CONFIG = "config.json"
OPEN_CLIP_CONFIG = "open_clip_config.json"  # some repositories have both, for a weights file each
OWN_FORMAT = "vitseek"
OWN_VERSION = 1


def read_sidecar(weights: Path) -> Sidecar:
    """Find and read the description that belongs to a weights file.

    ``NAME.json`` beside ``NAME.safetensors`` comes first, then ``config.json`` with an optional
    ``preprocessor_config.json``, or OpenCLIP's, in the same folder. Without either, the result is empty.

    Raises
    ------
    ConfigError
        If a description is there, but describes no model that vitseek can run.
    """
    stem = weights.name.removesuffix(".index.json").removesuffix(".safetensors").removesuffix(".npz")
    shared = (OPEN_CLIP_CONFIG, CONFIG) if stem.startswith("open_clip") else (CONFIG, OPEN_CLIP_CONFIG)
    for file in (weights.parent / f"{stem}.json", *(weights.parent / name for name in shared)):
        if file.is_file() and file != weights:
            document = read_json(file)
            if document.get("format") == OWN_FORMAT:
                return _own(file, document)
            if read := _reader(file, document):
                try:
                    return read(file, document)
                except (TypeError, ValueError, ArithmeticError) as error:
                    raise ConfigError(f"{file} has a value of the wrong kind ({error}); repair it.") from error
            if file.name in shared:
                raise ConfigError(
                    f"{file} describes no model that vitseek knows: it has neither vitseek's 'format', nor "
                    "transformers' 'model_type', nor timm's 'architecture', nor OpenCLIP's 'model_cfg'. "
                    "Move it away to let the shapes decide."
                )
    return Sidecar()


def _reader(file: Path, document: Document) -> Read | None:
    """Who reads a description; ``None`` if it is nobody's, ConfigError if vitseek does not run such models."""
    if "model_type" in document:
        models = {model: read for family in FAMILIES for model, read in family.transformers.items()}
        model = str(document["model_type"])
        if model not in models:
            raise ConfigError(
                f"{file} describes a transformers model of type {model!r}; vitseek runs {', '.join(models)}."
            )
        return models[model]
    if "architecture" in document:
        patterns = {pattern: read for family in FAMILIES for pattern, read in family.timm.items()}
        architecture = str(document["architecture"])
        fitting = [pattern for pattern in patterns if fnmatchcase(architecture, pattern)]
        if not fitting:
            raise ConfigError(f"{file} describes timm's {architecture!r}; vitseek runs its {', '.join(patterns)}.")
        return patterns[max(fitting, key=len)]
    others = {key: read for family in FAMILIES for key, read in family.others.items()}
    return next((read for key, read in others.items() if key in document), None)


def _own(file: Path, document: Document) -> Sidecar:
    if document.get("version") != OWN_VERSION:
        raise ConfigError(
            f"{file} has version {document.get('version')!r}; this vitseek reads {OWN_VERSION}. "
            "Upgrade vitseek, or export the model again."
        )
    config, preprocessing = document.get("config"), document.get("preprocessing")
    if not isinstance(config, dict) or not isinstance(preprocessing, dict | None):
        raise ConfigError(f"{file} lacks a 'config' object; export the model again.")
    labels = document.get("labels")
    if not isinstance(document.get("text"), dict | None):
        raise ConfigError(f"{file}: 'text' must be an object that describes the text tower; export the model again.")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise ConfigError(f"{file}: 'labels' must be a list of class names.")
    try:
        parsed = config_from_dict(config)
        text = TextConfig.from_dict(document["text"]) if document.get("text") is not None else None
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    return Sidecar(
        file=file,
        name=document.get("name"),
        config=parsed,
        text=text,
        tokenizer=_own_tokenizer(file, document),
        preprocessing=preprocessing,
        pooling=document.get("pooling"),
        labels=labels,
    )


def _own_tokenizer(file: Path, document: Document) -> Path | None:
    """The tokenizer that a description names: a file in the same folder; whether it is there shows when text comes."""
    name = document.get("tokenizer")
    if name is None:
        return None
    if not isinstance(name, str) or not name or Path(name).name != name or "\\" in name:
        raise ConfigError(f"{file}: 'tokenizer' must be the name of a file in the same folder; it is {name!r}.")
    return file.with_name(name)
