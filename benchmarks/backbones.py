"""Backbones of KerasHub from small configurations, without presets: nothing is downloaded."""

from __future__ import annotations

import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

SAMPLES = 8
LENGTH = 8
WORDS = 50
_TEXT = {
    "vocabulary_size": WORDS,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "max_sequence_length": 12,
}
_DECODER = {
    "vocabulary_size": WORDS,
    "num_layers": 2,
    "num_query_heads": 2,
    "num_key_value_heads": 1,
    "hidden_dim": 16,
    "intermediate_dim": 32,
}
_IMAGE = (32, 32, 3)
_PATCHES = {
    "image_shape": _IMAGE,
    "patch_size": 8,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
}


def _without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


_UNPLACED = _without(_TEXT, "max_sequence_length")

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "ViTBackbone": {
        "image_shape": _IMAGE,
        "patch_size": (8, 8),
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 16,
        "mlp_dim": 32,
    },
    "MiTBackbone": {
        "image_shape": _IMAGE,
        "layerwise_depths": [1, 1],
        "num_layers": 2,
        "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2],
        "hidden_dims": [8, 16],
    },
    "ResNetBackbone": {
        "image_shape": _IMAGE,
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [3],
        "stackwise_num_filters": [64, 128],
        "stackwise_num_blocks": [1, 1],
        "stackwise_num_strides": [1, 2],
        "block_type": "basic_block",
    },
    "EfficientNetBackbone": {
        "image_shape": _IMAGE,
        "width_coefficient": 0.2,
        "depth_coefficient": 0.2,
        "stackwise_kernel_sizes": [3, 3],
        "stackwise_num_repeats": [1, 1],
        "stackwise_input_filters": [8, 8],
        "stackwise_output_filters": [8, 16],
        "stackwise_expansion_ratios": [1, 4],
        "stackwise_strides": [1, 2],
        "stackwise_squeeze_and_excite_ratios": [0.25, 0.25],
        "stackwise_block_types": ["v1", "v1"],
        "stackwise_force_input_filters": [0, 0],
        "stackwise_nores_option": [False, False],
    },
    "VGGBackbone": {"image_shape": _IMAGE, "stackwise_num_repeats": [1, 1], "stackwise_num_filters": [4, 8]},
    "BertBackbone": _TEXT,
    "DistilBertBackbone": _TEXT,
    "RobertaBackbone": _TEXT,
    "GPT2Backbone": _TEXT,
    "OPTBackbone": _TEXT,
    "LlamaBackbone": _DECODER,
    "MistralBackbone": _DECODER,
    "GemmaBackbone": {**_DECODER, "head_dim": 8},
    "WhisperBackbone": {
        "vocabulary_size": WORDS,
        "num_layers": 1,
        "num_heads": 2,
        "hidden_dim": 16,
        "intermediate_dim": 32,
        "num_mels": 8,
        "max_encoder_sequence_length": 16,
        "max_decoder_sequence_length": LENGTH,
    },
    "AlbertBackbone": {**_TEXT, "embedding_dim": 8},
    "BartBackbone": _TEXT,
    "BloomBackbone": _UNPLACED,
    "DebertaV3Backbone": {**_TEXT, "bucket_size": 8},
    "ElectraBackbone": {**_without(_TEXT, "vocabulary_size"), "vocab_size": WORDS, "embedding_dim": 16},
    "ESMBackbone": _TEXT,
    "FalconBackbone": {**_without(_UNPLACED, "num_heads"), "num_attention_heads": 2},
    "FNetBackbone": _without(_TEXT, "num_heads"),
    "GPTNeoXBackbone": _TEXT,
    "MixtralBackbone": {**_DECODER, "num_experts": 2, "sliding_window": 8},
    "Phi3Backbone": _DECODER,
    "Qwen3Backbone": {**_DECODER, "head_dim": 8},
    "RoformerV2Backbone": {**_UNPLACED, "head_size": 8},
    "RWKV7Backbone": {
        "vocabulary_size": WORDS,
        "num_layers": 1,
        "hidden_size": 16,
        "head_size": 8,
        "intermediate_dim": 32,
        "gate_lora": 8,
        "mv_lora": 8,
        "aaa_lora": 8,
        "decay_lora": 8,
    },
    "T5Backbone": _UNPLACED,
    "XLNetBackbone": _UNPLACED,
    "CSPNetBackbone": {
        "image_shape": _IMAGE,
        "stem_filters": 8,
        "stem_kernel_size": 3,
        "stem_strides": 1,
        "stem_padding": "same",
        "stackwise_depth": [1, 2],
        "stackwise_strides": [1, 2],
        "stackwise_num_filters": [8, 16],
        "block_type": "dark_block",
        "stage_type": "dark",
    },
    "DeiTBackbone": {**_PATCHES, "patch_size": (8, 8)},
    "DenseNetBackbone": {"image_shape": _IMAGE, "stackwise_num_repeats": [1, 2], "growth_rate": 8},
    "DINOV2Backbone": {**_PATCHES, "position_embedding_shape": _IMAGE},
    "HGNetV2Backbone": {
        "image_shape": _IMAGE,
        "depths": [1, 2],
        "embedding_size": 8,
        "hidden_sizes": [16, 32],
        "stem_channels": [3, 8, 8],
        "hidden_act": "relu",
        "use_learnable_affine_block": True,
        "stackwise_stage_filters": [(8, 8, 16, 1, 1, 3), (16, 8, 32, 2, 2, 3)],
        "apply_downsample": [False, True],
        "use_lightweight_conv_block": [False, True],
    },
    "MobileNetBackbone": {
        "image_shape": _IMAGE,
        "input_num_filters": 8,
        "stackwise_expansion": [[16, 24], [24, 32]],
        "stackwise_num_blocks": [2, 2],
        "stackwise_num_filters": [[8, 8], [16, 16]],
        "stackwise_kernel_size": [[3, 3], [5, 5]],
        "stackwise_num_strides": [[2, 1], [2, 1]],
        "stackwise_se_ratio": [[None, None], [0.25, 0.25]],
        "stackwise_activation": [["relu", "relu"], ["hard_swish", "hard_swish"]],
        "stackwise_padding": [[1, 1], [2, 2]],
        "output_num_filters": 32,
        "depthwise_filters": 8,
        "depthwise_stride": 2,
        "depthwise_residual": False,
        "last_layer_filter": 32,
        "squeeze_and_excite": 0.5,
    },
    "ViTDetBackbone": {
        **_without(_PATCHES, "hidden_dim"),
        "image_shape": (64, 64, 3),
        "patch_size": 16,
        "hidden_size": 16,
        "global_attention_layer_indices": [1],
        "num_output_channels": 8,
        "window_size": 2,
    },
    "XceptionBackbone": {
        "image_shape": _IMAGE,
        "stackwise_conv_filters": [[8, 16], [16, 24], [24, 32]],
        "stackwise_pooling": [True, True, False],
    },
}


