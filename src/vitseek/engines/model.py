"""A model as people use it: pictures in, features out; and :func:`load`, which finds everything that belongs to it."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitseek import zoo
from vitseek.engines.available import ENGINES as ENGINES
from vitseek.engines.available import engine_for
from vitseek.engines.base import SpaceKey
from vitseek.engines.beside_numpy import BesideNumpy
from vitseek.engines.build import ImageEngine, build_engine, check_engine
from vitseek.engines.calibration import PICTURES, Calibration, calibrate
from vitseek.engines.graph_engine import graph_of
from vitseek.engines.numba_engine import NumbaEngine
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.engines.reduction import Reduction
from vitseek.engines.text import TextSide, no_text_tower, other_pooling
from vitseek.engines.threads import default_threads
from vitseek.errors import ConfigError, ImageError, ShapeError, UnknownModelError, WeightsError
from vitseek.models.architectures import ModelConfig
from vitseek.models.config import PosResize, ViTConfig
from vitseek.models.text import TextConfig
from vitseek.models.tokens import Tokens, check_pooling, pooled_dim, usual_pooling
from vitseek.preprocess.image import ImagePreprocessing, ImageSource, preprocess
from vitseek.weights.hub import held, obtain
from vitseek.weights.loader import LoadedWeights, load_weights

Array = NDArray[np.float32]

# DINOv2 ends its training at 518 px and publishes features, and its processor's settings, for 224 (Oquab et al., 2023).
DINOV2_PATCH_PX, DINOV2_TRAINED_PX, DINOV2_USED_PX = 14, 518, 224
LARGEST_LOGIT_SCALE = 20.0  # of its logarithm; CLIP stops at log(100) = 4.6
LARGEST_SIZE_PX = 4096
RESIZE_RATIO = 256 / 224  # the usual margin around the centre crop, where nothing else is known


class Model:
    """A Vision Transformer of any family with its preprocessing. Every method may be called from several threads.

    Made by :func:`load`.

    Parameters
    ----------
    name
        Of the zoo, or from the description beside the weights, or the file's own.
    source
        What :func:`load` takes to get this model again: a name of the zoo, or the path of the weights.
    pooling
        How :meth:`embed` turns tokens into one vector; see :func:`vitseek.models.tokens.pool`.
    embed_dim
        Length of a feature vector.
    labels
        Names of the classes that :meth:`classify` scores, where they are known.
    notes
        What was inferred about the model, one sentence each; and what turned out while it ran.
    calibration
        What ``precision="int8-static"`` was asked for with.
    reduction
        Which tokens are left out on the way to features.
    """

    def __init__(
        self,
        loaded: LoadedWeights,
        *,
        name: str,
        source: str,
        preprocessing: ImagePreprocessing,
        pooling: str,
        labels: list[str] | None = None,
        notes: Iterable[str] = (),
        engine: str | None = None,
        precision: str = "float32",
        calibration: Calibration | None = None,
        reduction: str = "none",
        threads: int | None = None,
    ) -> None:
        engine = engine_for(precision, engine)
        check_engine(engine, loaded.config)
        self.name = name
        self.source = source
        self.config: ModelConfig = loaded.config
        self.preprocessing = preprocessing
        self.pooling = pooling
        self.weights_sha256 = loaded.sha256
        self.labels = labels
        self.notes = list(notes)
        self._asked_engine, self._asked_precision = engine, precision
        self.calibration = calibration
        left_out = Reduction.parse(reduction)
        self.reduction = left_out.key()
        self.embed_dim = pooled_dim(loaded.config, pooling)  # which checks that the model can pool so
        self._build: Callable[[], ImageEngine] | None = partial(
            build_engine, loaded.params, loaded.config, pooling, threads,
            engine=engine, precision=precision, calibration=calibration, reduction=left_out,
            weights_sha256=loaded.sha256, report=self.notes.append,
        )  # fmt: skip
        self._built: ImageEngine | None = None
        self._building = threading.Lock()
        if loaded.text is None:
            _ = self._engine  # nothing else to wait for
        self._text = TextSide(loaded.text, model=name, threads=threads) if loaded.text is not None else None
        self._logit_scale = loaded.text.logit_scale if loaded.text is not None else None
        self.logit_bias = loaded.text.logit_bias if loaded.text is not None else None
        if self._text is not None and self.has_text and self._text.config.output_dim != self.embed_dim:
            raise ConfigError(
                f"{name}: pictures become {self.embed_dim} numbers and texts {self._text.config.output_dim}: "
                "the two towers do not belong together"
            )
        self._notes_of_loading = len(self.notes)

    def __repr__(self) -> str:
        return f"<vitseek model {self.name}: {self.embed_dim}-d, pooling {self.pooling}, {self.engine}>"

    @property
    def _engine(self) -> ImageEngine:
        """What computes; beside a text tower made at the first picture: words alone never read the image tower."""
        with self._building:
            if self._built is None:
                assert self._build is not None
                self._built, self._build = self._build(), None  # the parameters as loaded are let go
            return self._built

    @property
    def engine(self) -> str:
        """What computes pictures: the engine asked for, or ``"numpy"`` once that had to be given up."""
        built = self._built  # no lock: this may be asked while a tower is built
        return built.computes if isinstance(built, BesideNumpy | NumbaEngine) else self._asked_engine

    @property
    def precision(self) -> str:
        """What pictures are computed in: the precision asked for, or ``"float32"`` once that had to be given up.

        Anything but float32 is tried out first, on the size of pictures that the preprocessing makes.
        """
        if self._asked_precision == "float32":
            return "float32"
        engine = self._engine
        assert isinstance(engine, BesideNumpy)
        engine.settle(self.usual_size_px())
        return engine.precision

    def usual_size_px(self) -> tuple[int, int]:
        """What the preprocessing makes of a picture, (height, width); where that varies, the size of training."""
        pictures = self.preprocessing
        if pictures.policy == "short-side" or pictures.resize == "max-patches":
            return self.config.img_size
        return pictures.size_px, pictures.size_px

    @property
    def late_notes(self) -> list[str]:
        """What :attr:`notes` got since the model was loaded: that another engine had to be given up."""
        return self.notes[self._notes_of_loading :]

    def space(self) -> SpaceKey:
        """Return what makes this model's vectors comparable with others."""
        prepared = self.preprocessing.key()
        resized = self.config.pos_resize if isinstance(self.config, ViTConfig) else "bicubic"
        if resized != "bicubic":  # the same weights give other features where the grid is resized
            prepared += f",positions={resized}"
        precision = self.precision
        if precision == "int8-static":
            assert self.calibration is not None
            precision += f"-{self.calibration.digest()}"
        return SpaceKey(
            self.name, self.weights_sha256, prepared, self.pooling, self.embed_dim, precision, self.reduction
        )

    def preprocess(self, source: ImageSource, *, report: Callable[[str], None] | None = None) -> Array:
        """Turn a picture into normalised pixels, shape (3, height, width)."""
        return preprocess(source, self.preprocessing, report=report)

    def embed(self, images: Iterable[ImageSource] | ImageSource, *, batch_size: int = 16) -> Array:
        """Return the features of pictures, shape (n, embed_dim), in their order, not normalised.

        Parameters
        ----------
        images
            Paths, bytes, open files or Pillow images; a single one may come without a list.
        batch_size
            How many pictures are decoded and held at a time.

        Raises
        ------
        ImageError
            For the first picture that cannot be used; the message names it.
        """
        single = isinstance(images, str | os.PathLike | bytes | Image.Image) or hasattr(images, "read")
        sources: list[ImageSource] = (
            [cast("ImageSource", images)] if single else list(cast("Iterable[ImageSource]", images))
        )
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
        features = np.empty((len(sources), self.embed_dim), dtype=np.float32)
        with ThreadPoolExecutor(max_workers=default_threads(), thread_name_prefix="vitseek-decode") as pool:
            for start in range(0, len(sources), batch_size):
                pixels = list(pool.map(self.preprocess, sources[start : start + batch_size]))
                for places in _of_one_size(pixels):
                    stacked = np.stack([pixels[place] for place in places])
                    features[[start + place for place in places]] = self.embed_pixels(stacked)
        return features

    def embed_pixels(self, pixels: Array) -> Array:
        """Return the features of normalised pixels, shape (B, 3, height, width) -> (B, embed_dim)."""
        return _float32(self._engine.embed_pixels(_checked(pixels)))

    def calibrate(self, images: Iterable[ImageSource], *, count: int = PICTURES) -> Calibration:
        """Look at what these pictures make between the layers: what ``load(precision="int8-static")`` needs.

        Parameters
        ----------
        images
            Of the kind that is to be searched. Those that cannot be used are left out.
        count
            How many are enough; no more are looked at.

        Raises
        ------
        ConfigError
            If the model is no plain Vision Transformer, or no picture can be used.
        """
        engine = self._plain_engine("calibrated")
        pixels = list(islice(self._usable(images), count))
        if not pixels:
            raise ConfigError("none of the pictures to calibrate with can be used")
        return calibrate(engine, self.usual_size_px(), (one[None] for one in pixels))

    def _usable(self, images: Iterable[ImageSource]) -> Iterator[Array]:
        for image in images:
            try:
                yield self.preprocess(image)
            except ImageError:
                continue

    @property
    def has_text(self) -> bool:
        """Whether :meth:`embed_texts` works: there is a text tower, and features that texts can be compared with."""
        return self._text is not None and self.pooling == "embedding"

    @property
    def text_config(self) -> TextConfig | None:
        """The shape of the text tower, if there is one."""
        return self._text.config if self._text is not None else None

    @property
    def logit_scale(self) -> float | None:
        """What cosines of pictures and texts are multiplied with before softmax or sigmoid: the learned temperature.

        ``logit_bias`` is added afterwards where the model has one (SigLIP).
        """
        if self._logit_scale is None:
            return None
        if not self._logit_scale < LARGEST_LOGIT_SCALE:
            raise WeightsError(
                f"{self.name}: the temperature of its towers, exp({self._logit_scale}), is no usable number: the "
                "weights are damaged, or keep something else under logit_scale"
            )
        return math.exp(self._logit_scale)

    def embed_texts(self, texts: Iterable[str] | str, *, report: Callable[[str], None] | None = None) -> Array:
        """Return the embeddings of texts, shape (n, embed_dim), in their order, not normalised.

        Parameters
        ----------
        texts
            A single one may come without a list.
        report
            Told, in a sentence each, about texts that were cut and words that the model does not know.

        Raises
        ------
        TextUnsupportedError
            If the model does not read text, or was loaded with another pooling than ``"embedding"``.
        EmptyTextError
            If a text has no word.
        TokenizerError
            If the tokenizer is missing, damaged, or another model's.
        """
        if self._text is None:
            raise no_text_tower(self.name)
        if not self.has_text:
            raise other_pooling(self.name, self.pooling)
        return self._text.embed([texts] if isinstance(texts, str) else list(texts), report=report)

    def forward(self, pixels: Array) -> Array:
        """Return all tokens after the final norm, shape (B, N, D): class token, registers, patches."""
        return _float32(self._engine.forward(_checked(pixels)))

    def tokens(self, pixels: Array, attention_blocks: Sequence[int] = ()) -> Tokens:
        """Return the tokens by name, with the attention weights of the blocks asked for."""
        return self._engine.tokens(_checked(pixels), attention_blocks=attention_blocks)

    def pool(self, tokens: Tokens) -> Array:
        """Return what :meth:`embed_pixels` returns, shape (B, embed_dim), from the tokens of those pixels."""
        return _float32(self._engine.pool(tokens))

    def onnx_graph(self, size_px: tuple[int, int], *, tokens: bool = False) -> Any:
        """Return an ``onnx.ModelProto`` from pixels of (height, width) to features, or to all tokens.

        Raises
        ------
        ConfigError
            If the model is no plain Vision Transformer.
        ShapeError
            If pictures of that size do not divide into patches.
        MissingExtraError
            If ``onnx`` is not installed.
        """
        engine = self._plain_engine("written as ONNX graphs")
        if tokens:
            return graph_of(engine, size_px, pooling=None)
        return graph_of(engine, size_px, pooling=self.pooling, reduction=engine.reduction)

    def _plain_engine(self, done: str) -> NumpyEngine:
        engine = self._engine.numpy if isinstance(self._engine, BesideNumpy | NumbaEngine) else self._engine
        if not isinstance(engine, NumpyEngine):
            raise ConfigError(f"{self.name} has windows: only plain Vision Transformers are {done}")
        return engine

    def classify(self, pixels: Array) -> Array:
        """Return the logits of the checkpoint's own classes, shape (B, num_classes).

        Raises
        ------
        ConfigError
            If the checkpoint has no classification head.
        """
        return _float32(self._engine.classify(_checked(pixels)))

    @property
    def num_classes(self) -> int:
        """How many classes :meth:`classify` scores; 0 for a checkpoint without a head."""
        return self.config.num_classes

    @property
    def head_pooling(self) -> str | None:
        """The pooling whose features are all that the head sees; None if it sees more, or there is no head."""
        if not self.num_classes or getattr(self.config, "distilled", False):  # two heads on two tokens
            return None
        return self.config.head_input if isinstance(self.config, ViTConfig) else "patch-mean"

    def classify_features(self, features: Array) -> Array:
        """Return the logits that :meth:`classify` returns, from the features of those pixels: (B, D) -> (B, classes).

        Raises
        ------
        ConfigError
            If this model's features are not what its head sees; see :attr:`head_pooling`.
        """
        if self.head_pooling is None or self.pooling != self.head_pooling:
            if not self.num_classes:
                raise ConfigError(f"{self.name} has no classification head")
            sees = repr(self.head_pooling) if self.head_pooling else "more than one token"
            raise ConfigError(
                f"the head of {self.name} sees {sees}, and these features are {self.pooling!r}: classify pixels instead"
            )
        return _float32(self._engine.classify_features(np.asarray(features, np.float32)))


