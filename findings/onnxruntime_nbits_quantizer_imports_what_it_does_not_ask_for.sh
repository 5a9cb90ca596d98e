#!/usr/bin/env bash
# onnxruntime 1.32.0: onnxruntime.quantization.matmul_nbits_quantizer, which makes MatMulNBits of products, can't be imported
# after "pip install onnxruntime[quantization] onnx": it imports onnx_ir, which the package names nowhere as a
# dependency. With onnx-ir installed the import works.
# Fails if it can be imported without it, or can't with it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "onnxruntime[quantization]==1.32.0" onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

asked = importlib.metadata.requires("onnxruntime")
print(asked)
assert not [name for name in asked if "ir" in name.replace("_", "-").split("-")]
import onnxruntime.quantization  # noqa: F401

try:
    import onnxruntime.quantization.matmul_nbits_quantizer  # noqa: F401
except ModuleNotFoundError as error:
    print(error)
    assert error.name == "onnx_ir"
else:
    raise AssertionError("it was imported")
PYTHON
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx-ir==1.1.0
"$folder/venv/bin/python" -c "import onnxruntime.quantization.matmul_nbits_quantizer"
echo "as described: it needs onnx-ir, which nothing installs"