def available() -> list[str]:
    """Return the names of the backbones, if KerasHub is installed."""
    try:
        import keras_hub  # noqa: F401
    except ImportError:
        return []
    return list(CONFIGURATIONS)


def build(name: str) -> Any:
    """Return a backbone with random weights."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    return getattr(keras_hub.models, name)(**CONFIGURATIONS[name])


def inputs(model: Any, seed: int) -> Any:
    """Return seeded arrays in the structure of a backbone's inputs: words, padding that leaves all in, or images."""
    import keras
    import numpy as np

    random = np.random.default_rng(seed)

    def draw(x: Any) -> Any:
        shape = (SAMPLES, *(size or LENGTH for size in x.shape[1:]))
        if "padding" in x.name:
            return np.ones(shape, "int32")
        if "segment" in x.name:
            return np.zeros(shape, "int32")
        if "int" in keras.backend.standardize_dtype(x.dtype):
            return random.integers(1, WORDS, shape).astype("int32")
        return random.normal(size=shape).astype("float32")

    return keras.tree.map_structure(draw, model._inputs_struct)


def measure(name: str, reason: Callable[[Exception], str]) -> dict[str, Any]:
    """Return a backbone's row: through prune, quantize and both exports, each file compared with Keras as it is made.

    Args:
        name: The backbone's.
        reason: Of an error, what the row says.
    """
    import keras
    import numpy as np

    import tfcompress as tfc

    start = time.perf_counter()
    model = build(name)
    data = inputs(model, 2)
    row: dict[str, Any] = {"model": name, "parameters": f"{model.count_params():,}"}
    plain = keras.tree.flatten(model.predict(data, verbose=0))[0]
    try:
        pruned = tfc.strip(tfc.prune(model, 0.0))
        same = np.allclose(keras.tree.flatten(pruned.predict(data, verbose=0))[0], plain, atol=1e-4)
        row["pruned"] = "yes" if same else "no: other outputs"
    except Exception as error:
        row["pruned"] = f"no: {reason(error)}"
    try:
        quantized = tfc.quantize(model, "int8", data=data)
        row["quantized"] = "yes"
        noise = plain - keras.tree.flatten(quantized.predict(data, verbose=0))[0]
        row["signal dB"] = f"{20 * np.log10(np.std(plain) / np.std(noise)):.1f}"
    except Exception as error:
        quantized = None
        row["quantized"] = f"no: {reason(error)}"
    for made, what in ((model, "float MB"), (quantized, "MB")):
        for label, suffix in (("TFLite", ".tflite"), ("ONNX", ".onnx")):
            if made is None:
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    path = pathlib.Path(tfc.export(made, f"{folder}/model{suffix}", verify=data).path)
                    row[f"{label} {what}"] = f"{path.stat().st_size / 1e6:.2f}"
                except Exception as error:
                    row[f"{label} {what}"] = f"no: {reason(error)}"
    row["seconds"] = round(time.perf_counter() - start)
    return row
