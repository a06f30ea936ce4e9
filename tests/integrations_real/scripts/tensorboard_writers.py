"""Writes with real writers of event files, one after the other, each beside a run of its own steps: KIND ...

`live` writes with tensorboardX without flushing, says so, and waits to be killed.
"""

import json
import sys
import time

import numpy as np

import runyard

STEPS = 50


class Torch:
    is_new_style = False

    def __init__(self, folder):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(folder)

    def scalar(self, tag, value, step):
        self.writer.add_scalar(tag, value, step, new_style=self.is_new_style)

    def histogram(self, tag, values, step):
        self.writer.add_histogram(tag, values, step)

    def image(self, tag, pixels, step):
        self.writer.add_image(tag, pixels, step, dataformats="HWC")

    def end(self):
        self.writer.flush()


class TorchNew(Torch):
    is_new_style = True


class TensorboardX(Torch):
    def __init__(self, folder):
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(folder)

    def scalar(self, tag, value, step):
        self.writer.add_scalar(tag, value, step)

    def end(self):
        self.writer.close()


class TensorFlow:
    def __init__(self, folder):
        import tensorflow as tf

        self.tf, self.writer = tf, tf.summary.create_file_writer(folder)

    def scalar(self, tag, value, step):
        with self.writer.as_default():
            self.tf.summary.scalar(tag, value, step=step)

    def histogram(self, tag, values, step):
        with self.writer.as_default():
            self.tf.summary.histogram(tag, values, step=step)

    def image(self, tag, pixels, step):
        with self.writer.as_default():
            self.tf.summary.image(tag, pixels[None], step=step)

    def end(self):
        """Does nothing: runyard asks the writer for what it holds back."""


class TensorFlow1:
    def __init__(self, folder):
        import tensorflow as tf

        self.v1 = tf.compat.v1
        with tf.Graph().as_default():
            self.writer = self.v1.summary.FileWriter(folder)

    def scalar(self, tag, value, step):
        summary = self.v1.Summary(value=[self.v1.Summary.Value(tag=tag, simple_value=value)])
        self.writer.add_summary(summary, step)

    histogram = image = None

    def end(self):
        self.writer.flush()


WRITERS = {
    "torch": Torch,
    "torch-new": TorchNew,
    "tensorboardX": TensorboardX,
    "tensorflow": TensorFlow,
    "tensorflow1": TensorFlow1,
}


def write(kind):
    run = runyard.init(id=f"tb-{kind}", sync_tensorboard=True)
    writer = WRITERS[kind](f"logs-{kind}")
    begin = time.time()
    for step in range(STEPS):
        writer.scalar("train/loss", 1 / (step + 1), step * 10)
        writer.scalar("acc", step / STEPS, step * 10)
        if step % 10 == 0:
            run.log({"own": step})
    for value, step in ((float("nan"), 7), (float("inf"), 8)):
        writer.scalar("odd", value, step)
    for value, step in ((1.5, 100), (2.5, 3)):
        writer.scalar("back", value, step)
    values = np.random.default_rng(2).normal(size=1000)
    if writer.histogram is not None:
        writer.histogram("weights", values, 20)
        writer.image("picture", np.arange(4 * 6 * 3, dtype="uint8").reshape(4, 6, 3), 30)
    writer.end()
    told = {
        "begin": begin,
        "end": time.time(),
        "step": run.step,
        "min": values.min(),
        "max": values.max(),
    }
    run.finish()
    return told


def live():
    run = runyard.init(id="tb-live", sync_tensorboard=True)
    writer = TensorboardX("logs-live")
    for step in range(10):
        writer.scalar("loss", float(step), step)
    print("written", run.id, flush=True)
    sys.stdin.readline()


def main() -> None:
    kinds = sys.argv[1:]
    if kinds == ["live"]:
        live()
    else:
        print("told", json.dumps({kind: write(kind) for kind in kinds}), flush=True)


main()