def load(
    model: str | os.PathLike[str] = zoo.DEFAULT_MODEL,
    *,
    weights: str | os.PathLike[str] | None = None,
    preprocess: str | None = None,
    pooling: str | None = None,
    pos_resize: str | None = None,
    engine: str | None = None,
    precision: str = "float32",
    calibration: Calibration | None = None,
    reduction: str = "none",
    size_px: int | None = None,
    offline: bool | None = None,
    progress: Callable[[str, int, int | None], None] | None = None,
    threads: int | None = None,
) -> Model:
    """Load a model by name, or from a file or a folder.

    Parameters
    ----------
    model
        A name of the zoo (``vitseek models`` lists them); or a ``.safetensors`` or ``.npz`` file; or a folder with one,
        usually beside a ``config.json``. A name of the zoo goes before a file of the same name: write ``./name`` for
        the file.
    weights
        The file to take the weights of a zoo model from, instead of its own source.
    preprocess
        Another policy than the checkpoint's own: ``"official"``, ``"center-crop"`` or ``"short-side"``.
    pooling
        Another rule than the model's own; see :func:`vitseek.models.tokens.pool`. ``"embedding"`` is the one whose
        vectors can be compared with texts.
    pos_resize
        Another way to resize the position grid than the model's own; see :class:`vitseek.models.config.ViTConfig`.
    engine
        What computes: ``"numpy"``; or ``"numba"`` (the same pass, compiled), ``"onnx"`` (ONNX Runtime),
        ``"openvino"`` or ``"torch"`` (PyTorch, on a GPU where there is one), with the extras of those names.
        In float32 their features belong to the same space: each graph is first compared with NumPy, which computes
        instead, and ``notes`` says so, where they are too far apart. By default NumPy, or for another ``precision``
        an engine that computes in it.
    precision
        ``"float32"``; or, faster and less exact, in a space of its own: ``"bfloat16"`` (OpenVINO, PyTorch), ``"int8"``
        (ONNX Runtime; eight bits, their scale worked out for each batch), or ``"int8-static"`` (OpenVINO, ONNX Runtime;
        eight bits, their scale from a calibration).
    calibration
        For ``"int8-static"``: what :meth:`Model.calibrate` made of pictures like those to come.
    reduction
        Leave tokens out on the way to features, in a space of its own: ``"merge-16"`` or ``"prune-0.7"``; see
        :mod:`vitseek.engines.reduction`.
    size_px
        Another side than usual of the pictures that the model sees; a multiple of its patch.
    offline
        Never touch the network; by default what HF_HUB_OFFLINE says.
    progress
        Called with file name, bytes so far and bytes in all while weights are downloaded.
    threads
        Cores to use; by default all that this process may run on.

    Raises
    ------
    UnknownModelError
        If there is neither a model nor a file of that name.
    WeightsError
        If the weights cannot be fetched, read, or do not fit.
    ConfigError
        If policy, pooling or engine do not exist.
    MissingExtraError
        If the engine's packages are not installed.
    """
    engine = engine_for(precision, engine)
    check_engine(engine)  # before a download that would be in vain
    if pooling is not None:
        check_pooling(pooling)
    row = _row_of(model)
    if row is not None:
        check_pooling(pooling or row.pooling, row.config)
        if weights is not None:
            file = Path(weights)
        else:
            file = obtain(row.source, tokenizer=row.tokenizer, offline=offline, progress=progress)
        loaded = load_weights(
            file,
            config=row.config,
            text=row.text,
            naming=row.naming if weights is None else None,
            tokenizer=held(row.tokenizer) if row.tokenizer and weights is None else None,
        )
        name, preprocessing, usual = row.name, row.preprocessing, row.pooling
        # Weights of one's own are found again by their path only, a zoo model by its name anywhere.
        source = row.name if weights is None else str(file.resolve())
        notes = loaded.notes
    else:
        if weights is not None:
            raise UnknownModelError(
                f"{os.fspath(model)!r} is not a model of the zoo, so weights={weights!r} says too much"
            )
        file = Path(model)
        loaded = load_weights(file)
        name = loaded.name or file.resolve().stem
        source = str(file.resolve())
        preprocessing, said = _preprocessing_of(loaded, file)
        usual, notes = loaded.pooling or usual_pooling(loaded.config), [*loaded.notes, *said]
    if preprocess is not None:
        preprocessing = preprocessing.with_policy(preprocess)
    if size_px is not None:
        preprocessing = _resized(preprocessing, size_px, loaded.config)
    if pos_resize is not None:
        loaded = dataclasses.replace(loaded, config=_with_pos_resize(loaded.config, pos_resize))
    return Model(
        loaded,
        name=name,
        source=source,
        preprocessing=preprocessing,
        pooling=pooling or usual,
        labels=loaded.labels,
        notes=notes,
        engine=engine,
        precision=precision,
        calibration=calibration,
        reduction=reduction,
        threads=threads,
    )


