"""Runs the code of docs/integrations.md, section by section, with the data that each takes for granted: DOCUMENT SECTION ..."""

import json
import re
import sys
from pathlib import Path

import numpy as np

import runyard

ROWS = np.random.default_rng(1).normal(size=(64, 4)).astype("float32")
LABELS = (ROWS[:, 0] > 0).astype("float32")


def torch_data():
    import torch

    model = torch.nn.Linear(4, 1)
    return {"model": model, "run": runyard.init(), "ROWS": torch.as_tensor(ROWS)}


def keras_data():
    import keras

    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", loss="mse")
    return {"model": model, "rows": ROWS, "labels": LABELS}


def lightning_data():
    import lightning.pytorch as pl
    import torch

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = torch.nn.Linear(4, 1)

        def step(self, name, batch):
            loss = self.model(batch[0]).pow(2).mean()
            self.log(name, loss)
            return loss

        def training_step(self, batch, index):
            return self.step("loss", batch)

        def validation_step(self, batch, index):
            self.step("val_loss", batch)

        def test_step(self, batch, index):
            self.step("test_loss", batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    rows = torch.utils.data.TensorDataset(torch.as_tensor(ROWS))
    loader = torch.utils.data.DataLoader(rows, batch_size=32)
    return {"module": Module(), "train": loader, "valid": loader, "test": loader}


def transformers_data():
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    item = {"input_ids": torch.ones(4, dtype=torch.long), "labels": torch.tensor(1)}
    return {"model": BertForSequenceClassification(config), "train": [item] * 16}


def xgboost_data():
    import xgboost

    matrix = xgboost.DMatrix(ROWS, LABELS)
    return {"train": matrix, "valid": matrix, "parameters": {"eval_metric": "logloss"}}


def lightgbm_data():
    import lightgbm

    train = lightgbm.Dataset(ROWS, LABELS)
    return {"train": train, "valid": train, "parameters": {"verbosity": -1}}


DATA = {
    "Gradients and parameters of torch modules": torch_data,
    "Keras 3": keras_data,
    "PyTorch Lightning": lightning_data,
    "Transformers": transformers_data,
    "XGBoost": xgboost_data,
    "LightGBM": lightgbm_data,
    "TensorBoard": dict,
    "`logging`": dict,
}


def main() -> None:
    document, *wanted = sys.argv[1:]
    sections = re.split(r"^## ", Path(document).read_text(), flags=re.MULTILINE)[1:]
    ran = {}
    for section in sections:
        title = section.partition("\n")[0]
        if title not in wanted:
            continue
        blocks = re.findall(r"^```python\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
        for block in blocks:
            exec(compile(block, title, "exec"), {"__name__": "__main__", **DATA[title]()})
            runyard.finish()
        ran[title] = len(blocks)
    print("told", json.dumps(ran), flush=True)


main()
