"""Trains a tiny LightningModule: CASE RUN_ID. Prints what the module itself logged."""

import json
import sys

import torch

CASE, RUN_ID = sys.argv[1:]
if CASE == "pytorch_lightning":
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import ModelCheckpoint
else:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

from runyard.integration.lightning import RunyardLogger  # noqa: E402  # after the package that it shall use

told = {"train_loss": [], "val_loss": []}


class Module(pl.LightningModule):
    def __init__(self, width=4, rate=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.model = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Linear(width, 1))

    def training_step(self, batch, index):
        loss = self.model(batch[0]).pow(2).mean()
        self.log("train_loss", loss)
        told["train_loss"].append((self.global_step, loss.item()))
        if CASE == "fails" and self.global_step == 5:
            raise RuntimeError("the training fails")
        if CASE == "interrupted" and self.global_step == 5:
            raise KeyboardInterrupt
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", self.model(batch[0]).pow(2).mean())

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            told["val_loss"].append(
                (self.global_step, self.trainer.callback_metrics["val_loss"].item())
            )

    def test_step(self, batch, index):
        self.log("test_loss", self.model(batch[0]).pow(2).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.rate)


def data():
    rows = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), batch_size=8)


def main() -> None:
    pl.seed_everything(1)
    logger = RunyardLogger(
        id=RUN_ID, log_model="all" if CASE == "all" else CASE != "pytorch_lightning", tags=["pl"]
    )
    module = Module()
    extra = [logger, pl.loggers.CSVLogger("csv")] if CASE == "plain" else logger
    checkpoint = ModelCheckpoint(
        "checkpoints-" + RUN_ID, monitor="val_loss", save_top_k=1, save_last=True
    )
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=3, logger=extra, log_every_n_steps=1, callbacks=[checkpoint],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data(), data())
    (test,) = trainer.test(module, data(), verbose=False)
    if CASE == "plain":
        further = pl.Trainer(
            accelerator="cpu", max_epochs=4, logger=logger, log_every_n_steps=1, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        further.fit(Module(), data(), data(), ckpt_path=checkpoint.last_model_path)
    print(
        "told",
        json.dumps({**told, "test_loss": test["test_loss"], "best": checkpoint.best_model_path}),
        flush=True,
    )


main()
