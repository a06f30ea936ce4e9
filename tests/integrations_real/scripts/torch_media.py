"""Logs what torch tensors become as media, and tells the pixels and counts that are expected."""

import json

import torch

import runyard

picture = torch.arange(27, dtype=torch.uint8).reshape(3, 3, 3)
grey = torch.tensor([[[0.0, 0.5, 1.0]]], dtype=torch.bfloat16, requires_grad=True)
values = torch.linspace(-1, 1, 64, requires_grad=True)
with runyard.init(project="integrations", id="torch-media") as run:
    run.log(
        {
            "picture": runyard.Image(picture),
            "grey": runyard.Image(grey),
            "batch": runyard.Image(torch.rand(10, 3, 8, 8)),
            "values": runyard.Histogram(values, num_bins=4),
            "sound": runyard.Audio(torch.zeros(2, 500), sample_rate=100),
            "confusion": runyard.plot.confusion_matrix(
                y_true=torch.tensor([0, 1]), preds=torch.tensor([1, 1])
            ),
            "loss": values.mean(),
        }
    )
    try:
        run.log({"wrong": values})
    except TypeError as error:
        refused = str(error)
told = {"picture": picture.permute(1, 2, 0).tolist(), "grey": [[0, 128, 255]], "refused": refused}
print("told", json.dumps(told))
