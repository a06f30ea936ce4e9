"""Trains a torch module that a run watches: RUN_ID. Prints what NumPy says of the same tensors."""

import json
import sys

import numpy as np
import torch

import runyard

STEPS, FREQ = 7, 3


def told_of(tensor):
    values = tensor.detach().double().numpy().ravel()
    finite = values[np.isfinite(values)]
    ends = {"min": float(finite.min()), "max": float(finite.max())} if finite.size else {}
    return {"count": int(finite.size), "odd": int(values.size - finite.size), **ends}


def main() -> None:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 1))
    model[2].bias.requires_grad_(False)
    other = torch.nn.Linear(2, 1).bfloat16()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    run = runyard.init(id=sys.argv[1])
    run.watch(model, log="all", log_freq=FREQ)
    run.watch([other], log="gradients", log_freq=1)
    told = {"gradients": [], "parameters": []}
    for step in range(STEPS):
        if step % FREQ == 0:
            told["parameters"].append({name: told_of(p) for name, p in model.named_parameters()})
        rows = torch.randn(16, 4)
        if step == 3:
            rows[0, 0] = float("nan")
        loss = model(rows).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        if step % FREQ == 0:
            told["gradients"].append(
                {
                    name: told_of(p.grad)
                    for name, p in model.named_parameters()
                    if p.grad is not None
                }
            )
        if step != 3:
            optimizer.step()
        if step == 0:
            other(torch.ones(3, 2, dtype=torch.bfloat16)).sum().backward()
        run.log({"loss": 0.0 if step == 3 else loss.item()})
    run.unwatch(model)
    model(torch.randn(2, 4)).sum().backward()
    compiled = torch.compile(torch.nn.Linear(3, 2), backend="eager")
    run.watch(compiled, log="all", log_freq=1)
    compiled(torch.ones(2, 3)).sum().backward()
    run.log({"after": 1.0})
    print("told", json.dumps(told), flush=True)


main()