def _resized(preprocessing: ImagePreprocessing, size_px: int, config: ModelConfig) -> ImagePreprocessing:
    if not 0 < size_px <= LARGEST_SIZE_PX or size_px % config.patch_size:
        raise ConfigError(
            f"size_px={size_px}: the model cuts pictures into patches of {config.patch_size} px; take a multiple of "
            f"that up to {LARGEST_SIZE_PX}"
        )
    return preprocessing.with_size(size_px)


def _row_of(model: str | os.PathLike[str]) -> zoo.ZooRow | None:
    """The zoo's row, or ``None`` for a file or folder; UnknownModelError if it is neither."""
    text = os.fspath(model)
    if isinstance(model, str) and (row := zoo.row_called(text)):
        return row
    looks_like_a_file = Path(text).suffix in (".safetensors", ".npz") or any(mark in text for mark in ("/", os.sep))
    if not isinstance(model, str) or looks_like_a_file or Path(text).exists():
        return None
    return zoo.find(text)


def _preprocessing_of(loaded: LoadedWeights, file: Path) -> tuple[ImagePreprocessing, list[str]]:
    """How pictures are prepared for weights that came as a file, and what to say about it."""
    if loaded.preprocessing is not None:
        return ImagePreprocessing.from_dict(loaded.preprocessing), []
    rows = list(zoo.ZOO.values())
    same_bytes = [row for row in rows if getattr(row.source, "sha256", None) == loaded.sha256]
    same_file = [row for row in rows if file.stem in (row.name, getattr(row.source, "repo", "").rpartition("/")[2])]
    same_shape = [row for row in rows if _without_head(row.config) == _without_head(loaded.config)]
    for found, why in ((same_bytes, "the same file"), (same_file, "its name"), (same_shape, "its shape")):
        if found and len({row.preprocessing for row in found}) == 1:
            return found[0].preprocessing, [f"pictures are prepared as for {found[0].name}, going by {why}"]
    if loaded.usual_pictures is not None:
        usual = ImagePreprocessing.from_dict(loaded.usual_pictures)
        return usual, [
            f"nothing beside {file.name} says how pictures are prepared: as is usual for {loaded.naming} names "
            f"({usual.size_px} px, {usual.interpolation}, mean {usual.mean[0]:.3f} …)"
        ]
    size = min(loaded.config.img_size)
    if size == DINOV2_TRAINED_PX and loaded.config.patch_size == DINOV2_PATCH_PX:
        size = DINOV2_USED_PX
    usual = ImagePreprocessing(
        size_px=size, resize_px=round(size * RESIZE_RATIO), patch_size_px=loaded.config.patch_size
    )
    return usual, [
        f"nothing beside {file.name} says how pictures are prepared: short side {usual.resize_px} px, crop {size} px "
        "and ImageNet mean and std assumed. Wrong values make poor features: put a config.json beside the file"
    ]


