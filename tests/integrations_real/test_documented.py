"""The examples of docs/integrations.md run as they stand there."""

from __future__ import annotations

import re

import pytest

from tests.integration.yard import CHECKOUT
from tests.integrations_real.frameworks import Trainer, needs

DOCUMENT = CHECKOUT / "docs" / "integrations.md"
SECTIONS = {
    "Gradients and parameters of torch modules": ("torch",),
    "Keras 3": ("keras", "tensorflow"),
    "PyTorch Lightning": ("torch", "lightning"),
    "Transformers": ("torch", "transformers", "accelerate"),
    "XGBoost": ("xgboost",),
    "LightGBM": ("lightgbm",),
    "TensorBoard": (),
    "`logging`": (),
}


def test_all_sections_are_tried() -> None:
    """Each section that shows code is one of those that are run."""
    parts = re.split(r"^## ", DOCUMENT.read_text(), flags=re.MULTILINE)[1:]
    assert {part.partition("\n")[0] for part in parts if "```python" in part} == set(SECTIONS)


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param(
            titles,
            marks=needs(*(module for title in titles for module in SECTIONS[title])),
            id=name,
        )
        for name, titles in {
            "torch": (
                "Gradients and parameters of torch modules",
                "PyTorch Lightning",
                "Transformers",
            ),
            "others": ("Keras 3", "XGBoost", "LightGBM", "TensorBoard", "`logging`"),
        }.items()
    ],
)
def test_examples_run(trainer: Trainer, sections: tuple[str, ...]) -> None:
    """Each block of code runs to its end, with data of the kinds that it names."""
    told = trainer.run("documented", str(DOCUMENT), *sections, KERAS_BACKEND="tensorflow").facts
    assert set(told) == set(sections) and all(told.values())
