"""Trains a tiny transformer with the Trainer: CASE RUN_ID. Prints what the Trainer itself logged."""

import json
import sys

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import runyard
from runyard.integration.transformers import RunyardCallback

CASE, RUN_ID = sys.argv[1:]


class Rows(torch.utils.data.Dataset):
    def __init__(self, count):
        generator = torch.Generator().manual_seed(5)
        self.ids = torch.randint(0, 32, (count, 6), generator=generator)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return {"input_ids": self.ids[index], "labels": self.ids[index][0] % 2}


class Breaks(TrainerCallback):
    def on_step_end(self, args, state, control, **others):
        if state.global_step == 7:
            raise RuntimeError("the training fails")


def main() -> None:
    config = BertConfig(
        vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, max_position_embeddings=8
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    arguments = TrainingArguments(
        f"out-{RUN_ID}", max_steps=12, per_device_train_batch_size=4, logging_steps=2, eval_strategy="steps", eval_steps=4,
        save_steps=4, report_to=[], use_cpu=True, run_name="tiny", disable_tqdm=True, seed=3,
    )  # fmt: skip
    callback = RunyardCallback(log_model="checkpoint", id=RUN_ID)
    trainer = Trainer(
        model, arguments, train_dataset=Rows(48), eval_dataset=Rows(8), callbacks=[callback]
    )
    if CASE == "fails":
        trainer.add_callback(Breaks())
    trainer.train(resume_from_checkpoint=CASE == "resumes")
    predicted = trainer.predict(Rows(8)).metrics
    print(
        "told",
        json.dumps(
            {"log": trainer.state.log_history, "predicted": predicted, "run": runyard.run.id}
        ),
        flush=True,
    )


main()
