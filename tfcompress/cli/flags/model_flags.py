"""Flags of models and the files that are made."""

from __future__ import annotations

import os

from tfcompress.cli.flags.flag import Flag


def _of_a_folder(value: str | None) -> bool:
    return value is None or (os.path.basename(value) == value and value not in (".", "..") and "\0" not in value)


TITLE = "Models and files"

FLAGS = {
    "model": Flag("The model: .keras, .h5, or a SavedModel folder.", shown="FILE"),
    "any_model": Flag("The model: .keras, .h5, a SavedModel folder, .tflite or .onnx.", shown="FILE", called="model"),
    "models": Flag("Models, separated by commas: .keras, .h5, .tflite, .onnx.", kind="list", shown="FILE,FILE"),
    "output": Flag("The .keras file to write.", shown="FILE"),
    "scan_output": Flag(
        "The .json file to write, after each point; where it is there, of this model and with these settings, only "
        "what it lacks is measured. Beside it go a picture, .png, and a page, .html.",
        shown="FILE",
        called="output",
    ),
    "outputs": Flag("The files to write, separated by commas: .tflite, .onnx.", kind="list", shown="FILE,FILE"),
    "output_dir": Flag("The folder that the folder NAME is in.", "saved_models", shown="FOLDER"),
    "whole_recipe": Flag(
        "Steps to do in place of those of the other flags: a .yaml or .json file, or a name; help: which names there "
        "are.",
        shown="FILE|NAME|help",
        called="recipe",
    ),
    "name": Flag(
        "What the result is called; by default as the model or the data.",
        shown="NAME",
        valid=_of_a_folder,
        wanted="Expected a name for --name. Received: a path; see --output_dir.",
    ),
    "html": Flag("An .html report to write.", shown="FILE"),
    "markdown": Flag("The report as Markdown, .md.", shown="FILE"),
    "scans": Flag(
        "Files that the jobs sensitivity and prune --sweep wrote, separated by commas, to be shown in the report.",
        kind="list",
        shown="FILE,FILE",
    ),
    "overwrite": Flag("Replace files that are there.", False, "switch"),
    "unsafe": Flag("Load a model that holds code, such as a Lambda layer.", False, "switch"),
}