def _with_pos_resize(config: ModelConfig, pos_resize: str) -> ModelConfig:
    if not isinstance(config, ViTConfig):
        raise ConfigError(f"pos_resize={pos_resize!r}: this model has no grid of positions to resize; leave it out")
    return dataclasses.replace(config, pos_resize=cast("PosResize", pos_resize))  # which checks it


def _without_head(config: ModelConfig) -> ModelConfig:
    """The config of the tower alone: what pictures are prepared for."""
    if not isinstance(config, ViTConfig):
        return dataclasses.replace(config, num_classes=0)
    return dataclasses.replace(config, num_classes=0, head_input="cls", pos_resize="bicubic", embedding_dim=0)


def _of_one_size(pixels: Sequence[Array]) -> list[list[int]]:
    """Group places by the size of their pixels: the policy "short-side" gives several."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, one in enumerate(pixels):
        groups.setdefault(one.shape, []).append(place)
    return list(groups.values())


def _checked(pixels: Array) -> Array:
    pixels = np.asarray(pixels)
    if pixels.ndim == 3:
        raise ShapeError(f"pixels must have the shape (batch, 3, height, width), not {pixels.shape}: add pixels[None]")
    return pixels


def _float32(features: NDArray[np.floating]) -> Array:
    return features.astype(np.float32, copy=False)
